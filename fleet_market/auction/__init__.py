"""Sealed rounds: who does what, and what he is paid."""

from fleet_market.auction.clearing import Clearing, LotAward, LotOffer, Mechanism, SealedAsk, clear

__all__ = ["Clearing", "LotAward", "LotOffer", "Mechanism", "SealedAsk", "clear"]
