"""The contract of `RobotDriver` and `VelocityBase`, line by line.

After the project's driver contract: None for what is not measured, no DONE without evidence, standstill confirmed after
every stop, a dead-man in device or driver, STALE ends in LOST, monotone counters, a latched emergency stop, and a limit on
the time of every call.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import pairwise

from fleet_market.body import Act, End, Job, Link, Pose, Result, Telemetry
from fleet_market.testing.conformance.checking import (
    LOOK_S,
    MAX_BLOCKED_LOOP_S,
    OPEN_S,
    TINY_M,
    Row,
    Trial,
    demand,
)

MASS_KG = 1.0
STOP_WALL_S = 15.0
SLACK_WALL_S = 3.0
MEASURED: dict[str, Callable[[Telemetry], object]] = {
    "pose": lambda t: t.pose,
    "battery": lambda t: t.battery.soc,
    "energy": lambda t: t.battery.energy_out_j,
    "motors": lambda t: t.motors or None,
    "payload": lambda t: t.payload_kg,
    "payload_kg": lambda t: t.payload_kg,
}  # fmt: skip
"""What `DriverSpec.measures` names, and where it is in the telemetry."""
ROWS: list[Row] = []
Body = Callable[[Trial], Awaitable[None]]


def _row(*needs: str) -> Callable[[Body], Body]:
    def register(body: Body) -> Body:
        ROWS.append(Row(body.__name__, body.__doc__ or "", frozenset(needs), body))
        return body

    return register


def _is(result: Result, end: End, standstill: bool | None = True) -> None:  # noqa: FBT001, FBT002 - three values
    demand(result.end is end, f"ended as {result.end} ({result.reason}), not as {end}")
    demand(result.standstill is standstill, f"{end} said standstill={result.standstill}, not {standstill}")


# --- telemetry ----------------------------------------------------------------------------------------------------------


@_row()
async def telemetry_is_honest(trial: Trial) -> None:
    """Open returns once telemetry exists; every number is finite, every value that is not measured None."""
    async with trial.opened() as driver:
        first = driver.telemetry()
        demand(first.link is Link.UP, f"open returned with link {first.link}")
        spec = driver.spec
        for name in spec.measures:
            demand(name in MEASURED, f"spec.measures names {name!r}: use names of {sorted(MEASURED)}")
            await trial.until(partial(_measures, name), f"{name}, which spec.measures promises")
        trial.begin(trial.go())
        seen = [driver.telemetry()]
        while trial.running is not None and not trial.running.done():
            await trial.bench.pause(LOOK_S)
            seen.append(driver.telemetry())
        for telemetry in seen:
            _finite(telemetry, "telemetry")
            soc = telemetry.battery.soc
            demand(soc is None or 0.0 <= soc <= 1.0, f"battery.soc was {soc}: use 0 to 1")
        for a, b in pairwise(seen):
            demand(b.seq >= a.seq, f"seq fell from {a.seq} to {b.seq}")
            demand(b.stamp_ns >= a.stamp_ns, f"stamp_ns fell from {a.stamp_ns} to {b.stamp_ns}")
            demand(b.odometer_m >= a.odometer_m, f"odometer_m fell from {a.odometer_m} to {b.odometer_m}")
        demand(seen[-1].seq > seen[0].seq, "seq did not grow while the robot drove")
    _finite(driver.telemetry(), "telemetry after close")


def _measures(name: str, telemetry: Telemetry) -> bool:
    return MEASURED[name](telemetry) is not None


def _finite(value: object, name: str) -> None:
    if isinstance(value, float):
        demand(math.isfinite(value), f"{name} was {value}: use None for what is not measured")
    elif isinstance(value, tuple):
        for number, part in enumerate(value):
            _finite(part, f"{name}[{number}]")
    elif is_dataclass(value):
        for field in fields(value):
            _finite(getattr(value, field.name), f"{name}.{field.name}")


@_row("cut")
async def open_has_a_limit(trial: Trial) -> None:
    """Open raises TimeoutError where no telemetry comes, in time."""
    trial.bench.cut(broken=True)
    begun = time.monotonic()
    try:
        await trial.driver.open(timeout_s=1.0)
    except TimeoutError:
        demand(time.monotonic() - begun < 1.0 + SLACK_WALL_S, "open took longer than its timeout")
    else:
        demand(False, "open returned without telemetry")
    finally:
        trial.bench.cut(broken=False)
        await trial.driver.close()


# --- jobs ---------------------------------------------------------------------------------------------------------------


@_row()
async def done_means_there(trial: Trial) -> None:
    """Run is DONE only where the robot really is at the goal; steps are told in order; the event loop is never blocked."""
    steps: list[int] = []
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - begun)

    async with trial.opened() as driver:
        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(STOP_WALL_S * 4):
                result = await driver.run(
                    Job("there", (trial.go(), trial.go(backward=True), trial.go())),
                    deadline_s=6 * trial.bench.deadline_s,
                    on_step=lambda index, _text: steps.append(index),
                )
        finally:
            watching.cancel()
        _is(result, End.DONE)
        demand(result.steps_done == 3, f"steps_done was {result.steps_done} of 3")
        demand(steps == [0, 1, 2], f"on_step told {steps}, not 0, 1, 2")
        end, here, told = trial.end, trial.bench.true_pose(), driver.telemetry().pose
        demand(here.distance_to(end.x, end.y) <= trial.go().tol_m + TINY_M, f"DONE at {here}, not at {end}")
        demand(told is not None and told.distance_to(here.x, here.y) <= 2 * TINY_M, f"telemetry said {told}, truth {here}")
        demand(
            max(gaps, default=0.0) < MAX_BLOCKED_LOOP_S, f"the event loop was blocked for {max(gaps, default=0.0):.1f} s"
        )


@_row()
async def release_is_a_limit(trial: Trial) -> None:
    """No metre behind what is released; passed() grows, and a release goes to its own job only."""
    course, half = trial.bench.course, len(trial.bench.course) // 2
    async with trial.opened() as driver:
        job = trial.begin(trial.go(released=half))
        (sx, sy), limit_m = course[0], math.dist(course[0], course[half - 1])
        await trial.until(lambda _: driver.passed() >= half - 1, f"passed() is {half - 1}")
        driver.release("another job", len(course))
        driver.release("trial", half - 1)
        await trial.until(lambda t: not t.moving, "standstill at the end of the release")
        await trial.bench.pause(2.0)
        gone_m = trial.bench.true_pose().distance_to(sx, sy)
        demand(gone_m <= limit_m + 2 * TINY_M, f"drove {gone_m:.2f} m, released were {limit_m:.2f} m")
        demand(driver.passed() <= half, f"passed() was {driver.passed()} of {half} released")
        demand(not job.done(), "the job ended though its path goes on")
        driver.release("trial", len(course))
        _is(await job, End.DONE)
        demand(driver.passed() == 0, f"passed() was {driver.passed()} without a job")


@_row()
async def second_job_is_rejected(trial: Trial) -> None:
    """One job at a time: a second one is REJECTED and the first goes on."""
    async with trial.opened() as driver:
        first = trial.begin(trial.go())
        await trial.until(lambda t: t.moving, "the robot drives")
        second = await driver.run(Job("second", (trial.go(),)), deadline_s=trial.bench.deadline_s)
        demand(second.end is End.REJECTED and second.steps_done == 0, f"the second job ended as {second.end}")
        _is(await first, End.DONE)


@_row()
async def undeclared_is_refused(trial: Trial) -> None:
    """What spec does not offer is REJECTED before the robot moves."""
    async with trial.opened() as driver:
        wishes = [Act(kind, "p", MASS_KG, 0.1) for kind in ("load", "unload", "charge") if kind not in driver.spec.actions]
        for wish in wishes:
            result = await trial.run(trial.go(), wish)
            demand(result.end is End.REJECTED, f"{wish.kind}, which spec.actions lacks, ended as {result.end}")
            demand(bool(result.reason), f"no reason for refusing {wish.kind}")
        if "speed_limit" in driver.spec.lacks:
            go = trial.go()
            result = await trial.run(type(go)(go.pose, go.path, go.released, max_speed=0.2))
            demand(result.end is End.REJECTED, f"a speed limit, which the driver lacks, ended as {result.end}")
        await trial.stands("after refusals")
        (x, y), here = trial.bench.course[0], trial.bench.true_pose()
        demand(here.distance_to(x, y) <= 2 * TINY_M, "the robot moved for a job that was refused")


@_row()
async def speed_is_limited(trial: Trial) -> None:
    """A speed limit is kept, that of the step and that of the data sheet."""
    async with trial.opened() as driver:
        lacks = "speed_limit" in driver.spec.lacks
        limit = driver.spec.max_speed_mps * (1.0 if lacks else 0.4)
        go = trial.go()
        job = trial.begin(go if lacks else type(go)(go.pose, go.path, go.released, max_speed=limit))
        fastest = 0.0
        while not job.done():
            await trial.bench.pause(LOOK_S)
            fastest = max(fastest, abs(driver.telemetry().vx or 0.0))
        _is(await job, End.DONE)
        demand(fastest <= 1.1 * limit, f"drove {fastest:.2f} m/s, the limit was {limit:.2f} m/s")


@_row()
async def load_and_unload(trial: Trial) -> None:
    """An action is DONE when its effect shows, where spec says that the load is measured."""
    async with trial.opened() as driver:
        if not {"load", "unload"} <= driver.spec.actions:
            return
        scale = driver.spec.measures & {"payload", "payload_kg"}
        _is(await trial.run(Act("load", "p", MASS_KG, 0.5)), End.DONE)
        kg = driver.telemetry().payload_kg
        demand(
            not scale or (kg is not None and abs(kg - MASS_KG) < MASS_KG / 2), f"loaded {MASS_KG} kg, the scale says {kg}"
        )
        _is(await trial.run(Act("unload", "p", MASS_KG, 0.5)), End.DONE)
        kg = driver.telemetry().payload_kg
        demand(not scale or (kg is not None and abs(kg) < MASS_KG / 2), f"unloaded, the scale says {kg}")


@_row("spoil_scale")
async def no_load_is_not_done(trial: Trial) -> None:
    """A load that does not come aboard is not DONE."""
    async with trial.opened() as driver:
        if "load" not in driver.spec.actions or not driver.spec.measures & {"payload", "payload_kg"}:
            return
        trial.bench.spoil_scale()
        result = await trial.run(Act("load", "p", MASS_KG, 0.5))
        demand(result.end is End.FAILED and result.steps_done == 0, f"ended as {result.end}: {result.reason}")


@_row("block")
async def blocked_is_not_done(trial: Trial) -> None:
    """A robot that cannot move does not say DONE."""
    async with trial.opened():
        job = trial.begin(trial.go())
        await trial.at_speed()
        trial.bench.block(held=True)
        result = await job
        demand(result.end in {End.FAILED, End.TIMED_OUT}, f"a blocked robot ended as {result.end}: {result.reason}")
        demand(result.standstill is True, f"standstill was {result.standstill}")
        await trial.bench.pause(trial.bench.stop_s)  # wheels that spun on the spot come to rest
        trial.bench.block(held=False)
        await trial.stands("after the obstacle has gone")


@_row("teleport")
async def teleported_is_not_done(trial: Trial) -> None:
    """A robot that is set down elsewhere does not say DONE there."""
    course = trial.bench.course
    async with trial.opened():
        job = trial.begin(trial.go())
        await trial.at_speed()
        (ax, ay), (bx, by) = course[0], course[-1]
        length = math.dist(course[0], course[-1])
        sideways = ((ay - by) / length, (bx - ax) / length)
        trial.bench.teleport(Pose(ax + 1.2 * sideways[0], ay + 1.2 * sideways[1], trial.end.yaw))
        result = await job
        here = trial.bench.true_pose()
        there = here.distance_to(trial.end.x, trial.end.y) <= trial.go().tol_m + TINY_M
        demand(result.end is not End.DONE or there, f"DONE at {here}, the goal was {trial.end}")
        demand(result.end in {End.FAILED, End.LOST}, f"left its way and ended as {result.end}: {result.reason}")


# --- ends ---------------------------------------------------------------------------------------------------------------


@_row()
async def stop_means_standstill(trial: Trial) -> None:
    """Stop at full speed is True only at standstill, and the job ends CANCELLED."""
    async with trial.opened() as driver:
        job = trial.begin(trial.go())
        await trial.at_speed()
        demand(await driver.stop(timeout_s=STOP_WALL_S), "stop was not confirmed")
        await trial.stands("after stop() said True")
        result = await job
        _is(result, End.CANCELLED)
        demand(result.steps_done == 0, f"steps_done was {result.steps_done}")
        demand(await driver.stop(timeout_s=STOP_WALL_S), "stop of a standing robot was not confirmed")
        _is(await trial.run(trial.go(), deadline_s=2 * trial.bench.deadline_s), End.DONE)


@_row()
async def cancelled_task_stops(trial: Trial) -> None:
    """Cancelling the task that runs a job stops the robot."""
    async with trial.opened() as driver:
        job = asyncio.ensure_future(driver.run(Job("trial", (trial.go(),)), deadline_s=2 * trial.bench.deadline_s))
        await trial.at_speed()
        job.cancel()
        await asyncio.wait([job], timeout=STOP_WALL_S)
        demand(job.done(), "run() did not end within the stop's time")
        await trial.stands("after its task was cancelled")
        _is(await trial.run(trial.go()), End.DONE)


@_row()
async def deadline_stops(trial: Trial) -> None:
    """A deadline ends in TIMED_OUT and in standstill that was looked for."""
    async with trial.opened():
        result = await trial.run(trial.go(), deadline_s=1.0)
        _is(result, End.TIMED_OUT)
        await trial.stands("after its deadline")


@_row("cut")
async def silence_is_lost(trial: Trial) -> None:
    """Silence makes the link STALE and ends the job LOST, without a word on standstill; afterwards all is well again."""
    async with trial.opened() as driver:
        job = trial.begin(trial.go())
        await trial.at_speed()
        trial.bench.cut(broken=True)
        _is(await job, End.LOST, standstill=None)
        await trial.bench.pause(trial.bench.stale_s)
        demand(driver.telemetry().link is not Link.UP, "silent for long, and the link is UP")
        begun = time.monotonic()
        demand(not await driver.stop(timeout_s=1.0), "a stop was confirmed over a broken link")
        demand(time.monotonic() - begun < 1.0 + SLACK_WALL_S, "stop took longer than its timeout")
        await trial.bench.pause(trial.bench.stop_s)
        trial.bench.cut(broken=False)
        await trial.until(lambda t: t.link is Link.UP and not t.moving, "link UP and standstill after the link was mended")
        _is(await trial.run(trial.go()), End.DONE)


@_row("reset")
async def counters_never_fall(trial: Trial) -> None:
    """Counters never fall: over a new connection, and over a restart of the device."""
    async with trial.opened() as driver:
        _is(await trial.run(trial.go()), End.DONE)
        before = driver.telemetry()
        trial.bench.reset()
        _is(await trial.run(trial.go(backward=True)), End.DONE)
        after = driver.telemetry()
        _counted(before, after, "over a restart of the device")
        demand(after.odometer_m > before.odometer_m, "the odometer stood still")
    async with trial.opened() as driver:
        await trial.until(lambda t: t.link is Link.UP, "link UP after opening again")
        _counted(after, driver.telemetry(), "over a new connection")


def _counted(before: Telemetry, after: Telemetry, when: str) -> None:
    demand(after.seq >= before.seq, f"seq fell from {before.seq} to {after.seq} {when}")
    demand(after.odometer_m >= before.odometer_m, f"odometer_m fell from {before.odometer_m} to {after.odometer_m} {when}")
    a, b = before.battery.energy_out_j, after.battery.energy_out_j
    demand(a is None or b is None or b >= a, f"battery.energy_out_j fell from {a} to {b} {when}")


# --- safety, within what a driver can do --------------------------------------------------------------------------------


@_row()
async def emergency_stop_latches(trial: Trial) -> None:
    """An emergency stop latches: jobs are REJECTED, also over a new connection, until it is released."""
    async with trial.opened() as driver:
        job = trial.begin(trial.go())
        await trial.at_speed()
        await driver.estop()
        await trial.stands("under emergency stop")
        demand((await job).end is not End.DONE, "a job under emergency stop was DONE")
        _is(await trial.run(trial.go()), End.REJECTED, standstill=None)
    async with trial.opened() as driver:
        demand((await trial.run(trial.go())).end is End.REJECTED, "a new connection released the emergency stop")
        await driver.estop(engage=False)
        _is(await trial.run(trial.go()), End.DONE)


@_row()
async def close_stops(trial: Trial) -> None:
    """Close stops the robot, ends its job, and may be called twice."""
    async with trial.opened() as driver:
        job = trial.begin(trial.go())
        await trial.at_speed()
        await driver.close()
        await trial.stands("after close")
        await asyncio.wait([job], timeout=STOP_WALL_S)
        demand(job.done() and job.result().end is not End.DONE, "close left the job running")
    await driver.close()


@_row("abandon")
async def abandoned_robot_stops(trial: Trial) -> None:
    """A robot whose driver is gone stops: at once, or, where spec lacks that, at the end of its release."""
    course, half = trial.bench.course, len(trial.bench.course) // 2
    await trial.driver.open(timeout_s=OPEN_S)
    job = trial.begin(trial.go(released=half))
    try:
        await trial.at_speed()
        await trial.bench.abandon()
        job.cancel()
        dead_man = "dead_man" not in trial.driver.spec.lacks
        await trial.bench.pause(trial.bench.stop_s if dead_man else trial.bench.deadline_s)
        await trial.stands("its driver was gone")
        gone_m = trial.bench.true_pose().distance_to(*course[0])
        limit_m = math.dist(course[0], course[half - 1])
        demand(gone_m <= limit_m + 2 * TINY_M, f"drove {gone_m:.2f} m without its driver, released were {limit_m:.2f} m")
    finally:
        job.cancel()
        await asyncio.wait([job], timeout=STOP_WALL_S)
        await trial.driver.close()


@_row("base", "cut")
async def base_has_a_dead_man(trial: Trial) -> None:
    """A velocity base stops by itself when commands stop, and says so when telemetry stays away."""
    base = trial.bench.base()
    await base.open(timeout_s=OPEN_S)
    try:
        for _ in range(10):
            await base.drive(0.3, 0.0, valid_s=0.3)
            await base.next_telemetry(base.telemetry().seq, timeout_s=OPEN_S)
        await trial.bench.pause(trial.bench.stop_s)
        await trial.stands("commands had stopped")
        trial.bench.cut(broken=True)
        await trial.bench.pause(2 * LOOK_S)
        try:
            for _ in range(5):
                await base.next_telemetry(base.telemetry().seq, timeout_s=0.5)
        except TimeoutError:
            return
        demand(False, "next_telemetry returned over a broken link")
    finally:
        trial.bench.cut(broken=False)
        await base.close()
