"""A robot of nothing but arithmetic: to try the market and the conformance suite where there is no robot."""

from __future__ import annotations

from typing import Self

from fleet_market.body import Point, Pose
from fleet_market.robot.tracking import Limits
from fleet_market.testing import KinematicBase
from fleet_market.testing.kinematic_base import STALE_S
from fleet_market_hardware.drivers import DriverSetup, settings_of
from fleet_market_hardware.follower import Follower

LIMITS = Limits(1.0, 0.6, 1.5)


def driver(setup: DriverSetup) -> Follower:
    """Return a driver of a unicycle at the origin; it has no settings."""
    settings_of(setup, {})
    kind = setup.type
    return Follower(KinematicBase(Pose(0.0, 0.0)), Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps))


class KinematicBench:
    """The unicycle at the origin. Implements `fleet_market.testing.conformance.Bench`; a restart it cannot do."""

    course: tuple[Point, ...] = tuple((0.25 * i, 0.0) for i in range(17))
    abilities = frozenset({"cut", "block", "teleport", "abandon", "spoil_scale", "base"})
    deadline_s = 60.0
    stale_s, stop_s = STALE_S, 4.0

    def __init__(self) -> None:
        self._base = KinematicBase(Pose(0.0, 0.0))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing is left behind."""

    def driver(self) -> Follower:
        """Return a driver."""
        return Follower(self._base, LIMITS)

    def base(self) -> KinematicBase:
        """Return the base."""
        return self._base

    def true_pose(self) -> Pose:
        """Return where it is."""
        return self._base.pose

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await self._base.pass_time(seconds)

    def cut(self, *, broken: bool) -> None:
        """Break or mend the link."""
        self._base.silent = broken

    def block(self, *, held: bool) -> None:
        """Hold it, or let go."""
        self._base.stuck = held

    def teleport(self, pose: Pose) -> None:
        """Set it down."""
        self._base.pose = pose

    def reset(self) -> None:
        """Not able to."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """Let no command through any more."""
        self._base.deaf = True

    def spoil_scale(self) -> None:
        """Have loads not happen."""
        self._base.broken_scale = True


bench = KinematicBench
