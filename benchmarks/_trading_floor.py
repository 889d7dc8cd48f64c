"""A market whose robots stand still and trade: contracts are dealt out, then sold on until nothing better is found."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from fleet_market.body import Battery, Link, Pose, RobotType, Telemetry
from fleet_market.contracts import MarketTerms
from fleet_market.ids import ContractId, CustomerId, Identifier, MessageId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.market import Command, Market, OpenMarket
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.pricing import Tariff
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    Accept,
    Announce,
    AnyBody,
    Ask,
    AskLine,
    Award,
    Body,
    Call,
    Cancel,
    Keep,
    Lot,
    OrderState,
    Place,
    PostOrder,
    Prepare,
    Prepared,
    Presence,
    Reauction,
    Receipt,
    ResaleAsk,
    Traded,
    TradeRecord,
    WirePose,
)
from fleet_market.robot.bidding import Bidder
from fleet_market.robot.dealing import Dealer
from fleet_market.robot.effects import Say
from fleet_market.robot.floor import Floor
from fleet_market.robot.losses import Losses
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Queue
from fleet_market.robot.resale import Reseller
from fleet_market.robot.situation import AgentConfig, Situation
from fleet_market.robot.voice import Voice

CREDIT, S = 10**6, 10**9
CUSTOMER, ZONE = CustomerId("ann"), ZoneId("main")
DAY_S = 86400.0
QUIET_S, TICK_S = 3.0, 0.1
TERMS = MarketTerms(resale_every_s=TICK_S, lease_s=DAY_S, overdue_s=DAY_S, resale_gain_uc=1)


class Trader(Protocol):
    """A robot that trades and does not move."""

    name: RobotId
    kind: RobotType
    home: Pose

    def hear(self, message: MessageId, body: Body, now_ns: int) -> list[Say]:
        """Take a message of the market; returns what it says."""

    def cost_uc(self) -> int:
        """Return what its queue costs it."""


class RealTrader:
    """The dealing half of a robot's agent, as it runs on robots.

    Parameters
    ----------
    name : RobotId
    kind : RobotType
    home : Pose
    floor : Floor
    tariff : Tariff
    memory : Memory
        What it has learned of itself.
    """

    def __init__(self, name: RobotId, kind: RobotType, home: Pose, floor: Floor, tariff: Tariff, memory: Memory) -> None:
        self.name, self.kind, self.home = name, kind, home
        config = AgentConfig(name, kind, home, floor.chargers, tariff, floor.roadmap, 1)
        self.situation = Situation(config, memory)
        self.situation.telemetry = Telemetry(
            seq=1, stamp_ns=0, link=Link.UP, pose=home, moving=False, battery=Battery(soc=0.95), payload_kg=0.0
        )
        self._voice = Voice(name, 1)
        self.bidder = Bidder(kind, floor.roadmap, floor.chargers, tariff, self.situation.memory, config.surfaces)
        self._losses = Losses(self.situation, self._voice)
        self._dealer = Dealer(self.situation, self._voice, self.bidder, lambda _: None)
        self._reseller = Reseller(self.situation, self._voice, self.bidder, self._dealer)

    def hear(self, message: MessageId, body: Body, now_ns: int) -> list[Say]:
        """Take a message of the market; returns what it says."""
        match body:
            case Call():
                self._dealer.take_page(body, now_ns)
            case Award():
                self._dealer.take_award(body, now_ns)
            case Reauction():
                self._reseller.answer(body, now_ns)
            case Prepare():
                self._reseller.let_go(body, now_ns)
            case Keep():
                self._reseller.keep(body)
                self._voice.say("receipt", Receipt(of=message))
            case Cancel():
                self._losses.lose(body, now_ns)
                self._voice.say("receipt", Receipt(of=message))
            case _:
                pass
        return [effect for effect in self._voice.take() if isinstance(effect, Say)]

    @property
    def queue(self) -> Queue:
        """What it is going to do."""
        queue = self.situation.queue(0)
        if queue is None:
            raise RuntimeError(f"{self.name} does not know where it is")
        return queue

    def cost_uc(self) -> int:
        """Return what its queue costs it."""
        return self.bidder.cost(self.queue).total_uc


class PlaneTrader:
    """A robot on an open plane whose costs are metres: quick enough for thousands of markets. It may lie.

    Parameters
    ----------
    name : RobotId
    kind : RobotType
    home : Pose
    saving_factor, ask_factor : float
        By how much it overstates what it saves, and what it asks.
    """

    UC_PER_M = 50_000

    def __init__(
        self, name: RobotId, kind: RobotType, home: Pose, saving_factor: float = 1.0, ask_factor: float = 1.0
    ) -> None:
        self.name, self.kind, self.home = name, kind, home
        self._saving_factor, self._ask_factor = saving_factor, ask_factor
        self._held: dict[ContractId, OrderId] = {}
        self._queue: list[OrderId] = []
        self._ends: dict[OrderId, tuple[Place, Place]] = {}
        self._said = 0

    def hear(self, message: MessageId, body: Body, now_ns: int) -> list[Say]:  # noqa: ARG002  (a Trader)
        """Take a message of the market; returns what it says."""
        match body:
            case Call():
                self._know(body.lots)
                return self._say(
                    "ask", Ask(call=body.call, round=body.round, asks=self._lines(body.lots, self._queue, 1.0))
                )
            case Award():
                self._ends[body.order] = (body.pickup, body.dropoff)
                self._held[body.contract] = body.order
                self._queue = self._with(body.order, self._queue)
                return self._say("accept", Accept(contract=body.contract))
            case Reauction():
                return self._say("resale", self._answer(body))
            case Prepare():
                return self._say("prepared", Prepared(call=body.call, contracts=body.contracts, agreed=True))
            case Cancel():
                self._queue.remove(self._held.pop(body.contract))
                return self._say("receipt", Receipt(of=message))
            case Keep():
                return self._say("receipt", Receipt(of=message))
            case _:
                return []

    def _answer(self, body: Reauction) -> ResaleAsk:
        self._know(body.lots)
        given = {self._held[name] for name in body.own}
        rest = [order for order in self._queue if order not in given]
        saving_uc = round(self._saving_factor * (self._cost_uc(self._queue) - self._cost_uc(rest))) if given else None
        for order in body.won:
            rest = self._with(order, rest)
        asks = self._lines(body.lots, rest, self._ask_factor)
        return ResaleAsk(call=body.call, round=body.round, saving_uc=saving_uc, asks=asks)

    def _know(self, lots: Iterable[Lot]) -> None:
        self._ends.update((lot.order, (lot.pickup, lot.dropoff)) for lot in lots)

    def _say(self, kind: str, body: AnyBody) -> list[Say]:
        self._said += 1
        return [Say(kind, body, MessageId(f"{self.name}-{self._said}"))]

    def _lines(self, lots: Sequence[Lot], queue: Sequence[OrderId], factor: float) -> tuple[AskLine, ...]:
        lines, base_uc = [], self._cost_uc(queue)
        for number, lot in enumerate(lots):
            ask_uc = round(factor * (self._cost_uc(self._with(lot.order, queue)) - base_uc))
            parts_uc = (ask_uc, *(0,) * 8)
            lines.append(AskLine(lot=number, ask_uc=ask_uc, parts_uc=parts_uc, energy_j=0.0, finish_ns=0))
        return tuple(lines)

    def _with(self, order: OrderId, queue: Sequence[OrderId]) -> list[OrderId]:
        """Return the queue with an order at its cheapest place."""
        grown = [[*queue[:i], order, *queue[i:]] for i in range(len(queue) + 1)]
        return min(grown, key=self._cost_uc)

    def _cost_uc(self, queue: Sequence[OrderId]) -> int:
        stops = [(self.home.x, self.home.y), *((at.x, at.y) for order in queue for at in self._ends[order])]
        length_m = sum(math.dist(a, b) for a, b in pairwise(stops))
        return round(length_m * self.UC_PER_M)

    def cost_uc(self) -> int:
        """Return what its queue costs it."""
        return self._cost_uc(self._queue)


class Resolver(Protocol):
    """Knows the places of the floor."""

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Return a place."""


@dataclass
class Exchange:
    """A market, its traders, and messages that arrive at once."""

    places: Resolver
    traders: Mapping[RobotId, Trader]
    terms: MarketTerms = TERMS
    records: list[TradeRecord] = field(default_factory=list)
    on_trade: Callable[[TradeRecord], None] | None = None
    """Called when a trade has come into force and everyone knows."""

    def __post_init__(self) -> None:
        self.now_ns, self.market = 0, Market(self.places)
        self._give(
            SELF,
            OpenMarket(zone=ZONE, epoch=1, seed="seed", terms=self.terms, customers={CUSTOMER: 10_000 * CREDIT}),
        )
        for trader in self.traders.values():
            announce = Announce(
                zone=ZONE, owner=OwnerId(f"owner-{trader.name}"), robot_type=trader.kind.name,
                max_payload_kg=trader.kind.max_payload_kg, max_speed_mps=trader.kind.max_speed_mps,
                battery_wh=trader.kind.battery.capacity_wh, home=WirePose.of(trader.home),
            )  # fmt: skip
            self._give(trader.name, announce)
            self._online(trader.name, online=True)

    def deal(self, tasks: Mapping[OrderId, tuple[str, str, float]], rng: random.Random) -> None:
        """Have each task awarded to a robot drawn at random; nothing is sold on before the last one.

        Parameters
        ----------
        tasks : mapping
            Pickup, dropoff and mass of the parcel in kg.
        rng : random.Random
        """
        for order, (pickup, dropoff, payload_kg) in tasks.items():
            winner = rng.choice(sorted(self.traders))
            for name in self.traders:
                self._online(name, online=name == winner)
            wish = PostOrder(
                order=order, pickup=pickup, dropoff=dropoff, payload_kg=payload_kg, deadline_s=DAY_S / 2,
                max_price_uc=100 * CREDIT,
            )  # fmt: skip
            self._give(CUSTOMER, wish, MessageId(f"post-{order}"))
            while self.market.state.orders[order].state is not OrderState.EXECUTING:
                self._tick()
        for name in self.traders:
            self._online(name, online=True)

    def trade(self) -> None:
        """Let robots trade until nothing better is found."""
        heard, quiet_s = len(self.records), 0.0
        while quiet_s < QUIET_S:
            self._tick()
            quiet_s = quiet_s + TICK_S if len(self.records) == heard else 0.0
            heard = len(self.records)

    @property
    def trades(self) -> list[TradeRecord]:
        """What changed hands."""
        return [record for record in self.records if record.moves]

    def cost_uc(self) -> int:
        """Return what the queues of all robots cost together."""
        return sum(trader.cost_uc() for trader in self.traders.values())

    def _online(self, name: RobotId, *, online: bool) -> None:
        known = self.market.state.robots.get(name)
        if known is None or known.online != online:
            self._give(name, Presence(status="online" if online else "offline", zone=ZONE))

    def _tick(self) -> None:
        self.now_ns += round(TICK_S * S)
        self._give(SELF, tick(self.now_ns).body)

    def _give(self, source: str, body: Body, message: MessageId | None = None) -> None:
        """Hand the market one input, and go on until nobody has anything to say."""
        inputs: list[tuple[str, Body, MessageId | None]] = [(source, body, message)]
        while inputs:
            source, body, message = inputs.pop(0)
            sends = self.market.handle(Command(Identifier(source), body, self.now_ns, message)).sends
            traded = []
            for send in sends:
                address, name = topics.parse(send.topic), send.id or MessageId("m")
                if isinstance(send.body, Traded):
                    self.records.append(send.body.record)
                    traded += [send.body.record] if send.body.record.moves else []
                for trader in self.traders.values():
                    if address.direction == "zone" or (address.direction == "to" and address.name == trader.name):
                        said = trader.hear(name, send.body, self.now_ns)
                        inputs += [(trader.name, effect.body, effect.id) for effect in said]
            for record in traded:
                if self.on_trade is not None:
                    self.on_trade(record)
