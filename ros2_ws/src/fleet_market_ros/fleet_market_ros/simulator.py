"""The simulator's node: one PyBullet world, published as the topics of real bases, and the one clock of the simulation.

``python -m fleet_market_ros.simulator --fleet F.yaml --map M.yaml --mqtt HOST:PORT --speed 2 --seed 1 --out DIR``. Topics
as in `fleet_market_ros.base`, each robot's in its namespace; `/clock` for ROS, ``mkt/1/clock`` for the market. With the
environment's FLEET_MARKET_KEYS it signs as the simulator `simulator`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import logging
import os
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosgraph_msgs.msg import Clock

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.guard import KEYS_VARIABLE, guard_for
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, parse_endpoint
from fleet_market.body import Point, Pose
from fleet_market.errors import BrokerError, InputError, UnreachableError
from fleet_market.ids import Identifier, MessageId, RobotId
from fleet_market.maps.roadmap import Roadmap, leg
from fleet_market.maps.surfaces import Area
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, encode
from fleet_market.protocol.messages import ClockTick, Place
from fleet_market.protocol.registry import Role
from fleet_market.robot.floor import lay_out
from fleet_market.robot.tracking import Limits
from fleet_market_ros.ros import Ros
from fleet_market_ros.running import run_node
from fleet_market_ros.simulated_base import HOLD_WALL_S, SimulatedBase
from fleet_market_sim import Region, SensorNoise, SimRobotConfig, SimWorld, Surface, SurfaceMap, Truth

if TYPE_CHECKING:
    from fleet_market_ros.nav2_stand_in import Nav2StandIn

log = logging.getLogger("simulator")

CHUNK_STEPS = 12
"""Physics steps between two publications: 20 a second of simulation time."""
BATTERY_EVERY, MARKET_CLOCK_EVERY, TRACE_EVERY = 4, 2, 4
MAX_LAG_S = 0.2
"""A simulator that falls further behind does not catch up: bursts would leave the robots' control loops behind."""


class Simulator:
    """Steps the world, paces it, and publishes it."""

    def __init__(
        self,
        world: SimWorld,
        robots: Sequence[SimRobotConfig],
        ros: Ros,
        options: argparse.Namespace,
        roadmap: Roadmap,
        stamped: Collection[RobotId],
    ) -> None:
        self._world, self._options = world, options
        self._commands = asyncio.Event()
        unknown = {name for name in options.nav2.split(",") if name not in {"", "all", *(r.robot_id for r in robots)}}
        if unknown:
            raise InputError("command line", "--nav2", sorted(unknown), "use ids of robots of the fleet file, or all")
        by_nav2 = [r for r in robots if options.nav2 == "all" or r.robot_id in options.nav2.split(",")]
        self._bases = [
            SimulatedBase(
                ros, world, r.robot_id, self._commands.set, r.start if r in by_nav2 else None, stamped=r.robot_id in stamped
            )
            for r in robots
        ]
        self._nav2 = [_nav2(ros, world, robot, roadmap) for robot in by_nav2]
        self._clock = ros.publisher(Clock, "/clock")
        self._trace: list[tuple[float | str, ...]] = []
        self._chunks = 0
        self._begun = time.monotonic()

    async def run(self, transport: MqttTransport) -> None:
        """Run until cancelled."""
        chunk_s = CHUNK_STEPS / self._world.hz
        due = time.monotonic()
        while True:
            await self._hold()
            self._world.step(CHUNK_STEPS)
            self._chunks += 1
            for base in self._bases:
                base.publish(with_battery=self._chunks % BATTERY_EVERY == 0)
            for nav2 in self._nav2:
                nav2.tick()
            self._clock.publish(Clock(clock=self._bases[0].stamp))
            if self._chunks % MARKET_CLOCK_EVERY == 0:
                await self._tell_market(transport)
            if self._chunks % TRACE_EVERY == 0:
                self._trace += [base.trace() for base in self._bases]
            due = max(due + chunk_s / self._options.speed, time.monotonic() - MAX_LAG_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _hold(self) -> None:
        """Wait a little for robots that are driving and have not answered the newest odometry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_WALL_S):
                while any(base.awaits_command for base in self._bases):
                    self._commands.clear()
                    await self._commands.wait()

    async def _tell_market(self, transport: MqttTransport) -> None:
        now_ns = self._world.time_ns
        body = ClockTick(now_ns=now_ns)
        message = Envelope(id=MessageId(f"clock-{now_ns}"), ts=now_ns, src=Identifier("simulator"), body=body)
        try:
            await transport.publish(topics.CLOCK, encode(message), qos=0)
        except BrokerError as error:
            log.warning("the market does not hear the clock: %s", error)

    def write(self, folder: Path) -> None:
        """Write what happened into `folder`: trace.csv and simulation.json."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "trace.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("t_s", "robot", "x", "y", "yaw", "soc", "energy_out_j", "payload_kg"))
            writer.writerows(self._trace)
        report: dict[str, Any] = {
            "sim_s": self._world.time_ns / 1e9,
            "wall_s": time.monotonic() - self._begun,
            "contacts": asdict(self._world.contacts),
            "robots": {base.robot: base.summary() for base in self._bases},
        }
        (folder / "simulation.json").write_text(json.dumps(report, indent=2))


async def serve(options: argparse.Namespace) -> None:
    """Run the simulation until cancelled, then write its trace."""
    fleet, grid = load_fleet(options.fleet), load_map(options.map)
    floor = lay_out(fleet, grid, source=str(options.fleet))
    robots = [
        SimRobotConfig(r.id, r.type, floor.homes[r.id], r.soc, Truth.draw(options.seed, r.id, options.spread))
        for r in fleet.robots
    ]
    host, port = parse_endpoint(options.mqtt)
    noise = SensorNoise.usual() if options.sensor_noise else None
    surfaces = SurfaceMap([_region(area) for area in fleet.surfaces])
    keys = os.environ.get(KEYS_VARIABLE)
    guard = guard_for(Path(keys) if keys else None, Role.SIMULATOR, "simulator", host)
    connection = MqttTransport(MqttConfig(host, port, "simulator"), guard=guard)
    with SimWorld(grid, robots, chargers=floor.chargers, surfaces=surfaces, noise=noise, seed=options.seed) as world:
        async with Ros("simulator", sys.argv) as ros, connection as transport:
            await transport.connected.wait()
            stamped = {r.id for r in fleet.robots if r.driver_settings.get("stamped")}
            simulator = Simulator(world, robots, ros, options, floor.roadmap, stamped)
            log.info("READY")
            try:
                await simulator.run(transport)
            finally:
                simulator.write(options.out)


def _nav2(ros: Ros, world: SimWorld, robot: SimRobotConfig, roadmap: Roadmap) -> Nav2StandIn:
    """Return the stand-in of a robot's Nav2; ways are those of the roadmap."""
    from fleet_market_ros.nav2_stand_in import Nav2StandIn  # noqa: PLC0415 - needs nav2_msgs

    def plan(start: Pose, goal: Pose) -> Sequence[Point] | None:
        try:
            return leg(roadmap, start, Place(x=goal.x, y=goal.y)).points
        except UnreachableError:
            return None

    kind = robot.type
    limits = Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps)
    return Nav2StandIn(ros, world, robot.robot_id, limits, plan)


def _region(area: Area) -> Region:
    """Return an area of the fleet file as the physics has it."""
    surface = Surface(area.surface, area.rolling, area.friction)
    return Region(area.x_min, area.y_min, area.x_max, area.y_max, surface, area.grade_x, area.grade_y)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--mqtt", default="127.0.0.1:1883", help="HOST:PORT")
    parser.add_argument("--speed", type=float, default=1.0, help="1 to 5 times real time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spread", type=float, default=0.05, help="how far robots differ from their data sheets")
    parser.add_argument("--sensor-noise", action="store_true", help="let sensors err as usual ones do")
    parser.add_argument("--nav2", default="", help="ids of robots, with commas, that a stand-in of Nav2 drives; or all")
    parser.add_argument("--out", type=Path, required=True)
    options, _ = parser.parse_known_args()
    if not 1 <= options.speed <= 5:
        raise InputError("command line", "--speed", options.speed, "use 1 to 5")
    return options


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    run_node(lambda: serve(_options()))


if __name__ == "__main__":
    main()
