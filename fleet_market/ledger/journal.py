"""The journal: one row per transfer made, each bound to all before it by SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from fleet_market.ledger.transfers import Transfer

GENESIS = "0" * 64
"""What the first row follows."""


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


def chain(previous_hash: str, seq: int, timestamp_ns: int, transfer: Transfer) -> Entry:
    """Return the journal row of `transfer` that follows the row with `previous_hash`."""
    row = [seq, timestamp_ns, asdict(transfer)]
    canonical = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return Entry(seq, timestamp_ns, transfer, hashlib.sha256(f"{previous_hash}{canonical}".encode()).hexdigest())


def first_break(entries: Iterable[Entry]) -> int | None:
    """Return the number of the first row that does not follow from those before it, None if the chain is whole."""
    previous_hash, previous_ns = GENESIS, -1
    for expected_seq, entry in enumerate(entries, start=1):
        again = chain(previous_hash, expected_seq, entry.timestamp_ns, entry.transfer)
        if again != entry or entry.timestamp_ns <= previous_ns:
            return expected_seq
        previous_hash, previous_ns = entry.hash, entry.timestamp_ns
    return None
