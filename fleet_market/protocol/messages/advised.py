"""What oracles say beside bands: budgets, times, make or buy, judgements, congestion."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from fleet_market.protocol.messages.fields import MAX_PRICE_UC, Body, Count, Price, TimeNs
from fleet_market.protocol.messages.oracles import Share

What: TypeAlias = Literal["band", "budget", "best_time", "make_or_buy", "judge", "congestion"]
"""What an oracle can be asked for."""
MAX_TIMES = 9
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
Load = Annotated[float, Field(ge=0.0, le=1e9)]


class BudgetAdvice(Body):
    """The least maximum price with which a task is sold, and done by its deadline, with a probability."""

    what: Literal["budget"] = "budget"
    budget_uc: Price | None = None
    """None: no budget reaches the probability."""
    probability: Probability
    sold_probability: Share
    in_time_probability: Share


class BestTimeAdvice(Body):
    """When to post a task so that its expected price is lowest."""

    what: Literal["best_time"] = "best_time"
    at_ns: TimeNs
    expected_uc: Price
    saving_uc: Price
    """Against posting at once."""
    times: Annotated[tuple[tuple[TimeNs, Price], ...], Field(min_length=1, max_length=MAX_TIMES)]
    """The times looked at, the first of them now, with the expected prices."""


class MakeOrBuyAdvice(Body):
    """Do a contract, resell it now, or wait and resell it later."""

    what: Literal["make_or_buy"] = "make_or_buy"
    choice: Literal["do", "resell", "wait"]
    gain_uc: Price
    """Expected, against doing it."""
    cost_uc: Price
    """What doing it costs the one who asks, as he has said."""
    resell_uc: Price
    """What another is expected to take for it now."""
    wait_uc: Price | None = None
    """What another is expected to take for it at `wait_ns`."""
    wait_ns: TimeNs | None = None


class Judgement(Body):
    """Whether a price is fair."""

    what: Literal["judge"] = "judge"
    verdict: Literal["below", "fair", "above"]
    price_uc: Price
    excess_uc: Annotated[int, Field(ge=-MAX_PRICE_UC, le=MAX_PRICE_UC)]
    """By how much it is above the band; below 0: by how much it is below it."""
    percentile: Annotated[float, Field(ge=0.0, le=100.0)] | None = None
    """Share of comparable prices, scaled to this task, that are below it."""


class CongestionAdvice(Body):
    """How full a zone is, or will be, and how busy what robots share is now."""

    what: Literal["congestion"] = "congestion"
    at_ns: TimeNs
    load: Load
    """Lots per robot that asks."""
    load_low: Load | None = None
    load_high: Load | None = None
    """10 and 90 % quantiles of the load in the past at the same distance in time."""
    busy: Annotated[tuple[tuple[Literal["charger", "corridor", "lift"], Share, Count], ...], Field(max_length=3)] = ()
    """Kind, mean share of time that it is busy, and how many wait."""
    samples: Count = 0
    thin: bool = False
    """Rests on too little."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.load_low is not None and self.load_high is not None and self.load_low > self.load_high:
            raise ValueError(f"load_low must be at most load_high ({self.load_high}), was {self.load_low}")
        return self


Advised: TypeAlias = Annotated[
    BudgetAdvice | BestTimeAdvice | MakeOrBuyAdvice | Judgement | CongestionAdvice, Field(discriminator="what")
]
