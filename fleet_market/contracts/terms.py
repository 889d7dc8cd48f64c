"""The terms under which a zone's market trades."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet_market.protocol.messages import Body

Seconds = Annotated[float, Field(gt=0.0, le=86400.0)]


class MarketTerms(Body):
    """Periods are seconds of market time."""

    batch_s: Seconds = 2.0
    """How long a sealed call is open."""
    accept_s: Seconds = 6.0
    """A robot must accept an award within this time."""
    lease_s: Seconds = 15.0
    """A contract is lost when its robot gives no sign of life for this long."""
    overdue_s: Seconds = 300.0
    """A contract that is alive but not done this long after its deadline is taken away."""
    cooldown_s: Seconds = 30.0
    """A robot that declined, gave up or lost an order may not ask for it again for this long."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 6
    """An order that was awarded this often without success has failed."""
    handover_near_m: Annotated[float, Field(gt=0.0, le=5.0)] = 0.9
    """A robot that takes over the parcel of a broken-down one keeps this far from its centre ..."""
    handover_far_m: Annotated[float, Field(gt=0.0, le=5.0)] = 1.6
    """... and comes at least this near."""
    pose_slack_m: Annotated[float, Field(ge=0.0, le=5.0)] = 0.1
    """Evidence may lie this far outside of a place's radius: the error of localisation."""
    scale_slack_kg: Annotated[float, Field(ge=0.0, le=100.0)] = 0.5
    """A robot's scale may be off by this much."""
