"""Asking the market over MQTT, where no MQTT broker is needed to see what happens."""

import asyncio

import pytest

from fleet_market.adapters.mosquitto import free_port
from fleet_market.adapters.requests import Requester
from fleet_market.ids import CustomerId


async def test_a_stop_in_the_instant_of_connection_is_heard_and_leaves_nothing():
    requester = Requester("127.0.0.1", free_port(), CustomerId("ann"))
    entering = asyncio.create_task(requester.__aenter__())
    for _ in range(3):
        await asyncio.sleep(0)  # it has begun to wait for the connection
    assert requester._transport.connected._waiters
    requester._transport.connected.set()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert asyncio.all_tasks() == {asyncio.current_task()}
