"""A test bench of PyBullet behind real topics: the conformance suite can hold, carry and unplug this robot.

``fleet-market driver check base`` and ``check nav2`` run on it; needs the extra ``sim``, and for nav2 the package
``nav2_msgs``. Every bench takes a ROS domain of its own on the loopback interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.body import Point, Pose, RobotType
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.robot.tracking import Limits
from fleet_market_hardware.drivers import DriverSetup, find
from fleet_market_ros.base import RosVelocityBase
from fleet_market_ros.discovery import claimed_domain_id, loopback_environment
from fleet_market_ros.nav2_stand_in import Nav2StandIn
from fleet_market_ros.ros import Ros
from fleet_market_ros.simulated_base import HOLD_WALL_S, SimulatedBase
from fleet_market_sim import SimRobotConfig, SimWorld

ROBOT = RobotId("bench-1")
CHUNK_STEPS, SPEED = 12, 4.0
"""Physics steps between two publications, 0.05 s, and how much faster than the wall clock the bench's time passes."""
START = Pose(2.0, 3.0, 0.0)
HALL_M, CELL_M = (9.0, 6.0), 0.1
ODOM_ORIGIN = Pose(0.7, -0.4, 0.5)
"""A bench whose robot has a frame of odometry of its own, so that a pose in the wrong frame shows."""


class Gate:
    """What of the robot's topics gets through."""

    def __init__(self) -> None:
        self.telemetry = self.commands = self.station = True
        self.energy_offset_j = 0.0
        self.energy_j = 0.0


class _Publisher:
    def __init__(self, inner: Any, topic: str, gate: Gate) -> None:
        self._inner, self._gate, self._is_meter = inner, gate, topic.endswith("energy_out")

    def publish(self, message: Any) -> None:
        if self._is_meter:
            self._gate.energy_j = message.data
            message = type(message)(data=message.data - self._gate.energy_offset_j)
        if self._gate.telemetry:
            self._inner.publish(message)


class GatedRos(Ros):
    """The simulator's node, with a gate at its topics."""

    def __init__(self, name: str, gate: Gate) -> None:
        super().__init__(name)
        self.gate = gate

    def subscribe(self, kind: type[Any], topic: str, callback: Callable[[Any], None], depth: Any = 10) -> None:
        """Subscribe to what the gate lets through."""

        def through(message: Any) -> None:
            if self.gate.station if topic.endswith("station") else self.gate.commands:
                callback(message)

        super().subscribe(kind, topic, through, depth)

    def publisher(self, kind: type[Any], topic: str, depth: Any = 10) -> Any:
        """Return a publisher behind the gate."""
        return _Publisher(super().publisher(kind, topic, depth), topic, self.gate)


class SimulatedBench:
    """One robot in an empty hall. Implements `fleet_market.testing.conformance.Bench`.

    Parameters
    ----------
    name : str
        Of the driver.
    settings : dict, optional
        Of the driver.
    """

    course: tuple[Point, ...] = tuple((START.x + 0.25 * i, START.y) for i in range(15))
    abilities = frozenset({"cut", "block", "teleport", "reset", "abandon", "spoil_scale", "base"})
    deadline_s = 40.0
    stale_s, stop_s = 10.0, 4.0
    odom_origin: Pose | None = None

    def __init__(self, name: str, settings: dict[str, Any] | None = None) -> None:
        self._name, self._settings = name, settings or {}
        self.type = carrier()
        self.gate = Gate()
        self._commands = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Build the hall, start its time and its node."""
        self._stack = contextlib.AsyncExitStack()
        self._stack.enter_context(_own_domain())
        robots = [SimRobotConfig(ROBOT, self.type, START, 0.8)]
        self.world = self._stack.enter_context(SimWorld(hall(), robots))
        self.ros = await self._stack.enter_async_context(GatedRos("simulator", self.gate))
        self.robot = SimulatedBase(self.ros, self.world, ROBOT, self._commands.set, self.odom_origin)
        self.begin()
        self._running = asyncio.create_task(self._run(), name="bench")
        return self

    def begin(self) -> None:
        """Set up what this bench has beside the base."""

    def tick(self) -> None:
        """Do what this bench does with every sample, beside the base."""

    async def __aexit__(self, *exc: object) -> None:
        """Stop the time and the node."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._stack.aclose()

    async def _run(self) -> None:
        due = time.monotonic()
        chunk_s = CHUNK_STEPS / self.world.hz
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_WALL_S):
                    while self.gate.commands and self.gate.telemetry and self.robot.awaits_command:
                        self._commands.clear()
                        await self._commands.wait()
            self.world.step(CHUNK_STEPS)
            self.robot.publish(with_battery=True)
            self.tick()
            due = max(due + chunk_s / SPEED, time.monotonic() - chunk_s)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def driver(self) -> Any:
        """Return a driver with a node of its own."""
        return find(self._name)(DriverSetup(ROBOT, self.type, self._settings))

    def base(self) -> RosVelocityBase:
        """Return the base with a node of its own."""
        return RosVelocityBase(None, ROBOT, self.type)

    def true_pose(self) -> Pose:
        """Return where the robot is in the physics."""
        return self.world.state(ROBOT).pose

    async def pause(self, seconds: float) -> None:
        """Wait until this much simulation time has passed."""
        end_ns = self.world.time_ns + round(seconds * 1e9)
        while self.world.time_ns < end_ns:
            if self._running.done():
                self._running.result()
            await asyncio.sleep(0.005)

    def cut(self, *, broken: bool) -> None:
        """Let nothing through in either direction, or all."""
        self.gate.telemetry = self.gate.commands = not broken

    def block(self, *, held: bool) -> None:
        """Hold the robot, or let go."""
        self.world.hold(ROBOT, held=held)

    def teleport(self, pose: Pose) -> None:
        """Set the robot down."""
        self.world.teleport(ROBOT, pose)

    def reset(self) -> None:
        """Have the energy meter begin at 0 again."""
        self.gate.energy_offset_j = self.gate.energy_j

    async def abandon(self) -> None:
        """Let no command through any more, and no telemetry, as if the driver were not there."""
        self.gate.commands = self.gate.telemetry = False

    def spoil_scale(self) -> None:
        """Have the station do nothing."""
        self.gate.station = False


def carrier() -> RobotType:
    """Return the type `carrier` of the shipped data sheets."""
    return shipped_types()["carrier"]


def hall() -> OccupancyGrid:
    """Return an empty hall with walls around."""
    free = np.ones((round(HALL_M[1] / CELL_M), round(HALL_M[0] / CELL_M)), dtype=bool)
    free[[0, -1], :] = free[:, [0, -1]] = False
    return OccupancyGrid(~free, free, CELL_M, (0.0, 0.0), "bench")


@contextlib.contextmanager
def _own_domain() -> Iterator[None]:
    """Put this process into a ROS domain of its own for a while."""
    with tempfile.TemporaryDirectory() as folder, claimed_domain_id() as domain:
        ours = loopback_environment(domain, Path(folder))
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def base_bench() -> SimulatedBench:
    """Return the bench of the driver `base`."""
    return SimulatedBench("base")


class Nav2Bench(SimulatedBench):
    """The same robot behind a stand-in of Nav2."""

    abilities = SimulatedBench.abilities - {"base"}
    stop_s = 12.0
    odom_origin = ODOM_ORIGIN

    def begin(self) -> None:
        """Start the stand-in."""
        kind = self.type
        limits = Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps)
        self.nav2 = Nav2StandIn(self.ros, self.world, ROBOT, limits)

    def tick(self) -> None:
        """Have the stand-in drive; it has a process of its own, which a broken link does not stop."""
        self.nav2.accepts = self.gate.commands
        self.nav2.tick()


def nav2_bench() -> Nav2Bench:
    """Return the bench of the driver `nav2`."""
    return Nav2Bench("nav2")
