"""A robot on a broker as a VDA 5050 vehicle: any `RobotDriver`, so that a master control of others can drive it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.errors import BrokerError
from fleet_market.ports import RobotDriver
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import Send
from fleet_market_hardware.vda5050.headers import Headers
from fleet_market_hardware.vda5050.said import connection_body, factsheet_body
from fleet_market_hardware.vda5050.vehicle import KINDS, Begin, Halt, Release, TellFacts, Vehicle, Wish

log = logging.getLogger(__name__)

SENSE_S = 0.05
OPEN_S = 60.0
STOP_S = 10.0
LEAVE_S = 1.0
MAX_WAITING = 200
SIZE_M = (0.6, 0.5, 0.5)
"""Length, width and height in the factsheet, if nobody says [assumption]."""
ACCEL_MPS2 = 0.5


class VehicleServer:
    """Serves one robot; `config` says on which topics and in which version.

    Parameters
    ----------
    driver : RobotDriver
        Not yet open.
    size_m : (length, width, height)
    accel_mps2 : float
        For the factsheet.
    """

    def __init__(
        self,
        config: VehicleConfig,
        driver: RobotDriver,
        host: str,
        port: int,
        *,
        size_m: tuple[float, float, float] = SIZE_M,
        accel_mps2: float = ACCEL_MPS2,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.config, self._driver, self._now_ns = config, driver, now_ns
        self._size_m, self._accel_mps2 = size_m, accel_mps2
        self._host, self._port = host, port
        self.vehicle = Vehicle(config.version, config.map_id, driver.spec)
        self._headers = Headers(config.manufacturer, config.serial)
        self._outgoing: asyncio.Queue[tuple[str, bytes, int, bool]] = asyncio.Queue(MAX_WAITING)
        self._job: asyncio.Task[None] | None = None

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until cancelled; calls `ready` when the robot can be driven."""
        await self._driver.open(timeout_s=OPEN_S)
        try:
            gone = self._message("connection", connection_body(self.config.version, "CONNECTIONBROKEN"))
            mqtt = MqttConfig(
                self._host,
                self._port,
                f"{self.config.manufacturer}-{self.config.serial}",
                Will(self._topic("connection"), gone),
            )
            heard = [(self._topic(name), 0) for name in ("order", "instantActions")]
            async with MqttTransport(mqtt, heard, on_connect=[self._greet]) as self._transport:
                await self._transport.connected.wait()
                try:
                    async with asyncio.TaskGroup() as self._tasks:
                        self._tasks.create_task(self._listen(), name="orders")
                        self._tasks.create_task(self._send(), name="out")
                        self._tasks.create_task(self._sense(), name="telemetry")
                        ready()
                finally:
                    await self._take_leave()
        finally:
            await self._driver.close()

    def _topic(self, name: str) -> str:
        return self.config.topic_of(name)

    def _message(self, topic: str, body: dict[str, object]) -> bytes:
        return self._headers.add(topic, self.config.version, body)

    async def _greet(self) -> None:
        online = self._message("connection", connection_body(self.config.version, "ONLINE"))
        await self._transport.publish(self._topic("connection"), online, qos=1, retain=True)
        self._carry_out([Send("state", self.config.version, self.vehicle.state())])

    async def _take_leave(self) -> None:
        offline = self._message("connection", connection_body(self.config.version, "OFFLINE"))
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._transport.publish(self._topic("connection"), offline, qos=1, retain=True)

    async def _listen(self) -> None:
        async for delivery in self._transport.deliveries():
            topic = delivery.topic.rpartition("/")[2]
            self._carry_out(self.vehicle.hear(topic, delivery.payload, self._now_ns()))
            delivery.ack()

    async def _sense(self) -> None:
        while True:
            self._carry_out(self.vehicle.sense(self._driver.telemetry(), self._driver.passed(), self._now_ns()))
            await asyncio.sleep(SENSE_S)

    async def _send(self) -> None:
        while True:
            topic, payload, qos, retain = await self._outgoing.get()
            try:
                await self._transport.publish(topic, payload, qos=qos, retain=retain)
            except BrokerError as error:
                log.info("not sent: %s", error)

    def _carry_out(self, wishes: Iterable[Wish]) -> None:
        for wish in wishes:
            match wish:
                case Send(topic, _, body):
                    self._post(topic, body)
                case TellFacts():
                    kinds = [name for name, kind in KINDS.items() if kind in self._driver.spec.actions]
                    self._post(
                        "factsheet", factsheet_body(self._driver.spec, self._size_m, self._accel_mps2, kinds), retain=True
                    )
                case Begin():
                    self._job = self._tasks.create_task(self._run(wish), name=wish.job.id)
                case Halt():
                    if self._job is not None and not self._job.done():
                        self._tasks.create_task(self._stop(), name="stop")
                case Release(job_id, points):
                    self._driver.release(job_id, points)

    def _post(self, topic: str, body: dict[str, object], *, retain: bool = False) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._outgoing.put_nowait((self._topic(topic), self._message(topic, body), 0, retain))

    async def _run(self, begin: Begin) -> None:
        result = await self._driver.run(begin.job, deadline_s=begin.deadline_s)
        self._carry_out(self.vehicle.sense(self._driver.telemetry(), 0, self._now_ns()))
        self._carry_out(self.vehicle.ended(result, self._now_ns()))

    async def _stop(self) -> None:
        await self._driver.stop(timeout_s=STOP_S)
