"""Part of `bridge`: what stops a velocity base when nobody commands it any more, and what a driver costs (K-04).

The process that drives is killed with SIGKILL: only the device can stop it then. The emulated firmware has its dead-man set
as docs/hardware.md asks for; what is timed is when it takes the wheels' command back, and when they stand.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil

from benchmarks.report import Options, Row
from fleet_market.body import DriverSpec
from fleet_market.ids import RobotId
from fleet_market_hardware.bases.differential import Differential, Limits
from fleet_market_hardware.bases.geometry import Geometry
from fleet_market_hardware.bases.wheels import Wheels

KILLS, QUICK_KILLS = 10, 2
STOP_GOAL_S, OVERHEAD_GOAL = 0.2, 0.02
LOOK_S, PATIENCE_S = 0.001, 20.0
WATCH_S, QUICK_WATCH_S = 20.0, 4.0
STANDING_RAD_S, DRIVING_RAD_S = 0.05, 4.0
VX_MPS = 0.5
NAMES = ("vesc", "odrive", "cia402", "create2")


@dataclass(frozen=True, slots=True)
class Rig:
    """An emulated device, and how another process reaches it."""

    emulator: Any
    address: str


def rig(name: str) -> Rig:
    """Return an emulated device, not yet running: at a pty, or on CAN over UDP multicast of its own."""
    from fleet_market_hardware.emulators import cia402, create2, odrive, vesc  # noqa: PLC0415 - need the extra `hardware`

    if name == "vesc":
        return Rig(vesc.VescEmulator(), "")
    if name == "create2":
        return Rig(create2.Create2Emulator(), "")
    group = f"239.74.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}"
    make = {"odrive": odrive.ODriveEmulator, "cia402": cia402.Cia402Emulator}[name]
    return Rig(make(group, interface="udp_multicast"), group)


def wheels(name: str, address: str) -> Wheels:
    """Return the driver's side of an emulated device."""
    from fleet_market_hardware.bases.cia402 import Cia402Wheels  # noqa: PLC0415 - need the extra `hardware`
    from fleet_market_hardware.bases.create2 import Create2Wheels  # noqa: PLC0415
    from fleet_market_hardware.bases.odrive import ODriveWheels  # noqa: PLC0415
    from fleet_market_hardware.bases.vesc import VescWheels  # noqa: PLC0415
    from fleet_market_hardware.emulators.cia402 import COUNTS_PER_TURN  # noqa: PLC0415

    make: dict[str, Callable[[], Wheels]] = {
        "vesc": lambda: VescWheels(address),
        "create2": lambda: Create2Wheels(address),
        "odrive": lambda: ODriveWheels(address, interface="udp_multicast"),
        "cia402": lambda: Cia402Wheels(address, interface="udp_multicast", counts_per_turn=COUNTS_PER_TURN),
    }
    return make[name]()


def base(name: str, address: str) -> Differential:
    """Return a base on an emulated device."""
    geometry = Geometry(0.036, 0.235) if name == "create2" else Geometry(0.1, 0.4)
    spec = DriverSpec(RobotId(name), 1.0, 0.0, frozenset(), frozenset({"motors"}))
    return Differential(wheels(name, address), spec, geometry, Limits(1.0, 5.0, 2.0, 6.0))


def rows(options: Options) -> Iterator[Row]:
    """Return the rows."""
    kills = QUICK_KILLS if options.quick else KILLS
    for name in NAMES:
        yield from _stops(name, kills)
    for name in NAMES:
        yield _overhead(name, QUICK_WATCH_S if options.quick else WATCH_S)


# --- kill -9 ------------------------------------------------------------------------------------------------------------


def _stops(name: str, kills: int) -> Iterator[Row]:
    taken_back, stood = [], []
    for _ in range(kills):
        with ExitStack() as stack:
            device = rig(name)
            stack.enter_context(device.emulator)
            times = _kill(name, device)
            if times is None:
                note = "drives on: its firmware has no dead-man, as docs/hardware.md says; `lacks` declares it"
                yield Row(f"{name}: its driver killed, until its wheels are told to stop", None, "s", note=note)
                return
            taken_back.append(times[0])
            stood.append(times[1])
    note = f"worst of {kills} kills; they stand after {max(stood):.3f} s at the latest; emulated firmware"
    yield Row(f"{name}: its driver killed, until its wheels are told to stop", max(taken_back), "s", STOP_GOAL_S, note=note)


def _kill(name: str, device: Rig) -> tuple[float, float] | None:
    """Return how long after the kill the command is taken back, and the wheels stand; None if they never do."""
    address = device.address or device.emulator.port
    driver = subprocess.Popen([sys.executable, "-m", "benchmarks._bridge_bases", name, address])
    plant = device.emulator.plant
    try:
        fast = DRIVING_RAD_S if name != "create2" else 2 * DRIVING_RAD_S
        _until(lambda: min(plant.rate) > fast, PATIENCE_S)
        driver.kill()
        killed = time.monotonic()
        if not _until(lambda: plant.target == [0.0, 0.0], 2.0 if name == "create2" else PATIENCE_S, must=False):
            return None
        told = time.monotonic() - killed
        _until(lambda: max(map(abs, plant.rate)) < STANDING_RAD_S, PATIENCE_S)
        return told, time.monotonic() - killed
    finally:
        driver.kill()
        driver.wait()


def _until(condition: Callable[[], bool], within_s: float, *, must: bool = True) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            if must:
                raise TimeoutError(f"not within {within_s:g} s")
            return False
        time.sleep(LOOK_S)
    return True


async def _drive_for_ever(name: str, address: str) -> None:
    moving = base(name, address)
    await moving.open(timeout_s=PATIENCE_S)
    while True:
        await moving.drive(VX_MPS, 0.0, valid_s=0.3)
        await moving.next_telemetry(moving.telemetry().seq, timeout_s=5.0)


# --- what a driver costs ------------------------------------------------------------------------------------------------


def _overhead(name: str, seconds: float) -> Row:
    """Return the CPU that a base takes that drives at 20 Hz: all threads but those of the emulator."""
    with ExitStack() as stack:
        device = rig(name)
        stack.enter_context(device.emulator)
        theirs = {thread.native_id for thread in threading.enumerate() if thread is not threading.main_thread()}
        samples, used_s, wall_s = asyncio.run(_watched(base(name, device.address or device.emulator.port), seconds, theirs))
    note = f"of a core, {samples / wall_s:.0f} samples a second, driving, {used_s:.2f} s of CPU in {wall_s:.0f} s"
    return Row(f"{name}: driver overhead", used_s / wall_s, "", OVERHEAD_GOAL, note=note)


async def _watched(moving: Differential, seconds: float, theirs: set[int | None]) -> tuple[int, float, float]:
    await moving.open(timeout_s=PATIENCE_S)
    before, begun, samples = _cpu_s(theirs), time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        await moving.drive(VX_MPS, 0.0, valid_s=0.3)
        await moving.next_telemetry(moving.telemetry().seq, timeout_s=5.0)
        samples += 1
    found = samples, _cpu_s(theirs) - before, time.monotonic() - begun
    await moving.close()
    return found


def _cpu_s(without: set[int | None]) -> float:
    """Return the CPU time of this process's threads but some."""
    return float(sum(t.user_time + t.system_time for t in psutil.Process().threads() if t.id not in without))


if __name__ == "__main__":
    asyncio.run(_drive_for_ever(*sys.argv[1:]))
