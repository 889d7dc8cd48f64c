"""Our ODrive base against the mock of odrive-can, over UDP multicast: somebody else decodes our frames."""

import asyncio
import random

import pytest

pytest.importorskip("msgpack")
pytest.importorskip("odrive_can")

import can
from odrive_can import mock

from fleet_market.body import DriverSpec
from fleet_market.ids import RobotId
from fleet_market_hardware.bases import Differential, Geometry
from fleet_market_hardware.bases.differential import Limits
from fleet_market_hardware.bases.odrive import ODriveWheels

GROUP = "239.74.163.2"


async def forever(base):
    while True:
        await base.next_telemetry(base.telemetry().seq, timeout_s=0.6)


@pytest.mark.real
@pytest.mark.waits
async def test_the_mock_of_others_follows_our_base():
    port = random.SystemRandom().randrange(20_000, 60_000)
    options = {"port": port}

    def bus():
        return can.Bus(channel=GROUP, interface="udp_multicast", **options)

    axes = [mock.ODriveCANMock(axis_id=node, can_bus=bus()) for node in (0, 1)]
    spec = DriverSpec(RobotId("mocked"), 1.0, 0.0, frozenset(), frozenset({"motors"}))
    wheels = ODriveWheels(GROUP, interface="udp_multicast", options=options)
    base = Differential(wheels, spec, Geometry(0.1, 0.4), Limits(1.0, 2.0, 2.0, 6.0))
    running = [asyncio.ensure_future(axis.main()) for axis in axes]
    try:
        await base.open(timeout_s=60.0)
        assert [axis.odrive.axis_state for axis in axes] == ["CLOSED_LOOP_CONTROL"] * 2
        for _ in range(20):
            await base.drive(0.5, 0.0, valid_s=0.3)
            seen = await base.next_telemetry(base.telemetry().seq, timeout_s=60.0)
        left, right = (axis.odrive for axis in axes)
        assert left.position > 0 > right.position, "the right motor is mounted the other way round"
        assert seen.odometer_m == pytest.approx(left.position * 0.6283, abs=0.15)
        assert seen.battery.voltage_v is None, "the mock says 0 V, which cannot be"
        assert [doubt.field for doubt in base.doubts()] == ["voltage_v"]
        for task in running:
            task.cancel()
        with pytest.raises(TimeoutError):
            await forever(base)
        assert base.telemetry().link == "STALE"
    finally:
        await base.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_current_that_is_not_told_any_more_is_not_known(monkeypatch):
    from fleet_market_hardware.bases import odrive
    from fleet_market_hardware.emulators.odrive import ODriveEmulator

    channel = f"stale-{random.SystemRandom().random()}"
    with ODriveEmulator(channel) as emulator:
        spec = DriverSpec(RobotId("r"), 1.0, 0.0, frozenset(), frozenset({"motors"}))
        wheels = ODriveWheels(channel, interface="virtual")
        base = Differential(wheels, spec, Geometry(0.1, 0.4), Limits(1.0, 2.0, 2.0, 6.0))
        await base.open(timeout_s=60.0)

        async def until(condition):
            async with asyncio.timeout(60.0):
                while not condition(seen := await base.next_telemetry(base.telemetry().seq, timeout_s=60.0)):
                    pass
                return seen

        seen = await until(lambda t: t.battery.current_a is not None)
        assert (seen.battery.voltage_v, seen.battery.current_a) == (pytest.approx(24.1), pytest.approx(-0.4))
        monkeypatch.setattr(odrive, "FRESH_S", 0.3)
        monkeypatch.setattr(emulator, "_answer", lambda side, command: None)
        seen = await until(lambda t: t.battery.current_a is None)
        assert seen.battery.voltage_v is None
        assert seen.link == "UP"
        await base.close()
