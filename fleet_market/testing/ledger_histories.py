"""Random histories of the ledger and a store against plain dictionaries, with crashes in between; for hypothesis.

``histories(ground)`` returns a state machine whose store stands on `ground`: `LosingDisk` for SQLite, `Server` for
PostgreSQL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import hypothesis.strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from fleet_market.adapters.stores import open_store
from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger import AccountKind, Ledger, StoreRecord, Transfer, TransferKind, account, first_broken_event
from fleet_market.testing.books import ANN, BOB, WORLD, Books
from fleet_market.testing.powerloss import Disk, PowerCutError, open_on

ESCROW, SINK = account(AccountKind.ESCROW, "o1"), account(AccountKind.SINK, "burned")
ACCOUNTS = (WORLD, ANN, BOB, ESCROW, SINK)
K = TransferKind


class Ground(Protocol):
    """What a store stands on, and how it crashes."""

    def open(self) -> Any:
        """Open the store."""

    def crash(self, store: Any, record: StoreRecord | None, operations: int) -> None:
        """Crash while `record` is being committed, or with nothing under way."""


class LosingDisk:
    """SQLite on a disk that loses its power."""

    def __init__(self, seed: int) -> None:
        self._disk = Disk(seed)

    def open(self) -> Any:
        """Open the store."""
        return open_on(self._disk)

    def crash(self, store: Any, record: StoreRecord | None, operations: int) -> None:
        """Cut the power within this many writes and syncs of the commit, or right after it."""
        if record is not None:
            self._disk.cut_after(operations)
            with contextlib.suppress(PowerCutError):
                store.commit([record])
        self._disk.cut()
        store.close()
        self._disk.start_again()


class Server:
    """PostgreSQL; the session ends without a word."""

    def __init__(self, address: str, empty: Callable[[], None]) -> None:
        empty()
        self._address = address

    def open(self) -> Any:
        """Open the store."""
        return open_store(self._address)

    def crash(self, store: Any, record: StoreRecord | None, operations: int) -> None:
        """End the session before the commit, or after it."""
        if record is not None and operations % 2:
            store.commit([record])
        store.close()


def histories(ground: Callable[[int], Ground]) -> type[RuleBasedStateMachine]:
    """Return the state machine over stores on `ground` (made anew for each history, with a seed)."""

    class Histories(_Histories):
        make_ground = staticmethod(ground)

    return Histories


class _Histories(RuleBasedStateMachine):
    make_ground: Callable[[int], Ground]
    holds = Bundle("holds")

    @initialize(seed=st.integers(0, 10**6))
    def start(self, seed: int) -> None:
        """Begin with an empty store."""
        self.ground = self.make_ground(seed)
        self.store, self.books = self.ground.open(), Books(ACCOUNTS)
        self.money = dict.fromkeys(ACCOUNTS, 0)
        self.open_holds: dict[str, tuple[AccountId, AccountId, int, int | None]] = {}
        self.made: list[Transfer] = []
        self.count = 0

    def teardown(self) -> None:
        """Close the store."""
        if hasattr(self, "store"):
            self.store.close()

    # --- the model ---

    def _free(self, account_id: AccountId) -> int:
        return self.money[account_id] - sum(h[2] for h in self.open_holds.values() if h[0] == account_id)

    def _allowed(self, t: Transfer, now_ns: int) -> bool:
        if t.kind in (K.POST, K.HOLD):
            may = t.debit not in (t.credit, SINK) and t.credit != WORLD
            return may and t.amount_uc > 0 and (t.debit == WORLD or t.amount_uc <= self._free(t.debit))
        hold = self.open_holds.get(str(t.pending))
        if hold is None or hold[:2] != (t.debit, t.credit):
            return False
        over = hold[3] is not None and now_ns >= hold[3]
        if t.kind is K.CAPTURE:
            return not over and 0 < t.amount_uc <= hold[2]
        return t.kind is K.VOID or over

    def _follow(self, t: Transfer) -> None:
        if t.kind is K.HOLD:
            self.open_holds[t.id] = (t.debit, t.credit, t.amount_uc, t.expires_ns)
        else:
            self.open_holds.pop(str(t.pending), None)
        if t.kind in (K.POST, K.CAPTURE):
            self.money[t.debit] -= t.amount_uc
            self.money[t.credit] += t.amount_uc
        self.made.append(t)

    def _name(self) -> TransferId:
        self.count += 1
        return TransferId(f"t{self.count}")

    def _give(self, *wishes: Transfer, crash: int | None = None) -> bool:
        """Let ledger and store make `wishes`, or crash over it; return whether the ledger made them."""
        before = (dict(self.money), dict(self.open_holds), list(self.made))
        now_ns, allowed = self.books.seq + 1, True
        for wish in wishes:
            allowed = allowed and self._allowed(wish, now_ns)
            if allowed:
                self._follow(wish)
        record = self.books.record(wishes)
        if not allowed:
            self.money, self.open_holds, self.made = before
        assert bool(record.entries) == allowed == self.books.applied.ok, (wishes, self.books.applied)  # noqa: S101
        if crash is None:
            self.store.commit([record])
            return allowed
        self.ground.crash(self.store, record, crash)
        there = self._reopen()
        if there < record.event.seq:
            self.money, self.open_holds, self.made = before
            return False
        return allowed

    def _reopen(self) -> int:
        self.store = self.ground.open()
        found = self.store.recover()
        assert first_broken_event(found.events) is None  # noqa: S101
        assert not self.store.faults()  # noqa: S101
        if found.events:
            self.books = Books.restored(found.events, list(found.balances), found.journal)
            assert self.books.ledger.balances() == found.balances  # noqa: S101
        else:
            self.books = Books(ACCOUNTS)
        return len(found.events)

    # --- the rules ---

    @rule(debit=st.sampled_from(ACCOUNTS), credit=st.sampled_from(ACCOUNTS), amount=st.integers(-1, 50))
    def post(self, debit: AccountId, credit: AccountId, amount: int) -> None:
        """Move money, or try to."""
        self._give(Transfer(self._name(), K.POST, debit, credit, amount))

    @rule(target=holds, debit=st.sampled_from(ACCOUNTS), credit=st.sampled_from(ACCOUNTS), amount=st.integers(0, 50),
          lasts=st.none() | st.integers(0, 12))  # fmt: skip
    def hold(self, debit: AccountId, credit: AccountId, amount: int, lasts: int | None) -> Transfer:
        """Put money on hold, for ever or for some inputs."""
        expires = None if lasts is None else self.books.seq + 1 + lasts
        wish = Transfer(self._name(), K.HOLD, debit, credit, amount, expires_ns=expires)
        self._give(wish)
        return wish

    @rule(target=holds, amount=st.integers(1, 50))
    def fund_and_hold(self, amount: int) -> Transfer:
        """Give Ann money and put part of it on hold, as one."""
        name = self._name()
        wish = Transfer(name, K.HOLD, ANN, ESCROW, amount)
        self._give(Transfer(TransferId(f"fund-{name}"), K.POST, WORLD, ANN, amount + 3), wish)
        return wish

    @rule(held=holds, amount=st.integers(0, 60), kind=st.sampled_from((K.CAPTURE, K.VOID, K.EXPIRE)))
    def end(self, held: Transfer, amount: int, kind: TransferKind) -> None:
        """End a hold, or try to."""
        self._give(self._end(held, amount, kind))

    @rule(held=holds, amount=st.integers(1, 60), more=st.integers(0, 1))
    def pay(self, held: Transfer, amount: int, more: int) -> None:
        """Capture and pass on as one: all of it or nothing."""
        passed = Transfer(self._name(), K.POST, held.credit, BOB if held.credit != BOB else ANN, amount + 100 * more)
        self._give(self._end(held, amount, K.CAPTURE), passed)

    def _end(self, held: Transfer, amount: int, kind: TransferKind) -> Transfer:
        known = self.open_holds.get(held.id)
        released = known[2] if known is not None and kind is not K.CAPTURE else amount
        return Transfer(self._name(), kind, held.debit, held.credit, released, held.id)

    @rule(which=st.integers(0, 10**6))
    def retry(self, which: int) -> None:
        """Repeat a transfer that was made: nothing may happen."""
        if self.made:
            record = self.books.record([self.made[which % len(self.made)]])
            assert self.books.applied.ok  # noqa: S101
            assert not record.entries  # noqa: S101
            self.store.commit([record])

    @rule()
    def crash_and_reopen(self) -> None:
        """Crash with nothing under way: all of it must be there."""
        before = self.books.seq
        self.ground.crash(self.store, None, 0)
        assert self._reopen() == before  # noqa: S101

    @rule(amount=st.integers(1, 50), operations=st.integers(1, 40))
    def crash_in_a_commit(self, amount: int, operations: int) -> None:
        """Crash while Ann is given money: it is there as a whole, or not at all."""
        self._give(Transfer(self._name(), K.POST, WORLD, ANN, amount), crash=operations)

    @invariant()
    def books_are_closed(self) -> None:
        """Ledger, store and dictionaries agree."""
        if not hasattr(self, "store"):
            return
        ledger: Ledger = self.books.ledger
        posted = {a: b.posted_uc for a, b in ledger.balances().items()}
        assert posted in ({}, self.money)  # noqa: S101
        assert ledger.audit() == []  # noqa: S101
        assert ledger.metrics().supply_uc == sum(self.money[a] for a in (ANN, BOB, ESCROW))  # noqa: S101
        assert self.store.balances() == ledger.balances()  # noqa: S101
        kept = [replace(e.transfer, reference="") for e in ledger.journal]
        assert len(kept) == len(self.made)  # noqa: S101
