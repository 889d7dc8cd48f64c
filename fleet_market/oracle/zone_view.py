"""One zone as the oracle sees it: what is on sale, who would do it, and what tasks have cost there.

When an order comes on sale its price is forecast, as if somebody had asked. When it is sold, the full-information price of
its batch (`fleet_market.oracle.bands`) is compared with that forecast: that is what intervals are made of. Only then the
forecasts learn from the batch. Whether anybody asks anything changes nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from fleet_market.auction.clearing import LotOffer
from fleet_market.auction.matching import Edges
from fleet_market.ids import Identifier, OrderId, RobotId
from fleet_market.oracle.bands import FairBand, fair_bands
from fleet_market.oracle.conformal import Groups
from fleet_market.oracle.fleet import Candidates, Fleet, length_m
from fleet_market.oracle.learning import FloatArray, Regression
from fleet_market.oracle.outlook import Outlook
from fleet_market.oracle.shadow import LiveMarket, Shadow
from fleet_market.oracle.spread import Spread
from fleet_market.oracle.spread import features as spread_features
from fleet_market.oracle.terms import ClosedBatch, OrderGone, OrderSeen, Question, RobotState, Settlement
from fleet_market.units import NS_PER_S, ns

NEAREST = 40
"""Robots that a task is offered to, the cheapest by the model."""
OFFERED = 20
"""Lots that a robot is offered: `MarketTerms.lots_per_robot`."""
MOST_TASKS = 20_000
REFRESH_NS = 2 * NS_PER_S
"""How old the live market may be, with a robot's state known since: one batch period."""
LOAD_EDGES = (0.1, 0.3, 1.0, 3.0)
"""Lots per robot at which tasks stop being alike [assumption]."""
BLEND_MEMORY = 1000.0
BLEND_PRIOR = np.array([5.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0])
"""Samples that each correction of a forecast must have earned before it counts [assumption]."""
BUDGET_MEMORY = 300.0
WAY_MEMORY = 100.0
USUAL_BUDGET = 2.0
"""Budget over reference cost, before any was seen [assumption]."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a task is thought to cost now, and why. Money is micro-credits."""

    expected_log: float
    """Natural logarithm of the expected full-information price."""
    spread: float
    """By how much it is expected to be off, in the mean; errors are related to it."""
    features: FloatArray
    spread_features: FloatArray
    base_log: float
    shadow: Shadow | None
    costs_uc: FloatArray
    """Of the robots that could do it, whether they would ask now or not, the cheapest first."""
    robots: tuple[RobotId, ...]
    """In the same order."""
    load: float
    groups: tuple[Hashable, ...]
    """From the finest to the coarsest."""


@dataclass(frozen=True, slots=True)
class _Sold:
    """A task under way, as it was when it was sold."""

    groups: tuple[Hashable, ...]
    reference_uc: float
    way_m: float


class ZoneView:
    """What is known of a zone."""

    def __init__(self) -> None:
        self.fleet, self.outlook = Fleet(), Outlook()
        self.errors = Groups()
        """log(full-information price / forecast), as a multiple of the forecast's spread."""
        self.settled = Groups()
        """log(price / reference cost) of settlements."""
        self.floors = Groups()
        """log(least price at which a lot was sold / forecast)."""
        self.lasting = Groups()
        """log(seconds from award to settlement / reference way in metres)."""
        self.settlers: set[RobotId] = set()
        self.on_sale: OrderedDict[OrderId, Question] = OrderedDict()
        self.newest_ns: int | None = None
        self.batches = 0
        self._budgets: dict[OrderId, int] = {}
        self._ends_ns: dict[OrderId, int] = {}
        self._sold: OrderedDict[OrderId, _Sold] = OrderedDict()
        self._blends = {
            served: Regression(np.zeros(len(BLEND_PRIOR)), BLEND_PRIOR, BLEND_MEMORY) for served in (True, False)
        }
        self._spread = Spread()
        self._usual_way_m, self._usual_budget_log, self._usual_log = 0.0, math.log(USUAL_BUDGET), 0.0
        self._present: Candidates = self.fleet.candidates([])
        self._asking = self._present
        self._market = LiveMarket(0, [], [])
        self._columns: dict[OrderId, int] = {}
        self._forecasts: dict[OrderId, Forecast] = {}
        self._twins: dict[Hashable, OrderId] = {}
        self._made_ns: int | None = None
        self._moved = False

    def copy(self) -> ZoneView:
        """Return a view that can hear a batch, or match the market anew, while this one answers.

        The matched market is shared, since either replaces it: until then neither may hear anything else.
        """
        other = ZoneView()
        vars(other).update(vars(self))
        other.fleet, other.outlook = self.fleet.copy(), self.outlook.copy()
        for groups in ("errors", "settled", "floors", "lasting"):
            setattr(other, groups, getattr(self, groups).copy())
        other.settlers = self.settlers.copy()
        other.on_sale, other._sold = self.on_sale.copy(), self._sold.copy()
        other._budgets, other._ends_ns = self._budgets.copy(), self._ends_ns.copy()
        other._forecasts, other._twins = self._forecasts.copy(), self._twins.copy()
        other._blends = {served: blend.copy() for served, blend in self._blends.items()}
        other._spread = self._spread.copy()
        return other

    # --- what comes in -----------------------------------------------------------------------------------------------

    def order_seen(self, seen: OrderSeen) -> None:
        """Take an order that came on sale into the market."""
        if seen.order in self.on_sale:
            return
        if (forecast := self.forecast(seen.task)) is not None:
            self._forecasts[seen.order] = forecast
        self._keep(seen.order, seen.task, seen.seen_ns)
        if self.fleet.costs.known:
            self._columns[seen.order] = self._market.add(self._edges(seen.task), self._budget_uc(seen.order, seen.task))

    def order_gone(self, gone: OrderGone) -> None:
        """Take out an order that is no longer on sale."""
        self._drop(gone.order)

    def robot_seen(self, state: RobotState) -> None:
        """Take in a robot's state."""
        self.fleet.hear(state)
        self._moved = True

    def is_due(self, now_ns: int) -> bool:
        """Return whether the market is to be matched anew: robots have moved since, and it is old enough."""
        return self._moved and (self._made_ns is None or now_ns - self._made_ns >= REFRESH_NS)

    def settlement(self, settled: Settlement) -> None:
        """Learn what a task was paid."""
        sold = self._sold.pop(settled.order, None)
        if sold is None:
            return
        self.settlers.add(settled.robot)
        if settled.price_uc > 0:
            self.settled.add(sold.groups, math.log(settled.price_uc / sold.reference_uc))
        if settled.settled_ns > settled.awarded_ns:
            lasted_s = (settled.settled_ns - settled.awarded_ns) / NS_PER_S
            self.lasting.add(sold.groups, math.log(lasted_s / sold.way_m))

    def batch_closed(self, batch: ClosedBatch, now_ns: int) -> list[FairBand]:
        """Learn from a closed batch; return the bands of all lots that its optimum would sell."""
        tasks = {lot.order: task for lot in batch.lots if (task := lot.task or self.on_sale.get(lot.order)) is not None}
        offers = [LotOffer(lot.order, lot.budget_uc) for lot in batch.lots]
        sold = {lot.order for lot in batch.lots if lot.winner is not None} & tasks.keys()
        found = fair_bands(offers, batch.asks)
        bands = {band.order: band for band in found if band.order in sold}
        self._compare(bands)
        self._learn_ways(batch, tasks)
        self.fleet.learn(batch, tasks)
        if self.fleet.costs.known:
            self._learn_levels(batch, tasks, bands)
        self._columns = {}  # the market is matched anew below: nothing need be taken out of this one
        for lot in batch.lots:
            if lot.winner is not None:
                self._drop(lot.order)
            elif lot.order in tasks:
                self._budgets[lot.order] = lot.budget_uc
                if lot.order not in self.on_sale:
                    self._keep(lot.order, tasks[lot.order], batch.closed_ns)
        self.newest_ns = max(batch.closed_ns, self.newest_ns or 0)
        self.batches += 1
        self.renew(now_ns)
        return found

    # --- what is thought of a task -----------------------------------------------------------------------------------

    def forecast(self, task: Question) -> Forecast | None:
        """Return what a task would cost if it came into the market as it stands, None before anything was learned."""
        if not self.fleet.costs.known:
            return None
        costs = self._asking.costs_uc(task, self.fleet.costs)
        rows = _cheapest(costs)
        able_uc = self._present.costs_uc(task, self.fleet.costs)
        able = _cheapest(able_uc)
        load = len(self._columns) / max(1, len(self._asking.robots))
        edges = [(int(row), round(costs[row])) for row in rows]
        twin = self._twins.get(_likeness(task))
        shadow = self._market.shadow(edges, instead_of=self._columns.get(twin) if twin is not None else None)
        ends_uc = self._ends_uc(task, shadow)
        features, base_log = self._features(task, costs[rows], shadow, ends_uc, load)
        off_by = spread_features(len(self._asking.robots), *ends_uc)
        return Forecast(
            expected_log=base_log + float(features @ self._blends[shadow is not None].weights),
            spread=self._spread.expected(off_by),
            features=features,
            spread_features=off_by,
            base_log=base_log,
            shadow=shadow,
            costs_uc=able_uc[able],
            robots=tuple(self._present.robots[row] for row in able),
            load=load,
            groups=_groups(task.kind, load, served=shadow is not None),
        )

    def reference_uc(self, task: Question) -> float:
        """Return what a robot at the usual distance would ask, micro-credits: prices of unlike tasks are related to it."""
        costs = self.fleet.costs.costs_uc(np.array([self._usual_way_m]), length_m(task), task.payload_kg)
        return float(costs[0])

    def way_m(self, task: Question) -> float:
        """Return the usual way to a task and the task's own, metres, at least 1."""
        return max(1.0, self._usual_way_m + length_m(task))

    # --- learning ----------------------------------------------------------------------------------------------------

    def _compare(self, bands: dict[OrderId, FairBand]) -> None:
        found = [(self._forecasts[order], order) for order in bands if order in self._forecasts]
        if not found:
            return
        logs = np.array([math.log(max(1, bands[order].fair_uc)) for _, order in found])
        errors = logs - np.array([forecast.expected_log for forecast, _ in found])
        self._spread.learn(np.stack([forecast.spread_features for forecast, _ in found]), errors)
        for (forecast, order), error in zip(found, errors.tolist(), strict=True):
            self.errors.add(forecast.groups, error / forecast.spread)
            self.floors.add(forecast.groups, math.log(max(1, bands[order].low_uc)) - forecast.expected_log)
        for served, blend in self._blends.items():
            mine = [i for i, (forecast, _) in enumerate(found) if (forecast.shadow is not None) is served]
            if mine:
                bases = np.array([found[i][0].base_log for i in mine])
                blend.learn(np.stack([found[i][0].features for i in mine]), logs[mine] - bases)

    def _learn_ways(self, batch: ClosedBatch, tasks: dict[OrderId, Question]) -> None:
        for lot in batch.lots:
            if lot.winner in self.fleet.robots and lot.order in tasks:
                place, start = self.fleet.robots[lot.winner].place, tasks[lot.order].start
                self._usual_way_m += (math.dist(place, start) - self._usual_way_m) / WAY_MEMORY

    def _learn_levels(self, batch: ClosedBatch, tasks: dict[OrderId, Question], bands: dict[OrderId, FairBand]) -> None:
        load = len(batch.lots) / max(1, len({ask.robot for ask in batch.asks}))
        logs = [math.log(max(1, band.fair_uc) / self.reference_uc(tasks[order])) for order, band in bands.items()]
        self.outlook.hear(batch.closed_ns, logs, load)
        waiting = len(self._columns) / max(1, len(self._asking.robots))
        for lot in batch.lots:
            if lot.order not in tasks:
                continue
            task = tasks[lot.order]
            reference_uc = self.reference_uc(task)
            self._usual_log += (math.log(reference_uc) - self._usual_log) * (1 / BUDGET_MEMORY if self._usual_log else 1.0)
            if lot.budget_uc > 0:
                self._usual_budget_log += (math.log(lot.budget_uc / reference_uc) - self._usual_budget_log) / BUDGET_MEMORY
            if lot.winner is not None:
                self._sold[lot.order] = _Sold(_groups(task.kind, waiting, served=True), reference_uc, self.way_m(task))
        while len(self._sold) > MOST_TASKS:
            self._sold.popitem(last=False)

    def _ends_uc(self, task: Question, shadow: Shadow | None) -> tuple[float, float]:
        """Return the ends of the competitive prices; where competition sets none, the usual cost and the usual budget."""
        budget_uc = self._budget_uc(None, task)
        if shadow is None:
            return self.reference_uc(task), budget_uc
        return shadow.low_uc, shadow.high_uc if shadow.high_uc is not None else max(shadow.low_uc, budget_uc)

    def _features(
        self, task: Question, costs: FloatArray, shadow: Shadow | None, ends_uc: tuple[float, float], load: float
    ) -> tuple[FloatArray, float]:
        """Return what a forecast's corrections depend on, (8,), and the logarithm of what they correct."""
        reference_log = math.log(self.reference_uc(task))
        usual_log, crowd = reference_log + self.outlook.level, math.log1p(load)
        length = reference_log - self._usual_log
        if shadow is None:
            return np.array([1.0, 0.0, 0.0, crowd, 0.0, 0.0, 0.0, length]), usual_log
        budget_uc = self._budget_uc(None, task)
        middle_uc = max(1.0, sum(ends_uc) / 2)
        ratio = np.log(np.maximum(costs[[0, min(1, len(costs) - 1)]], 1.0) / middle_uc)
        above = min(0.0, math.log(max(1, budget_uc) / middle_uc))
        middle_log, alone = math.log(middle_uc), float(shadow.high_uc is None)
        return np.array([1.0, *ratio, crowd, above, alone, usual_log - middle_log, length]), middle_log

    # --- the live market ---------------------------------------------------------------------------------------------

    def renew(self, now_ns: int) -> None:
        """Match what is on sale anew with who would ask now."""
        self._columns = {}
        for order in [order for order, end_ns in self._ends_ns.items() if end_ns < now_ns]:
            self._drop(order)
        self._made_ns, self._moved = now_ns, False
        self._present = self.fleet.candidates(self.fleet.present(now_ns))
        self._asking = self.fleet.candidates(self.fleet.likely(now_ns))
        if not self.fleet.costs.known:
            return
        orders = list(self.on_sale)
        edges: list[Edges] = [[] for _ in orders]
        if orders and self._asking.robots:
            costs = np.stack([self._asking.costs_uc(task, self.fleet.costs) for task in self.on_sale.values()])
            offered = min(OFFERED, len(orders))
            near = np.argpartition(costs, offered - 1, axis=0)[:offered]
            for row, column in zip(*(index.ravel().tolist() for index in (np.indices(near.shape)[1], near)), strict=True):
                if math.isfinite(cost := costs[column, row]):
                    edges[column].append((row, round(cost)))
        budgets = [self._budget_uc(order, task) for order, task in self.on_sale.items()]
        self._market = LiveMarket(len(self._asking.robots), edges, budgets)
        self._columns = {order: column for column, order in enumerate(orders)}

    def _edges(self, task: Question) -> Edges:
        costs = self._asking.costs_uc(task, self.fleet.costs)
        return [(int(row), round(costs[row])) for row in _cheapest(costs)]

    def _budget_uc(self, order: OrderId | None, task: Question) -> int:
        """Return the budget of a lot as heard when its batch closed, before that the usual one."""
        known = self._budgets.get(order) if order is not None else None
        return known if known is not None else round(math.exp(self._usual_budget_log) * self.reference_uc(task))

    def _keep(self, order: OrderId, task: Question, seen_ns: int) -> None:
        self.on_sale[order] = task
        self._twins[_likeness(task)] = order
        if task.deadline_s is not None:
            self._ends_ns[order] = seen_ns + ns(task.deadline_s)
        if len(self.on_sale) > MOST_TASKS:
            self._drop(next(iter(self.on_sale)))

    def _drop(self, order: OrderId) -> None:
        task = self.on_sale.pop(order, None)
        self._budgets.pop(order, None)
        self._ends_ns.pop(order, None)
        self._forecasts.pop(order, None)
        if task is not None and self._twins.get(_likeness(task)) == order:
            del self._twins[_likeness(task)]
        if (column := self._columns.pop(order, None)) is not None:
            self._market.remove(column)


def _cheapest(costs: FloatArray) -> Sequence[int]:
    """Return the rows of the cheapest robots, the cheapest first, those that cannot left out."""
    rows = np.argpartition(costs, NEAREST)[:NEAREST] if len(costs) > NEAREST else np.arange(len(costs))
    rows = rows[np.isfinite(costs[rows])]
    ordered: list[int] = rows[np.argsort(costs[rows], kind="stable")].tolist()
    return ordered


def _likeness(task: Question) -> Hashable:
    return task.start, task.goal, task.payload_kg, task.kind


def _groups(kind: Identifier, load: float, *, served: bool) -> tuple[Hashable, ...]:
    bucket = sum(load >= edge for edge in LOAD_EDGES)
    return (kind, bucket, served), (kind,), ()
