"""The terms under which a zone's market trades."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.protocol.messages import MAX_ASKS, MAX_BUNDLE, Body, Price

MAX_QUOTES_PER_CALL = 4
"""Requests for quotes that ride on one call; more wait for the next."""
Seconds = Annotated[float, Field(gt=0.0, le=86400.0)]


class MarketTerms(Body):
    """Periods are seconds of market time."""

    batch_s: Seconds = 2.0
    """A batch opens this long after the last one at the earliest, and its first round waits this long for asks;
    as every round it goes on while answers come, see `fleet_market.market.batch`."""
    mechanism: Literal["vcg", "first_price", "second_price", "ssi"] = "vcg"
    """How a round is cleared; see `fleet_market.auction.Mechanism`."""
    round_s: Seconds = 0.5
    """Further rounds of a batch wait this long for asks, and all rounds this long after the latest answer."""
    max_rounds: Annotated[int, Field(ge=1, le=10_000)] = 200
    """A batch ends after so many rounds even if more could be gained."""
    lots_per_robot: Annotated[int, Field(ge=1, le=MAX_ASKS - MAX_QUOTES_PER_CALL)] = 20
    """Where more lots are open, each robot is offered the nearest ones."""
    aging_s: Seconds = 300.0
    """For each such time on sale an order counts as of one priority more, so that none is passed over for ever."""
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
    keep_orders: Annotated[int, Field(ge=0, le=100_000)] = 1_000
    """So many of the orders that are over are still known to the market; the older ones are in its log only."""
    handover_near_m: Annotated[float, Field(gt=0.0, le=5.0)] = 0.9
    """A robot that takes over the parcel of a broken-down one keeps this far from its centre ..."""
    handover_far_m: Annotated[float, Field(gt=0.0, le=5.0)] = 1.6
    """... and comes at least this near."""
    resale: bool = True
    """Whether robots' queued contracts are put on sale again between batches."""
    resale_lots: Annotated[int, Field(ge=1, le=MAX_BUNDLE)] = 5
    """Contracts in one re-auction, at most."""
    resale_robots: Annotated[int, Field(ge=2, le=100)] = 10
    """Robots asked in one re-auction: those that have the contracts, and the nearest others."""
    resale_s: Seconds = 2.0
    """A re-auction that has not found who does it for less after this long is dropped."""
    resale_every_s: Seconds = 1.0
    """A re-auction opens this long after the last one at the earliest."""
    resale_gain_uc: Annotated[Price, Field(ge=1)] = 50_000
    """By how much the sum of costs must fall: less is lost in what forecasts miss [assumption]."""
    pose_slack_m: Annotated[float, Field(ge=0.0, le=5.0)] = 0.1
    """Evidence may lie this far outside of a place's radius: the error of localisation."""
    scale_slack_kg: Annotated[float, Field(ge=0.0, le=100.0)] = 0.5
    """A robot's scale may be off by this much."""
    answer_s: Seconds = 5.0
    """An oracle must answer within this time, or its fee goes back."""
    robots_share: Annotated[int, Field(ge=0, le=1000)] = 500
    """What part of a fee goes to the robots whose telemetry was used, thousandths [assumption: half]."""
    quote_life_s: Seconds = 60.0
    """How long an oracle's band counts [assumption: thirty batches]."""
    bond_uc: Price = 1_000_000
    """An oracle's own part of its fees is kept back until its bond holds so much: ten usual fees [assumption]."""
    open_s: Seconds = 10.0
    """Within this time an oracle must open the leaves that a buyer has drawn, or its bond is lost."""
