"""Accounts and their balances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from fleet_market.ids import AccountId


class AccountKind(StrEnum):
    """Whose money an account holds; the part of an account id before the colon."""

    WORLD = "world"
    """Where credits are issued from and burned to; the only account that may be overdrawn."""
    CUSTOMER = "customer"
    OWNER = "owner"
    ESCROW = "escrow"
    """One per order; zero when the order is over."""
    FEE = "fee"


def account(kind: AccountKind, name: str) -> AccountId:
    """Return the id of an account, ``kind:name``."""
    return AccountId(f"{kind}:{name}")


def kind_of(account_id: AccountId) -> AccountKind:
    """Return the kind of an account.

    Raises
    ------
    ValueError
        If the id does not start with a known kind and a colon.
    """
    return AccountKind(account_id.partition(":")[0])


@dataclass(frozen=True, slots=True)
class Balance:
    """Running sums of one account, micro-credits. Every account but the world keeps `available_uc` at 0 or above."""

    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0

    @property
    def available_uc(self) -> int:
        """What may be spent: money that is here and not on hold."""
        return self.credits_posted - self.debits_posted - self.debits_pending

    def plus(self, *, debit: int = 0, credit: int = 0, pending_debit: int = 0, pending_credit: int = 0) -> Balance:
        """Return the balance after adding to its sums."""
        return replace(
            self,
            debits_posted=self.debits_posted + debit,
            credits_posted=self.credits_posted + credit,
            debits_pending=self.debits_pending + pending_debit,
            credits_pending=self.credits_pending + pending_credit,
        )
