"""What one input of the market leaves behind, to be stored in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market.ids import AccountId
from fleet_market.ledger.accounts import Balance
from fleet_market.ledger.journal import Entry


@dataclass(frozen=True, slots=True)
class Event:
    """One input of the market; the events in their order re-make the market's state."""

    seq: int
    now_ns: int
    source: str
    """Who sent it: a robot, a customer, or the daemon itself."""
    message_id: str | None
    """Id under which the sender repeats it; None for the daemon's own."""
    sid: int
    body: bytes
    """JSON of the body."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that must reach its receiver: kept until he confirms it."""

    id: str
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """The durable effect of one input."""

    event: Event
    reply: tuple[str, bytes] | None = None
    """Topic and payload of the answer, given again when the input is repeated."""
    accounts: tuple[AccountId, ...] = ()
    """Accounts opened."""
    entries: tuple[Entry, ...] = ()
    balances: tuple[tuple[AccountId, Balance], ...] = ()
    """What the touched accounts must hold afterwards: the store compares before it commits."""
    outbox: tuple[OutboxRow, ...] = ()
    done: tuple[str, ...] = ()
    """Outbox rows that need not be sent any more."""
