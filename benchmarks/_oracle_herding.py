"""Herding on the oracle: whether prices drift and asks lose their variety when everybody looks at the same bands.

In the town of `benchmarks._oracle_town` every order's band is public from the moment in which it is posted, which is sooner
and finer than the product tells it. All buyers act on it as `fleet-market order post --consult` does. Robots either ask
what a task costs them, as the product's do, or half of them follow the crowd: they ask half-way to the band's middle, never
below their cost. Against these the same plan is run without an oracle. In one more run all bands of one batch are too high
by half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks._oracle_buyers import ask, name_naive
from benchmarks._oracle_sale import interval
from benchmarks._oracle_town import (
    BATCH_S,
    LOADS,
    SIDE_M,
    START_UC,
    TASK_UC_PER_M,
    WAY_UC_PER_M,
    Closed,
    Order,
    Plan,
    Robot,
    Town,
)
from benchmarks.report import Options, Row
from fleet_market.oracle import FairQuote, Knowledge
from fleet_market.oracle.demand import budget_uc
from fleet_market.oracle.terms import Question
from fleet_market.units import seconds

ORDERS, QUICK_ORDERS = 400, 250
FOLLOWERS = {"robots ask their cost": 0.0, "half of the robots follow": 0.5}
"""Share of the robots that follow the crowd."""
PULL = 0.5
"""How far a robot that follows moves the logarithm of its ask to that of the band's middle [assumption]."""
WRONG_FROM, WRONG = 200, 1.5
"""All bands are wrong in the first batch from this one on into which an order comes, and by which factor."""
TRACED = 20
"""Batches after the wrong one in which its trace is looked for."""
WARM = 50
"""First orders of a run, which are not counted: the oracle knows little yet."""
WINDOW = 10
"""Orders over which a deviation is averaged: single ones scatter [assumption]."""
USUAL = (0.025, 0.975)
"""Quantiles of the averaged deviations, in the run without the error, that are the usual range."""


def rows(options: Options) -> list[Row]:
    """Return the rows of this part."""
    orders = QUICK_ORDERS if options.quick else ORDERS
    found = []
    for what, share in FOLLOWERS.items():
        found += _rows(what, [_seed(seed, orders, share) for seed in options.seeds])
    return found


@dataclass(slots=True)
class Crowd:
    """Buyers who all consult one oracle, and robots some of which ask what it says.

    Parameters
    ----------
    knowledge : Knowledge or None
        None: nobody consults.
    followers : float
        Share of the robots that follow.
    wrong_batch : int or None
        The batch in which every band is multiplied by `WRONG`.
    """

    knowledge: Knowledge | None
    followers: float = 0.0
    wrong_batch: int | None = None
    spread: list[float] = field(default_factory=list)
    """log(ask / what a usual robot would ask), of all asks."""
    sold_s: dict[str, float] = field(default_factory=dict)
    """When an order was sold, seconds."""
    _told: dict[str, tuple[int, FairQuote | None]] = field(default_factory=dict)

    def decide(self, town: Town, order: Order) -> None:
        """Act on the band: at most its top, or not at all."""
        name_naive(town, order)
        quote = order.quote = self._quote(town, order)
        if quote is None or quote.thin:
            return
        wanted_uc = budget_uc(order.value_uc, quote.low_uc, quote.high_uc, thin=False)
        order.given_up, order.budget_uc = wanted_uc is None, wanted_uc or 0

    def asks_uc(self, town: Town, robot: Robot, order: Order) -> int:
        """Return what a robot asks."""
        cost_uc, number = robot.cost_uc(order.task), int(robot.name.removeprefix("r"))
        if number >= round(self.followers * len(town.robots)):
            return cost_uc
        quote = self._quote(town, order)
        if quote is None or quote.thin:
            return cost_uc
        middle_uc = max(1, quote.expected_uc)
        return max(cost_uc, round(math.pow(cost_uc, 1 - PULL) * math.pow(middle_uc, PULL)))

    def closed(self, town: Town, batch: Closed) -> None:
        """Note the asks of a closed batch."""
        usual = {order.id: math.log(usual_uc(order.task)) for order in town.open}
        self.spread += [math.log(ask.ask_uc) - usual[ask.order] for ask in batch.asks]

    def before(self, town: Town) -> None:
        """Note what was sold in the batch before."""
        for order in town.over:
            self.sold_s.setdefault(order.id, seconds(town.now_ns) - BATCH_S)

    def _quote(self, town: Town, order: Order) -> FairQuote | None:
        """Return the band as everyone sees it in this batch."""
        if self.knowledge is None:
            return None
        known = self._told.get(order.id)
        if known is None or known[0] != town.now_ns:
            quote = ask(self.knowledge, town, order)
            if quote is not None and self.wrong_batch == round(seconds(town.now_ns) / BATCH_S):
                quote = scaled(quote, WRONG)
            known = self._told[order.id] = town.now_ns, quote
        return known[1]


def scaled(quote: FairQuote, factor: float) -> FairQuote:
    """Return a quote whose band is multiplied by `factor`."""
    low_uc, expected_uc, high_uc = (round(factor * uc) for uc in (quote.low_uc, quote.expected_uc, quote.high_uc))
    return replace(quote, low_uc=low_uc, expected_uc=expected_uc, high_uc=high_uc)


def usual_uc(task: Question) -> float:
    """Return what a robot of the usual factor would ask for a task from the usual distance, without the load."""
    return START_UC + WAY_UC_PER_M * 0.25 * SIDE_M + TASK_UC_PER_M * math.dist(task.start, task.goal)


@dataclass(frozen=True, slots=True)
class Found:
    """What one seed has shown."""

    prices_uc: tuple[float, float]
    """Sum over the orders that were sold in both runs: with, without."""
    truth_uc: tuple[float, float]
    """Sum of the full-information prices of all costs and values, over what was sold in each run."""
    paid_uc: tuple[float, float]
    """Sum of what was paid for that."""
    spread: tuple[float, float]
    """Interquartile range of log(ask / usual ask)."""
    bands_after: float | None
    """Batches after the wrong one until bands are in their usual range again; None: not until the end."""
    prices_after: float | None
    trace: float
    """Mean of the logarithm by which bands of the `TRACED` batches after differ from those of the run without the error."""


def _seed(seed: int, orders: int, followers: float) -> Found:
    plan = Plan.draw(seed, orders, LOADS["usual"])
    runs = [_run(plan, Crowd(None)), _run(plan, Crowd(Knowledge(), followers))]
    batch = wrong_batch(plan)
    wrong = _run(plan, Crowd(Knowledge(), followers, batch))
    (without, _), (with_, _) = runs
    both = [(a, b) for a, b in zip(with_, without, strict=True) if a.price_uc is not None and b.price_uc is not None]
    sold = [[o for o in run[WARM:] if o.price_uc is not None and o.fair_uc is not None] for run in (with_, without)]
    return Found(
        (float(sum(a.price_uc or 0 for a, _ in both[WARM:])), float(sum(b.price_uc or 0 for _, b in both[WARM:]))),
        (float(sum(o.fair_uc or 0 for o in sold[0])), float(sum(o.fair_uc or 0 for o in sold[1]))),
        (float(sum(o.price_uc or 0 for o in sold[0])), float(sum(o.price_uc or 0 for o in sold[1]))),
        (quartiles(runs[1][1].spread), quartiles(runs[0][1].spread)),
        corrected(_bands(with_, batch), _bands(wrong[0], batch)),
        corrected(_prices(*runs[1], batch), _prices(*wrong, batch)),
        trace(with_, wrong[0], batch),
    )


def wrong_batch(plan: Plan) -> int:
    """Return the number of the batch in which all bands are wrong."""
    return next((at for order in plan.orders if (at := posted(order)) >= WRONG_FROM), WRONG_FROM)


def posted(order: Order) -> int:
    """Return the batch into which an order comes."""
    return math.ceil(seconds(order.post_ns) / BATCH_S)


def _run(plan: Plan, crowd: Crowd) -> tuple[list[Order], Crowd]:
    town = Town(plan, crowd.decide, crowd.knowledge, closed=crowd.closed, before=crowd.before, asking=crowd.asks_uc)
    return town.run(), crowd


def quartiles(values: Sequence[float]) -> float:
    """Return the interquartile range."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low)


Deviation = tuple[float, float]
"""When, in batches after the wrong one, and by how much a logarithm was off."""


def _bands(orders: Sequence[Order], batch: int) -> list[Deviation]:
    """Return how far bands' middles were from the full-information price of their orders, by the time of posting."""
    return [
        (posted(o) - batch, math.log(o.quote.expected_uc / o.fair_uc))
        for o in orders[WARM:]
        if o.quote is not None and not o.quote.thin and o.fair_uc is not None
    ]


def _prices(orders: Sequence[Order], crowd: Crowd, batch: int) -> list[Deviation]:
    """Return how far prices were from the full-information price, by the time of the sale."""
    return sorted(
        (crowd.sold_s[o.id] / BATCH_S - batch, math.log(o.price_uc / o.fair_uc))
        for o in orders[WARM:]
        if o.price_uc is not None and o.fair_uc is not None
    )


def corrected(usual: Sequence[Deviation], wrong: Sequence[Deviation]) -> float | None:
    """Return after how many batches the mean deviation of the next orders is in its usual range; None if it never is.

    Parameters
    ----------
    usual : sequence of (batch, deviation)
        Of the run without the error.
    wrong : sequence of (batch, deviation)
        Of the run with it; the wrong batch is number 0.
    """
    means = _means([off for _, off in usual])
    low, high = np.quantile(means, USUAL)
    after = [(at, off) for at, off in wrong if at > 0]
    for (at, _), mean in zip(after, _means([off for _, off in after]), strict=False):
        if low <= mean <= high:
            return at
    return None


def trace(usual: Sequence[Order], wrong: Sequence[Order], batch: int) -> float:
    """Return the mean logarithm by which bands soon after the wrong batch differ from those of the other run."""
    ratios = [
        math.log(b.quote.expected_uc / a.quote.expected_uc)
        for a, b in zip(usual, wrong, strict=True)
        if a.quote is not None and b.quote is not None and 0 < posted(a) - batch <= TRACED
    ]
    return float(np.mean(ratios)) if ratios else 0.0


def _means(values: Sequence[float]) -> list[float]:
    return np.convolve(values, np.ones(WINDOW) / WINDOW, mode="valid").tolist() if len(values) >= WINDOW else []


def _rows(what: str, found: Sequence[Found]) -> list[Row]:
    def moved(some: Sequence[Found]) -> float:
        return 100 * (sum(f.prices_uc[0] for f in some) / sum(f.prices_uc[1] for f in some) - 1)

    def kept(some: Sequence[Found]) -> float:
        return 100 * sum(f.spread[0] for f in some) / sum(f.spread[1] for f in some)

    def off(some: Sequence[Found], run: int = 0) -> float:
        return 100 * (sum(f.paid_uc[run] for f in some) / sum(f.truth_uc[run] for f in some) - 1)

    note = f"either way; {off(found):+.2f} %, {interval(found, off)}; without bands {off(found, 1):+.2f} %"
    rows = [
        Row(f"{what}: mean settled price off the full-information price", abs(off(found)), "%", 5.0, note=note),
        Row(
            f"{what}: mean settled price moved by bands, against the run without",
            abs(moved(found)),
            "%",
            5.0,
            note=f"either way; {moved(found):+.2f} %, {interval(found, moved)}",
        ),
        Row(
            f"{what}: spread of asks (interquartile range of the logarithm) against none",
            kept(found),
            "%",
            50.0,
            "higher",
            interval(found, kept),
        ),
    ]
    for name, values in (("bands", [f.bands_after for f in found]), ("prices", [f.prices_after for f in found])):
        rows.append(_correction_row(f"{what}: batches until {name} are as usual after one of x{WRONG:g}", values))
    traces = [100 * f.trace for f in found]
    what = f"{what}: bands in the {TRACED} batches after, against the run without the error"
    return [*rows, Row(what, _mean(traces), "%", note=interval(traces, _mean))]


def _correction_row(what: str, values: Sequence[float | None]) -> Row:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Row(what, None, "batches", 20.0, note=f"never in {len(values) - len(known)} of {len(values)} runs")
    note = f"the slowest run; mean {np.mean(known):.1f}, {interval(known, _mean)}"
    return Row(what, max(known), "batches", 20.0, note=note)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
