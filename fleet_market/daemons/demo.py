"""The demo: a whole fleet on real parts, from an empty floor to closed books.

Mosquitto, market, oracle, simulator and one ROS 2 node per robot run as processes of their own. Orders come from a file
through the same door as everybody's. A robot's process may die: the market goes on without it. The death of any other
ends the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.exports import export_csv
from fleet_market.adapters.fleet_files import load_fleet, load_orders, write_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.adapters.picture import Picture, draw
from fleet_market.adapters.requests import Requester
from fleet_market.body import Point
from fleet_market.daemons.demo_oracle import fees_paid, quotes_report
from fleet_market.daemons.demo_report import summarise, versions
from fleet_market.daemons.oracle import FEE_UC, NAME
from fleet_market.daemons.programs import (
    FLEET_STAGE,
    LOOPBACK,
    MARKET_STAGE,
    Site,
    fleet_programs,
    market_programs,
    mosquitto,
    ros_discovery,
)
from fleet_market.daemons.supervisor import ProcessError, Supervisor
from fleet_market.errors import FleetMarketError, InputError, PlaceError, ProtocolError, ReplyTimeoutError
from fleet_market.ids import CustomerId, OrderId, QuoteId, derive
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.places import Places
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, decode
from fleet_market.protocol.messages import (
    Band,
    FairReply,
    FairRequest,
    OrderReply,
    OrderState,
    OrderView,
    PostOrder,
    Scored,
    StatusReply,
)
from fleet_market.robot.fleet import Fleet, OrderRow
from fleet_market.robot.floor import Floor, build_roadmap, lay_out

READY_TIMEOUT_S = 90.0
LOOK_S = 1.0
FIRST_CUSTOMER = CustomerId("demo")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to run and where to write."""

    fleet: Path
    orders: Path
    out: Path
    map: Path | None = None
    speed: float = 2.0
    seed: int = 0
    mosquitto_folder: Path = Path(".cache/mosquitto")
    consult: bool = True
    """Whether the customer buys a quote of the oracle for every order when it comes on sale, to compare prices with."""


class Screen(Protocol):
    """Shows how the demo gets on."""

    def say(self, text: str) -> None:
        """Show a line that stays."""

    def order(self, view: OrderView) -> None:
        """Show an order that has changed."""

    def look(self, status: StatusReply) -> None:
        """Show the robots as they are now."""


@dataclass(slots=True)
class _Setting:
    """What the files say, checked before anything is started."""

    fleet: Fleet
    grid: OccupancyGrid
    map: Path
    floor: Floor
    orders: list[OrderRow]
    customer: CustomerId


@dataclass(slots=True)
class _Record:
    """What has been seen."""

    views: dict[OrderId, OrderView] = field(default_factory=dict)
    refused: dict[OrderId, str] = field(default_factory=dict)
    bands: list[Band] = field(default_factory=list)
    quotes: dict[OrderId, FairReply] = field(default_factory=dict)
    scores: list[Scored] = field(default_factory=list)
    ledger: StatusReply | None = None
    first_settled: float | None = None
    """Wall time (monotonic)."""


async def run_demo(options: DemoOptions, screen: Screen) -> dict[str, Any]:
    """Run the demo and return its summary, which is also written to ``summary.json``.

    Raises
    ------
    InputError
        If a file is wrong; nothing has been started then.
    ProcessError
        If a process dies that everything depends on.
    """
    begun = time.monotonic()
    setting = _read(options)
    discovery = ros_discovery()
    out = options.out.resolve()
    _clear(out)
    write_fleet(options.fleet, out / "fleet.yaml", setting.floor.homes, setting.floor.chargers, setting.map)
    port = mosquitto_adapter.free_port()
    address = f"{LOOPBACK}:{port}"
    record = _Record()
    site = Site(
        setting.fleet, out / "fleet.yaml", setting.map.resolve(), address, out, seed=options.seed, speed=options.speed
    )

    mqtt_broker = mosquitto(site, options.mosquitto_folder, screen.say)
    mosquitto_version = mosquitto_adapter.install(options.mosquitto_folder, say=screen.say).version()

    def bereaved(name: str, code: int) -> None:
        screen.say(f"{name} died with exit code {code}: its task goes to another robot")

    with discovery.claimed_domain_id() as domain_id:
        environment = discovery.loopback_environment(domain_id, out / "logs")
        async with Supervisor(out / "logs", bereaved) as supervisor:
            supervisor.start(mqtt_broker)
            async with _watched(supervisor):
                robots = await _start(site, supervisor, environment, screen)
                ready_s = time.monotonic() - begun
                screen.say(f"{robots} robots are there after {ready_s:.0f} s; market at MQTT {address}")
                await _trade(setting, port, record, screen, consult=options.consult)
                wall_s = time.monotonic() - begun
    simulation = json.loads((out / "simulation.json").read_text())
    ledger = record.ledger or StatusReply(now_ns=0)
    export_csv(out / "market.db", out / "ledger.csv", setting.fleet.zone)
    views = [record.views[row.id] for row in setting.orders if row.id in record.views]
    summary = summarise(views, record.refused, ledger, record.bands, supervisor.usage, simulation)
    summary["oracle"] |= quotes_report(views, record.quotes, record.scores, fees_paid(out / "ledger.csv"))
    summary |= {
        "wall_s": round(wall_s, 1),
        "start_s": round(ready_s, 1),
        "first_settled_s": None if record.first_settled is None else round(record.first_settled - begun, 1),
        "sim_s": round(simulation["sim_s"], 1),
        "speed": options.speed,
        "seed": options.seed,
        "versions": versions(mosquitto_version),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    draw(Picture(setting.grid, out / "trace.csv", setting.floor.homes, setting.floor.chargers, views), out / "demo.png")
    return summary


def _read(options: DemoOptions) -> _Setting:
    fleet, orders = load_fleet(options.fleet), load_orders(options.orders)
    map_file = options.map or fleet.map
    if map_file is None:
        raise InputError(str(options.fleet), "map", None, "name a map there, or give --map")
    grid = load_map(map_file)
    rich = [name for name, endowment in fleet.customers.items() if endowment > 0]
    if not rich:
        raise InputError(str(options.fleet), "customers", {}, "name a customer with credits, e.g. {demo: 5000}")
    customer = FIRST_CUSTOMER if FIRST_CUSTOMER in rich else rich[0]
    unchecked = Places(grid, build_roadmap(fleet, grid), fleet.places)
    stops: list[Point] = []
    for row in orders:
        for text in (row.pickup, row.dropoff):
            with contextlib.suppress(PlaceError):
                place = unchecked.resolve(text, source=str(options.orders), field=f"line {row.line}")
                stops.append((place.x, place.y))
    floor = lay_out(fleet, grid, source=str(options.fleet), keep_clear=stops)
    return _Setting(fleet, grid, map_file, floor, orders, customer)


def _clear(out: Path) -> None:
    """Remove what an earlier demo has left; a market's database goes on where it was, which is not wanted here."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("summary.json", "demo.png", "ledger.csv", "trace.csv", "simulation.json", "mosquitto/mosquitto.db"):
        (out / name).unlink(missing_ok=True)
    for old in (*out.glob("market*.db*"), *out.glob("evidence.db*"), *(out / "memory").glob("*.json")):
        old.unlink()


@contextlib.asynccontextmanager
async def _watched(supervisor: Supervisor) -> Any:
    """Cancel the body when a process dies that it depends on, and raise why."""
    body = asyncio.current_task()
    watch = asyncio.create_task(supervisor.watch(), name="watch")

    def died(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and body is not None:
            body.cancel()

    watch.add_done_callback(died)
    try:
        yield
    except asyncio.CancelledError:
        if watch.done() and not watch.cancelled() and (error := watch.exception()) is not None:
            if body is not None:
                body.uncancel()
            raise error from None
        raise
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError, FleetMarketError):
            await watch


async def _start(site: Site, supervisor: Supervisor, environment: Mapping[str, str], screen: Screen) -> int:
    """Start all, stage by stage; return how many robots are there."""
    programs = [*market_programs(site), *fleet_programs(site, environment, restart=False)]
    for stage in (MARKET_STAGE, FLEET_STAGE):
        some = [program for program in programs if program.stage == stage]
        for program in some:
            supervisor.start(program)
        late = await supervisor.wait_ready([program.name for program in some], timeout_s=READY_TIMEOUT_S)
        if len(late) == len(some):
            raise ProcessError(late[0], "is not ready, nor is any other robot", supervisor.log(late[0]))
        for name in late:
            screen.say(f"{name} is not ready, the others go on without it; see {supervisor.log(name)}")
    return len(some) - len(late)


async def _trade(setting: _Setting, port: int, record: _Record, screen: Screen, *, consult: bool) -> None:
    """Post all orders and wait until each of them is over."""
    asked: set[OrderId] = set()
    heard = [(topics.view(setting.fleet.zone, kind), 1) for kind in ("band", "scored")]
    async with (
        MqttTransport(MqttConfig(LOOPBACK, port, "demo-watch"), heard) as transport,
        Requester(LOOPBACK, port, setting.customer, timeout_s=20.0, zone=setting.fleet.zone) as requester,
    ):
        async with asyncio.TaskGroup() as tasks:
            watchers = [
                tasks.create_task(_collect_bands(transport, record), name="bands"),
                tasks.create_task(_look(requester, screen), name="look"),
            ]
            await _post(setting, requester, record, screen)
            async for view in requester.events():
                if view.order in record.views:
                    record.views[view.order] = view
                    screen.order(view)
                    if consult and view.state is OrderState.OPEN and view.order not in asked:
                        asked.add(view.order)
                        watchers.append(tasks.create_task(_consult(requester, view.order, record), name=view.order))
                if view.state is OrderState.SETTLED and record.first_settled is None:
                    record.first_settled = time.monotonic()
                if all(known.state.final for known in record.views.values()):
                    break
            for watcher in watchers:
                watcher.cancel()
        final = await requester.status("orders")
        record.views.update({view.order: view for view in final.orders if view.order in record.views})
        record.ledger = final


async def _post(setting: _Setting, requester: Requester, record: _Record, screen: Screen) -> None:
    now = await requester.status("ledger")
    for row in setting.orders:
        order = PostOrder(
            order=row.id,
            pickup=row.pickup,
            dropoff=row.dropoff,
            payload_kg=row.payload_kg,
            release_s=row.release_s,
            deadline_s=row.deadline_s,
            max_price_uc=row.max_price_uc,
            priority=row.priority,
            lateness_uc_per_h=row.lateness_uc_per_h,
            value_uc=row.value_uc,
            after=row.after,
            group=row.group,
            group_size=row.group_size,
            from_ns=now.now_ns,
        )
        reply = await requester.ask("order", order, OrderReply)
        if reply.view is not None:
            record.views[row.id] = reply.view
        else:
            wrong = "; ".join(f"{e.field} was {e.value!r}: {e.mend}" for e in reply.errors)
            record.refused[row.id] = wrong
            screen.say(f"order {row.id} (line {row.line}) was refused: {wrong}")
    if not record.views:
        raise InputError("orders", "all", len(setting.orders), "every order was refused: see above")


async def _look(requester: Requester, screen: Screen) -> None:
    while True:
        screen.look(await requester.status("robots"))
        await asyncio.sleep(LOOK_S)


async def _collect_bands(transport: MqttTransport, record: _Record) -> None:
    async for delivery in transport.deliveries():
        delivery.ack()
        with contextlib.suppress(ProtocolError):
            body = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES).body
            if isinstance(body, Band):
                record.bands.append(body)
            elif isinstance(body, Scored):
                record.scores.append(body)


async def _consult(requester: Requester, order: OrderId, record: _Record) -> None:
    """Buy a quote for an order that has come on sale."""
    name = QuoteId(f"demo-{derive(order)}")
    request = FairRequest(quote=name, oracle=NAME, order=order, max_fee_uc=2 * FEE_UC)
    with contextlib.suppress(ReplyTimeoutError):
        record.quotes[order] = await requester.ask("fair", request, FairReply)
