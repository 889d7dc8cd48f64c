"""Our robot as a vehicle: the master control of vda-5050-lib drives it, and our own does."""

import asyncio
import contextlib
import json
import uuid
from itertools import pairwise

import pytest
from vda5050_floor import until

from fleet_market.body import Act, End, Go, Job, Pose
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits
from fleet_market.testing import KinematicBase
from fleet_market_hardware import Follower
from fleet_market_hardware.vda5050 import VERSIONS, MasterLink, Vda5050Driver, VehicleConfig
from fleet_market_hardware.vda5050.config import ActionWords
from fleet_market_hardware.vda5050.serving import VehicleServer
from fleet_market_hardware.vda5050.vehicle import KINDS

pytestmark = pytest.mark.real

PACE_S = 0.01
WEIGHED = {"weight": "{mass_kg}", "duration": "{seconds}", "loadId": "{parcel}"}


class PacedBase(KinematicBase):
    """A unicycle five times as fast as the wall's clock, also while nobody reads it."""

    async def next_telemetry(self, after, *, timeout_s):
        await asyncio.sleep(PACE_S)
        return await super().next_telemetry(after, timeout_s=timeout_s)


@pytest.fixture
async def serve(mqtt_broker):
    running = []

    async def start(version="2.0.0", driver=None, **faults):
        serial = f"ours-{uuid.uuid4().hex[:8]}"
        base = PacedBase(Pose(0.0, 0.0))
        for name, value in faults.items():
            setattr(base, name, value)
        config = VehicleConfig(
            robot=RobotId(serial),
            manufacturer="fleet",
            serial=serial,
            version=version,
            max_speed_mps=1.0,
            max_payload_kg=20.0,
        )
        server = VehicleServer(config, driver or Follower(base, Limits(1.0, 0.6, 1.5)), mqtt_broker.host, mqtt_broker.port)
        ready = asyncio.Event()
        running.append(asyncio.create_task(server.run(ready.set)))
        await ready.wait()
        return config, base

    yield start
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Master:
    """The process of a master control; what it says is a list."""

    def __init__(self, process):
        self.process, self.said = process, []
        self._reading = asyncio.create_task(self._read())

    async def _read(self):
        while line := await asyncio.to_thread(self.process.stdout.readline):
            self.said.append(json.loads(line))

    def tell(self, **wish):
        self.process.stdin.write(json.dumps(wish) + "\n")
        self.process.stdin.flush()

    def instant(self, kind):
        self.tell(instant=[{"actionType": kind, "actionId": str(uuid.uuid4()), "blockingType": "NONE"}])

    async def hears(self, within_s=60.0, **wanted):
        def found():
            return any(wanted.items() <= said.items() for said in self.said)

        try:
            await until(found, within_s)
        except AssertionError:
            raise AssertionError(f"not said: {wanted}, but {self.said}") from None

    async def end(self):
        self.process.kill()
        self.process.wait()
        await self._reading
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
async def master(siemens, mqtt_broker):
    masters = []

    async def start(config):
        settings = {"manufacturer": "fleet", "serial": config.serial, "version": config.version, "port": mqtt_broker.port}
        made = Master(siemens.start("master", **settings))
        masters.append(made)
        await made.hears(up=True)
        await made.hears(connection="ONLINE")
        return made

    yield start
    for made in masters:
        await made.end()


def order(places, released=None, actions=(), update=0, sequence=0, name="o"):
    """An order through `places`, with `actions` on its last node."""
    released = len(places) if released is None else released
    nodes = [
        {
            "nodeId": f"n{sequence // 2 + i}",
            "sequenceId": sequence + 2 * i,
            "released": i < released,
            "nodePosition": {"x": x, "y": y, "mapId": "local"},
            "actions": list(actions) if i + 1 == len(places) else [],
        }
        for i, (x, y) in enumerate(places)
    ]
    edges = [
        {
            "edgeId": f"e{sequence // 2 + i}",
            "sequenceId": sequence + 2 * i + 1,
            "released": b["released"],
            "startNodeId": a["nodeId"],
            "endNodeId": b["nodeId"],
            "actions": [],
        }
        for i, (a, b) in enumerate(pairwise(nodes))
    ]
    return {"orderId": name, "orderUpdateId": update, "nodes": nodes, "edges": edges}


def action(kind, **parameters):
    listed = [{"key": key, "value": value} for key, value in parameters.items()]
    return {"actionType": kind, "actionId": str(uuid.uuid4()), "blockingType": "HARD", "actionParameters": listed}


@pytest.mark.parametrize("version", ["1.1.0", "2.0.0"])
async def test_their_master_has_an_order_done(serve, master, wire, siemens, version):
    config, base = await serve(version)
    control = await master(config)
    control.tell(order=order([(0, 0), (2, 0), (2, 1)], actions=[action("pick", weight=3.0, duration=1)]))
    await control.hears(processed="o", byCancelation=False, active=False)
    assert base.pose.distance_to(2.0, 1.0) < 0.1
    assert base.telemetry().payload_kg == pytest.approx(3.0)
    assert [said["node"] for said in control.said if "node" in said] == ["n0", "n1", "n2"]
    assert [said["status"] for said in control.said if "action" in said][-1] == "FINISHED"
    if version != "1.1.0":
        control.instant("factsheetRequest")
        await until(lambda: wire.of("factsheet"))
    topics = ("state", "visualization", "connection", "factsheet")
    ours = [(t, m) for t in topics for m in wire.of(t)]
    judge = siemens.start("validate")
    with judge:
        for topic, message in ours:
            judge.stdin.write(json.dumps({"version": version[:3], "topic": topic, "message": message}) + "\n")
        judge.stdin.close()
        verdicts = judge.stdout.read().split("\n")[:-1]
    assert verdicts == ["ok"] * len(ours)
    assert {t for t, _ in ours} >= {"state", "connection"}


async def test_their_master_cancels_mid_edge(serve, master):
    config, base = await serve()
    control = await master(config)
    control.tell(order=order([(0, 0), (80, 0)], actions=[action("drop")]))
    await until(lambda: base.pose.x > 0.5)
    control.instant("cancelOrder")
    await control.hears(processed="o", byCancelation=True)
    await control.hears(instant="cancelOrder", status="FINISHED")
    await control.hears(action="drop", status="FAILED")
    at = base.pose.x
    assert at < 79
    await asyncio.sleep(0.3)
    assert base.pose.x == pytest.approx(at, abs=0.01)
    control.instant("cancelOrder")
    await control.hears(instant="cancelOrder", status="FAILED")


async def test_their_master_extends_the_base_and_pauses(serve, master):
    config, base = await serve()
    control = await master(config)
    control.tell(order=order([(0, 0), (1, 0), (20, 0)], released=2))
    await control.hears(node="n1")
    await until(lambda: not base.telemetry().moving)
    assert base.pose.x == pytest.approx(1.0, abs=0.06)
    control.tell(order=order([(1, 0), (20, 0)], update=1, sequence=2))
    await until(lambda: base.pose.x > 1.5)
    control.instant("startPause")
    await control.hears(instant="startPause", status="FINISHED")
    at = base.pose.x
    await asyncio.sleep(0.3)
    assert base.pose.x == pytest.approx(at, abs=0.01)
    assert at < 19.9
    control.instant("stopPause")
    await control.hears(node="n2")
    assert base.pose.x == pytest.approx(20.0, abs=0.1)


@pytest.mark.parametrize("turn", [(8, 0), (4, 2)])
async def test_their_master_extends_the_base_while_the_robot_drives(serve, master, turn):
    config, base = await serve()
    control = await master(config)
    control.tell(order=order([(0, 0), (4, 0), (8, 0)], released=2))
    await until(lambda: base.pose.x > 0.5)
    control.tell(order=order([(4, 0), turn], update=1, sequence=2))
    await control.hears(processed="o", byCancelation=False, active=False)
    assert base.pose.distance_to(*turn) < 0.1
    assert [said["node"] for said in control.said if "node" in said][-2:] == ["n1", "n2"]


async def test_their_master_hears_of_a_drop_that_failed(serve, master):
    config, _ = await serve(broken_scale=True)
    control = await master(config)
    control.tell(order=order([(0, 0), (0.5, 0)], actions=[action("drop", weight=3.0)]))
    await control.hears(action="drop", status="FAILED")


async def test_orders_that_the_robot_cannot_do_are_refused(serve, master, wire):
    config, base = await serve()
    control = await master(config)
    control.tell(order=order([(50, 0), (51, 0)], name="far"))
    await until(lambda: any(e["errorType"] == "noRouteError" for m in wire.of("state") for e in m["errors"]))
    control.tell(order=order([(0, 0), (1, 0)], actions=[action("fly")], name="fly"))
    await until(lambda: any(e["errorType"] == "orderError" for m in wire.of("state") for e in m["errors"]))
    assert base.pose.x == 0.0
    assert wire.of("state")[-1]["orderId"] == ""


@pytest.mark.parametrize("version", list(VERSIONS))
async def test_our_master_drives_our_vehicle_in_every_version(serve, mqtt_broker, wire, version):
    config, base = await serve(version)
    words = {kind: ActionWords(type=name, parameters=WEIGHED) for name, kind in KINDS.items()}
    config = config.model_copy(
        update={"weighs": True, "actions": words, "version": "2.1.0" if version[0] == "2" else version}
    )
    driver = Vda5050Driver(config, MasterLink(mqtt_broker.host, mqtt_broker.port))
    await driver.open(timeout_s=60)
    path = tuple((0.25 * i, 0.0) for i in range(9))
    job = Job("j", (Go(Pose(2.0, 0.0), path, 3), Act("load", "p", 3.0, 1.0)))
    running = asyncio.ensure_future(driver.run(job, deadline_s=60))
    await until(lambda: driver.passed() == 3)
    driver.release("j", 9)
    result = await running
    assert (result.end, result.steps_done) == (End.DONE, 2), result
    assert base.pose.distance_to(2.0, 0.0) < 0.1
    assert driver.telemetry().payload_kg == pytest.approx(3.0)
    assert driver.version == version
    assert {message["version"] for message in wire.of("order")} == {version}
    running = asyncio.ensure_future(driver.run(Job("k", (Go(Pose(2.0, 9.0)),)), deadline_s=60))
    await until(lambda: base.pose.y > 0.5)
    assert await driver.stop(timeout_s=60)
    assert (await running).end is End.CANCELLED
    await driver.close()


@pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")  # lark, which rclpy brings along
async def test_their_master_drives_a_robot_in_pybullet_over_ros(serve, master):
    pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'fleet-market[ros-kilted]'")
    from fleet_market_ros.simulated_bench import base_bench

    async with base_bench() as bench:
        config, _ = await serve(driver=bench.driver())
        control = await master(config)
        (x, y), end = bench.course[0], bench.course[-1]
        control.tell(order=order([(x, y), end]))
        await control.hears(processed="o", byCancelation=False, active=False)
        assert bench.true_pose().distance_to(*end) < 0.15
        control.tell(order=order([end, (x, y)], name="back"))
        await until(lambda: bench.true_pose().distance_to(*end) > 0.6)
        control.instant("cancelOrder")
        await control.hears(processed="back", byCancelation=True)
        at = bench.true_pose()
        await bench.pause(1.0)
        assert bench.true_pose().distance_to(at.x, at.y) < 0.05
