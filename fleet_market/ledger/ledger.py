"""The ledger: decides which transfers are made, and holds the balances that follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger.accounts import GIVES_NOTHING, RECEIVES_NOTHING, AccountKind, Balance, kind_of
from fleet_market.ledger.anchor import GENESIS
from fleet_market.ledger.audit import Metrics, audit, balance_faults
from fleet_market.ledger.fold import fold, move
from fleet_market.ledger.journal import Entry, chain
from fleet_market.ledger.transfers import Transfer, TransferKind, TransferResult
from fleet_market.units import MAX_CREDITS_UC

MAX_SUM_UC = 2**63 - 1
"""Largest sum that an account may show: what the databases' integers hold."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The answer to a group of linked transfers: all of them were made, or none."""

    results: tuple[TransferResult, ...]
    entries: tuple[Entry, ...] = ()
    balances: tuple[tuple[AccountId, Balance], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the money is where the group wants it: made now, or made before."""
        return all(r in (TransferResult.CREATED, TransferResult.EXISTS) for r in self.results)


@dataclass(frozen=True, slots=True)
class _Made:
    """A transfer just made, with what its accounts held before."""

    entry: Entry
    previous: Entry | None
    debit: Balance
    credit: Balance


_ENDED_BY = {
    TransferKind.CAPTURE: TransferResult.PENDING_ALREADY_POSTED,
    TransferKind.VOID: TransferResult.PENDING_ALREADY_VOIDED,
    TransferKind.EXPIRE: TransferResult.PENDING_EXPIRED,
}


@dataclass(frozen=True, slots=True)
class LedgerImage:
    """All that a ledger knows, as a snapshot keeps it."""

    balances: dict[AccountId, Balance]
    transfers: dict[TransferId, Transfer]
    resolved: dict[TransferId, TransferKind]
    rows: int
    last: Entry | None
    closed_uc: int


class Ledger:
    """Accounts, holds and the journal, in memory.

    Holds for every account but the world, after every group of transfers: what is spent or on hold never exceeds what
    was received. Sums of debits and credits over all accounts are equal, always.
    """

    def __init__(self) -> None:
        self._balances: dict[AccountId, Balance] = {}
        self._transfers: dict[TransferId, Transfer] = {}
        self._resolved: dict[TransferId, TransferKind] = {}
        self._journal: list[Entry] = []
        self._forgotten_rows = 0
        self._last: Entry | None = None
        self._closed_uc = 0
        """What has gone through the accounts that were closed, in debits and in credits."""

    @classmethod
    def restored(cls, accounts: Iterable[AccountId], journal: Iterable[Entry]) -> Self:
        """Return the ledger that made `journal`; it believes the rows, `audit` says whether it should.

        Raises
        ------
        ValueError
            If a row names an account that is not there.
        """
        ledger = cls()
        for account_id in accounts:
            ledger.open_account(account_id)
        for entry in fold(ledger._balances, journal):
            t = entry.transfer
            ledger._transfers[t.id] = t
            if t.resolves and t.pending is not None:
                ledger._resolved[t.pending] = t.kind
            ledger._journal.append(entry)
            ledger._last = entry
        return ledger

    @classmethod
    def of_image(cls, image: LedgerImage) -> Self:
        """Return the ledger of which `image` was made, with an empty journal that goes on where that one stood."""
        ledger = cls()
        ledger._balances, ledger._transfers, ledger._resolved = image.balances, image.transfers, image.resolved
        ledger._forgotten_rows, ledger._last, ledger._closed_uc = image.rows, image.last, image.closed_uc
        return ledger

    def image(self) -> LedgerImage:
        """Return all that the ledger knows but the rows of its journal."""
        return LedgerImage(self._balances, self._transfers, self._resolved, self.rows, self._last, self._closed_uc)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In a snapshot it is its image."""
        image = handler.generate_schema(LedgerImage)
        return core_schema.no_info_after_validator_function(
            cls.of_image,
            image,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.image, return_schema=image),
        )

    @property
    def journal(self) -> Sequence[Entry]:
        """The rows, oldest first; those that `compact` has dropped are in the store only."""
        return self._journal

    @property
    def rows(self) -> int:
        """How many rows were ever made."""
        return self._forgotten_rows + len(self._journal)

    @property
    def last(self) -> Entry | None:
        """The newest row."""
        return self._last

    def compact(self) -> None:
        """Forget what nothing can refer to any more: the journal, transfers that are no open hold, empty escrow accounts.

        Afterwards the ledger is as large as the business that is under way. Ids of transfers and escrow accounts must never
        come again: the store would refuse them.
        """
        self._forgotten_rows, self._journal = self.rows, []
        self._transfers = {
            i: t for i, t in self._transfers.items() if t.kind is TransferKind.HOLD and i not in self._resolved
        }
        self._resolved = {}
        for account_id, b in list(self._balances.items()):
            if kind_of(account_id) is AccountKind.ESCROW and b.is_empty:
                self._closed_uc += b.debits_posted
                del self._balances[account_id]

    def drop_account(self, account_id: AccountId) -> None:
        """Take back the opening of an account that nothing has touched; raises `ValueError` if something has."""
        if self._balances[account_id] != Balance():
            raise ValueError(f"{account_id} was used")
        del self._balances[account_id]

    def open_account(self, account_id: AccountId) -> bool:
        """Open an account; return False if it is there already.

        Raises
        ------
        ValueError
            If the id names no known kind of account.
        """
        kind_of(account_id)
        if account_id in self._balances:
            return False
        self._balances[account_id] = Balance()
        return True

    def has(self, account_id: AccountId) -> bool:
        """Return whether there is such an account."""
        return account_id in self._balances

    def balance(self, account_id: AccountId) -> Balance:
        """Return the balance of an account; raises `KeyError` if there is no such account."""
        return self._balances[account_id]

    def balances(self) -> dict[AccountId, Balance]:
        """Return all balances by account."""
        return dict(self._balances)

    def totals(self) -> tuple[int, int]:
        """Return the sums of posted debits and posted credits over all accounts, micro-credits."""
        metrics = self.metrics()
        return metrics.sum_debits_uc, metrics.sum_credits_uc

    def metrics(self) -> Metrics:
        """Return what the market publishes about its books."""
        now = Metrics.of(self._balances)
        return replace(
            now,
            sum_debits_uc=now.sum_debits_uc + self._closed_uc,
            sum_credits_uc=now.sum_credits_uc + self._closed_uc,
        )

    def escrow_left_uc(self) -> int:
        """Return what lies in escrow or is on hold towards it: zero when every order is over."""
        return self.metrics().escrow_left_uc

    def apply(self, transfers: Sequence[Transfer], now_ns: int) -> Applied:
        """Make all `transfers`, in their order, or none of them; costs what they touch, not what the ledger holds."""
        results: list[TransferResult] = []
        made: list[_Made] = []
        for transfer in transfers:
            result = self._judge(transfer, now_ns)
            results.append(result)
            if result is TransferResult.CREATED:
                made.append(self._make(transfer, now_ns))
            elif result is not TransferResult.EXISTS:
                for step in reversed(made):
                    self._undo(step)
                failed = [TransferResult.LINKED_FAILED] * len(transfers)
                failed[len(results) - 1] = result
                return Applied(tuple(failed))
        entries = tuple(step.entry for step in made)
        touched = sorted({a for e in entries for a in (e.transfer.debit, e.transfer.credit)})
        return Applied(tuple(results), entries, tuple((a, self._balances[a]) for a in touched))

    def audit(self) -> list[str]:
        """Return every violated invariant, one sentence each; after `compact` the balances alone are looked at."""
        return audit(self._balances, self._journal) if not self._forgotten_rows else balance_faults(self._balances)

    def _judge(self, t: Transfer, now_ns: int) -> TransferResult:
        if (known := self._transfers.get(t.id)) is not None:
            same = known == self._completed(t)
            return TransferResult.EXISTS if same else TransferResult.EXISTS_WITH_DIFFERENT_FIELDS
        if (result := _judge_alone(t)) is not TransferResult.CREATED:
            return result
        if t.debit not in self._balances or t.credit not in self._balances:
            return TransferResult.ACCOUNT_NOT_FOUND
        if kind_of(t.debit) in GIVES_NOTHING:
            return TransferResult.DEBIT_NOT_ALLOWED
        if kind_of(t.credit) in RECEIVES_NOTHING:
            return TransferResult.CREDIT_NOT_ALLOWED
        return self._judge_resolution(t, now_ns) if t.resolves else self._judge_sums(t)

    def _judge_sums(self, t: Transfer) -> TransferResult:
        debit, credit = self._balances[t.debit], self._balances[t.credit]
        if kind_of(t.debit) is not AccountKind.WORLD and t.amount_uc > debit.available_uc:
            return TransferResult.EXCEEDS_BALANCE
        largest = max(debit.debits_posted + debit.debits_pending, credit.credits_posted + credit.credits_pending)
        return TransferResult.OVERFLOWS if largest > MAX_SUM_UC - t.amount_uc else TransferResult.CREATED

    def _judge_resolution(self, t: Transfer, now_ns: int) -> TransferResult:
        hold = self._transfers.get(t.pending) if t.pending is not None else None
        if hold is None or hold.kind is not TransferKind.HOLD:
            return TransferResult.PENDING_NOT_FOUND
        if (hold.debit, hold.credit) != (t.debit, t.credit):
            return TransferResult.PENDING_HAS_DIFFERENT_ACCOUNTS
        if (ended := self._resolved.get(hold.id)) is not None:
            return _ENDED_BY[ended]
        over = hold.expires_ns is not None and now_ns >= hold.expires_ns
        if over and t.kind is TransferKind.CAPTURE:
            return TransferResult.PENDING_EXPIRED
        if not over and t.kind is TransferKind.EXPIRE:
            return TransferResult.PENDING_NOT_EXPIRED
        if t.kind is TransferKind.CAPTURE and t.amount_uc > hold.amount_uc:
            return TransferResult.EXCEEDS_PENDING
        return TransferResult.CREATED

    def _completed(self, t: Transfer) -> Transfer:
        """Return `t` as it is kept: a release carries the amount that it releases."""
        if t.kind in (TransferKind.VOID, TransferKind.EXPIRE) and t.pending in self._transfers:
            return replace(t, amount_uc=self._transfers[t.pending].amount_uc)
        return t

    def _make(self, transfer: Transfer, now_ns: int) -> _Made:
        t = self._completed(transfer)
        hold = self._transfers[t.pending] if t.resolves and t.pending is not None else None
        last = self._last
        stamp = max(now_ns, last.timestamp_ns + 1) if last is not None else now_ns
        entry = chain(last.hash if last is not None else GENESIS, self.rows + 1, stamp, t)
        made = _Made(entry, last, self._balances[t.debit], self._balances[t.credit])
        move(self._balances, t, hold.amount_uc if hold is not None else 0)
        if hold is not None:
            self._resolved[hold.id] = t.kind
        self._transfers[t.id] = t
        self._journal.append(entry)
        self._last = entry
        return made

    def _undo(self, made: _Made) -> None:
        t, self._last = self._journal.pop().transfer, made.previous
        del self._transfers[t.id]
        if t.resolves and t.pending is not None:
            del self._resolved[t.pending]
        self._balances[t.debit], self._balances[t.credit] = made.debit, made.credit


def _judge_alone(t: Transfer) -> TransferResult:
    """Return what is wrong with the transfer whatever the ledger holds."""
    if (t.pending is not None and not t.resolves) or (t.expires_ns is not None and t.kind is not TransferKind.HOLD):
        return TransferResult.FIELDS_DO_NOT_FIT
    if t.amount_uc < 0:
        return TransferResult.AMOUNT_NEGATIVE
    if t.amount_uc == 0 and t.kind not in (TransferKind.VOID, TransferKind.EXPIRE):
        return TransferResult.AMOUNT_ZERO
    if t.amount_uc > MAX_CREDITS_UC:
        return TransferResult.AMOUNT_TOO_LARGE
    return TransferResult.ACCOUNTS_SAME if t.debit == t.credit else TransferResult.CREATED
