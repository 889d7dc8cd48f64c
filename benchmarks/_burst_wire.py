"""A burst through the running daemon: market, Mosquitto, and the robots and customers each in a process of their own.

``python -m benchmarks._burst_wire --orders N --robots M --seed S --port P --database FILE`` is the market's process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._burst_site import ZONE, Site, SiteRobot, Size, robot_id
from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig
from fleet_market.errors import BrokerError, FleetMarketError
from fleet_market.ids import CustomerId, Identifier, MessageId, derive
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import AnyBody, Call, OrderEvent, OrderReply, OrderState, PostOrder, Presence
from fleet_market.robot.effects import Say

ROOT = Path(__file__).parents[1]
HOST, SENSE_S, POSTERS = "127.0.0.1", 1.0, 20
START_S, JOIN_S, LIMIT_S, END_S = 60.0, 60.0, 30.0, 60.0
JOINING = 50
"""Robots that connect at once."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class WireRun:
    """What a burst through the daemon has shown. Times are those of the machine's monotonic clock."""

    posted_s: dict[str, float] = field(default_factory=dict)
    heard_s: dict[str, float] = field(default_factory=dict)
    """When a customer has heard of the first award of each order."""
    refused: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    """Messages to the market, by kind."""
    received: Counter[str] = field(default_factory=Counter)
    """Messages of the market, once for each who hears them."""
    rounds: int = 0
    asks: int = 0
    """Lots that robots have priced."""
    market_cpu_s: float = 0.0
    """From the first order until the last award."""
    market_peak_rss_mb: float = 0.0
    mosquitto_cpu_s: float = 0.0
    robots_cpu_s: float = 0.0
    """Of this process: all robots and customers, without what pricing would cost them."""
    inputs: int = 0
    pauses: int = 0
    """How often the market held back new batches because too much waited."""

    def latencies_s(self) -> list[float]:
        """Return how long each awarded order waited."""
        return [at - self.posted_s[order] for order, at in self.heard_s.items()]


def run_wire(site: Site, seed: int, ask_cost_s: float) -> WireRun:
    """Run one burst.

    Parameters
    ----------
    site : Site
    seed : int
        Of the site: the market's process makes its own.
    ask_cost_s : float
        What it costs a robot to price one lot: it answers as much later.
    """
    with TemporaryDirectory() as folder, _services(site.size, seed, Path(folder)) as services:
        run = asyncio.run(_Burst(site, services, ask_cost_s).run())
        services.market.send_signal(signal.SIGTERM)
        told = json.loads(services.market.communicate(timeout=END_S)[0])
        run.inputs, run.pauses = told["inputs"], told["pauses"]
    return run


@dataclass(frozen=True, slots=True)
class _Services:
    port: int
    mosquitto: subprocess.Popen[bytes]
    market: subprocess.Popen[bytes]


@contextlib.contextmanager
def _services(size: Size, seed: int, folder: Path) -> Iterator[_Services]:
    mosquitto, port = mosquitto_adapter.install(ROOT / ".cache/mosquitto", say=print), mosquitto_adapter.free_port()
    config = mosquitto_adapter.write_config(folder / "mosquitto", port)
    given = {"orders": size.orders, "robots": size.robots, "seed": seed, "port": port, "database": folder / "market.db"}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    market = [sys.executable, "-m", "benchmarks._burst_wire", *options]
    with (
        _process([str(mosquitto.path), "-c", str(config)], mosquitto.environment()) as broker,
        _process(market, dict(os.environ), subprocess.PIPE) as daemon,
    ):
        if daemon.stdout is None or daemon.stdout.readline().strip() != b"ready":
            raise FleetMarketError("the market did not start")
        yield _Services(port, broker, daemon)


@contextlib.contextmanager
def _process(
    command: list[str], environment: dict[str, str], stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=stdout)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


class _Burst:
    """The robots and the customers of one run."""

    def __init__(self, site: Site, services: _Services, ask_cost_s: float) -> None:
        self._site, self._services, self._ask_cost_s = site, services, ask_cost_s
        self._found = WireRun()
        self._robots = {robot_id(n): SiteRobot(site, n) for n in range(site.size.robots)}
        self._seen: set[str] = set()
        self._joining = asyncio.Semaphore(JOINING)
        self._joined = 0
        self._over = asyncio.Event()

    async def run(self) -> WireRun:
        """Return what was found."""
        found, pids = self._found, (self._services.market.pid, self._services.mosquitto.pid)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._robot(n), name=robot_id(n)) for n in range(len(self._robots))]
            async with asyncio.timeout(JOIN_S):
                while self._joined < len(self._robots):  # noqa: ASYNC110 - counts what others do
                    await asyncio.sleep(0.1)
            filters = [(topics.view(ZONE, "order"), 1), (topics.to_customer("+", "order"), 1)]
            async with self._connected("customers", filters) as transport:
                running.append(tasks.create_task(self._watch(transport), name="watch"))
                before, began = [*map(_cpu_s, pids)], time.process_time()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LIMIT_S):
                        await self._post_all(transport)
                        await self._over.wait()
                found.market_cpu_s, found.mosquitto_cpu_s = (_cpu_s(p) - b for p, b in zip(pids, before, strict=True))
                found.robots_cpu_s = time.process_time() - began
                for task in running:
                    task.cancel()
        found.market_peak_rss_mb = _peak_rss_mb(pids[0])
        found.asks = sum(robot.asks for robot in self._robots.values())
        return found

    def _connected(self, name: str, filters: list[tuple[str, int]], will: Will | None = None) -> _Connection:
        return _Connection(MqttTransport(MqttConfig(HOST, self._services.port, name, will, keepalive_s=60), filters))

    # --- customers -------------------------------------------------------------------------------------------------------

    async def _post_all(self, transport: MqttTransport) -> None:
        """Post every order at its time; a few posts may be under way at once, as from several customers."""
        orders, begun = iter(self._site.orders), time.monotonic()

        async def post() -> None:
            for at_s, customer, order in orders:
                await asyncio.sleep(begun + at_s - time.monotonic())
                self._found.posted_s[order.order] = time.monotonic()
                await self._post(transport, customer, order)

        async with asyncio.TaskGroup() as posters:
            for number in range(POSTERS):
                posters.create_task(post(), name=f"poster {number}")

    async def _post(self, transport: MqttTransport, customer: CustomerId, order: PostOrder) -> None:
        self._found.sent["order"] += 1
        message = _message(customer, order, MessageId(f"post-{order.order}"))
        await transport.publish(topics.from_customer(customer, "order"), message)

    async def _watch(self, transport: MqttTransport) -> None:
        """Take note of every order's first award."""
        found = self._found
        async for delivery in transport.deliveries():
            at_s = time.monotonic()
            body = self._taken(delivery).body
            if isinstance(body, OrderReply) and body.result == "refused":
                found.refused += 1
            elif isinstance(body, OrderEvent) and body.view.state is OrderState.AWARDED:
                found.heard_s.setdefault(body.view.order, at_s)
            if len(found.heard_s) + found.refused == self._site.size.orders:
                self._over.set()

    # --- robots ----------------------------------------------------------------------------------------------------------

    async def _robot(self, number: int) -> None:
        name, robot = robot_id(number), self._robots[robot_id(number)]
        lost = _message(name, Presence(status="lost", zone=ZONE), MessageId(derive("will", name)))
        will = Will(topics.state(name, "presence"), lost)
        filters = [(topics.to_robot(name, "#"), 1), (topics.zone(ZONE, "#"), 1)]
        async with contextlib.AsyncExitStack() as stack:
            async with self._joining:
                transport = await stack.enter_async_context(self._connected(name, filters, will))
                greetings: dict[str, AnyBody] = {"announce": self._site.announce(number), "presence": self._site.present()}
                for kind, greeting in greetings.items():
                    hello = _message(name, greeting, MessageId(derive(kind, name)))
                    await transport.publish(topics.state(name, kind), hello, retain=True)
                self._joined += 1
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._sense(transport, robot), name=f"{name} senses")
            async for delivery in transport.deliveries():
                message = self._taken(delivery)
                body = message.body
                said = robot.hear(message.id, body, time.time_ns())
                if isinstance(body, Call):
                    self._found.rounds = max(self._found.rounds, body.round)
                    later_s = self._ask_cost_s * len(body.lots)
                    tasks.create_task(self._say(transport, robot, said, later_s), name=f"{name} asks")
                else:
                    await self._say(transport, robot, said)

    async def _sense(self, transport: MqttTransport, robot: SiteRobot) -> None:
        while True:
            await self._say(transport, robot, robot.sense(time.time_ns()))
            await asyncio.sleep(SENSE_S)

    async def _say(self, transport: MqttTransport, robot: SiteRobot, said: list[Say], later_s: float = 0.0) -> None:
        await asyncio.sleep(later_s)
        for say in said:
            self._found.sent[say.kind] += 1
            with contextlib.suppress(BrokerError):  # said again by the agent if it must arrive
                message = _message(robot.id, say.body, say.id)
                await transport.publish(topics.from_robot(robot.id, ZONE, say.kind), message)

    def _taken(self, delivery: Delivery) -> Envelope:
        """Acknowledge and count a message; return it."""
        delivery.ack()
        self._found.received[topics.parse(delivery.topic).kind] += 1
        return decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)


class _Connection:
    """A transport from when it is connected until the end."""

    def __init__(self, transport: MqttTransport) -> None:
        self._transport = transport

    async def __aenter__(self) -> MqttTransport:
        await self._transport.__aenter__()
        await self._transport.connected.wait()
        return self._transport

    async def __aexit__(self, *exc: object) -> None:
        await self._transport.__aexit__(None, None, None)


def _message(name: str, body: AnyBody, message: MessageId) -> bytes:
    return encode(Envelope(id=message, ts=time.time_ns(), src=Identifier(name), sid=1, body=body))


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process, seconds; proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _peak_rss_mb(pid: int) -> float:
    """Return the largest resident set of a process so far; proc(5), VmHWM of status."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


# --- the market's process ------------------------------------------------------------------------------------------------


async def _serve(site: Site, port: int, database: Path) -> None:
    zone = ZoneConfig(site, ZONE, site.terms, dict(site.customers))
    broker = Broker(ServerConfig(HOST, port, database), [zone])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(broker.run(), name="market")
        async with asyncio.timeout(START_S):
            await broker.ready.wait()
        print("ready", flush=True)
        await stop.wait()
        running.cancel()
    served = broker.servers[ZONE].zone
    print(json.dumps({"inputs": served.engine.inputs, "pauses": served.pauses}))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("orders", "robots", "seed", "port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--database", type=Path, required=True)
    given = parser.parse_args()
    asyncio.run(_serve(Site(Size(given.orders, given.robots), given.seed), given.port, given.database))


if __name__ == "__main__":
    _main()
