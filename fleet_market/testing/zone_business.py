"""Business in many zones over MQTT: a robot and an order at a time in each, played by one client that knows no daemon."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.errors import BrokerError
from fleet_market.ids import ContractId, CustomerId, Identifier, MessageId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    ASK_PARTS,
    Accept,
    Announce,
    AnyBody,
    Ask,
    AskLine,
    Auctioneer,
    Award,
    Call,
    Cancel,
    Cleared,
    Complete,
    OrderEvent,
    OrderReply,
    OrderView,
    Place,
    PostOrder,
    Presence,
    Receipt,
    Settle,
    StatusReply,
    StatusRequest,
    StepEvidence,
    WirePose,
)

CREDIT_UC = 10**6
AGAIN_S = 2.0
"""What has got no answer is said again after this long, under the same id."""


@dataclass(slots=True)
class Shop:
    """What is known of one zone."""

    zone: ZoneId
    epoch: int = 0
    """The latest that was announced."""
    cleared: list[tuple[float, int]] = field(default_factory=list)
    """When each batch was seen to be cleared (monotonic), and under which epoch."""
    order: OrderId | None = None
    """The one that is under way."""
    posted: int = 0
    settled: int = 0
    unanswered: dict[MessageId, tuple[str, AnyBody]] = field(default_factory=dict)
    completed: dict[ContractId, MessageId] = field(default_factory=dict)

    @property
    def robot(self) -> RobotId:
        """The zone's robot."""
        return RobotId(f"r-{self.zone}")

    def note(self, view: OrderView) -> None:
        """Take note of how an order stands."""
        if view.order == self.order and view.state.final:
            self.order = None

    def first_clear_after(self, instant: float) -> float | None:
        """Return when the first batch under a later epoch than that of `instant` was cleared, None if none was."""
        before = max((epoch for at, epoch in self.cleared if at <= instant), default=0)
        return next((at for at, epoch in self.cleared if at > instant and epoch > before), None)


class ZoneBusiness:
    """Trades in zones; run it as a task.

    Parameters
    ----------
    host, port
        The MQTT broker.
    zones : iterable of ZoneId
    pickup, dropoff : str
        Places of every zone.
    customer : CustomerId
        Has money in every zone.
    """

    def __init__(
        self, host: str, port: int, zones: Iterable[ZoneId], pickup: str, dropoff: str, customer: CustomerId
    ) -> None:
        self.shops = {zone: Shop(zone) for zone in zones}
        self.open = True
        """Whether new orders are posted."""
        self.stale_awards = 0
        """Awards of a market that had been replaced already: a robot takes no notice of them."""
        self._places, self._customer = (pickup, dropoff), customer
        filters = ("zone/+/#", "to/+/#", "view/+/cleared", "view/+/order", "out/+/#")
        self._transport = MqttTransport(
            MqttConfig(host, port, "business"), [(f"{topics.PREFIX}/{f}", 1) for f in filters], [self._greet]
        )

    async def run(self) -> None:
        """Trade until cancelled."""
        async with self._transport as transport, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(), name="repeat")
            async for delivery in transport.deliveries():
                delivery.ack()
                if delivery.payload:
                    await self._hear(delivery.topic, decode(delivery.payload, limit=MAX_OUTBOUND_BYTES))

    def idle(self) -> bool:
        """Return whether no order is under way and nothing is left to be said."""
        return all(shop.order is None and not shop.unanswered for shop in self.shops.values())

    async def _greet(self) -> None:
        for shop in self.shops.values():
            announce = Announce(
                zone=shop.zone,
                owner=OwnerId("acme"),
                robot_type="t",
                max_payload_kg=9.0,
                max_speed_mps=1.0,
                battery_wh=480.0,
            )
            for kind, body in (("announce", announce), ("presence", Presence(status="online", zone=shop.zone))):
                name = MessageId(f"{kind}-{time.time_ns()}")
                await self._say(topics.state(shop.robot, kind), body, shop.robot, name, retain=True)

    async def _repeat(self) -> None:
        while True:
            for shop in self.shops.values():
                for name, (topic, body) in list(shop.unanswered.items()):
                    await self._say(topic, body, topics.parse(topic).name, name)
                if self.open and shop.order is None and shop.epoch:
                    await self._post(shop)
            await asyncio.sleep(AGAIN_S)

    async def _post(self, shop: Shop) -> None:
        shop.posted += 1
        shop.order = OrderId(f"{shop.zone}-{shop.posted}")
        order = PostOrder(
            order=shop.order, pickup=self._places[0], dropoff=self._places[1], payload_kg=1.0, deadline_s=600.0,
            max_price_uc=8 * CREDIT_UC,
        )  # fmt: skip
        await self._insist(shop, topics.from_customer(self._customer, "order", shop.zone), order, f"post-{shop.order}")

    async def _hear(self, topic: str, message: Envelope) -> None:
        address = topics.parse(topic)
        name = address.name.removeprefix("r-") if address.direction == "to" else address.name
        shop = self.shops.get(ZoneId(name)) if address.direction != "out" else None
        match message.body:
            case OrderReply(order=order):
                self.shops[ZoneId(order.rpartition("-")[0])].unanswered.pop(MessageId(f"post-{order}"), None)
            case StatusReply(orders=(view,)) if message.corr is not None:
                shop = self.shops[ZoneId(view.order.rpartition("-")[0])]
                shop.unanswered.pop(message.corr, None)
                shop.note(view)
            case Auctioneer(epoch=epoch) if shop is not None and epoch > shop.epoch:
                shop.epoch = epoch
                await self._ask_again(shop)
            case Call() as call if shop is not None:
                await self._ask(shop, call)
            case Award() as award if shop is not None and award.epoch < shop.epoch:
                self.stale_awards += 1
            case Award() as award if shop is not None:
                await self._work(shop, award)
            case (Settle() | Cancel()) as end if shop is not None:
                await self._end(shop, message.id, end)
            case Receipt(of=of) if shop is not None:
                if not of.startswith("complete-"):
                    shop.unanswered.pop(MessageId(of), None)
            case OrderEvent(view=view) if shop is not None:
                shop.note(view)
            case Cleared(call=call) if shop is not None:
                shop.cleared.append((time.monotonic(), int(call.split(":")[1])))
            case _:
                pass

    async def _ask_again(self, shop: Shop) -> None:
        """Ask a market that has just opened how the order stands: the one before it may have died before it told."""
        if shop.order is not None and MessageId(f"post-{shop.order}") not in shop.unanswered:
            question = StatusRequest(what="orders", order=shop.order)
            topic = topics.from_customer(self._customer, "status", shop.zone)
            await self._insist(shop, topic, question, f"status-{shop.order}-{shop.epoch}")

    async def _ask(self, shop: Shop, call: Call) -> None:
        ask = CREDIT_UC
        lines = tuple(
            AskLine(lot=n, ask_uc=ask, parts_uc=(ask, *(0,) * (len(ASK_PARTS) - 1)), energy_j=1.0, finish_ns=call.close_ns)
            for n in range(len(call.lots))
        )
        body = Ask(call=call.call, round=call.round, asks=lines)
        name = MessageId(f"ask-{call.call}-{call.round}")
        await self._say(topics.from_robot(shop.robot, shop.zone, "ask"), body, shop.robot, name)

    async def _work(self, shop: Shop, award: Award) -> None:
        contract = award.contract
        accept = Accept(contract=contract)
        await self._insist(shop, topics.from_robot(shop.robot, shop.zone, "accept"), accept, f"accept-{contract}")
        goals: tuple[tuple[str, Place], ...] = (("pickup", award.pickup), ("dropoff", award.dropoff))
        steps = tuple(
            StepEvidence.model_validate(
                {"kind": kind, "pose": WirePose(x=goal.x + goal.keep_off_m, y=goal.y), "at_ns": time.time_ns()}
            )
            for kind, goal in goals
        )
        done = Complete(contract=contract, steps=steps, energy_j=1.0)
        name = f"complete-{contract}"
        shop.completed[contract] = MessageId(name)
        await self._insist(shop, topics.from_robot(shop.robot, shop.zone, "complete"), done, name)

    async def _end(self, shop: Shop, message: MessageId, end: Settle | Cancel) -> None:
        shop.settled += isinstance(end, Settle) and end.contract in shop.completed
        for name in (shop.completed.pop(end.contract, None), MessageId(f"accept-{end.contract}")):
            if name is not None:
                shop.unanswered.pop(name, None)
        topic = topics.from_robot(shop.robot, shop.zone, "receipt")
        await self._say(topic, Receipt(of=message), shop.robot, MessageId(f"receipt-{message}"))

    async def _insist(self, shop: Shop, topic: str, body: AnyBody, name: str) -> None:
        shop.unanswered[MessageId(name)] = topic, body
        await self._say(topic, body, topics.parse(topic).name, MessageId(name))

    async def _say(self, topic: str, body: AnyBody, source: str, name: MessageId, *, retain: bool = False) -> None:
        message = Envelope(id=name, ts=0, src=Identifier(source), body=body)
        with contextlib.suppress(BrokerError):
            await self._transport.publish(topic, encode(message), retain=retain)
