"""Ask the market something over MQTT and wait for the answer.

What happens to orders is told once, and lost for whoever is not connected then, or if the market dies between deciding and
telling. So orders that a customer has posted or asked for are asked for again whenever the market opens, and when a lost
connection is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeVar

from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.errors import BrokerError, ProtocolError, ReplyTimeoutError
from fleet_market.ids import MAIN_ZONE, CustomerId, Identifier, MessageId, OrderId, ZoneId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    AnyBody,
    Auctioneer,
    Body,
    OrderEvent,
    OrderReply,
    OrderView,
    StatusReply,
    StatusRequest,
)
from fleet_market.protocol.registry import Role

REPEAT_S = 1.0
"""A request without an answer is sent again after this long, under the same id."""
Reply = TypeVar("Reply", bound=Body)


@dataclass(frozen=True, slots=True)
class _Question:
    answer: asyncio.Future[Body]
    follows: bool
    """Whether the orders in the answer are followed from then on."""
    catches_up: bool
    """Whether they are events too."""


class Requester:
    """A customer on the wire; use as an async context manager.

    Parameters
    ----------
    host, port
        The MQTT broker.
    customer : CustomerId
        In whose name.
    timeout_s : float
        How long to wait for a connection and for each answer.
    keys : Path, optional
        Folder of keys; without keys the MQTT broker must be on the loopback interface.
    zone : ZoneId
        Whose market is asked.
    """

    def __init__(
        self,
        host: str,
        port: int,
        customer: CustomerId,
        *,
        timeout_s: float = 10.0,
        keys: Path | None = None,
        zone: ZoneId = MAIN_ZONE,
    ) -> None:
        client = f"{customer}-{secrets.token_hex(4)}"
        self._customer, self._zone, self._timeout_s = customer, zone, timeout_s
        self._where = f"{host}:{port}"
        self._transport = MqttTransport(
            MqttConfig(host, port, client),
            [(topics.to_customer(customer, "#"), 1), (topics.view(zone, "order"), 1), (topics.zone(zone, "auctioneer"), 1)],
            [self._connected],
            guard=guard_for(keys, Role.CUSTOMER, customer, host),
        )
        self._waiting: dict[MessageId, _Question] = {}
        self._followed: dict[OrderId, OrderView] = {}
        """Orders that were posted or asked for and are not over, as they were last told."""
        self._catching_up: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[OrderView] = asyncio.Queue(10_000)

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        await self._stack.__aenter__()
        try:
            self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
            self._stack.callback(self._end_catching_up)
            await self._stack.enter_async_context(self._transport)
            listener = self._tasks.create_task(self._listen(), name="answers")
            self._stack.callback(listener.cancel)
            async with asyncio.timeout(self._timeout_s):
                await self._transport.connected.wait()
        except asyncio.CancelledError:
            await self._stack.aclose()
            raise
        except TimeoutError:
            await self._stack.aclose()
            mend = "start `fleet-market broker`, or name the MQTT broker with --mqtt HOST:PORT"
            trouble = f" ({self._transport.trouble})" if self._transport.trouble else ""
            raise BrokerError(f"no MQTT broker answers at {self._where}: {mend}{trouble}") from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def ask(self, kind: str, body: AnyBody, answer: type[Reply]) -> Reply:
        """Send `body` on the customer's topic `kind` until the market answers.

        Raises
        ------
        ReplyTimeoutError
            If no answer arrives in time.
        """
        return await self._ask(kind, body, answer)

    async def _ask(self, kind: str, body: AnyBody, answer: type[Reply], *, catches_up: bool = False) -> Reply:
        name, topic = MessageId(secrets.token_hex(10)), topics.from_customer(self._customer, kind, self._zone)
        payload = encode(Envelope(id=name, ts=0, src=Identifier(self._customer), body=body))
        future: asyncio.Future[Body] = asyncio.get_running_loop().create_future()
        follows = not (isinstance(body, StatusRequest) and body.order is None)
        self._waiting[name] = _Question(future, follows, catches_up)
        try:
            async with asyncio.timeout(self._timeout_s):
                while not future.done():
                    with contextlib.suppress(BrokerError):
                        await self._transport.publish(topic, payload)
                    await asyncio.wait([future], timeout=REPEAT_S)
        except TimeoutError:
            raise ReplyTimeoutError(f"the market did not answer within {self._timeout_s:g} s: is it running?") from None
        finally:
            del self._waiting[name]
        reply = future.result()
        if not isinstance(reply, answer):
            raise ProtocolError("unexpected", f"the market answered with {type(reply).__name__}")
        return reply

    async def status(
        self, what: Literal["robots", "orders", "ledger", "oracles"], order: OrderId | None = None
    ) -> StatusReply:
        """Return how things stand, whole: page after page is asked for and put together.

        Raises
        ------
        ReplyTimeoutError
            If an answer does not arrive in time.
        """
        whole = page = await self.ask("status", StatusRequest(what=what, order=order), StatusReply)
        while page.more:
            last = page.robots[-1].robot if what == "robots" else page.orders[-1].order
            page = await self.ask("status", StatusRequest(what=what, order=order, after_id=last), StatusReply)
            longer = {"robots": whole.robots + page.robots, "orders": whole.orders + page.orders}
            whole = whole.model_copy(update=longer | {"more": page.more})
        return whole

    async def events(self) -> AsyncIterator[OrderView]:
        """Yield orders as they change.

        An order that this customer has posted or asked for may skip states, if the connection or the market was away.
        """
        while True:
            yield await self._events.get()

    async def _listen(self) -> None:
        async for delivery in self._transport.deliveries():
            delivery.ack()
            if not delivery.payload:
                continue
            try:
                message = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
            except ProtocolError:
                continue
            match message.body:
                case OrderEvent(view=view):
                    if view.order not in self._followed or self._notes(view):
                        await self._events.put(view)
                case Auctioneer(status=status):
                    if status != "closed":
                        self._catch_up()
                case body if message.corr is not None and (question := self._waiting.get(message.corr)) is not None:
                    await self._answered(question, body)

    async def _answered(self, question: _Question, body: Body) -> None:
        if question.answer.done():
            return
        question.answer.set_result(body)
        if not question.follows:
            return
        match body:
            case OrderReply(view=OrderView() as view):
                views: tuple[OrderView, ...] = (view,)
            case StatusReply(orders=views):
                pass
            case _:
                return
        for view in views:
            if self._notes(view) and question.catches_up:
                await self._events.put(view)

    def _notes(self, view: OrderView) -> bool:
        """Take note of an order that is followed; return whether it has changed."""
        if view == self._followed.get(view.order):
            return False
        self._followed[view.order] = view
        if view.state.final:
            del self._followed[view.order]
        return True

    async def _connected(self) -> None:
        self._catch_up()

    def _catch_up(self) -> None:
        self._end_catching_up()
        self._catching_up = self._tasks.create_task(self._ask_again(), name="catch up")

    async def _ask_again(self) -> None:
        for order in list(self._followed):
            while order in self._followed:
                with contextlib.suppress(ReplyTimeoutError):
                    await self._ask("status", StatusRequest(what="orders", order=order), StatusReply, catches_up=True)
                    break

    def _end_catching_up(self) -> None:
        if self._catching_up is not None:
            self._catching_up.cancel()
