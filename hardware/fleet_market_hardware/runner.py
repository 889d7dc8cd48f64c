"""How any driver runs jobs: one at a time, step by step, each with its evidence, and standstill at every end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from fleet_market.body import Act, DriverSpec, End, Fault, Go, Job, Link, Result, Telemetry
from fleet_market_hardware.refusing import refusal

SILENCE_S = 2.0
"""Telemetry that stays away for this long (wall time) ends a job as LOST."""
STOP_S = 10.0
LATCHED = Fault("emergency_stop", "CRITICAL", "latched by the driver")
SCALE_SLACK_KG = 0.5
LOAD_SHOWS_S = 5.0
"""A load that the scale does not show this long after the action (robot's time) did not come aboard."""


class JobError(Exception):
    """Ends the running job."""

    def __init__(self, end: End, reason: str) -> None:
        self.end, self.reason = end, reason
        super().__init__(reason)


class Body(Protocol):
    """What telemetry and actions come from: of `fleet_market.ports.VelocityBase` all but `drive`."""

    async def open(self, *, timeout_s: float) -> None:
        """Connect; returns once telemetry exists, else raises `TimeoutError`."""

    async def close(self) -> None:
        """Disconnect."""

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Wait for a snapshot with `seq` greater than `after`; raises `TimeoutError`."""

    async def act(self, kind: str, *, parcel: str, mass_kg: float) -> None:
        """Begin an action; its effect shows in telemetry."""


class JobRunner:
    """Implements `fleet_market.ports.RobotDriver` but for the driving: `_go` and `_brake` are the subclass's.

    Parameters
    ----------
    spec : DriverSpec
    body : Body
    """

    def __init__(self, spec: DriverSpec, body: Body) -> None:
        self.spec, self._body = spec, body
        self._job: Job | None = None
        self._ending: asyncio.Future[Result] | None = None
        self._running: asyncio.Task[Result] | None = None
        """The task of the job, as long as `stop` may cancel it."""
        self._released = self._passed = 0
        self._estop = False

    async def _go(self, go: Go, end_ns: int) -> None:
        """Drive; returns with evidence of arrival, else raises `JobError`."""
        raise NotImplementedError

    async def _brake(self) -> bool:
        """Have the robot stop; called until it stands. Returns whether nothing is left that would drive it on."""
        raise NotImplementedError

    async def open(self, *, timeout_s: float) -> None:
        """Connect; returns once telemetry exists."""
        await self._body.open(timeout_s=timeout_s)

    async def close(self) -> None:
        """Stop and disconnect."""
        with contextlib.suppress(TimeoutError):
            await self.stop(timeout_s=STOP_S)
        await self._body.close()

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot; a latched emergency stop is a fault of it."""
        shown = self._body.telemetry()
        return replace(shown, faults=(LATCHED, *shown.faults)) if self._estop else shown

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
        self._job, self._ending = job, asyncio.get_running_loop().create_future()
        result = Result(job.id, End.CANCELLED, 0, "stopped")
        try:
            result = await self._see_through(job, deadline_s, on_step)
            return result
        finally:
            self._ending.set_result(result)
            self._job = self._ending = self._running = None
            self._passed = self._released = 0

    async def _see_through(self, job: Job, deadline_s: float, on_step: Callable[[int, str], None] | None) -> Result:
        done = 0
        try:
            end_ns = self._body.telemetry().stamp_ns + round(deadline_s * 1e9)
            self._running = asyncio.current_task()
            for done, step in enumerate(job.steps):
                await (self._go(step, end_ns) if isinstance(step, Go) else self._act(step, end_ns))
                if on_step is not None:
                    on_step(done, type(step).__name__.lower())
            return Result(job.id, End.DONE, len(job.steps), standstill=await self._halt_for_good())
        except JobError as trouble:
            if trouble.end is End.LOST:
                await self._brake()  # whether it hears is not known
                return Result(job.id, trouble.end, done, trouble.reason)
            return Result(job.id, trouble.end, done, trouble.reason, await self._halt_for_good())
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            return Result(job.id, End.CANCELLED, done, "stopped", await self._halt_for_good())

    async def _halt_for_good(self) -> bool:
        """Halt at a job's end: `stop` has nothing to cancel from here on."""
        self._running = None
        return await self._halt()

    def _refusal(self, job: Job) -> str:
        """Return why a job is not begun; empty if it is."""
        if self._estop:
            return "emergency stop is latched"
        if self._job is not None:
            return "another job is running"
        return refusal(self.spec, job)

    async def stop(self, *, timeout_s: float) -> bool:
        """End the running job; True only if telemetry shows standstill."""
        job, ending = self._job, self._ending
        if job is None or ending is None:
            return await self._halt(timeout_s)
        if self._running is not None:
            self._running.cancel()
            self._running = None
        await asyncio.wait([ending], timeout=timeout_s)
        if ending.done() and ending.result().standstill is not None:
            return ending.result().standstill is True
        return self._job in {None, job} and await self._halt(timeout_s)

    async def estop(self, *, engage: bool = True) -> None:
        """Latch or release an emergency stop. A stop by software: not a safety function in the sense of ISO 3691-4."""
        self._estop = engage
        if engage:
            await self.stop(timeout_s=STOP_S)

    async def _next(self, telemetry: Telemetry, end_ns: int) -> Telemetry:
        try:
            newer = await self._body.next_telemetry(telemetry.seq, timeout_s=SILENCE_S)
        except TimeoutError:
            raise JobError(End.LOST, f"no telemetry for {SILENCE_S:g} s") from None
        if newer.link is not Link.UP:
            raise JobError(End.LOST, f"link is {newer.link}")
        if newer.pose is None:
            raise JobError(End.LOST, "the robot does not know where it is")
        if newer.stamp_ns >= end_ns:
            raise JobError(End.TIMED_OUT, "the deadline has passed")
        return newer

    async def _act(self, act: Act, end_ns: int) -> None:
        telemetry = await self._scale_read(end_ns)
        begun_ns, before_kg = telemetry.stamp_ns, telemetry.payload_kg
        expected = {"load": act.mass_kg, "unload": -act.mass_kg}.get(act.kind, 0.0)
        await self._body.act(act.kind, parcel=act.parcel, mass_kg=act.mass_kg)
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
            elif telemetry.stamp_ns - begun_ns > (act.seconds + LOAD_SHOWS_S) * 1e9:
                change = telemetry.payload_kg - before_kg
                raise JobError(End.FAILED, f"{act.kind}: the scale changed by {change:.2f} kg, not by {expected:.2f} kg")

    async def _scale_read(self, end_ns: int) -> Telemetry:
        """Return telemetry with the payload, if that is measured at all."""
        telemetry = self._body.telemetry()
        begun_ns = telemetry.stamp_ns
        while "payload" in self.spec.measures and telemetry.payload_kg is None:
            telemetry = await self._next(telemetry, end_ns)
            if telemetry.stamp_ns - begun_ns > LOAD_SHOWS_S * 1e9:
                raise JobError(End.FAILED, "the scale says nothing")
        return telemetry

    async def _halt(self, timeout_s: float = STOP_S) -> bool:
        """Brake until telemetry that is newer than the brake shows standstill."""
        telemetry = self._body.telemetry()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    ended = await self._brake()
                    telemetry = await self._body.next_telemetry(telemetry.seq, timeout_s=min(SILENCE_S, timeout_s))
                    if ended and not telemetry.moving:
                        return True
        except TimeoutError:
            return False
