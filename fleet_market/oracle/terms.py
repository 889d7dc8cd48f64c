"""What the oracle hears, what it is asked, and what it answers: plain facts, frozen.

There is no observation for an ask of an open batch: the oracle cannot be told one. A question has no field for who asks,
for his budget or for words: what is not there cannot change the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from fleet_market.auction.clearing import SealedAsk
from fleet_market.errors import InputError
from fleet_market.ids import MAIN_ZONE, CallId, Identifier, OrderId, RobotId, ZoneId

Point: TypeAlias = tuple[float, float]
"""(x, y), metres, map frame."""

TRANSPORT = Identifier("transport")
"""The kind of a task that carries a load from `start` to `goal`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A task whose price is asked for.

    Parameters
    ----------
    start, goal : (x, y)
        Metres, map frame.
    payload_kg : float
        At least 0.
    deadline_s : float or None
        Seconds from the time of the question within which it is to be done; at least 0.
    zone, kind : Identifier
        A short word each (`Identifier`): free text is refused.

    Raises
    ------
    InputError
        If a number is not finite or below 0, or `zone` or `kind` is no identifier.
    """

    start: Point
    goal: Point
    payload_kg: float = 0.0
    deadline_s: float | None = None
    zone: ZoneId = MAIN_ZONE
    kind: Identifier = TRANSPORT

    def __post_init__(self) -> None:
        for name in ("start", "goal"):
            _point("question", name, getattr(self, name))
        _at_least_zero("question", "payload_kg", self.payload_kg)
        if self.deadline_s is not None:
            _at_least_zero("question", "deadline_s", self.deadline_s)
        for name in ("zone", "kind"):
            if not isinstance(value := getattr(self, name), Identifier):
                raise InputError("question", name, value, "use an Identifier, no free text")


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """An order came on sale. Its budget is not told: it is heard when the batch has closed."""

    order: OrderId
    task: Question
    seen_ns: int


@dataclass(frozen=True, slots=True)
class OrderGone:
    """An order was cancelled or has expired: no question about it is answered any more."""

    order: OrderId
    seen_ns: int


@dataclass(frozen=True, slots=True)
class ClosedLot:
    """A lot of a closed batch; `price_uc` and `winner` are None where it was not sold."""

    order: OrderId
    budget_uc: int
    price_uc: int | None
    winner: RobotId | None
    task: Question | None = None
    """None: as it was heard by `OrderSeen`."""


@dataclass(frozen=True, slots=True)
class ClosedBatch:
    """One closed round of a zone with all its asks. Several rounds of one call are several of these."""

    call: CallId
    zone: ZoneId
    closed_ns: int
    lots: tuple[ClosedLot, ...]
    asks: tuple[SealedAsk, ...]
    round: int = 1


@dataclass(frozen=True, slots=True)
class Settlement:
    """An order is done and paid for: private between the two."""

    order: OrderId
    zone: ZoneId
    robot: RobotId
    price_uc: int
    settled_ns: int
    awarded_ns: int
    energy_j: float | None = None

    def __post_init__(self) -> None:
        if self.energy_j is not None:
            _at_least_zero("settlement", "energy_j", self.energy_j)


@dataclass(frozen=True, slots=True)
class RobotState:
    """Where a robot is and what it has to do: private."""

    robot: RobotId
    zone: ZoneId
    seen_ns: int
    place: Point
    """Where it is, or will be when its queue is done."""
    max_payload_kg: float
    queue: int = 0
    """Contracts that it still holds."""
    soc: float | None = None
    """State of charge, 0 to 1."""

    def __post_init__(self) -> None:
        _point("robot state", "place", self.place)
        _at_least_zero("robot state", "max_payload_kg", self.max_payload_kg)
        if self.soc is not None and not 0.0 <= self.soc <= 1.0:
            raise InputError("robot state", "soc", self.soc, "use a number from 0 to 1")


class Resource(StrEnum):
    """Something that robots share."""

    CHARGER = "charger"
    CORRIDOR = "corridor"
    LIFT = "lift"


@dataclass(frozen=True, slots=True)
class ResourceLoad:
    """How busy a charger, corridor or lift is; `busy` is the share of time, 0 to 1."""

    name: Identifier
    kind: Resource
    zone: ZoneId
    seen_ns: int
    busy: float
    waiting: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.busy <= 1.0:
            raise InputError("resource load", "busy", self.busy, "use a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class CalibrationDrift:
    """How much more energy a robot used lately than others of its type would have, as a factor: private."""

    robot: RobotId
    zone: ZoneId
    seen_ns: int
    factor: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise InputError("calibration drift", "factor", self.factor, "use a finite number above 0")


Observation: TypeAlias = OrderSeen | OrderGone | ClosedBatch | Settlement | RobotState | ResourceLoad | CalibrationDrift


@dataclass(frozen=True, slots=True)
class FairQuote:
    """The fair band of a task. Money is micro-credits; None is not known.

    All numbers come from what was heard and from the question; `reasons` names them, `unknown` says what is missing.
    """

    low_uc: int
    high_uc: int
    confidence: float
    """Share of such bands that hold the full-information price, by the calibration on past batches."""
    expected_uc: int
    """The most likely price, within the band."""
    shadow_low_uc: int | None
    shadow_high_uc: int | None
    """Competitive prices if the task is inserted into the recent market (Shapley and Shubik 1971)."""
    second_best_uc: int | None
    """What the second-best robot would cost, by the model."""
    model_low_uc: int | None
    model_high_uc: int | None
    """Cheapest and dearest of the robots that could do it, by the cost model."""
    settled_low_uc: int | None
    settled_high_uc: int | None
    """Conformal interval over the recent settlements of the same kind, zone and load, scaled to this task."""
    samples: int
    """Past tasks that the band is calibrated on."""
    age_s: float | None
    """Age of the newest closed batch that it rests on."""
    coverage: float | None
    """Share of the recent past tasks whose price their own bands held."""
    thin: bool
    """Rests on too little; the band is wide, and nobody should pay much for it."""
    reasons: tuple[str, ...]
    unknown: tuple[str, ...]
    load: float | None = None
    """Lots per robot that asked, in the recent market."""
    robots: int = 0
    """Robots that could do it, as far as known."""
    used: Mapping[RobotId, int] | None = None
    """Whose telemetry was used, and how many observations of each: for the sharing of a fee; not shown to the buyer."""


class Verdict(StrEnum):
    """Where a price lies."""

    BELOW = "below"
    FAIR = "fair"
    ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an ask or a settlement is to the market."""

    verdict: Verdict
    percentile: float | None
    """Share of comparable prices, scaled to this task, that are below it; None without samples."""
    excess_uc: int
    """By how much it is above the band; below 0: by how much it is below it."""
    quote: FairQuote


class Choice(StrEnum):
    """What a robot does with a contract that it holds."""

    DO = "do"
    RESELL = "resell"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class MakeOrBuy:
    """Do it, resell it now, or wait and resell it later; `gain_uc` is against doing it."""

    choice: Choice
    gain_uc: int
    do_uc: int
    """What doing it costs the robot itself."""
    resell_uc: int
    """What another is expected to take for it now."""
    wait_uc: int | None
    """What another is expected to take for it at `wait_ns`."""
    wait_ns: int | None
    quote: FairQuote


@dataclass(frozen=True, slots=True)
class Budget:
    """The least maximum price with which a task is expected to be sold and done in time with a probability."""

    budget_uc: int | None
    """None: no budget reaches the probability, as far as known."""
    probability: float
    sold_probability: float
    in_time_probability: float
    quote: FairQuote
    known: bool = True
    """False: too little is known to tell whether any budget reaches it."""


@dataclass(frozen=True, slots=True)
class BestTime:
    """When to post: the time at which the expected price is lowest."""

    at_ns: int
    expected_uc: int
    saving_uc: int
    """Against posting at once; 0 where nothing is gained for sure."""
    quotes: tuple[tuple[int, FairQuote], ...]
    """The times looked at, with their bands."""


@dataclass(frozen=True, slots=True)
class Congestion:
    """How full a zone is, or will be."""

    zone: ZoneId
    at_ns: int
    load: float | None
    """Lots per robot that asks."""
    load_low: float | None
    load_high: float | None
    """Range of the load in the past at the same distance in time, 10 and 90 % quantiles."""
    busy: Mapping[Resource, float]
    """Mean share of time that chargers, corridors and lifts are busy."""
    waiting: Mapping[Resource, int]
    samples: int


def _point(source: str, field: str, value: Point) -> None:
    if len(value) != 2 or not all(math.isfinite(v) for v in value):
        raise InputError(source, field, value, "use two finite numbers, metres")


def _at_least_zero(source: str, field: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(source, field, value, "use a finite number of at least 0")
