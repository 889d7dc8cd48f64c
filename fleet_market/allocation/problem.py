"""What is to be allocated: tasks, robots, and what ways between places take and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fleet_market.allocation.tables import FloatArray, IntArray, Tables
from fleet_market.errors import InputError

SOURCE = "allocation problem"
NEAR = 40
"""Related tasks kept per task."""
FOLLOW = 20
"""Possible predecessors kept per task."""
CLOSE = 10
"""Nearest robots kept per task."""
MANY = 500
"""From so many tasks on a pickup is put only beside the stops that are nearest to it."""
BESIDE = 80
"""How many these are."""
ROWS = 256
"""Tasks whose relatedness is computed at once: bounds the memory to ROWS x tasks."""
SKILLS = 62
"""Kinds of skills, at most: they are bits of an int64."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the objective is made of; each at least 0.

    Attributes
    ----------
    cost : float
        Weight of the legs' cost (energy, travel).
    lateness : float
        Weight of what customers lose by lateness.
    makespan : float
        Cost of each second until the last robot is done.
    wear : float
        Weight of the legs' wear.
    """

    cost: float = 1.0
    lateness: float = 1.0
    makespan: float = 0.0
    wear: float = 1.0

    def __post_init__(self) -> None:
        for name in ("cost", "lateness", "makespan", "wear"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise InputError("weights", name, value, "use a finite number of at least 0")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A parcel to be brought from one place to another.

    Attributes
    ----------
    pickup, dropoff : int
        Places, rows of the matrices.
    load : float
        Part of a robot's capacity that it takes; more than 0.
    pickup_window_s, dropoff_window_s : pair of float
        Earliest and latest start of loading and unloading, seconds. A robot that is early waits; late is forbidden.
    pickup_service_s, dropoff_service_s : float
        How long loading and unloading take.
    due_s : float
        When the parcel should be there; from then on each second costs `late_rate`.
    late_rate : float
        Cost of a second of lateness: the customer's value of time, or the priority.
    reserve : float
        Cost of not doing the task at all: no robot gets it that asks as much or more.
    needs : frozenset of int
        Skills (0 to 61) that a robot must have.
    robot : int, optional
        The robot that holds the task and may not give it away, because it executes it.
    """

    pickup: int
    dropoff: int
    load: float = 1.0
    pickup_window_s: tuple[float, float] = (-math.inf, math.inf)
    dropoff_window_s: tuple[float, float] = (-math.inf, math.inf)
    pickup_service_s: float = 0.0
    dropoff_service_s: float = 0.0
    due_s: float = math.inf
    late_rate: float = 0.0
    reserve: float = 1e12
    needs: frozenset[int] = frozenset()
    robot: int | None = None


@dataclass(frozen=True, slots=True)
class RobotSpec:
    """A robot: where it is free and when, what it carries, where it may charge.

    Attributes
    ----------
    place : int
        Where it is when it is free.
    free_s : float
        When it is free.
    capacity : float
        Sum of the loads that it carries at once.
    end : int, optional
        Where its queue must end; anywhere if not given.
    until_s : float
        When it must be at its end.
    soc : float
        State of charge when it is free, 0 to 1.
    chargers : tuple of int
        Places where it may charge, its own or shared ones.
    charger_free_s : tuple of float
        From when each of them is free (shared chargers are booked elsewhere); empty: all from the start.
    skills : frozenset of int
    """

    place: int
    free_s: float = 0.0
    capacity: float = 1.0
    end: int | None = None
    until_s: float = math.inf
    soc: float = 1.0
    chargers: tuple[int, ...] = ()
    charger_free_s: tuple[float, ...] = ()
    skills: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class BatteryRules:
    """How charging goes: the SoC that must be left after the way to a charger, the SoC to charge up to, the speed."""

    floor_soc: float
    full_soc: float
    rate_soc_per_s: float
    charge_loaded: bool = False
    """Whether a robot may charge with parcels aboard."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor_soc < self.full_soc <= 1:
            raise InputError(
                "battery", "floor_soc, full_soc", (self.floor_soc, self.full_soc), "use 0 <= floor < full <= 1"
            )
        if not (math.isfinite(self.rate_soc_per_s) and self.rate_soc_per_s > 0):
            raise InputError("battery", "rate_soc_per_s", self.rate_soc_per_s, "use a finite number above 0")


@dataclass(frozen=True, eq=False)
class Problem:
    """An allocation problem.

    Parameters
    ----------
    tasks, robots : sequences
    travel_s : (P, P) float array, seconds
        Time of the way from each place to each other, `inf` where there is none.
    leg_cost : (P, P) float array, optional
        What a way costs; `travel_s` if not given.
    leg_wear : (P, P) float array, optional
        What it wears off, in the same currency; nothing if not given.
    leg_soc : (P, P) float array, optional
        What it takes from the battery, as a share. Without it batteries do not matter.
    battery : BatteryRules, optional
        Must be there when `leg_soc` is.
    weights : Weights
    ageing_s : float
        Lateness costs rate x late x (1 + late / (2 ageing_s)): an order as late as this loses twice as fast as a fresh
        one. `inf`: every second costs the same.

    Raises
    ------
    InputError
        If a matrix has another shape or a negative or undefined number, or a place, skill or robot does not exist.
    """

    tasks: Sequence[TaskSpec]
    robots: Sequence[RobotSpec]
    travel_s: FloatArray
    leg_cost: FloatArray | None = None
    leg_wear: FloatArray | None = None
    leg_soc: FloatArray | None = None
    battery: BatteryRules | None = None
    weights: Weights = field(default_factory=Weights)
    ageing_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.robots:
            raise InputError(SOURCE, "robots", (), "give at least one")
        places = self.travel_s.shape[0]
        for name in ("travel_s", "leg_cost", "leg_wear", "leg_soc"):
            _check_matrix(name, getattr(self, name), places)
        if (self.leg_soc is None) != (self.battery is None):
            raise InputError(SOURCE, "battery", self.battery, "give leg_soc and battery together, or neither")
        if not self.ageing_s > 0:
            raise InputError(SOURCE, "ageing_s", self.ageing_s, "use a number above 0")
        for i, task in enumerate(self.tasks):
            _check_places(f"tasks[{i}]", places, task.pickup, task.dropoff)
            if not (math.isfinite(task.load) and task.load > 0):
                raise InputError(SOURCE, f"tasks[{i}].load", task.load, "use a finite number above 0")
            if task.robot is not None and not 0 <= task.robot < len(self.robots):
                raise InputError(SOURCE, f"tasks[{i}].robot", task.robot, f"use 0 to {len(self.robots) - 1}")
        for i, robot in enumerate(self.robots):
            _check_places(
                f"robots[{i}]", places, robot.place, *robot.chargers, *(() if robot.end is None else (robot.end,))
            )
            if not 0 <= robot.soc <= 1:
                raise InputError(SOURCE, f"robots[{i}].soc", robot.soc, "use 0 to 1")

    def tables(self) -> Tables:
        """Return the arrays for the kernels."""
        n, m, places = len(self.tasks), len(self.robots), self.travel_s.shape[0]
        weights, late = self.weights, self.weights.lateness
        cost = self._legs()
        node = np.zeros((2 * n + 2 * m, 6))
        node[:, 1], node[:, 2], node[:, 4] = -1e15, 1e15, 1e15
        place = np.full(2 * n + 2 * m, places, dtype=np.int64)
        for t, task in enumerate(self.tasks):
            place[t], place[n + t] = task.pickup, task.dropoff
            node[t, :4] = (task.load, *np.clip(task.pickup_window_s, -1e15, 1e15), task.pickup_service_s)
            node[n + t, :4] = (-task.load, *np.clip(task.dropoff_window_s, -1e15, 1e15), task.dropoff_service_s)
            node[n + t, 4:] = (min(task.due_s, 1e15), task.late_rate * late)
        for r, robot in enumerate(self.robots):
            head, tail = 2 * n + r, 2 * n + m + r
            place[head] = robot.place
            node[head, 1] = robot.free_s
            node[tail, 2] = min(robot.until_s, 1e15)
            if robot.end is not None:
                place[tail] = robot.end
        timed = bool((np.abs(node[: 2 * n, 1:3]) < 1e15).any() or (node[2 * n + m :, 2] < 1e15).any())
        simulate = self.leg_soc is not None or weights.makespan > 0 or bool((node[: 2 * n, 5] > 0).any())
        battery = self.battery or BatteryRules(0.0, 1.0, 1.0)
        rules = np.array([
            battery.floor_soc, battery.full_soc, battery.rate_soc_per_s,
            0.0 if math.isinf(self.ageing_s) else self.ageing_s,
            weights.makespan, float(timed), float(simulate), float(battery.charge_loaded),
        ])  # fmt: skip
        chargers = max([1, *(len(robot.chargers) for robot in self.robots)])
        charger = np.full((m, chargers), -1, dtype=np.int64)
        charger_free = np.full((m, chargers), -1e15)
        for r, robot in enumerate(self.robots):
            charger[r, : len(robot.chargers)] = robot.chargers
            charger_free[r, : len(robot.charger_free_s)] = robot.charger_free_s
        extended = _with_anywhere(cost)
        time = extended if self._same_time(cost) else _with_anywhere(self.travel_s)
        extended_to = np.ascontiguousarray(extended.T)
        apart = np.where(np.isinf(cost), math.inf, self.travel_s) if simulate else cost
        return Tables(
            cost=extended,
            time=time,
            cost_to=extended_to,
            time_to=extended_to if time is extended else np.ascontiguousarray(time.T),
            soc=np.zeros((1, 1)) if self.leg_soc is None else _with_anywhere(self.leg_soc),
            place=place,
            node=node,
            fleet=np.array([(robot.capacity, robot.soc) for robot in self.robots], dtype=np.float64),
            robot=np.column_stack([[_bits(robot.skills) for robot in self.robots], _kinds(self.robots)]).astype(np.int64),
            task=np.array(
                [(_bits(task.needs), task.robot is not None) for task in self.tasks], dtype=np.int64
            ).reshape(n, 2),
            charger=charger,
            charger_free=charger_free,
            near=_near(apart, place[:n], place[n : 2 * n]),
            follow=_follow(apart, place[:n], place[n : 2 * n]),
            beside=_beside(apart, place[: 2 * n], n if n >= MANY and not (timed or simulate) else 0),
            close=_close(apart, place[:n], place[2 * n : 2 * n + m]),
            reserve=np.array([task.reserve for task in self.tasks], dtype=np.float64),
            gate=np.arange(2 * n, 2 * n + m, dtype=np.int64),
            rules=rules,
        )  # fmt: skip

    def _legs(self) -> FloatArray:
        """Return what legs cost by all weights, `inf` where there is no way."""
        cost = self.travel_s if self.leg_cost is None else self.leg_cost
        no_way = np.isinf(self.travel_s) | np.isinf(cost)
        if self.leg_soc is not None:
            no_way |= np.isinf(self.leg_soc)
        cost = self.weights.cost * np.where(no_way, 0.0, cost)
        if self.leg_wear is not None:
            cost += self.weights.wear * np.where(no_way, 0.0, self.leg_wear)
        cost[no_way] = math.inf
        return np.asarray(cost, dtype=np.float64)

    def _same_time(self, cost: FloatArray) -> bool:
        return bool(np.array_equal(cost, self.travel_s))


def _check_matrix(name: str, matrix: FloatArray | None, places: int) -> None:
    if matrix is None:
        return
    if matrix.shape != (places, places) or places == 0:
        raise InputError(SOURCE, name, matrix.shape, "use a square matrix, one row and column per place, all of one size")
    if bool(np.isnan(matrix).any()) or bool((matrix < 0).any()):
        raise InputError(SOURCE, name, "NaN or negative", "use numbers of at least 0, and inf where there is no way")


def _check_places(where: str, places: int, *given: int) -> None:
    for place in given:
        if not 0 <= place < places:
            raise InputError(SOURCE, f"{where}: place", place, f"use 0 to {places - 1}")


def _bits(skills: frozenset[int]) -> int:
    for skill in skills:
        if not 0 <= skill < SKILLS:
            raise InputError(SOURCE, "skill", skill, f"use 0 to {SKILLS - 1}")
    return sum(1 << skill for skill in skills)


def _kinds(robots: Sequence[RobotSpec]) -> list[int]:
    """Return for each robot the number of the first one that is alike."""
    first: dict[RobotSpec, int] = {}
    return [first.setdefault(robot, r) for r, robot in enumerate(robots)]


def _with_anywhere(matrix: FloatArray) -> FloatArray:
    """Return the matrix with a last place, "anywhere", at no distance from all others."""
    return np.ascontiguousarray(np.pad(matrix, ((0, 1), (0, 1))), dtype=np.float64)


def _near(cost: FloatArray, pickup: IntArray, dropoff: IntArray) -> IntArray:
    """Return the tasks most related to each task.

    Two tasks are as near as what they cost when done together (both pickups, then both dropoffs) or one after the other.
    """
    n = len(pickup)
    keep = min(NEAR, max(n - 1, 0))
    near = np.zeros((n, keep), dtype=np.int64)
    if keep == 0:
        return near
    for begin in range(0, n, ROWS):
        p, d = pickup[begin : begin + ROWS, None], dropoff[begin : begin + ROWS, None]
        together = cost[p, pickup] + cost[d, dropoff]
        after = 2 * np.minimum(cost[d, pickup], cost[dropoff, p])
        apart = np.minimum(together, after)
        rows = np.arange(apart.shape[0])
        apart[rows, begin + rows] = math.inf
        some = np.argpartition(apart, keep - 1, axis=1)[:, :keep]
        order = np.argsort(np.take_along_axis(apart, some, 1), axis=1, kind="stable")
        near[begin : begin + ROWS] = np.take_along_axis(some, order, 1)
    return near


def _follow(cost: FloatArray, pickup: IntArray, dropoff: IntArray) -> IntArray:
    """Return the tasks whose dropoffs are nearest to each pickup, nearest first."""
    n = len(pickup)
    keep = min(FOLLOW, max(n - 1, 0))
    follow = np.zeros((n, keep), dtype=np.int64)
    for begin in range(0, n if keep else 0, ROWS):
        way = cost[dropoff[None, :], pickup[begin : begin + ROWS, None]].copy()
        rows = np.arange(way.shape[0])
        way[rows, begin + rows] = math.inf
        follow[begin : begin + ROWS] = np.argsort(way, axis=1, kind="stable")[:, :keep]
    return follow


def _beside(cost: FloatArray, stops: IntArray, tasks: int) -> IntArray:
    """Return the stops nearest to each pickup, there and back, as numbers of stops."""
    keep = min(BESIDE, 2 * tasks - 2) if tasks else 0
    beside = np.zeros((len(stops) // 2, keep), dtype=np.int64)
    for begin in range(0, tasks, ROWS):
        pickup = stops[begin : min(begin + ROWS, tasks), None]
        way = cost[pickup, stops] + cost[stops, pickup]
        rows = np.arange(len(pickup))
        way[rows, begin + rows] = way[rows, tasks + begin + rows] = math.inf
        some = np.argpartition(way, keep - 1, axis=1)[:, :keep]
        order = np.argsort(np.take_along_axis(way, some, 1), axis=1, kind="stable")
        beside[begin : begin + ROWS] = np.take_along_axis(some, order, 1)
    return beside


def _close(cost: FloatArray, pickup: IntArray, start: IntArray) -> IntArray:
    """Return the robots that stand nearest to each pickup."""
    n, m = len(pickup), len(start)
    keep = min(CLOSE, m)
    close = np.zeros((n, keep), dtype=np.int64)
    for begin in range(0, n, ROWS):
        way = cost[start[None, :], pickup[begin : begin + ROWS, None]]
        close[begin : begin + ROWS] = np.argsort(way, axis=1, kind="stable")[:, :keep]
    return close
