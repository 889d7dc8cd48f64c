"""Where a zone's robots are and will be, as far as known, and what each of them would ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet_market.auction.clearing import SealedAsk
from fleet_market.ids import OrderId, RobotId
from fleet_market.oracle.costs import CostModel
from fleet_market.oracle.learning import FloatArray
from fleet_market.oracle.terms import ClosedBatch, Point, Question, RobotState

STALE_NS = 600 * 10**9
"""A robot of which nothing was heard for so long is thought to be gone [assumption]."""
HABIT_MEMORY = 2000.0
LIKELY = 0.5
"""Robots with so many contracts are counted in if more than half of their like have asked."""
MOST_QUEUE = 20


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one robot."""

    place: Point
    at_ns: int
    queue: int
    max_payload_kg: float
    heard: int = 0
    """How many of its own observations it rests on."""


class Fleet:
    """The robots of a zone."""

    def __init__(self) -> None:
        self.robots: dict[RobotId, Known] = {}
        self.costs = CostModel()
        self.drift: dict[RobotId, float] = {}
        self._asked = np.zeros(MOST_QUEUE + 1)
        self._seen = np.zeros(MOST_QUEUE + 1)

    def copy(self) -> Fleet:
        """Return a fleet that can learn without this one."""
        other = Fleet()
        other.robots, other.costs, other.drift = self.robots.copy(), self.costs.copy(), self.drift.copy()
        other._asked, other._seen = self._asked.copy(), self._seen.copy()
        return other

    def hear(self, state: RobotState) -> None:
        """Take in a robot's state, unless something newer is known."""
        known = self.robots.get(state.robot)
        heard = 1 + (known.heard if known else 0)
        if known is None or known.at_ns <= state.seen_ns:
            self.robots[state.robot] = Known(state.place, state.seen_ns, state.queue, state.max_payload_kg, heard)
        else:
            self.robots[state.robot] = replace(known, heard=heard)

    def learn(self, batch: ClosedBatch, task_of: Mapping[OrderId, Question]) -> None:
        """Learn from a closed batch what asks are like, who asks at all, and where the winners will be."""
        self._learn_costs(batch.asks, task_of)
        if batch.asks:
            self._learn_habits({ask.robot for ask in batch.asks})
        for lot in batch.lots:
            if lot.winner in self.robots and lot.order in task_of:
                known = self.robots[lot.winner]
                self.robots[lot.winner] = replace(
                    known, place=task_of[lot.order].goal, queue=known.queue + 1, at_ns=max(known.at_ns, batch.closed_ns)
                )

    def present(self, now_ns: int) -> list[RobotId]:
        """Return the robots of which something was heard lately, by name."""
        return sorted(robot for robot, known in self.robots.items() if now_ns - known.at_ns <= STALE_NS)

    def likely(self, now_ns: int) -> list[RobotId]:
        """Return those of them that would ask now, by how many contracts they hold."""
        share = (self._asked + np.where(np.arange(MOST_QUEUE + 1) == 0, 1.0, 0.0)) / (self._seen + 1)
        robots = self.present(now_ns)
        return [robot for robot in robots if share[min(self.robots[robot].queue, MOST_QUEUE)] > LIKELY]

    def candidates(self, robots: Sequence[RobotId]) -> Candidates:
        """Return these robots as arrays."""
        known = [self.robots[robot] for robot in robots]
        return Candidates(
            tuple(robots),
            np.array([k.place for k in known], dtype=float).reshape(-1, 2),
            np.array([k.max_payload_kg for k in known], dtype=float),
            np.array([self.costs.factor(robot) for robot in robots], dtype=float),
        )

    def _learn_costs(self, asks: Sequence[SealedAsk], task_of: Mapping[OrderId, Question]) -> None:
        known = [ask for ask in asks if ask.robot in self.robots and ask.order in task_of]
        if not known:
            return
        places = np.array([self.robots[ask.robot].place for ask in known])
        tasks = [task_of[ask.order] for ask in known]
        starts, goals = np.array([task.start for task in tasks]), np.array([task.goal for task in tasks])
        self.costs.learn(
            [ask.robot for ask in known],
            np.hypot(*(starts - places).T),
            np.hypot(*(goals - starts).T),
            np.array([task.payload_kg for task in tasks]),
            np.array([ask.ask_uc for ask in known], dtype=float),
        )

    def _learn_habits(self, asked: set[RobotId]) -> None:
        counts: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        for robot, known in self.robots.items():
            mine = counts[min(known.queue, MOST_QUEUE)]
            mine[0] += robot in asked
            mine[1] += 1
        kept = np.exp(-len(self.robots) / HABIT_MEMORY)
        self._asked *= kept
        self._seen *= kept
        for queue, (yes, all_of_them) in counts.items():
            self._asked[queue] += yes
            self._seen[queue] += all_of_them


@dataclass(frozen=True, slots=True)
class Candidates:
    """Robots that would ask, in the order of the rows of a market."""

    robots: tuple[RobotId, ...]
    places: FloatArray
    """(R, 2), metres."""
    max_payload_kg: FloatArray
    factors: FloatArray

    def costs_uc(self, task: Question, model: CostModel) -> FloatArray:
        """Return what each would ask for a task, shape (R,), infinite where it cannot carry it."""
        if not self.robots:
            return np.zeros(0)
        way_m = np.hypot(self.places[:, 0] - task.start[0], self.places[:, 1] - task.start[1])
        costs = model.costs_uc(way_m, length_m(task), task.payload_kg) * self.factors
        return np.where(self.max_payload_kg >= task.payload_kg, costs, np.inf)


def length_m(task: Question) -> float:
    """Return the air-line way from start to goal."""
    return float(np.hypot(task.goal[0] - task.start[0], task.goal[1] - task.start[1]))
