"""Snapshots: the market's whole state as JSON, so that a start need not go through all that ever happened.

A snapshot is taken when a `Checkpoint` is handled; its SHA-256 is part of what that input led to, and so of the chained
event log: a replay makes it again and compares. It is only read by a program that keeps state in the same form.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from fleet_market.errors import LedgerMismatchError
from fleet_market.ledger.journal import canonical
from fleet_market.market.state import State

VERSION = 1
"""To be raised when state of the same form gets another meaning."""
_LEFT_OUT: Any = dict.fromkeys(("live", "on_sale", "followers", "groups"), True) | {
    "robots": {"__all__": {"position"}},
}
"""What follows from the rest, and what is not logged."""


class SnapshotError(LedgerMismatchError):
    """A snapshot cannot be used: damaged, or of another program."""


@cache
def form() -> str:
    """Return the form of this program's snapshots: it changes with any field of the state."""
    return hashlib.sha256(canonical([VERSION, _adapter().json_schema()]).encode()).hexdigest()[:20]


def write_snapshot(state: State) -> bytes:
    """Return `state` as JSON; equal states give equal bytes."""
    return _adapter().dump_json(state, exclude=_LEFT_OUT)


def read_snapshot(snapshot: bytes) -> State:
    """Return the state that `write_snapshot` wrote; raises `SnapshotError`."""
    try:
        state = _adapter().validate_json(snapshot)
    except ValueError as error:
        raise SnapshotError(f"the snapshot cannot be read: {str(error).splitlines()[0]}") from None
    for order in state.orders.values():
        if not order.state.final:
            state.find_again(order)
    return state


@cache
def _adapter() -> TypeAdapter[State]:
    return TypeAdapter(State)
