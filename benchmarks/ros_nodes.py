"""Robots as ROS 2 nodes: CPU, memory, growth, crashes, missed batches, start-up, award to first motion command.

Everything is real: rclpy nodes, Mosquitto, the market daemon, robots in PyBullet. One floor after the other, each a part of
its own (``--parts``): ten robots at speed 1 for ten minutes, a simulated hour (at speed 1 unless ``--speed``), 25 robots a
process each, 100 robots in one process, ten robots that ``fleet-market up`` starts, and ``make ros`` with nothing to build.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from unittest import mock

from benchmarks._ros_build import build_rows
from benchmarks._ros_floor import Floor, Seen, floor
from benchmarks._ros_up import up_rows
from benchmarks.report import Options, Row, main

IDLE_CPU, DRIVING_CPU, RSS_MB = 5.0, 10.0, 110.0
MOTION_MS, BIDDING_S, COMPOSED_MB = 50.0, 40.0, 500.0
GROWTH_MB_PER_H = 6.0
"""More than this is growth: allocators' noise over ten minutes is below 1 MB."""
SETTLE_S = 5.0
"""After the last robot is there, before anything is measured."""
STILL_S = 1.0
"""A robot that was commanded within this before an award was under way already: its latency is not counted."""
EVERY_S = 6.0
"""Between two orders per robot, so that most robots drive most of the time; a delivery takes about 25 s."""
QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how large."""

    robots: int
    idle_s: float
    driving_s: float
    """Wall time, at most."""
    speed: float
    simulated_s: float = math.inf
    """It ends sooner when so much time has passed on the floor."""


QUICK = Plan(3, 4.0, 14.0, 2.0)
TEN = Plan(10, 120.0, 480.0, 1.0)
HOUR_S, HOUR_SPEED, HOUR_LIMIT = 3600.0, 1.0, 1.1
"""The last: how much longer than it should it may take."""
MANY, COMPOSED, BIDDING_LIMIT_S, COMPOSED_S = 25, 100, 180.0, 180.0
PARTS = ("ten", "hour", "many", "composed", "up", "build")


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    chosen = set(options.more.parts)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if options.quick:
            yield from asyncio.run(_loaded(root / "quick", QUICK, "3 robots"))
            return
        for part in (name for name in PARTS if name in chosen):
            yield Row(f"part {part}: load of the machine before it", os.getloadavg()[0], f"of {os.cpu_count()} cores")
            match part:
                case "ten":
                    yield from asyncio.run(_loaded(root / part, TEN, "10 robots, 10 min at speed 1"))
                case "hour":
                    speed = options.more.speed
                    hour = Plan(10, 0.0, HOUR_LIMIT * HOUR_S / speed, speed, HOUR_S)
                    yield from asyncio.run(_loaded(root / part, hour, f"10 robots, an hour simulated at speed {speed:g}"))
                case "many":
                    yield from asyncio.run(_start_up(root / part, MANY))
                case "composed":
                    for executor in options.more.executors:
                        yield from asyncio.run(_composed(root / executor, options.more.composed, executor))
                case "up":
                    yield from asyncio.run(up_rows(root / part))
                case "build":
                    yield from build_rows()


# --- ten robots, a process each -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Motion:
    """When each robot was last commanded to move, and how long it took after an award."""

    commanded_s: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    taken_ms: list[float] = field(default_factory=list)
    own_ms: list[float] = field(default_factory=list)
    """The same without the wait for the traffic control's answer."""
    taken_awards: int = 0

    def award(self, robot: str, at_s: float, idle: bool) -> None:  # noqa: FBT001 - a row of `Seen.awards`
        """Take note of an award to a robot; counts if it stands and has nothing else to do, e.g. to load."""
        if idle and at_s - self.commanded_s.get(robot, 0.0) > STILL_S:
            self.waiting.setdefault(robot, at_s)

    def command(self, robot: str, at_s: float, seen: Seen) -> None:
        """Take note of a command that is not zero."""
        self.commanded_s[robot] = at_s
        if (since_s := self.waiting.pop(robot, None)) is not None:
            self.taken_ms.append(1000 * (at_s - since_s))
            asked_s, got_s = seen.asked_way.get(robot, at_s), seen.got_way.get(robot, at_s)
            if since_s <= asked_s <= got_s <= at_s:
                self.own_ms.append(1000 * (at_s - got_s + asked_s - since_s))


@contextlib.asynccontextmanager
async def _motions(it: Floor) -> AsyncIterator[Motion]:
    """Listen to all robots' commands; rclpy is imported here alone."""
    from geometry_msgs.msg import Twist  # noqa: PLC0415

    from fleet_market_ros.ros import Ros  # noqa: PLC0415

    motion = Motion()
    with mock.patch.dict(os.environ, it.environment):
        async with Ros("bench") as ros:
            for robot in it.seen.robots:

                def heard(command: Twist, robot: str = robot) -> None:
                    while motion.taken_awards < len(it.seen.awards):
                        motion.award(*it.seen.awards[motion.taken_awards])
                        motion.taken_awards += 1
                    if command.linear.x or command.angular.z:
                        motion.command(robot, time.monotonic(), it.seen)

                ros.subscribe(Twist, f"/{robot}/cmd_vel", heard, depth=100)
            yield motion


async def _loaded(folder: Path, plan: Plan, what: str) -> list[Row]:
    async with floor(folder, plan.robots, speed=plan.speed) as it, _motions(it) as motion:
        await asyncio.sleep(SETTLE_S)
        begun_s = time.monotonic()
        idle = await _phase(it, plan.idle_s)
        it.seen.moving[:] = [0, 0]
        orders = asyncio.create_task(_orders(it, plan))
        memory = [it.rss_mb()]
        driving = await _phase(it, plan.driving_s / 2, plan.simulated_s / 2)
        memory.append(it.rss_mb())
        half_s = time.monotonic()
        later = await _phase(it, plan.driving_s / 2, plan.simulated_s)
        memory.append(it.rss_mb())
        half_h = (time.monotonic() - half_s) / 3600
        orders.cancel()
        missed, calls, about_missed = it.seen.missed(time.monotonic(), begun_s)
        deaths, settled, share = list(it.deaths), sum(it.seen.settled.values()), _moving_share(it)
    simulated_s = it.simulation()["sim_s"]
    growth = [(memory[2][name] - memory[1][name]) / half_h for name in memory[2]]
    busy = [max(a, b) for a, b in zip(driving, later, strict=True)]
    about = f"{simulated_s:.0f} s simulated, {settled} tasks settled, robots moving {share:.0%} of the time"
    rows = [
        Row(f"{what}: nodes that died", len(deaths), "", 0.0, note=", ".join(deaths) or about),
        Row(f"{what}: batches not answered", missed, f"of {calls}", 0.0, note=about_missed),
        Row(f"{what}: CPU driving, worst node", max(busy), "% of a core", DRIVING_CPU, note=f"median {median(busy):.1f}"),
        Row(f"{what}: RSS, worst node", max(memory[2].values()), "MB", RSS_MB),
        Row(f"{what}: growth, worst node", max(growth), "MB/h", GROWTH_MB_PER_H, note="second half of the driving"),
        _motion_row(f"{what}: award to first motion command, p99", motion.taken_ms, "right of way included"),
        _motion_row(f"{what}: the robot's own share of that, p99", motion.own_ms, "without the traffic control's answer"),
    ]
    if math.isfinite(plan.simulated_s):
        rows.append(Row(f"{what}: time that passed on the floor", simulated_s, "s", plan.simulated_s, "higher"))
    if idle:
        rows.insert(
            2, Row(f"{what}: CPU idle, worst node", max(idle), "% of a core", IDLE_CPU, note=f"median {median(idle):.1f}")
        )
    return rows


def _moving_share(it: Floor) -> float:
    stood, moved = it.seen.moving
    return moved / max(1, stood + moved)


def _motion_row(name: str, taken_ms: list[float], about: str) -> Row:
    if not taken_ms:
        return Row(name, None, "ms", MOTION_MS, note="no robot was idle when it won")
    ordered = sorted(taken_ms)
    worst = ordered[min(len(ordered) - 1, int(QUANTILE * len(ordered)))]
    note = f"{len(ordered)} awards to idle robots, median {median(ordered):.0f} ms; {about}"
    return Row(name, worst, "ms", MOTION_MS, note=note)


async def _phase(it: Floor, seconds: float, simulated_s: float = math.inf) -> list[float]:
    """Let time pass, here or up to a time on the floor; return the CPU share of each node, percent of a core."""
    if seconds <= 0:
        return []
    before, begun_s = it.cpu_s(), time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while it.seen.simulated_s < simulated_s:  # noqa: ASYNC110 - the clock is another process's
                await asyncio.sleep(0.2)
    after, wall_s = it.cpu_s(), time.monotonic() - begun_s
    return [100 * (after[name] - before[name]) / wall_s for name in before]


async def _orders(it: Floor, plan: Plan) -> None:
    rng = random.Random(1)
    while True:
        await it.post(rng.randrange(plan.robots))
        await asyncio.sleep(EVERY_S / plan.speed * 4 / plan.robots)


# --- many robots ----------------------------------------------------------------------------------------------------------


async def _start_up(folder: Path, count: int) -> list[Row]:
    what = f"{count} robots, a process each"
    async with floor(folder, count, speed=1.0) as it:
        taken_s = await _until_all_bid(it)
        cpu_s, rss = list(it.cpu_s().values()), it.rss_mb()
        deaths = list(it.deaths)
    return [
        Row(f"{what}: until all bid", taken_s, "s", BIDDING_S, note=f"started in groups; {len(it.seen.bidding_s)} bid"),
        Row(f"{what}: CPU time per node until then", median(cpu_s), "s", note="median"),
        Row(f"{what}: RSS, worst node", max(rss.values()), "MB", RSS_MB),
        Row(f"{what}: nodes that died", len(deaths), "", 0.0),
    ]


async def _until_all_bid(it: Floor, within_s: float = BIDDING_LIMIT_S) -> float | None:
    """Return after how many seconds from the start of the nodes all of them have answered a call."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while len(it.seen.bidding_s) < len(it.seen.robots):  # noqa: ASYNC110 - processes have no events
                await asyncio.sleep(0.2)
            return max(it.seen.bidding_s.values()) - it.started_s
    return None


async def _composed(folder: Path, count: int, executor: str) -> list[Row]:
    what = f"{count} robots in one process, executor {executor}"
    async with floor(folder, count, speed=1.0, composed=executor) as it:
        bidding_s = await _until_all_bid(it)
        before_s, begun_s = it.cpu_s()["robots"], time.monotonic()
        for index in _shuffled(count):
            await it.post(index)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMPOSED_S):
                while len(_traders(it)) < count and not it.deaths:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(1.0)
        traded_s = time.monotonic() - begun_s
        cpu = 100 * (it.cpu_s()["robots"] - before_s) / traded_s
        rss = max(it.rss_mb().values(), default=None)
        traders, settled, deaths = len(_traders(it)), sum(it.seen.settled.values()), list(it.deaths)
    simulation = it.simulation()
    return [
        Row(f"{what}: until all bid", bidding_s, "s", note=f"{len(it.seen.bidding_s)} bid"),
        Row(f"{what}: robots that traded", traders, f"of {count}", count, "higher", f"{settled} settled, {traded_s:.0f} s"),
        Row(f"{what}: RSS", rss, "MB", COMPOSED_MB, note=", ".join(deaths)),
        Row(f"{what}: CPU", cpu, "% of a core"),
        Row(f"{what}: real-time factor", simulation["sim_s"] / simulation["wall_s"], "", better="higher"),
    ]


def _traders(it: Floor) -> set[str]:
    return {robot for robot, _, _ in it.seen.awards}


def _shuffled(count: int) -> Iterator[int]:
    """Yield an order near each robot's home, and half as many again anywhere."""
    rng = random.Random(1)
    return itertools.chain(rng.sample(range(count), count), (rng.randrange(count) for _ in range(count // 2)))


def _speed(text: str) -> float:
    speed = float(text)
    if not 0.0 < speed < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: use a number above 0")
    return speed


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="of a full run")
    parser.add_argument("--speed", type=_speed, default=HOUR_SPEED, metavar="X", help=f"of the hour ({HOUR_SPEED:g})")
    parser.add_argument("--executors", nargs="+", choices=("single", "events"), default=["single", "events"])
    parser.add_argument("--composed", type=int, default=COMPOSED, metavar="N", help=f"robots in one process ({COMPOSED})")


if __name__ == "__main__":
    main("ros_nodes", measure, about=__doc__ or "", packages=("ros-rclpy", "pybullet", "aiomqtt"), arguments=_arguments)
