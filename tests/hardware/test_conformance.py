"""The conformance suite: it passes good drivers, and finds every fault that is planted in one."""

import dataclasses
import math
import time

import pytest

from fleet_market.body import Battery, End, Link, Result
from fleet_market.testing.conformance import ABILITIES, ROWS, check
from fleet_market_hardware import Follower
from fleet_market_hardware.kinematic import LIMITS, KinematicBench

BY_NAME = {row.name: row for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_the_follower_keeps_the_contract(row):
    outcome = await check(row, KinematicBench)
    assert outcome.verdict == ("skipped" if "reset" in row.needs else "kept"), outcome.text


class Numb(Follower):
    """Says that an unknown value is NaN."""

    def telemetry(self):
        return dataclasses.replace(super().telemetry(), battery=Battery(soc=math.nan))


class Boaster(Follower):
    """Is done before it has begun."""

    async def run(self, job, *, deadline_s, on_step=None):
        for index, _ in enumerate(job.steps):
            on_step and on_step(index, "go")
        return Result(job.id, End.DONE, len(job.steps), standstill=True)


class Pusher(Follower):
    """Takes every way for free."""

    async def _go(self, go, end_ns):
        await super()._go(dataclasses.replace(go, released=len(go.path)), end_ns)


class Coaster(Follower):
    """Believes that a robot stands when nobody drives it."""

    async def _halt(self, timeout_s=10.0):
        return True


class Juggler(Follower):
    """Takes a second job for the first."""

    async def run(self, job, *, deadline_s, on_step=None):
        if self._job is not None:
            return Result(job.id, End.DONE, len(job.steps), standstill=True)
        return await super().run(job, deadline_s=deadline_s, on_step=on_step)


class Forgetful(Follower):
    """Stops in an emergency, and then goes on as if nothing had been."""

    async def estop(self, *, engage=True):
        await super().estop(engage=engage)
        self._estop = False


class Reconnecter(Follower):
    """Keeps the emergency stop for as long as the connection."""

    async def close(self):
        await super().close()
        self._estop = False


class Optimist(Follower):
    """Always has a link."""

    def telemetry(self):
        return dataclasses.replace(super().telemetry(), link=Link.UP)


class Racer(Follower):
    """Knows no limit but its own."""

    async def _go(self, go, end_ns):
        await super()._go(dataclasses.replace(go, max_speed=None), end_ns)


class Waiter(Follower):
    """Waits for its device on the event loop."""

    async def _go(self, go, end_ns):
        time.sleep(1.1)  # noqa: ASYNC251 - the fault
        await super()._go(go, end_ns)


class Believer(Follower):
    """Takes an action for its effect."""

    async def _act(self, act, end_ns):
        await self._base.act(act.kind, parcel=act.parcel, mass_kg=act.mass_kg)


class Leaver(Follower):
    """Leaves a driving robot alone."""

    async def close(self):
        await self._base.close()


class Liar(Follower):
    """Says of a blocked robot that it is there."""

    async def run(self, job, *, deadline_s, on_step=None):
        result = await super().run(job, deadline_s=deadline_s, on_step=on_step)
        return dataclasses.replace(result, end=End.DONE) if result.end is End.FAILED else result


FAULTS = [
    (Numb, "telemetry_is_honest", "battery.soc was nan"),
    (Boaster, "done_means_there", "DONE at"),
    (Waiter, "done_means_there", "event loop was blocked"),
    (Pusher, "release_is_a_limit", "released were"),
    (Coaster, "stop_means_standstill", "moved"),
    (Coaster, "deadline_stops", "moved"),
    (Juggler, "second_job_is_rejected", "the second job ended as DONE"),
    (Forgetful, "emergency_stop_latches", "not as REJECTED"),
    (Reconnecter, "emergency_stop_latches", "a new connection"),
    (Optimist, "silence_is_lost", "link is UP"),
    (Racer, "speed_is_limited", "the limit was"),
    (Believer, "no_load_is_not_done", "ended as DONE"),
    (Liar, "blocked_is_not_done", "ended as DONE"),
    (Liar, "teleported_is_not_done", "DONE at"),
    (Leaver, "close_stops", "after close: the robot moved"),
]


@pytest.mark.parametrize(("kind", "row", "text"), FAULTS, ids=lambda v: getattr(v, "__name__", None))
async def test_a_planted_fault_is_found(kind, row, text):
    class Bench(KinematicBench):
        def driver(self):
            return kind(self._base, LIMITS)

    outcome = await check(BY_NAME[row], Bench)
    assert outcome.verdict == "broken"
    assert text in outcome.text


class Clinging(KinematicBench):
    """Its base drives on for ever."""

    async def __aenter__(self):
        drive = self._base.drive
        self._base.drive = lambda vx, wz, *, valid_s: drive(vx, wz, valid_s=math.inf)
        return self


@pytest.mark.parametrize("row", ["abandoned_robot_stops", "base_has_a_dead_man"])
async def test_a_base_without_a_dead_man_is_found(row):
    outcome = await check(BY_NAME[row], Clinging)
    assert outcome.verdict == "broken"
    assert "moved" in outcome.text


async def test_a_counter_that_falls_is_found():
    class Bench(KinematicBench):
        abilities = KinematicBench.abilities | {"reset"}

        def reset(self):
            self._base._odometer_m = 0.0

    outcome = await check(BY_NAME["counters_never_fall"], Bench)
    assert outcome.verdict == "broken"
    assert "odometer_m fell" in outcome.text


async def test_what_spec_lacks_must_be_refused():
    class Bench(KinematicBench):
        def driver(self):
            follower = super().driver()
            follower.spec = dataclasses.replace(
                follower.spec, actions=frozenset({"load"}), lacks=frozenset({"speed_limit"})
            )
            return follower

    assert (await check(BY_NAME["undeclared_is_refused"], Bench)).verdict == "kept"


def test_every_need_is_an_ability_and_every_row_has_its_own_name():
    assert all(row.needs <= set(ABILITIES) for row in ROWS)
    assert len(BY_NAME) == len(ROWS)
