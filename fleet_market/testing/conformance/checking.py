"""How a row is run: one bench, one promise of the contract, one outcome."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from fleet_market.body import Act, Go, Job, Pose, Result, Telemetry
from fleet_market.ports import RobotDriver
from fleet_market.testing.conformance.bench import ABILITIES, Bench

OPEN_S = 20.0
"""Longest opening of a driver (wall time)."""
LOOK_S = 0.05
JOB_LIMIT_WALL_S = 60.0
"""A job of the suite that has not ended by then (wall time) never will."""
MAX_BLOCKED_LOOP_S = 1.0
"""A driver that keeps the event loop longer waits for its device there [assumption: half of a usual serial timeout]."""
TINY_M = 0.05
"""A standing robot may drift this far."""


class BrokenContractError(AssertionError):
    """A driver does not keep a line of the contract."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the contract."""

    name: str
    promise: str
    needs: frozenset[str]
    """What the bench must be able to do."""
    run: Callable[[Trial], Awaitable[None]]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a row."""

    row: Row
    verdict: Literal["kept", "broken", "skipped"]
    text: str = ""

    @property
    def kept(self) -> bool:
        """Whether the contract is not shown to be broken."""
        return self.verdict != "broken"


def demand(condition: object, text: str) -> None:
    """Raise `BrokenContractError` with `text` unless `condition` holds."""
    if not condition:
        raise BrokenContractError(text)


class Trial:
    """A bench and a driver of its robot, with what rows often do."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.driver: RobotDriver = bench.driver()
        self.running: asyncio.Task[Result] | None = None

    @property
    def end(self) -> Pose:
        """The pose at the end of the course."""
        (x, y), (bx, by) = self.bench.course[-1], self.bench.course[0]
        return Pose(x, y, _heading((bx, by), (x, y)))

    def go(self, released: int | None = None, *, backward: bool = False) -> Go:
        """Return the step that drives the course."""
        path = tuple(reversed(self.bench.course)) if backward else self.bench.course
        return Go(Pose(*path[-1], _heading(path[0], path[-1])), path, len(path) if released is None else released)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[RobotDriver]:
        """Open the driver, and close it."""
        await self.driver.open(timeout_s=OPEN_S)
        try:
            yield self.driver
        finally:
            if self.running is not None and not self.running.done():
                self.running.cancel()
                await asyncio.wait([self.running], timeout=JOB_LIMIT_WALL_S)
            await self.driver.close()

    async def run(self, *steps: Go | Act, name: str = "trial", deadline_s: float | None = None) -> Result:
        """Run a job to its end."""
        async with asyncio.timeout(JOB_LIMIT_WALL_S):
            return await self.driver.run(Job(name, steps), deadline_s=deadline_s or 2 * self.bench.deadline_s)

    def begin(self, *steps: Go | Act, name: str = "trial", deadline_s: float | None = None) -> asyncio.Task[Result]:
        """Begin a job."""
        self.running = asyncio.ensure_future(self.run(*steps, name=name, deadline_s=deadline_s))
        return self.running

    async def until(self, condition: Callable[[Telemetry], bool], what: str, within_s: float | None = None) -> Telemetry:
        """Let time pass until `condition` holds; broken if it does not within `within_s` of robot's time."""
        for _ in range(round((within_s or self.bench.deadline_s) / LOOK_S)):
            if condition(seen := self.driver.telemetry()):
                return seen
            await self.bench.pause(LOOK_S)
        raise BrokenContractError(f"not within {within_s or self.bench.deadline_s:g} s: {what}; {self.driver.telemetry()}")

    async def at_speed(self) -> Telemetry:
        """Wait until the robot drives at half of its speed at least, or has gone 0.4 m."""
        start = self.bench.true_pose()
        aim = min(0.5 * self.driver.spec.max_speed_mps, 0.5)

        def is_fast(seen: Telemetry) -> bool:
            here = self.bench.true_pose()
            return abs(seen.vx or 0.0) >= aim or here.distance_to(start.x, start.y) > 0.4

        return await self.until(is_fast, "the robot drives")

    async def stands(self, why: str) -> None:
        """Check that the robot, which should stand by now, does not move."""
        before = self.bench.true_pose()
        await self.bench.pause(1.0)
        here = self.bench.true_pose()
        moved_m = here.distance_to(before.x, before.y)
        demand(moved_m <= TINY_M, f"{why}: the robot moved {moved_m:.2f} m within 1 s")


def _heading(a: tuple[float, float], b: tuple[float, float]) -> float:
    return math.atan2(b[1] - a[1], b[0] - a[0])


async def check(row: Row, make_bench: Callable[[], Bench]) -> Outcome:
    """Run one row on a bench made for it."""
    bench = make_bench()
    if missing := sorted(row.needs - bench.abilities):
        return Outcome(row, "skipped", "the bench cannot " + "; nor ".join(ABILITIES[name] for name in missing))
    async with bench:
        try:
            await row.run(Trial(bench))
        except BrokenContractError as broken:
            return Outcome(row, "broken", str(broken))
        except TimeoutError as late:
            return Outcome(row, "broken", f"a call did not end in time {late}")
    return Outcome(row, "kept")
