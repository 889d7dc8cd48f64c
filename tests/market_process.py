"""A market daemon as a process of its own, in a hall of 8 m by 5 m, and whoever speaks to it."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from fleet_market.adapters.control import Request, ask
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.errors import BrokerError, ControlError
from fleet_market.ids import Identifier, MessageId, OrderId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import (
    Accept,
    Announce,
    Ask,
    AskLine,
    Award,
    Call,
    Complete,
    PostOrder,
    Presence,
    Receipt,
    Settle,
    StepEvidence,
    WirePose,
)

FLEET = """\
map: hall.yaml
customers: {ann: 100}
market: {batch_s: 0.3}
places: {dock: 1.5;1.5, shelf: 6;3}
robots: [{id: r1, type: carrier}]
"""
MAP = "image: hall.pgm\nresolution: 0.05\norigin: [0, 0, 0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"
PATIENT = ", answer_s: 60, open_s: 60"
"""Terms of a market whose oracles are on a busy machine."""
PROGRAM = [sys.executable, "-m", "fleet_market"]


def make_hall(folder):
    """Write a map and a fleet file; returns the fleet file."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((100, 160), 254, dtype=np.uint8)
    pixels[[0, -1], :] = pixels[:, [0, -1]] = 0
    Image.fromarray(pixels).save(folder / "hall.pgm")
    (folder / "hall.yaml").write_text(MAP)
    (folder / "fleet.yaml").write_text(FLEET)
    return folder / "fleet.yaml"


def cli(*arguments, code=0, env=None, cwd=None):
    """Run a command to its end; returns what it printed."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


class Daemon:
    """``fleet-market broker`` in a process; use as a context manager. `terms` are those of its market, beside `FLEET`'s."""

    def __init__(self, folder, mqtt, *options, database=None, env=None, prefix=(), terms=""):
        self.fleet, self.database = make_hall(folder), database or folder / "market.db"
        self.fleet.write_text(FLEET.replace("batch_s: 0.3", f"batch_s: 0.3{terms}"))
        self.control = folder / "control"
        self.command = [
            *prefix, *PROGRAM, "broker", "--fleet", self.fleet, "--database", self.database, "--control", self.control,
            "--mqtt", f"{mqtt.host}:{mqtt.port}", *options,
        ]  # fmt: skip
        self.env, self.log, self.out = {**os.environ, **(env or {})}, folder / "log", folder / "out"

    def __enter__(self):
        self.process = subprocess.Popen(
            [*map(str, self.command)], env=self.env, stdout=self.out.open("w"), stderr=self.log.open("a")
        )
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait_ready(self):
        self.wait_for(lambda: "READY market main" in self.out.read_text())
        return self

    def wait_for(self, condition, within_s=60.0):
        deadline = time.monotonic() + within_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self, within_s=60.0):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def ask(self, command, **more):
        """Ask as the operator's commands do; returns the status of the only zone."""
        (zone,) = ask(self.control, Request(command=command, **more)).zones
        return zone

    def sees(self, **wanted):
        """Whether the status answers, and every field is as `wanted`."""
        with contextlib.suppress(ControlError):
            zone = self.ask("status")
            return all(getattr(zone, name) == value for name, value in wanted.items())


class Peer:
    """A robot or a customer on the wire, whose every message is repeated until the MQTT broker has it."""

    def __init__(self, mqtt, name, *filters, on_connect=()):
        self.name, self.numbers = name, itertools.count()
        self.transport = MqttTransport(
            MqttConfig(mqtt.host, mqtt.port, name, session_expiry_s=600), [(f, 1) for f in filters], on_connect
        )

    async def say(self, topic, body):
        message = Envelope(id=MessageId(f"{self.name}-{next(self.numbers)}"), ts=0, src=Identifier(self.name), body=body)
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(BrokerError):
                    return await self.transport.publish(topic, encode(message), retain="/state/" in topic)
                await asyncio.sleep(0.05)


class Robot(Peer):
    """Asks one credit for everything, accepts every award, confirms what must be confirmed."""

    def __init__(self, mqtt):
        super().__init__(mqtt, "r1", topics.to_robot("r1", "#"), topics.zone("main", "#"), on_connect=[self.announce])
        self.awards, self.settled, self.calls = [], [], 0

    async def announce(self):
        spec = {"owner": "acme", "robot_type": "t", "max_payload_kg": 9.0, "max_speed_mps": 1.0, "battery_wh": 480.0}
        await self.say(topics.state("r1", "announce"), Announce(zone="main", **spec))
        await self.say(topics.state("r1", "presence"), Presence(status="online", zone="main"))

    async def work(self):
        async for delivery in self.transport.deliveries():
            delivery.ack()
            message = decode(delivery.payload, limit=10**6)
            match message.body:
                case Call() as call:
                    self.calls += 1
                    asks = tuple(
                        AskLine(lot=i, ask_uc=10**6, parts_uc=(10**6, *(0,) * 8), energy_j=1.0, finish_ns=call.close_ns)
                        for i in range(len(call.lots))
                    )
                    await self.say(topics.from_robot("r1", "main", "ask"), Ask(call=call.call, round=call.round, asks=asks))
                case Award() as award:
                    if award.contract not in [known.contract for known in self.awards]:
                        self.awards.append(award)
                    await self.say(topics.from_robot("r1", "main", "accept"), Accept(contract=award.contract))
                case Settle() as settle:
                    self.settled.append(settle.order)
                    await self.say(topics.from_robot("r1", "main", "receipt"), Receipt(of=message.id, result="ok"))

    async def complete(self, award, at_ns):
        steps = tuple(
            StepEvidence(kind=kind, pose=WirePose(x=place.x + place.keep_off_m, y=place.y), at_ns=at_ns)
            for kind, place in (("pickup", award.pickup), ("dropoff", award.dropoff))
        )
        body = Complete(contract=award.contract, steps=steps, energy_j=5.0)
        await self.say(topics.from_robot("r1", "main", "complete"), body)


@contextlib.asynccontextmanager
async def robot_and_customer(mqtt):
    """A robot that works by itself, and ann, who says what the test has her say."""
    robot, ann = Robot(mqtt), Peer(mqtt, "ann", topics.to_customer("ann", "#"))
    async with robot.transport, ann.transport, asyncio.TaskGroup() as tasks:
        work = tasks.create_task(robot.work())
        yield robot, ann
        work.cancel()


async def post(ann, name, deadline_s=600.0):
    order = PostOrder(
        order=OrderId(name), pickup="dock", dropoff="shelf", payload_kg=1.0, deadline_s=deadline_s, max_price_uc=2 * 10**6
    )
    await ann.say(topics.from_customer("ann", "order"), order)


async def until(condition, within_s=60.0):
    """Wait until `condition` holds, which is looked at in a thread."""
    async with asyncio.timeout(within_s):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - looks at other processes
            await asyncio.sleep(0.02)
