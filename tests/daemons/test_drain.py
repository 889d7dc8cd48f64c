"""The orderly end of a zone, on a transport whose every message the test sees."""

import asyncio
import contextlib
import itertools

from fleet_market.adapters.clocks import WallClock
from fleet_market.adapters.guard import Guard
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_store
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.zone import Zone, ZoneConfig
from fleet_market.errors import BrokerError
from fleet_market.ids import CustomerId, Identifier, MessageId, OrderId
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.gate import Gate, Limits
from fleet_market.protocol.messages import (
    Announce,
    Ask,
    AskLine,
    Auctioneer,
    Award,
    Call,
    OrderReply,
    PostOrder,
    Presence,
    Receipt,
)
from fleet_market.testing.market_load import Yard


class Wire:
    """Delivers what the test puts in, keeps what the zone says."""

    def __init__(self):
        self.inbox, self.said, self.acked, self.numbers = asyncio.Queue(), asyncio.Queue(), [], itertools.count()
        self.dead = False

    async def publish(self, topic, payload, *, qos=1, retain=False):
        if self.dead:
            raise BrokerError("not connected")
        self.said.put_nowait(decode(payload, limit=10**6))

    async def deliveries(self):
        while True:
            yield await self.inbox.get()

    def waiting(self):
        return self.inbox.qsize()

    def bring(self, source, topic, body):
        name = f"m{next(self.numbers)}"
        message = Envelope(id=MessageId(name), ts=0, src=Identifier(source), body=body)
        self.inbox.put_nowait(Delivery(topic, encode(message), lambda: self.acked.append(name)))
        return name

    async def hear(self, kind):
        async with asyncio.timeout(60):
            while not isinstance((message := await self.said.get()).body, kind):
                pass
        return message


@contextlib.asynccontextmanager
async def zone_with_an_award(folder):
    """A zone that runs, and its wire: r1 has been sent an award that it has not confirmed."""
    with open_store(folder / "m.db") as store:
        async with StoreWriter(store) as writer, asyncio.TaskGroup() as tasks:
            terms = MarketTerms(batch_s=0.2, accept_s=60.0)
            config = ZoneConfig(Yard(), terms=terms, customers={CustomerId("ann"): 10**9})
            zone, wire = Zone(config, store, writer, WallClock(), Guard(Gate(Limits()))), Wire()
            zone.recover()
            running = tasks.create_task(zone.run(wire))
            spec = {"owner": "acme", "robot_type": "t", "max_payload_kg": 9.0, "max_speed_mps": 1.0, "battery_wh": 480.0}
            wire.bring("r1", topics.state("r1", "announce"), Announce(zone="main", **spec))
            wire.bring("r1", topics.state("r1", "presence"), Presence(status="online", zone="main"))
            wire.bring("ann", topics.from_customer("ann", "order"), order("o1"))
            yield zone, wire, await won(wire)
            running.cancel()


async def won(wire):
    """Ask in every call until there is an award: an answer may come too late for its call."""
    while isinstance((message := await wire.hear(Call | Award)).body, Call):
        asks = (AskLine(lot=0, ask_uc=1, parts_uc=(1, *(0,) * 8), energy_j=1.0, finish_ns=message.body.close_ns),)
        wire.bring("r1", topics.from_robot("r1", "main", "ask"), Ask(call=message.body.call, asks=asks))
    return message


def order(name):
    return PostOrder(order=OrderId(name), pickup="a", dropoff="b", payload_kg=1.0, deadline_s=600.0, max_price_uc=10**6)


async def test_the_end_sends_once_more_what_must_arrive_and_waits_for_the_receipt(tmp_path):
    async with zone_with_an_award(tmp_path) as (zone, wire, award):
        ending = asyncio.create_task(zone.drain(wire, 600.0))
        assert (await wire.hear(Award)).id == award.id
        assert not ending.done()
        wire.bring("r1", topics.from_robot("r1", "main", "receipt"), Receipt(of=award.id))
        assert await asyncio.wait_for(ending, 60) == 0
        assert (await wire.hear(Auctioneer)).body.status == "closed"


async def test_the_end_takes_nothing_new_and_acknowledges_none_of_it(tmp_path):
    async with zone_with_an_award(tmp_path) as (zone, wire, _):
        inputs = zone.engine.inputs
        ending = asyncio.create_task(zone.drain(wire, 1.0))
        await wire.hear(Award)
        late = wire.bring("ann", topics.from_customer("ann", "order"), order("o2"))
        assert await asyncio.wait_for(ending, 60) == 1, "the bound is kept, the award stays in the outbox"
        assert wire.inbox.empty()
        assert late not in wire.acked
        assert zone.engine.inputs == inputs
        assert list(zone.engine.market.state.orders) == ["o1"]


async def test_the_end_is_the_same_without_an_mqtt_broker(tmp_path):
    async with zone_with_an_award(tmp_path) as (zone, wire, _):
        wire.dead = True
        assert await asyncio.wait_for(zone.drain(wire, 600.0), 60) == 1


async def test_whoever_hands_a_zone_over_tells_all_that_is_decided_and_leaves_receipts_to_the_next(tmp_path):
    async with zone_with_an_award(tmp_path) as (zone, wire, award):
        wire.bring("ann", topics.from_customer("ann", "order"), order("o2"))
        while "o2" not in zone.engine.market.state.orders:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        assert await asyncio.wait_for(zone.drain(wire, 600.0, receipts=False), 60) == 1
        said = [wire.said.get_nowait() for _ in range(wire.said.qsize())]
        assert [m.body.order for m in said if isinstance(m.body, OrderReply)] == ["o2"]
        assert said[-1].body.status == "closed"
        assert award.id not in [m.id for m in said]
