"""Instances of the replay benchmark: read, made, solved, checked. Not a benchmark of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet_market.allocation import BatteryRules, Outcome, Problem, RobotSpec, TaskSpec, Weights, itinerary
from fleet_market.allocation.tables import INFINITE, Tables
from fleet_market.errors import InputError

Matrix = NDArray[np.float64]
RESERVE_S = 1e9
"""Cost of a task that is not done, far above any sum of waiting times."""


@dataclass(frozen=True, slots=True)
class Robot:
    """A robot of an instance."""

    id: str
    start: int
    charger: int
    soc: float


@dataclass(frozen=True, slots=True)
class Task:
    """A task of an instance."""

    id: str
    pickup: int
    dropoff: int
    earliest_start_s: float


@dataclass(frozen=True, eq=False)
class Instance:
    """What a file holds."""

    source: str
    robots: tuple[Robot, ...]
    tasks: tuple[Task, ...]
    threshold_soc: float
    recharge_soc: float
    charge_rate_soc_per_s: float
    travel_s: Matrix
    travel_dsoc: Matrix


def read(path: Path) -> Instance:
    """Read an instance.

    Raises
    ------
    InputError
        If the file is no such instance; names the field and what it should be.
    """
    source = str(path)
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise InputError(source, "file", error.strerror, "give a file that can be read") from error
    except ValueError as error:
        raise InputError(source, "file", str(error), "write valid JSON") from error
    top = _Reader(source, "", raw)
    travel_s = top.matrix("travel_s")
    travel_dsoc = top.matrix("travel_dsoc")
    if travel_s.shape != travel_dsoc.shape:
        raise InputError(source, "travel_dsoc", travel_dsoc.shape, f"use the size of travel_s, {travel_s.shape}")
    places = len(travel_s)
    config = _Reader(source, "config.", top.get("config"))
    robots = tuple(
        Robot(r.name("id"), r.place("start", places), r.place("charger", places), r.number("soc", 0, 1))
        for r in top.rows("robots")
    )
    tasks = tuple(
        Task(t.name("id"), t.place("pickup", places), t.place("dropoff", places), t.number("earliest_start_s"))
        for t in top.rows("tasks")
    )
    for field, ids in (("robots", [r.id for r in robots]), ("tasks", [t.id for t in tasks])):
        for name in ids:
            if ids.count(name) > 1:
                raise InputError(source, f"{field}: id", name, "use each id once")
    if not robots:
        raise InputError(source, "robots", [], "give at least one")
    floor, full = config.number("threshold_soc", 0, 1), config.number("recharge_soc", 0, 1)
    if floor >= full:
        raise InputError(source, "config.recharge_soc", full, f"use more than threshold_soc, {floor}")
    rate = config.number("charge_rate_soc_per_s", 0)
    if rate <= 0:
        raise InputError(source, "config.charge_rate_soc_per_s", rate, "use a number above 0")
    return Instance(source, robots, tasks, floor, full, rate, travel_s, travel_dsoc)


class _Reader:
    """Reads fields of a JSON object, with errors that say what to mend."""

    def __init__(self, source: str, where: str, raw: Any) -> None:
        self._source, self._where = source, where
        if not isinstance(raw, Mapping):
            raise InputError(source, where.rstrip(".") or "file", type(raw).__name__, "use a JSON object")
        self._raw = raw

    def get(self, name: str) -> Any:
        if name not in self._raw:
            raise InputError(self._source, self._where + name, "missing", "add it")
        return self._raw[name]

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        value = self.get(name)
        limits = "a finite number" + (f" from {low:g} to {high:g}" if math.isfinite(high) else "")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(self._source, self._where + name, value, f"use {limits}")
        if not low <= value <= high:
            raise InputError(
                self._source, self._where + name, value, f"use {limits}" if high < math.inf else f"use {low:g} or more"
            )
        return float(value)

    def name(self, name: str) -> str:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(self._source, self._where + name, value, "use a text or a whole number")
        return str(value)

    def place(self, name: str, places: int) -> int:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < places:
            raise InputError(self._source, self._where + name, value, f"use a waypoint, 0 to {places - 1}")
        return value

    def rows(self, name: str) -> list[_Reader]:
        value = self.get(name)
        if not isinstance(value, list):
            raise InputError(self._source, self._where + name, type(value).__name__, "use a list of objects")
        return [_Reader(self._source, f"{self._where}{name}[{i}].", row) for i, row in enumerate(value)]

    def matrix(self, name: str) -> Matrix:
        rows = self.get(name)
        if not isinstance(rows, list) or not rows:
            raise InputError(self._source, name, type(rows).__name__, "use a square list of lists")
        matrix = np.full((len(rows), len(rows)), math.inf)
        for i, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(rows):
                size = len(row) if isinstance(row, list) else type(row).__name__
                raise InputError(self._source, f"{name}[{i}]", size, f"use a list of {len(rows)} numbers or nulls")
            for j, value in enumerate(row):
                if value is None:
                    continue
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                    raise InputError(self._source, f"{name}[{i}][{j}]", value, "use a number of at least 0, or null")
                matrix[i, j] = value
        return matrix


def problem(instance: Instance, tasks: Sequence[Task]) -> Problem:
    """Return the allocation problem of some tasks of an instance."""
    no_way = np.isinf(instance.travel_s) | np.isinf(instance.travel_dsoc)
    return Problem(
        tasks=[
            TaskSpec(
                task.pickup,
                task.dropoff,
                pickup_window_s=(task.earliest_start_s, math.inf),
                due_s=task.earliest_start_s,
                late_rate=1.0,
                reserve=RESERVE_S,
            )
            for task in tasks
        ],
        robots=[RobotSpec(robot.start, free_s=0.0, soc=robot.soc, chargers=(robot.charger,)) for robot in instance.robots],
        travel_s=np.where(no_way, math.inf, instance.travel_s),
        leg_soc=np.where(no_way, math.inf, instance.travel_dsoc),
        battery=BatteryRules(instance.threshold_soc, instance.recharge_soc, instance.charge_rate_soc_per_s),
        weights=Weights(cost=0.0),
    )


def sort_out(instance: Instance) -> tuple[list[Task], dict[str, str]]:
    """Return the tasks that some robot can do when it does nothing else, and for each other one why not."""
    able, unable = [], {}
    tables = problem(instance, instance.tasks).tables()
    for t, task in enumerate(instance.tasks):
        if any(itinerary(tables, r, [t, len(instance.tasks) + t])[0] < INFINITE for r in range(len(instance.robots))):
            able.append(task)
        else:
            unable[task.id] = why_not(instance, task)
    return able, unable


def why_not(instance: Instance, task: Task) -> str:
    """Return the reason why no robot can do a task, with the numbers."""
    way, soc = instance.travel_s, instance.travel_dsoc
    if math.isinf(way[task.pickup, task.dropoff]):
        return f"no way from pickup {task.pickup} to dropoff {task.dropoff}"
    reach = [r for r in instance.robots if math.isfinite(way[r.start, task.pickup])]
    if not reach:
        return f"no robot can reach pickup {task.pickup}"
    back = [r for r in reach if math.isfinite(way[task.dropoff, r.charger])]
    if not back:
        return f"no robot that reaches pickup {task.pickup} can come from dropoff {task.dropoff} to its charger"
    least, best, start = math.inf, back[0], "its charger, fully charged"
    for robot in back:
        task_soc = soc[task.pickup, task.dropoff] + soc[task.dropoff, robot.charger]
        to_charger = soc[robot.start, robot.charger]
        options = [(instance.threshold_soc + soc[robot.start, task.pickup] + task_soc - robot.soc, "its start")]
        if to_charger <= robot.soc:
            from_full = instance.threshold_soc + soc[robot.charger, task.pickup] + task_soc - instance.recharge_soc
            options.append((from_full, "its charger, charged as far as it may be"))
        short, where = min(options)
        if short < least:
            least, best, start = short, robot, where
    return f"battery: {best.id}, which comes nearest to it, is {max(least, 0.0):.4f} of a battery short, from {start}"


def schedule(instance: Instance, tasks: Sequence[Task], tables: Tables, outcome: Outcome) -> list[dict[str, Any]]:
    """Return for each robot what it does when, as it is written to the file."""
    n, rows = len(tasks), []
    for r, queue in enumerate(outcome.plan.queues):
        _, events = itinerary(tables, r, [stop.task if stop.pickup else n + stop.task for stop in queue])
        begin_s = 0.0
        for event in events:
            row: dict[str, Any] = {"robot": instance.robots[r].id}
            if event.kind == "charge":
                row |= {
                    "task": None,
                    "charger": event.place,
                    "start": event.begin_s,
                    "finish": event.end_s,
                    "soc": event.soc,
                }
                rows.append(row)
            elif event.kind == "pickup":
                begin_s = event.begin_s
            elif event.kind == "dropoff":
                row |= {"task": tasks[event.task].id, "start": begin_s, "finish": event.end_s, "soc": event.soc}
                rows.append(row)
    return rows
