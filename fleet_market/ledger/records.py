"""What one input of the market leaves behind, to be stored in one transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fleet_market.ids import AccountId
from fleet_market.ledger.accounts import Balance
from fleet_market.ledger.anchor import Anchor
from fleet_market.ledger.events import Event
from fleet_market.ledger.heads import Head
from fleet_market.ledger.journal import Entry


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A message that must reach its receiver: kept until he confirms it."""

    id: str
    topic: str
    payload: bytes

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, hexadecimal: the store keeps it beside the row."""
        return hashlib.sha256(b"\x1f".join((self.id.encode(), self.topic.encode(), self.payload))).hexdigest()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The market's state as it was when an input had been taken."""

    event: Event
    previous_hash: str
    """Of the event before that one."""
    content: bytes


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """The durable effect of one input."""

    event: Event
    accounts: tuple[AccountId, ...] = ()
    """Accounts opened."""
    entries: tuple[Entry, ...] = ()
    balances: tuple[tuple[AccountId, Balance], ...] = ()
    """What the touched accounts must hold afterwards: the store compares before it commits."""
    outbox: tuple[OutboxRow, ...] = ()
    done: tuple[str, ...] = ()
    """Outbox rows that need not be sent any more."""
    heads: tuple[Head, ...] = ()
    """Heads of days that ended before this input."""
    snapshot: bytes = b""
    """The market's state after this input, where it is to be kept."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A beginning of event log and journal that lies in an archive, synced and verified, and may leave the store."""

    start: Anchor
    """What the first archived rows follow."""
    end: Anchor
    snapshot: bytes
    """The market's state after the event that follows `end`, a checkpoint."""
    file: str
    """Name of the archive."""
    sha256: str
    """Of the archive."""
