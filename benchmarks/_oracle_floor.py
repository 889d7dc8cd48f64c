"""A market of robots and tasks for the oracle's benchmarks: the product's pricing and auction, on an empty square floor.

Robots of the types of `launch/fleets/auto.yaml` ask by `fleet_market.pricing.asks_uc` for the way to the start and the
task: with a detour, turns and halts on each leg that nobody but them knows beforehand, times a factor of the robot (its
wear, its tariff). A robot holds up to two contracts and asks from where it will be. Tasks come by a Poisson process; what
one is worth to its buyer is drawn, and is his budget. Every batch is cleared by `fleet_market.auction.clear` (Clarke
payments, owners of two robots). All constants are [assumption]s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.auction import LotAward, LotOffer, SealedAsk, clear
from fleet_market.body import RobotType
from fleet_market.ids import CallId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.oracle import FairBand, fair_bands
from fleet_market.oracle.terms import ClosedBatch, ClosedLot, OrderGone, OrderSeen, Question, RobotState, Settlement
from fleet_market.pricing import EnergyModel, PlanArray, Tariff, asks_uc
from fleet_market.units import NS_PER_S

FLEET = Path(__file__).parents[1] / "launch/fleets/auto.yaml"
ZONE = ZoneId("main")
TARIFF = Tariff(25_000_000)
SIDE_M = 120.0
BATCH_S = 2.0
DEADLINE_S = 600.0
OFFERED = 20
MOST_QUEUE = 2
DWELL_S = 8.0
DETOUR, TURNS_RAD, HALTS = (1.0, 1.3), (0.0, 6.0), (1, 5)
"""Ranges of how much longer than the air line a leg is, how far a robot turns on it, and how often it halts."""
FACTOR_SD = 0.08
VALUE = (1.3, 4.0)
"""What a task is worth, as a multiple of what it costs a mean robot from a mean distance."""

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class Task:
    """A task and what becomes of it."""

    order: OrderId
    question: Question
    value_uc: int
    posted_s: float
    budget_uc: int
    leg: tuple[float, float, int]
    """Detour, turns in radians and halts between start and goal: the same for all robots, and known to none before."""
    award: LotAward | None = None
    sold_s: float = 0.0


@dataclass(slots=True)
class Robot:
    """A robot: where it will be, and when it is done with each of its contracts."""

    id: RobotId
    owner: OwnerId
    type: RobotType
    factor: float
    place: FloatArray
    done: list[tuple[float, Task]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """A closed batch."""

    closed_s: float
    heard: ClosedBatch
    offers: tuple[LotOffer, ...]
    tasks: tuple[Task, ...]

    def bands(self) -> list[FairBand]:
        """Return the full-information prices of its lots."""
        return fair_bands(self.offers, self.heard.asks)


class Floor:
    """The market, batch by batch.

    Parameters
    ----------
    seed : int
    robots : int
    load : float
        Tasks that come, as a share of those that the robots could do.
    """

    def __init__(self, seed: int, *, robots: int = 40, load: float = 0.8) -> None:
        self.rng = np.random.default_rng(seed)
        self._kinds = list({r.type.name: r.type for r in load_fleet(FLEET).robots}.values())
        self._models = {kind.name: EnergyModel(kind) for kind in self._kinds}
        self.robots = [
            Robot(
                RobotId(f"r{i}"),
                OwnerId(f"w{i // 2}"),
                self._kinds[i % len(self._kinds)],
                float(np.exp(self.rng.normal(0.0, FACTOR_SD))),
                self.rng.uniform(0, SIDE_M, 2),
            )
            for i in range(robots)
        ]
        self.now_s = 0.0
        self.open: list[Task] = []
        self._count = 0
        self._mean_s, self._mean_uc_per_m, self._base_uc = self._means()
        self.load = load

    @property
    def now_ns(self) -> int:
        """The time."""
        return round(self.now_s * NS_PER_S)

    def arrivals(self) -> list[Task]:
        """Return the tasks that come before the next batch, in order; they are not posted yet."""
        rate = self.load * len(self.robots) / self._mean_s
        tasks = []
        for _ in range(self.rng.poisson(rate * BATCH_S)):
            start, goal = self.rng.uniform(0, SIDE_M, (2, 2)).tolist()
            payload_kg = float(self.rng.uniform(0, min(k.max_payload_kg for k in self._kinds)))
            cost_uc = self._base_uc + self._mean_uc_per_m * math.dist(start, goal)
            value_uc = int(cost_uc * self.rng.uniform(*VALUE))
            question = Question((start[0], start[1]), (goal[0], goal[1]), payload_kg, DEADLINE_S)
            leg = (self.rng.uniform(*DETOUR), self.rng.uniform(*TURNS_RAD), int(self.rng.integers(*HALTS)))
            tasks.append(Task(OrderId(f"o{self._count}"), question, value_uc, self.now_s, value_uc, leg))
            self._count += 1
        return tasks

    def post(self, task: Task) -> OrderSeen:
        """Put a task on sale; return what the oracle hears of it."""
        self.open.append(task)
        return OrderSeen(task.order, task.question, self.now_ns)

    def close(self) -> Iterator[Batch | RobotState | Settlement | OrderGone]:
        """Let a batch period pass; return what is seen of it, the batch last."""
        self.now_s += BATCH_S
        yield from self._finish()
        for task in [t for t in self.open if self.now_s - t.posted_s > DEADLINE_S]:
            self.open.remove(task)
            yield OrderGone(task.order, self.now_ns)
        if not self.open:
            return
        asks, lasts_s = self._asks()
        offers = tuple(LotOffer(task.order, task.budget_uc) for task in self.open)
        awards = {award.order: award for award in clear(offers, asks, seed=str(self.now_ns)).awards}
        tasks = tuple(self.open)
        lots = []
        for task in tasks:
            task.award = awards.get(task.order)
            lots.append(
                ClosedLot(
                    task.order,
                    task.budget_uc,
                    task.award.price_uc if task.award else None,
                    task.award.robot if task.award else None,
                )
            )
            if task.award:
                self._begin(task, lasts_s[task.award.robot, task.order])
        self.open = [task for task in tasks if task.award is None]
        call = CallId(f"c{self.now_ns}")
        yield Batch(self.now_s, ClosedBatch(call, ZONE, self.now_ns, tuple(lots), tuple(asks)), offers, tasks)

    def state(self, robot: Robot) -> RobotState:
        """Return what a robot tells of itself."""
        x, y = robot.place.tolist()
        return RobotState(robot.id, ZONE, self.now_ns, (x, y), robot.type.max_payload_kg, len(robot.done))

    def _finish(self) -> Iterator[RobotState | Settlement]:
        for robot in self.robots:
            while robot.done and robot.done[0][0] <= self.now_s:
                _, task = robot.done.pop(0)
                award = task.award
                if award is not None:
                    awarded_ns = round(task.sold_s * NS_PER_S)
                    yield Settlement(task.order, ZONE, robot.id, award.price_uc, self.now_ns, awarded_ns)
                yield self.state(robot)

    def _begin(self, task: Task, lasts_s: float) -> None:
        robot = next(r for r in self.robots if task.award and r.id == task.award.robot)
        begins_s = robot.done[-1][0] if robot.done else self.now_s
        robot.done.append((begins_s + lasts_s, task))
        robot.place = np.array(task.question.goal)
        task.sold_s = self.now_s

    def _asks(self) -> tuple[list[SealedAsk], dict[tuple[RobotId, OrderId], float]]:
        starts = np.array([t.question.start for t in self.open])
        goals = np.array([t.question.goal for t in self.open])
        payload_kg = np.array([t.question.payload_kg for t in self.open])
        asks, lasts_s = [], {}
        for kind in self._kinds:
            mine = [r for r in self.robots if r.type is kind and len(r.done) < MOST_QUEUE]
            if not mine:
                continue
            places = np.array([r.place for r in mine])
            way_m = np.hypot(*(starts[None] - places[:, None]).transpose(2, 0, 1))
            near = np.argsort(way_m, axis=1, kind="stable")[:, :OFFERED]
            way_m = np.take_along_axis(way_m, near, axis=1)
            legs = np.array([t.leg for t in self.open])[near]
            costs_uc, seconds = self._prices(kind, way_m, np.hypot(*(goals - starts).T)[near], payload_kg[near], legs)
            for i, robot in enumerate(mine):
                for j, lot in enumerate(near[i].tolist()):
                    task = self.open[lot]
                    ask_uc = round(costs_uc[i, j] * robot.factor)
                    asks.append(SealedAsk(robot.id, robot.owner, task.order, ask_uc))
                    lasts_s[robot.id, task.order] = float(seconds[i, j])
        return asks, lasts_s

    def _prices(
        self, kind: RobotType, way_m: FloatArray, task_m: FloatArray, payload_kg: FloatArray, legs: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return asks and durations of two legs each, shapes of `way_m`; `legs` has one axis more, of 3."""
        shape = way_m.shape
        detour, turn_rad, halts = np.moveaxis(legs, -1, 0)
        plans = PlanArray.of(
            np.stack([way_m * self.rng.uniform(*DETOUR, shape), task_m * detour], axis=-1),
            turn_rad=np.stack([self.rng.uniform(*TURNS_RAD, shape), turn_rad], axis=-1),
            halts=np.stack([self.rng.integers(*HALTS, shape), halts.astype(int)], axis=-1),
            payload_kg=np.stack([np.zeros_like(payload_kg), payload_kg], axis=-1),
            dwell_s=np.full(shape, DWELL_S),
        )
        features = self._models[kind.name].features(plans)
        return asks_uc(plans, features, kind, TARIFF), features.duration_s

    def _means(self) -> tuple[float, float, float]:
        """Return how long a task takes, and what it costs per metre and besides, of a mean robot."""
        near_m, far_m = np.full((200, 1), 15.0), np.full((200, 1), 70.0)
        load_kg = np.full((200, 1), 2.0)
        legs = np.stack(
            [
                self.rng.uniform(*DETOUR, near_m.shape),
                self.rng.uniform(*TURNS_RAD, near_m.shape),
                self.rng.integers(*HALTS, near_m.shape),
            ],
            axis=-1,
        )
        short = [self._prices(kind, near_m, np.zeros_like(near_m), load_kg, legs) for kind in self._kinds]
        long = [self._prices(kind, near_m, far_m, load_kg, legs) for kind in self._kinds]
        base_uc = float(np.mean([uc for uc, _ in short]))
        return (
            float(np.mean([s for _, s in long])),
            (float(np.mean([uc for uc, _ in long])) - base_uc) / 70.0,
            base_uc,
        )
