"""The sessions of one zone's market on the MQTT broker, as one transport.

A broker keeps one queue per session: who shares a session with a flood waits behind it. So every robot has a session of
its own (beyond `ROBOT_SESSIONS` robots they share them by hash), apart from those of customers and newcomers, and the
messages that have arrived are taken from the sessions in turn. Each robot's messages come through one session, in order.

A robot is heard from the moment when its announcement is stored. The order in which the market knows its robots says which
session is whose, so that the next holder of the zone takes over the same sessions, with all that waits in them.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Self

from fleet_market.adapters.guard import Guard, Listener
from fleet_market.adapters.intake import Brake, FairQueue, Intake, Lane, everything
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.ids import RobotId, ZoneId
from fleet_market.ports import Delivery, Publisher
from fleet_market.protocol import topics
from fleet_market.protocol.gate import Limits
from fleet_market.protocol.registry import CUSTOMERS, FIRST_ROBOT, NEWCOMERS, ROBOT_SESSIONS, session_name

NEWCOMER_LIMITS = Limits(rate_per_s=1.0, burst=20.0)
"""What a robot may say that is not known yet: it announces itself once per connection."""
RECEIVE_MAXIMUM, SHARED_RECEIVE_MAXIMUM = 1, 4
"""What the broker sends before an answer: in a robot's session, and in those of all customers and of all announcements.

Mosquitto sends as many again after every answer, not after as many answers (measured on 2.0.11: of 960 messages, with
a maximum of 16, it sent all after 59 answers), so that only 1 is a bound. It lets a robot say as much as the store
commits one after the other, some 50 messages a second. With more, it is the brake that bounds what rubbish costs.
"""
MAX_LANE = 1000


class Ingress:
    """Implements `fleet_market.ports.Transport`; use as an async context manager.

    Parameters
    ----------
    config : MqttConfig
        Of the session that publishes.
    zone : ZoneId
    guard : Guard
        Of that session; the others share its gate.
    robots : collection of RobotId
        The market's own, in the order in which it got to know them; looked at again whenever one is added.
    clock : bool
        Whether a simulator's clock is to be heard.
    brake : Brake
        Shared by all zones of the process.
    greet : coroutine function
        Awaited whenever the session that publishes has been connected.
    connect : callable
        Makes the transport of one session.
    """

    def __init__(
        self,
        config: MqttConfig,
        zone: ZoneId,
        guard: Guard,
        robots: Collection[RobotId],
        brake: Brake,
        *,
        clock: bool = False,
        greet: Callable[[Publisher], Awaitable[None]] | None = None,
        connect: Callable[..., MqttTransport] = MqttTransport,
    ) -> None:
        self._config, self._zone, self._guard, self._robots, self._brake = config, zone, guard, robots, brake
        self._connect, self._queue = connect, FairQueue()
        self._known: set[str] = set()
        self._sessions: dict[int, MqttTransport] = {}
        self._newcomers = guard.gate.another(NEWCOMER_LIMITS)
        heard = [(topics.CLOCK, 0)] if clock else []
        greeting = [] if greet is None else [lambda: greet(self)]
        self._main = connect(config, heard, greeting, guard, Intake(self._queue.lane(MAX_LANE)))

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._holders = [self._tasks.create_task(_hold(self._main), name=self._config.client_id)]
        self._open(NEWCOMERS, topics.state("+", "announce"), lane=_Newcomers(self._queue, self._admit_up_to))
        self._open(CUSTOMERS, topics.from_customer("+", "#", self._zone))
        self._admit(self._robots)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for holder in self._holders:
            holder.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    async def connected(self) -> None:
        """Wait until every session stands that there is now."""
        for session in [self._main, *self._sessions.values()]:
            await session.connected.wait()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish one message; see `MqttTransport.publish`."""
        await self._main.publish(topic, payload, qos=qos, retain=retain)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield what arrives, one of each session in turn."""
        while True:
            yield await self._queue.get()

    def state(self) -> tuple[bool, str]:
        """Return whether every session stands, and if not, what is wrong."""
        broken = [s for s in (self._main, *self._sessions.values()) if not s.connected.is_set()]
        return not broken, broken[0].trouble if broken else ""

    def waiting(self) -> int:
        """Return how many deliveries wait to be taken."""
        return len(self._queue)

    def _open(self, number: int, *filters: str, lane: Lane | None = None) -> None:
        guard, newcomers = self._guard, number == NEWCOMERS
        most = RECEIVE_MAXIMUM if number >= FIRST_ROBOT else SHARED_RECEIVE_MAXIMUM
        lane = self._queue.lane(MAX_LANE) if lane is None else lane
        self._sessions[number] = session = self._connect(
            replace(self._config, client_id=session_name(self._zone, number), will=None, receive_maximum=most),
            [(f, 1) for f in filters],
            guard=Listener(guard, guard.session_tls(number), self._newcomers if newcomers else None),
            intake=Intake(lane, partial(self._brake, weight=most), self._unknown if newcomers else everything),
        )
        self._holders.append(self._tasks.create_task(_hold(session), name=session.config.client_id))

    def _admit(self, robots: Collection[RobotId]) -> None:
        for robot in robots:
            number = FIRST_ROBOT + session_of(robot, len(self._known))
            self._known.add(robot)
            filters = topics.state(robot, "#"), topics.from_robot(robot, self._zone, "#")
            if number in self._sessions:
                self._tasks.create_task(self._sessions[number].subscribe([(f, 1) for f in filters]))
            else:
                self._open(number, *filters)

    def _admit_up_to(self, name: str) -> None:
        """Hear a robot whose announcement is stored, and those that became known before it."""
        if name in self._known or name not in self._robots:
            return
        unheard = list(islice(self._robots, len(self._known), None))
        self._admit(unheard[: unheard.index(RobotId(name)) + 1])

    def _unknown(self, topic: str) -> bool:
        return topics.parse(topic).name not in self._known


def session_of(robot: RobotId, before: int) -> int:
    """Return which of the robots' sessions is that of a robot before which the market has known `before` others."""
    return before if before < ROBOT_SESSIONS else zlib.crc32(robot.encode()) % ROBOT_SESSIONS


class _Newcomers(Lane):
    """Admits a robot when its announcement has taken effect."""

    def __init__(self, queue: FairQueue, admit: Callable[[str], None]) -> None:
        super().__init__(queue, MAX_LANE)
        self._admit = admit
        queue.lanes.append(self)

    def put(self, delivery: Delivery) -> None:
        def ack() -> None:
            delivery.ack()
            self._admit(topics.parse(delivery.topic).name)

        super().put(replace(delivery, ack=ack))


async def _hold(session: MqttTransport) -> None:
    async with session:
        await asyncio.Event().wait()
