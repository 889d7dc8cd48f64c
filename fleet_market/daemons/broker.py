"""The market daemon: one zone's market on an MQTT broker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fleet_market.adapters.clocks import SimulationClock, WallClock
from fleet_market.adapters.guard import Guard, guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.adapters.private_files import PRIVATE, write_file
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_store
from fleet_market.commons import TrafficControl
from fleet_market.commons.traffic import Messages
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.engine import Engine
from fleet_market.errors import ProtocolError, StoreError
from fleet_market.ids import CustomerId, Identifier, MessageId, RobotId, ZoneId, derive
from fleet_market.market import Command, Market, OpenMarket, Pace, PlaceBook, Send
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.gate import Limits
from fleet_market.protocol.messages import (
    Abort,
    Accept,
    Announce,
    Ask,
    Auctioneer,
    Body,
    CancelOrder,
    ClockTick,
    Complete,
    Decline,
    Offer,
    Position,
    PostOrder,
    Prepared,
    Presence,
    Progress,
    QuoteRequest,
    Receipt,
    Release,
    Reroute,
    ResaleAsk,
    Route,
    RouteRequest,
    StatusRequest,
    WhyRequest,
)
from fleet_market.protocol.registry import Role, market_name
from fleet_market.units import seconds

log = logging.getLogger(__name__)

TICK_S = 0.1
"""Period of the wall clock's ticks; a simulator sends its own."""
MAX_CLOCK_BEHIND_S = 60.0
"""The clock may be this far behind the last stored input when the market starts; more would let the market stand still."""
REMEMBER_S = 1.0
"""How often it is written down what must not be let in again after a restart."""
HIGH_WATER, LOW_WATER = 2_000, 200
"""Messages that wait, in or out: above the first no batch is opened until there are fewer than the second."""
LOOK_S = 0.1
SESSION_EXPIRY_S = 3600
INPUTS: dict[tuple[str, str], type[Body]] = {
    ("from", "ask"): Ask,
    ("from", "accept"): Accept,
    ("from", "decline"): Decline,
    ("from", "progress"): Progress,
    ("from", "complete"): Complete,
    ("from", "abort"): Abort,
    ("from", "receipt"): Receipt,
    ("from", "resale"): ResaleAsk,
    ("from", "prepared"): Prepared,
    ("from", "offer"): Offer,
    ("from", "route"): RouteRequest,
    ("from", "position"): Position,
    ("state", "presence"): Presence,
    ("state", "announce"): Announce,
    ("in", "order"): PostOrder,
    ("in", "quote"): QuoteRequest,
    ("in", "cancel"): CancelOrder,
    ("in", "why"): WhyRequest,
    ("in", "status"): StatusRequest,
}
"""The body that each topic carries into the market: who may say what is a matter of topics."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Everything a market daemon needs to know."""

    host: str
    port: int
    database: Path | str
    """A file for SQLite, or ``postgresql://...``."""
    places: PlaceBook
    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    terms: MarketTerms = field(default_factory=MarketTerms)
    customers: dict[CustomerId, int] = field(default_factory=dict)
    seed: str = "0"
    simulated: bool = False
    """Whether time comes from a simulator."""
    ledger_key: Path | None = None
    """File of the key that signs the journal's head of each day; without one there are no heads."""
    traffic: TrafficControl | None = None
    """Grants the right of way; without it robots get no routes."""
    keys: Path | None = None
    """Folder of keys. Without, nothing is signed or encrypted, and the MQTT broker must be on the loopback interface."""
    limits: Limits = field(default_factory=Limits)
    """What one robot or customer may send."""


class Broker:
    """The daemon; `run` it."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        name = market_name(config.zone)
        self.guard: Guard = guard_for(config.keys, Role.MARKET, name, config.host, config.limits)
        self.ready = asyncio.Event()
        self.pauses = 0
        """How often new batches were paused because too much waited."""
        self._paused = False
        self._clock = SimulationClock() if config.simulated else WallClock()

    @property
    def rejected(self) -> Counter[str]:
        """Messages that were refused, by reason."""
        return self.guard.rejected

    async def run(self) -> None:
        """Serve until cancelled.

        Raises
        ------
        StoreError, LedgerMismatchError
            If the database cannot be used or does not agree with the market, or the clock is far behind it.
        InputError
            If the key of the ledger cannot be used.
        """
        key = self.config.ledger_key
        signer = None if key is None else Ed25519Signer.load(key)
        with open_store(self.config.database) as store:
            async with StoreWriter(store) as writer:
                self.engine = Engine(Market(self.config.places), store, writer, signer)
                self.engine.recover()
                self._check_clock()
                self.engine.epoch += 1
                marks = self._marks()
                self.guard.restore(marks)
                transport = MqttTransport(self._mqtt(), self._subscriptions(), guard=self.guard)
                async with transport, asyncio.TaskGroup() as tasks:
                    await transport.connected.wait()
                    await self.engine.take(self._opening())
                    tasks.create_task(self.engine.publish_effects(transport), name="effects")
                    tasks.create_task(self.engine.resend(transport), name="resend")
                    if not self.config.simulated:
                        tasks.create_task(self._tick(), name="clock")
                    tasks.create_task(self._listen(transport), name="inputs")
                    tasks.create_task(self._keep_pace(transport), name="pace")
                    tasks.create_task(self._remember(marks), name="marks")
                    self.ready.set()

    def _marks(self) -> Path:
        """Return the file of what must not be let in again: beside the database, or where that is a server, the keys."""
        database, keys = self.config.database, self.config.keys
        if isinstance(database, Path):
            return database.with_name(f"{database.name}.seen")
        return (keys or Path()) / f"{self.config.zone}.seen"

    def _mqtt(self) -> MqttConfig:
        gone = Envelope(
            id=MessageId(derive("will", self.engine.epoch)),
            ts=self.engine.now_ns,
            src=Identifier(SELF),
            sid=self.engine.epoch,
            body=Auctioneer(status="closed", epoch=self.engine.epoch, batch_s=self.config.terms.batch_s),
        )
        return MqttConfig(
            self.config.host,
            self.config.port,
            f"auc-{self.config.zone}",
            Will(topics.zone(self.config.zone, "auctioneer"), encode(gone)),
            session_expiry_s=SESSION_EXPIRY_S,
        )

    def _subscriptions(self) -> list[tuple[str, int]]:
        wanted = [(topics.from_robot("+", self.config.zone, "#"), 1), (topics.from_customer("+", "#"), 1)]
        wanted.append((topics.state("+", "#"), 1))
        return [*wanted, (topics.CLOCK, 0)] if self.config.simulated else wanted

    def _opening(self) -> Command:
        config = self.config
        body = OpenMarket(
            zone=config.zone, epoch=self.engine.epoch, seed=config.seed, terms=config.terms, customers=config.customers
        )
        return Command(SELF, body, self._now_ns())

    def _check_clock(self) -> None:
        behind_s = seconds(self.engine.now_ns - self._clock.now_ns())
        if not self.config.simulated and behind_s > MAX_CLOCK_BEHIND_S:
            raise StoreError(
                f"{self.config.database}: the clock of this machine is {behind_s:.0f} s behind the market's last input: "
                "set the clock"
            )

    def _now_ns(self) -> int:
        return max(self._clock.now_ns(), self.engine.now_ns)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.engine.take(tick(self._now_ns()))

    async def _keep_pace(self, transport: MqttTransport) -> None:
        """Open no new batch while more waits than can be handled: whoever asks in time is to be heard in time."""
        while True:
            await asyncio.sleep(LOOK_S)
            waiting = transport.waiting() + self.engine.waiting()
            too_much = waiting > (LOW_WATER if self._paused else HIGH_WATER)
            if too_much is not self._paused:
                self._paused = too_much
                self.pauses += self._paused
                what = "no new batches" if self._paused else "batches again"
                log.warning("%s: %d messages wait (marks %d and %d)", what, waiting, HIGH_WATER, LOW_WATER)
                await self.engine.take(Command(SELF, Pace(paused=self._paused), self._now_ns()))

    async def _remember(self, path: Path) -> None:
        """Write down what has been let in, now and then and at the end."""
        written = b""
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(REMEMBER_S)
                if (marks := self.guard.remembered()) != written:
                    await asyncio.to_thread(write_file, path, marks, PRIVATE)
                    written = marks
        if marks := self.guard.remembered():
            write_file(path, marks, PRIVATE)

    async def _listen(self, transport: MqttTransport) -> None:
        async for delivery in transport.deliveries():
            try:
                await self._receive(delivery)
            except ProtocolError as error:
                self.guard.fine(delivery.topic)
                self.guard.reject(delivery.topic, error)
                delivery.ack()

    async def _receive(self, delivery: Delivery) -> None:
        address = topics.parse(delivery.topic)
        if not delivery.payload and address.direction == "state":
            delivery.ack()
            return
        message = decode(delivery.payload)
        if isinstance(message.body, ClockTick) and address.direction == "clock":
            self._advance(message.body)
            await self.engine.take(tick(self._now_ns()), delivery.ack)
            return
        if not isinstance(message.body, INPUTS.get((address.direction, address.kind), ())):
            raise ProtocolError("misplaced", f"{type(message.body).__name__} came on {delivery.topic}")
        if message.src != address.name:
            raise ProtocolError("wrong_sender", f"src {message.src!r} wrote to the topic of {address.name!r}")
        owner = self.guard.owner_of(message.src)
        if isinstance(message.body, Announce) and owner not in (None, message.body.owner):
            raise ProtocolError("wrong_owner", f"{message.src} is registered for {owner}, not {message.body.owner}")
        try:
            source = (CustomerId if address.direction == "in" else RobotId)(message.src)
        except ValueError as error:
            raise ProtocolError("malformed", str(error)) from None
        if isinstance(source, RobotId) and (sends := self._direct(source, message.body)) is not None:
            await self.engine.tell(sends, delivery.ack)
            return
        await self.engine.take(Command(source, message.body, self._now_ns(), message.id, message.sid), delivery.ack)
        if isinstance(source, RobotId) and isinstance(message.body, Presence) and message.body.status != "online":
            await self.engine.tell(self._turn_away_from(source, message.sid))

    def _direct(self, robot: RobotId, body: Body) -> list[Send] | None:
        """Return what the traffic control says to a robot's message, None if the message is not for it."""
        if not isinstance(body, RouteRequest | Position):
            return None
        if self.config.traffic is None:
            raise ProtocolError("no_traffic", "this daemon grants no right of way")
        if isinstance(body, Position):
            self.engine.market.handle(Command(robot, body, self._now_ns()))
            return _addressed(self.config.traffic.position(robot, body, self._now_ns()))
        return _addressed(self.config.traffic.request(robot, body, self._now_ns()))

    def _turn_away_from(self, robot: RobotId, sid: int) -> list[Send]:
        """Return what the others are told when a robot is gone; a will of an earlier session says nothing."""
        known = self.engine.market.state.robots.get(robot)
        if self.config.traffic is None or known is None or known.sid != sid:
            return []
        return _addressed(self.config.traffic.lost(robot, self._now_ns()))

    def _advance(self, body: ClockTick) -> None:
        if isinstance(self._clock, SimulationClock):
            self._clock.advance(body.now_ns)


def _addressed(messages: Messages) -> list[Send]:
    kinds: dict[type[Body], str] = {Route: "route", Release: "release", Reroute: "reroute"}
    return [Send(topics.to_robot(robot, kinds[type(body)]), body) for robot, body in messages]
