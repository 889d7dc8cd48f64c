"""Where messages wait that have arrived: a lane for each session, and the lanes take turns.

Whoever sends much fills its own lane. What is refused is acknowledged no faster than the brake allows, so that the broker
keeps the rest of a flood in the flooder's own queue instead of spending this process's time on it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fleet_market.ports import Delivery

MAX_REFUSED_PER_S = 500.0
"""Refused messages that one process takes off the broker: at some 0.25 ms each, an eighth of a core."""

Ack = Callable[[], None]


class FairQueue:
    """Deliveries in lanes; `get` takes one of each lane in turn, within a lane in the order of arrival."""

    def __init__(self) -> None:
        self._ready: deque[Lane] = deque()
        self._some = asyncio.Event()
        self.lanes: list[Lane] = []

    def lane(self, most: int) -> Lane:
        """Return a new lane, full with `most` deliveries."""
        self.lanes.append(made := Lane(self, most))
        return made

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    async def get(self) -> Delivery:
        """Return the next delivery; wait for one if there is none."""
        while not self._ready:
            self._some.clear()
            await self._some.wait()
        lane = self._ready.popleft()
        delivery = lane.waiting.popleft()
        if lane.waiting:
            self._ready.append(lane)
        return delivery

    def announce(self, lane: Lane) -> None:
        """Take note that an empty lane has got a delivery."""
        self._ready.append(lane)
        self._some.set()


class Lane:
    """What one session has brought and nobody has taken yet.

    Of QoS 1 the broker sends no more than the session's receive maximum before an answer; QoS 0 is dropped when it is
    `full`.
    """

    def __init__(self, queue: FairQueue, most: int) -> None:
        self.queue, self.most = queue, most
        self.waiting: deque[Delivery] = deque()

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def full(self) -> bool:
        """Whether there is no room for what may be dropped."""
        return len(self.waiting) >= self.most

    def put(self, delivery: Delivery) -> None:
        """Append a delivery."""
        self.waiting.append(delivery)
        if len(self.waiting) == 1:
            self.queue.announce(self)


class Brake:
    """Acknowledges what was refused, at a bounded rate for all sessions together."""

    def __init__(self, rate_per_s: float = MAX_REFUSED_PER_S) -> None:
        self._period_s, self._next_s = 1.0 / rate_per_s, 0.0

    def __call__(self, ack: Ack, weight: int = 1) -> None:
        """Call `ack` when it is its turn; `weight` is how many messages the broker may send upon it."""
        loop = asyncio.get_running_loop()
        begin_s = max(self._next_s, loop.time())
        self._next_s = begin_s + weight * self._period_s
        loop.call_at(begin_s, ack)


def at_once(ack: Ack) -> None:
    """Acknowledge without a brake."""
    ack()


def everything(_topic: str) -> bool:
    """Want every message."""
    return True


@dataclass(frozen=True, slots=True)
class Intake:
    """What a session does with messages that arrive."""

    lane: Lane
    refuse: Callable[[Ack], None] = at_once
    """Acknowledges what is not wanted, or was refused by the guard."""
    wanted: Callable[[str], bool] = everything
    """By its topic; what is not wanted is not read."""
