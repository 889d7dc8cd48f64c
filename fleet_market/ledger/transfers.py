"""Transfers, and what the ledger answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet_market.ids import AccountId, TransferId


class TransferKind(StrEnum):
    """What a transfer does."""

    POST = "post"
    """Move money at once."""
    HOLD = "hold"
    """Reserve money for one receiver."""
    CAPTURE = "capture"
    """Move the amount out of a hold and release what is left of it."""
    VOID = "void"
    """Release a hold."""
    EXPIRE = "expire"
    """Release a hold because its time is over."""


class TransferResult(StrEnum):
    """The answer to a transfer. Where several reasons apply, the first in this order is given."""

    CREATED = "created"
    EXISTS = "exists"
    """The same transfer was made before: nothing happens."""
    EXISTS_WITH_DIFFERENT_FIELDS = "exists_with_different_fields"
    FIELDS_DO_NOT_FIT = "fields_do_not_fit"
    """A post or a hold refers to a hold, or something else than a hold has an expiry."""
    AMOUNT_NEGATIVE = "amount_negative"
    AMOUNT_ZERO = "amount_zero"
    AMOUNT_TOO_LARGE = "amount_too_large"
    """More than `fleet_market.units.MAX_CREDITS_UC`."""
    ACCOUNTS_SAME = "accounts_same"
    ACCOUNT_NOT_FOUND = "account_not_found"
    DEBIT_NOT_ALLOWED = "debit_not_allowed"
    """A sink gives nothing back."""
    CREDIT_NOT_ALLOWED = "credit_not_allowed"
    """The world takes nothing: credits are burned in a sink."""
    PENDING_NOT_FOUND = "pending_not_found"
    PENDING_HAS_DIFFERENT_ACCOUNTS = "pending_has_different_accounts"
    PENDING_ALREADY_POSTED = "pending_already_posted"
    PENDING_ALREADY_VOIDED = "pending_already_voided"
    PENDING_EXPIRED = "pending_expired"
    PENDING_NOT_EXPIRED = "pending_not_expired"
    EXCEEDS_PENDING = "exceeds_pending"
    EXCEEDS_BALANCE = "exceeds_balance"
    OVERFLOWS = "overflows"
    """A sum of the account would leave the 63 bits that both databases keep."""
    LINKED_FAILED = "linked_failed"
    """Nothing is wrong with this transfer, but with another one of the same group."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A wish to move money; made once under an id that its maker chooses and keeps.

    Parameters
    ----------
    amount_uc : int
        Micro-credits; for VOID and EXPIRE it is not read, the hold's whole amount is released.
    pending : TransferId, optional
        The hold that CAPTURE, VOID and EXPIRE refer to.
    reference : str
        What it is for, e.g. the order's id.
    expires_ns : int, optional
        For HOLD: market time from which it can no longer be captured, only expired.
    """

    id: TransferId
    kind: TransferKind
    debit: AccountId
    credit: AccountId
    amount_uc: int
    pending: TransferId | None = None
    reference: str = ""
    expires_ns: int | None = None

    def fields(self) -> list[str | int | None]:
        """Return the fields in their order, as plain values of JSON and SQL."""
        return [
            str(self.id), self.kind.value, str(self.debit), str(self.credit), self.amount_uc,
            None if self.pending is None else str(self.pending), self.reference, self.expires_ns,
        ]  # fmt: skip

    @property
    def resolves(self) -> bool:
        """Whether it ends a hold."""
        return self.kind in (TransferKind.CAPTURE, TransferKind.VOID, TransferKind.EXPIRE)
