"""Business for a market without robots and customers: closed loop, seeded, as fast as it is answered."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from fleet_market.contracts import Contract, MarketTerms
from fleet_market.errors import PlaceError
from fleet_market.ids import CustomerId, MessageId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.market import Command, Market, OpenMarket
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    ASK_PARTS,
    Abort,
    Accept,
    Announce,
    Ask,
    AskLine,
    Award,
    Body,
    CancelOrder,
    Complete,
    OrderState,
    Phase,
    Place,
    PostOrder,
    Presence,
    Progress,
    Receipt,
    StepEvidence,
    WirePose,
)

CREDIT_UC = 10**6
TICK_NS = 250_000_000
ENDOWMENT_UC = 10**8 * CREDIT_UC
PLACES = {"a": (1.0, 1.0), "b": (9.0, 1.0), "c": (9.0, 9.0)}


class Yard:
    """A floor with three places; implements `fleet_market.market.PlaceBook`."""

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Return the place; raises `PlaceError`."""
        if text not in PLACES:
            raise PlaceError(source, field, text, f"use one of {', '.join(PLACES)}")
        x, y = PLACES[text]
        return Place(x=x, y=y, name=text)


@dataclass(slots=True)
class MarketLoad:
    """Makes the inputs of a busy market, from what the market knows.

    A load that is made anew on a recovered market goes on with the orders and contracts that it finds there, as real
    robots and customers do.

    Parameters
    ----------
    market : Market
        Looked at, never changed.
    seed : int
        Of the draws.
    name : str
        Part of every id, so that two loads on one market do not repeat each other.
    robots, customers, open_orders : int
        Size of the business; `open_orders` is how many orders are kept under way.
    """

    market: Market
    seed: int = 0
    name: str = "l"
    robots: int = 8
    customers: int = 4
    open_orders: int = 20
    now_ns: int = 0
    terms: MarketTerms = field(default_factory=lambda: MarketTerms(batch_s=0.5, cooldown_s=0.5))
    _count: int = 0
    _posted: int = 0
    _begun: set[str] = field(default_factory=set)
    """Contracts under way of which the robots of this load have reported progress."""

    def opening(self, epoch: int) -> list[Command]:
        """Return the inputs of a start: the market opens, the robots come."""
        owners = {CustomerId(f"c{i}"): ENDOWMENT_UC for i in range(self.customers)}
        opened = OpenMarket(zone=ZoneId("main"), epoch=epoch, seed="0", terms=self.terms, customers=owners)
        commands = [Command(SELF, opened, self.now_ns)]
        for i in range(self.robots):
            spec = Announce(
                zone=ZoneId("main"),
                owner=OwnerId(f"o{i % 3}"),
                robot_type="t",
                max_payload_kg=9.0,
                max_speed_mps=1.0,
                battery_wh=480.0,
            )
            commands += [self._from(f"r{i}", spec), self._from(f"r{i}", Presence(status="online", zone=ZoneId("main")))]
        return commands

    def round(self) -> Iterator[Command]:
        """Yield the inputs of the next quarter of a second, each to be given to the market before the next is asked for."""
        rng = random.Random(f"{self.seed}:{self.name}:{self._count}")  # noqa: S311 - seeded chance, no secret
        state = self.market.state
        yield from self._orders(rng)
        if state.call is not None:
            for i in range(self.robots):
                if (call := state.call) is not None and (robot := RobotId(f"r{i}")) in call.waiting:
                    lines = tuple(self._line(rng, index) for index in range(min(len(call.offered[robot]), 8)))
                    yield self._from(robot, Ask(call=call.id, round=call.round, asks=lines))
        for contract in list(state.contracts.values()):
            yield from self._work(rng, contract)
        for message, send in list(state.unconfirmed.items()):
            if not isinstance(send.body, Award) and rng.random() < 0.5:  # an award is answered
                yield self._from(topics.parse(send.topic).name, Receipt(of=message))
        self.now_ns += TICK_NS
        yield tick(self.now_ns)

    def _orders(self, rng: random.Random) -> Iterator[Command]:
        orders = self.market.state.orders
        newest = islice(reversed(orders.values()), 4 * self.open_orders)
        for _ in range(min(self.open_orders - sum(not order.state.final for order in newest), 4)):
            self._posted += 1
            pickup, dropoff = rng.sample(sorted(PLACES), 2)
            yield self._from(f"c{rng.randrange(self.customers)}", PostOrder(
                order=OrderId(f"{self.name}-{self._posted}"), pickup=pickup if rng.random() > 0.02 else "moon",
                dropoff=dropoff, payload_kg=1.0, deadline_s=rng.uniform(20.0, 200.0),
                max_price_uc=rng.randint(2, 20) * CREDIT_UC,
            ))  # fmt: skip
        if rng.random() < 0.05:
            waiting = next((o for o in reversed(orders.values()) if o.state is OrderState.OPEN), None)
            if waiting is not None:
                yield self._from(waiting.customer, CancelOrder(order=waiting.id))

    def _line(self, rng: random.Random, lot: int) -> AskLine:
        ask = rng.randint(1, 12) * CREDIT_UC
        return AskLine(
            lot=lot,
            ask_uc=ask,
            parts_uc=(ask, *(0,) * (len(ASK_PARTS) - 1)),
            energy_j=100.0,
            finish_ns=self.now_ns + 10**10,
        )

    def _work(self, rng: random.Random, contract: Contract) -> Iterable[Command]:
        order = self.market.state.orders[contract.order]
        if not contract.accepted:
            yield self._from(contract.robot, Accept(contract=contract.id))
        elif contract.id not in self._begun:
            self._begun.add(contract.id)
            pose = WirePose(x=order.pickup.x, y=order.pickup.y)
            yield self._from(contract.robot, Progress(contract=contract.id, phase=Phase.TO_DROPOFF, aboard=True, pose=pose))
        elif rng.random() < 0.05:
            pose = WirePose(x=order.pickup.x, y=order.pickup.y)
            yield self._from(contract.robot, Abort(contract=contract.id, reason="broken", aboard=False, pose=pose))
        else:
            steps = (self._step("pickup", order.pickup), self._step("dropoff", order.dropoff))
            yield self._from(contract.robot, Complete(contract=contract.id, steps=steps, energy_j=90.0))

    def _step(self, kind: Literal["pickup", "dropoff"], goal: Place) -> StepEvidence:
        return StepEvidence(kind=kind, pose=WirePose(x=goal.x + goal.keep_off_m, y=goal.y), at_ns=self.now_ns)

    def _from(self, source: str, body: Body) -> Command:
        self._count += 1
        return Command(source, body, self.now_ns, MessageId(f"{self.name}-{self._count}"))
