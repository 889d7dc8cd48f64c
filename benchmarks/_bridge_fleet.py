"""Part of `bridge`: one market, and robots of every kind on its floor (K-04, I-17).

The market and the robots' agents are the product's own programs and the same for all; what differs is the driver's name:
PyBullet behind ROS 2 topics, third-party VDA 5050 vehicles, an ODrive base on CAN (emulated firmware), a unicycle of
arithmetic. Every other order offers a thousand times the usual price: nothing that a robot may not do is done for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from benchmarks._bridge_vehicles import PATIENCE_S, broker, vehicle
from benchmarks.report import ROOT, Options, Row
from fleet_market.adapters.auditing import audit_store
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.requests import Requester
from fleet_market.adapters.stores import open_reader
from fleet_market.body import Battery, DriverSpec, Pose, Telemetry
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.programs import Program
from fleet_market.daemons.robot import RobotConfig, RobotDaemon, new_session
from fleet_market.daemons.supervisor import Supervisor
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer
from fleet_market.errors import FleetMarketError
from fleet_market.ids import CustomerId, OrderId
from fleet_market.ports import RobotDriver
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import OrderReply, OrderState, PostOrder
from fleet_market.robot.agent import AgentConfig
from fleet_market.robot.fleet import FleetRobot
from fleet_market.robot.floor import Floor, lay_out
from fleet_market.robot.tracking import Limits as Tracked
from fleet_market.testing import KinematicBase
from fleet_market_hardware import Follower
from fleet_market_hardware.vda5050 import MasterLink, Vda5050Driver, VehicleConfig, peer

CREDIT = 10**6
CUSTOMER = CustomerId("bench")
KINDS = ("pybullet", "pybullet", "vda5050", "vda5050", "odrive")
ORDERS, LIMIT_S = 40, 1500.0
PRICE_UC, TEMPTING = 40 * CREDIT, 1000
SPEED_SLACK = 1.05
"""Odometry errs, and telemetry is not of the moment of the command."""
LOOK_S = 0.1
MAP, FLEET = ROOT / "launch/maps/warehouse.yaml", ROOT / "launch/fleets/warehouse.yaml"


@dataclass(slots=True)
class Seen:
    """What was seen of the robots while they worked."""

    faster: Counter[str] = field(default_factory=Counter)
    """Samples above a robot's greatest speed."""
    below_reserve: Counter[str] = field(default_factory=Counter)
    nearest_m: float = math.inf


@dataclass(frozen=True, slots=True)
class Member:
    """One robot on the floor."""

    robot: FleetRobot
    kind: str
    driver: RobotDriver


class Unicycle(KinematicBase):
    """A unicycle with a battery, at the wall clock's pace."""

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Wait for the next sample."""
        await asyncio.sleep(0.05)
        return await super().next_telemetry(after, timeout_s=timeout_s)

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        return replace(super().telemetry(), battery=Battery(soc=0.85))


def rows(options: Options) -> Iterator[Row]:
    """Return the rows."""
    if options.quick:
        yield Row("mixed fleet", None, note="in full runs only: a delivery takes longer than a quick run")
        return
    with tempfile.TemporaryDirectory(prefix="fleet-market-bridge-") as folder:
        try:
            yield from asyncio.run(run(Path(folder), KINDS, ORDERS, LIMIT_S, options.seeds[0]))
        except (ImportError, OSError, FleetMarketError) as error:
            yield Row("mixed fleet: orders settled", None, "", float(ORDERS), "higher", f"not to be had here: {error}")


async def run(folder: Path, kinds: Sequence[str], orders: int, limit_s: float, seed: int) -> list[Row]:
    """Return the rows of one market with robots of these kinds, in the order of the fleet file.

    Parameters
    ----------
    folder : Path
        For its database and what belongs to the robots.
    kinds : sequence of str
        Of ``pybullet``, ``vda5050``, ``odrive``, ``kinematic``.
    orders : int
        Posted at once.
    limit_s : float
        They are waited for no longer.
    seed : int
        Of the orders.
    """
    fleet = load_fleet(FLEET)
    floor = lay_out(fleet, load_map(MAP), source=str(FLEET))
    customers = {CUSTOMER: orders * PRICE_UC * TEMPTING}
    zone = ZoneConfig(floor.places, terms=fleet.terms, traffic=floor.traffic(), customers=customers)
    begun, cpu_s = time.monotonic(), time.process_time()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(broker())
        daemon = Broker(ServerConfig("127.0.0.1", port, folder / "market.db"), [zone])
        server = daemon.servers[zone.zone]
        chosen = list(zip(fleet.robots, kinds, strict=False))
        if "pybullet" in kinds:
            simulated = [robot for robot, kind in chosen if kind == "pybullet"]
            await stack.enter_async_context(_simulator(folder, port, simulated))
        members = [Member(r, kind, await _driver(stack, folder, r, floor, kind, port)) for r, kind in chosen]
        await stack.enter_async_context(_running(daemon, server, members, floor, port))
        customer = await stack.enter_async_context(Requester("127.0.0.1", port, CUSTOMER, timeout_s=PATIENCE_S))
        seen = Seen()
        watching = asyncio.create_task(_watch(members, seen))
        await _post(customer, sorted(fleet.places), orders, random.Random(seed))
        known = server.engine.market.state.orders
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while not all(order.state.final for order in known.values()):  # noqa: ASYNC110 - the market has no event
                    await asyncio.sleep(LOOK_S)
        settled = [order for order in known.values() if order.state is OrderState.SETTLED]
        watching.cancel()
        closed = await _books(folder)
    kind_of = {member.robot.id: member.kind for member in members}
    by_kind = Counter(kind_of[order.robot] for order in settled if order.robot is not None)
    took = f"{time.monotonic() - begun:.0f} s of wall, {time.process_time() - cpu_s:.0f} s of CPU in market and agents"
    fleet_note = ", ".join(f"{by_kind[kind]} by {count} {kind}" for kind, count in Counter(kinds).items())
    return [
        Row("mixed fleet: orders settled", float(len(settled)), "", float(orders), "higher", f"{fleet_note}; {took}"),
        Row("mixed fleet: kinds of robots that settled some", float(len(by_kind)), "", float(len(set(kinds))), "higher"),
        Row("mixed fleet: faults in the books, and escrows left open", closed, "", 0.0),
        Row("mixed fleet: samples above a robot's greatest speed", float(seen.faster.total()), "", 0.0,
            note=f"half of the orders offer {TEMPTING} times the price; {dict(seen.faster) or 'none'}"),
        Row("mixed fleet: samples below a battery's reserve", float(seen.below_reserve.total()), "", 0.0),
        Row("mixed fleet: nearest two robots", seen.nearest_m, "m", 2 * floor.footprint_radius_m, "higher",
            "middle to middle; the goal is contact"),
    ]  # fmt: skip


async def _post(customer: Requester, names: Sequence[str], orders: int, rng: random.Random) -> None:
    shelves = [name for name in names if name.startswith("shelf")]
    docks = [name for name in names if name.startswith("shipping")]
    for number in range(orders):
        order = PostOrder(
            order=OrderId(f"o{number}"),
            pickup=rng.choice(shelves),
            dropoff=rng.choice(docks),
            payload_kg=round(rng.uniform(0.5, 4.0), 1),
            deadline_s=3000.0,
            max_price_uc=PRICE_UC * (TEMPTING if number % 2 else 1),
        )
        reply = await customer.ask("order", order, OrderReply)
        if reply.result != "accepted":
            raise RuntimeError(f"{order.order}: {reply.errors}")


async def _watch(members: list[Member], seen: Seen) -> None:
    while True:
        places: list[Pose] = []
        for member in members:
            told, kind = member.driver.telemetry(), member.robot.type
            if told.vx is not None and abs(told.vx) > SPEED_SLACK * kind.max_speed_mps:
                seen.faster[member.robot.id] += 1
            if told.battery.soc is not None and told.battery.soc < kind.battery.reserve_soc:
                seen.below_reserve[member.robot.id] += 1
            if told.pose is not None:
                places.append(told.pose)
        for a, b in combinations(places, 2):
            seen.nearest_m = min(seen.nearest_m, a.distance_to(b.x, b.y))
        await asyncio.sleep(LOOK_S)


async def _books(folder: Path) -> float:
    """Return how many faults the audit finds once the escrows had time to close."""
    end = time.monotonic() + PATIENCE_S
    while True:
        with open_reader(folder / "market.db") as reader:
            audit = audit_store(reader)
        left = float(audit.metrics is None or audit.metrics.escrow_left_uc != 0)
        if not left or time.monotonic() > end:
            return len(audit.faults) + left
        await asyncio.sleep(LOOK_S)


@contextlib.asynccontextmanager
async def _running(
    daemon: Broker, server: ZoneServer, members: list[Member], floor: Floor, port: int
) -> AsyncIterator[None]:
    """Run the market and the robots' agents; all robots are online when this yields."""
    tasks = [asyncio.create_task(daemon.run(), name="market")]
    try:
        async with asyncio.timeout(PATIENCE_S):
            await daemon.ready.wait()
        for member in members:
            robot = member.robot
            agent = AgentConfig(
                robot.id, robot.type, floor.homes[robot.id], floor.chargers, Tariff(300_000), floor.roadmap, new_session()
            )
            config = RobotConfig(agent, robot.owner, "127.0.0.1", port)
            tasks.append(asyncio.create_task(RobotDaemon(config, member.driver, server.clock).run(), name=robot.id))
        known, end = server.engine.market.state.robots, time.monotonic() + 4 * PATIENCE_S
        while sum(robot.online for robot in known.values()) < len(members):
            for task in tasks:
                if task.done():
                    task.result()
            if time.monotonic() > end:
                raise TimeoutError("not all robots came online")
            await asyncio.sleep(LOOK_S)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- bodies -------------------------------------------------------------------------------------------------------------


async def _driver(
    stack: AsyncExitStack, folder: Path, robot: FleetRobot, floor: Floor, kind: str, port: int
) -> RobotDriver:
    home, most = floor.homes[robot.id], robot.type
    limits = Tracked(most.max_speed_mps, most.max_accel_mps2, most.max_yaw_rate_radps)
    match kind:
        case "pybullet":
            from fleet_market_hardware.drivers import DriverSetup, find  # noqa: PLC0415 - needs rclpy

            return find("base")(DriverSetup(robot.id, most))
        case "vda5050":
            installed = peer.install()
            settings: dict[str, Any] = {"x": home.x, "y": home.y, "theta": home.yaw, "speed": most.max_speed_mps}
            serial, _ = await stack.enter_async_context(vehicle(installed, port, reach=200_000, **settings))
            return _vehicle_driver(robot, serial, port)
        case "odrive":
            return _odrive(stack, folder, robot, home, limits)
        case _:
            return Follower(Unicycle(home, accel_mps2=most.max_accel_mps2), limits)


def _vehicle_driver(robot: FleetRobot, serial: str, port: int) -> RobotDriver:
    from fleet_market_hardware.vda5050.peer.bench import FLOOR  # noqa: PLC0415 - only what is asked for

    config = VehicleConfig(
        robot=robot.id,
        manufacturer="siemens",
        serial=serial,
        max_speed_mps=robot.type.max_speed_mps,
        max_payload_kg=robot.type.max_payload_kg,
        capacity_wh=robot.type.battery.capacity_wh,
        actions={
            "load": {"type": "pick", "parameters": FLOOR},
            "unload": {"type": "drop", "parameters": FLOOR},
            "charge": {"type": "startCharging"},
        },
        poll_s=0.5,
    )
    return Vda5050Driver(config, MasterLink("127.0.0.1", port))


def _odrive(stack: AsyncExitStack, folder: Path, robot: FleetRobot, home: Pose, limits: Tracked) -> RobotDriver:
    """Return a base of two emulated ODrive axes, its battery in files as the kernel would show it."""
    from fleet_market_hardware.bases.differential import Differential, Limits  # noqa: PLC0415 - needs python-can
    from fleet_market_hardware.bases.geometry import Geometry  # noqa: PLC0415
    from fleet_market_hardware.bases.odrive import ODriveWheels  # noqa: PLC0415
    from fleet_market_hardware.batteries.monitor import Monitor  # noqa: PLC0415
    from fleet_market_hardware.batteries.sysfs import SysfsBattery  # noqa: PLC0415
    from fleet_market_hardware.composed import ComposedRobot  # noqa: PLC0415
    from fleet_market_hardware.emulators.odrive import ODriveEmulator  # noqa: PLC0415

    supply = folder / f"BAT-{robot.id}"
    supply.mkdir()
    for name, text in {"type": "Battery", "status": "Discharging", "capacity": "85"}.items():
        (supply / name).write_text(text)

    async def handled(_parcel: str, _mass_kg: float) -> None:
        """Its lift is as quick as a robot's handling time, which the job waits for anyway."""

    kind, channel = robot.type, f"bridge-{robot.id}"
    stack.enter_context(ODriveEmulator(channel))
    base = Differential(
        ODriveWheels(channel, interface="virtual"),
        DriverSpec(robot.id, kind.max_speed_mps, kind.max_payload_kg, frozenset({"load", "unload"}),
                   frozenset({"motors", "battery"})),
        Geometry(0.1, 0.4),
        Limits(limits.speed_mps, limits.accel_mps2, limits.yaw_rate_radps, kind.max_yaw_accel_radps2),
        gauge=Monitor(SysfsBattery(supply.name, root=folder)),
        actions={"load": handled, "unload": handled},
        start=home,
    )  # fmt: skip
    return ComposedRobot(base, limits)


@contextlib.asynccontextmanager
async def _simulator(folder: Path, port: int, robots: list[FleetRobot]) -> AsyncIterator[None]:
    """Run PyBullet with some robots of the fleet behind ROS 2 topics, in a ROS domain that this process joins."""
    from fleet_market_ros import discovery  # noqa: PLC0415 - needs rclpy

    told = yaml.safe_load(FLEET.read_text())
    told["robots"] = [one for one in told["robots"] if one["id"] in {robot.id for robot in robots}]
    told["map"] = str(MAP)
    (folder / "simulated.yaml").write_text(yaml.safe_dump(told))
    command = [sys.executable, "-m", "fleet_market_ros.simulator", "--fleet", str(folder / "simulated.yaml"), "--map"]
    command += [str(MAP), "--mqtt", f"127.0.0.1:{port}", "--speed", "1", "--seed", "1", "--out", str(folder / "sim")]
    with discovery.claimed_domain_id() as domain:
        ours = discovery.loopback_environment(domain, folder / "ros")
        os.environ.update(ours)
        async with Supervisor(folder / "logs", lambda _name, _code: None) as supervisor:
            supervisor.start(Program("simulator", command, ours, ready="READY"))
            await supervisor.wait_ready(["simulator"], timeout_s=4 * PATIENCE_S)
            yield
