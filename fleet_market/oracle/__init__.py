"""Second opinions on prices, from one who sees the whole batch. Advisory: the market works without it."""

from fleet_market.oracle.bands import FairBand, fair_bands

__all__ = ["FairBand", "fair_bands"]
