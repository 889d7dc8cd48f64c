"""A floor of N robots on real parts for `ros_nodes`: Mosquitto, market, PyBullet simulator, and the robots' nodes.

Each robot has a home, a pickup place 2.5 m in front of it and a dropoff place 2.5 m further, in rows and columns of an open
hall. Every process is real; what robots and market say is read from the MQTT broker, where nothing can be left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.adapters.requests import Requester
from fleet_market.daemons.programs import Program
from fleet_market.daemons.supervisor import ProcessError, Supervisor
from fleet_market.errors import ProtocolError
from fleet_market.ids import MAIN_ZONE, CustomerId, OrderId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, decode
from fleet_market.protocol.messages import (
    Ask,
    Award,
    Call,
    ClockTick,
    OrderReply,
    Position,
    PostOrder,
    Route,
    RouteRequest,
    Settle,
)
from fleet_market_ros import discovery

CELL_M, COLUMN_M, ROW_M, MARGIN_M = 0.1, 4.0, 9.0, 3.0
COLUMNS = 10
CUSTOMER = CustomerId("bench")
READY_TIMEOUT_S = 300.0
PRICE_UC, DEADLINE_S, LOAD_KG = 500_000_000, 900.0, 2.0
QUIET_S = 2.0
"""Of calls this young, answers may still be on their way."""
BATCH = 5
"""Processes that are started at once: discovery among many at once takes longer than one group after the other."""


@dataclass(slots=True)
class Seen:
    """What was heard on the MQTT broker, with wall time."""

    robots: tuple[str, ...]
    called: dict[tuple[str, str], float] = field(default_factory=dict)
    """Calls, first round, by id and robot."""
    asked: set[tuple[str, str]] = field(default_factory=set)
    bidding_s: dict[str, float] = field(default_factory=dict)
    """When each robot has first answered a call."""
    awards: list[tuple[str, float, bool]] = field(default_factory=list)
    """Robot, time, and whether it had nothing to do."""
    idle: dict[str, bool] = field(default_factory=dict)
    asked_way: dict[str, float] = field(default_factory=dict)
    got_way: dict[str, float] = field(default_factory=dict)
    """When each robot has last asked for a right of way, and got it."""
    settled: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    clock_ns: list[int] = field(default_factory=list)
    """First and newest tick of the simulator's clock."""
    moving: list[int] = field(default_factory=lambda: [0, 0])
    """Positions of robots that stood, and that moved."""

    def hear(self, topic: str, body: Any, now_s: float) -> None:
        """Take one message."""
        who = topics.parse(topic)
        match body:
            case ClockTick():
                self.clock_ns[1:] = [body.now_ns]
            case Call() if body.round == 1 and body.page == 0:
                for robot in self.robots if who.direction == "zone" else (who.name,):
                    self.called.setdefault((body.call, robot), now_s)
            case Ask():
                self.asked.add((body.call, who.name))
                self.bidding_s.setdefault(who.name, now_s)
            case Award():
                self.awards.append((who.name, now_s, self.idle.get(who.name, False)))
            case RouteRequest():
                self.asked_way[who.name] = now_s
            case Route():
                self.got_way[who.name] = now_s
            case Settle():
                self.settled[who.name] += 1
            case Position():
                self.moving[body.moving] += 1
                self.idle[who.name] = body.doing == "idle" and body.queue == 0

    @property
    def simulated_s(self) -> float:
        """How much time has passed on the floor."""
        return (self.clock_ns[-1] - self.clock_ns[0]) / 1e9 if self.clock_ns else 0.0

    def missed(self, now_s: float, since_s: float) -> tuple[int, int, str]:
        """Return how many calls were not answered, how many there were since a time, and what is known of the former."""
        due = {key: at_s for key, at_s in self.called.items() if since_s <= at_s < now_s - QUIET_S}
        missed = {key: at_s for key, at_s in due.items() if key not in self.asked}
        if not missed:
            return 0, len(due), "calls per robot"
        batches, robots = ({key[part] for key in missed} for part in (0, 1))
        first_s, last_s = (round(end(missed.values()) - since_s) for end in (min, max))
        about = f"{len(batches)} batches, {len(robots)} robots, {first_s} to {last_s} s after the begin"
        return len(missed), len(due), f"calls per robot; {about}"


@dataclass(slots=True)
class Floor:
    """A floor that runs."""

    seen: Seen
    nodes: dict[str, psutil.Process]
    """The processes of robots."""
    deaths: list[str]
    customer: Requester
    started_s: float
    environment: dict[str, str]
    folder: Path
    posted: int = 0

    async def post(self, index: int, *, price_uc: int = PRICE_UC) -> None:
        """Post an order from the pickup to the dropoff place in front of one robot's home."""
        self.posted += 1
        order = PostOrder(
            order=OrderId(f"o{self.posted}"),
            pickup=f"p{index}",
            dropoff=f"d{index}",
            payload_kg=LOAD_KG,
            deadline_s=DEADLINE_S,
            max_price_uc=price_uc,
        )
        reply = await self.customer.ask("order", order, OrderReply)
        if reply.result != "accepted":
            raise ProtocolError("refused", str(reply.errors))

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time of each node's process so far."""
        return {name: process_cpu_s(process) for name, process in self.nodes.items()}

    def rss_mb(self) -> dict[str, float]:
        """Return the resident memory of each node's process, megabytes."""
        return {name: process.memory_info().rss / 1e6 for name, process in self.nodes.items() if process.is_running()}

    def simulation(self) -> dict[str, Any]:
        """Return the simulator's report; only after the floor has ended."""
        report: dict[str, Any] = json.loads((self.folder / "out/simulation.json").read_text())
        return report


def process_cpu_s(process: psutil.Process) -> float:
    """Return the CPU time that a process has used; 0 if it is no more."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def write_files(folder: Path, count: int) -> list[str]:
    """Write map and fleet of `count` robots; return their ids."""
    folder.mkdir(parents=True)
    columns, rows = min(COLUMNS, count), -(-count // COLUMNS)
    width, height = columns * COLUMN_M + 2 * MARGIN_M, rows * ROW_M + 2 * MARGIN_M
    pixels = np.full((round(height / CELL_M), round(width / CELL_M)), 254, dtype=np.uint8)
    pixels[[0, -1], :] = pixels[:, [0, -1]] = 0
    Image.fromarray(pixels).save(folder / "hall.pgm")
    about = {"image": "hall.pgm", "resolution": CELL_M, "origin": [0, 0, 0], "negate": 0, "occupied_thresh": 0.65}
    (folder / "hall.yaml").write_text(yaml.safe_dump(about | {"free_thresh": 0.25}))
    robots: list[dict[str, object]] = []
    places: dict[str, str] = {}
    for i in range(count):
        x, y = MARGIN_M + (i % COLUMNS + 0.5) * COLUMN_M, MARGIN_M + (i // COLUMNS) * ROW_M + 1.0
        robots.append({"id": f"r{i}", "type": "carrier", "owner": f"owner{i % 7}", "start": f"{x};{y};1.57", "soc": 0.9})
        places |= {f"p{i}": f"{x};{y + 2.5}", f"d{i}": f"{x};{y + 5.0}"}
    fleet = {"map": "hall.yaml", "customers": {str(CUSTOMER): 900_000}, "places": places, "robots": robots}
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet))
    return [str(robot["id"]) for robot in robots]


@contextlib.asynccontextmanager
async def floor(folder: Path, count: int, *, speed: float, composed: str = "") -> AsyncIterator[Floor]:
    """Run a floor; `composed` names the executor of one process for all robots, empty: a process each."""
    names = write_files(folder, count)
    program = mosquitto_adapter.install(Path(".cache/mosquitto"), say=print)
    port, deaths = mosquitto_adapter.free_port(), list[str]()
    where = f"127.0.0.1:{port}"
    seen = Seen(tuple(names))
    async with contextlib.AsyncExitStack() as stack:
        domain = stack.enter_context(discovery.claimed_domain_id())
        environment = {KEYS_VARIABLE: ""} | discovery.loopback_environment(domain, folder / "ros")
        supervisor = Supervisor(folder / "logs", lambda name, code: deaths.append(f"{name} ({code})"))
        await stack.enter_async_context(supervisor)
        config = mosquitto_adapter.write_config(folder / "mosquitto", port)
        supervisor.start(Program("mosquitto", [str(program.path), "-c", str(config)], program.environment()))
        files = ["--fleet", str(folder / "fleet.yaml")]
        market = [sys.executable, "-m", "fleet_market", "broker", *files, "--database", str(folder / "market.db")]
        market += ["--mqtt", where, "--simulated"]
        supervisor.start(Program("market", market, environment, ready="READY", stage=1))
        simulator = [
            sys.executable, "-m", "fleet_market_ros.simulator", *files, "--map", str(folder / "hall.yaml"), "--mqtt", where,
            "--speed", str(speed), "--seed", "1", "--out", str(folder / "out"),
        ]  # fmt: skip
        supervisor.start(Program("simulator", simulator, environment, ready="READY", stage=1))
        await supervisor.wait_ready(["market", "simulator"], timeout_s=READY_TIMEOUT_S)
        async with (
            MqttTransport(MqttConfig("127.0.0.1", port, "watch"), _watched()) as transport,
            Requester("127.0.0.1", port, CUSTOMER, timeout_s=30.0, zone=MAIN_ZONE) as customer,
            asyncio.TaskGroup() as tasks,
        ):
            running = [tasks.create_task(_listen(transport, seen)), tasks.create_task(_watch(supervisor))]
            it = Floor(seen, {}, deaths, customer, time.monotonic(), environment, folder)
            await it.post(0, price_uc=1)  # so cheap that nobody takes it: every robot answers every batch
            await _start_nodes(supervisor, it, names, where, composed)
            yield it
            for task in running:
                task.cancel()


def _watched() -> list[tuple[str, int]]:
    zone, robot = topics.zone(MAIN_ZONE, "call"), "+"
    kinds = [(topics.to_robot(robot, kind), 1) for kind in ("call", "award", "settle", "route")]
    said = [(topics.from_robot(robot, MAIN_ZONE, kind), 1) for kind in ("ask", "route")]
    return [(zone, 1), (topics.CLOCK, 0), (topics.from_robot(robot, MAIN_ZONE, "position"), 0), *kinds, *said]


async def _listen(transport: MqttTransport, seen: Seen) -> None:
    async for delivery in transport.deliveries():
        delivery.ack()
        seen.hear(delivery.topic, decode(delivery.payload, limit=MAX_OUTBOUND_BYTES).body, time.monotonic())


async def _watch(supervisor: Supervisor) -> None:
    await supervisor.watch()


async def _start_nodes(supervisor: Supervisor, it: Floor, names: list[str], where: str, composed: str) -> None:
    folder = it.folder
    values = {"fleet": str(folder / "fleet.yaml"), "map": str(folder / "hall.yaml"), "mqtt": where, "max_tasks": 3}
    parameters = folder / "all.yaml"
    parameters.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    it.started_s = time.monotonic()
    if composed:
        command = [sys.executable, "-m", "fleet_market_ros.composed", "--robots", *names, "--executor", composed]
        program = Program("robots", [*command, "--parameters", str(parameters)], it.environment, stage=2, critical=False)
        supervisor.start(program)
        it.nodes["robots"] = psutil.Process(supervisor.pid("robots"))
        return
    for first in range(0, len(names), BATCH):
        for name in names[first : first + BATCH]:
            node = [sys.executable, "-m", "fleet_market_ros.robot_agent", "--ros-args", "-r", f"__ns:=/{name}"]
            node += ["--params-file", str(parameters), "-p", f"robot:={name}"]
            program = Program(name, node, it.environment, ready="READY", stage=2, critical=False)
            supervisor.start(program)
            it.nodes[name] = psutil.Process(supervisor.pid(name))
        for name in await supervisor.wait_ready(names[first : first + BATCH], timeout_s=READY_TIMEOUT_S):
            raise ProcessError(name, "is not ready", supervisor.log(name))
