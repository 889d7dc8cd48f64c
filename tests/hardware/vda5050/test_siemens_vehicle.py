"""Our master control and a vehicle of vda-5050-lib, on a real broker."""

import asyncio

import pytest

from fleet_market.body import Act, End, Go, Job, Pose

pytestmark = pytest.mark.real

LINE = tuple((0.25 * i, 0.0) for i in range(13))


def go(path=LINE, released=None, **more):
    return Go(Pose(*path[-1], 0.0), path, len(path) if released is None else released, **more)


async def test_a_delivery_is_done_step_by_step(start_vehicle, drive, wire):
    driver = await drive(start_vehicle(lapse=4).serial)
    steps = []
    up = ((3.0, 0.0), (3.0, 2.0))
    job = Job("delivery", (go(), Act("load", "p", 3.0, 1.0), go(up), Act("unload", "p", 3.0, 1.0)))
    result = await driver.run(job, deadline_s=60, on_step=lambda i, text: steps.append((i, text)))
    assert (result.end, result.steps_done, result.standstill) == (End.DONE, 4, True), result
    assert steps == [(0, "go"), (1, "act"), (2, "go"), (3, "act")]
    telemetry = driver.telemetry()
    assert telemetry.pose.distance_to(3.0, 2.0) < 0.1
    assert 0.8 < telemetry.battery.soc < 0.9
    assert 4.0 < telemetry.odometer_m < 6.0
    assert telemetry.battery.energy_out_j == pytest.approx(500 * 3600 * (0.9 - telemetry.battery.soc), abs=1.0)
    assert len(wire.orders()) == 1
