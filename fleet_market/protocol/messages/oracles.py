"""Oracles and their bands as the market and its buyers see them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet_market.ids import PartyName
from fleet_market.protocol.messages.fields import Body, Count, Price, Text

MAX_REASONS = 8
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Confidence = Annotated[float, Field(ge=0.5, le=0.95)]


class AdviceFees(Body):
    """What an oracle charges for advice beside bands; None: it does not sell it."""

    budget_uc: Price | None = None
    best_time_uc: Price | None = None
    make_or_buy_uc: Price | None = None
    judge_uc: Price | None = None
    congestion_uc: Price | None = None


class OracleTerms(AdviceFees):
    """An oracle says that it sells quotes, and for how much; or that it does not any more."""

    type: Literal["oracle_terms"] = "oracle_terms"
    status: Literal["open", "closed"] = "open"
    now_uc: Price
    later_uc: Price
    thin_uc: Price
    """For what says that it rests on too little; not above the others."""


class OracleView(AdviceFees):
    """An oracle as the market sees it: what it charges, and how it has done."""

    oracle: PartyName
    open: bool
    now_uc: Price
    later_uc: Price
    thin_uc: Price
    sold: Count = 0
    earned_uc: int = 0
    """Fees without the robots' part."""
    robots_uc: int = 0
    scored: Count = 0
    score: float | None = None
    """Mean interval score as a share of the budget, newer ones count more; lower is better."""
    inside: float | None = None
    """Share of its bands that held, newer ones count more."""
    excess: float = 0.0
    """How much worse its scores were than the median of all oracles on the same tasks, summed, newer ones count more.
    Buyers are shared out by it: `fleet_market.oracle.scoring.shares`."""
    breaches: Count = 0
    """Times that it has lost its bond."""


class WireBand(Body):
    """A fair band with what it is made of, micro-credits; None where there is no such part."""

    low_uc: Price
    high_uc: Price
    confidence: Confidence
    expected_uc: Price | None = None
    shadow_low_uc: Price | None = None
    shadow_high_uc: Price | None = None
    """Competitive prices, from the duals of the batch."""
    second_best_uc: Price | None = None
    model_low_uc: Price | None = None
    model_high_uc: Price | None = None
    """What the robots that could do it would have to ask."""
    settled_low_uc: Price | None = None
    settled_high_uc: Price | None = None
    """Conformal interval of settlements like this one."""
    samples: Count = 0
    age_s: Annotated[float, Field(ge=0.0, le=1e10)] | None = None
    """Of the newest batch that it rests on."""
    coverage: Share | None = None
    """Share of the recent tasks whose bands held."""
    thin: bool = False
    reasons: Annotated[tuple[Text, ...], Field(max_length=MAX_REASONS)] = ()
    unknown: Annotated[tuple[Text, ...], Field(max_length=MAX_REASONS)] = ()
    root: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Merkle root of the telemetry that it rests on, hexadecimal."""
    evidence_records: Count = 0
    evidence_age_s: Annotated[float, Field(ge=0.0, le=1e10)] | None = None

    @model_validator(mode="after")
    def _is_a_band(self) -> Self:
        if self.low_uc > self.high_uc:
            raise ValueError(f"low_uc must be at most high_uc ({self.high_uc}), was {self.low_uc}")
        return self
