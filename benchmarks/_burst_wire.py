"""A burst through the running daemon: market, Mosquitto, robots and customers, each in a process of their own.

``python -m benchmarks._burst_wire --orders N --robots M --seed S --port P --database FILE`` is the market's process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._burst_robots import HOST, Heard, insist, message, run_robots
from benchmarks._burst_site import ZONE, Site, Size
from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig
from fleet_market.errors import FleetMarketError
from fleet_market.ids import MessageId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, decode
from fleet_market.protocol.messages import OrderEvent, OrderReply, OrderState

ROOT = Path(__file__).parents[1]
POSTERS = 20
"""Posts under way at once, as from so many customers."""
START_S, JOIN_S, LIMIT_S, END_S = 60.0, 300.0, 120.0, 60.0
"""A run ends `LIMIT_S` after its first order even if orders are left."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class WireRun:
    """What a burst through the daemon has shown. Times are those of the machine's monotonic clock."""

    posted_s: dict[str, float] = field(default_factory=dict)
    heard_s: dict[str, float] = field(default_factory=dict)
    """When a customer has heard of the first award of each order."""
    refused: int = 0
    events: int = 0
    """Messages to customers."""
    robots: Heard = field(default_factory=Heard)
    market_cpu_s: float = 0.0
    """From the first order until the last award."""
    market_peak_rss_mb: float = 0.0
    mosquitto_cpu_s: float = 0.0
    inputs: int = 0
    pauses: int = 0
    """How often the market held back new batches because too much waited."""

    def latencies_s(self) -> list[float]:
        """Return how long each awarded order waited."""
        return [at - self.posted_s[order] for order, at in self.heard_s.items()]

    def last_s(self) -> float:
        """Return how long after the first order the last one was awarded."""
        return max(self.heard_s.values(), default=0.0) - min(self.posted_s.values(), default=0.0)


def run_wire(site: Site, seed: int, ask_cost_s: float) -> WireRun:
    """Run one burst.

    Parameters
    ----------
    site : Site
        What its robots have worked out they need not work out again.
    seed : int
        Of the site: the market's process makes its own.
    ask_cost_s : float
        What it costs a robot to price one lot: it answers as much later.
    """
    with TemporaryDirectory() as folder, _services(site.size, seed, Path(folder)) as services:
        with _robots(site, services.port, ask_cost_s) as robots:
            run = asyncio.run(_Customers(site, services).run())
            robots.send("stop")
            run.robots = robots.recv()
        services.market.send_signal(signal.SIGTERM)
        told = json.loads(services.market.communicate(timeout=END_S)[0])
        run.inputs, run.pauses = told["inputs"], told["pauses"]
    return run


@contextlib.contextmanager
def _robots(site: Site, port: int, ask_cost_s: float) -> Iterator[Connection]:
    """Run the robots in a fork of this process; yields the pipe to them when all have joined."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    process = context.Process(target=run_robots, args=(site, port, ask_cost_s, theirs), name="robots")
    process.start()
    try:
        if not mine.poll(JOIN_S) or mine.recv() != "ready":
            raise FleetMarketError(f"the robots did not join in {JOIN_S:g} s")
        yield mine
    finally:
        process.kill()
        process.join()


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


class _Customers:
    """The customers of one run."""

    def __init__(self, site: Site, services: _Services) -> None:
        self._site, self._services = site, services
        self._found = WireRun()
        self._over = asyncio.Event()

    async def run(self) -> WireRun:
        """Post all orders, and wait until all are awarded."""
        found, pids = self._found, (self._services.market.pid, self._services.mosquitto.pid)
        filters = [(topics.view(ZONE, "order"), 1), (topics.to_customer("+", "order"), 1)]
        async with MqttTransport(MqttConfig(HOST, self._services.port, "customers"), filters) as transport:
            await transport.connected.wait()
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(transport), name="watch")
                before = [_cpu_s(pid) for pid in pids]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LIMIT_S):
                        await self._post_all(transport)
                        await self._over.wait()
                found.market_cpu_s, found.mosquitto_cpu_s = (_cpu_s(p) - b for p, b in zip(pids, before, strict=True))
                watching.cancel()
        found.market_peak_rss_mb = _peak_rss_mb(pids[0])
        return found

    async def _post_all(self, transport: MqttTransport) -> None:
        """Post every order at its time."""
        orders, begun = iter(self._site.orders), time.monotonic()

        async def post() -> None:
            for at_s, customer, order in orders:
                await asyncio.sleep(begun + at_s - time.monotonic())
                self._found.posted_s[order.order] = time.monotonic()
                payload = message(customer, order, MessageId(f"post-{order.order}"))
                await insist(transport, topics.from_customer(customer, "order"), payload)

        async with asyncio.TaskGroup() as posters:
            for number in range(POSTERS):
                posters.create_task(post(), name=f"poster {number}")

    async def _watch(self, transport: MqttTransport) -> None:
        """Take note of every order's first award."""
        found = self._found
        async for delivery in transport.deliveries():
            delivery.ack()
            found.events += 1
            at_s, body = time.monotonic(), decode(delivery.payload, limit=MAX_OUTBOUND_BYTES).body
            if isinstance(body, OrderReply) and body.result == "refused":
                found.refused += 1
            elif isinstance(body, OrderEvent) and body.view.state is OrderState.AWARDED:
                found.heard_s.setdefault(body.view.order, at_s)
            if len(found.heard_s) + found.refused == self._site.size.orders:
                self._over.set()


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
