"""A robot's queue of several parcels, and what one more would cost: the marginal cost that it asks.

Pickups and dropoffs may be interleaved as far as load, windows and battery allow. Charging stops are put in where they are
needed and last no longer than needed (`fleet_market.allocation.timeline`). The cost of a queue is a weighted sum of the
legs' cost, what customers lose by lateness, the time until the robot is done, and wear. As lateness costs more and more
with its duration (`ageing_s`), an order that was overtaken often enough is overtaken no more.

Needs numpy alone. `fast=True` runs the same arithmetic compiled by numba.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fleet_market.allocation import BatteryRules, Event, Plan, Problem, RobotSpec, Stop, TaskSpec, Weights, itinerary
from fleet_market.allocation.batch import walk_each, walk_many
from fleet_market.allocation.plan import new_state
from fleet_market.allocation.tables import INFINITE, FloatArray, IntArray, Tables
from fleet_market.errors import InputError

MOST_QUEUED = 24
"""Tasks in one queue, at most: places to try grow with its square."""


@dataclass(frozen=True, eq=False)
class Ways:
    """What ways between places take and cost: (P, P) arrays as of `fleet_market.allocation.Problem`."""

    travel_s: FloatArray
    leg_cost: FloatArray | None = None
    leg_wear: FloatArray | None = None
    leg_soc: FloatArray | None = None
    battery: BatteryRules | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """What a queue's cost is made of, before weights: cost and wear of the legs, lateness cost, when the robot is done."""

    cost: float
    wear: float
    lateness: float
    finish_s: float


@dataclass(frozen=True, slots=True)
class Insertion:
    """Where a task would go, and what that costs.

    Attributes
    ----------
    ask : float
        By how much the weighted cost of the queue grows.
    queue : tuple of Stop
        The queue with the task in it; the task has the number `len(schedule.tasks)`.
    """

    ask: float
    queue: tuple[Stop, ...]


@dataclass(frozen=True, eq=False)
class Schedule:
    """What a robot is going to do.

    Parameters
    ----------
    robot : RobotSpec
    ways : Ways
    tasks : sequence of TaskSpec
        Tasks of the queue. A parcel that is aboard has its pickup where the robot is, and `robot=0`: it stays first.
    queue : sequence of Stop
        Stops in their order; tasks by their place in `tasks`.
    weights : Weights
    ageing_s : float
        See `fleet_market.allocation.Problem`.
    fast : bool
    parcels : int
        How many parcels it carries at once, at most, whatever they weigh.

    Raises
    ------
    InputError
        If the queue does not do each task once, is longer than `MOST_QUEUED` tasks, or numbers are out of range.
    """

    robot: RobotSpec
    ways: Ways
    tasks: tuple[TaskSpec, ...] = ()
    queue: tuple[Stop, ...] = ()
    weights: Weights = field(default_factory=Weights)
    ageing_s: float = math.inf
    fast: bool = False
    parcels: int = MOST_QUEUED

    def __post_init__(self) -> None:
        if len(self.tasks) > MOST_QUEUED:
            raise InputError("schedule", "tasks", len(self.tasks), f"queue {MOST_QUEUED} at most")
        new_state(self._own, Plan((self.queue,)))
        if {stop.task for stop in self.queue} != set(range(len(self.tasks))):
            raise InputError("schedule", "queue", self.queue, "do each task once")

    def _problem(self, lots: Sequence[TaskSpec]) -> Problem:
        ways = self.ways
        return Problem(
            [*self.tasks, *lots],
            [self.robot],
            ways.travel_s,
            ways.leg_cost,
            ways.leg_wear,
            ways.leg_soc,
            ways.battery,
            self.weights,
            self.ageing_s,
        )

    def _tables(self, lots: Sequence[TaskSpec]) -> Tables:
        return self._problem(lots).tables()

    @cached_property
    def _own(self) -> Tables:
        return self._tables(())

    @cached_property
    def cost(self) -> float:
        """Weighted cost of the queue; `inf` if it cannot be kept."""
        queue = _numbers(self.queue, len(self.tasks))[None, :]
        if self._crowded(queue, len(self.tasks)).any():
            return math.inf
        cost, finish_s = self._costs(self._own, queue)
        return float(cost[0] + self._until(finish_s)[0]) if cost[0] < INFINITE else math.inf

    def timetable(self) -> list[Event]:
        """Return what the robot does when, charging stops included; nothing if the queue cannot be kept."""
        return itinerary(self._own, 0, [int(v) for v in _numbers(self.queue, len(self.tasks))])[1]

    def ask(self, task: TaskSpec) -> Insertion | None:
        """Return the cheapest way to take a task; None if there is none."""
        return self.asks([task])[0]

    def asks(self, lots: Sequence[TaskSpec]) -> list[Insertion | None]:
        """Return for each of some lots the cheapest way to take it alone."""
        if not lots:
            return []
        if len(self.tasks) >= MOST_QUEUED:
            return [None] * len(lots)
        tables, base, n = self._tables(lots), self.cost, len(self.tasks) + len(lots)
        if math.isinf(base):
            return [None] * len(lots)
        own = _numbers(self.queue, n)
        locked = self._locked()
        queues = np.concatenate([_insertions(own, len(self.tasks) + i, n, locked) for i in range(len(lots))])
        cost, finish_s = self._costs(tables, queues)
        cost[self._crowded(queues, n)] = INFINITE
        total = np.where(cost < INFINITE, cost + self._until(finish_s), math.inf)
        per_lot = total.reshape(len(lots), -1)
        queues = queues.reshape(*per_lot.shape, -1)
        found: list[Insertion | None] = []
        for i, lot in enumerate(lots):
            at = int(np.argmin(per_lot[i]))
            able = lot.needs <= self.robot.skills and math.isfinite(per_lot[i, at])
            queue = tuple(self._stop(int(v), n, i) for v in queues[i, at])
            found.append(Insertion(float(per_lot[i, at] - base), queue) if able else None)
        return found

    def with_task(self, task: TaskSpec, insertion: Insertion) -> Schedule:
        """Return the schedule with a task taken as `ask` proposed."""
        return replace(self, tasks=(*self.tasks, task), queue=insertion.queue)

    def without_task(self, number: int) -> Schedule:
        """Return the schedule without a task.

        Raises
        ------
        InputError
            If there is no such task, or it is being executed.
        """
        if not 0 <= number < len(self.tasks):
            raise InputError("schedule", "task", number, f"use 0 to {len(self.tasks) - 1}")
        if self.tasks[number].robot is not None:
            raise InputError("schedule", "task", number, "leave a task that is being executed where it is")
        queue = tuple(Stop(stop.task - (stop.task > number), stop.pickup) for stop in self.queue if stop.task != number)
        return replace(self, tasks=self.tasks[:number] + self.tasks[number + 1 :], queue=queue)

    def shares(self) -> Shares:
        """Return what the cost of the queue is made of."""
        at, cost, wear, lateness, finish_s = self.robot.place, 0.0, 0.0, 0.0, self.robot.free_s
        ways = self.ways
        for event in self.timetable():
            cost += float((ways.travel_s if ways.leg_cost is None else ways.leg_cost)[at, event.place])
            wear += 0.0 if ways.leg_wear is None else float(ways.leg_wear[at, event.place])
            at, finish_s = event.place, event.end_s
            if event.kind == "dropoff":
                task = self.tasks[event.task]
                late_s = max(0.0, event.end_s - task.due_s)
                lateness += task.late_rate * late_s * (1 + late_s / (2 * self.ageing_s))
        return Shares(cost, wear, lateness, finish_s)

    def _until(self, finish_s: FloatArray) -> FloatArray:
        return self.weights.makespan * np.maximum(finish_s - self.robot.free_s, 0.0)

    def _crowded(self, queues: IntArray, tasks: int) -> NDArray[np.bool_]:
        """Return in which queues there are ever more parcels aboard than there may be."""
        aboard = np.cumsum(np.where(queues < tasks, 1, -1), axis=1)
        most: IntArray = aboard.max(axis=1, initial=0)
        return most > self.parcels

    def _costs(self, tables: Tables, queues: IntArray) -> tuple[FloatArray, FloatArray]:
        return (walk_each if self.fast else walk_many)(tables, 0, queues)

    def _locked(self) -> int:
        """Return how many stops at the head of the queue stay there: pickups of tasks that are being executed."""
        count = 0
        for stop in self.queue:
            if not stop.pickup or self.tasks[stop.task].robot is None:
                break
            count += 1
        return count

    def _stop(self, number: int, tasks: int, lot: int) -> Stop:
        task, own = number % tasks, len(self.tasks)
        return Stop(own if task == own + lot else task, number < tasks)


def _numbers(queue: Sequence[Stop], tasks: int) -> IntArray:
    """Return stop numbers, see `fleet_market.allocation.tables`."""
    return np.array([stop.task if stop.pickup else tasks + stop.task for stop in queue], dtype=np.int64)


def _insertions(queue: IntArray, task: int, tasks: int, locked: int) -> IntArray:
    """Return the queue with the task's pickup and dropoff at all pairs of places, one row each, earliest first."""
    length = len(queue)
    before, behind = np.triu_indices(length + 1)
    keep = before >= locked
    before, behind = before[keep][:, None], behind[keep][:, None]
    at = np.arange(length + 2)[None, :]
    source = at - (at > before).astype(np.int64) - (at > behind + 1)
    rows: IntArray = queue[np.clip(source, 0, max(length - 1, 0))] if length else np.zeros((len(before), 2), dtype=np.int64)
    rows = np.where(at == before, task, rows)
    return np.where(at == behind + 1, tasks + task, rows)
