"""A robot driver without a body: it does its jobs as told, from point to point, much faster than any robot could."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from fleet_market.body import Act, Battery, DriverSpec, End, Go, Job, Link, Pose, Result, Telemetry
from fleet_market.ids import RobotId

POINT_S, ACT_S = 0.02, 0.05
SHOWN_S = 0.15
"""A step is done when its effect has been seen in the telemetry, which is looked at 20 times a second."""
J_PER_POINT = 20.0


class HastyDriver:
    """Implements `fleet_market.ports.RobotDriver`; keeps to what is released, proves every step, never runs empty.

    Parameters
    ----------
    robot : RobotId
    home : Pose
        Where it stands.
    """

    def __init__(self, robot: RobotId, home: Pose) -> None:
        self.spec = DriverSpec(
            robot, 50.0, 50.0, frozenset({"load", "unload", "charge"}), frozenset({"pose", "payload_kg"})
        )
        self._pose, self._payload_kg, self._used_j = home, 0.0, 0.0
        self._seq = self._passed = self._released = 0
        self._job = ""
        self._moving = self._stopping = False

    async def open(self, *, timeout_s: float) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        self._seq += 1
        return Telemetry(
            seq=self._seq, stamp_ns=time.time_ns(), link=Link.UP, pose=self._pose, moving=self._moving,
            battery=Battery(soc=0.9, energy_out_j=self._used_j), payload_kg=self._payload_kg,
        )  # fmt: skip

    async def run(self, job: Job, *, deadline_s: float, on_step: Callable[[int, str], None] | None = None) -> Result:  # noqa: ARG002
        """Run `job`."""
        self._job, self._stopping = job.id, False
        for number, step in enumerate(job.steps):
            self._passed, self._released = 0, step.released if isinstance(step, Go) and step.path else 1
            done = await (self._go(step) if isinstance(step, Go) else self._act(step))
            self._moving = False
            if not done:
                return Result(job.id, End.CANCELLED, number, "stopped", standstill=True)
            if on_step is not None:
                on_step(number, "done")
        return Result(job.id, End.DONE, len(job.steps), standstill=True)

    async def _go(self, step: Go) -> bool:
        path = step.path or ((step.pose.x, step.pose.y),)
        while self._passed < len(path):
            await asyncio.sleep(POINT_S)
            if self._stopping:
                return False
            self._moving = self._passed < self._released
            if self._moving:
                self._pose = Pose(*path[self._passed], step.pose.yaw)
                self._passed += 1
                self._used_j += J_PER_POINT
        return True

    async def _act(self, step: Act) -> bool:
        await asyncio.sleep(ACT_S)
        if self._stopping:
            return False
        if step.kind != "charge":
            self._payload_kg = step.mass_kg if step.kind == "load" else 0.0
            await asyncio.sleep(SHOWN_S)
        return True

    def release(self, job_id: str, points: int) -> None:
        """Let the running `Go` of `job_id` go on."""
        if job_id == self._job:
            self._released = max(self._released, points)

    def passed(self) -> int:
        """Return how many points of the running `Go` lie behind the robot."""
        return self._passed

    async def stop(self, *, timeout_s: float) -> bool:  # noqa: ARG002
        """End the running job."""
        self._stopping = True
        return True

    async def estop(self, *, engage: bool = True) -> None:
        """Do nothing."""
