"""The market of one zone, as a service: an engine with its traffic control between a transport and a store.

Transport, store, writer and clock are handed in: a daemon gives MQTT, a database and the wall clock, a simulation its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_market.adapters.clocks import SimulationClock
from fleet_market.adapters.guard import Guard
from fleet_market.adapters.store_base import Reads
from fleet_market.commons import TrafficControl
from fleet_market.commons.traffic import Messages
from fleet_market.contracts import MarketTerms
from fleet_market.daemons.engine import Engine, Writer
from fleet_market.errors import BrokerError, ClockError, ProtocolError, StoreError
from fleet_market.ids import CustomerId, Identifier, MessageId, RobotId, ZoneId, derive
from fleet_market.ledger import HeadSigner
from fleet_market.market import Command, Halt, Market, OpenMarket, Outcome, Pace, PlaceBook, Send
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.ports import Clock, Delivery, Publisher, Transport
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
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
    FairAnswer,
    FairRequest,
    LeafOpening,
    Offer,
    OpenRequest,
    OracleTerms,
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
from fleet_market.units import seconds

log = logging.getLogger(__name__)

TICK_S = 0.1
"""Usual period of the wall clock's ticks; a simulator sends its own."""
MAX_CLOCK_BEHIND_S = 60.0
"""The clock may be this far behind the last stored input when the market starts; more would let the market stand still."""
HIGH_WATER, LOW_WATER = 2_000, 200
"""Messages that wait, in or out: above the first no batch is opened until there are fewer than the second."""
CONFIRM_LOOK_S = 0.05
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
    ("in", "fair"): FairRequest,
    ("in", "terms"): OracleTerms,
    ("in", "answer"): FairAnswer,
    ("in", "open"): OpenRequest,
    ("in", "opening"): LeafOpening,
    ("from", "fair"): FairRequest,
}
"""The body that each topic carries into the market: who may say what is a matter of topics."""


@dataclass(frozen=True, slots=True)
class ZoneConfig:
    """What the market of one zone is like."""

    places: PlaceBook
    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    terms: MarketTerms = field(default_factory=MarketTerms)
    customers: dict[CustomerId, int] = field(default_factory=dict)
    """Customers with what each has to spend, micro-credits."""
    seed: str = "0"
    traffic: TrafficControl | None = None
    """Grants the right of way; without it robots get no routes."""
    tick_s: float = TICK_S
    """Period in which time passes for the market and the queues are looked at."""


class Zone:
    """The market of one zone; `recover` it, then `run` it.

    Parameters
    ----------
    config : ZoneConfig
    store : Reads
        What a store of `fleet_market.adapters.stores` can be asked.
    writer : Writer
        The only one that writes to `store`.
    clock : Clock
        A `SimulationClock` is advanced by the ticks of a simulator that come over the transport; under any other the zone
        ticks by itself.
    guard : Guard
        The one that opens what the transport delivers: here it is asked for owners, and told what was refused later.
    signer : HeadSigner, optional
        Signs the journal's head of each day.
    observe : callable
        Is shown what every new input has led to.
    whole : callable, optional
        Gives the store with the archives of its beginning.
    """

    def __init__(
        self,
        config: ZoneConfig,
        store: Reads,
        writer: Writer,
        clock: Clock,
        guard: Guard,
        signer: HeadSigner | None = None,
        observe: Callable[[Outcome], None] = lambda _outcome: None,
        whole: Callable[[], Reads] | None = None,
    ) -> None:
        self.config, self.guard = config, guard
        self.engine = Engine(Market(config.places), store, writer, signer, observe, whole)
        self.ready = asyncio.Event()
        self.draining = False
        """Whether only receipts are taken any more."""
        self.pauses = 0
        """How often new batches were paused because too much waited."""
        self._paused = False
        self._clock = clock
        self._simulated = isinstance(clock, SimulationClock)

    def recover(self) -> None:
        """Bring the market to where its store is, and begin a new epoch.

        Raises
        ------
        StoreError, LedgerMismatchError
            If the database cannot be used, is that of another zone or does not agree with the market.
        ClockError
            If the clock is far behind the market.
        """
        self.engine.recover()
        self._check_zone()
        self._check_clock()
        self.engine.epoch += 1

    async def run(self, transport: Transport) -> None:
        """Serve on a transport that is connected, until cancelled; raises as `Engine.publish_effects`."""
        await self.engine.take(self._opening())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.engine.publish_effects(transport), name="effects")
            tasks.create_task(self.engine.resend(transport), name="resend")
            if not self._simulated:
                tasks.create_task(self._tick(), name="clock")
            await self.engine.stored()  # a right of way is granted anew: not before robots hear that the old ones are void
            tasks.create_task(self._listen(transport), name="inputs")
            tasks.create_task(self._keep_pace(transport), name="pace")
            self.ready.set()

    async def set_halted(self, *, halted: bool, reason: str = "") -> None:
        """Let nothing be sold, or let the market go on; returns when that is on the disk. Works without an MQTT broker.

        Raises
        ------
        StoreError, LedgerMismatchError
            If it cannot be stored.
        """
        stored = await self.engine.take(Command(SELF, Halt(halted=halted, reason=reason), self._now_ns()))
        if stored is not None:
            await asyncio.shield(stored)

    async def drain(self, transport: Publisher, within_s: float, *, receipts: bool = True) -> int:
        """Come to an orderly end: take nothing new, store and send what is decided, wait for receipts unless told not to.

        What is not taken stays with the MQTT broker, and what is not confirmed in the outbox, for the next start.

        Returns
        -------
        int
            How many messages are not confirmed.
        """
        self.draining = True
        with contextlib.suppress(TimeoutError, BrokerError):
            async with asyncio.timeout(within_s):
                await self.engine.settled()
                if receipts:
                    await self.engine.send_unconfirmed(transport)
                while receipts and self.engine.unconfirmed():  # noqa: ASYNC110 - others take it away
                    await asyncio.sleep(CONFIRM_LOOK_S)
        with contextlib.suppress(TimeoutError, BrokerError):
            async with asyncio.timeout(within_s):
                await transport.publish(*self.closing(), retain=True)
        return self.engine.unconfirmed()

    def closing(self) -> tuple[str, bytes]:
        """Return topic and payload of what is said, retained, when this market is gone: its last will."""
        return self._said(Auctioneer(status="closed", epoch=self.engine.epoch, batch_s=self.config.terms.batch_s))

    async def greet(self, transport: Publisher) -> None:
        """Say again, after a lost connection, that the market is open: the MQTT broker has said that it is gone."""
        if self.ready.is_set():
            with contextlib.suppress(BrokerError):
                await transport.publish(*self._said(self.engine.market.state.auctioneer()), retain=True)

    def _said(self, body: Auctioneer) -> tuple[str, bytes]:
        engine = self.engine
        said = Envelope(
            id=MessageId(derive(body.status, engine.epoch, engine.now_ns)),
            ts=engine.now_ns,
            src=Identifier(SELF),
            sid=engine.epoch,
            body=body,
        )
        return topics.zone(self.config.zone, "auctioneer"), encode(said)

    def _opening(self) -> Command:
        config = self.config
        body = OpenMarket(
            zone=config.zone, epoch=self.engine.epoch, seed=config.seed, terms=config.terms, customers=config.customers
        )
        return Command(SELF, body, self._now_ns())

    def _check_zone(self) -> None:
        found = self.engine.market.state.zone
        if self.engine.epoch and found != self.config.zone:
            raise StoreError(f"the database holds the market of zone {found}, not of {self.config.zone}: name its own")

    def _check_clock(self) -> None:
        behind_s = seconds(self.engine.now_ns - self._clock.now_ns())
        if not self._simulated and behind_s > MAX_CLOCK_BEHIND_S:
            raise ClockError(
                f"zone {self.config.zone}: the clock of this machine is {behind_s:.0f} s behind the market's last input: "
                "set the clock"
            )

    def _now_ns(self) -> int:
        return max(self._clock.now_ns(), self.engine.now_ns)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.config.tick_s)
            if not self.draining:
                await self.engine.take(tick(self._now_ns()))

    async def _keep_pace(self, transport: Transport) -> None:
        """Open no new batch while more waits than can be handled: whoever asks in time is to be heard in time."""
        while True:
            await asyncio.sleep(self.config.tick_s)
            if self.draining:
                return
            waiting = transport.waiting() + self.engine.waiting()
            too_much = waiting > (LOW_WATER if self._paused else HIGH_WATER)
            if too_much is not self._paused:
                self._paused = too_much
                self.pauses += self._paused
                what = "no new batches" if self._paused else "batches again"
                log.warning("%s: %d messages wait (marks %d and %d)", what, waiting, HIGH_WATER, LOW_WATER)
                await self.engine.take(Command(SELF, Pace(paused=self._paused), self._now_ns()))

    async def _listen(self, transport: Transport) -> None:
        async for delivery in transport.deliveries():
            try:
                await self._receive(transport, delivery)
            except ProtocolError as error:
                self.guard.fine(delivery.topic)
                self.guard.reject(delivery.topic, error)
                delivery.ack()

    async def _receive(self, transport: Publisher, delivery: Delivery) -> None:
        address = topics.parse(delivery.topic)
        if not delivery.payload and address.direction == "state":
            delivery.ack()
            return
        if (address.direction, address.kind) == ("from", "telemetry"):
            delivery.ack()  # for the oracles alone
            return
        message = decode(delivery.payload)
        if self.draining and not isinstance(message.body, Receipt):
            return
        if isinstance(message.body, ClockTick) and address.direction == "clock":
            self._advance(message.body)
            await self.engine.take(tick(self._now_ns()), delivery.ack)
            return
        if not isinstance(message.body, INPUTS.get((address.direction, address.kind), ())):
            raise ProtocolError("misplaced", f"{type(message.body).__name__} came on {delivery.topic}")
        if message.src != address.name:
            raise ProtocolError("wrong_sender", f"src {message.src!r} wrote to the topic of {address.name!r}")
        if isinstance(message.body, LeafOpening) and (fault := self.guard.record_fault(message.body.record)) is not None:
            raise ProtocolError(fault, f"{message.src} has opened a record that {message.body.record.robot} did not sign")
        owner = self.guard.owner_of(message.src)
        if isinstance(message.body, Announce) and owner not in (None, message.body.owner):
            raise ProtocolError("wrong_owner", f"{message.src} is registered for {owner}, not {message.body.owner}")
        if isinstance(message.body, Announce | Presence) and message.body.zone != self.config.zone:
            delivery.ack()
            return
        try:
            source = (CustomerId if address.direction == "in" else RobotId)(message.src)
        except ValueError as error:
            raise ProtocolError("malformed", str(error)) from None
        if isinstance(source, RobotId) and (sends := self._direct(source, message.body)) is not None:
            await self.engine.tell(transport, sends, delivery.ack)
            return
        await self.engine.take(Command(source, message.body, self._now_ns(), message.id, message.sid), delivery.ack)
        if isinstance(source, RobotId) and isinstance(message.body, Presence) and message.body.status != "online":
            await self.engine.tell(transport, self._turn_away_from(source, message.sid))

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
