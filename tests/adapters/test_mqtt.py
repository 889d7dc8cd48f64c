"""The transport against a real Mosquitto."""

import asyncio
import subprocess
import sys

import pytest

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.errors import BrokerError

pytestmark = pytest.mark.real


RUDE = """
import asyncio, sys
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will

async def main():
    async with MqttTransport(MqttConfig("127.0.0.1", int(sys.argv[1]), "x", Will("state/x", b"lost"))) as rude:
        await rude.connected.wait()
        print("READY", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def config(broker, name, **more):
    return MqttConfig(broker.host, broker.port, name, **more)


async def publish_until_it_fails(transport):
    for _ in range(1000):
        await transport.publish("t/x", b"lost")


async def receive(transport):
    return await asyncio.wait_for(anext(aiter(transport.deliveries())), 60)


async def test_a_message_arrives(mqtt_broker):
    async with MqttTransport(config(mqtt_broker, "b"), [("t/#", 1)]) as b, MqttTransport(config(mqtt_broker, "a")) as a:
        await asyncio.gather(a.connected.wait(), b.connected.wait())
        await a.publish("t/x", b"hello")
        got = await receive(b)
        assert (got.topic, got.payload) == ("t/x", b"hello")


async def test_what_was_not_acknowledged_is_delivered_again_to_the_next_session(mqtt_broker):
    lasting = config(mqtt_broker, "market", session_expiry_s=60)
    async with MqttTransport(lasting, [("t/#", 1)]) as market, MqttTransport(config(mqtt_broker, "a")) as sender:
        await asyncio.gather(market.connected.wait(), sender.connected.wait())
        for n in range(4):
            await sender.publish("t/x", str(n).encode())
        for n in range(4):
            got = await receive(market)
            if n < 2:
                got.ack()
    async with MqttTransport(lasting, [("t/#", 1)]) as market:
        assert [(await receive(market)).payload for _ in range(2)] == [b"2", b"3"]


async def test_a_killed_broker_is_found_again_and_subscriptions_stand(mqtt_broker):
    times = []

    async def connected():
        times.append(asyncio.get_running_loop().time())

    async with (
        MqttTransport(config(mqtt_broker, "b"), [("t/#", 1)], [connected]) as b,
        MqttTransport(config(mqtt_broker, "a")) as a,
    ):
        await asyncio.gather(a.connected.wait(), b.connected.wait())
        mqtt_broker.kill()
        with pytest.raises(BrokerError):
            await publish_until_it_fails(a)
        mqtt_broker.start()
        await asyncio.wait_for(asyncio.gather(a.connected.wait(), b.connected.wait()), 60)
        await a.publish("t/x", b"back")
        assert (await receive(b)).payload == b"back"
    assert len(times) == 2


async def test_a_broken_connection_publishes_the_last_will_and_a_clean_end_does_not(mqtt_broker):
    will = Will("state/x", b"lost")
    async with MqttTransport(config(mqtt_broker, "watch"), [("state/#", 1)]) as watch:
        await watch.connected.wait()
        async with MqttTransport(config(mqtt_broker, "x", will=will)) as polite:
            await polite.connected.wait()
            await polite.publish("state/y", b"1")
        assert (await receive(watch)).payload == b"1"
        child = subprocess.Popen([sys.executable, "-c", RUDE, str(mqtt_broker.port)], stdout=subprocess.PIPE, text=True)
        assert await asyncio.to_thread(child.stdout.readline) == "READY\n"
        child.kill()
        assert (await receive(watch)).payload == b"lost"
        child.communicate()


async def test_a_publish_that_the_broker_refuses_raises(mqtt_broker):
    mqtt_broker.kill()
    mqtt_broker.allow_only_writing("allowed/#")
    mqtt_broker.start()
    async with MqttTransport(config(mqtt_broker, "a")) as a:
        await a.connected.wait()
        await a.publish("allowed/x", b"1")
        with pytest.raises(BrokerError, match="Not authorized"):
            await a.publish("forbidden/x", b"1")


async def test_without_a_broker_publishing_raises_at_once(mosquitto):
    from fleet_market.adapters.mosquitto import free_port

    async with MqttTransport(MqttConfig("127.0.0.1", free_port(), "a")) as a:
        with pytest.raises(BrokerError, match="not connected"):
            await a.publish("x", b"1")


async def test_a_socket_that_is_closed_before_the_loop_looks_at_it_does_no_harm(mqtt_broker):
    complaints, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with MqttTransport(config(mqtt_broker, "a")) as a:
        await a.connected.wait()
        client = a._client._client
        client._call_socket_register_write()
        client._sock_close()
        turn = asyncio.Event()
        loop.call_soon_threadsafe(turn.set)
        await turn.wait()
    assert complaints == []
