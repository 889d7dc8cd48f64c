"""MQTT 5 transport over aiomqtt, at least once in both directions.

Inward, a message is acknowledged when the caller says so, after its own COMMIT: with the client's default, messages that
were only queued in memory are lost when the process dies. Outward, `publish` returns when the broker has confirmed and
raises `BrokerError` when it has refused or the connection broke before: the message may then have arrived or not, and the
caller repeats it under the same id. Every connection gets a fresh client, so that nothing is sent behind the caller's
back after a reconnection.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiomqtt
from aiomqtt.client import ProtocolVersion
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet_market.errors import BrokerError, InputError
from fleet_market.ports import Delivery

log = logging.getLogger(__name__)

MAX_PUBLISHING = 100
"""Publishes under way at once: beyond that the client gets slower, not faster."""
MAX_INCOMING = 20_000
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 30.0
PUBACK_TIMEOUT_S = 10.0
FIRST_FAILURE = 128
"""MQTT 5 reason codes from here on are failures (OASIS MQTT 5.0, section 2.4)."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says when the connection breaks."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """How to connect. `session_expiry_s` above 0 keeps subscriptions and messages while the client is away."""

    host: str
    port: int
    client_id: str
    will: Will | None = None
    keepalive_s: int = 10
    session_expiry_s: int = 0


class MqttTransport:
    """A connection that comes back; use as an async context manager. Implements `fleet_market.ports.Transport`.

    Parameters
    ----------
    config : MqttConfig
    subscriptions : sequence of (filter, qos)
        Made again after every reconnection.
    on_connect : sequence of coroutine functions
        Awaited after every (re)connection, when the subscriptions stand.
    """

    def __init__(
        self,
        config: MqttConfig,
        subscriptions: Sequence[tuple[str, int]] = (),
        on_connect: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.config = config
        self.connected = asyncio.Event()
        self._subscriptions, self._on_connect = subscriptions, on_connect
        self._incoming: asyncio.Queue[Delivery] = asyncio.Queue(MAX_INCOMING)
        self._publishing = asyncio.Semaphore(MAX_PUBLISHING)
        self._client: aiomqtt.Client | None = None
        self._confirmations: dict[int, asyncio.Future[ReasonCode | None]] = {}

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._runner = self._tasks.create_task(self._run(), name=f"mqtt {self.config.client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish one message; returns when the broker has confirmed it (QoS 1).

        Raises
        ------
        BrokerError
            If there is no connection, the broker refuses, or the connection breaks before the confirmation.
        """
        client = self._client
        if client is None:
            raise BrokerError(f"{self._where()}: not connected")
        async with self._publishing:
            info = client._client.publish(topic, payload, qos, retain)  # noqa: SLF001 - aiomqtt 2 hides refusals
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise BrokerError(f"{self._where()}: {topic} was not sent (error {info.rc})")
            if qos == 0:
                return
            confirmed = self._confirmations[info.mid] = asyncio.get_running_loop().create_future()
            try:
                code = await asyncio.wait_for(confirmed, PUBACK_TIMEOUT_S)
            except TimeoutError:
                raise BrokerError(f"{self._where()}: {topic} was not confirmed in {PUBACK_TIMEOUT_S:g} s") from None
            finally:
                self._confirmations.pop(info.mid, None)
        if code is None:
            raise BrokerError(f"{self._where()}: the connection broke before {topic} was confirmed")
        if code.value >= FIRST_FAILURE:
            raise BrokerError(f"{self._where()}: {topic} was refused: {code}")

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield what arrives, across reconnections."""
        while True:
            yield await self._incoming.get()

    def waiting(self) -> int:
        """Return how many deliveries wait to be taken."""
        return self._incoming.qsize()

    def _where(self) -> str:
        return f"MQTT broker {self.config.host}:{self.config.port}"

    async def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                async with self._new_client() as client:
                    backoff_s = FIRST_BACKOFF_S
                    await self._serve(client)
            except aiomqtt.MqttError as error:
                log.info("%s: %s; next try within %.1f s", self._where(), error, backoff_s)
            finally:
                self._client = None
                self.connected.clear()
                for waiter in self._confirmations.values():
                    if not waiter.done():
                        waiter.set_result(None)
            await asyncio.sleep(random.uniform(backoff_s / 2, backoff_s))  # noqa: S311 - jitter, not a secret
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def _serve(self, client: aiomqtt.Client) -> None:
        for topic, qos in self._subscriptions:
            await client.subscribe(topic, qos=qos)
        self._client = client
        for callback in self._on_connect:
            await callback()
        self.connected.set()
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else str(message.payload or "").encode()
            await self._incoming.put(Delivery(str(message.topic), payload, self._acknowledger(client, message)))

    def _acknowledger(self, client: aiomqtt.Client, message: aiomqtt.Message) -> Callable[[], None]:
        def ack() -> None:
            if self._client is client and message.qos > 0:
                client._client.ack(message.mid, message.qos)  # noqa: SLF001 - aiomqtt 2 has no public way

        return ack

    def _new_client(self) -> aiomqtt.Client:
        config, properties, will = self.config, Properties(PacketTypes.CONNECT), self.config.will  # type: ignore[no-untyped-call]
        if config.session_expiry_s:
            properties.SessionExpiryInterval = config.session_expiry_s
        client = aiomqtt.Client(
            config.host,
            config.port,
            identifier=config.client_id,
            protocol=ProtocolVersion.V5,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
            keepalive=config.keepalive_s,
            clean_start=config.session_expiry_s == 0,
            properties=properties,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            max_inflight_messages=1000,
        )
        client._client.manual_ack_set(True)  # noqa: SLF001 - aiomqtt 2 has no public way
        client._client.on_publish = self._on_publish  # noqa: SLF001
        return client

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        if (waiter := self._confirmations.get(mid)) is not None and not waiter.done():
            waiter.set_result(code)


def parse_endpoint(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises
    ------
    InputError
        If the text is not of that form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError("command line", "--mqtt", text, "use HOST:PORT, e.g. 127.0.0.1:1883")
    return host, int(port)
