"""The robots of a burst through the daemon: one process with a connection of its own for each of them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks._burst_site import ZONE, Site, SiteRobot
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.errors import BrokerError
from fleet_market.ids import Identifier, MessageId, derive
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import AnyBody, Call, Presence
from fleet_market.robot.effects import Say

HOST, KEEPALIVE_S, SENSE_S = "127.0.0.1", 60, 1.0
AGAIN_S = 0.1
CLOSE = re.compile(rb'"type":"call".*?"close_ns":([0-9]+)')
"""When a call ends. A robot with a computer of its own is never so late; here it is to cost nothing when it is."""
JOINING = 50
"""Robots that connect at once."""


@dataclass(slots=True)
class Heard:
    """What the robots have said and heard."""

    sent: Counter[str] = field(default_factory=Counter)
    """Messages to the market, by kind."""
    received: Counter[str] = field(default_factory=Counter)
    """Messages of the market, once for each who hears them."""
    rounds: int = 0
    late: int = 0
    """Calls that were heard when they were over."""
    asks: int = 0
    """Lots that robots have priced."""
    cpu_s: float = 0.0
    """Of this process, without what pricing would cost the robots."""


def run_robots(site: Site, port: int, ask_cost_s: float, pipe: Connection) -> None:
    """Be the robots of `site`: tell the pipe when all have joined, and what they heard when it says anything."""
    heard = asyncio.run(_Robots(site, port, ask_cost_s).run(pipe))
    pipe.send(heard)


class _Robots:
    def __init__(self, site: Site, port: int, ask_cost_s: float) -> None:
        self._site, self._port, self._ask_cost_s = site, port, ask_cost_s
        self._heard = Heard()
        self._joining = asyncio.Semaphore(JOINING)

    async def run(self, pipe: Connection) -> Heard:
        """Run until the pipe says something."""
        robots = [SiteRobot(self._site, number) for number in range(self._site.size.robots)]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
        async with contextlib.AsyncExitStack() as stack:
            transports = await asyncio.gather(*(self._join(robot.id, number, stack) for number, robot in enumerate(robots)))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = []
            for robot, transport in zip(robots, transports, strict=True):
                running.append(tasks.create_task(self._listen(transport, robot, tasks), name=f"{robot.id} listens"))
                running.append(tasks.create_task(self._sense(transport, robot), name=f"{robot.id} senses"))
            pipe.send("ready")
            begun = time.process_time()
            await stop.wait()
            self._heard.cpu_s = time.process_time() - begun
            for task in running:
                task.cancel()
        self._heard.asks = sum(robot.asks for robot in robots)
        return self._heard

    async def _join(self, name: str, number: int, stack: contextlib.AsyncExitStack) -> MqttTransport:
        lost = message(name, Presence(status="lost", zone=ZONE), MessageId(derive("will", name)))
        will = Will(topics.state(name, "presence"), lost)
        config = MqttConfig(HOST, self._port, name, will, keepalive_s=KEEPALIVE_S)
        filters = [(topics.to_robot(name, "#"), 1), (topics.zone(ZONE, "#"), 1)]
        async with self._joining:
            transport = await stack.enter_async_context(MqttTransport(config, filters))
            await transport.connected.wait()
            for kind, body in (("announce", self._site.announce(number)), ("presence", self._site.present())):
                hello = message(name, body, MessageId(derive(kind, name)))
                await insist(transport, topics.state(name, kind), hello, retain=True)
        return transport

    async def _listen(self, transport: MqttTransport, robot: SiteRobot, tasks: asyncio.TaskGroup) -> None:
        heard = self._heard
        async for delivery in transport.deliveries():
            delivery.ack()
            if (close := CLOSE.search(delivery.payload)) is not None and int(close[1]) <= time.time_ns():
                heard.received["call"] += 1
                heard.late += 1
                continue
            said = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
            heard.received[topics.parse(delivery.topic).kind] += 1
            now_ns, later_s = time.time_ns(), 0.0
            if isinstance(said.body, Call):
                later_s = self._ask_cost_s * len(said.body.lots)
                heard.rounds = max(heard.rounds, said.body.round)
            answer = robot.hear(said.id, said.body, now_ns)
            tasks.create_task(self._say(transport, robot, answer, later_s), name=f"{robot.id} answers")

    async def _sense(self, transport: MqttTransport, robot: SiteRobot) -> None:
        while True:
            await self._say(transport, robot, robot.sense(time.time_ns()))
            await asyncio.sleep(SENSE_S)

    async def _say(self, transport: MqttTransport, robot: SiteRobot, said: list[Say], later_s: float = 0.0) -> None:
        if later_s:
            await asyncio.sleep(later_s)
        for say in said:
            self._heard.sent[say.kind] += 1
            with contextlib.suppress(BrokerError):  # said again by the agent if it must arrive
                payload = message(robot.id, say.body, say.id)
                await transport.publish(topics.from_robot(robot.id, ZONE, say.kind), payload)


async def insist(transport: MqttTransport, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Publish a message, again and again until the broker confirms it: on a busy machine that takes its time."""
    while True:
        with contextlib.suppress(BrokerError):
            await transport.publish(topic, payload, retain=retain)
            return
        await asyncio.sleep(AGAIN_S)


def message(name: str, body: AnyBody, message_id: MessageId) -> bytes:
    """Return a message as it goes over the wire."""
    return encode(Envelope(id=message_id, ts=time.time_ns(), src=Identifier(name), sid=1, body=body))
