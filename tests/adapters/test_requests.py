"""Asking the market over MQTT; the test plays the market."""

import asyncio
import contextlib

import pytest

from fleet_market.adapters.mosquitto import free_port
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.adapters.requests import Requester
from fleet_market.ids import CustomerId, Identifier, MessageId, OrderId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import (
    Auctioneer,
    OrderEvent,
    OrderReply,
    OrderState,
    OrderView,
    Place,
    PostOrder,
    StatusReply,
    StatusRequest,
)

ANN = CustomerId("ann")


async def test_a_stop_in_the_instant_of_connection_is_heard_and_leaves_nothing():
    requester = Requester("127.0.0.1", free_port(), ANN)
    entering = asyncio.create_task(requester.__aenter__())
    for _ in range(3):
        await asyncio.sleep(0)  # it has begun to wait for the connection
    assert requester._transport.connected._waiters
    requester._transport.connected.set()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert asyncio.all_tasks() == {asyncio.current_task()}


class PlayedMarket:
    """A market that answers, and tells only what the test has it tell."""

    def __init__(self, broker):
        self.orders, self.asked = {}, []
        self.transport = MqttTransport(MqttConfig(broker.host, broker.port, "auc-main"), [(f"{topics.PREFIX}/in/#", 1)])

    async def answer(self):
        async for delivery in self.transport.deliveries():
            delivery.ack()
            message = decode(delivery.payload)
            match message.body:
                case PostOrder(order=order):
                    view = self.put(order, OrderState.OPEN)
                    reply = OrderReply(order=order, result="accepted", view=view)
                case StatusRequest(order=order):
                    self.asked.append(order)
                    orders = (self.orders[order],) if order else tuple(self.orders.values())
                    reply = StatusReply(now_ns=1, orders=orders)
            await self.say(topics.to_customer("ann", "reply"), reply, corr=message.id)

    def put(self, name, state):
        at = Place(name="a", x=1.0, y=1.0)
        view = OrderView(
            order=name, customer=ANN, state=state, pickup=at, dropoff=at, payload_kg=1.0, release_ns=0, deadline_ns=1,
            max_price_uc=1,
        )  # fmt: skip
        self.orders[name] = view
        return view

    async def open(self, epoch):
        await self.say(topics.zone("main", "auctioneer"), Auctioneer(status="open", epoch=epoch, batch_s=2.0), retain=True)

    async def tell(self, name):
        await self.say(topics.view("main", "order"), OrderEvent(view=self.orders[name]))

    async def say(self, topic, body, *, retain=False, corr=None):
        number = self.number = getattr(self, "number", 0) + 1
        message = Envelope(id=MessageId(f"m{number}"), ts=1, src=Identifier("market"), sid=1, corr=corr, body=body)
        await self.transport.publish(topic, encode(message), retain=retain)


@contextlib.asynccontextmanager
async def trading(broker):
    """A played market, and Ann with an open order o1; Bob has o2, of which Ann hears."""
    market = PlayedMarket(broker)
    async with market.transport:
        await market.transport.connected.wait()
        await market.open(1)
        answering = asyncio.create_task(market.answer())
        async with Requester(broker.host, broker.port, ANN, timeout_s=30.0) as ann:
            post = PostOrder(order=OrderId("o1"), pickup="a", dropoff="b", payload_kg=1.0, deadline_s=9.0, max_price_uc=1)
            await ann.ask("order", post, OrderReply)
            market.put("o2", OrderState.OPEN)
            yield market, ann, ann.events()
        answering.cancel()


async def following(events):
    async with asyncio.timeout(60):
        view = await anext(events)
        return view.order, view.state


async def test_what_a_market_did_not_get_to_tell_is_asked_when_the_next_one_opens(mqtt_broker):
    async with trading(mqtt_broker) as (market, _, events):
        market.put("o1", OrderState.SETTLED)
        await market.open(2)
        assert await following(events) == ("o1", OrderState.SETTLED)
        assert market.asked == ["o1"], "of Bob's order nobody asked"
        await market.open(3)
        await market.tell("o2")
        assert await following(events) == ("o2", OrderState.OPEN)
        assert market.asked == ["o1"], "an order that is over is not asked for again"


async def test_what_was_told_is_not_told_again(mqtt_broker):
    async with trading(mqtt_broker) as (market, ann, events):
        await market.tell("o1")  # as it was answered already
        market.put("o1", OrderState.AWARDED)
        await market.tell("o1")
        assert await following(events) == ("o1", OrderState.AWARDED)
        await market.open(2)
        while "o1" not in market.asked:
            await ann.status("robots")
        market.put("o1", OrderState.SETTLED)
        await market.tell("o1")
        assert await following(events) == ("o1", OrderState.SETTLED)


async def test_what_happened_while_the_connection_was_broken_is_told_when_it_is_back(mqtt_broker):
    async with trading(mqtt_broker) as (market, _, events):
        mqtt_broker.kill()
        market.put("o1", OrderState.FAILED)
        mqtt_broker.start()
        assert await following(events) == ("o1", OrderState.FAILED)
