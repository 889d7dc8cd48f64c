"""Double-entry ledger in whole micro-credits: append-only, two-phase, idempotent, hash-chained. Pure."""

from fleet_market.ledger.accounts import AccountKind, Balance, account, kind_of
from fleet_market.ledger.anchor import GENESIS, START, Anchor
from fleet_market.ledger.audit import Metrics, Opening, audit
from fleet_market.ledger.events import Event, first_broken_event
from fleet_market.ledger.fold import refold
from fleet_market.ledger.heads import Head, Heads, HeadSigner, head_faults
from fleet_market.ledger.journal import Entry, first_break
from fleet_market.ledger.ledger import Applied, Ledger
from fleet_market.ledger.records import Cut, OutboxRow, Snapshot, StoreRecord
from fleet_market.ledger.transfers import Transfer, TransferKind, TransferResult

__all__ = [
    "GENESIS",
    "START",
    "AccountKind",
    "Anchor",
    "Applied",
    "Balance",
    "Cut",
    "Entry",
    "Event",
    "Head",
    "HeadSigner",
    "Heads",
    "Ledger",
    "Metrics",
    "Opening",
    "OutboxRow",
    "Snapshot",
    "StoreRecord",
    "Transfer",
    "TransferKind",
    "TransferResult",
    "account",
    "audit",
    "first_break",
    "first_broken_event",
    "head_faults",
    "kind_of",
    "refold",
]
