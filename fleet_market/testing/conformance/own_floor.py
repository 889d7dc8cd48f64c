"""A robot of the user's own, on his own floor: nobody is there to hold, carry or unplug it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import ClassVar, Self

from fleet_market.body import End, Go, Job, Point, Pose
from fleet_market.errors import FleetMarketError
from fleet_market.ports import RobotDriver, VelocityBase

STEP_M = 0.25
SLOW_MPS = 0.1
OPEN_S = 30.0


class OwnFloor:
    """Drives to and fro in front of where the robot stood at first. Implements `Bench`; the truth is what the driver says.

    One object serves all rows, so that the robot comes back to where it began.

    Parameters
    ----------
    make : callable
        Makes a driver of the robot.
    clear_m : float
        Free floor straight in front of it, metres.
    """

    SHORTEST_M: ClassVar[float] = 2.5
    abilities: frozenset[str] = frozenset()
    stale_s, stop_s = 5.0, 5.0

    def __init__(self, make: Callable[[], RobotDriver], clear_m: float) -> None:
        self._make, self._clear_m = make, clear_m
        self.deadline_s = 20.0 + clear_m / SLOW_MPS
        self._driver = make()
        self._begins: Pose | None = None
        self.course: tuple[Point, ...] = ()

    async def __aenter__(self) -> Self:
        """Find out where the robot stands; drive it back if a row has left it in front of where it began."""
        await self._driver.open(timeout_s=OPEN_S)
        pose = self._driver.telemetry().pose
        if pose is None:
            raise FleetMarketError("the robot does not know where it is: localise it first")
        begins = self._begins = self._begins or pose
        count = math.ceil(self._clear_m / STEP_M)
        step = self._clear_m / count
        self.course = tuple(
            (begins.x + i * step * math.cos(begins.yaw), begins.y + i * step * math.sin(begins.yaw))
            for i in range(count + 1)
        )
        if pose.distance_to(begins.x, begins.y) > STEP_M / 5:
            back = Go(begins, ((pose.x, pose.y), (begins.x, begins.y)), 2, tol_rad=0.2)
            result = await self._driver.run(Job("back", (back,)), deadline_s=self.deadline_s)
            if result.end is not End.DONE:
                raise FleetMarketError(f"the robot did not get back to where it began: {result.reason}")
        await self._driver.close()
        self._driver = self._make()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Leave the robot where it is."""
        await self._driver.close()

    def driver(self) -> RobotDriver:
        """Return the driver, not yet open."""
        self._driver = self._make()
        return self._driver

    def base(self) -> VelocityBase:
        """Not able to."""
        raise NotImplementedError

    def true_pose(self) -> Pose:
        """Return where the driver says that the robot is."""
        pose = self._driver.telemetry().pose
        if pose is None:
            raise FleetMarketError("the robot has lost its pose")
        return pose

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def cut(self, *, broken: bool) -> None:
        """Not able to."""
        raise NotImplementedError

    def block(self, *, held: bool) -> None:
        """Not able to."""
        raise NotImplementedError

    def teleport(self, pose: Pose) -> None:
        """Not able to."""
        raise NotImplementedError

    def reset(self) -> None:
        """Not able to."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """Not able to."""
        raise NotImplementedError

    def spoil_scale(self) -> None:
        """Not able to."""
        raise NotImplementedError
