"""Signed daily heads: the last row of each day's journal, signed, so that not even the market can rewrite its past.

Whoever kept a head (an owner, a customer, an auditor) can prove later whether the journal still is the one that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from fleet_market.ledger.journal import Entry, canonical

NS_PER_DAY = 86_400 * 10**9
DOMAIN = "fleet-market ledger head 1"
"""First item of what is signed: a signature of a head is valid for nothing else."""


class HeadSigner(Protocol):
    """Signs heads; see `fleet_market.adapters.signing`."""

    @property
    def key_id(self) -> str:
        """The public key, hexadecimal."""

    def sign(self, content: bytes) -> bytes:
        """Return the signature of `content`."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last journal row of one day, signed.

    Parameters
    ----------
    day : int
        Whole days of market time since its zero (the Unix epoch, on the wall clock).
    seq, hash : int, str
        Of the journal's last row with a time before the end of that day.
    key_id : str
        The public key that the signature is made with, hexadecimal.
    signature : bytes
        Over `signed_part`.
    """

    day: int
    seq: int
    hash: str
    key_id: str = ""
    signature: bytes = b""

    def signed_part(self) -> bytes:
        """Return what the signature covers."""
        return canonical([DOMAIN, self.day, self.seq, self.hash]).encode()

    def fields(self) -> list[str | int | bytes | None]:
        """Return the row as plain values, in the order of the store's columns."""
        return [self.day, self.seq, self.hash, self.key_id, self.signature]


class Heads:
    """Makes the head of each day when the first row of a later one arrives.

    Parameters
    ----------
    signer : HeadSigner, optional
        Without one there are no heads.
    last_day : int
        The last day that has its head.
    """

    def __init__(self, signer: HeadSigner | None, last_day: int = -1) -> None:
        self._signer, self._last_day = signer, last_day
        self._tail: Entry | None = None

    def follow(self, entries: Iterable[Entry]) -> tuple[Head, ...]:
        """Return the heads that become due with these further journal rows."""
        due = []
        for entry in entries:
            tail, self._tail = self._tail, entry
            if self._signer is None or tail is None:
                continue
            day = tail.timestamp_ns // NS_PER_DAY
            if day > self._last_day and entry.timestamp_ns // NS_PER_DAY > day:
                due.append(sign(Head(day, tail.seq, tail.hash), self._signer))
                self._last_day = day
        return tuple(due)


def sign(head: Head, signer: HeadSigner) -> Head:
    """Return `head` with its signature."""
    return Head(head.day, head.seq, head.hash, signer.key_id, signer.sign(head.signed_part()))


Verify = Callable[[str, bytes, bytes], bool]
"""``(key_id, signature, content) -> valid``."""


def head_faults(
    heads: Iterable[Head], hashes: Callable[[int], str | None], verify: Verify | None, *, archived: int = 0
) -> list[str]:
    """Return what is wrong with the heads, one sentence each.

    Parameters
    ----------
    heads : iterable of Head
        Those of the store.
    hashes : callable
        Hash of a journal row by its number, None if there is no such row.
    verify : callable, optional
        Without it signatures are not looked at.
    archived : int
        Rows before this one are kept elsewhere, and are not compared.
    """
    faults = []
    for head in heads:
        if head.seq >= archived and hashes(head.seq) != head.hash:
            faults.append(
                f"the head of day {head.day} says row {head.seq} is {head.hash[:12]}..., the journal says otherwise"
            )
        if verify is not None and not verify(head.key_id, head.signature, head.signed_part()):
            faults.append(f"the head of day {head.day} carries no valid signature")
    return faults
