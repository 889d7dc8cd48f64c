"""Part of `qemu_lane`: what runs in the guest, on its vcan0 and its i2c-stub.

``python -m benchmarks._qemu_guest SETS SEED NAME ...`` prints findings; ``drive NAME`` drives a base until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._qemu_machine import FOUND
from fleet_market.body import DriverSpec
from fleet_market.ids import RobotId
from fleet_market_hardware.bases.differential import Differential, Limits
from fleet_market_hardware.bases.geometry import Geometry
from fleet_market_hardware.batteries.gauge import Reading
from fleet_market_hardware.devices import DeviceSilentError
from fleet_market_hardware.tables import SBS_ADDRESS, SBS_DISCHARGING_BIT, Sbs

CHANNEL, INTERFACE = "vcan0", "socketcan"
VX_MPS, FAR_M = 0.5, 0.3
PATIENCE_S, LOOK_S, STANDING_RAD_S = 40.0, 0.001, 0.05
I2C = Path("/sys/bus/i2c")
FULLY_CHARGED_BIT = 5
FIELDS = ("soc", "voltage_v", "current_a", "temperature_c", "charging", "cycles", "health", "capacity_ah")
KERNEL_WARMER_C = 0.05
"""The kernel takes 0 degC for 273.1 K, our decoder for 273.15 K; all else must be the same but for rounding."""
ROUNDING = 1e-6


def found(
    what: str, value: float, unit: str = "", goal: float | None = None, better: str = "lower", note: str = ""
) -> None:
    """Tell one finding to the host."""
    row = {"what": what, "value": value, "unit": unit, "goal": goal, "better": better, "note": note}
    sys.stdout.write(f"\n{FOUND}{json.dumps(row)}\n")
    sys.stdout.flush()


# --- smart battery ------------------------------------------------------------------------------------------------------


def registers(rng: random.Random) -> dict[int, int]:
    """Return words that a smart battery could hold, by command; without scales, of which the kernel takes no notice."""
    design = rng.randint(1000, 60_000)
    current = rng.choice([0, rng.randint(1, 32_767), -rng.randint(1, 32_768)])
    status = (current < 0) << SBS_DISCHARGING_BIT | rng.getrandbits(1) << FULLY_CHARGED_BIT
    return {
        Sbs.TEMPERATURE: rng.randint(2340, 3980),
        Sbs.VOLTAGE: rng.randint(1000, 65_535),
        Sbs.CURRENT: current & 0xFFFF,
        Sbs.RELATIVE_SOC: rng.randint(0, 100),
        Sbs.FULL_CAPACITY: rng.randint(design // 2, min(65_535, design * 11 // 10)),
        Sbs.STATUS: status,
        Sbs.CYCLES: rng.randint(1, 5000),
        Sbs.DESIGN_CAPACITY: design,
        Sbs.SPECIFICATION_INFO: 0x0021,
    }


def values(reading: Reading) -> dict[str, float | None]:
    """Return the fields of a reading by name."""
    return {name: getattr(reading, name, getattr(reading.battery, name, None)) for name in FIELDS}


def disagreements(ours: dict[str, float | None], theirs: dict[str, float | None]) -> list[str]:
    """Return the fields in which two readings differ by more than rounding; one that only one of them has differs."""
    wrong = []
    for name in FIELDS:
        one, other = ours[name], theirs[name]
        if one is None or other is None or abs(one - other) > ROUNDING:
            wrong.append(f"{name} {one} against {other}")
    return wrong


def _warmer(ours: dict[str, float | None]) -> dict[str, float | None]:
    """Return a reading of our decoder with the kernel's zero of degrees Celsius."""
    temperature = ours["temperature_c"]
    return ours | {"temperature_c": None if temperature is None else temperature + KERNEL_WARMER_C}


def plain(folder: Path) -> dict[str, float | None]:
    """Return what the kernel's files say, read here in the plainest way: not by the code that is tried."""

    def number(file: str) -> float:
        return int((folder / file).read_text())

    return {
        "soc": number("capacity") / 100,
        "voltage_v": number("voltage_now") / 1e6,
        "current_a": number("current_now") / 1e6,
        "temperature_c": number("temp") / 10,
        "charging": (folder / "status").read_text().strip() == "Charging",
        "cycles": number("cycle_count"),
        "health": number("charge_full") / number("charge_full_design"),
        "capacity_ah": number("charge_full") / 1e6,
    }


def batteries(sets: int, seed: int) -> None:
    """Compare our decoder and our reader of sysfs with the kernel's sbs-battery, on `sets` random batteries."""
    import smbus2  # noqa: PLC0415 - needs the extra `hardware`

    from fleet_market_hardware.batteries.smbus import SmartBattery  # noqa: PLC0415
    from fleet_market_hardware.batteries.sysfs import SysfsBattery  # noqa: PLC0415

    number = _stub()
    rng = random.Random(seed)
    wrong_smbus, wrong_sysfs, busy = [], [], 0
    for count in range(sets):
        words = registers(rng)
        with smbus2.SMBus(number) as bus:
            for register, word in words.items():
                bus.write_word_data(SBS_ADDRESS, register, word)
        ours = _read(SmartBattery(number))
        with _kernels(number) as supply:
            theirs = plain(supply)
            through_sysfs = _read(SysfsBattery(supply.name))
            try:
                SmartBattery(number).open(1.0)
            except DeviceSilentError as error:
                busy += "kernel's driver has the chip" in str(error)
        wrong_smbus += [f"set {count}: {text}" for text in disagreements(_warmer(ours), theirs)]
        wrong_sysfs += [f"set {count}: {text}" for text in disagreements(through_sysfs, theirs)]
    fields = f"{sets} random batteries of {len(FIELDS)} fields"
    for what, wrong in (("sbs over /dev/i2c", wrong_smbus), ("sysfs", wrong_sysfs)):
        note = "; ".join(wrong[:3]) or f"{fields}: {', '.join(FIELDS)}"
        found(f"{what}: fields that differ from the kernel's sbs-battery", len(wrong), "", 0, note=note)
    found("sbs: times it saw that the kernel's driver has the chip", busy, "", sets, "higher", "EBUSY")


def _stub() -> int:
    for name in I2C.glob("devices/i2c-*/name"):
        if "stub" in name.read_text():
            return int(name.parent.name.removeprefix("i2c-"))
    raise OSError("no i2c-stub")


def _read(gauge: Any) -> dict[str, float | None]:
    gauge.open(1.0)
    try:
        return values(gauge.read())
    finally:
        gauge.close()


@contextlib.contextmanager
def _kernels(number: int) -> Iterator[Path]:
    """Have the kernel's driver hold the chip; yields its folder in sysfs."""
    bus = I2C / "devices" / f"i2c-{number}"
    (bus / "new_device").write_text(f"sbs-battery {SBS_ADDRESS:#04x}\n")
    try:
        name = f"sbs-{number}-{SBS_ADDRESS:04x}"
        yield Path("/sys/class/power_supply") / name
    finally:
        (bus / "delete_device").write_text(f"{SBS_ADDRESS:#04x}\n")


# --- bases on CAN -------------------------------------------------------------------------------------------------------


def base(name: str) -> Differential:
    """Return a base of the kind `name` on the guest's CAN."""
    from fleet_market_hardware.bases.cia402 import Cia402Wheels  # noqa: PLC0415 - need the extra `hardware`
    from fleet_market_hardware.bases.odrive import ODriveWheels  # noqa: PLC0415
    from fleet_market_hardware.emulators.cia402 import COUNTS_PER_TURN  # noqa: PLC0415

    wheels = (
        ODriveWheels(CHANNEL, interface=INTERFACE)
        if name == "odrive"
        else Cia402Wheels(CHANNEL, interface=INTERFACE, counts_per_turn=COUNTS_PER_TURN)
    )
    spec = DriverSpec(RobotId(name), 1.0, 0.0, frozenset(), frozenset({"motors"}))
    return Differential(wheels, spec, Geometry(0.1, 0.4), Limits(1.0, 5.0, 2.0, 6.0))


def can_base(name: str) -> None:
    """Drive an emulated device over vcan0: go, stop, silence, and a driving process that is killed (-9) or hangs."""
    from fleet_market_hardware.emulators import cia402, odrive  # noqa: PLC0415 - need the extra `hardware`

    make: Any = {"odrive": odrive.ODriveEmulator, "cia402": cia402.Cia402Emulator}[name]
    with make(CHANNEL, interface=INTERFACE) as device:
        asyncio.run(_go_and_stop(name, device.plant))
    for what, ending in (("killed", signal.SIGKILL), ("hangs (SIGSTOP)", signal.SIGSTOP)):
        with make(CHANNEL, interface=INTERFACE) as device:
            taken_s = _ended(name, device.plant, ending)
            found(f"{name}: driver {what}, until the device stops its wheels", taken_s, "s", 1.0)


async def _go_and_stop(name: str, plant: Any) -> None:
    moving = base(name)
    await moving.open(timeout_s=PATIENCE_S)
    try:
        await _drive(moving, VX_MPS, lambda: plant.pose.x > FAR_M)
        gone = moving.telemetry().odometer_m or 0.0
        found(f"{name}: driven, as its odometer tells", gone, "m", 0.8 * FAR_M, "higher", f"its plant {plant.pose.x:.3f} m")
        begun = time.monotonic()
        await _drive(moving, 0.0, lambda: _stands(plant))
        found(f"{name}: commanded to stop, until its wheels stand", time.monotonic() - begun, "s", 2.0)
        await _drive(moving, VX_MPS, lambda: min(plant.rate) > VX_MPS / 0.1 / 2)
        begun = time.monotonic()
        await asyncio.to_thread(_until, lambda: _stands(plant))
        found(f"{name}: no command any more (dead-man), until its wheels stand", time.monotonic() - begun, "s", 2.0)
    finally:
        await moving.close()


async def _drive(moving: Differential, vx: float, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            await moving.drive(vx, 0.0, valid_s=0.3)
            await moving.next_telemetry(moving.telemetry().seq, timeout_s=PATIENCE_S)


def _stands(plant: Any) -> bool:
    return bool(max(map(abs, plant.rate)) < STANDING_RAD_S)


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {PATIENCE_S:g} s")
        time.sleep(LOOK_S)


def _ended(name: str, plant: Any, ending: signal.Signals) -> float:
    driver = subprocess.Popen([sys.executable, "-m", "benchmarks._qemu_guest", "drive", name])
    try:
        _until(lambda: min(plant.rate) > VX_MPS / 0.1 / 2)
        driver.send_signal(ending)
        begun = time.monotonic()
        _until(lambda: plant.target == [0.0, 0.0])
        return time.monotonic() - begun
    finally:
        driver.kill()
        driver.wait()


async def _drive_for_ever(name: str) -> None:
    moving = base(name)
    await moving.open(timeout_s=PATIENCE_S)
    await _drive(moving, VX_MPS, lambda: False)


def main() -> None:
    """Run everything; an exception ends the guest with another exit code than 0."""
    if sys.argv[1] == "drive":
        asyncio.run(_drive_for_ever(sys.argv[2]))
        return
    batteries(int(sys.argv[1]), int(sys.argv[2]))
    flags = int(Path(f"/sys/class/net/{CHANNEL}/flags").read_text(), 16)
    found("vcan0 is up", flags & 1, "", 1, "higher", f"Linux {Path('/proc/sys/kernel/osrelease').read_text().strip()}")
    for name in sys.argv[3:]:
        can_base(name)


if __name__ == "__main__":
    main()
