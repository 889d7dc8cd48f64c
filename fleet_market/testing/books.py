"""Records as the market makes them, without a market: for tests and benchmarks of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger import (
    GENESIS,
    AccountKind,
    Applied,
    Entry,
    Event,
    Ledger,
    StoreRecord,
    Transfer,
    TransferKind,
    account,
)

WORLD = account(AccountKind.WORLD, "mint")
ANN = account(AccountKind.CUSTOMER, "ann")
BOB = account(AccountKind.OWNER, "bob")


class Books:
    """A ledger and the chained events that lead to it.

    Parameters
    ----------
    accounts : sequence of AccountId
        Opened with the first record.
    """

    def __init__(self, accounts: Sequence[AccountId] = (WORLD, ANN, BOB)) -> None:
        self.ledger, self.seq, self.hash = Ledger(), 0, GENESIS
        self.applied = Applied(())
        """The ledger's answer to the newest record's transfers."""
        self._accounts = tuple(accounts)

    @classmethod
    def restored(cls, events: Sequence[Event], accounts: Sequence[AccountId], journal: Sequence[Entry]) -> Books:
        """Return the books that a store holds."""
        books = cls(tuple(accounts))
        books.ledger = Ledger.restored(accounts, journal)
        books.seq, books.hash = len(events), events[-1].hash if events else GENESIS
        return books

    def gift(self, amount_uc: int = 1, **more: Any) -> StoreRecord:
        """Return the record of one transfer from the world to Ann; `more` are fields of the record to replace."""
        name = TransferId(f"t{self.seq + 1}")
        return self.record([Transfer(name, TransferKind.POST, WORLD, ANN, amount_uc, reference="gift")], **more)

    def record(self, transfers: Sequence[Transfer], reply: tuple[str, bytes] | None = None, **more: Any) -> StoreRecord:
        """Return the record of an input that leads to these linked transfers, made or refused."""
        opened = () if self.seq else tuple(a for a in self._accounts if self.ledger.open_account(a))
        self.seq += 1
        applied = self.applied = self.ledger.apply(transfers, self.seq)
        event = Event(self.seq, self.seq, "ann", f"m{self.seq}", 0, b"{}", reply=reply)
        self.hash = event.after(self.hash)
        fields = {"accounts": opened, "entries": applied.entries, "balances": applied.balances} | more
        return StoreRecord(replace(event, hash=self.hash), **fields)
