"""The whole stack on a broker that is killed and a network that is bad: market daemon, robots and a customer, for real.

All of them run in this process, over a Mosquitto of its own that is killed with SIGKILL and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.auditing import audit_store
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mosquitto import Mosquitto
from fleet_market.adapters.requests import Requester
from fleet_market.adapters.stores import open_reader
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.robot import RobotConfig, RobotDaemon, new_session
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer
from fleet_market.errors import ReplyTimeoutError
from fleet_market.ids import CustomerId, OrderId
from fleet_market.ledger import TransferKind
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import OrderReply, OrderState, PostOrder
from fleet_market.robot.agent import AgentConfig
from fleet_market.robot.floor import lay_out
from fleet_market.testing.hasty_driver import HastyDriver
from fleet_market.testing.lossy_proxy import LossyProxy
from fleet_market.units import MICROCREDITS_PER_CREDIT

TERMS = MarketTerms(batch_s=0.5, round_s=0.3, accept_s=3.0, lease_s=8.0, cooldown_s=2.0, overdue_s=20.0, max_attempts=20)
DEADLINE_S = 180.0
ORDERS_PER_KILL = 2
PAUSE_S, DOWN_S = 2.0, 2.0
"""The broker is killed within the first after it has recovered, and is away for up to the second."""
PATIENCE_S = 60.0
POLL_S = 0.02
ENDOWMENT_UC = 10_000 * MICROCREDITS_PER_CREDIT
BUDGET_UC = 20 * MICROCREDITS_PER_CREDIT
CUSTOMER = CustomerId("demo")


@dataclass(slots=True)
class Outages:
    """What was seen."""

    kills: int = 0
    orders: dict[str, int] = field(default_factory=dict)
    """How many orders ended how."""
    recovery_s: list[float] = field(default_factory=list)
    """From each start of the broker until an order that was posted then was awarded."""
    packets: int = 0
    lost: int = 0
    repeated: int = 0
    broken: int = 0
    """Connections that the network broke."""
    settling_s: float = 0.0
    """From the last recovery until every order was over."""

    missing: list[str] = field(default_factory=list)
    """Orders that the market has accepted and does not know."""
    unfinished: list[str] = field(default_factory=list)
    """Orders that were neither settled nor expired nor refused."""
    paid_twice: list[str] = field(default_factory=list)
    minted_uc: int = 0
    escrow_left_uc: int = 0
    faults: list[str] = field(default_factory=list)
    """What the audit found."""

    @property
    def money_errors(self) -> int:
        """How often the books were wrong."""
        return len(self.paid_twice) + len(self.faults) + bool(self.minted_uc) + bool(self.escrow_left_uc)

    @property
    def clean(self) -> bool:
        """Whether every order ended as it should, and the books are closed."""
        return not (self.missing or self.unfinished or self.money_errors)


class Server:
    """A Mosquitto that can be killed and started again."""

    def __init__(self, mosquitto: Mosquitto, folder: Path, *, persistence: bool) -> None:
        self.port = mosquitto_adapter.free_port()
        self._mosquitto = mosquitto
        self._config = mosquitto_adapter.write_config(folder, self.port, persistence=persistence)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond
            [self._mosquitto.path, "-c", self._config], env=self._mosquitto.environment(), stdout=quiet, stderr=quiet
        )
        await _until(self._listens, PATIENCE_S)

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


async def run_outages(
    mosquitto: Mosquitto,
    launch: Path,
    folder: Path,
    *,
    kills: int,
    persistence: bool = True,
    loss: float = 0.0,
    robots: int = 6,
    seed: int = 0,
) -> Outages:
    """Trade while the broker is killed again and again; return what became of orders and money.

    Parameters
    ----------
    launch : Path
        Folder of the fleet files and maps.
    folder : Path
        For database and broker.
    persistence : bool
        Whether the broker keeps sessions and messages on the disk.
    loss : float
        Share of the packets that the network loses at each try; a tenth comes twice. 0: a good network.
    robots : int
        At most 6.
    """
    rng, seen = random.Random(seed), Outages()  # noqa: S311 - seeded chance, no secret
    server = Server(mosquitto, folder / "mosquitto", persistence=persistence)
    await server.start()
    try:
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(LossyProxy(server.port, seed=seed, loss=loss)) if loss else None
            port = server.port if proxy is None else proxy.port
            market = await stack.enter_async_context(_market(launch, folder, port, robots))
            customer = await stack.enter_async_context(Requester("127.0.0.1", port, CUSTOMER, timeout_s=PATIENCE_S))
            accepted: set[OrderId] = set()
            for number in range(kills):
                for extra in range(ORDERS_PER_KILL):
                    await _post(customer, f"o{number}-{extra}", rng, accepted)
                await asyncio.sleep(rng.uniform(0.0, PAUSE_S))
                server.kill()
                await asyncio.sleep(rng.uniform(0.0, DOWN_S))
                await server.start()
                seen.kills += 1
                seen.recovery_s.append(await _recovered(market, customer, f"p{number}", rng, accepted))
            begun, orders = time.monotonic(), market.engine.market.state.orders
            with contextlib.suppress(TimeoutError):
                await _until(lambda: all(o.state.final for o in orders.values()), DEADLINE_S + TERMS.overdue_s + PATIENCE_S)
            seen.settling_s = time.monotonic() - begun
            _look(market, accepted, seen)
            if proxy is not None:
                seen.packets, seen.lost, seen.repeated, seen.broken = (
                    proxy.packets, proxy.lost, proxy.repeated, proxy.broken,
                )  # fmt: skip
    finally:
        server.kill()
    _audit(folder, seen)
    return seen


@contextlib.asynccontextmanager
async def _market(launch: Path, folder: Path, port: int, robots: int) -> AsyncIterator[ZoneServer]:
    fleet = load_fleet(launch / "fleets/warehouse.yaml")
    floor = lay_out(fleet, load_map(launch / "maps/warehouse.yaml"), source="fleet")
    zone = ZoneConfig(floor.places, terms=TERMS, traffic=floor.traffic(), customers={CUSTOMER: ENDOWMENT_UC})
    daemon = Broker(ServerConfig("127.0.0.1", port, folder / "market.db"), [zone])
    server = daemon.servers[zone.zone]
    services = [daemon.run()]
    for kind in fleet.robots[:robots]:
        home = floor.homes[kind.id]
        agent = AgentConfig(kind.id, kind.type, home, floor.chargers, Tariff(300_000), floor.roadmap, new_session())
        driver = HastyDriver(kind.id, home)
        services.append(RobotDaemon(RobotConfig(agent, kind.owner, "127.0.0.1", port), driver, server.clock).run())
    running = [asyncio.create_task(service) for service in services]
    try:
        await _until(lambda: daemon.ready.is_set() or running[0].done(), PATIENCE_S)
        known = server.engine.market.state.robots
        await _until(lambda: sum(r.online for r in known.values()) == robots, PATIENCE_S)
        yield server
        for task in running:
            if task.done():
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _post(customer: Requester, name: str, rng: random.Random, accepted: set[OrderId]) -> OrderId:
    order = OrderId(name)
    body = PostOrder(
        order=order, pickup=f"shelf-{rng.choice('abcd')}{rng.randint(1, 4)}", dropoff=f"shipping-{rng.randint(1, 4)}",
        payload_kg=1.0, deadline_s=DEADLINE_S, max_price_uc=BUDGET_UC,
    )  # fmt: skip
    with contextlib.suppress(ReplyTimeoutError):
        reply = await customer.ask("order", body, OrderReply)
        if reply.result in ("accepted", "exists"):
            accepted.add(order)
    return order


async def _recovered(
    server: ZoneServer, customer: Requester, name: str, rng: random.Random, accepted: set[OrderId]
) -> float:
    """Return how long it takes until an order that is posted now is awarded."""
    begun = time.monotonic()
    order, orders = await _post(customer, name, rng, accepted), server.engine.market.state.orders
    with contextlib.suppress(TimeoutError):
        await _until(lambda: order in orders and (orders[order].attempts > 0 or orders[order].state.final), PATIENCE_S)
    return time.monotonic() - begun


def _look(server: ZoneServer, accepted: set[OrderId], seen: Outages) -> None:
    orders = server.engine.market.state.orders
    seen.missing = sorted(accepted - orders.keys())
    seen.orders = dict(Counter(str(order.state) for order in orders.values()))
    seen.unfinished = [
        f"{o.id} is {o.state}: {o.note}" for o in orders.values() if o.state not in (OrderState.SETTLED, OrderState.EXPIRED)
    ]


def _audit(folder: Path, seen: Outages) -> None:
    with open_reader(folder / "market.db") as reader:
        report = audit_store(reader)
        paid = Counter(e.transfer.reference for e in reader.journal() if e.transfer.kind is TransferKind.CAPTURE)
    seen.faults = report.faults
    seen.paid_twice = [order for order, times in paid.items() if times > 1]
    if report.metrics is not None:
        seen.minted_uc = report.metrics.circulating_uc - ENDOWMENT_UC
        seen.escrow_left_uc = report.metrics.escrow_left_uc


async def _until(condition: Callable[[], object], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - looks at the state of others
            await asyncio.sleep(POLL_S)
