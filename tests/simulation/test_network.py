"""The simulated broker keeps the rules of MQTT, and breaks what it is told to break."""

import asyncio
import contextlib
import random

import pytest

from fleet_market.adapters.mqtt import MqttConfig, Will
from fleet_market.errors import BrokerError
from fleet_market.testing.simulation.network import Network, SimulatedTransport, Weather, matches
from fleet_market.testing.simulation.trace import Trace
from fleet_market.testing.simulation.virtual_time import run


def simulated(test, **weather):
    """Run ``test(network)`` in virtual time."""

    async def main(loop):
        return await test(Network(loop, random.Random(1), Trace(loop.time), Weather(**weather)))

    return run(main)


@contextlib.asynccontextmanager
async def client(network, name, topics=(), **more):
    on_connect = more.pop("on_connect", ())
    transport = SimulatedTransport(network, MqttConfig("here", 1, name, **more), [(t, 1) for t in topics], on_connect)
    async with transport:
        await transport.connected.wait()
        yield transport


async def take(transport):
    async with asyncio.timeout(60):
        return await anext(aiter(transport.deliveries()))


@pytest.mark.parametrize(
    ("pattern", "topic", "result"),
    [
        ("a/+/c", "a/b/c", True), ("a/+/c", "a/b/d", False), ("a/#", "a/b/c", True), ("a/#", "a", True),
        ("a", "a/b", False), ("a/b", "a", False), ("#", "a", True), ("+", "a/b", False),
    ],
)  # fmt: skip
def test_filters_match_as_in_the_standard(pattern, topic, result):
    assert matches(pattern, topic) is result


def test_what_was_not_acknowledged_comes_again():
    async def test(network):
        async with client(network, "a") as a:
            async with client(network, "b", ["t/#"], session_expiry_s=60) as b:
                for text in (b"1", b"2"):
                    await a.publish("t/x", text)
                (await take(b)).ack()
                assert (await take(b)).payload == b"2"
                await asyncio.sleep(1)
            await a.publish("t/x", b"3")
            async with client(network, "b", ["t/#"], session_expiry_s=60) as b:
                return [(await take(b)).payload for _ in range(2)]

    assert simulated(test) == [b"2", b"3"]


def test_the_messages_of_one_topic_stay_in_order_even_where_others_overtake():
    async def test(network):
        async with client(network, "b", ["t/#"]) as b, client(network, "a") as a:
            async with asyncio.TaskGroup() as tasks:
                for number in range(100):
                    tasks.create_task(a.publish(f"t/{number % 2}", bytes([number])))
            return [(d.topic, d.payload[0]) for d in [await take(b) for _ in range(100)]]

    got = simulated(test, overtaking=True)
    for topic in ("t/0", "t/1"):
        assert [n for t, n in got if t == topic] == sorted(n for t, n in got if t == topic)
    assert [n for _, n in got] != sorted(n for _, n in got)


def test_loss_and_duplicates_happen_as_often_as_they_should():
    async def test(network):
        async with client(network, "b", ["t"]) as b, client(network, "a") as a:
            for _ in range(1000):
                await a.publish("t", b"x")
            await asyncio.sleep(60)
            return network.lost, b.waiting()

    lost, arrived = simulated(test, loss=0.3, duplicates=0.1)
    assert 250 < lost < 350
    assert 1.05 < arrived / (1000 - lost) < 1.15


def test_a_broken_line_speaks_the_will_and_a_goodbye_does_not():
    async def test(network):
        async with client(network, "b", ["state/#"]) as b:
            async with client(network, "a", will=Will("state/a", b"lost")):
                network.drop(network.client_of("a"), "the line broke")
                first = await take(b)
                await asyncio.sleep(10)
                back = network.client_of("a") is not None
            await asyncio.sleep(10)
            return first.payload, back, b.waiting()

    assert simulated(test) == (b"lost", True, 0)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_broker_that_dies_keeps_what_it_had_saved_or_nothing(remembers):
    async def test(network):
        async with client(network, "a") as a:
            await a.publish("state/a", b"here", retain=True)
            await asyncio.sleep(20)
            await a.publish("state/b", b"new", retain=True)
            network.restart(1.0, remembers=remembers)
            await asyncio.sleep(20)
        async with client(network, "b", ["state/#"]) as b:
            await asyncio.sleep(1)
            return [(await take(b)).topic for _ in range(b.waiting())]

    assert simulated(test) == (["state/a"] if remembers else [])


def test_a_long_stall_breaks_the_line_and_a_short_one_delays():
    async def test(network):
        async with client(network, "b", ["t"]) as b, client(network, "a") as a:
            network.stall(network.client_of("b"), 3.0)
            await a.publish("t", b"x")
            begun = network.loop.time()
            await take(b)
            waited_s = network.loop.time() - begun
            network.stall(network.client_of("b"), 1000.0)
            await asyncio.sleep(100.0)
            return waited_s, b.trouble

    waited_s, trouble = simulated(test)
    assert 2.9 < waited_s < 3.1
    assert "silent" in trouble


def test_a_client_that_cannot_say_who_it_is_connects_again():
    greetings = []

    async def greet():
        greetings.append(1)
        if len(greetings) < 3:
            raise BrokerError("not confirmed in 10 s")

    async def test(network):
        async with client(network, "a", on_connect=[greet]) as a:
            return a.connected.is_set()

    assert simulated(test)
    assert len(greetings) == 3
