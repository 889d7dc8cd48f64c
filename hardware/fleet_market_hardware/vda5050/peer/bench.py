"""The virtual vehicle of vda-5050-lib under the conformance suite, with a broker of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any, Self

import aiomqtt

from fleet_market.adapters import mosquitto
from fleet_market.body import Point, Pose
from fleet_market.ids import RobotId
from fleet_market.ports import VelocityBase
from fleet_market_hardware.vda5050.config import ActionWords, VehicleConfig
from fleet_market_hardware.vda5050.driver import Vda5050Driver
from fleet_market_hardware.vda5050.headers import Headers
from fleet_market_hardware.vda5050.link import MasterLink
from fleet_market_hardware.vda5050.peer.install import DEFAULT_FOLDER, Peer, install
from fleet_market_hardware.vda5050.peer.relay import Relay
from fleet_market_hardware.vda5050.versions import instant_actions_in

FLOOR = {"stationType": "floor", "loadType": "EPAL", "duration": "{seconds}"}
"""What the virtual vehicle demands of a pick and a drop."""
START_S = 10.0
VERSION = "2.0.0"


class SiemensBench:
    """The vehicle is slow to nothing and weighs nothing. Implements `fleet_market.testing.conformance.Bench`.

    The truth is what the vehicle says on a connection that the driver does not share. What holds it is a pause, as of a
    button on the vehicle. Its link is a cable between it and the broker.
    """

    course: tuple[Point, ...] = tuple((0.25 * i, 0.0) for i in range(11))
    abilities = frozenset({"cut", "block", "teleport", "abandon"})
    deadline_s = 8.0
    stale_s, stop_s = 3.0, 4.0

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self._peer: Peer = install(folder)
        self._broker = mosquitto.install(mosquitto.DEFAULT_FOLDER, say=lambda _text: None)
        self._serial = f"agv-{uuid.uuid4().hex[:8]}"
        self._pose = Pose(0.0, 0.0)
        self._headers = Headers("siemens", self._serial)
        self._port = mosquitto.free_port()
        self._driver: Vda5050Driver | None = None
        self._link = MasterLink("127.0.0.1", self._port)

    async def __aenter__(self) -> Self:
        """Start broker, cable, vehicle and observer."""
        self._folder = Path(tempfile.mkdtemp(prefix="fleet-market-vda5050-"))
        config = mosquitto.write_config(self._folder, self._port, persistence=False)
        self._processes: list[subprocess.Popen[Any]] = [
            subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond
                [self._broker.path, "-c", config],
                env=self._broker.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        ]
        await self._wait_for_broker()
        self._cable = await Relay(self._port).__aenter__()
        self._observing = asyncio.create_task(self._observe(), name="observer")
        vehicle = self._peer.start("agv", serial=self._serial, port=self._cable.port, keepalive=3, version=VERSION)
        self._processes.append(vehicle)
        async with asyncio.timeout(START_S):
            if vehicle.stdout is None or (await asyncio.to_thread(vehicle.stdout.readline)).strip() != "up":
                raise RuntimeError("the virtual vehicle did not start")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Take everything down."""
        self._observing.cancel()
        await asyncio.wait([self._observing])
        await self._cable.__aexit__()
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
            for stream in filter(None, (process.stdin, process.stdout)):
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _wait_for_broker(self) -> None:
        async with asyncio.timeout(START_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def _observe(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port) as self._observer:
            await self._observer.subscribe(f"uagv/v2/siemens/{self._serial}/+")
            async for message in self._observer.messages:
                said = json.loads(message.payload) if isinstance(message.payload, bytes) and message.payload else {}
                if (place := said.get("agvPosition")) is not None:
                    self._pose = Pose(place["x"], place["y"], place["theta"])

    def driver(self) -> Vda5050Driver:
        """Return a driver."""
        config = VehicleConfig(
            robot=RobotId(self._serial),
            manufacturer="siemens",
            serial=self._serial,
            max_speed_mps=1.0,
            max_payload_kg=50.0,
            capacity_wh=500.0,
            actions={
                "load": ActionWords(type="pick", parameters=FLOOR),
                "unload": ActionWords(type="drop", parameters=FLOOR),
                "charge": ActionWords(type="startCharging"),
            },
            stale_s=self.stale_s,
            poll_s=0.5,
            resend_s=1.0,
        )
        self._driver = Vda5050Driver(config, self._link)
        return self._driver

    def base(self) -> VelocityBase:
        """Not able to: a vehicle takes no velocities."""
        raise NotImplementedError

    def true_pose(self) -> Pose:
        """Return what the vehicle said last."""
        return self._pose

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def cut(self, *, broken: bool) -> None:
        """Pull the cable, or plug it in."""
        self._cable.cut(broken=broken)

    def block(self, *, held: bool) -> None:
        """Push the vehicle's pause button, or let go."""
        self._instant("startPause" if held else "stopPause")

    def teleport(self, pose: Pose) -> None:
        """Tell the vehicle that it is elsewhere."""
        values = {"x": pose.x, "y": pose.y, "theta": pose.yaw, "mapId": "local", "lastNodeId": "elsewhere"}
        self._instant("initPosition", [{"key": key, "value": value} for key, value in values.items()])

    def reset(self) -> None:
        """Not able to: the vehicle would begin elsewhere."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """Let nothing out any more."""
        if self._driver is not None:
            await self._link.leave(self._driver)

    def spoil_scale(self) -> None:
        """Not able to."""
        raise NotImplementedError

    def _instant(self, kind: str, parameters: list[dict[str, object]] | None = None) -> None:
        action = {
            "actionType": kind,
            "actionId": str(uuid.uuid4()),
            "blockingType": "NONE",
            "actionParameters": parameters or [],
        }
        payload = self._headers.add("instantActions", VERSION, instant_actions_in(VERSION, [action]))
        self._observer._client.publish(f"uagv/v2/siemens/{self._serial}/instantActions", payload)  # noqa: SLF001 - not async


def bench() -> SiemensBench:
    """Return the bench of ``fleet-market driver check vda5050``."""
    return SiemensBench()
