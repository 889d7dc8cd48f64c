"""What goes wrong with devices, and what is said about it."""

import asyncio
import binascii
import itertools
import os
import sys
import time

import pytest

pytest.importorskip("can")
pytest.importorskip("serial")

from fleet_market.body import DriverSpec, Link, Pose
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits as Tracked
from fleet_market_hardware.bases import Differential, Fence, Geometry
from fleet_market_hardware.bases.create2 import Create2Wheels
from fleet_market_hardware.bases.differential import DEAD_MAN_S, PERIOD_S, Limits
from fleet_market_hardware.bases.odrive import ODriveWheels
from fleet_market_hardware.bases.vesc import VescWheels
from fleet_market_hardware.composed import ComposedRobot
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts
from fleet_market_hardware.emulators.create2 import Create2Emulator
from fleet_market_hardware.emulators.odrive import ODriveEmulator
from fleet_market_hardware.emulators.vesc import VescEmulator

LIMITS = Limits(1.0, 2.0, 2.0, 6.0)
numbers = itertools.count()


def base_of(wheels, limits=LIMITS, **more):
    spec = DriverSpec(RobotId("trial"), 1.0, 0.0, frozenset(), frozenset({"motors"}))
    return Differential(wheels, spec, Geometry(0.1, 0.4), limits, **more)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what changes is set by a thread
            await asyncio.sleep(0.01)


async def drive(base, vx, times=20):
    for _ in range(times):
        await base.drive(vx, 0.0, valid_s=0.3)
        await base.next_telemetry(base.telemetry().seq, timeout_s=60.0)
    return base.telemetry()


@pytest.fixture
def vesc():
    with VescEmulator() as emulator:
        yield emulator


@pytest.fixture
def channel():
    return f"bad-{os.getpid()}-{next(numbers)}"


def test_no_device_names_the_port_and_the_mend():
    with pytest.raises(DeviceError, match=r"vesc /dev/nowhere: port was '/dev/nowhere': no such device: plug it in"):
        VescWheels("/dev/nowhere").open(0.1)


def test_permission_denied_names_the_group(tmp_path, monkeypatch):
    import serial

    def denied(*_args, **_more):
        raise serial.SerialException(13, "could not open port: Permission denied")

    monkeypatch.setattr(serial, "Serial", denied)
    with pytest.raises(DeviceError, match="group dialout"):
        VescWheels("/dev/ttyACM0").open(0.1)


def test_wrong_baud_rate_is_told_from_silence(vesc):
    vesc.faults.gibberish = True
    with pytest.raises(DeviceSilentError, match=r"baud was 115200: \d+ bytes came"):
        VescWheels(vesc.port).open(2.0)
    vesc.faults.gibberish, vesc.faults.mute = False, True
    with pytest.raises(DeviceSilentError, match="no answer"):
        VescWheels(vesc.port).open(0.3)


def test_a_vesc_without_its_twin_says_so(vesc):
    with pytest.raises(TimeoutError, match="right_can_id was 9: the left VESC answers"):
        VescWheels(vesc.port, right_can_id=9).open(2.0)


def test_foreign_nodes_are_named(channel):
    with ODriveEmulator(channel, nodes=(3, 5)), pytest.raises(DeviceSilentError, match=r"heard node ids \[3, 5\]"):
        ODriveWheels(channel, interface="virtual").open(2.0)


def test_impossible_arguments_are_refused():
    for make, field in (
        (lambda: ODriveWheels("can0", left=64), "left was 64"),
        (lambda: ODriveWheels("can0", left=1, right=1), "different node ids"),
        (lambda: VescWheels("/dev/x", right_can_id=300), "right_can_id was 300"),
    ):
        with pytest.raises(DeviceError, match=field):
            make()


def test_a_bus_that_cannot_be_had_says_how(channel):
    with pytest.raises(DeviceError, match=r"no-such-interface|use a CAN interface"):
        ODriveWheels(channel, interface="no-such-interface").open(0.1)


async def test_bus_off_is_told_and_ends_telemetry(channel, monkeypatch):
    import can

    with ODriveEmulator(channel):
        base = base_of(ODriveWheels(channel, interface="virtual"))
        await base.open(timeout_s=60.0)
        bus = base._wheels._bus
        monkeypatch.setattr(type(bus), "state", property(lambda _self: can.BusState.ERROR))
        monkeypatch.setattr(bus, "recv", lambda timeout=None: can.Message(is_error_frame=True))
        await until(lambda: "bus off" in base.trouble())
        await base.close()


@pytest.mark.parametrize("fault", ["noise", "drop"])
async def test_noise_and_loss_change_no_value(vesc, fault):
    base = base_of(VescWheels(vesc.port))
    await base.open(timeout_s=60.0)
    setattr(vesc.faults, fault, {"noise": 0.5, "drop": 0.002}[fault])
    seen = await drive(base, 0.5, 40)
    assert abs(seen.odometer_m - vesc.plant.pose.x) < 0.06
    assert seen.battery.voltage_v == 24.2
    assert base.doubts() == ()
    await base.close()


async def test_values_that_cannot_be_become_none_with_a_reason(vesc):
    base = base_of(VescWheels(vesc.port))
    await base.open(timeout_s=60.0)
    vesc.faults.out_of_range = True
    seen = await drive(base, 0.0, 3)
    assert seen.battery.voltage_v is None
    doubts = {doubt.field: str(doubt) for doubt in base.doubts()}
    assert "left fet temperature_c" in doubts
    assert doubts["voltage_v"].endswith("voltage_v was 3276.7: cannot be; 1 to 120 V can")
    vesc.faults.out_of_range = False
    seen = await drive(base, 0.0, 3)
    assert (seen.battery.voltage_v, base.doubts()) == (24.2, ())
    await base.close()


async def test_a_create_with_too_much_charge_has_no_soc():
    with Create2Emulator() as robot:
        base = base_of(Create2Wheels(robot.port))
        await base.open(timeout_s=60.0)
        seen = base.telemetry()
        assert 0.7 < seen.battery.soc < 0.75
        robot.faults.out_of_range = True
        seen = await drive(base, 0.0, 3)
        assert seen.battery.soc is None
        assert [doubt.field for doubt in base.doubts()] == ["soc", "temperature_c"]
        await base.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("soc", 1.4),
        ("temperature_c", 900.0),
        ("odometer_m", -1.0),
        ("voltage_v", float("nan")),
        ("current_a", float("inf")),
    ],
)
def test_the_impossible_is_never_a_value(field, value):
    doubts = Doubts("x")
    assert doubts.believe(field, value) is None
    assert doubts.all()[0].field == field


async def test_the_wheels_stop_within_the_dead_man_whatever_was_asked_for():
    class Recorder:
        name, exchange_s, doubts = "recorder", 0.01, Doubts("recorder")

        def __init__(self):
            self.told = []

        def open(self, timeout_s):
            pass

        def exchange(self, left, right):
            from fleet_market_hardware.bases import Wheel, WheelsReading

            self.told.append((time.monotonic(), left))
            return WheelsReading(Wheel(0.0, left), Wheel(0.0, right))

        def close(self):
            pass

    wheels = Recorder()
    base = base_of(wheels, Limits(1.0, 100.0, 2.0, 100.0))
    await base.open(timeout_s=60.0)
    await base.drive(1.0, 0.0, valid_s=30.0)
    last_command = time.monotonic()
    async with asyncio.timeout(60):
        while not any(rate for _, rate in wheels.told):
            await base.next_telemetry(base.telemetry().seq, timeout_s=60.0)
        while wheels.told[-1][1] != 0:
            await base.next_telemetry(base.telemetry().seq, timeout_s=60.0)
    driven = [at for at, rate in wheels.told if rate]
    # Each is worked out after the one before it has been told: the last of them was, too, before its time was up.
    assert driven[-2] <= last_command + DEAD_MAN_S - PERIOD_S
    await base.close()


async def test_a_fault_of_a_controller_and_a_latched_stop_are_faults_of_the_robot(vesc, monkeypatch):
    robot = ComposedRobot(base_of(VescWheels(vesc.port)), Tracked(1.0, 2.0, 2.0))
    await robot.open(timeout_s=60.0)
    assert robot.telemetry().faults == ()
    honest = vesc._values

    def overheated(side):
        body = bytearray(honest(side)[2:-3])
        body[53] = 5 if side else 0  # mc_fault_code FAULT_CODE_OVER_TEMP_FET
        return bytes((2, len(body))) + bytes(body) + binascii.crc_hqx(bytes(body), 0).to_bytes(2, "big") + b"\x03"

    monkeypatch.setattr(vesc, "_values", overheated)
    await until(lambda: robot.telemetry().grave)
    assert [(fault.code, fault.text[:19]) for fault in robot.telemetry().faults] == [("right_wheel", "right VESC: fault 5")]
    monkeypatch.setattr(vesc, "_values", honest)
    await until(lambda: not robot.telemetry().faults)
    await robot.estop()
    assert robot.telemetry().grave.code == "emergency_stop"
    await robot.estop(engage=False)
    assert robot.telemetry().grave is None
    await robot.close()


async def test_an_unplugged_cable_is_told_and_stale(vesc):
    base = base_of(VescWheels(vesc.port))
    await base.open(timeout_s=60.0)
    vesc.unplug()
    await until(lambda: base.telemetry().link is not Link.UP and base.trouble())
    assert base.trouble().startswith("vesc ")
    await base.close()


async def test_no_command_leads_over_the_fence(vesc):
    fence = Fence([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    base = base_of(VescWheels(vesc.port), Limits(1.0, 2.0, 2.0, 6.0, fence), start=Pose(0.0, 0.0))
    await base.open(timeout_s=60.0)
    await drive(base, 1.0, 60)
    assert 0.3 < vesc.plant.pose.x < 1.0
    await drive(base, -1.0, 20)
    assert vesc.plant.pose.x < 0.8, "the way back is free"
    await base.close()


async def test_commands_are_held_to_the_limits(vesc):
    base = base_of(VescWheels(vesc.port), Limits(0.4, 2.0, 2.0, 6.0))
    await base.open(timeout_s=60.0)
    seen = await drive(base, 5.0, 20)
    assert seen.vx == pytest.approx(0.4, abs=0.02)
    with pytest.raises(ValueError, match="must be finite"):
        await base.drive(float("nan"), 0.0, valid_s=0.1)
    await base.close()


async def test_a_restart_of_the_firmware_is_rebased(vesc):
    base = base_of(VescWheels(vesc.port))
    await base.open(timeout_s=60.0)
    before = await drive(base, 0.8, 40)
    vesc.reset()
    after = await drive(base, 0.0, 3)
    assert after.odometer_m >= before.odometer_m
    assert after.odometer_m - before.odometer_m < 0.3
    assert after.battery.energy_out_j >= before.battery.energy_out_j
    await base.close()


DRIVE_ON = """
import asyncio, sys
from fleet_market.body import DriverSpec
from fleet_market_hardware.bases import Differential, Geometry
from fleet_market_hardware.bases.differential import Limits
from fleet_market_hardware.bases.vesc import VescWheels

async def main():
    spec = DriverSpec("doomed", 1.0, 0.0, frozenset(), frozenset())
    base = Differential(VescWheels(sys.argv[1]), spec, Geometry(0.1, 0.4), Limits(1.0, 5.0, 2.0, 6.0))
    await base.open(timeout_s=60.0)
    while True:
        await base.drive(0.5, 0.0, valid_s=0.3)
        await base.next_telemetry(base.telemetry().seq, timeout_s=60.0)

asyncio.run(main())
"""


@pytest.mark.real
async def test_a_killed_driver_leaves_a_base_that_stops(vesc):
    driver = await asyncio.create_subprocess_exec(sys.executable, "-c", DRIVE_ON, vesc.port)
    try:
        async with asyncio.timeout(60):
            while vesc.plant.rate[0] < 4.0:  # noqa: ASYNC110 - the emulator is a thread
                await asyncio.sleep(0.01)
        advance, unheard_s = vesc.advance, []

        def watched(dt):
            said = advance(dt)
            if vesc.plant.target == [0.0, 0.0]:
                unheard_s.append(vesc._since_s[0])
            return said

        vesc.advance = watched
        driver.kill()
        await until(lambda: unheard_s)
        assert unheard_s[0] < DEAD_MAN_S + 0.1
        await until(lambda: abs(vesc.plant.rate[0]) < 0.01)
    finally:
        if driver.returncode is None:
            driver.kill()
        await driver.wait()


async def test_a_stuck_device_does_not_drive_in_telemetry(vesc):
    base = base_of(VescWheels(vesc.port))
    await base.open(timeout_s=60.0)
    assert (await drive(base, 0.5, 20)).moving
    vesc.faults.stuck = True
    seen = await drive(base, 0.5, 10)
    assert (seen.vx, seen.moving) == (0.0, False)
    assert "counters stand" in base.trouble()
    await base.close()


async def test_a_late_answer_of_the_one_wheel_is_not_taken_for_the_other(vesc):
    values = vesc._values
    vesc._values = lambda side: values(0) + (values(1) if side else b"")
    base = base_of(VescWheels(vesc.port))
    await base.open(timeout_s=60.0)
    seen = await drive(base, 0.5, 30)
    assert abs(seen.odometer_m - vesc.plant.pose.x) < 0.06
    assert vesc.plant.pose.x > 0.3
    await base.close()
