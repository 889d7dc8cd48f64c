"""Pickup and delivery with time windows: vehicles and distance against the best-known solutions, 5 CPU seconds each.

Instances of Li and Lim (2001) with about 100 stops, with the best-known solutions of SINTEF. Feasibility and distance are
re-computed by a checker that reads only the instance and the routes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import median

import numpy as np

from benchmarks._li_lim_check import Case, check_routes, read_case, read_routes
from benchmarks.report import Options, Row, main, need_data
from fleet_market.allocation import Problem, RobotSpec, TaskSpec, allocate
from fleet_market.errors import FleetMarketError

CPU_S = 5.0
QUICK_CPU_S, QUICK_FILES = 2.0, 8
FEWER = 0.2
"""Share of the time spent on using fewer vehicles."""
WITHIN_PERCENT = 0.1
GOAL_PERCENT = 90.0
WARM_UP_ROUNDS = 400


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    files = sorted(need_data(options, "li_lim").glob("*.txt"))
    if not files:
        raise FleetMarketError("no instance (*.txt) in the folder li_lim of --data")
    if options.quick:
        files = files[:: max(1, len(files) // QUICK_FILES)]
    begun = time.process_time()
    allocate(problem(read_case(files[0])), rounds=WARM_UP_ROUNDS, fewer=FEWER)
    yield Row("first call, kernels compiled or loaded", time.process_time() - begun, "CPU s")
    cpu_s = QUICK_CPU_S if options.quick else CPU_S
    reached: list[float] = []
    faults = 0
    times: list[float] = []
    for path in files:
        case = read_case(path)
        best = read_routes(path.with_suffix(".sol"))
        best_distance, best_faults = check_routes(case, best)
        gaps, vehicles = [], []
        for seed in options.seeds:
            routes, used_s = _solve(case, cpu_s, seed)
            times.append(used_s)
            distance, found = check_routes(case, routes)
            faults += len(found)
            gaps.append(100 * (distance / best_distance - 1))
            vehicles.append(len(routes))
            good = not found and len(routes) <= len(best) and gaps[-1] <= WITHIN_PERCENT
            reached.append(100.0 * good)
        note = f"{min(vehicles)} to {max(vehicles)} vehicles, best known {len(best)} and {best_distance:.2f}"
        if best_faults:
            note += f"; the checker finds in the best known: {best_faults[0]}"
        yield Row(f"{path.stem}: distance above best known", round(median(gaps), 6) + 0.0, "%", note=note)
    yield Row(
        "files with best-known vehicles and distance", float(np.mean(reached)), f"% of {len(files)}",
        GOAL_PERCENT, "higher",
        note=f"distance within {WITHIN_PERCENT} %, {cpu_s:g} CPU s each",
    )  # fmt: skip
    yield Row("faults found by the checker", float(faults), "", 0.0)
    yield Row("CPU per file, largest", max(times), "s")


def problem(case: Case) -> Problem:
    """Return the allocation problem of an instance."""
    xy = np.array([(site.x, site.y) for site in case.sites])
    distance = np.hypot(xy[:, None, 0] - xy[None, :, 0], xy[:, None, 1] - xy[None, :, 1])
    tasks = []
    for number, site in enumerate(case.sites):
        if site.delivery:
            other = case.sites[site.delivery]
            tasks.append(
                TaskSpec(
                    number,
                    site.delivery,
                    site.demand,
                    pickup_window_s=(site.earliest, site.latest),
                    dropoff_window_s=(other.earliest, other.latest),
                    pickup_service_s=site.service,
                    dropoff_service_s=other.service,
                )
            )
    depot = case.sites[0]
    robot = RobotSpec(0, free_s=depot.earliest, capacity=case.capacity, end=0, until_s=depot.latest)
    return Problem(tasks, [robot] * case.vehicles, distance)


def _solve(case: Case, cpu_s: float, seed: int) -> tuple[list[list[int]], float]:
    begun = time.process_time()
    given = problem(case)
    outcome = allocate(given, spent=lambda: (time.process_time() - begun) / cpu_s, fewer=FEWER, seed=seed)
    routes = [
        [given.tasks[stop.task].pickup if stop.pickup else given.tasks[stop.task].dropoff for stop in queue]
        for queue in outcome.plan.queues
        if queue
    ]
    return routes, time.process_time() - begun


if __name__ == "__main__":
    main("li_lim", measure, about=__doc__ or "", packages=("numba",))
