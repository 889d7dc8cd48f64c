"""From a forecast to a fair quote: the band, the numbers it follows from, and what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.oracle.conformal import LEAST, Track
from fleet_market.oracle.fleet import Fleet
from fleet_market.oracle.learning import FloatArray
from fleet_market.oracle.terms import FairQuote, Question
from fleet_market.oracle.zone_view import Forecast, ZoneView
from fleet_market.units import MICROCREDITS_PER_CREDIT, NS_PER_S

NOW_NS = 30 * NS_PER_S
"""A time nearer than this is now."""
THIN_FACTOR = 2.0
"""Without a calibration the band runs from the lowest guess by this factor to the highest by this factor [assumption]."""
LEAST_SETTLEMENTS = 5
OLD_S = 600.0
"""A band on older batches than this is thin [assumption]."""
BIDDERS = 5
"""So many of the cheapest robots stand for those that could do a task."""
DRIFTED = 0.1


@dataclass(frozen=True, slots=True)
class Privacy:
    """How what is private is kept so.

    Parameters
    ----------
    delay_ns : int
        Robots' states, calibration and settlements are used only when they are so old; at least 0.
    least_robots : int
        A number that comes from fewer robots is not told; at least 1.
    """

    delay_ns: int = 4 * NS_PER_S
    least_robots: int = 3

    def __post_init__(self) -> None:
        if self.delay_ns < 0:
            raise InputError("privacy", "delay_ns", self.delay_ns, "use at least 0")
        if self.least_robots < 1:
            raise InputError("privacy", "least_robots", self.least_robots, "use at least 1")


def quote_now(view: ZoneView, task: Question, now_ns: int, confidence: float, privacy: Privacy) -> FairQuote:
    """Return the band of a task as of now.

    Raises
    ------
    InputError
        If nothing is known of the zone yet.
    """
    forecast = view.forecast(task)
    if forecast is None:
        raise InputError("quote", "zone", str(task.zone), "ask when batches have closed there: nothing is known yet")
    track = view.errors.best(forecast.groups)
    shadow, costs = forecast.shadow, forecast.costs_uc
    if track is not None:
        below, above = track.interval(confidence)
        ends = (below, track.middle(), above)
        low, expected, high = (math.exp(forecast.expected_log + forecast.spread * end) for end in ends)
    else:
        guesses = [math.exp(forecast.expected_log), *costs[:2].tolist(), view.reference_uc(task)]
        low, high, expected = min(guesses) / THIN_FACTOR, max(guesses) * THIN_FACTOR, guesses[0]
    told = len(costs) >= privacy.least_robots
    return _quote(
        view,
        task,
        now_ns,
        track,
        (low, expected, high),
        confidence,
        forecast=forecast,
        shadow=(shadow.low_uc, shadow.high_uc) if shadow is not None and told else (None, None),
        model=_model(costs) if told else (None, None, None),
        privacy=privacy,
    )


def quote_later(view: ZoneView, task: Question, now_ns: int, at_ns: int, confidence: float, privacy: Privacy) -> FairQuote:
    """Return the band of a task that is posted at a later time.

    Raises
    ------
    InputError
        If nothing is known of the zone yet.
    """
    found = view.outlook.forecast(now_ns, at_ns)
    if found is None or not view.fleet.costs.known:
        raise InputError("quote", "zone", str(task.zone), "ask when batches have closed there: nothing is known yet")
    level, errors = found
    reference_uc = view.reference_uc(task)
    track = errors if len(errors) >= 2 else None
    if track is not None:
        below, above = track.interval(confidence)
        low, high = (reference_uc * math.exp(level + end) for end in (below, above))
        expected = reference_uc * math.exp(level + track.middle())
    else:
        expected = reference_uc * math.exp(level)
        low, high = expected / THIN_FACTOR, expected * THIN_FACTOR
    ends = (low, expected, high)
    return _quote(view, task, now_ns, track, ends, confidence, privacy=privacy, later_s=(at_ns - now_ns) / NS_PER_S)


def _quote(
    view: ZoneView,
    task: Question,
    now_ns: int,
    track: Track | None,
    ends: tuple[float, float, float],
    confidence: float,
    *,
    privacy: Privacy,
    forecast: Forecast | None = None,
    shadow: tuple[int | None, int | None] = (None, None),
    model: tuple[int | None, int | None, int | None] = (None, None, None),
    later_s: float = 0.0,
) -> FairQuote:
    low_uc, expected_uc, high_uc = math.floor(ends[0]), round(ends[1]), math.ceil(ends[2])
    age_s = (now_ns - view.newest_ns) / NS_PER_S if view.newest_ns is not None else None
    settled = _settled(view, task, confidence, forecast, privacy)
    robots = len(forecast.robots) if forecast is not None else 0
    samples = len(track) if track is not None else 0
    few = forecast is not None and robots < privacy.least_robots
    thin = samples < LEAST or few or age_s is None or age_s > OLD_S
    quote = FairQuote(
        low_uc=low_uc,
        high_uc=max(high_uc, low_uc),
        confidence=confidence,
        expected_uc=min(max(expected_uc, low_uc), high_uc),
        shadow_low_uc=shadow[0],
        shadow_high_uc=shadow[1],
        second_best_uc=model[1],
        model_low_uc=model[0],
        model_high_uc=model[2],
        settled_low_uc=settled[0],
        settled_high_uc=settled[1],
        samples=samples,
        age_s=age_s,
        coverage=track.coverage(confidence) if track is not None else None,
        thin=thin,
        reasons=(),
        unknown=(),
        load=forecast.load if forecast is not None else None,
        robots=robots,
        used=_used(view.fleet, forecast.robots) if forecast is not None else {},
    )
    return _with_words(quote, view, privacy, later_s)


def _model(costs: FloatArray) -> tuple[int | None, int | None, int | None]:
    """Return the cheapest, the second-best and the dearest of those that come into question."""
    some = costs[:BIDDERS]
    return round(some[0]), round(some[1]) if len(some) > 1 else None, round(some[-1])


def _settled(
    view: ZoneView, task: Question, confidence: float, forecast: Forecast | None, privacy: Privacy
) -> tuple[int | None, int | None]:
    """Return the interval of the recent settlements, scaled to the task, where enough robots made enough of them."""
    track = view.settled.best(forecast.groups if forecast is not None else ((task.kind,), ()))
    if track is None or len(track) < LEAST_SETTLEMENTS or len(view.settlers) < privacy.least_robots:
        return None, None
    below, above = track.interval(confidence)
    reference_uc = view.reference_uc(task)
    return math.floor(reference_uc * math.exp(below)), math.ceil(reference_uc * math.exp(above))


def _used(fleet: Fleet, robots: Sequence[RobotId]) -> dict[RobotId, int]:
    return {robot: heard for robot in robots if (heard := fleet.robots[robot].heard) > 0}


def _with_words(quote: FairQuote, view: ZoneView, privacy: Privacy, later_s: float) -> FairQuote:
    reasons, unknown = [], ["detours: ways are air lines, with the mean detour that asks show"]
    if quote.shadow_low_uc is not None:
        top = _credits(quote.shadow_high_uc) if quote.shadow_high_uc is not None else "no bound"
        reasons.append(f"competitive prices in the market as it stands: {_credits(quote.shadow_low_uc)} to {top}")
    if quote.model_low_uc is not None and quote.second_best_uc is not None:
        best, second = _credits(quote.model_low_uc), _credits(quote.second_best_uc)
        reasons.append(f"cheapest of {quote.robots} robots by the cost model {best}, second best {second}")
    if quote.settled_low_uc is not None and quote.settled_high_uc is not None:
        ends = f"{_credits(quote.settled_low_uc)} to {_credits(quote.settled_high_uc)}"
        reasons.append(f"recent settlements of this kind and load, scaled to this task: {ends}")
    if quote.load is not None:
        reasons.append(f"load {quote.load:.2f} lots on sale per robot that would ask")
    if later_s:
        reasons.append(f"forecast {later_s:.0f} s ahead, from the level of prices and what is usual")
    if quote.samples:
        held = f", their bands held {quote.coverage:.0%}" if quote.coverage is not None else ""
        reasons.append(f"calibrated on {quote.samples} past tasks{held}")
    drifted = sum(abs(factor - 1) > DRIFTED for factor in view.fleet.drift.values())
    if len(view.fleet.drift) >= privacy.least_robots:
        reasons.append(
            f"{drifted} of {len(view.fleet.drift)} robots use over {DRIFTED:.0%} more or less energy than their type"
        )
    if quote.robots < privacy.least_robots and not later_s:
        unknown.append(
            f"single robots' costs: {quote.robots} could do it, numbers are told of {privacy.least_robots} or more"
        )
    if quote.shadow_low_uc is not None and quote.shadow_high_uc is None:
        unknown.append("an upper end by competition: only one robot could do it")
    unknown.append("budgets of orders that no batch has closed on yet, and asks of open batches")
    if later_s:
        unknown.append("which robots will be near at that time")
    if quote.thin:
        unknown.append(f"the market is thin: {quote.samples} comparable tasks")
    return replace(quote, reasons=tuple(reasons), unknown=tuple(unknown))


def _credits(amount_uc: int) -> str:
    return f"{amount_uc / MICROCREDITS_PER_CREDIT:.2f}"
