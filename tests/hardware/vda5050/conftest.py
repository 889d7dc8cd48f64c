"""A real broker, and vehicle software of another house on it."""

import asyncio
import contextlib
import json
import os
import signal
import uuid
from pathlib import Path

import pytest
from vda5050_floor import WORDS

from fleet_market.ids import RobotId
from fleet_market_hardware.vda5050 import MasterLink, Vda5050Driver, VehicleConfig, peer

FOLDER = Path(__file__).parents[3] / ".cache" / "vda5050"


@pytest.fixture(scope="session")
def siemens() -> peer.Peer:
    """Installed by `make vda5050-peer`, or now; without Node.js and npm the test fails and says so."""
    return peer.install(FOLDER)


class Vehicle:
    """A process of a virtual vehicle."""

    def __init__(self, process, serial):
        self.process, self.serial = process, serial

    def send(self, number):
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def end(self):
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.process.stdin.close()


@pytest.fixture
def start_vehicle(siemens, mqtt_broker):
    """Starts virtual vehicles; each has a serial that nobody had before."""
    started = []

    def start(serial=None, **settings):
        serial = serial or f"agv-{uuid.uuid4().hex[:8]}"
        vehicle = Vehicle(siemens.start("agv", serial=serial, port=mqtt_broker.port, **settings), serial)
        started.append(vehicle)
        assert vehicle.process.stdout.readline().strip() == "up"
        return vehicle

    yield start
    for vehicle in started:
        vehicle.end()


def config_of(serial, **more):
    usual = {
        "robot": RobotId(serial),
        "manufacturer": "siemens",
        "serial": serial,
        "max_speed_mps": 1.0,
        "max_payload_kg": 50.0,
        "capacity_wh": 500.0,
        "actions": WORDS,
        "poll_s": 0.5,
        "stale_s": 3.0,
    }
    return VehicleConfig(**{**usual, **more})


@pytest.fixture
async def drive(mqtt_broker):
    """Makes open drivers of vehicles, all on one link."""
    link = MasterLink(mqtt_broker.host, mqtt_broker.port)
    opened = []

    async def make(serial, **more):
        driver = Vda5050Driver(config_of(serial, **more), link)
        await driver.open(timeout_s=60)
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        with contextlib.suppress(TimeoutError):
            await driver.close()


class Wire:
    """Listens to everything on the broker."""

    def __init__(self):
        self.messages = []

    def of(self, topic):
        return [message for heard, message in self.messages if heard.endswith(f"/{topic}") and not heard.startswith("mkt/")]

    def orders(self):
        return {message["orderId"] for message in self.of("order")}


@pytest.fixture
async def wire(mqtt_broker):
    import aiomqtt

    heard = Wire()

    async def listen():
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(mqtt_broker.host, mqtt_broker.port) as client:
                    await client.subscribe("#")
                    ready.set()
                    async for message in client.messages:
                        if message.payload:
                            heard.messages.append((str(message.topic), json.loads(message.payload)))
            await asyncio.sleep(0.1)

    ready = asyncio.Event()
    listening = asyncio.create_task(listen())
    await ready.wait()
    yield heard
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening
