"""A customer's session with the market that comes back by itself, for nodes of ROS users."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from functools import partial
from pathlib import Path

from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.adapters.requests import Reply, Requester
from fleet_market.errors import BrokerError, ReplyTimeoutError
from fleet_market.ids import CustomerId, OrderId, ZoneId
from fleet_market.protocol.messages import AnyBody, OrderView

log = logging.getLogger("customers")

RETRY_S = 2.0


class Customer:
    """Asks in the name of one customer, and hands out what happens to his orders.

    Parameters
    ----------
    mqtt : str
        HOST:PORT.
    customer : CustomerId
    zone : ZoneId
    keys : Path, optional
    timeout_s : float
        For each answer.
    """

    def __init__(self, mqtt: str, customer: CustomerId, zone: ZoneId, keys: Path | None, timeout_s: float) -> None:
        host, port = parse_endpoint(mqtt)
        self._new = partial(Requester, host, port, customer, timeout_s=timeout_s, keys=keys, zone=zone)
        self._requester: Requester | None = None
        self._listeners: defaultdict[OrderId, list[asyncio.Queue[OrderView]]] = defaultdict(list)

    @property
    def online(self) -> bool:
        """Whether there has been a connection; one that breaks comes back by itself."""
        return self._requester is not None

    async def run(self) -> None:
        """Keep the session until cancelled."""
        while True:
            try:
                async with self._new() as requester:
                    self._requester = requester
                    log.info("READY")
                    async for view in requester.events():
                        for queue in self._listeners.get(view.order, ()):
                            queue.put_nowait(view)
            except BrokerError as error:
                log.warning("%s", error)
            finally:
                self._requester = None
            await asyncio.sleep(RETRY_S)

    async def ask(self, kind: str, body: AnyBody, answer: type[Reply]) -> Reply | None:
        """Return the market's answer, None if it does not answer."""
        if self._requester is None:
            return None
        try:
            return await self._requester.ask(kind, body, answer)
        except (BrokerError, ReplyTimeoutError) as error:
            log.warning("%s", error)
            return None

    async def view(self, order: OrderId) -> OrderView | None:
        """Return how an order stands, None if the market does not answer or knows none."""
        if self._requester is None:
            return None
        try:
            found = (await self._requester.status("orders", order)).orders
        except (BrokerError, ReplyTimeoutError):
            return None
        return found[0] if found else None

    def listen(self, order: OrderId) -> asyncio.Queue[OrderView]:
        """Return a queue of all that happens to an order from now on; `leave` it in the end."""
        queue: asyncio.Queue[OrderView] = asyncio.Queue()
        self._listeners[order].append(queue)
        return queue

    def leave(self, order: OrderId, queue: asyncio.Queue[OrderView]) -> None:
        """Want to hear no more."""
        self._listeners[order].remove(queue)
        if not self._listeners[order]:
            del self._listeners[order]
