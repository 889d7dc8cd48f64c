"""The whole stack on a broker that is killed and on a bad network; `python -m benchmarks.outages` is the long form."""

import asyncio
from pathlib import Path

import pytest

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.testing.lossy_proxy import LossyProxy
from fleet_market.testing.outages import run_outages

pytestmark = [pytest.mark.real, pytest.mark.slow]
LAUNCH = Path(__file__).parents[2] / "launch"


def check(seen, kills):
    assert seen.clean, (seen.missing, seen.unfinished, seen.paid_twice, seen.minted_uc, seen.escrow_left_uc, seen.faults)
    assert seen.kills == len(seen.recovery_s) == kills
    assert sum(seen.orders.values()) == 3 * kills


@pytest.mark.parametrize("persistence", [True, False])
async def test_every_order_ends_when_the_broker_is_killed(mosquitto, tmp_path, persistence):
    check(await run_outages(mosquitto, LAUNCH, tmp_path, kills=2, persistence=persistence, robots=3), 2)


async def test_every_order_ends_on_a_network_that_loses_a_third(mosquitto, tmp_path):
    seen = await run_outages(mosquitto, LAUNCH, tmp_path, kills=1, loss=0.3, robots=3, seed=1)
    check(seen, 1)
    assert seen.lost > 0.2 * seen.packets
    assert seen.repeated > 0


async def test_a_connection_that_breaks_while_it_is_made_is_tried_again_at_once(mqtt_broker):
    """A proxy accepts, and closes before the broker has said a word: nobody waits for that word."""
    broken = 0

    async def slam(reader, writer):
        nonlocal broken
        await reader.read(10)
        broken += 1
        writer.transport.abort()

    door = await asyncio.start_server(slam, "127.0.0.1", 0)
    port = door.sockets[0].getsockname()[1]
    async with MqttTransport(MqttConfig("127.0.0.1", port, "a")) as transport:
        async with asyncio.timeout(60):
            while broken < 2:  # noqa: ASYNC110 - counts what others do
                await asyncio.sleep(0.02)
        assert "closed while it was being made" in transport.trouble
        door.close()
    async with LossyProxy(mqtt_broker.port, loss=0.0, duplicates=0.0) as proxy:
        async with MqttTransport(MqttConfig("127.0.0.1", proxy.port, "a")) as transport:
            await asyncio.wait_for(transport.connected.wait(), 60)
        assert proxy.lost == 0
