"""The ledger: decides which transfers are made, and holds the balances that follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger.accounts import AccountKind, Balance, kind_of
from fleet_market.ledger.journal import GENESIS, Entry, chain, first_break
from fleet_market.ledger.transfers import Transfer, TransferKind, TransferResult


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


_ENDED_BY = {
    TransferKind.CAPTURE: TransferResult.PENDING_ALREADY_POSTED,
    TransferKind.VOID: TransferResult.PENDING_ALREADY_VOIDED,
    TransferKind.EXPIRE: TransferResult.PENDING_EXPIRED,
}


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

    @property
    def journal(self) -> Sequence[Entry]:
        """All rows, oldest first."""
        return self._journal

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

    def balance(self, account_id: AccountId) -> Balance:
        """Return the balance of an account; raises `KeyError` if there is no such account."""
        return self._balances[account_id]

    def balances(self) -> dict[AccountId, Balance]:
        """Return all balances by account."""
        return dict(self._balances)

    def totals(self) -> tuple[int, int]:
        """Return the sums of posted debits and posted credits over all accounts, micro-credits."""
        return (
            sum(b.debits_posted for b in self._balances.values()),
            sum(b.credits_posted for b in self._balances.values()),
        )

    def escrow_left_uc(self) -> int:
        """Return what lies in escrow or is on hold towards it: zero when every order is over."""
        return sum(
            b.credits_posted - b.debits_posted + b.credits_pending
            for a, b in self._balances.items()
            if kind_of(a) is AccountKind.ESCROW
        )

    def apply(self, transfers: Sequence[Transfer], now_ns: int) -> Applied:
        """Make all `transfers`, in their order, or none of them."""
        before = (dict(self._balances), dict(self._resolved), len(self._journal))
        results: list[TransferResult] = []
        for transfer in transfers:
            result = self._judge(transfer, now_ns)
            results.append(result)
            if result is TransferResult.CREATED:
                self._make(transfer, now_ns)
            elif result is not TransferResult.EXISTS:
                self._undo(before)
                failed = [TransferResult.LINKED_FAILED] * len(transfers)
                failed[len(results) - 1] = result
                return Applied(tuple(failed))
        entries = tuple(self._journal[before[2] :])
        touched = sorted({a for e in entries for a in (e.transfer.debit, e.transfer.credit)})
        return Applied(tuple(results), entries, tuple((a, self._balances[a]) for a in touched))

    def audit(self) -> list[str]:
        """Return every violated invariant, one sentence each."""
        faults = []
        debits, credits_ = self.totals()
        if debits != credits_:
            faults.append(f"debits sum to {debits}, credits to {credits_}")
        faults += [
            f"{a} is overdrawn by {-b.available_uc}"
            for a, b in sorted(self._balances.items())
            if b.available_uc < 0 and kind_of(a) is not AccountKind.WORLD
        ]
        if (row := first_break(self._journal)) is not None:
            faults.append(f"journal row {row} does not follow from those before it")
        refolded = refold(self._balances, self._journal)
        faults += [f"{a} holds {b}, its journal says {refolded[a]}" for a, b in self._balances.items() if refolded[a] != b]
        return faults

    def _judge(self, t: Transfer, now_ns: int) -> TransferResult:
        if (known := self._transfers.get(t.id)) is not None:
            same = known == self._completed(t)
            return TransferResult.EXISTS if same else TransferResult.EXISTS_WITH_DIFFERENT_FIELDS
        if t.amount_uc < 0:
            return TransferResult.AMOUNT_NEGATIVE
        if t.amount_uc == 0 and t.kind not in (TransferKind.VOID, TransferKind.EXPIRE):
            return TransferResult.AMOUNT_ZERO
        if t.debit == t.credit:
            return TransferResult.ACCOUNTS_SAME
        if t.debit not in self._balances or t.credit not in self._balances:
            return TransferResult.ACCOUNT_NOT_FOUND
        if t.resolves:
            return self._judge_resolution(t, now_ns)
        if kind_of(t.debit) is not AccountKind.WORLD and t.amount_uc > self._balances[t.debit].available_uc:
            return TransferResult.EXCEEDS_BALANCE
        return TransferResult.CREATED

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

    def _make(self, transfer: Transfer, now_ns: int) -> None:
        t = self._completed(transfer)
        hold = self._transfers[t.pending] if t.resolves and t.pending is not None else None
        move(self._balances, t, hold.amount_uc if hold is not None else 0)
        if hold is not None:
            self._resolved[hold.id] = t.kind
        self._transfers[t.id] = t
        last = self._journal[-1] if self._journal else None
        stamp = max(now_ns, last.timestamp_ns + 1) if last is not None else now_ns
        self._journal.append(chain(last.hash if last is not None else GENESIS, len(self._journal) + 1, stamp, t))

    def _undo(self, before: tuple[dict[AccountId, Balance], dict[TransferId, TransferKind], int]) -> None:
        self._balances, self._resolved, length = before
        for entry in self._journal[length:]:
            del self._transfers[entry.transfer.id]
        del self._journal[length:]


def move(balances: dict[AccountId, Balance], t: Transfer, held_uc: int) -> None:
    """Add `t` to the balances; `held_uc` is the amount of the hold that it ends."""
    debit, credit = balances[t.debit], balances[t.credit]
    match t.kind:
        case TransferKind.POST:
            debit, credit = debit.plus(debit=t.amount_uc), credit.plus(credit=t.amount_uc)
        case TransferKind.HOLD:
            debit, credit = debit.plus(pending_debit=t.amount_uc), credit.plus(pending_credit=t.amount_uc)
        case TransferKind.CAPTURE:
            debit = debit.plus(debit=t.amount_uc, pending_debit=-held_uc)
            credit = credit.plus(credit=t.amount_uc, pending_credit=-held_uc)
        case TransferKind.VOID | TransferKind.EXPIRE:
            debit, credit = debit.plus(pending_debit=-held_uc), credit.plus(pending_credit=-held_uc)
    balances[t.debit], balances[t.credit] = debit, credit


def refold(accounts: Iterable[AccountId], journal: Iterable[Entry]) -> dict[AccountId, Balance]:
    """Return the balances that follow from the journal alone."""
    balances = dict.fromkeys(accounts, Balance())
    holds: dict[TransferId, int] = {}
    for entry in journal:
        t = entry.transfer
        if t.kind is TransferKind.HOLD:
            holds[t.id] = t.amount_uc
        move(balances, t, holds.get(t.pending, 0) if t.pending is not None else 0)
    return balances
