"""Durable stores of simulated machines, and the writer that commits to them in virtual time.

`MemoryDisk` is a fast model of a database that syncs every commit: it derives the balances itself, keeps the rules that
the SQL schema keeps, and after a crash holds what was committed and nothing else. `SqliteDisk` is the real store on the
disk that loses its power (`fleet_market.testing.powerloss`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator, Iterator, Sequence

from fleet_market.adapters.sqlite_store import SqliteStore
from fleet_market.adapters.store_base import Reads
from fleet_market.errors import LedgerMismatchError, StoreError
from fleet_market.ids import AccountId
from fleet_market.ledger import (
    GENESIS,
    START,
    AccountKind,
    Anchor,
    Balance,
    Entry,
    Event,
    Head,
    OutboxRow,
    Snapshot,
    StoreRecord,
    TransferKind,
    kind_of,
)
from fleet_market.ledger.fold import move
from fleet_market.ports import LedgerStore

MAX_GROUP = 500
SLOW_SYNC, SLOW_SYNC_S = 0.02, 0.4
"""Share of syncs that take very long, and how long."""


class MemoryDisk(Reads):
    """A store whose content outlives the process that writes to it. Implements `fleet_market.ports.LedgerStore`."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._taken: dict[tuple[str, str], Event] = {}
        self._journal: list[Entry] = []
        self._holds: dict[str, int] = {}
        self._made: set[str] = set()
        self._ended: set[str] = set()
        self._balances: dict[AccountId, Balance] = {}
        self._outbox: dict[str, OutboxRow] = {}
        self._heads: list[Head] = []
        self._snapshots: list[Snapshot] = []

    def open(self) -> MemoryDisk:
        """Return the store, as a process finds it when it starts."""
        return self

    def cut_soon(self, operations: int) -> None:
        """Do nothing: a commit of this disk is one operation."""

    def cut_by(self, error: Exception) -> bool:  # noqa: ARG002 - as of the other disk
        """Return False: this disk loses no power within a commit."""
        return False

    def start_again(self) -> None:
        """Do nothing: what was committed is there."""

    def commit(self, records: Sequence[object]) -> None:
        """Store the records; one that a database would refuse raises `LedgerMismatchError`, and those before it stay."""
        for record in records:
            if isinstance(record, StoreRecord):
                self._check(record)
                self._add(record)

    def _check(self, record: StoreRecord) -> None:
        event = record.event
        if event.seq != len(self._events) + 1:
            raise LedgerMismatchError(f"event {event.seq} is there already, or has a gap before it")
        if event.message_id is not None and (event.source, event.message_id) in self._taken:
            raise LedgerMismatchError(f"{event.message_id} of {event.source} was taken before")
        for entry in record.entries:
            transfer = entry.transfer
            if transfer.id in self._made or (transfer.pending is not None and transfer.pending in self._ended):
                raise LedgerMismatchError(f"transfer {transfer.id} was made before, or its hold has ended")
        for row in record.outbox:
            if row.id in self._outbox and row.id not in record.done:
                raise LedgerMismatchError(f"message {row.id} is in the outbox already")

    def _add(self, record: StoreRecord) -> None:
        balances = self._balances | dict.fromkeys(record.accounts, Balance())
        for entry in record.entries:
            transfer = entry.transfer
            if transfer.debit not in balances or transfer.credit not in balances:
                raise LedgerMismatchError(f"transfer {transfer.id} names an account that is not there")
            if transfer.kind is TransferKind.HOLD:
                self._holds[transfer.id] = transfer.amount_uc
            move(balances, transfer, 0 if transfer.pending is None else self._holds[transfer.pending])
        for account_id, balance in record.balances:
            if balances[account_id] != balance:
                raise LedgerMismatchError(f"{account_id}: the ledger says {balance}, the database {balances[account_id]}")
            if kind_of(account_id) is not AccountKind.WORLD and balance.available_uc < 0:
                raise LedgerMismatchError(f"{account_id} is overdrawn: {balance}")
        self._balances = balances
        self._journal += record.entries
        self._made |= {entry.transfer.id for entry in record.entries}
        self._ended |= {entry.transfer.pending for entry in record.entries if entry.transfer.pending is not None}
        if record.snapshot:
            previous = self._events[-1].hash if self._events else GENESIS
            self._snapshots = [*self._snapshots[-1:], Snapshot(record.event, previous, record.snapshot)]
        self._events.append(record.event)
        if record.event.message_id is not None:
            self._taken[record.event.source, record.event.message_id] = record.event
        for message in record.done:
            self._outbox.pop(message, None)
        self._outbox.update((row.id, row) for row in record.outbox)
        self._heads += record.heads

    def faults(self) -> list[str]:
        """Return nothing: there is no engine that could be broken."""
        return []

    def events(self, after: int = 0) -> Generator[Event]:
        """Yield the inputs."""
        yield from tuple(self._events[after:])

    def find_event(self, source: str, message_id: str) -> Event | None:
        """Return an input by its id."""
        return self._taken.get((source, message_id))

    def anchor(self) -> Anchor:
        """Return that nothing has been archived."""
        return START

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the kept snapshots, newest first."""
        return reversed(self._snapshots)

    def journal(self, after: int = 0) -> Generator[Entry]:
        """Yield the rows of the journal."""
        yield from tuple(self._journal[after:])

    def balances(self) -> dict[AccountId, Balance]:
        """Return what every account holds."""
        return dict(sorted(self._balances.items()))

    def open_balances(self) -> dict[AccountId, Balance]:
        """Return what every account holds; those of orders that are over may be among them."""
        return self.balances()

    def outbox(self) -> tuple[OutboxRow, ...]:
        """Return what waits to be confirmed."""
        return tuple(self._outbox.values())

    def heads(self) -> tuple[Head, ...]:
        """Return the signed heads."""
        return tuple(self._heads)


class SqliteDisk:
    """A real SQLite database on a disk whose power can fail; needs apsw."""

    def __init__(self, seed: int, *, synchronous: str = "FULL") -> None:
        from fleet_market.testing.powerloss import Disk  # noqa: PLC0415 - apsw is for developers

        self._disk, self._synchronous = Disk(seed), synchronous
        self._store: SqliteStore | None = None

    def open(self) -> SqliteStore:
        """Return the store, opened anew; raises `StoreError` if the disk holds none that is sound."""
        from fleet_market.testing.powerloss import open_on  # noqa: PLC0415 - as above

        if self._store is not None:
            self._store.close()
        self._store = open_on(self._disk, synchronous=self._synchronous)
        return self._store

    def cut_soon(self, operations: int) -> None:
        """Let the power fail within the next writes and syncs, or with the next crash."""
        self._disk.cut_after(operations)

    def cut_by(self, error: Exception) -> bool:
        """Return whether an exception of the store means that the power is gone."""
        return not self._disk.has_power and error is not None

    def start_again(self) -> None:
        """Take the power away, and give it back; what was not synced is there or not, by chance."""
        self._disk.cut()
        self._disk.start_again()


class LoopWriter:
    """Commits in the event loop, each group after a sync that takes virtual time. Implements `engine.Writer`.

    Parameters
    ----------
    store : LedgerStore
    rng : random.Random
        Of the time that a sync takes.
    sync_s : float
        Usual time of a sync.
    before, after : callable
        Told of each group right before and right after it is committed, `after` before anyone who waits. If it returns
        True, the process has died there.
    failed : callable
        Told of an exception of the store; if it returns True, the process has died of it.
    """

    def __init__(
        self,
        store: LedgerStore,
        rng: random.Random,
        sync_s: float,
        *,
        before: Callable[[Sequence[StoreRecord]], bool],
        after: Callable[[Sequence[StoreRecord]], bool],
        failed: Callable[[Exception], bool],
    ) -> None:
        self._store, self._rng, self._sync_s = store, rng, sync_s
        self._before, self._after, self._failed = before, after, failed
        self._jobs: list[tuple[StoreRecord, asyncio.Future[None]]] = []
        self._loop = asyncio.get_running_loop()
        self._busy = self._dead = False
        self._failure: Exception | None = None
        self.undurable: list[StoreRecord] = []
        """Records that were submitted and are not committed."""

    def submit(self, record: StoreRecord) -> asyncio.Future[None]:
        """Queue `record`; the future is done when it is committed."""
        if self._failure is not None:
            raise StoreError("an earlier commit has failed: restart to recover") from self._failure
        future: asyncio.Future[None] = self._loop.create_future()
        self._jobs.append((record, future))
        self.undurable.append(record)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._begin)
        return future

    def die(self) -> None:
        """Commit nothing more, and tell nobody."""
        self._dead = True

    def _begin(self) -> None:
        took_s = SLOW_SYNC_S if self._rng.random() < SLOW_SYNC else self._sync_s * self._rng.uniform(0.5, 1.5)
        self._loop.call_later(took_s, self._commit, self._jobs[:MAX_GROUP])
        del self._jobs[:MAX_GROUP]

    def _commit(self, jobs: list[tuple[StoreRecord, asyncio.Future[None]]]) -> None:
        records = [record for record, _ in jobs]
        if self._dead or self._before(records):
            return
        try:
            self._store.commit(records)
        except Exception as error:  # noqa: BLE001 - whatever it was, every waiter must hear of it
            if self._failed(error):
                return
            self._failure = error
        else:
            del self.undurable[: len(records)]
            if self._after(records):
                return
        for _, future in jobs:
            if future.done():
                continue
            if self._failure is None:
                future.set_result(None)
            else:
                future.set_exception(self._failure)
        self._busy = bool(self._jobs)
        if self._busy:
            self._begin()
