"""The driver contract, on the follower."""

import asyncio
import math

import pytest

from fleet_market.body import Act, End, Go, Job, Pose
from fleet_market.robot.tracking import Limits
from fleet_market.testing import KinematicBase
from fleet_market_hardware import Follower

LINE = tuple((0.25 * i, 0.0) for i in range(17))


def go(path=LINE, released=None, **more):
    return Go(Pose(*path[-1], 0.0), path, len(path) if released is None else released, **more)


def follower(**more):
    base = KinematicBase(Pose(0, 0, 0), **more)
    return Follower(base, Limits(1.0, 0.6, 1.5)), base


async def run(driver, *steps, deadline_s=120.0):
    return await driver.run(Job("j", steps), deadline_s=deadline_s)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the base's time passes only while others run
            await asyncio.sleep(0)


async def test_a_delivery_is_done_step_by_step():
    driver, base = follower()
    steps = []
    job = Job("j", (go(), Act("load", "p", 3.0, 4.0), go(tuple(reversed(LINE)), tol_rad=0.1), Act("unload", "p", 3.0, 4.0)))
    result = await driver.run(job, deadline_s=200, on_step=lambda i, text: steps.append((i, text)))
    assert (result.end, result.steps_done, result.standstill) == (End.DONE, 4, True)
    assert steps == [(0, "go"), (1, "act"), (2, "go"), (3, "act")]
    pose = base.telemetry().pose
    assert math.hypot(pose.x, pose.y) < 0.1
    assert abs(pose.yaw) % (2 * math.pi) < 0.15 or abs(abs(pose.yaw) - 2 * math.pi) < 0.15


async def test_it_waits_where_its_release_ends_and_goes_on_when_it_grows():
    driver, base = follower()
    running = asyncio.ensure_future(run(driver, go(released=5)))
    await until(lambda: driver.passed() == 5 and not base.telemetry().moving and base.telemetry().stamp_ns > 20e9)
    assert base.telemetry().pose.x == pytest.approx(1.0, abs=0.06)
    driver.release("other", 17)
    driver.release("j", 3)
    await until(lambda: base.telemetry().stamp_ns > 40e9)
    assert base.telemetry().pose.x == pytest.approx(1.0, abs=0.06)
    driver.release("j", 17)
    assert (await running).end is End.DONE


async def test_a_stop_ends_the_job_with_proof_of_standstill():
    driver, base = follower()
    running = asyncio.ensure_future(run(driver, go()))
    await until(lambda: base.telemetry().vx > 0.5)
    assert await driver.stop(timeout_s=10)
    result = await running
    assert (result.end, result.standstill, result.steps_done) == (End.CANCELLED, True, 0)
    assert not base.telemetry().moving
    assert (await run(driver, go())).end is End.DONE


async def test_a_stop_leaves_the_next_job_alone():
    driver, base = follower()

    async def drive_twice():
        first = await run(driver, go())
        return first.end, (await run(driver, go())).end

    running = asyncio.ensure_future(drive_twice())
    await until(lambda: driver.passed() == 5)
    assert await driver.stop(timeout_s=10)
    assert base.telemetry().pose.x < 3.0
    assert await running == (End.CANCELLED, End.DONE)


async def test_a_stop_while_it_brakes_for_another_waits_for_the_same_end():
    driver, base = follower()
    running = asyncio.ensure_future(run(driver, go()))
    await until(lambda: base.telemetry().vx > 0.8)
    first = asyncio.ensure_future(driver.stop(timeout_s=10))
    await until(lambda: base.telemetry().vx < 0.6)
    assert base.telemetry().moving
    assert await asyncio.gather(first, driver.stop(timeout_s=10)) == [True, True]
    assert not base.telemetry().moving
    assert ((await running).end, running.result().standstill) == (End.CANCELLED, True)


async def test_a_second_job_and_a_job_under_emergency_stop_are_rejected():
    driver, base = follower()
    running = asyncio.ensure_future(run(driver, go()))
    await until(lambda: base.telemetry().moving)
    second = await driver.run(Job("k", (go(),)), deadline_s=10)
    assert (second.end, second.reason) == (End.REJECTED, "another job is running")
    await driver.estop()
    assert (await running).end is End.CANCELLED
    assert (await run(driver, go())).reason == "emergency stop is latched"
    await driver.estop(engage=False)
    assert (await run(driver, go())).end is End.DONE


async def test_a_deadline_ends_in_standstill():
    driver, base = follower()
    result = await run(driver, go(), deadline_s=2.0)
    assert (result.end, result.standstill) == (End.TIMED_OUT, True)
    assert not base.telemetry().moving


async def test_silence_ends_in_lost_and_does_not_claim_standstill():
    driver, base = follower()
    running = asyncio.ensure_future(run(driver, go()))
    await until(lambda: base.telemetry().moving)
    base.silent = True
    result = await running
    assert (result.end, result.standstill) == (End.LOST, None)


async def test_a_blocked_robot_fails_but_waiting_for_a_release_is_not_blocked():
    driver, base = follower()
    running = asyncio.ensure_future(run(driver, go()))
    await until(lambda: base.telemetry().vx > 0.5)
    base.stuck = True
    result = await running
    assert result.end is End.FAILED
    assert "blocked" in result.reason


async def test_a_load_that_does_not_show_on_the_scale_is_not_done():
    driver, base = follower()
    base.broken_scale = True
    result = await run(driver, Act("load", "p", 3.0, 1.0))
    assert (result.end, result.steps_done) == (End.FAILED, 0)
    assert "the scale changed by 0.00 kg, not by 3.00 kg" in result.reason


async def test_without_a_scale_a_load_takes_its_time_and_counts():
    driver, base = follower(payload_kg=None)
    assert (await run(driver, Act("load", "p", 3.0, 4.0))).end is End.DONE
    assert base.telemetry().stamp_ns >= 4e9


async def test_charging_ends_at_the_wanted_state_of_charge():
    driver, _ = follower()
    assert (await run(driver, Act("charge", until_soc=0.9))).end is End.DONE


async def test_the_base_brakes_by_itself_when_the_driver_is_gone():
    _, base = follower()
    await base.drive(1.0, 0.0, valid_s=0.3)
    for _ in range(6):
        base.advance()
    top = base.telemetry().vx
    assert top > 0.1
    for _ in range(20):
        base.advance()
    assert base.telemetry().vx == 0.0
