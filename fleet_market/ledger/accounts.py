"""Accounts, what each kind of them may do, and their balances."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet_market.ids import AccountId


class AccountKind(StrEnum):
    """Whose money an account holds; the part of an account id before the colon.

    The store repeats these rules as CHECK constraints (``adapters/sql``), so that neither side trusts the other.
    """

    WORLD = "world"
    """Where credits are issued: only ever debited, and the only kind that may be overdrawn."""
    CUSTOMER = "customer"
    OWNER = "owner"
    ESCROW = "escrow"
    """One per order; zero when the order is over."""
    BOND = "bond"
    """A deposit that is held against misbehaviour."""
    ORACLE = "oracle"
    """What an oracle earns by its quotes; may be spent again."""
    FEE = "fee"
    """What the market earns; may be spent again."""
    SINK = "sink"
    """Where credits are burned: only ever credited."""


_KINDS = {kind.value: kind for kind in AccountKind}
RECEIVES_NOTHING = frozenset({AccountKind.WORLD})
GIVES_NOTHING = frozenset({AccountKind.SINK})
OUTSIDE = RECEIVES_NOTHING | GIVES_NOTHING
"""Kinds whose money does not circulate."""


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
    prefix = account_id.partition(":")[0]
    return _KINDS.get(prefix) or AccountKind(prefix)


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

    @property
    def posted_uc(self) -> int:
        """What is here, on hold or not."""
        return self.credits_posted - self.debits_posted

    @property
    def is_empty(self) -> bool:
        """Whether nothing is here and nothing announced."""
        return self.posted_uc == self.debits_pending == self.credits_pending == 0

    def plus(self, *, debit: int = 0, credit: int = 0, pending_debit: int = 0, pending_credit: int = 0) -> Balance:
        """Return the balance after adding to its sums."""
        return Balance(
            self.debits_posted + debit,
            self.credits_posted + credit,
            self.debits_pending + pending_debit,
            self.credits_pending + pending_credit,
        )
