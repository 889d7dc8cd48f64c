"""A robot of arithmetic that keeps real time: what a node's tests drive where no ROS topics are needed."""

import asyncio
import contextlib
import time
from dataclasses import replace

from fleet_market.body import Battery, Link, Pose
from fleet_market.robot.tracking import Limits
from fleet_market.testing.kinematic_base import PERIOD_S, KinematicBase
from fleet_market_hardware.drivers import settings_of
from fleet_market_hardware.follower import Follower

J_PER_M = 40.0
made = []
"""All bases that were made, newest last."""


class Toy(KinematicBase):
    """Its time is the wall clock, and passes by itself, `speed` times as fast."""

    def __init__(self, pose, speed, *, metered=False):
        self.refused, self._metered = 0, metered
        super().__init__(pose)
        if metered:
            self.spec = replace(self.spec, measures=self.spec.measures | {"energy"})
        self._speed, self._news, self._soc = speed, asyncio.Event(), 0.9
        self.ticking = None

    def _snapshot(self):
        battery = Battery(soc=0.9, energy_out_j=J_PER_M * self._odometer_m if self._metered else None)
        return replace(super()._snapshot(), stamp_ns=time.time_ns(), battery=battery)

    def telemetry(self):
        return replace(self._shown, link=Link.LOST) if self.silent else self._snapshot()

    async def open(self, *, timeout_s):
        await super().open(timeout_s=timeout_s)
        self.ticking = asyncio.create_task(self._tick())

    async def close(self):
        if self.ticking is not None:
            self.ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.ticking
        self.ticking = None

    async def next_telemetry(self, after, *, timeout_s):
        async with asyncio.timeout(timeout_s):
            while self._seq <= after or self.silent:
                await self._news.wait()
        return self.telemetry()

    async def _tick(self):
        while True:
            await asyncio.sleep(PERIOD_S / self._speed)
            self.advance()
            self._news.set()
            self._news = asyncio.Event()


def driver(setup):
    given = settings_of(setup, {"x": 0.0, "y": 0.0, "speed": 10.0, "silent": False, "metered": False})
    base = Toy(Pose(given["x"], given["y"]), given["speed"], metered=given["metered"])
    base.silent = given["silent"]
    made.append(base)
    kind = setup.type
    return Follower(base, Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps))
