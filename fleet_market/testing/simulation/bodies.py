"""Robots' bodies on a simulated floor: they move without inertia from point to point, and carry real parcels.

A body outlives the program that drives it. Parcels are where they are: what is not there cannot be loaded, and what is
not aboard cannot be set down, so that payment can be compared with what has really happened. Not simulated: dynamics,
obstacles, collisions (traffic control is there to avoid them and has tests of its own), energy beyond a plain drain.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_market.body import Act, Battery, DriverSpec, End, Go, Job, Link, Point, Pose, Result, Telemetry
from fleet_market.ids import RobotId

SPEED_MPS = 1.0
CHARGE_PER_S = 0.002
DRAIN_PER_M, DRAIN_PER_S = 5e-4, 1e-6
REACH_M = 1.2
"""A parcel on the floor is loaded from this near."""
HANDOVER_M = 2.5
"""A parcel on another robot is taken over from this near."""


@dataclass(slots=True)
class Parcel:
    """One order's parcel."""

    mass_kg: float
    at: Point
    on: RobotId | None = None
    """The robot that carries it; `at` is then out of date."""


@dataclass(slots=True)
class Body:
    """What remains of a robot when its program dies."""

    robot: RobotId
    pose: Pose
    soc: float = 0.9
    used_j: float = 0.0
    broken: bool = False
    """Every job fails."""
    blind: bool = False
    """Telemetry is stale."""
    segment: tuple[Point, Point, float, float] | None = None
    """Where it drives: from, to, begun, ends (seconds)."""

    def at(self, now_s: float) -> Pose:
        """Return where it is."""
        if self.segment is None:
            return self.pose
        (x, y), (to_x, to_y), begun_s, ends_s = self.segment
        share = 1.0 if ends_s <= begun_s else min(1.0, (now_s - begun_s) / (ends_s - begun_s))
        return Pose(x + share * (to_x - x), y + share * (to_y - y), self.pose.yaw)

    def halt(self, now_s: float) -> None:
        """Stand where it is."""
        self.pose, self.segment = self.at(now_s), None


@dataclass(slots=True)
class World:
    """All bodies and parcels."""

    bodies: dict[RobotId, Body] = field(default_factory=dict)
    parcels: dict[str, Parcel] = field(default_factory=dict)
    """By order."""

    def load_kg(self, robot: RobotId) -> float:
        """Return what a robot carries."""
        return sum(parcel.mass_kg for parcel in self.parcels.values() if parcel.on == robot)

    def load(self, robot: RobotId, order: str, now_s: float) -> str:
        """Put an order's parcel on a robot; return why not, empty if it is done."""
        parcel, pose = self.parcels.get(order), self.bodies[robot].at(now_s)
        if parcel is None:
            return "there is no such parcel"
        if parcel.on == robot:
            return "it is aboard already"
        other = None if parcel.on is None else self.bodies[parcel.on].at(now_s)
        x, y = parcel.at if other is None else (other.x, other.y)
        if pose.distance_to(x, y) > (REACH_M if other is None else HANDOVER_M):
            return "nothing is there"
        parcel.on = robot
        return ""

    def unload(self, robot: RobotId, order: str, now_s: float) -> str:
        """Set a parcel down; return why not, empty if it is done."""
        parcel, pose = self.parcels.get(order), self.bodies[robot].at(now_s)
        if parcel is None or parcel.on != robot:
            return "it is not aboard"
        parcel.on, parcel.at = None, (pose.x, pose.y)
        return ""


class Driver:
    """One program's hold of a body. Implements `fleet_market.ports.RobotDriver`.

    Parameters
    ----------
    world : World
    robot : RobotId
    begins : callable
        Told of each load and unload when it begins.
    """

    def __init__(self, world: World, robot: RobotId, begins: Callable[[RobotId, Act], None]) -> None:
        self.spec = DriverSpec(
            robot, SPEED_MPS, 20.0, frozenset({"load", "unload", "charge"}), frozenset({"pose", "energy"})
        )
        self._world, self._body, self._robot, self._begins = world, world.bodies[robot], robot, begins
        self._loop = asyncio.get_running_loop()
        self._seq = self._passed = self._released = 0
        self._job: Job | None = None
        self._stopped = False
        self._news = asyncio.Event()
        self._body.halt(self._loop.time())

    async def open(self, *, timeout_s: float) -> None:
        """Be there at once."""

    async def close(self) -> None:
        """Stop."""
        self._body.halt(self._loop.time())

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        body, now_s = self._body, self._loop.time()
        self._seq += 1
        body.soc = max(0.0, body.soc - DRAIN_PER_S)
        return Telemetry(
            seq=self._seq,
            stamp_ns=round(now_s * 1e9),
            link=Link.STALE if body.blind else Link.UP,
            pose=body.at(now_s),
            battery=Battery(soc=body.soc, energy_out_j=body.used_j),
            payload_kg=self._world.load_kg(self._robot),
            moving=body.segment is not None,
        )

    async def run(self, job: Job, *, deadline_s: float, on_step: Callable[[int, str], None] | None = None) -> Result:  # noqa: ARG002 - the port's signature
        """Run `job`."""
        if self._job is not None:
            return Result(job.id, End.REJECTED, 0, "another job is running")
        self._job, self._stopped, self._passed, done = job, False, 0, 0
        try:
            for number, step in enumerate(job.steps):
                trouble = await (self._go(step) if isinstance(step, Go) else self._act(step))
                if self._stopped:
                    return Result(job.id, End.CANCELLED, done, "stopped", standstill=True)
                if trouble:
                    return Result(job.id, End.FAILED, done, trouble, standstill=True)
                done += 1
                if on_step is not None:
                    on_step(number, "")
        finally:
            self._job = None
            self._body.halt(self._loop.time())
        return Result(job.id, End.DONE, done, standstill=True)

    def release(self, job_id: str, points: int) -> None:
        """Let the robot drive on."""
        if self._job is not None and self._job.id == job_id and points > self._released:
            self._released = points
            self._news.set()

    def passed(self) -> int:
        """Return how many points of the running path lie behind the robot."""
        return self._passed

    async def stop(self, *, timeout_s: float) -> bool:  # noqa: ARG002 - the port's signature
        """Stop at once."""
        self._stopped = True
        self._news.set()
        return True

    async def estop(self, *, engage: bool = True) -> None:
        """Stop at once."""
        self._stopped = self._stopped or engage
        self._news.set()

    async def _go(self, step: Go) -> str:
        path = step.path or ((step.pose.x, step.pose.y),)
        self._released = step.released if step.path else 1
        while self._passed < len(path):
            if self._body.broken:
                return "the wheels are stuck"
            if self._passed >= self._released:
                await self._until(math.inf)
            else:
                await self._drive(path[self._passed])
                self._passed += not self._stopped
            if self._stopped:
                return ""
        return ""

    async def _drive(self, to: Point) -> None:
        body, now_s = self._body, self._loop.time()
        at = body.at(now_s)
        gap_m = at.distance_to(*to)
        body.segment = ((at.x, at.y), to, now_s, now_s + gap_m / SPEED_MPS)
        while not self._stopped and (left_s := body.segment[3] - self._loop.time()) > 0:
            await self._until(left_s)
        body.halt(self._loop.time())
        body.soc = max(0.0, body.soc - DRAIN_PER_M * gap_m)
        body.used_j += 40.0 * gap_m

    async def _act(self, act: Act) -> str:
        if act.kind == "charge":
            return await self._charge(act.until_soc or 1.0)
        self._begins(self._robot, act)
        ends_s = self._loop.time() + act.seconds
        while not self._stopped and (left_s := ends_s - self._loop.time()) > 0:
            await self._until(left_s)
        if self._stopped or self._body.broken:
            return "the gripper is stuck"
        move = self._world.load if act.kind == "load" else self._world.unload
        return move(self._robot, act.parcel, self._loop.time())

    async def _charge(self, until_soc: float) -> str:
        begun_s, soc = self._loop.time(), self._body.soc
        while not self._stopped and self._body.soc < until_soc:
            await self._until(max(1.0, (until_soc - self._body.soc) / CHARGE_PER_S))
            self._body.soc = min(1.0, soc + CHARGE_PER_S * (self._loop.time() - begun_s))
        return ""

    async def _until(self, seconds: float) -> None:
        """Wait until something has happened, or the time is over."""
        self._news.clear()
        if math.isinf(seconds):
            await self._news.wait()
            return
        timer = self._loop.call_later(seconds, self._news.set)
        await self._news.wait()
        timer.cancel()
