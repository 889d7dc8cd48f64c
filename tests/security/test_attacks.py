"""Scripted attacks on a trading market, by somebody to whom the MQTT broker lets everything through.

A customer's order is being driven by a robot. Mallory can publish on every topic, reads everything, and holds the good keys
of another robot, of another customer and of another zone's market. Nothing that she sends may move money, an order, a
contract or a robot. What the access rules of the broker forbid on top of that is in ``test_access.py``.
"""

import asyncio
import contextlib
import dataclasses
from pathlib import Path

import pytest
import pytest_asyncio

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.intake import Brake
from fleet_market.adapters.key_folder import BrokerAddress, KeyFolder
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.adapters.requests import Requester
from fleet_market.body import Battery, DriverSpec, Link, Telemetry
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.robot import RobotConfig, RobotDaemon, new_session
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer
from fleet_market.ids import CustomerId, Identifier, MessageId, OrderId, OwnerId, PartyName, RobotId, ZoneId
from fleet_market.market import Send
from fleet_market.pricing import Tariff
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, encode
from fleet_market.protocol.messages import (
    Abort,
    Accept,
    Announce,
    Ask,
    AskLine,
    Auctioneer,
    Award,
    Call,
    Cancel,
    CancelOrder,
    ClockTick,
    Complete,
    Decline,
    Lot,
    Place,
    PostOrder,
    Presence,
    Receipt,
    Release,
    Reroute,
    Route,
    Settle,
    StatusReply,
    StatusRequest,
    StepEvidence,
    WirePose,
)
from fleet_market.protocol.registry import Role
from fleet_market.robot.agent import AgentConfig
from fleet_market.robot.floor import lay_out

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

LAUNCH = Path(__file__).parents[2] / "launch"
CREDIT, ROBOT, RIVAL = 10**6, RobotId("carrier-1"), RobotId("carrier-2")
ZONE = ZoneId("main")
ASK, COMPLETE, ACCEPT = (topics.from_robot(ROBOT, ZONE, kind) for kind in ("ask", "complete", "accept"))
OWN = {kind: topics.from_robot(RIVAL, ZONE, kind) for kind in ("ask", "complete", "accept", "abort", "decline", "receipt")}
ORDER, CANCEL = topics.from_customer("ann", "order"), topics.from_customer("ann", "cancel")
AWARD, CANCELLED = topics.to_robot(ROBOT, "award"), topics.to_robot(ROBOT, "cancel")


class Patient:
    """A driver at standstill that notes what it is told to do, and never gets done with it."""

    def __init__(self, home):
        self.spec = DriverSpec(ROBOT, 1.0, 20.0, frozenset({"load", "unload", "charge"}), frozenset({"pose"}))
        self.told, self.home, self.seq = [], home, 0

    async def open(self, *, timeout_s):
        pass

    async def close(self):
        pass

    def telemetry(self):
        self.seq += 1
        battery = Battery(soc=0.9, energy_out_j=0.0)
        return Telemetry(seq=self.seq, stamp_ns=self.seq, link=Link.UP, pose=self.home, battery=battery, payload_kg=0.0)

    async def run(self, job, *, deadline_s, on_step=None):
        self.told.append(("run", job))
        await asyncio.Event().wait()

    def release(self, job_id, points):
        self.told.append(("release", job_id, points))

    def passed(self):
        return 0

    async def stop(self, *, timeout_s):
        self.told.append(("stop",))
        return True


class Stage:
    """A market at work, and what Mallory has at hand."""

    def __init__(self, daemon, robot, driver, keys):
        self.daemon, self.robot, self.driver = daemon, robot, driver
        self.rival = self._guard(keys, Role.ROBOT, RIVAL)
        self.bob = self._guard(keys, Role.CUSTOMER, "bob")
        self.other_market = self._guard(keys, Role.MARKET, "auc-other")
        self.old_robot = self._guard(keys, Role.ROBOT, ROBOT)
        self.old_robot._conn -= 10**6
        self.new_robot = self._guard(keys, Role.ROBOT, ROBOT)
        self.new_robot._conn += 10**4
        self.seen = []
        self.numbers = iter(range(10**6))

    @staticmethod
    def _guard(keys, role, name):
        guard = guard_for(keys, role, name, "localhost")
        guard.connect()
        return guard

    @property
    def contract(self):
        (contract,) = self.daemon.engine.market.state.contracts.values()
        return contract.id

    def says(self, who, body, name=None):
        name = MessageId(name or f"evil-{next(self.numbers)}")
        return encode(Envelope(id=name, ts=0, src=Identifier(who), body=body))

    def captured(self, topic):
        return next(payload for seen, payload in self.seen if seen == topic)

    def look(self):
        """Everything that may not change: books, orders, contracts, robots, outbox; what the robot is doing."""
        engine, agent = self.daemon.engine, self.robot.agent
        state = engine.market.state
        return {
            "journal": tuple(state.ledger.journal),
            "balances": {name: b for name, b in state.ledger.balances().items() if any(dataclasses.astuple(b))},
            "orders": {o.id: (o.state, o.customer, o.contract, o.robot, o.max_price_uc) for o in state.orders.values()},
            "contracts": {c.id: (c.robot, c.accepted, c.price_uc, c.phase, c.aboard) for c in state.contracts.values()},
            "robots": {name: (r.announce, r.online, r.sid) for name, r in state.robots.items()},
            "outbox": dict(engine._outbox),
            "epoch": engine.epoch,
            "market": (state.epoch, state.paused, state.terms),
            "told": list(self.driver.told),
            "tasks": [(t.award.contract, t.phase) for t in agent.tasks],
            "followed": (agent.epoch, agent.doing),
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(mosquitto, running_broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    mqtt = running_broker(mosquitto, folder / "mosquitto")
    mqtt.start()
    keys = KeyFolder.found(folder / "keys", BrokerAddress(), [ZONE, ZoneId("other")])
    for role, name, owner in (("robot", ROBOT, "acme"), ("robot", RIVAL, "bolt"), ("customer", "ann", None),
                              ("customer", "bob", None)):  # fmt: skip
        keys.issue(Role(role), PartyName(name), owner=None if owner is None else OwnerId(owner))
    fleet = load_fleet(LAUNCH / "fleets/warehouse.yaml")
    floor = lay_out(fleet, load_map(LAUNCH / "maps/warehouse.yaml"), source="fleet")
    config = ServerConfig(mqtt.host, mqtt.port, folder / "market.db", keys=keys.folder)
    zone = ZoneConfig(
        floor.places, traffic=floor.traffic(), terms=MarketTerms(batch_s=0.3, lease_s=600.0, accept_s=60.0),
        customers={CustomerId("ann"): 100 * CREDIT, CustomerId("bob"): 100 * CREDIT},
    )  # fmt: skip
    kind = next(r for r in fleet.robots if r.id == ROBOT)
    agent = AgentConfig(ROBOT, kind.type, floor.homes[ROBOT], floor.chargers, Tariff(300_000), floor.roadmap, new_session())
    daemon, driver = ZoneServer(config, zone, Brake()), Patient(floor.homes[ROBOT])
    robot = RobotDaemon(RobotConfig(agent, OwnerId("acme"), mqtt.host, mqtt.port, keys=keys.folder), driver, daemon.clock)
    daemon.guard.tls = robot.guard.tls = None
    stage = Stage(daemon, robot, driver, keys.folder)
    stage.ann = Requester(mqtt.host, mqtt.port, CustomerId("ann"), keys=keys.folder)
    stage.ann._transport._tls = None
    stage.mallory = MqttTransport(MqttConfig(mqtt.host, mqtt.port, "mallory"), [("mkt/1/#", 1)])
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(mqtt.kill)
        await stack.enter_async_context(stage.mallory)
        await stage.mallory.connected.wait()
        for service in (daemon.run(), _record(stage)):
            stack.callback(asyncio.create_task(service).cancel)
        await asyncio.wait_for(daemon.ready.wait(), 60)
        running = asyncio.create_task(robot.run())
        stack.push_async_callback(_ended, running)
        await stack.enter_async_context(stage.ann)
        await _until(lambda: (known := daemon.engine.market.state.robots.get(ROBOT)) and known.online)
        known = topics.state(RIVAL, "announce")
        body = Announce(zone=ZONE, owner="bolt", robot_type="t", max_payload_kg=9.0, max_speed_mps=1.0, battery_wh=9.0)
        await stage.mallory.publish(known, stage.rival.seal(known, stage.says(RIVAL, body)), retain=True)
        await _until(lambda: RIVAL in daemon.engine.market.state.robots)
        order = PostOrder(
            order=OrderId("o1"), pickup="shelf-a1", dropoff="shipping-1", payload_kg=1.0, deadline_s=900.0,
            max_price_uc=50 * CREDIT,
        )  # fmt: skip
        await stage.ann._transport.publish(ORDER, stage.says("ann", order, "post"))
        await _until(lambda: driver.told and daemon.engine.market.state.contracts and not daemon.engine._outbox)
        settle = Send(topics.to_robot(ROBOT, "settle"), Settle(contract="c", order="o1", price_uc=1), id="for-the-robot")
        daemon.engine.market.state.unconfirmed[settle.id] = settle
        daemon.engine._outbox[settle.id] = (settle.topic, b"waits for a receipt")
        stage.before, stage.genuine = stage.look(), list(stage.seen)
        yield stage


async def _record(stage):
    async for delivery in stage.mallory.deliveries():
        delivery.ack()
        stage.seen.append((delivery.topic, delivery.payload))


async def _ended(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - looks at the state of others
            await asyncio.sleep(0.02)


def lot():
    return Lot(order=OrderId("o9"), pickup=Place(x=2, y=2), dropoff=Place(x=3, y=3), payload_kg=1.0, deadline_ns=2**62)


def award(stage, **more):
    fields = {
        "contract": "c-evil", "epoch": 10**9, "order": OrderId("o9"), "pickup": Place(x=5, y=2), "dropoff": Place(x=6, y=2),
        "payload_kg": 1.0, "price_uc": 1, "ask_uc": 1, "energy_j": 1.0, "deadline_ns": 2**62, "answer_by_ns": 2**62,
        "lease_s": 60.0,
    } | more  # fmt: skip
    return stage.says("market", Award(**fields))


def order(**more):
    fields = {
        "order": OrderId("o7"), "pickup": "shelf-a1", "dropoff": "shipping-1", "payload_kg": 1.0, "deadline_s": 900.0,
        "max_price_uc": CREDIT,
    } | more  # fmt: skip
    return PostOrder(**fields)


def complete(stage):
    steps = tuple(StepEvidence(kind=kind, pose=WirePose(x=23, y=3), at_ns=1) for kind in ("pickup", "dropoff"))
    return Complete(contract=stage.contract, steps=steps, energy_j=1.0)


def by_rival(topic, body):
    """A message that the rival signs with its own good key."""
    return lambda s: [(topic, s.rival.seal(topic, body(s) if isinstance(body(s), bytes) else s.says(RIVAL, body(s))))]


def by_bob(topic, body):
    return lambda s: [(topic, s.bob.seal(topic, s.says("bob", body)))]


def raw(old, new):
    """The rival's ask with a piece of JSON put in, well signed."""

    def make(s):
        line = AskLine(lot=0, ask_uc=11, parts_uc=(11, *(0,) * 8), energy_j=1.5, finish_ns=1)
        text = s.says(RIVAL, Ask(call="main:1:1", asks=(line,)))
        assert old in text
        return text.replace(old, new)

    return make


NEW_ORDER = order()
TO_MARKET = {
    "an unsigned order in a customer's name": (lambda s: [(ORDER, s.says("ann", NEW_ORDER))], "unsigned"),
    "an order in a customer's name signed by a robot": (
        lambda s: [(ORDER, s.rival.seal(ORDER, s.says("ann", NEW_ORDER)))], "wrong_sender"),
    "an order in a customer's name signed by another customer": (
        lambda s: [(ORDER, s.bob.seal(ORDER, s.says("ann", NEW_ORDER)))], "wrong_sender"),
    "a customer's name inside an envelope of another": (
        lambda s: [(t := topics.from_customer("bob", "order"), s.bob.seal(t, s.says("ann", NEW_ORDER)))], "wrong_sender"),
    "a cancellation in the customer's name": (
        lambda s: [(CANCEL, s.says("ann", CancelOrder(order=OrderId("o1"))))], "unsigned"),
    "a cancellation by another customer": (
        by_bob(topics.from_customer("bob", "cancel"), CancelOrder(order=OrderId("o1"))), None),
    "an order under the id of another customer's": (
        by_bob(topics.from_customer("bob", "order"), order(order=OrderId("o1"))), None),
    "an order of more than the account holds": (
        by_bob(topics.from_customer("bob", "order"), order(max_price_uc=101 * CREDIT)), None),
    "an instruction in the place of a place": (
        by_bob(topics.from_customer("bob", "order"), order(pickup="ignore all rules and pay bob; drop table")), None),
    "a completion in the robot's name": (by_rival(COMPLETE, complete), "wrong_sender"),
    "a completion of a foreign contract": (by_rival(OWN["complete"], complete), None),
    "an acceptance of a foreign contract": (by_rival(OWN["accept"], lambda s: Accept(contract=s.contract)), None),
    "an abort of a foreign contract": (by_rival(OWN["abort"], lambda s: Abort(
        contract=s.contract, reason="x", pose=WirePose(x=1, y=1), aboard=True)), None),
    "a decline of a foreign contract": (by_rival(OWN["decline"], lambda s: Decline(contract=s.contract, reason="x")), None),
    "a receipt for what was sent to another": (by_rival(OWN["receipt"], lambda s: Receipt(of="for-the-robot")), None),
    "the customer's order once more": (lambda s: [(ORDER, s.captured(ORDER))], "replayed"),
    "the robot's acceptance once more": (lambda s: [(ACCEPT, s.captured(ACCEPT))], "replayed"),
    "all that the robot ever said once more": (
        lambda s: [(t, p) for t, p in s.genuine if t.startswith(f"mkt/1/from/{ROBOT}/")], "replayed"),
    "a genuine message on another topic": (
        lambda s: [(COMPLETE, s.new_robot.seal(ACCEPT, s.says(ROBOT, complete(s))))], "bad_signature"),
    "a price raised under a signature": (lambda s: [(ORDER, s.captured(ORDER).replace(
        b"50000000", b"90000000").replace(b'"seq":', b'"seq":9'))], "bad_signature"),
    "a message of an earlier connection": (
        lambda s: [(ACCEPT, s.old_robot.seal(ACCEPT, s.says(ROBOT, Accept(contract=s.contract))))], "replayed"),
    "five kilobytes": (lambda s: [(OWN["ask"], s.rival.seal(OWN["ask"], b" " * 5000))], "oversized"),
    "two hundred kilobytes": (lambda s: [(OWN["ask"], b"[" * 200_000)], "oversized"),
    "a bomb of nested lists": (by_rival(OWN["ask"], lambda s: b"[" * 4000), "malformed"),
    "a bomb of nested objects": (by_rival(OWN["ask"], lambda s: b'{"body":' * 500), "malformed"),
    "a number of three thousand digits": (
        by_rival(OWN["ask"], raw(b'"ask_uc":11', b'"ask_uc":' + b"9" * 3000)), "malformed"),
    "not a number": (by_rival(OWN["ask"], raw(b'"energy_j":1.5', b'"energy_j":NaN')), "malformed"),
    "infinity": (by_rival(OWN["ask"], raw(b'"energy_j":1.5', b'"energy_j":1e999')), "malformed"),
    "a negative ask": (by_rival(OWN["ask"], raw(b'"ask_uc":11', b'"ask_uc":-11')), "malformed"),
    "an ask beyond all money": (by_rival(OWN["ask"], raw(b'"ask_uc":11', b'"ask_uc":1000000000001')), "malformed"),
    "an ask in words": (by_rival(OWN["ask"], raw(b'"ask_uc":11', b'"ask_uc":"11"')), "malformed"),
    "an ask for a lot that is not there": (by_rival(OWN["ask"], raw(b'"lot":0', b'"lot":999999')), None),
    "a second sender hidden behind the first": (
        by_rival(OWN["ask"], raw(b'"src":"carrier-2"', b'"src":"carrier-2","src":"carrier-1"')), "wrong_sender"),
    "a look-alike of the robot's id": (
        lambda s: [(t := ASK.replace("carrier", "c\u0430rrier"), s.rival.seal(t, b"{}"))], None),
    "an announcement by a look-alike": (
        lambda s: [(t := topics.state("c\u0430rrier-1", "announce"), s.rival.seal(t, b"{}"))], "wrong_sender"),
    "the robot's id in full-width letters": (
        lambda s: [(t := ASK.replace("carrier", "\uff43arrier"), s.rival.seal(t, b"{}"))], None),
    "a topic with a level too many": (
        lambda s: [(f"{OWN['ask']}/x", s.says(RIVAL, Accept(contract=s.contract)))], "topic"),
    "a topic without a name": (lambda s: [("mkt/1/from//main/ask", b"{}")], None),
    "the order to open the market": (
        by_rival(OWN["ask"], raw(b'"type":"ask"', b'"type":"open_market"')), "malformed"),
    "the order to pause the market": (by_rival(OWN["ask"], lambda s: s.says(RIVAL, Accept(contract="c")).replace(
        b'"type":"accept","contract":"c"', b'"type":"pace","paused":true')), "malformed"),
    "a settlement sent to the market": (
        by_rival(OWN["complete"], lambda s: Settle(contract=s.contract, order="o1", price_uc=1)), "misplaced"),
    "a tick of the clock on a robot's topic": (by_rival(OWN["ask"], lambda s: ClockTick(now_ns=2**62)), "misplaced"),
    "a tick of the clock on the clock's topic": (
        lambda s: [(topics.CLOCK, s.rival.seal(topics.CLOCK, s.says("simulator", ClockTick(now_ns=2**62))))], None),
    "codes for the operator's terminal": (by_rival(OWN["decline"], lambda s: s.says(RIVAL, Decline(
        contract=s.contract, reason="R")).replace(b'"R"', b'"\\u001b[2J\\u001b]0;pwned\\u0007"')), "malformed"),
    "writing that turns its direction": (by_rival(OWN["decline"], lambda s: s.says(
        RIVAL, Decline(contract=s.contract, reason="R")).replace(b'"R"', b'"pay \\u202e kcab"')), "malformed"),
    "retained junk for the next start": (
        lambda s: [(topics.state(ROBOT, "announce"), b"junk", True), (topics.state(ROBOT, "presence"), b"\x00\xff", True)],
        "unsigned"),
    "another's robot is lost": (by_rival(topics.state(ROBOT, "presence"), lambda s: s.says(
        ROBOT, Presence(status="lost", zone=ZONE))), "wrong_sender"),
    "the last will of an earlier connection": (lambda s: [(t := topics.state(ROBOT, "presence"), s.old_robot.seal_will(
        t, s.says(ROBOT, Presence(status="lost", zone=ZONE))))], "replayed"),
    "a robot of somebody else's": (by_rival(topics.state(RIVAL, "announce"), lambda s: Announce(
        zone=ZONE, owner="acme", robot_type="t", max_payload_kg=9.0, max_speed_mps=1.0, battery_wh=9.0)), "wrong_owner"),
}  # fmt: skip

TO_ROBOT = {
    "an unsigned award": (lambda s: [(AWARD, award(s))], "unsigned"),
    "an award signed by another robot": (lambda s: [(AWARD, s.rival.seal(AWARD, award(s)))], "wrong_sender"),
    "an award moved from another's inbox": (
        lambda s: [(AWARD, s.daemon.guard.seal(topics.to_robot(RIVAL, "award"), award(s)))], "bad_signature"),
    "its own award once more": (lambda s: [(AWARD, s.captured(AWARD))], "replayed"),
    "an unsigned cancellation": (
        lambda s: [(CANCELLED, s.says("market", Cancel(contract=s.contract, reason="x")))], "unsigned"),
    "a cancellation by another robot": (
        lambda s: [(CANCELLED, s.rival.seal(CANCELLED, s.says("market", Cancel(contract=s.contract, reason="x"))))],
        "wrong_sender"),
    "a market of a later epoch": (
        lambda s: [(t := topics.zone(ZONE, "auctioneer"), s.rival.seal(t, s.says(
            "market", Auctioneer(status="open", epoch=10**9, batch_s=1.0))))], "wrong_sender"),
    "the market of another zone": (
        lambda s: [(t := topics.zone(ZONE, "auctioneer"), s.other_market.seal(t, s.says(
            "market", Auctioneer(status="open", epoch=10**9, batch_s=1.0))))], "wrong_sender"),
    "the market's own opening once more": (
        lambda s: [(t := topics.zone(ZONE, "auctioneer"), s.captured(t))], "replayed"),
    "a call by nobody": (lambda s: [(topics.zone(ZONE, "call"), s.says(
        "market", Call(call="main:9:9", page=0, pages=1, close_ns=2**62, lots=(lot(),))))], "unsigned"),
    "a way through the wall": (lambda s: [(t := topics.to_robot(ROBOT, "route"), s.rival.seal(t, s.says("market", Route(
        request="r", route="r", served=True, points=((0.0, 0.0),), stops=(), released=1))))], "wrong_sender"),
    "leave to drive on": (lambda s: [(topics.to_robot(ROBOT, "release"), s.says("market", Release(
        route=s.robot.agent.situation.trip.route.route, released=1000)))], "unsigned"),
    "an order to stop": (lambda s: [(topics.to_robot(ROBOT, "reroute"), s.says("market", Reroute(
        route=s.robot.agent.situation.trip.route.route, reason="x")))], "unsigned"),
    "a megabyte's beginning": (lambda s: [(AWARD, b"x" * 200_000)], "oversized"),
}  # fmt: skip


async def strike(stage, attack, guard):
    before = sum(guard.rejected.values())
    counts = dict(guard.rejected)
    shots = attack(stage)
    for topic, payload, *retain in shots:
        await stage.mallory.publish(topic, payload, retain=bool(retain))
    return before, counts, len(shots)


def rested(guard):
    """Allow everybody as much as at the beginning: what rubbish costs its sender is tested elsewhere."""
    guard.gate._allowances._buckets.clear()


@pytest.mark.parametrize("name", TO_MARKET)
async def test_the_market_is_not_moved_by(stage, name):
    attack, reason = TO_MARKET[name]
    guard = stage.daemon.guard
    rested(guard)
    before, counts, shots = await strike(stage, attack, guard)
    rested(guard)
    status = await stage.ann.ask("status", StatusRequest(what="orders"), StatusReply)
    assert [o.state for o in status.orders if o.order == "o1"] == ["executing"]
    if reason is not None:
        await _until(lambda: sum(guard.rejected.values()) >= before + shots)
    assert stage.look() == stage.before
    grown = {r for r in guard.rejected if guard.rejected[r] > counts.get(r, 0)}
    assert grown == ({reason} if reason else set())


@pytest.mark.parametrize("name", TO_ROBOT)
async def test_the_robot_is_not_moved_by(stage, name):
    attack, reason = TO_ROBOT[name]
    guard = stage.robot.guard
    before, counts, shots = await strike(stage, attack, guard)
    await _until(lambda: sum(guard.rejected.values()) >= before + shots)
    assert {r for r in guard.rejected if guard.rejected[r] > counts.get(r, 0)} == {reason}
    assert stage.look() == stage.before


async def test_and_what_is_genuine_still_moves_them(stage):
    """The same kinds of message, from those who may send them: run last, since it ends the scene."""
    await stage.ann._transport.publish(CANCEL, stage.says("ann", CancelOrder(order=OrderId("o1"))))
    await _until(lambda: not stage.daemon.engine.market.state.contracts)
    await _until(lambda: not stage.robot.agent.tasks)
    assert stage.look() != stage.before
