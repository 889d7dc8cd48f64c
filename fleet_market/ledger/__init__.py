"""Double-entry ledger in whole micro-credits: append-only, two-phase, idempotent, hash-chained. Pure."""

from fleet_market.ledger.accounts import AccountKind, Balance, account
from fleet_market.ledger.journal import Entry, first_break
from fleet_market.ledger.ledger import Applied, Ledger
from fleet_market.ledger.records import Event, OutboxRow, StoreRecord
from fleet_market.ledger.transfers import Transfer, TransferKind, TransferResult

__all__ = [
    "AccountKind",
    "Applied",
    "Balance",
    "Entry",
    "Event",
    "Ledger",
    "OutboxRow",
    "StoreRecord",
    "Transfer",
    "TransferKind",
    "TransferResult",
    "account",
    "first_break",
]
