"""Random pickup and delivery: auctions, trades and bundle re-auctions against greedy rules, OR-Tools, PyVRP and a bound.

Starts, pickups and dropoffs lie at random in a square of 100 by 100; cost is the total way; robots stop where they end. All
run on one thread and are given CPU seconds. Results of peers are kept in peers.json in the folder of results.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks._peers import SOLVERS, Peers, installed
from benchmarks.report import Options, Row, main
from fleet_market.allocation import Plan, Problem, Reauction, RobotSpec, Stop, TaskSpec, allocate
from fleet_market.allocation.sale import CHEAPEST
from fleet_market.errors import FleetMarketError

SIDE = 100.0
OURS_S = (1.0, 10.0)
PEERS_S = (10.0, 60.0)
QUICK_OURS_S, QUICK_PEERS_S = (1.0,), (2.0,)
MEMORY_GOAL_MIB = 500.0
ABOVE_BOUND_GOAL = 0.5


class Size(NamedTuple):
    """Tasks, robots, parcels that a robot carries at once."""

    tasks: int
    robots: int
    parcels: int

    def __str__(self) -> str:
        return f"{self.tasks}/{self.robots}/{self.parcels}"


SIZES = tuple(Size(n, m, q) for q in (1, 3) for n, m in ((10, 3), (50, 10), (200, 20), (1000, 100)))
QUICK_SIZES = (Size(10, 3, 1), Size(50, 10, 1), Size(50, 10, 3), Size(200, 20, 1), Size(200, 20, 3))
AGAINST_OR_TOOLS = {(Size(50, 10, 3), 1.0): 0.0, (Size(200, 20, 3), 1.0): -5.0, (Size(200, 20, 3), 10.0): -10.0}
"""Goals: per cent above OR-Tools with 60 CPU s."""


def instance(size: Size, seed: int) -> Problem:
    """Return a random instance."""
    rng = np.random.default_rng(seed)
    n, m = size.tasks, size.robots
    xy = np.vstack([rng.uniform(0, SIDE, (count, 2)) for count in (m, n, n)])
    way = np.hypot(xy[:, None, 0] - xy[None, :, 0], xy[:, None, 1] - xy[None, :, 1])
    tasks = [TaskSpec(m + t, m + n + t) for t in range(n)]
    return Problem(tasks, [RobotSpec(r, capacity=size.parcels) for r in range(m)], way)


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    begun = time.process_time()
    for parcels in (1, 3):
        allocate(instance(Size(10, 3, parcels), 0), rounds=50)
    yield Row("first call, kernels compiled or loaded", time.process_time() - begun, "CPU s")
    peers = Peers(options.out / "peers.json")
    for size in _sizes(options):
        runs = [_Run(size, seed, peers, options) for seed in options.seeds]
        yield from _rows(size, runs, options)
    if not options.quick and not options.more.only:
        yield from _memory()


def _sizes(options: Options) -> list[Size]:
    wanted = options.more.only
    if not wanted:
        return list(QUICK_SIZES if options.quick else SIZES)
    sizes = {str(size): size for size in SIZES}
    for name in wanted:
        if name not in sizes:
            raise FleetMarketError(f"--only was {name}: use some of {', '.join(sizes)}")
    return [sizes[name] for name in wanted]


class _Run:
    """All methods on one instance: cost, CPU s and wall s by name."""

    def __init__(self, size: Size, seed: int, peers: Peers, options: Options) -> None:
        self.problem = instance(size, seed)
        self.cost: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}
        self.bound = _bound(self.problem) if size.parcels == 1 else None
        self._time("greedy: idle robot takes the nearest", lambda: _greedy(self.problem))
        self._time("sequential auction", self._auction)
        for cpu_s in QUICK_OURS_S if options.quick else OURS_S:
            self._time(f"market {cpu_s:g} s", partial(self._market, cpu_s, seed))
        for peer in SOLVERS:
            if installed(peer):
                for cpu_s in QUICK_PEERS_S if options.quick else PEERS_S:
                    self._peer(peers, peer, cpu_s)

    def _time(self, name: str, solve: Callable[[], Plan]) -> None:
        begun, wall = time.process_time(), time.monotonic()
        plan = solve()
        self.cpu_s[name], self.wall_s[name] = time.process_time() - begun, time.monotonic() - wall
        self.cost[name] = check(self.problem, plan)

    def _auction(self) -> Plan:
        run = Reauction(self.problem)
        run.sell(CHEAPEST)
        return run.plan

    def _market(self, cpu_s: float, seed: int) -> Plan:
        begun = time.process_time()
        return allocate(self.problem, spent=lambda: (time.process_time() - begun) / cpu_s, seed=seed).plan

    def _peer(self, peers: Peers, peer: str, cpu_s: float) -> None:
        result, name = peers.solve(peer, self.problem, cpu_s), f"{peer} {cpu_s:g} s"
        self.cpu_s[name], self.wall_s[name] = result["cpu_s"], result["wall_s"]
        self.cost[name] = math.inf
        if result["queues"] is not None:
            plan = Plan(tuple(tuple(Stop(t, pickup=p) for t, p in queue) for queue in result["queues"]))
            self.cost[name] = check(self.problem, plan)


def _rows(size: Size, runs: list[_Run], options: Options) -> Iterable[Row]:
    best = [min(run.cost.values()) for run in runs]
    for name in runs[0].cost:
        gaps = [100 * (run.cost[name] / least - 1) for run, least in zip(runs, best, strict=True)]
        cpu_s, wall_s = median(run.cpu_s[name] for run in runs), median(run.wall_s[name] for run in runs)
        gap = median(gaps)
        note = f"{cpu_s:.3g} CPU s, {wall_s:.3g} s wall{', no feasible plan' if math.isinf(gap) else ''}"
        yield Row(f"{size} {name}: above the best", None if math.isinf(gap) else gap, "%", note=note)
    for cpu_s in QUICK_OURS_S if options.quick else OURS_S:
        name = f"market {cpu_s:g} s"
        if size.parcels == 1:
            above = [100 * (run.cost[name] / run.bound - 1) for run in runs if run.bound]
            goal = ABOVE_BOUND_GOAL if size == Size(200, 20, 1) and cpu_s == 1.0 else None
            yield Row(f"{size} {name}: above the assignment bound", median(above), "%", goal)
        goal = AGAINST_OR_TOOLS.get((size, cpu_s))
        if goal is not None and not options.quick:
            peer = "OR-Tools 60 s"
            known = [run for run in runs if peer in run.cost]
            above = [100 * (run.cost[name] / run.cost[peer] - 1) for run in known]
            note = "" if known else "not installed: pip install 'fleet-market[bench]'"
            yield Row(f"{size} {name}: above {peer}", median(above) if known else None, "%", goal, note=note)


def check(problem: Problem, plan: Plan) -> float:
    """Return the total way of a plan.

    Raises
    ------
    FleetMarketError
        If a task is not done once, a dropoff comes before its pickup, or a robot carries too much.
    """
    total, done = 0.0, []
    for robot, queue in zip(problem.robots, plan.queues, strict=True):
        at, aboard = robot.place, set()
        for task, pickup in queue:
            place = problem.tasks[task].pickup if pickup else problem.tasks[task].dropoff
            total += float(problem.travel_s[at, place])
            at = place
            if pickup:
                aboard.add(task)
                done.append(task)
            elif task in aboard:
                aboard.remove(task)
            else:
                raise FleetMarketError(f"task {task} is dropped off without being aboard")
            if len(aboard) > robot.capacity:
                raise FleetMarketError(f"a robot carries {len(aboard)} parcels, {robot.capacity:g} are allowed")
        if aboard:
            raise FleetMarketError(f"tasks {sorted(aboard)} are never dropped off")
    if sorted(done) != list(range(len(problem.tasks))):
        raise FleetMarketError("not every task is done once")
    return total


def _bound(problem: Problem) -> float:
    """Return a lower bound for one parcel at a time: each task has one predecessor, a robot or a task, each used once."""
    pickups = [task.pickup for task in problem.tasks]
    dropoffs = [task.dropoff for task in problem.tasks]
    ends = [robot.place for robot in problem.robots] + dropoffs
    way = problem.travel_s[np.ix_(ends, pickups)].copy()
    n, m = len(pickups), len(problem.robots)
    way[m + np.arange(n), np.arange(n)] = 1e9
    rows, columns = linear_sum_assignment(way.T)
    return float(way.T[rows, columns].sum() + problem.travel_s[pickups, dropoffs].sum())


def _greedy(problem: Problem) -> Plan:
    """Let the robot that is free first take the nearest open task."""
    queues: list[list[Stop]] = [[] for _ in problem.robots]
    at, free = [robot.place for robot in problem.robots], [0.0] * len(problem.robots)
    left = set(range(len(problem.tasks)))
    while left:
        r = min(range(len(free)), key=free.__getitem__)
        t = min(left, key=lambda t: (problem.travel_s[at[r], problem.tasks[t].pickup], t))
        task = problem.tasks[t]
        left.remove(t)
        queues[r] += [Stop(t, pickup=True), Stop(t, pickup=False)]
        free[r] += float(problem.travel_s[at[r], task.pickup] + problem.travel_s[task.pickup, task.dropoff])
        at[r] = task.dropoff
    return Plan(tuple(tuple(queue) for queue in queues))


MEMORY_PROGRAM = """
import resource, time
import numpy as np
from fleet_market.allocation import Problem, RobotSpec, TaskSpec, allocate
rng = np.random.default_rng(0)
places, n, m = 1500, 5000, 1000
xy = rng.uniform(0, 300, (places, 2))
way = np.hypot(xy[:, None, 0] - xy[None, :, 0], xy[:, None, 1] - xy[None, :, 1])
tasks = [TaskSpec(int(rng.integers(places)), int(rng.integers(places))) for _ in range(n)]
problem = Problem(tasks, [RobotSpec(int(rng.integers(places)), capacity=3) for _ in range(m)], way)
begun = time.process_time()
outcome = allocate(problem, spent=lambda: (time.process_time() - begun) / 10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time() - begun, len(outcome.unsold),
      outcome.given_cost, outcome.cost)
"""


def _memory() -> Iterable[Row]:
    """Allocate 5000 tasks to 1000 robots on a map of 1500 places, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEMORY_PROGRAM], stdout=subprocess.PIPE, text=True, check=True)
    rss_mib, cpu_s, unsold, given, cost = (float(word) for word in done.stdout.split())
    gain = 100 * (1 - cost / given)
    note = f"1500 places, {cpu_s:.1f} CPU s, {unsold:.0f} unsold, {gain:.1f} % below the first sale"
    yield Row("5000/1000/3: peak RSS", rss_mib, "MiB", MEMORY_GOAL_MIB, note=note)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="N/M/Q", help="tasks/robots/parcels, e.g. 200/20/3")


if __name__ == "__main__":
    main("allocation", measure, about=__doc__ or "", seeds=3, packages=("numba", "ortools", "pyvrp"), arguments=_arguments)
