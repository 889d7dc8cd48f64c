"""Sealed batches: who does what, and what he is paid."""

from fleet_market.auction.clearing import Clearing, LotOffer, SealedAsk, clear

__all__ = ["Clearing", "LotOffer", "SealedAsk", "clear"]
