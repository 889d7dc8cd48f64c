"""The journal: one row per transfer made, each bound to all before it by SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger.anchor import START, Anchor
from fleet_market.ledger.transfers import Transfer, TransferKind

_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Entry:
    """A transfer that was made, with its place in the journal."""

    seq: int
    """1, 2, 3 ... without gaps."""
    timestamp_ns: int
    """Market time, made strictly increasing by the ledger."""
    transfer: Transfer
    hash: str
    """SHA-256 over the previous row's hash and this row's canonical form, hexadecimal."""

    def fields(self) -> list[str | int | None]:
        """Return the row as plain values, in the order of the store's columns."""
        return [self.seq, self.timestamp_ns, *self.transfer.fields(), self.hash]

    @classmethod
    def of(cls, row: Iterable[object]) -> Entry:
        """Return the entry of a row made by `fields`.

        Raises
        ------
        ValueError
            If a field is not what it must be: the row was damaged.
        """
        seq, stamp, id_, kind, debit, credit, amount, pending, reference, expires, digest = row
        if not (isinstance(seq, int) and isinstance(stamp, int) and isinstance(amount, int)):
            raise ValueError(f"seq, timestamp_ns and amount_uc must be integers, were {seq!r}, {stamp!r}, {amount!r}")  # noqa: TRY004 - damage, not a wrong call
        if not (expires is None or isinstance(expires, int)):
            raise ValueError(f"expires_ns must be an integer or nothing, was {expires!r}")
        transfer = Transfer(
            TransferId(str(id_)), TransferKind(str(kind)), AccountId(str(debit)), AccountId(str(credit)), amount,
            None if pending is None else TransferId(str(pending)), str(reference), expires,
        )  # fmt: skip
        return cls(seq, stamp, transfer, str(digest))


def canonical(values: Sequence[object]) -> str:
    """Return what is hashed of a row: a JSON array without spaces, in ASCII."""
    return _ENCODE(values)


def chain(previous_hash: str, seq: int, timestamp_ns: int, transfer: Transfer) -> Entry:
    """Return the journal row of `transfer` that follows the row with `previous_hash`."""
    row = canonical([seq, timestamp_ns, *transfer.fields()])
    return Entry(seq, timestamp_ns, transfer, hashlib.sha256(f"{previous_hash}{row}".encode()).hexdigest())


def first_break(entries: Iterable[Entry], after: Anchor = START) -> int | None:
    """Return the number of the first row that does not follow from those before it, None if the chain is whole.

    Parameters
    ----------
    after : Anchor
        What the first row follows.
    """
    previous_hash, previous_ns = after.journal_hash, after.journal_ns
    for expected_seq, entry in enumerate(entries, start=after.journal_seq + 1):
        again = chain(previous_hash, expected_seq, entry.timestamp_ns, entry.transfer)
        if again != entry or entry.timestamp_ns <= previous_ns:
            return expected_seq
        previous_hash, previous_ns = entry.hash, entry.timestamp_ns
    return None
