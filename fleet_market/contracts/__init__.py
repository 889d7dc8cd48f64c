"""From order to settlement: orders, contracts, evidence and the terms of the market."""

from fleet_market.contracts.contract import Contract
from fleet_market.contracts.evidence import find_faults
from fleet_market.contracts.order import Order
from fleet_market.contracts.terms import MarketTerms

__all__ = ["Contract", "MarketTerms", "Order", "find_faults"]
