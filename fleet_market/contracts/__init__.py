"""From order to settlement: orders, contracts, evidence and the terms of the market."""

from fleet_market.contracts.contract import Contract
from fleet_market.contracts.evidence import find_faults
from fleet_market.contracts.levels import Level, due_uc, to_hold_uc
from fleet_market.contracts.order import Order, Promise
from fleet_market.contracts.scoring import Owed, damage_uc, handicap_uc, lateness_uc, shortfalls
from fleet_market.contracts.terms import MarketTerms

__all__ = [
    "Contract",
    "Level",
    "MarketTerms",
    "Order",
    "Owed",
    "Promise",
    "damage_uc",
    "due_uc",
    "find_faults",
    "handicap_uc",
    "lateness_uc",
    "shortfalls",
    "to_hold_uc",
]
