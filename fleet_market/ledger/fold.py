"""From the journal to the balances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger.accounts import Balance
from fleet_market.ledger.journal import Entry
from fleet_market.ledger.transfers import Transfer, TransferKind


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
    for _ in fold(balances, journal):
        pass
    return balances


def fold(
    balances: dict[AccountId, Balance],
    journal: Iterable[Entry],
    before: dict[AccountId, Balance] | None = None,
    carried: Iterable[Entry] = (),
) -> Iterator[Entry]:
    """Add the rows of the journal to `balances`, one at a time; yields each row when it has been added.

    Parameters
    ----------
    before : dict, optional
        Filled anew with each row: what the touched accounts held before it.
    carried : iterable of Entry
        Holds that were open before the first row; `balances` has them already.

    Raises
    ------
    ValueError
        If a row names an account that is not there.
    """
    holds: dict[TransferId, int] = {entry.transfer.id: entry.transfer.amount_uc for entry in carried}
    for entry in journal:
        t = entry.transfer
        if t.kind is TransferKind.HOLD:
            holds[t.id] = t.amount_uc
        if missing := {t.debit, t.credit} - balances.keys():
            raise ValueError(f"journal row {entry.seq} names {min(missing)}, which is no account")
        if before is not None:
            before.clear()
            before.update({a: balances[a] for a in (t.debit, t.credit)})
        move(balances, t, holds.get(t.pending, 0) if t.pending is not None else 0)
        yield entry
