"""The market daemon on a real Mosquitto: customers and robots are plain MQTT clients here."""

import asyncio
import contextlib
import itertools
from types import SimpleNamespace

import pytest

from fleet_market.adapters.intake import Brake
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer
from fleet_market.errors import PlaceError, StoreError
from fleet_market.ids import CustomerId, Identifier, MessageId, OrderId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.gate import Limits
from fleet_market.protocol.messages import (
    Accept,
    Announce,
    Ask,
    AskLine,
    Auctioneer,
    Award,
    Call,
    Complete,
    OrderReply,
    Place,
    PostOrder,
    Presence,
    Receipt,
    Settle,
    StatusReply,
    StatusRequest,
    StepEvidence,
    WirePose,
)

pytestmark = pytest.mark.real
ANN, CREDIT, USUAL = CustomerId("ann"), 10**6, Limits()


class TwoPlaces:
    def resolve(self, text, *, source, field):
        if text not in ("a", "b"):
            raise PlaceError(source, field, text, "use a or b")
        return Place(x=1.0 if text == "a" else 9.0, y=1.0, name=text)


class Peer:
    """A robot or a customer on the wire."""

    def __init__(self, transport, name):
        self.transport, self.name, self.numbers = transport, name, itertools.count()

    async def say(self, topic, body, message_id=None):
        name = MessageId(message_id or f"{self.name}-{next(self.numbers)}")
        message = Envelope(id=name, ts=0, src=Identifier(self.name), body=body)
        await self.transport.publish(topic, encode(message), retain="/state/" in topic)

    async def hear(self, kind):
        """The next message with a body of `kind`; what comes before it is passed over."""
        async with asyncio.timeout(60):
            async for delivery in self.transport.deliveries():
                delivery.ack()
                message = decode(delivery.payload, limit=10**6)
                if isinstance(message.body, kind):
                    return message
        raise AssertionError("the stream of deliveries never ends")


@contextlib.asynccontextmanager
async def peer(broker, name, *filters):
    config = MqttConfig(broker.host, broker.port, name)
    async with MqttTransport(config, [(f, 1) for f in filters]) as transport:
        await asyncio.wait_for(transport.connected.wait(), 60)
        yield Peer(transport, name)


@contextlib.asynccontextmanager
async def market(mqtt, folder, limits=USUAL, **terms):
    zone = ZoneConfig(
        TwoPlaces(),
        terms=MarketTerms(**({"batch_s": 0.3, "accept_s": 60.0, "lease_s": 120.0} | terms)),
        customers={ANN: 100 * CREDIT},
    )
    daemon = Broker(ServerConfig(mqtt.host, mqtt.port, folder / "market.db", limits=limits), [zone])
    running = asyncio.create_task(daemon.run())
    ready = asyncio.create_task(daemon.ready.wait())
    await asyncio.wait({running, ready}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    assert running.done() or ready.done()
    if running.done():
        ready.cancel()
        running.result()
    try:
        yield daemon.servers["main"]
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@contextlib.asynccontextmanager
async def ann_and_r1(mqtt):
    ups = topics.to_robot("r1", "#"), topics.zone("main", "#")
    async with peer(mqtt, "ann", topics.to_customer("ann", "#")) as ann, peer(mqtt, "r1", *ups) as r1:
        spec = {"zone": "main", "owner": "acme", "robot_type": "t", "max_payload_kg": 9.0, "max_speed_mps": 1.0}
        await r1.say(topics.state("r1", "announce"), Announce(battery_wh=480.0, **spec))
        await r1.say(topics.state("r1", "presence"), Presence(status="online", zone="main"))
        yield SimpleNamespace(ann=ann, r1=r1)


def order(name="o1", **more):
    fields = {"pickup": "a", "dropoff": "b", "payload_kg": 1.0, "deadline_s": 600.0, "max_price_uc": 8 * CREDIT} | more
    return PostOrder(order=OrderId(name), **fields)


async def awarded(robot, ask_uc=CREDIT):
    """Ask for the first lot of every call until there is an award: an answer may come too late for its call."""
    while isinstance(call := (heard := await robot.hear(Call | Award)).body, Call):
        line = AskLine(lot=0, ask_uc=ask_uc, parts_uc=(ask_uc, *(0,) * 8), energy_j=1.0, finish_ns=call.close_ns)
        await robot.say(topics.from_robot("r1", "main", "ask"), Ask(call=call.call, asks=(line,)))
    return heard


async def win(robot):
    """Ask until there is an award, and accept it."""
    award = await awarded(robot)
    await robot.say(topics.from_robot("r1", "main", "accept"), Accept(contract=award.body.contract))
    assert (await robot.hear(Receipt)).body.result == "ok"
    return award.body


def proof(award, at_ns):
    steps = [
        StepEvidence(kind=kind, pose=WirePose(x=x, y=1.0), at_ns=at_ns) for kind, x in (("pickup", 1.0), ("dropoff", 9.0))
    ]
    return Complete(contract=award.contract, steps=tuple(steps), energy_j=5.0)


async def until(condition):
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(KeyError):
                if condition():
                    return
            await asyncio.sleep(0.02)


async def books(ann):
    await ann.say(topics.from_customer("ann", "status"), StatusRequest(what="orders"))
    return (await ann.hear(StatusReply)).body


async def test_an_order_goes_from_post_to_payment_over_the_wire(mqtt_broker, tmp_path):
    async with market(mqtt_broker, tmp_path) as daemon, ann_and_r1(mqtt_broker) as who:
        await who.ann.say(topics.from_customer("ann", "order"), order())
        assert (await who.ann.hear(OrderReply)).body.result == "accepted"
        award = await win(who.r1)
        await who.r1.say(topics.from_robot("r1", "main", "complete"), proof(award, daemon.engine.now_ns))
        settle = await who.r1.hear(Settle)
        assert settle.body.price_uc == 8 * CREDIT
        status = await books(who.ann)
        assert [o.state for o in status.orders] == ["settled"]
        assert (status.escrow_left_uc, status.sum_debits_uc) == (0, status.sum_credits_uc)


async def test_a_restart_in_the_middle_of_a_contract_loses_nothing(mqtt_broker, tmp_path):
    async with ann_and_r1(mqtt_broker) as who:
        async with market(mqtt_broker, tmp_path):
            await who.r1.say(topics.state("r1", "announce"), ANNOUNCE)
            await who.r1.say(topics.state("r1", "presence"), Presence(status="online", zone="main"))
            await who.ann.say(topics.from_customer("ann", "order"), order(), "post-1")
            assert (await who.ann.hear(OrderReply)).body.result == "accepted"
            award = await win(who.r1)
        async with market(mqtt_broker, tmp_path) as daemon:
            assert daemon.engine.epoch == 2
            await who.ann.say(topics.from_customer("ann", "order"), order(), "post-1")
            assert (await who.ann.hear(OrderReply)).body.result == "accepted", "the stored answer again"
            assert (await books(who.ann)).escrow_left_uc == 8 * CREDIT
            await who.r1.say(topics.from_robot("r1", "main", "complete"), proof(award, daemon.engine.now_ns))
            await who.r1.hear(Settle)
            assert (await books(who.ann)).escrow_left_uc == 0


ANNOUNCE = Announce(zone="main", owner="acme", robot_type="t", max_payload_kg=9.0, max_speed_mps=1.0, battery_wh=480.0)


async def test_an_award_is_repeated_until_it_is_confirmed(mqtt_broker, tmp_path, monkeypatch):
    monkeypatch.setattr("fleet_market.daemons.engine.RESEND_S", 0.2)
    async with market(mqtt_broker, tmp_path, accept_s=600.0), ann_and_r1(mqtt_broker) as who:
        await who.ann.say(topics.from_customer("ann", "order"), order())
        first, second = await awarded(who.r1, 1), await who.r1.hear(Award)
        assert first.id == second.id


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("mkt/1/in/ann/main/order", b"{", "malformed"),
        ("mkt/1/in/ann/main/order", b"x" * 5000, "oversized"),
        ("mkt/1/in/bob/main/order", None, "wrong_sender"),
        ("mkt/1/in/ann/main/why", None, "misplaced"),
        ("mkt/1/from/r1/main/accept", None, "misplaced"),
        ("mkt/1/in/ann/main/else/order", None, "topic"),
    ],
)
async def test_a_bad_message_is_counted_and_does_nothing_else(mqtt_broker, tmp_path, topic, payload, reason):
    async with market(mqtt_broker, tmp_path) as daemon, ann_and_r1(mqtt_broker) as who:
        await until(lambda: daemon.engine.market.state.robots["r1"].online)
        if payload is None:
            await who.ann.say(topic, order())
        else:
            await who.ann.transport.publish(topic, payload)
        assert (await books(who.ann)).orders == ()
        assert daemon.rejected[reason] == 1
        assert sum(daemon.rejected.values()) == 1


async def test_a_bad_order_is_answered_with_field_and_mend(mqtt_broker, tmp_path):
    async with market(mqtt_broker, tmp_path), ann_and_r1(mqtt_broker) as who:
        await who.ann.say(topics.from_customer("ann", "order"), order(pickup="moon"))
        reply = (await who.ann.hear(OrderReply)).body
        assert (reply.result, reply.errors[0].field, reply.errors[0].mend) == ("refused", "pickup", "use a or b")


async def test_a_second_daemon_on_the_same_database_is_refused(mqtt_broker, tmp_path):
    async with market(mqtt_broker, tmp_path):
        with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="another market daemon"), flatten_subgroups=True):
            async with market(mqtt_broker, tmp_path):
                pass


async def test_no_batch_is_opened_while_too_much_waits_and_that_survives_a_restart(
    mqtt_broker, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("fleet_market.daemons.zone.HIGH_WATER", -1)
    monkeypatch.setattr("fleet_market.daemons.zone.LOW_WATER", -1)
    async with market(mqtt_broker, tmp_path) as daemon, ann_and_r1(mqtt_broker) as who:
        await until(lambda: daemon.engine.market.state.paused)
        await who.ann.say(topics.from_customer("ann", "order"), order())
        assert (await who.ann.hear(OrderReply)).body.result == "accepted"
        before = daemon.engine.now_ns
        await until(lambda: daemon.engine.now_ns >= before + 10**9)
        assert daemon.engine.market.state.call is None
        assert daemon.zone.pauses == 1
        assert "no new batches: " in caplog.text
        monkeypatch.setattr("fleet_market.daemons.zone.LOW_WATER", 1000)
        monkeypatch.setattr("fleet_market.daemons.zone.HIGH_WATER", 1000)
        await who.r1.hear(Call)
    async with market(mqtt_broker, tmp_path) as daemon:
        assert not daemon.engine.market.state.paused


async def test_a_flooding_robot_is_refused_and_an_honest_customer_is_answered_meanwhile(mqtt_broker, tmp_path):
    limits = Limits(rate_per_s=1.0, burst=20.0)
    async with market(mqtt_broker, tmp_path, limits) as daemon, ann_and_r1(mqtt_broker) as who:
        await until(lambda: daemon.engine.market.state.robots["r1"].online)
        await asyncio.gather(
            *(who.r1.say(topics.from_robot("r1", "main", "accept"), Accept(contract=f"c{n}")) for n in range(1000))
        )
        assert (await books(who.ann)).orders == ()
        await until(lambda: daemon.rejected["flood"] > 600)


async def test_a_robot_that_has_not_announced_itself_is_not_heard(mqtt_broker, tmp_path):
    async with market(mqtt_broker, tmp_path) as daemon, ann_and_r1(mqtt_broker) as who:
        await who.ann.say(topics.from_robot("r2", "main", "accept"), Accept(contract="c"))
        announce = ANNOUNCE.model_copy(update={"zone": "elsewhere"})
        await who.ann.say(topics.state("r3", "announce"), announce)
        await until(lambda: daemon.engine.market.state.robots["r1"].online)
        assert (await books(who.ann)).orders == ()
        assert list(daemon.engine.market.state.robots) == ["r1"]
        assert sum(daemon.rejected.values()) == 1, "r3 was announced by somebody else"


async def test_a_market_that_comes_back_to_the_mqtt_broker_says_that_it_is_open(mqtt_broker, tmp_path):
    async with market(mqtt_broker, tmp_path):
        mqtt_broker.kill()
        mqtt_broker.start()
        async with peer(mqtt_broker, "late", topics.zone("main", "auctioneer")) as late:
            while (await late.hear(Auctioneer)).body.status != "open":
                pass


async def test_a_zone_that_is_served_again_starts_with_no_right_of_way_granted(mqtt_broker, tmp_path):
    traffic = Grants()
    server = ZoneServer(
        ServerConfig(mqtt_broker.host, mqtt_broker.port, tmp_path / "market.db"),
        ZoneConfig(TwoPlaces(), traffic=traffic),
        Brake(),
    )
    for _ in range(2):
        running = asyncio.create_task(server.run())
        await asyncio.wait_for(server.ready.wait(), 60)
        assert server.zone.config.traffic.granted == []
        server.zone.config.traffic.granted.append("r1")
        running.cancel()
        await asyncio.wait([running])
        assert not server.ready.is_set()
    assert traffic.granted == []


class Grants:
    """Stands for a traffic control that remembers."""

    def __init__(self):
        self.granted = []
