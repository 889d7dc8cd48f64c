"""The one waypoint follower: makes a `RobotDriver` of any `VelocityBase`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from fleet_market.body import Act, DriverSpec, End, Go, Job, Link, Result, Telemetry
from fleet_market.ports import VelocityBase
from fleet_market.robot.tracking import Limits, PathTracker
from fleet_market_hardware.refusing import refusal

VALID_S = 0.3
"""Dead-man: the base brakes by itself this long after the last command."""
SILENCE_S = 2.0
"""Telemetry that stays away for this long (wall time) ends a job as LOST."""
BLOCKED_S = 5.0
"""A robot that is told to drive and does not move for this long (its own time) is blocked."""
OFF_PATH_M = 0.5
STOP_S = 10.0
SCALE_SLACK_KG = 0.5
MOVING_MPS = 0.02


class _JobError(Exception):
    """Ends the running job."""

    def __init__(self, end: End, reason: str) -> None:
        self.end, self.reason = end, reason
        super().__init__(reason)


class Follower:
    """Runs jobs on a velocity base. Implements `fleet_market.ports.RobotDriver`.

    Parameters
    ----------
    base : VelocityBase
    limits : Limits
        What the base can do; a `Go.max_speed` below goes before it.
    """

    def __init__(self, base: VelocityBase, limits: Limits) -> None:
        self.spec: DriverSpec = base.spec
        self._base, self._limits = base, limits
        self._job: Job | None = None
        self._running: asyncio.Task[Result] | None = None
        self._released = self._passed = 0
        self._estop = False

    async def open(self, *, timeout_s: float) -> None:
        """Connect to the base; returns once telemetry exists."""
        await self._base.open(timeout_s=timeout_s)

    async def close(self) -> None:
        """Stop and disconnect."""
        with contextlib.suppress(TimeoutError):
            await self.stop(timeout_s=STOP_S)
        await self._base.close()

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        return self._base.telemetry()

    def release(self, job_id: str, points: int) -> None:
        """Let the running Go of `job_id` drive through its first `points` points; never fewer than before."""
        if self._job is not None and self._job.id == job_id:
            self._released = max(self._released, points)

    def passed(self) -> int:
        """Return how many points of the running Go lie behind the robot."""
        return self._passed

    async def run(self, job: Job, *, deadline_s: float, on_step: Callable[[int, str], None] | None = None) -> Result:
        """Run `job`; `deadline_s` is in the robot's own time from now. See `RobotDriver.run`."""
        if refusal := self._refusal(job):
            return Result(job.id, End.REJECTED, 0, refusal)
        self._job = job
        done = 0
        try:
            end_ns = self._base.telemetry().stamp_ns + round(deadline_s * 1e9)
            self._running = asyncio.current_task()
            for done, step in enumerate(job.steps):
                await (self._go(step, end_ns) if isinstance(step, Go) else self._act(step, end_ns))
                if on_step is not None:
                    on_step(done, type(step).__name__.lower())
            return Result(job.id, End.DONE, len(job.steps), standstill=await self._halt())
        except _JobError as trouble:
            standstill = None if trouble.end is End.LOST else await self._halt()
            return Result(job.id, trouble.end, done, trouble.reason, standstill)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            return Result(job.id, End.CANCELLED, done, "stopped", await self._halt())
        finally:
            self._job = self._running = None
            self._passed = self._released = 0

    def _refusal(self, job: Job) -> str:
        """Return why a job is not begun; empty if it is."""
        if self._estop:
            return "emergency stop is latched"
        if self._job is not None:
            return "another job is running"
        return refusal(self.spec, job)

    async def stop(self, *, timeout_s: float) -> bool:
        """End the running job; True only if telemetry shows standstill."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    while self._job is not None:
                        await self._base.next_telemetry(self._base.telemetry().seq, timeout_s=timeout_s)
        return await self._halt(timeout_s)

    async def estop(self, *, engage: bool = True) -> None:
        """Latch or release an emergency stop. A stop by software: not a safety function in the sense of ISO 3691-4."""
        self._estop = engage
        if engage:
            await self.stop(timeout_s=STOP_S)

    async def _next(self, telemetry: Telemetry, end_ns: int) -> Telemetry:
        try:
            newer = await self._base.next_telemetry(telemetry.seq, timeout_s=SILENCE_S)
        except TimeoutError:
            raise _JobError(End.LOST, f"no telemetry for {SILENCE_S:g} s") from None
        if newer.link is not Link.UP or newer.pose is None:
            raise _JobError(End.LOST, f"link is {newer.link}")
        if newer.stamp_ns >= end_ns:
            raise _JobError(End.TIMED_OUT, "the deadline has passed")
        return newer

    async def _go(self, go: Go, end_ns: int) -> None:
        path = go.path or ((go.pose.x, go.pose.y),)
        self._passed, self._released = 0, go.released if go.path else 1
        speed = min(self._limits.speed_mps, go.max_speed or self._limits.speed_mps)
        limits = Limits(speed, self._limits.accel_mps2, self._limits.yaw_rate_radps)
        tracker = PathTracker(path, limits, final_yaw=go.pose.yaw if go.tol_rad is not None else None)
        telemetry = self._base.telemetry()
        moved_ns = telemetry.stamp_ns
        while True:
            telemetry = await self._next(telemetry, end_ns)
            pose = telemetry.pose
            if pose is None:
                raise _JobError(End.LOST, "no pose")
            step = tracker.step(pose, self._released)
            self._passed = max(self._passed, step.passed)
            if step.off_path_m > OFF_PATH_M and self._passed:
                raise _JobError(End.FAILED, f"{step.off_path_m:.2f} m off the path")
            await self._base.drive(step.vx, step.wz, valid_s=VALID_S)
            if step.arrived and not telemetry.moving:
                if pose.distance_to(go.pose.x, go.pose.y) > go.tol_m:
                    raise _JobError(End.FAILED, f"ended {pose.distance_to(go.pose.x, go.pose.y):.2f} m from the goal")
                return
            if telemetry.moving or (step.vx == 0.0 and step.wz == 0.0):
                moved_ns = telemetry.stamp_ns
            elif telemetry.stamp_ns - moved_ns > BLOCKED_S * 1e9:
                raise _JobError(End.FAILED, "blocked: told to drive, but does not move")

    async def _act(self, act: Act, end_ns: int) -> None:
        telemetry = self._base.telemetry()
        begun_ns, before_kg = telemetry.stamp_ns, telemetry.payload_kg
        expected = {"load": act.mass_kg, "unload": -act.mass_kg}.get(act.kind, 0.0)
        await self._base.act(act.kind, parcel=act.parcel, mass_kg=act.mass_kg)
        while True:
            telemetry = await self._next(telemetry, end_ns)
            if telemetry.stamp_ns - begun_ns < act.seconds * 1e9:
                continue
            if act.kind == "charge":
                soc = telemetry.battery.soc
                if act.until_soc is None or (soc is not None and soc >= act.until_soc):
                    return
            elif (
                before_kg is None
                or telemetry.payload_kg is None
                or abs(telemetry.payload_kg - before_kg - expected) <= SCALE_SLACK_KG
            ):
                return
            elif telemetry.stamp_ns - begun_ns > (act.seconds + BLOCKED_S) * 1e9:
                change = telemetry.payload_kg - before_kg
                raise _JobError(End.FAILED, f"{act.kind}: the scale changed by {change:.2f} kg, not by {expected:.2f} kg")

    async def _halt(self, timeout_s: float = STOP_S) -> bool:
        """Command standstill until telemetry shows it."""
        telemetry = self._base.telemetry()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._base.drive(0.0, 0.0, valid_s=VALID_S)
                    telemetry = await self._base.next_telemetry(telemetry.seq, timeout_s=SILENCE_S)
                    if not telemetry.moving:
                        return True
        except TimeoutError:
            return False
