"""Central solvers on the instances of the allocation benchmark; their results are kept, for they take long."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fleet_market.allocation import Plan, Problem, Stop

SCALE = 1000
"""Both solvers count in whole numbers; distances are rounded to this part of a unit."""
NEVER_S = 86_400


class Peers:
    """Runs peers, or tells what an earlier run gave.

    Parameters
    ----------
    file : Path
        Results by instance, solver, version and seconds.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}

    def solve(self, peer: str, problem: Problem, cpu_s: float) -> dict[str, Any]:
        """Return `queues` (None if it found nothing), `cpu_s` and `wall_s` of a peer given so many CPU seconds."""
        solver, package = SOLVERS[peer]
        digest = hashlib.sha256(problem.travel_s.tobytes())
        digest.update(repr((problem.tasks, problem.robots)).encode())
        key = f"{digest.hexdigest()[:16]} {package} {version(package)} {cpu_s:g}"
        if key not in self._known:
            begun, wall = time.process_time(), time.monotonic()
            plan = solver(problem, cpu_s)
            self._known[key] = {
                "queues": None if plan is None else [[list(stop) for stop in queue] for queue in plan.queues],
                "cpu_s": time.process_time() - begun,
                "wall_s": time.monotonic() - wall,
            }
            self._file.write_text(json.dumps(self._known))
        return self._known[key]


def installed(peer: str) -> bool:
    """Return whether a peer is installed."""
    try:
        version(SOLVERS[peer][1])
    except ImportError:
        return False
    return True


def _extended(problem: Problem) -> np.ndarray:
    """Return scaled distances with a last place at no distance from anywhere, where all routes end."""
    return np.pad(np.rint(problem.travel_s * SCALE).astype(np.int64), ((0, 1), (0, 1)))


def ortools(problem: Problem, cpu_s: float) -> Plan | None:
    """Solve with the routing solver of OR-Tools: parallel cheapest insertion, then guided local search."""
    from ortools.constraint_solver import pywrapcp, routing_enums_pb2  # noqa: PLC0415

    matrix, m = _extended(problem), len(problem.robots)
    end = len(matrix) - 1
    manager = pywrapcp.RoutingIndexManager(len(matrix), m, [robot.place for robot in problem.robots], [end] * m)
    routing = pywrapcp.RoutingModel(manager)
    transit = routing.RegisterTransitMatrix(matrix.tolist())
    routing.SetArcCostEvaluatorOfAllVehicles(transit)
    far = int(matrix.max()) * 2 * (len(problem.tasks) + 1)
    routing.AddDimension(transit, 0, far, True, "way")
    load = [0] * len(matrix)
    for task in problem.tasks:
        load[task.pickup], load[task.dropoff] = 1, -1
    demand = routing.RegisterUnaryTransitVector(load)
    routing.AddDimensionWithVehicleCapacity(demand, 0, [int(robot.capacity) for robot in problem.robots], True, "load")
    way = routing.GetDimensionOrDie("way")
    for task in problem.tasks:
        a, b = manager.NodeToIndex(task.pickup), manager.NodeToIndex(task.dropoff)
        routing.AddPickupAndDelivery(a, b)
        routing.solver().Add(routing.VehicleVar(a) == routing.VehicleVar(b))
        routing.solver().Add(way.CumulVar(a) <= way.CumulVar(b))
    begun = time.process_time()
    routing.AddSearchMonitor(routing.solver().CustomLimit(lambda: time.process_time() - begun > cpu_s))
    search = pywrapcp.DefaultRoutingSearchParameters()
    search.first_solution_strategy = routing_enums_pb2.FirstSolutionStrategy.PARALLEL_CHEAPEST_INSERTION
    search.local_search_metaheuristic = routing_enums_pb2.LocalSearchMetaheuristic.GUIDED_LOCAL_SEARCH
    search.time_limit.seconds = NEVER_S
    solution = routing.SolveWithParameters(search)
    if solution is None:
        return None
    stop_of = _stops(problem)
    queues = []
    for r in range(m):
        queue, at = [], solution.Value(routing.NextVar(routing.Start(r)))
        while not routing.IsEnd(at):
            queue.append(stop_of[manager.IndexToNode(at)])
            at = solution.Value(routing.NextVar(at))
        queues.append(tuple(queue))
    return Plan(tuple(queues))


def pyvrp(problem: Problem, cpu_s: float) -> Plan | None:
    """Solve with PyVRP: shipments, one vehicle type per robot, iterated local search."""
    import pyvrp as library  # noqa: PLC0415

    matrix: Any = _extended(problem)
    end = len(matrix) - 1
    robots = problem.robots
    data = library.ProblemData(
        locations=[library.Location(0, 0) for _ in range(len(matrix))],
        clients=[],
        depots=[library.Depot(robot.place) for robot in robots] + [library.Depot(end)],
        vehicle_types=[
            library.VehicleType(1, [int(robot.capacity)], start_depot=r, end_depot=len(robots))
            for r, robot in enumerate(robots)
        ],
        distance_matrices=[matrix],
        duration_matrices=[np.zeros_like(matrix)],
        shipments=[library.Shipment(task.pickup, task.dropoff, amount=[1]) for task in problem.tasks],
    )
    begun = time.process_time()
    result = library.solve(
        data, stop=lambda _best: time.process_time() - begun > cpu_s, seed=0, display=False, collect_stats=False
    )
    if not result.is_feasible():
        return None
    queues: list[tuple[Stop, ...]] = [()] * len(robots)
    for route in result.best.routes():
        steps = (step for step in route.schedule() if step.is_pickup() or step.is_delivery())
        queues[route.vehicle_type()] = tuple(Stop(step.idx, step.is_pickup()) for step in steps)
    return Plan(tuple(queues))


def _stops(problem: Problem) -> dict[int, Stop]:
    stops = {}
    for t, task in enumerate(problem.tasks):
        stops[task.pickup], stops[task.dropoff] = Stop(t, pickup=True), Stop(t, pickup=False)
    return stops


Solver = Callable[[Problem, float], Plan | None]
SOLVERS: dict[str, tuple[Solver, str]] = {"OR-Tools": (ortools, "ortools"), "PyVRP": (pyvrp, "pyvrp")}
