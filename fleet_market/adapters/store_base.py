"""What both databases share: the questions they are asked, and the form in which a group of records is written."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from fleet_market.errors import LedgerMismatchError, StoreError
from fleet_market.ids import AccountId
from fleet_market.ledger import (
    START,
    Anchor,
    Balance,
    Cut,
    Entry,
    Event,
    Head,
    OutboxRow,
    Snapshot,
    StoreRecord,
)

log = logging.getLogger(__name__)
Row = tuple[Any, ...]

_EVENT = "SELECT seq, now_ns, source, message_id, sid, body, lookups, reply_topic, reply_payload, effects, hash FROM event"
_JOURNAL = "SELECT seq, timestamp_ns, id, kind, debit, credit, amount_uc, pending, reference, expires_ns, hash FROM journal"
_ACCOUNT = "SELECT id, debits_posted, credits_posted, debits_pending, credits_pending FROM account"
EVENTS, EVENTS_AFTER = f"{_EVENT} ORDER BY seq", f"{_EVENT} WHERE seq > ? ORDER BY seq"
JOURNAL, JOURNAL_AFTER = f"{_JOURNAL} ORDER BY seq", f"{_JOURNAL} WHERE seq > ? ORDER BY seq"
CARRIED = f"{_JOURNAL} WHERE seq <= ? ORDER BY seq"
BALANCES = f"{_ACCOUNT} ORDER BY id"
OPEN_BALANCES = (
    f"{_ACCOUNT} WHERE NOT (substr(id, 1, 7) = 'escrow:' AND debits_posted = credits_posted"
    " AND debits_pending = 0 AND credits_pending = 0)"
)
EVENT, EVENT_AT = f"{_EVENT} WHERE source = ? AND message_id = ?", f"{_EVENT} WHERE seq = ?"
OUTBOX = "SELECT id, topic, payload, digest FROM outbox ORDER BY position"
HEADS = "SELECT day, seq, hash, key_id, signature FROM head ORDER BY day"
SNAPSHOTS = "SELECT seq, content FROM snapshot ORDER BY seq DESC"
ARCHIVES = (
    "SELECT event_seq, event_hash, journal_seq, journal_hash, journal_ns, file, sha256 FROM archive ORDER BY event_seq"
)
ANCHOR = (
    "SELECT event_seq, event_hash, journal_seq, journal_hash, journal_ns FROM archive"
    " WHERE event_seq = (SELECT max(event_seq) FROM archive)"
)
OLD_SNAPSHOTS = (
    "DELETE FROM snapshot WHERE seq NOT IN (SELECT seq FROM snapshot ORDER BY seq DESC LIMIT 2)"
    " AND seq <> (SELECT coalesce(max(event_seq), 0) + 1 FROM archive)"
)
"""Two are kept: the older one serves if the newer one is damaged; and the one with which a shortened log begins."""
OLD_EVENTS = "DELETE FROM event WHERE seq <= ?"
OLD_JOURNAL = (
    "DELETE FROM journal WHERE seq <= ? AND NOT (kind = 'hold' AND NOT EXISTS"
    " (SELECT 1 FROM journal ended WHERE ended.pending = journal.id AND ended.seq <= ?))"
)
"""Holds that were open stay: those who end them refer to them."""
TABLES = {
    "archive": ARCHIVES, "event": EVENTS, "account": BALANCES, "journal": JOURNAL, "outbox": OUTBOX, "head": HEADS,
    "snapshot": SNAPSHOTS,
}  # fmt: skip
"""Every table with the question for all its rows, in an order in which they can be filled."""
MOVE = """
WITH moved AS (
    SELECT j.debit, j.credit,
           CASE WHEN j.kind IN ('post', 'capture') THEN j.amount_uc ELSE 0 END AS posted,
           CASE j.kind WHEN 'post' THEN 0 WHEN 'hold' THEN j.amount_uc ELSE -h.amount_uc END AS held
    FROM journal j LEFT JOIN journal h ON h.id = j.pending
    WHERE j.seq BETWEEN {first} AND {last}),
side AS (
    SELECT debit AS of_account, posted AS dp, 0 AS cp, held AS dh, 0 AS ch FROM moved
    UNION ALL
    SELECT credit, 0, posted, 0, held FROM moved),
delta AS (
    SELECT of_account, sum(dp) AS dp, sum(cp) AS cp, sum(dh) AS dh, sum(ch) AS ch FROM side GROUP BY of_account)
UPDATE account SET
    debits_posted = debits_posted + dp, credits_posted = credits_posted + cp,
    debits_pending = debits_pending + dh, credits_pending = credits_pending + ch
FROM delta WHERE account.id = of_account
RETURNING id, debits_posted, credits_posted, debits_pending, credits_pending
"""
"""Adds the journal's newest rows to the balances: the database derives them itself, from what it has stored."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start finds in the database."""

    events: tuple[Event, ...]
    outbox: tuple[OutboxRow, ...]
    journal: tuple[Entry, ...]
    balances: dict[AccountId, Balance]
    heads: tuple[Head, ...]


class Reads:
    """The questions that every reader asks; a store answers `_rows`."""

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Row]:
        """Yield the rows that `query`, with ``?`` for each parameter, finds; raises `StoreError` if it cannot be read."""
        raise NotImplementedError

    def rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of one of `TABLES` as they are stored."""
        return self._rows(TABLES[table])

    def faults(self) -> list[str]:
        """Return what the database engine itself finds wrong."""
        raise NotImplementedError

    def events(self, after: int = 0) -> Generator[Event]:
        """Yield the inputs in their order, those behind number `after`.

        Raises
        ------
        StoreError
            Here as below: if the database cannot be read, or a row is damaged; names the row.
        """
        for row in self._rows(EVENTS_AFTER, (after,)):
            try:
                yield Event.of(row)
            except ValueError as error:
                raise StoreError(f"event {row[0]} is damaged: {error}") from None

    def find_event(self, source: str, message_id: str) -> Event | None:
        """Return the input that `source` sent under `message_id`, None if there is none.

        A store answers it beside its writer, without waiting for a commit.
        """
        found = next(iter(list(self._rows(EVENT, (source, message_id)))), None)
        return None if found is None else Event.of(found)

    def event_at(self, seq: int) -> Event | None:
        """Return the input with this number, None if there is none."""
        found = next(iter(list(self._rows(EVENT_AT, (seq,)))), None)
        return None if found is None else Event.of(found)

    def archives(self) -> tuple[tuple[Anchor, str, str], ...]:
        """Return where each archive of the beginning ends, its name and its SHA-256, oldest first."""
        return tuple((Anchor(*row[:5]), row[5], row[6]) for row in self._rows(ARCHIVES))

    def anchor(self) -> Anchor:
        """Return what the first rows that are kept here follow."""
        return next((Anchor(*row) for row in list(self._rows(ANCHOR))), START)

    def opening(self) -> Snapshot | None:
        """Return the snapshot with which the log begins, None if it begins with the market, or it is damaged."""
        first = self.anchor().event_seq + 1
        return next((s for s in self.snapshots() if s.event.seq == first), None) if first > 1 else None

    def carried(self) -> tuple[Entry, ...]:
        """Return the archived rows of the journal that are kept all the same: holds that were open."""
        return tuple(self._entries(CARRIED, self.anchor().journal_seq))

    def journal(self, after: int = 0) -> Generator[Entry]:
        """Yield the rows of the journal, oldest first, those behind number `after` that are not archived."""
        return self._entries(JOURNAL_AFTER, max(after, self.anchor().journal_seq))

    def _entries(self, query: str, seq: int) -> Generator[Entry]:
        for row in self._rows(query, (seq,)):
            try:
                yield Entry.of(row)
            except ValueError as error:
                raise StoreError(f"journal row {row[0]} is damaged: {error}") from None

    def balances(self) -> dict[AccountId, Balance]:
        """Return what every account holds."""
        return self._accounts(BALANCES)

    def open_balances(self) -> dict[AccountId, Balance]:
        """Return what every account holds but for the escrow of orders that are over."""
        return self._accounts(OPEN_BALANCES)

    def _accounts(self, query: str) -> dict[AccountId, Balance]:
        try:
            return {AccountId(row[0]): Balance(*row[1:]) for row in self._rows(query)}
        except ValueError as error:
            raise StoreError(f"an account is damaged: {error}") from None

    def outbox(self) -> tuple[OutboxRow, ...]:
        """Return the messages that their receivers have not confirmed."""
        rows = []
        for id_, topic, payload, digest in self._rows(OUTBOX):
            rows.append(row := OutboxRow(id_, topic, payload))
            if row.digest != digest:
                raise StoreError(f"message {id_!r} of the outbox is damaged: its SHA-256 is another one")
        return tuple(rows)

    def heads(self) -> tuple[Head, ...]:
        """Return the signed head of each day."""
        return tuple(Head(*row) for row in self._rows(HEADS))

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the snapshots that can be read, newest first."""
        anchor = self.anchor()
        for seq, packed in list(self._rows(SNAPSHOTS)):
            try:
                before, event, content = self.event_at(seq - 1), self.event_at(seq), zlib.decompress(packed)
            except (zlib.error, ValueError) as error:
                log.warning("the snapshot at event %d is damaged: %s", seq, error)
                continue
            if event is not None:
                yield Snapshot(event, anchor.event_hash if before is None else before.hash, content)

    def recover(self) -> Recovered:
        """Return everything at once."""
        return Recovered(tuple(self.events()), self.outbox(), tuple(self.journal()), self.balances(), self.heads())


@dataclass(slots=True)
class Group:
    """Records that are committed together, as rows for each table."""

    events: list[Row] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    journal: list[Row] = field(default_factory=list)
    expected: dict[str, Balance] = field(default_factory=dict)
    """What the touched accounts must hold after all of it."""
    outbox: dict[str, Row] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    """Rows of the outbox to be deleted, before those of this group are added."""
    heads: list[Row] = field(default_factory=list)
    snapshots: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, records: Iterable[object]) -> Group:
        """Return the rows of `records` (`StoreRecord`)."""
        group = cls()
        for record in records:
            if isinstance(record, StoreRecord):
                group._add(record)
        return group

    def _add(self, record: StoreRecord) -> None:
        self.events.append(tuple(record.event.fields()))
        self.accounts += map(str, record.accounts)
        self.journal += [tuple(entry.fields()) for entry in record.entries]
        self.expected.update((str(account_id), balance) for account_id, balance in record.balances)
        for row in record.outbox:
            self.outbox[row.id] = (row.id, row.topic, row.payload, row.digest)
        self.done += [i for i in record.done if self.outbox.pop(i, None) is None]
        self.heads += [tuple(head.fields()) for head in record.heads]
        if record.snapshot:
            self.snapshots.append((record.event.seq, zlib.compress(record.snapshot, level=1)))

    def check(self, found: Mapping[str, Balance]) -> None:
        """Compare what the database arrived at with what the ledger decided.

        Raises
        ------
        LedgerMismatchError
            If they differ.
        """
        for account_id, balance in self.expected.items():
            if found.get(account_id) != balance:
                says = found.get(account_id, "nothing of it")
                raise LedgerMismatchError(f"{account_id}: the ledger says {balance}, the database {says}")
        if missing := sorted(found.keys() - self.expected.keys()):
            raise LedgerMismatchError(f"{missing[0]}: the journal moves its money, the ledger gives it no balance")


def insist_on_cut(store: Reads, cut: Cut) -> None:
    """Compare what is to leave with what is there.

    Raises
    ------
    StoreError
        If the archive does not begin where the store does, or does not end in rows of its.
    """
    at, end = store.anchor(), cut.end
    if at != cut.start:
        raise StoreError(f"{cut.file} goes on behind event {cut.start.event_seq}, the store behind {at.event_seq}")
    event = store.event_at(end.event_seq)
    rows = list(store._rows(f"{_JOURNAL} WHERE seq = ?", (end.journal_seq,)))  # noqa: SLF001 - its own question
    same = end.journal_hash == (rows[0][-1] if rows and end.journal_seq > at.journal_seq else at.journal_hash)
    if event is None or event.hash != end.event_hash or not same:
        raise StoreError(f"{cut.file} is an archive of another market: it does not end in rows of this store")


def migrations(dialect: str) -> list[Traversable]:
    """Return the numbered SQL scripts of ``sqlite`` or ``postgres``, first to last."""
    folder = resources.files("fleet_market.adapters").joinpath(f"sql/{dialect}")
    return sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)


def pending_migrations(name: str, version: int, scripts: Sequence[Traversable]) -> list[tuple[int, str]]:
    """Return the scripts that a database of `version` lacks, each with its number.

    Raises
    ------
    StoreError
        If the database is newer than this program.
    """
    if version > len(scripts):
        raise StoreError(f"{name}: schema {version} is newer than this program ({len(scripts)}): update fleet-market")
    return [(number, script.read_text()) for number, script in enumerate(scripts[version:], start=version + 1)]


def insist_on_present(name: str, version: int, scripts: Sequence[Traversable]) -> None:
    """Let a reader in only where a writer has brought the schema up to date; raises `StoreError` otherwise."""
    if version == 0:
        raise StoreError(f"{name}: holds no market: start one on it first")
    if pending_migrations(name, version, scripts):
        raise StoreError(f"{name}: schema {version} is older than this program: start the market on it once")
