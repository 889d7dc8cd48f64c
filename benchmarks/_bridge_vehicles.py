"""Part of `bridge`: vehicles of vda-5050-lib that are killed or hang while they drive for us."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from benchmarks._bridge_bases import OVERHEAD_GOAL
from benchmarks.report import Options, Row
from fleet_market.adapters import mosquitto
from fleet_market.body import End, Go, Job, Pose
from fleet_market.errors import FleetMarketError
from fleet_market.ids import RobotId
from fleet_market_hardware.vda5050 import MasterLink, Vda5050Driver, VehicleConfig, peer

KILLED_GOAL_S, KEEPALIVE_S = 1.0, 2
PATIENCE_S = 15.0
WATCH_S, QUICK_WATCH_S = 20.0, 4.0
STATES_HZ = 20
WAY = tuple((0.5 * i, 0.0) for i in range(41))


def rows(options: Options) -> Iterator[Row]:
    """Return the rows."""
    try:
        installed = peer.install()
    except (OSError, FleetMarketError) as error:
        yield Row("vehicles of vda-5050-lib", None, note=f"not to be had here: {error}")
        return
    for number, what, goal_s in (
        (signal.SIGKILL, "killed vehicle", KILLED_GOAL_S),
        (signal.SIGSTOP, f"hung vehicle, keepalive {KEEPALIVE_S} s", 2.0 * KEEPALIVE_S + 2),
    ):
        after_s, end = asyncio.run(_lost(installed, number))
        yield Row(f"{what}: LOST after", after_s if end is End.LOST else None, "s", goal_s, note=f"ended as {end}")
    seconds = QUICK_WATCH_S if options.quick else WATCH_S
    states, used_s, wall_s = asyncio.run(_overhead(installed, seconds))
    note = f"of a core, {states / wall_s:.0f} states a second, {used_s:.2f} s of CPU in {wall_s:.0f} s"
    yield Row("vda5050: driver overhead", used_s / wall_s, "", OVERHEAD_GOAL, note=note)


@contextlib.asynccontextmanager
async def broker() -> AsyncIterator[int]:
    """Run a Mosquitto for a while; yields its port."""
    program, port = mosquitto.install(mosquitto.DEFAULT_FOLDER, say=lambda _text: None), mosquitto.free_port()
    with tempfile.TemporaryDirectory(prefix="fleet-market-bridge-") as folder:
        config = mosquitto.write_config(Path(folder), port, persistence=False)
        process = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond
            [program.path, "-c", config], env=program.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(OSError):
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        break
                    await asyncio.sleep(0.02)
            yield port
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def vehicle(installed: peer.Peer, port: int, **settings: object) -> AsyncIterator[tuple[str, subprocess.Popen[str]]]:
    """Run a virtual vehicle; yields its serial and its process."""
    serial = f"agv-{uuid.uuid4().hex[:8]}"
    process = installed.start("agv", serial=serial, port=port, **settings)
    try:
        if process.stdout is None or (await asyncio.to_thread(process.stdout.readline)).strip() != "up":
            raise RuntimeError("the virtual vehicle did not start")
        yield serial, process
    finally:
        process.kill()
        process.wait()
        for stream in filter(None, (process.stdin, process.stdout)):
            stream.close()


def _driver(serial: str, port: int) -> Vda5050Driver:
    config = VehicleConfig(
        robot=RobotId(serial), manufacturer="siemens", serial=serial, max_speed_mps=1.0, max_payload_kg=50.0, poll_s=0.5
    )
    return Vda5050Driver(config, MasterLink("127.0.0.1", port))


async def _lost(installed: peer.Peer, number: int) -> tuple[float, End]:
    async with broker() as port, vehicle(installed, port, keepalive=KEEPALIVE_S) as (serial, process):
        driver = _driver(serial, port)
        await driver.open(timeout_s=PATIENCE_S)
        running = asyncio.create_task(driver.run(Job("way", (Go(Pose(*WAY[-1]), WAY, len(WAY)),)), deadline_s=60.0))
        async with asyncio.timeout(PATIENCE_S):
            while not ((pose := driver.telemetry().pose) is not None and pose.x > 0.5):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.02)
        process.send_signal(number)
        begun = time.monotonic()
        result = await running
        after_s = time.monotonic() - begun
        await driver.close()
        return after_s, result.end


async def _overhead(installed: peer.Peer, seconds: float) -> tuple[int, float, float]:
    """Return states heard, CPU of this process, and wall time, while a vehicle drives and tells its state at 20 Hz."""
    period_ms = round(1000 / STATES_HZ)
    async with broker() as port, vehicle(installed, port, state_ms=period_ms, speed=0.2) as (serial, _):
        driver = _driver(serial, port)
        await driver.open(timeout_s=PATIENCE_S)
        running = asyncio.create_task(driver.run(Job("way", (Go(Pose(*WAY[-1]), WAY, len(WAY)),)), deadline_s=300.0))
        await asyncio.sleep(1.0)
        states, cpu_s, begun = driver.telemetry().seq, time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        found = driver.telemetry().seq - states, time.process_time() - cpu_s, time.monotonic() - begun
        await driver.stop(timeout_s=PATIENCE_S)
        await running
        await driver.close()
        return found
