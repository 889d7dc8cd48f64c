"""Who a leg was driven for, and what it took: shared out among the contracts.

A leg belongs in equal parts to the parcels aboard on it and to the one whose stop it leads to. So the contracts'
measured energies add up to what the robot drew on its way to their stops, each measured once; ways home and to chargers
belong to nobody. A part of a leg is planned as a leg of that part of its length, turns and halts, which takes that part of
the energy and of the time: what is learned from a contract is learned from what was really driven for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fleet_market.body import Pose
from fleet_market.errors import UnreachableError
from fleet_market.ids import OrderId
from fleet_market.protocol.messages import Fix
from fleet_market.robot.legs import Legs
from fleet_market.robot.records import fix
from fleet_market.robot.situation import Drawn, Goal, Situation
from fleet_market.robot.tasks import Task


@dataclass(frozen=True, slots=True)
class _Start:
    goal: Goal
    pose: Pose
    drawn: Drawn
    at_ns: int
    fix: Fix


class Meter:
    """Keeps the books of one agent's legs."""

    def __init__(self, situation: Situation, legs: Legs) -> None:
        self._now, self._legs = situation, legs
        self._start: _Start | None = None

    def set_out(self, goal: Goal | None, pose: Pose, now_ns: int) -> None:
        """Take note that the robot sets out; a leg that was interrupted goes on."""
        if goal is None:
            self._start = None
        elif self._start is None or self._start.goal != goal:
            at = fix(pose, self._now.telemetry, now_ns)
            self._start = _Start(goal, pose, self._now.drawn(), now_ns, at)

    def so_far_j(self, task: Task) -> float | None:
        """Return what was measured for a task until now, the running leg included; None where there is no meter.

        What a leg took that was given up for another goal is nobody's, as in `arrived`: the figure falls then.
        """
        now, start = self._now, self._start
        if not (task.metered and now.metered):
            return None
        if start is None or start.goal.visit is None or task not in (riders := self._riders(start.goal.visit.order)):
            return task.energy_j
        energy_j, counted = now.drawn().since(start.drawn)
        return task.energy_j + energy_j / len(riders) if counted else None

    def _riders(self, order: OrderId) -> list[Task]:
        """Return for whom a leg to a stop of `order` is driven."""
        return [one for one in self._now.tasks if one.aboard or one.order == order]

    def arrived(self, task: Task, pose: Pose, now_ns: int) -> None:
        """Share out the leg that ends with a stop of `task` at `pose`, its loading or unloading included."""
        start, self._start = self._start, None
        if start is None or start.goal.place is None:
            return
        riders = self._riders(task.order)
        part = 1 / len(riders)
        for rider in riders:
            rider.fixes = rider.fixes or [start.fix]
            rider.shared = rider.shared or len(riders) > 1
        task.fixes.append(fix(pose, self._now.telemetry, now_ns))
        try:
            way = self._legs.way(start.pose, start.goal.place)
        except UnreachableError:
            driven = []
        else:
            driven = way.plan(start.pose.yaw, self._now.contracted_kg())
        energy_j, counted = self._now.drawn().since(start.drawn)
        for rider in riders:
            rider.legs += [
                replace(leg, length_m=leg.length_m * part, turn_rad=leg.turn_rad * part, halts=leg.halts * part)
                for leg in driven
            ]
            rider.dwell_s += self._now.config.type.handling_s * part
            rider.energy_j += energy_j * part
            rider.metered &= counted and "energy" in self._now.measures
            rider.executed_s += (now_ns - start.at_ns) / 1e9 * part
