"""A robot on a test bench: what the suite needs to know of it and may do to it."""

from __future__ import annotations

from typing import Protocol, Self

from fleet_market.body import Point, Pose
from fleet_market.ports import RobotDriver, VelocityBase

ABILITIES = {
    "cut": "break the link between driver and robot, and mend it",
    "block": "hold the robot so that it cannot move, and let go",
    "teleport": "set the robot down elsewhere",
    "reset": "restart the robot's controller, whose counters begin at 0 again",
    "abandon": "end the driver as kill -9 does, so that no command follows",
    "spoil_scale": "have the next load or unload not happen",
    "base": "give the velocity base under the driver",
}
"""What a bench may be able to do."""


class Bench(Protocol):
    """One robot, with room to drive along `course`. The suite makes a bench anew for each row."""

    course: tuple[Point, ...]
    """Points of a straight line that begins under the robot, at least 2.5 m in steps of at most 0.5 m, map frame."""
    abilities: frozenset[str]
    """Which of `ABILITIES` this bench has."""
    deadline_s: float
    """Within this (robot's time) the robot has driven the course with ease."""
    stale_s: float
    """Telemetry older than this ends a job as LOST, as the driver says (robot's time)."""
    stop_s: float
    """Within this (robot's time) the robot stands after its link or its driver is gone."""

    async def __aenter__(self) -> Self:
        """Set the robot up at the beginning of the course, at rest and unloaded."""

    async def __aexit__(self, *exc: object) -> None:
        """Take everything down."""

    def driver(self) -> RobotDriver:
        """Return a driver of the robot that is not yet open."""

    def base(self) -> VelocityBase:
        """Return the velocity base of the robot, not yet open (ability ``base``)."""

    def true_pose(self) -> Pose:
        """Return where the robot really is; where nothing else knows, what its driver says."""

    async def pause(self, seconds: float) -> None:
        """Let this much of the robot's time pass."""

    def cut(self, *, broken: bool) -> None:
        """Break or mend the link."""

    def block(self, *, held: bool) -> None:
        """Hold the robot, or let go of it."""

    def teleport(self, pose: Pose) -> None:
        """Set the robot down at `pose`."""

    def reset(self) -> None:
        """Restart the robot's controller."""

    async def abandon(self) -> None:
        """End the driver without a last command."""

    def spoil_scale(self) -> None:
        """Have loads and unloads not happen from now on."""
