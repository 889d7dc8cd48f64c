"""Deliveries sold on the market and executed by a vehicle of vda-5050-lib: paid on proof, and on nothing else."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest
from vda5050_floor import WORDS, until

from fleet_market.adapters.auditing import audit_store
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.requests import Requester
from fleet_market.adapters.stores import open_reader
from fleet_market.body import Go
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.robot import RobotConfig, RobotDaemon, new_session
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig
from fleet_market.ids import CustomerId, OrderId
from fleet_market.ledger import TransferKind
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import CancelOrder, OrderReply, OrderState, PostOrder
from fleet_market.robot.agent import AgentConfig
from fleet_market.robot.floor import lay_out
from fleet_market_hardware.vda5050 import MasterLink, Vda5050Driver, VehicleConfig

pytestmark = [pytest.mark.real, pytest.mark.waits, pytest.mark.slow]
LAUNCH = Path(__file__).parents[3] / "launch"
ANN, CREDIT = CustomerId("ann"), 10**6
ORDER = OrderId("o1")
SPEED_MPS = 3.0


class Stage:
    """A market, a robot's daemon and its vehicle."""

    async def post(self, deadline_s):
        body = PostOrder(
            order=ORDER,
            pickup="shelf-a1",
            dropoff="shipping-1",
            payload_kg=1.0,
            deadline_s=deadline_s,
            max_price_uc=50 * CREDIT,
        )
        assert (await self.ann.ask("order", body, OrderReply)).result == "accepted"

    @property
    def order(self):
        return self.server.engine.market.state.orders[ORDER]

    async def is_over(self, within_s=180):
        await until(lambda: self.order.state.final, within_s)

    async def gives_up(self):
        """Have the customer take back what was not done: the contract has failed, and the order is on sale again."""
        await until(lambda: self.order.broken and self.order.state in {OrderState.OPEN, OrderState.SCHEDULED})
        await self.ann.ask("cancel", CancelOrder(order=ORDER), OrderReply)
        await self.is_over()

    async def drives(self):
        """Wait until the vehicle is between two nodes of a delivery."""
        start = self.driver.telemetry().pose
        await until(
            lambda: self.driver.telemetry().moving and self.driver.telemetry().pose.distance_to(start.x, start.y) > 1
        )

    def _books(self):
        with open_reader(self.folder / "market.db") as reader:
            return audit_store(reader), Counter(entry.transfer.kind for entry in reader.journal())

    async def paid(self):
        """Return how often the robot was paid, once the books are closed."""
        await until(lambda: self._books()[0].metrics.escrow_left_uc == 0)
        report, kinds = self._books()
        assert report.faults == []
        return kinds[TransferKind.CAPTURE]


@pytest.fixture
async def stage(start_vehicle, mqtt_broker, tmp_path, request):
    made = Stage()
    made.folder = tmp_path
    fleet = load_fleet(LAUNCH / "fleets/warehouse.yaml")
    floor = lay_out(fleet, load_map(LAUNCH / "maps/warehouse.yaml"), source="fleet")
    terms = MarketTerms(batch_s=0.3, lease_s=15.0, accept_s=10.0, overdue_s=10.0, cooldown_s=2.0)
    zone = ZoneConfig(floor.places, terms=terms, traffic=floor.traffic(), customers={ANN: 100 * CREDIT})
    daemon = Broker(ServerConfig(mqtt_broker.host, mqtt_broker.port, tmp_path / "market.db"), [zone])
    made.server = daemon.servers[zone.zone]
    kind = fleet.robots[0]
    home = floor.homes[kind.id]
    made.vehicle = start_vehicle(x=home.x, y=home.y, theta=home.yaw, speed=SPEED_MPS, reach=200_000)
    config = VehicleConfig(
        robot=kind.id,
        manufacturer="siemens",
        serial=made.vehicle.serial,
        max_speed_mps=SPEED_MPS,
        max_payload_kg=kind.type.max_payload_kg,
        capacity_wh=kind.type.battery.capacity_wh,
        actions={**WORDS, **getattr(request, "param", {})},
        poll_s=0.5,
    )
    made.driver = Vda5050Driver(config, MasterLink(mqtt_broker.host, mqtt_broker.port))
    made.jobs = []
    run = made.driver.run

    async def watched(job, **more):
        result = await run(job, **more)
        made.jobs.append((job, result))
        return result

    made.driver.run = watched
    agent = AgentConfig(kind.id, kind.type, home, floor.chargers, Tariff(300_000), floor.roadmap, new_session())
    robot = RobotDaemon(RobotConfig(agent, kind.owner, mqtt_broker.host, mqtt_broker.port), made.driver, made.server.clock)
    made.agent = robot.agent
    running = [asyncio.create_task(daemon.run())]
    await asyncio.wait_for(daemon.ready.wait(), 60)
    running.append(asyncio.create_task(robot.run()))
    known = made.server.engine.market.state.robots
    await until(lambda: kind.id in known and known[kind.id].online)
    async with Requester(mqtt_broker.host, mqtt_broker.port, ANN, timeout_s=60) as made.ann:
        yield made
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_a_delivery_is_executed_and_paid(stage, wire):
    await stage.post(300)
    await stage.is_over()
    assert stage.order.state is OrderState.SETTLED
    assert await stage.paid() == 1
    deliveries = [job for job, _ in stage.jobs if not _is_homing(job)]
    assert len(deliveries) == 2
    ours = [orderid for orderid in wire.orders() if orderid.startswith(tuple(f"{job.id}." for job in deliveries))]
    assert len(ours) == 2


async def test_a_delivery_outlives_the_broker_and_is_paid_once(stage, mqtt_broker, wire):
    await stage.post(300)
    await stage.drives()
    mqtt_broker.kill()
    await asyncio.sleep(0.5)
    mqtt_broker.start()
    await stage.is_over()
    assert stage.order.state is OrderState.SETTLED
    assert await stage.paid() == 1


async def test_a_delivery_cancelled_mid_edge_is_not_paid(stage):
    await stage.post(300)
    await stage.drives()
    await stage.ann.ask("cancel", CancelOrder(order=ORDER), OrderReply)
    await stage.is_over()
    assert stage.order.state is not OrderState.SETTLED
    assert await stage.paid() == 0


async def test_a_vehicle_killed_mid_edge_is_not_paid(stage):
    await stage.post(300)
    await stage.drives()
    stage.vehicle.send(signal.SIGKILL)
    await until(lambda: any(result.end == "LOST" for _, result in stage.jobs))
    await stage.gives_up()
    assert stage.order.state is not OrderState.SETTLED
    assert await stage.paid() == 0


@pytest.mark.parametrize("stage", [{"unload": {"type": "pick", "parameters": WORDS["load"]["parameters"]}}], indirect=True)
async def test_a_drop_that_fails_is_not_paid(stage):
    await stage.post(300)
    await until(lambda: any(result.end == "FAILED" for _, result in stage.jobs))
    assert "load already picked" in next(result.reason for _, result in stage.jobs if result.end == "FAILED")
    await stage.gives_up()
    assert stage.order.state is not OrderState.SETTLED
    assert await stage.paid() == 0


@pytest.mark.parametrize("stage", [{"load": {"type": "fly"}}], indirect=True)
async def test_an_order_that_the_vehicle_rejects_is_not_paid(stage):
    await stage.post(300)
    # Refused is the order, or the update that releases the rest of the way: as the traffic control happens to release it.
    await until(lambda: any(result.end in {"REJECTED", "FAILED"} for _, result in stage.jobs))
    assert "not supported" in next(result.reason for _, result in stage.jobs if result.end in {"REJECTED", "FAILED"})
    await stage.gives_up()
    assert stage.order.state is not OrderState.SETTLED
    assert await stage.paid() == 0


def _is_homing(job):
    return all(isinstance(step, Go) for step in job.steps)
