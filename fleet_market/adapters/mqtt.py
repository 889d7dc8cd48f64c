"""MQTT 5 transport over aiomqtt, at least once in both directions.

Inward, a message is acknowledged when the caller says so, after its own COMMIT: with the client's default, messages that
were only queued in memory are lost when the process dies. Outward, `publish` returns when the broker has confirmed and
raises `BrokerError` when it has refused or the connection broke before: the message may then have arrived or not, and the
caller repeats it under the same id. Every connection gets a fresh client, so that nothing is sent behind the caller's
back after a reconnection.

With a guard, messages are sealed as they leave and opened as they arrive. What the guard refuses is acknowledged at once
and goes no further: it never waits in a queue together with what others have to say.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiomqtt
from aiomqtt.client import ProtocolVersion
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fleet_market.adapters.guard import Guard, TlsFiles
from fleet_market.adapters.intake import FairQueue, Intake
from fleet_market.adapters.private_files import read_private
from fleet_market.errors import BrokerError, InputError, ProtocolError
from fleet_market.ports import Delivery

log = logging.getLogger(__name__)

MAX_PUBLISHING = 100
"""Publishes under way at once: beyond that the client gets slower, not faster."""
MAX_INCOMING = 20_000
"""Messages that wait to be taken; beyond it those of QoS 0 are dropped."""
RECEIVE_MAXIMUM = 1000
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
PUBACK_TIMEOUT_S = 10.0
MAX_SUBSCRIBE = 100
"""Filters in one request."""
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
    receive_maximum: int = RECEIVE_MAXIMUM
    """Messages of QoS 1 that the broker sends before one of them is acknowledged."""


class _Client(aiomqtt.Client):
    """Bears what aiomqtt 2.5 does not: to be cancelled while it connects, and to be cut off just then or in a write."""

    def _on_disconnect(self, *arguments: Any) -> None:
        if not self._connected.done():
            self._loop.call_soon_threadsafe(self._fail_to_connect)
        elif not self._connected.cancelled():
            super()._on_disconnect(*arguments)

    def _fail_to_connect(self) -> None:
        """End the wait for the broker's word, which can no longer come."""
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("closed while it was being made"))

    def _on_socket_register_write(self, client: Any, _userdata: Any, sock: Any) -> None:
        """Have the loop write when it can, unless the socket is closed by then and its number is another's."""

        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # noqa: BLE001 - whatever it is, this connection is over
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def register() -> None:
            if sock.fileno() >= 0 and client.want_write():
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(register)


class MqttTransport:
    """A connection that comes back; use as an async context manager. Implements `fleet_market.ports.Transport`.

    Parameters
    ----------
    config : MqttConfig
    subscriptions : sequence of (filter, qos)
        Made again after every reconnection.
    on_connect : sequence of coroutine functions
        Awaited after every (re)connection, when the subscriptions stand.
    guard : Guard, optional
        Seals and opens messages, and knows the files for TLS. Without one everything goes as it is, unencrypted.
    intake : Intake, optional
        Where what arrives is put; by default a queue of its own, which `deliveries` empties.
    """

    def __init__(
        self,
        config: MqttConfig,
        subscriptions: Sequence[tuple[str, int]] = (),
        on_connect: Sequence[Callable[[], Awaitable[None]]] = (),
        guard: Guard | None = None,
        intake: Intake | None = None,
    ) -> None:
        self.config, self.guard = config, guard
        self._tls = None if guard is None or guard.tls is None else _tls_context(guard.tls)
        self.connected = asyncio.Event()
        self._subscriptions, self._on_connect = list(subscriptions), on_connect
        self._intake = Intake(FairQueue().lane(MAX_INCOMING)) if intake is None else intake
        self._publishing = asyncio.Semaphore(MAX_PUBLISHING)
        self._client: aiomqtt.Client | None = None
        self._current: aiomqtt.Client | None = None
        """The client of this connection, also while it is still being made; `_client` once it may be published on."""
        self._closing = False
        """Set beside the cancellation, which Python 3.11's `asyncio.wait_for` swallows if an answer comes just then."""
        self.dropped = 0
        """Messages of QoS 0 for which there was no room."""
        self.trouble = ""
        """What the latest attempt to connect, or the latest connection, ended with."""
        self._confirmations: dict[int, asyncio.Future[ReasonCode | None]] = {}

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._runner = self._tasks.create_task(self._run(), name=f"mqtt {self.config.client_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
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
            if client is not self._client:
                raise BrokerError(f"{self._where()}: the connection broke before {topic} was sent")
            sealed = payload if self.guard is None else self.guard.seal(topic, payload)
            info = client._client.publish(topic, sealed, qos, retain)  # noqa: SLF001 - aiomqtt 2 hides refusals
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise BrokerError(f"{self._where()}: {topic} was not sent (error {info.rc})")
            if qos == 0:
                return
            confirmed = self._confirmations[info.mid] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(PUBACK_TIMEOUT_S):  # `wait_for` of Python 3.11 may swallow a cancellation
                    code = await confirmed
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
            yield await self._intake.lane.queue.get()

    def waiting(self) -> int:
        """Return how many deliveries wait to be taken."""
        return len(self._intake.lane)

    async def subscribe(self, subscriptions: Sequence[tuple[str, int]]) -> None:
        """Subscribe to more, now or with the next connection."""
        self._subscriptions += subscriptions
        if (client := self._client) is not None:
            try:
                await client.subscribe(list(subscriptions))
            except aiomqtt.MqttError as error:
                log.info("%s: %s", self._where(), error)

    def _jitter(self) -> float:
        """Return the share of a pause that is really waited for, so that not all clients come back at once."""
        return random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def _where(self) -> str:
        return f"MQTT broker {self.config.host}:{self.config.port}"

    async def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._closing:
            try:
                async with self._new_client() as client:
                    backoff_s = FIRST_BACKOFF_S
                    await self._serve_until_broken(client)
            except (aiomqtt.MqttError, BrokerError) as error:  # the latter if what is said on connecting goes unconfirmed
                self.trouble = str(error)
                log.info("%s: %s; next try within %.1f s", self._where(), error, backoff_s)
            finally:
                self._client = self._current = None
                self.connected.clear()
                for waiter in self._confirmations.values():
                    if not waiter.done():
                        waiter.set_result(None)
            await asyncio.sleep(backoff_s * self._jitter())
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def _serve_until_broken(self, client: aiomqtt.Client) -> None:
        """Serve; a connection that breaks ends whatever waits for an answer on it."""
        broken = client._disconnected  # noqa: SLF001 - aiomqtt 2 tells it only to those who read its queue
        broken.add_done_callback(lambda done: done.cancelled() or done.exception())
        serving = asyncio.ensure_future(self._serve(client))
        try:
            await asyncio.wait([serving, broken], return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()
            if not self._closing:
                await asyncio.wait([broken])
        why = broken.exception() if broken.done() and not broken.cancelled() else None
        raise aiomqtt.MqttError(f"disconnected: {why or 'by the broker'}")

    async def _serve(self, client: aiomqtt.Client) -> None:
        done = 0
        while wanted := self._subscriptions[done : done + MAX_SUBSCRIBE]:
            await client.subscribe(wanted)
            done += len(wanted)
        self._client = client
        for callback in self._on_connect:
            await callback()
        self.connected.set()

    def _receive(self, client: aiomqtt.Client, message: MQTTMessage) -> None:
        """Take one message off the wire. Runs in the event loop; aiomqtt's own queue costs three times as much."""
        ack, intake = self._acknowledger(client, message), self._intake
        if not intake.wanted(message.topic):
            intake.refuse(ack)
            return
        try:
            payload = bytes(message.payload)
            if self.guard is not None:
                payload = self.guard.open(message.topic, payload)
            if message.qos == 0 and intake.lane.full:
                self.dropped += 1
                return
            intake.lane.put(Delivery(message.topic, payload, ack))
        except ProtocolError as error:
            if self.guard is not None:
                self.guard.reject(message.topic, error)
            intake.refuse(ack)

    def _acknowledger(self, client: aiomqtt.Client, message: MQTTMessage) -> Callable[[], None]:
        def ack() -> None:
            if self._current is client and message.qos > 0:
                client._client.ack(message.mid, message.qos)  # noqa: SLF001 - aiomqtt 2 has no public way

        return ack

    def _new_client(self) -> aiomqtt.Client:
        config, properties, will = self.config, Properties(PacketTypes.CONNECT), self.config.will  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = config.receive_maximum
        if config.session_expiry_s:
            properties.SessionExpiryInterval = config.session_expiry_s
        if self.guard is not None:
            self.guard.connect()
        client = _Client(
            config.host,
            config.port,
            identifier=config.client_id,
            protocol=ProtocolVersion.V5,
            will=None if will is None else aiomqtt.Will(will.topic, self._last(will), will.qos, will.retain),
            keepalive=config.keepalive_s,
            clean_start=config.session_expiry_s == 0,
            properties=properties,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            max_inflight_messages=1000,
            tls_context=self._tls,
        )
        self._current = client
        client._client.manual_ack_set(True)  # noqa: SLF001 - aiomqtt 2 has no public way
        client._client.on_publish = self._on_publish  # noqa: SLF001
        client._client.on_message = lambda _client, _data, message: self._receive(client, message)  # noqa: SLF001
        return client

    def _last(self, will: Will) -> bytes:
        return will.payload if self.guard is None else self.guard.seal_will(will.topic, will.payload)

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        if (waiter := self._confirmations.get(mid)) is not None and not waiter.done():
            waiter.set_result(code)


def _tls_context(tls: TlsFiles) -> ssl.SSLContext:
    """Return a context for mutual TLS 1.3 in which only the market's own authority counts."""
    read_private(tls.key)
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:
        mend = "issue it again with `fleet-market keys`, or copy it there"
        raise InputError(str(tls.certificate.parent), "certificate", str(error), mend) from None
    return context


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
