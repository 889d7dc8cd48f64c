"""The master's connection to a broker: one for any number of vehicles, of any number of manufacturers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from typing import Protocol

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.errors import BrokerError
from fleet_market_hardware.vda5050.config import VehicleConfig

log = logging.getLogger(__name__)

TICK_S = 0.1
MAX_WAITING = 1000
"""Messages to send that wait for the connection; those of a broken one are said again by whoever needs them said."""
HEARD = {"connection": 1, "state": 0, "visualization": 0, "factsheet": 0}
"""Topics of a vehicle, each with the QoS of the standard."""


class Party(Protocol):
    """One vehicle's master on the link."""

    config: VehicleConfig

    def connected(self) -> None:
        """Take note of a connection to the broker, the first and every other."""

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a message; `topic` is its last level."""

    def tick(self) -> None:
        """Take note that time has passed."""


class MasterLink:
    """Connects while at least one party has joined.

    Parameters
    ----------
    host, port
        Of an MQTT 5 broker.
    now_ns : callable
        Monotonic time, nanoseconds.
    """

    def __init__(self, host: str, port: int, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.now_ns = now_ns
        self._host, self._port = host, port
        self._parties: dict[str, Party] = {}
        self._transport: MqttTransport | None = None
        self._running: asyncio.Task[None] | None = None
        self._outgoing: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(MAX_WAITING)

    async def join(self, party: Party) -> None:
        """Listen to a vehicle; raises `ValueError` if another party does."""
        prefix = _prefix(party)
        if prefix in self._parties:
            raise ValueError(f"{prefix} has a master already")
        self._parties[prefix] = party
        if self._transport is not None:
            await self._transport.subscribe(_subscriptions(party))
            if self._transport.connected.is_set():
                party.connected()
            return
        config = MqttConfig(self._host, self._port, f"fleet-market-master-{uuid.uuid4().hex[:12]}")
        wanted = [one for joined in self._parties.values() for one in _subscriptions(joined)]
        self._transport = MqttTransport(config, wanted, on_connect=[self._greet])
        self._running = asyncio.create_task(self._run(self._transport), name="vda5050 master link")

    async def leave(self, party: Party) -> None:
        """Listen no more; the last one to leave ends the connection."""
        self._parties.pop(_prefix(party), None)
        if self._parties or self._running is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._outgoing.join()
        running, self._running, self._transport = self._running, None, None
        running.cancel()
        await asyncio.wait([running])

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 0; what cannot be sent now is dropped, as QoS 0 may be anywhere."""
        with contextlib.suppress(asyncio.QueueFull):
            self._outgoing.put_nowait((topic, payload))

    async def _greet(self) -> None:
        for party in list(self._parties.values()):
            party.connected()

    async def _run(self, transport: MqttTransport) -> None:
        async with transport, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(transport), name="vda5050 out")
            tasks.create_task(self._tick(), name="vda5050 time")
            async for delivery in transport.deliveries():
                prefix, _, topic = delivery.topic.rpartition("/")
                if (party := self._parties.get(prefix)) is not None:
                    party.hear(topic, delivery.payload)
                delivery.ack()

    async def _send(self, transport: MqttTransport) -> None:
        while True:
            topic, payload = await self._outgoing.get()
            try:
                await transport.publish(topic, payload, qos=0)
            except BrokerError as error:
                log.info("not sent: %s", error)
            finally:
                self._outgoing.task_done()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for party in list(self._parties.values()):
                party.tick()


def _prefix(party: Party) -> str:
    return party.config.topic_of("state").rpartition("/")[0]


def _subscriptions(party: Party) -> list[tuple[str, int]]:
    return [(party.config.topic_of(name), qos) for name, qos in HEARD.items()]
