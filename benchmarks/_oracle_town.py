"""A small town to try the sale of quotes in: robots with true costs, buyers with true values, sealed batches.

Robots drive straight and ask what a task costs them, which Clarke payments make the best that they can do. Who has won is
busy until it is done. Buyers know what a task is worth to them and name a budget; an order that is not sold is offered
again until its time is over. Everything that a batch has shown is public afterwards, and is what an oracle hears.

All figures of the town are assumptions: 60 m by 60 m, 12 robots of 6 owners, a batch every 10 s, ways at 1 m/s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fleet_market.auction import LotAward, LotOffer, SealedAsk, clear
from fleet_market.ids import MAIN_ZONE, CallId, OrderId, OwnerId, RobotId
from fleet_market.oracle import fair_bands
from fleet_market.oracle.terms import (
    ClosedBatch,
    ClosedLot,
    FairQuote,
    Observation,
    OrderSeen,
    Point,
    Question,
    RobotState,
    Settlement,
)
from fleet_market.units import MICROCREDITS_PER_CREDIT, ns

SIDE_M, ROBOTS, OWNERS = 60.0, 12, 6
BATCH_S, SPEED_MPS, HANDLING_S = 10.0, 1.0, 30.0
PATIENCE = 30
"""Batches for which an order is offered."""
RAISED_AFTER = 6
"""Batches after which a buyer whose order is not sold names all that it is worth to him."""
START_UC, WAY_UC_PER_M, TASK_UC_PER_M, LOAD_UC_PER_KG_M = 1_000_000, 60_000, 80_000, 4_000
LOADS = {"calm": 0.35, "usual": 0.65, "busy": 0.95}
"""Work asked for, as a share of what the robots can do."""
MEAN_TASK_S = HANDLING_S + (0.52 * SIDE_M + 0.25 * SIDE_M) / SPEED_MPS
"""Mean distance of two points of a square is 0.5214 of its side (Ghosh 1951); the way to a start is shorter: nearby robots
win [assumption: a quarter]."""


class Seer(Protocol):
    """An oracle's knowledge."""

    def hear(self, observation: Observation, now_ns: int) -> None:
        """Take note of a fact."""

    def band(self, question: Question, now_ns: int, at_ns: int | None = None, confidence: float = 0.8) -> FairQuote:
        """Return the fair band of a task."""


@dataclass(slots=True)
class Robot:
    """One robot: where it is, since when it is free, and how dear it is."""

    name: RobotId
    owner: OwnerId
    place: Point
    factor: float
    free_ns: int = 0

    def cost_uc(self, task: Question) -> int:
        """Return what a task costs it."""
        way_m, task_m = math.dist(self.place, task.start), math.dist(task.start, task.goal)
        cost_uc = START_UC + WAY_UC_PER_M * way_m + (TASK_UC_PER_M + LOAD_UC_PER_KG_M * task.payload_kg) * task_m
        return round(self.factor * cost_uc)

    def duration_s(self, task: Question) -> float:
        """Return how long a task takes it."""
        return HANDLING_S + (math.dist(self.place, task.start) + math.dist(task.start, task.goal)) / SPEED_MPS


@dataclass(slots=True)
class Order:
    """One order, with what nobody but its buyer knows."""

    id: OrderId
    buyer: int
    task: Question
    value_uc: int
    post_ns: int
    budget_uc: int = 0
    offered: int = 0
    quote: FairQuote | None = None
    oracle: str = ""
    fee_uc: int = 0
    naive_uc: int = 0
    """Budget that the buyer would have named without a quote."""
    given_up: bool = False
    """Whether the buyer does not post it at all."""
    decided: bool = False
    price_uc: int | None = None
    fair_uc: int | None = None
    """Full-information price in the batch in which it was sold: all costs and all values known."""
    rivals: tuple[tuple[str, int], ...] = ()
    cost_uc: int = 0
    winner: str = ""

    @property
    def surplus_uc(self) -> int:
        """What the buyer has gained, without the fee."""
        return 0 if self.price_uc is None else self.value_uc - self.price_uc


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed batch as it was: public but for the values."""

    now_ns: int
    lots: tuple[LotOffer, ...]
    asks: tuple[SealedAsk, ...]
    seed: str


Decide = Callable[["Town", Order], None]
"""Sets an order's budget, perhaps after a quote; may put its posting off."""


@dataclass(slots=True)
class Plan:
    """What happens in a run, drawn beforehand so that two runs can be compared."""

    robots: tuple[tuple[Point, float], ...]
    orders: tuple[Order, ...]

    @classmethod
    def draw(cls, seed: int, orders: int, load: float, buyers: int = 20) -> Plan:
        """Return the plan of a seed."""
        rng = np.random.default_rng([8, seed])
        robots = tuple((_point(rng), float(rng.lognormal(0.0, 0.15))) for _ in range(ROBOTS))
        gap_s = MEAN_TASK_S / (load * ROBOTS)
        now_s, drawn = 0.0, []
        for number in range(orders):
            now_s += float(rng.exponential(gap_s))
            task = Question(_point(rng), _point(rng), payload_kg=float(rng.uniform(0, 20)), deadline_s=PATIENCE * BATCH_S)
            typical_uc = START_UC + WAY_UC_PER_M * 0.25 * SIDE_M + TASK_UC_PER_M * math.dist(task.start, task.goal)
            value_uc = round(typical_uc * float(rng.uniform(1.0, 3.0)))
            drawn.append(Order(OrderId(f"o{number}"), int(rng.integers(buyers)), task, value_uc, ns(now_s)))
        return cls(robots, tuple(drawn))


@dataclass(slots=True)
class Town:
    """One run of the market.

    Parameters
    ----------
    plan : Plan
    decide : callable
        What a buyer does when he has a task.
    seer : Seer or None
        Hears what is public.
    """

    plan: Plan
    decide: Decide
    seer: Seer | None = None
    settled: Callable[[Town, Order], None] = lambda _town, _order: None
    """Called when an order is done."""
    closed: Callable[[Town, Closed], None] = lambda _town, _batch: None
    """Called when a batch has closed."""
    before: Callable[[Town], None] = lambda _town: None
    """Called before a batch is cleared."""
    asking: Callable[[Town, Robot, Order], int] = lambda _town, robot, order: robot.cost_uc(order.task)
    """What a robot asks for an order."""
    robots: list[Robot] = field(default_factory=list)
    now_ns: int = 0
    prices_uc: list[int] = field(default_factory=list)
    """All settlements, oldest first."""
    open: list[Order] = field(default_factory=list)
    over: list[Order] = field(default_factory=list)
    _due: list[tuple[int, Robot, Order]] = field(default_factory=list)

    def run(self) -> list[Order]:
        """Return the orders as they ended, those that were never posted too."""
        self.robots = [
            Robot(RobotId(f"r{i}"), OwnerId(f"own{i % OWNERS}"), place, factor)
            for i, (place, factor) in enumerate(self.plan.robots)
        ]
        waiting = [_copy(order) for order in self.plan.orders]
        everything, batch = list(waiting), 0
        while waiting or self.open or self._due:
            batch += 1
            self.now_ns = ns(batch * BATCH_S)
            self._settle()
            self._tell_robots()
            for order in [o for o in waiting if o.post_ns <= self.now_ns]:
                if not order.decided:
                    order.decided, order.naive_uc = True, self.naive_uc(order)
                    self.decide(self, order)
                if order.given_up:
                    waiting.remove(order)
                elif order.post_ns <= self.now_ns:
                    waiting.remove(order)
                    self.open.append(order)
                    self._hear(OrderSeen(order.id, order.task, self.now_ns))
            self.before(self)
            self._clear(batch)
        return everything

    def naive_uc(self, order: Order) -> int:
        """Return the budget of a buyer who knows the settlements alone: their 90 % quantile, at most his value."""
        if len(self.prices_uc) < 10:
            return order.value_uc
        return min(order.value_uc, round(float(np.quantile(self.prices_uc[-200:], 0.9))))

    def _hear(self, observation: Observation) -> None:
        if self.seer is not None:
            self.seer.hear(observation, self.now_ns)

    def _tell_robots(self) -> None:
        for robot in self.robots:
            state = RobotState(robot.name, MAIN_ZONE, self.now_ns, robot.place, 100.0, int(robot.free_ns > self.now_ns))
            self._hear(state)

    def _settle(self) -> None:
        for entry in [e for e in self._due if e[0] <= self.now_ns]:
            self._due.remove(entry)
            done_ns, robot, order = entry
            price_uc = order.price_uc or 0
            self.prices_uc.append(price_uc)
            self._hear(Settlement(order.id, MAIN_ZONE, robot.name, price_uc, done_ns, order.post_ns))
            self.settled(self, order)

    def _clear(self, batch: int) -> None:
        for order in self.open:
            order.offered += 1
            if order.offered > RAISED_AFTER:
                order.budget_uc = order.value_uc
        idle = [robot for robot in self.robots if robot.free_ns <= self.now_ns]
        lots = tuple(LotOffer(order.id, order.budget_uc) for order in self.open)
        pairs = [(robot, order) for order in self.open for robot in idle]
        asks = tuple(SealedAsk(r.name, r.owner, order.id, self.asking(self, r, order)) for r, order in pairs)
        costs = tuple(SealedAsk(r.name, r.owner, order.id, r.cost_uc(order.task)) for r, order in pairs)
        cleared = clear(lots, asks, seed=str(batch))
        self.closed(self, Closed(self.now_ns, lots, asks, str(batch)))
        truth = {b.order: b for b in fair_bands([LotOffer(o.id, o.value_uc) for o in self.open], costs)}
        by_name, award_of = {robot.name: robot for robot in self.robots}, {a.order: a for a in cleared.awards}
        for order in list(self.open):
            if (award := award_of.get(order.id)) is None:
                continue
            robot = by_name[award.robot]
            order.price_uc, order.winner = award.price_uc, award.owner
            order.cost_uc = robot.cost_uc(order.task)
            band = truth.get(order.id)
            order.fair_uc = order.cost_uc if band is None else band.fair_uc
            order.rivals = tuple((ask.owner, ask.ask_uc) for ask in asks if ask.order == order.id)
            robot.free_ns = self.now_ns + ns(robot.duration_s(order.task))
            robot.place = order.task.goal
            self._due.append((robot.free_ns, robot, order))
            self.open.remove(order)
            self.over.append(order)
        if lots:
            self._hear(ClosedBatch(CallId(f"b{batch}"), MAIN_ZONE, self.now_ns, _told(lots, award_of), asks))
        for order in [o for o in self.open if o.offered >= PATIENCE]:
            self.open.remove(order)
            self.over.append(order)


def _told(lots: Sequence[LotOffer], award_of: Mapping[OrderId, LotAward]) -> tuple[ClosedLot, ...]:
    found = []
    for lot in lots:
        award = award_of.get(lot.order)
        told = (None, None) if award is None else (award.price_uc, award.robot)
        found.append(ClosedLot(lot.order, lot.budget_uc, *told))
    return tuple(found)


def _point(rng: np.random.Generator) -> Point:
    x, y = rng.uniform(0.0, SIDE_M, 2)
    return float(x), float(y)


def _copy(order: Order) -> Order:
    return Order(order.id, order.buyer, order.task, order.value_uc, order.post_ns)


def in_credits(uc: float) -> float:
    """Return micro-credits as credits, for reports."""
    return uc / MICROCREDITS_PER_CREDIT
