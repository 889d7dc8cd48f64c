"""From order to settlement: orders, contracts, evidence and the terms of the market."""

from fleet_market.contracts.contract import Contract
from fleet_market.contracts.evidence import find_faults
from fleet_market.contracts.order import Order, Promise
from fleet_market.contracts.scoring import handicap_uc, lateness_uc, shortfalls
from fleet_market.contracts.terms import MarketTerms

__all__ = ["Contract", "MarketTerms", "Order", "Promise", "find_faults", "handicap_uc", "lateness_uc", "shortfalls"]
