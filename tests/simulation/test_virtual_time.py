"""The event loop that jumps: order, time, and programs that hang."""

import asyncio

import pytest

from fleet_market.testing.simulation.virtual_time import StalledError, run


def test_a_day_takes_no_time_and_timers_fire_in_their_order():
    async def sleeper(log, name, seconds):
        await asyncio.sleep(seconds)
        log.append((name, asyncio.get_running_loop().time()))

    async def main(loop):
        log = []
        async with asyncio.TaskGroup() as tasks:
            for name, seconds in (("day", 86_400), ("b", 1), ("a", 1), ("soon", 0.5)):
                tasks.create_task(sleeper(log, name, seconds))
        return log

    assert run(main) == [("soon", 0.5), ("b", 1.0), ("a", 1.0), ("day", 86_400.0)]


def test_a_timeout_ends_a_wait_and_a_cancelled_timer_costs_no_time():
    async def main(loop):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        async with asyncio.timeout(1000):
            await asyncio.sleep(1)
        return loop.time()

    assert run(main) == 11.0


def test_a_program_that_hangs_is_told_from_one_that_waits():
    async def main(loop):
        await asyncio.Event().wait()

    with pytest.raises(StalledError):
        run(main)


@pytest.mark.parametrize(
    "call", [lambda loop: loop.call_soon_threadsafe(print), lambda loop: loop.run_in_executor(None, print)]
)
def test_threads_are_refused(call):
    async def main(loop):
        call(loop)

    with pytest.raises(RuntimeError, match="no thread"):
        run(main)


def test_tasks_that_are_left_are_cancelled_at_the_end():
    ended = []

    async def endless():
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append(True)

    async def main(loop):
        task = asyncio.create_task(endless())
        await asyncio.sleep(1)
        return task

    assert run(main).cancelled()
    assert ended
