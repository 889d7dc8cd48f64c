"""An allocation for people and programs: for each robot the stops of its queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fleet_market.allocation.tables import State, Tables, Work
from fleet_market.errors import InputError


class Stop(NamedTuple):
    """A pickup or a dropoff of a task, by the task's number."""

    task: int
    pickup: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The queues of all robots; a task in none of them is unsold."""

    queues: tuple[tuple[Stop, ...], ...]

    @staticmethod
    def empty(robots: int) -> Plan:
        """Return the plan in which nobody does anything."""
        return Plan(((),) * robots)

    def owners(self) -> dict[int, int]:
        """Return the robot of each task that is sold."""
        return {stop.task: r for r, queue in enumerate(self.queues) for stop in queue if stop.pickup}


def new_state(tables: Tables, plan: Plan) -> State:
    """Return the arrays of a plan.

    Raises
    ------
    InputError
        If the plan has another number of robots, or a task is not picked up once and dropped off once, after it, by the
        same robot.
    """
    n, m = tables.task.shape[0], tables.fleet.shape[0]
    if len(plan.queues) != m:
        raise InputError("plan", "queues", len(plan.queues), f"give one for each of {m} robots")
    link = np.full((2 * n + 2 * m, 2), -1, dtype=np.int64)
    own = np.full(n, -1, dtype=np.int64)
    for r, queue in enumerate(plan.queues):
        _check_queue(queue, r, n, own)
        stops = [2 * n + r, *(stop.task if stop.pickup else n + stop.task for stop in queue), 2 * n + m + r]
        link[stops[:-1], 0] = stops[1:]
        link[stops[1:], 1] = stops[:-1]
    return State(
        link=link,
        own=own,
        when=np.zeros((2 * n + 2 * m, 5)),
        robot=np.zeros((m, 2)),
        best_link=link.copy(),
        best_own=own.copy(),
        sums=np.zeros(4),
    )


def _check_queue(queue: Sequence[Stop], r: int, tasks: int, own: np.ndarray) -> None:
    aboard: set[int] = set()
    for stop in queue:
        if not 0 <= stop.task < tasks:
            raise InputError("plan", f"queues[{r}]", stop, f"use tasks 0 to {tasks - 1}")
        if stop.pickup:
            if own[stop.task] >= 0:
                raise InputError("plan", f"queues[{r}]", stop, "pick each task up once")
            own[stop.task] = r
            aboard.add(stop.task)
        elif stop.task not in aboard:
            raise InputError("plan", f"queues[{r}]", stop, "pick a task up before it is dropped off, on the same robot")
        else:
            aboard.remove(stop.task)
    if aboard:
        raise InputError("plan", f"queues[{r}]", min(aboard), "drop off what is picked up")


def new_work(tables: Tables) -> Work:
    """Return room to work in."""
    n, m = tables.task.shape[0], tables.fleet.shape[0]

    def ints(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.int64)

    return Work(
        lots=ints(n), key=np.zeros(n), on_sale=ints(n), seen=ints(m), seen_kind=ints(m), saved=ints(m, 3), touched=ints(m),
        arena=ints(2 * n + 2 * m), saved_robot=np.zeros((m, 2)), askers=ints(m), absent=ints(n), queue=ints(2 * n + 4),
        trial=ints(2 * n + 4), label=np.zeros((2 * n + 4, 6)),
    )  # fmt: skip


def read_plan(tables: Tables, link: np.ndarray) -> Plan:
    """Return the plan of linked queues."""
    n, m = tables.task.shape[0], tables.fleet.shape[0]
    queues = []
    for r in range(m):
        queue, v = [], int(link[2 * n + r, 0])
        while v != 2 * n + m + r:
            queue.append(Stop(v if v < n else v - n, v < n))
            v = int(link[v, 0])
        queues.append(tuple(queue))
    return Plan(tuple(queues))
