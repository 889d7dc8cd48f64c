"""A simulated MQTT 5 broker, and the product's own transport on it.

The broker keeps sessions, delivers at least once, redelivers what was not acknowledged when a client comes back, keeps
retained messages, and speaks the last wills. What a network and a broker do to messages comes from a seed: delay, loss,
duplicates, overtaking, stalls that end or break the connection, restarts of the broker with and without its memory.

Kept as the standard has it: messages of one topic do not overtake each other (OASIS MQTT 5.0, 4.6), and a connection that
breaks leaves it open whether the last messages arrived. Harsher than any real broker: a message that was confirmed to its
sender may still be lost (brokers do that only where a queue is full or the process dies), except for retained topics.
Not simulated: flow control, QoS 2, access rules, several brokers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any, Self

import aiomqtt
from paho.mqtt.enums import MQTTErrorCode

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.testing.simulation.trace import Trace

KEEPALIVE_FACTOR = 1.5
"""A broker gives a client up after 1.5 keepalive periods of silence (OASIS MQTT 5.0, 3.1.2.10)."""
CONNECT_S = 0.02
AUTOSAVE_S = 5.0
"""A persistent broker that dies has forgotten what happened since it last saved (`autosave_interval`)."""
_SENT = SimpleNamespace(rc=MQTTErrorCode.MQTT_ERR_SUCCESS)
_CONFIRMED = SimpleNamespace(value=0)


@dataclass(slots=True)
class Weather:
    """How bad the network is at the moment; may be changed at any time."""

    delay_s: float = 0.005
    """Mean of a message's way, exponentially distributed."""
    loss: float = 0.0
    """Share of messages that get lost although they were confirmed."""
    unconfirmed: float = 0.0
    """Share of messages that arrive without the sender's hearing of it."""
    duplicates: float = 0.0
    overtaking: bool = False
    """Whether messages of different topics on one connection arrive in any order."""


@dataclass(slots=True)
class Message:
    """One message in a session's queue."""

    number: int
    topic: str
    payload: bytes
    qos: int
    queued_s: float


@dataclass(slots=True)
class Session:
    """What the broker keeps of a client."""

    client_id: str
    expiry_s: float
    filters: dict[str, int] = field(default_factory=dict)
    waiting: dict[int, Message] = field(default_factory=dict)
    """Messages that the client has not acknowledged, oldest first."""
    client: Client | None = None
    gone_s: float = 0.0
    """When its client was last there."""


class Network:
    """The broker and the lines to it.

    Parameters
    ----------
    loop : event loop
    rng : random.Random
    trace : Trace
    weather : Weather
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random, trace: Trace, weather: Weather) -> None:
        self.loop, self.rng, self.trace, self.weather = loop, rng, trace, weather
        self.sessions: dict[str, Session] = {}
        self.up = True
        self.lost = self.repeated = self.published = 0
        self.published_by: Callable[[str, str, bytes], None] = lambda _client, _topic, _payload: None
        """Told of every message that a client sends: its client id, topic and payload."""
        self.acknowledged_by: Callable[[str, Message], None] = lambda _client, _message: None
        """Told of every acknowledgement of a client, when it is given."""
        self._retained: dict[str, tuple[bytes, float]] = {}
        self._routes: dict[str, list[tuple[Session, int]]] = {}
        self._numbers = count(1)

    # --- what clients do -------------------------------------------------------------------------------------------------

    def connect(self, client: Client) -> None:
        """Let a client in; raises `aiomqtt.MqttError` if there is no broker."""
        if not self.up:
            raise aiomqtt.MqttError("connection refused")
        name, now_s = client.config.client_id, self.loop.time()
        session = self.sessions.get(name)
        if session is not None and session.client is not None:
            self.drop(session.client, "taken over")
        if session is None or client.config.session_expiry_s == 0 or now_s > session.gone_s + session.expiry_s:
            session = self.sessions[name] = Session(name, client.config.session_expiry_s)
            self._routes.clear()
        session.client, client.session = client, session
        self.trace.note(f"connect {name}, {len(session.waiting)} wait")
        for message in list(session.waiting.values()):
            self.repeated += 1
            self._send_down(session, message)

    def subscribe(self, client: Client, filters: Iterable[tuple[str, int]]) -> None:
        """Add to a client's subscriptions, and send it what is retained."""
        session = self._session(client)
        for pattern, qos in filters:
            session.filters[pattern] = qos
            for topic, (payload, _) in self._retained.items():
                if matches(pattern, topic):
                    self._enqueue(session, topic, payload, qos)
        self._routes.clear()

    def publish(self, client: Client, topic: str, payload: bytes, qos: int, *, retain: bool) -> int:
        """Send a message from a client towards the broker; return the id under which it will be confirmed."""
        mid = client.next_mid()
        self.published += 1
        self.published_by(client.config.client_id, topic, payload)
        self.trace.note(f"publish {client.config.client_id} {topic}", payload)
        client.schedule(topic, "up", lambda: self._arrive(client, topic, payload, qos, mid, retain=retain))
        return mid

    def acknowledge(self, client: Client, mid: int) -> None:
        """Take a client's acknowledgement on its way."""
        message = client.delivered.pop(mid, None)
        if message is None:
            return
        self.acknowledged_by(client.config.client_id, message)
        self.trace.note(f"ack {client.config.client_id} {message.topic} {message.number}")
        session = self._session(client)
        client.schedule("", "up", lambda: session.waiting.pop(message.number, None))

    def leave(self, client: Client) -> None:
        """Let a client go that says goodbye: its will is not spoken."""
        if client.alive and not client.dead:
            self.trace.note(f"leave {client.config.client_id}")
            self._close(client)

    # --- what befalls them -----------------------------------------------------------------------------------------------

    def drop(self, client: Client, why: str) -> None:
        """Break a connection; the broker speaks the client's will."""
        if not client.alive:
            return
        self.trace.note(f"drop {client.config.client_id}: {why}")
        self._close(client)
        client.broken(why)
        if self.up and client.will is not None:
            will = client.will
            self._route(will.topic, will.payload, will.qos, retain=will.retain)

    def crash(self, client: Client, noticed_s: float) -> None:
        """Let the program behind a connection die; the broker notices after a while, or when it connects again."""
        self.trace.note(f"crash {client.config.client_id}, noticed in {noticed_s:.3f}")
        client.dead = True
        self.loop.call_later(noticed_s, self.drop, client, "dead")

    def stall(self, client: Client, seconds: float) -> None:
        """Hold back everything on a connection for a while; a long while breaks it."""
        limit_s = KEEPALIVE_FACTOR * client.config.keepalive_s
        client.stalled_until_s = self.loop.time() + seconds
        self.trace.note(f"stall {client.config.client_id} {seconds:.3f}")
        if seconds >= limit_s:
            self.loop.call_later(limit_s, self.drop, client, "silent")

    def restart(self, away_s: float, *, remembers: bool) -> None:
        """Kill the broker; it comes back after `away_s`, with what it saved last or with nothing."""
        self.trace.note(f"broker dies for {away_s:.3f}, remembers {remembers}")
        self.up = False
        for session in list(self.sessions.values()):
            if session.client is not None:
                self.drop(session.client, "the broker is gone")
        saved_s = self.loop.time() // AUTOSAVE_S * AUTOSAVE_S
        if remembers:
            for session in self.sessions.values():
                session.waiting = {n: m for n, m in session.waiting.items() if m.queued_s <= saved_s}
            self._retained = {t: kept for t, kept in self._retained.items() if kept[1] <= saved_s}
        else:
            self.sessions.clear()
            self._retained.clear()
        self._routes.clear()
        self.loop.call_later(away_s, self._come_back)

    def _come_back(self) -> None:
        self.up = True
        self.trace.note("broker is back")

    def client_of(self, client_id: str) -> Client | None:
        """Return the connection of a client, None if it has none."""
        session = self.sessions.get(client_id)
        return None if session is None else session.client

    # --- the broker itself -----------------------------------------------------------------------------------------------

    def _session(self, client: Client) -> Session:
        if client.session is None:
            raise aiomqtt.MqttError("not connected")
        return client.session

    def _close(self, client: Client) -> None:
        client.alive = False
        if client.session is not None and client.session.client is client:
            client.session.client = None
            client.session.gone_s = self.loop.time()

    def _arrive(self, client: Client, topic: str, payload: bytes, qos: int, mid: int, *, retain: bool) -> None:
        weather = self.weather
        if not client.alive and (not self.up or self.rng.random() < 0.5):
            return
        if qos and client.alive and self.rng.random() >= weather.unconfirmed:
            client.schedule("", "down", lambda: client.confirm(mid))
        if not keeps_rules(topic):
            if self.rng.random() < weather.loss:
                self.lost += 1
                self.trace.note(f"lost {topic}")
                return
            if self.rng.random() < weather.duplicates:
                self.repeated += 1
                self._route(topic, payload, qos, retain=retain)
        self._route(topic, payload, qos, retain=retain)

    def _route(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> None:
        if retain:
            self._retained[topic] = (payload, self.loop.time())
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = [
                (session, max(q for p, q in session.filters.items() if matches(p, topic)))
                for session in self.sessions.values()
                if any(matches(p, topic) for p in session.filters)
            ]
        for session, granted in route:
            self._enqueue(session, topic, payload, min(qos, granted))

    def _enqueue(self, session: Session, topic: str, payload: bytes, qos: int) -> None:
        if session.client is None and (qos == 0 or self.loop.time() > session.gone_s + session.expiry_s):
            return
        message = Message(next(self._numbers), topic, payload, qos, self.loop.time())
        if qos:
            session.waiting[message.number] = message
        if session.client is not None:
            self._send_down(session, message)

    def _send_down(self, session: Session, message: Message) -> None:
        client = session.client
        if client is not None:
            client.schedule(message.topic, "down", lambda: client.deliver(message))


class Client:
    """One connection of one client; stands where `aiomqtt.Client`, and paho's client within it, would."""

    def __init__(self, network: Network, config: MqttConfig, will: Will | None) -> None:
        self.network, self.config, self.will = network, config, will
        self.session: Session | None = None
        self.alive = False
        """Whether the broker believes in it."""
        self.dead = False
        """Whether the program behind it is gone: nothing that it does has any effect."""
        self.stalled_until_s = 0.0
        self.delivered: dict[int, Message] = {}
        self.on_publish: Any = None
        self.on_message: Any = None
        self._client = self
        self._disconnected: asyncio.Future[None] = network.loop.create_future()
        self._mids = count(1)
        self._last_s: dict[tuple[str, str], float] = {}

    async def __aenter__(self) -> Self:
        await asyncio.sleep(CONNECT_S)
        self.alive = True
        try:
            self.network.connect(self)
        except aiomqtt.MqttError:
            self.alive = False
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.network.leave(self)

    async def subscribe(self, topic: str | list[tuple[str, int]], qos: int = 0) -> None:
        """Subscribe to one filter or to several."""
        await asyncio.sleep(2 * self.network.weather.delay_s)
        if not self.alive:
            raise aiomqtt.MqttError("the connection broke")
        self.network.subscribe(self, [(topic, qos)] if isinstance(topic, str) else topic)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> SimpleNamespace:  # noqa: FBT001 - paho's order
        """Send as paho does: at once, confirmed later."""
        if self.dead or not self.alive:
            return SimpleNamespace(rc=MQTTErrorCode.MQTT_ERR_NO_CONN, mid=0)
        mid = self.network.publish(self, topic, payload, qos, retain=retain)
        return SimpleNamespace(rc=_SENT.rc, mid=mid)

    def ack(self, mid: int, _qos: int) -> None:
        """Acknowledge a delivery."""
        if self.alive and not self.dead:
            self.network.acknowledge(self, mid)

    # --- the broker's side -----------------------------------------------------------------------------------------------

    def next_mid(self) -> int:
        """Return a new packet id."""
        return next(self._mids)

    def schedule(self, topic: str, direction: str, arrive: Callable[[], object]) -> None:
        """Have something arrive after its way over this connection; of one topic in order, or all of it in order."""
        network = self.network
        now_s = network.loop.time()
        at_s = max(now_s, self.stalled_until_s) + network.rng.expovariate(1.0 / network.weather.delay_s)
        line = (direction, topic if network.weather.overtaking else "")
        at_s = self._last_s[line] = max(at_s, self._last_s.get(line, 0.0))
        network.loop.call_at(at_s, arrive)

    def deliver(self, message: Message) -> None:
        """Hand a message to the program, unless the connection broke on its way."""
        if self.dead or not self.alive:
            return
        mid = self.next_mid()
        if message.qos:
            self.delivered[mid] = message
        self.network.trace.note(f"deliver {self.config.client_id} {message.topic} {message.number}")
        self.on_message(self, None, SimpleNamespace(topic=message.topic, payload=message.payload, qos=message.qos, mid=mid))

    def confirm(self, mid: int) -> None:
        """Tell the program that a message of its own has arrived."""
        if self.alive and not self.dead:
            self.on_publish(self, None, mid, _CONFIRMED, None)

    def broken(self, why: str) -> None:
        """Tell the program that the connection is gone."""
        if not self._disconnected.done():
            self._disconnected.set_exception(aiomqtt.MqttError(why))
            self._disconnected.exception()


class SimulatedTransport(MqttTransport):
    """The product's transport with the simulated client in the place of aiomqtt's; parameters as of `MqttTransport`."""

    def __init__(self, network: Network, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._network = network

    def _new_client(self) -> Any:
        if self.guard is not None:
            self.guard.connect()
        will = self.config.will
        if will is not None:
            will = Will(will.topic, self._last(will), will.qos, will.retain)
        client = self._current = Client(self._network, self.config, will)  # type: ignore[assignment]
        client.on_publish = self._on_publish
        client.on_message = lambda _client, _data, message: self._receive(client, message)  # type: ignore[arg-type]
        return client

    def _jitter(self) -> float:
        return self._network.rng.uniform(0.5, 1.0)


def keeps_rules(topic: str) -> bool:
    """Return whether a topic is one of those that the product retains: the simulated network does not lose these."""
    return topic.endswith(("/presence", "/announce", "/auctioneer"))


def matches(pattern: str, topic: str) -> bool:
    """Return whether a topic matches a filter with ``+`` and ``#`` (OASIS MQTT 5.0, 4.7)."""
    wanted, given = pattern.split("/"), topic.split("/")
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(given) or level not in ("+", given[i]):
            return False
    return len(wanted) == len(given)
