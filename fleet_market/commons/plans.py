"""Plans of robots through a shared floor, and who waits for whom.

A plan is a list of points with the times at which the robot is expected there. A robot holds a point from its departure
towards it until its arrival at the next one; two robots may not hold points at the same time that are nearer than the
separation. Planned times are only expectations: what is kept is their order. Whoever came first by plan goes first, however
late he is, so that delays never lead to a collision, and, since all orders follow the time of one common schedule, never
to robots that wait for each other in a circle (action dependency graph, Hoenig et al. 2019, "Persistent and robust
execution of MAPF schedules in warehouses").
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.body import Point
from fleet_market.ids import MessageId, RobotId, RouteId

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]

AHEAD_M = 3.5
"""A robot is given leave to drive this far ahead: enough to brake from full speed, not so much that others must wait."""
ROUNDING_S = 1e-6
"""Sums of times are only as exact as floats; every drive takes much longer than this."""


@dataclass(slots=True)
class Plan:
    """A robot's way, from where it stood when it asked.

    All lists have one entry per point; times in seconds of market time.
    """

    route: RouteId
    request: MessageId | None
    points: list[Point]
    nodes: list[int]
    """Nodes of the roadmap; -1 for the first point, which may be anywhere."""
    dwell_s: list[float]
    """Time that the robot stays at each point."""
    drive_s: list[float]
    """Time from the point before; 0 for the first."""
    arrive_s: list[float]
    stops: tuple[int, ...] = ()
    """Points at which it has something to do."""
    stops_done: int = 0
    served: bool = True
    reason: str = ""
    """Why it is not served."""
    charger: int | None = None
    needs: list[dict[RobotId, int]] = field(default_factory=list)
    """For each point: how many points of which other robot's plan must be passed before it may be driven to."""
    passed: int = 1
    released: int = 1
    told_s: float | None = None
    """When the robot last moved on, or was told again how far it may go."""
    ends: bool = False
    """Interrupted: nothing beyond the released points is planned any more."""

    def end_of_leg(self) -> int:
        """Return the index of the robot's next stop, or of the plan's last point."""
        return self.stops[self.stops_done] if self.stops_done < len(self.stops) else len(self.points) - 1

    def depart_s(self, index: int) -> float:
        """Return when the robot leaves a point; infinite for the last."""
        if index >= len(self.points) - 1:
            return math.inf
        return self.arrive_s[index + 1] - self.drive_s[index + 1]

    def held_from_s(self, index: int) -> float:
        """Return from when the point is held; what the robot may drive to already is held from ever."""
        return -math.inf if index < self.released or index == 0 else self.depart_s(index - 1)

    def held_until_s(self, index: int) -> float:
        """Return until when the point is held."""
        if index >= len(self.points) - 1 or (self.ends and index < self.released):
            return math.inf
        return self.arrive_s[index + 1]

    def open_points(self) -> range:
        """Return the indices of the points that the robot is at or still has before it."""
        return range(self.passed - 1, self.released if self.ends else len(self.points))


class Schedule:
    """The plans of all robots, kept consistent.

    Parameters
    ----------
    separation_m : float
        Distance between two points that two robots may hold at the same time.
    slack_m : float
        The first point of a plan, where a robot stands by chance, may be nearer to others by this.
    """

    def __init__(self, separation_m: float, slack_m: float) -> None:
        self._separation_m, self._slack_m = separation_m, slack_m
        self.plans: dict[RobotId, Plan] = {}

    def radius_m(self, index: int) -> float:
        """Return the distance that others keep from a plan's point."""
        return (self._separation_m - self._slack_m if index == 0 else self._separation_m) - 1e-6

    def put(self, robot: RobotId, plan: Plan) -> None:
        """Replace the robot's plan and settle between it and every other one who goes first.

        Two robots that already stand too near to each other stay as they are.

        Raises
        ------
        ValueError
            If the new plan is in conflict with another one; nothing has changed then.
        """
        plan.needs = [{} for _ in plan.points]
        added: list[tuple[RobotId, int, int]] = []
        mine_from_s, mine_until_s = _held_s(plan)
        for other, theirs in self.plans.items():
            if other == robot:
                continue
            mine, their = self._close_pairs(plan, theirs)
            if not len(mine):
                continue
            from_s, until_s = _held_s(theirs)
            after = (until_s[their] <= mine_from_s[mine] + ROUNDING_S) & (mine > 0)
            before = ~after & (mine_until_s[mine] <= from_s[their] + ROUNDING_S) & (their >= theirs.released)
            if (~after & ~before & ((mine >= plan.released) | (their >= theirs.released))).any():
                raise ValueError(f"{robot} and {other} would hold the same place")
            for i, passed in zip(mine[after].tolist(), (their[after] + 2).tolist(), strict=True):
                _need(plan.needs[i], other, passed)
            added += [
                (other, j, passed) for j, passed in zip(their[before].tolist(), (mine[before] + 2).tolist(), strict=True)
            ]
        for theirs in self.plans.values():
            for needs in theirs.needs:
                needs.pop(robot, None)
        for other, their_i, passed in added:
            _need(self.plans[other].needs[their_i], robot, passed)
        self.plans[robot] = plan

    def replace(self, robot: RobotId, plan: Plan) -> None:
        """Replace the robot's plan although it is in conflict with others; leave that they have to drive stays."""
        for theirs in self.plans.values():
            for needs in theirs.needs[: theirs.released]:
                needs.pop(robot, None)
        self.plans[robot] = plan

    def _close_pairs(self, mine: Plan, theirs: Plan) -> tuple[IntArray, IntArray]:
        """Return the open points of two plans that are too near to each other: indices of the one, and of the other."""
        first, other_first = mine.open_points(), theirs.open_points()
        if not first or not other_first:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        a, b = (
            np.array(mine.points[first.start : first.stop]),
            np.array(theirs.points[other_first.start : other_first.stop]),
        )
        distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
        reach = np.full(distance.shape, self.radius_m(1))
        if first.start == 0:
            reach[0, :] = self.radius_m(0)
        if other_first.start == 0:
            reach[:, 0] = self.radius_m(0)
        i, j = np.nonzero(distance < reach)
        return i + first.start, j + other_first.start

    def refresh(self, now_s: float) -> None:
        """Bring the expected times up to date, in the order in which the plans wait for each other.

        A plan that waits for one that has been interrupted, or replaced by a stay, never goes on: its times become
        infinite.
        """
        events = sorted(
            (plan.arrive_s[i], robot, i)
            for robot, plan in self.plans.items()
            for i in plan.open_points()
            if i >= plan.passed
        )
        for _, robot, i in events:
            plan = self.plans[robot]
            leave_s = plan.arrive_s[i - 1] + plan.dwell_s[i - 1]
            if i == plan.passed:
                leave_s = max(now_s, leave_s)
            for other, passed in plan.needs[i].items():
                leave_s = max(leave_s, self._passes_s(other, passed))
            plan.arrive_s[i] = leave_s + plan.drive_s[i]

    def _passes_s(self, robot: RobotId, passed: int) -> float:
        plan = self.plans[robot]
        if plan.passed >= passed:
            return -math.inf
        if passed > (plan.released if plan.ends else len(plan.points)):
            return math.inf  # it was interrupted, or stays where it is instead
        return plan.arrive_s[passed - 1]

    def in_conflict(self, robot: RobotId) -> list[RobotId]:
        """Return the robots that still mean to come too near to where `robot` is or has leave to go."""
        mine = self.plans[robot]
        return [
            other
            for other, theirs in self.plans.items()
            if other != robot
            and any(
                i < mine.released and j >= theirs.released for i, j in zip(*self._close_pairs(mine, theirs), strict=True)
            )
        ]

    def stuck(self) -> list[RobotId]:
        """Return the robots whose plans never end, after `refresh`."""
        return [r for r, plan in self.plans.items() if not plan.ends and math.isinf(plan.arrive_s[-1])]

    def release(self, robot: RobotId) -> bool:
        """Give the robot leave to drive on as far as nobody goes first; return whether that is further than before.

        Leave ends at the robot's next stop: others may pass behind it while it loads or charges.
        """
        plan = self.plans[robot]
        if plan.ends:
            return False
        before, at = plan.released, plan.points[plan.passed - 1]
        way_m, previous = 0.0, at
        for i in range(plan.passed, plan.end_of_leg() + 1):
            way_m += math.dist(previous, plan.points[i])
            previous = plan.points[i]
            if i < plan.released:
                continue
            if way_m > AHEAD_M or any(self.plans[r].passed < passed for r, passed in plan.needs[i].items()):
                break
            plan.released = i + 1
        return plan.released > before


def _held_s(plan: Plan) -> tuple[FloatArray, FloatArray]:
    """Return from when and until when each point is held; of those that are not open any more, nothing that counts."""
    points = range(len(plan.points))
    return np.array([plan.held_from_s(i) for i in points]), np.array([plan.held_until_s(i) for i in points])


def _need(needs: dict[RobotId, int], robot: RobotId, passed: int) -> None:
    needs[robot] = max(needs.get(robot, 0), passed)
