"""Instances and routes of Li and Lim (2001), read and checked without any code of the allocator.

Format (SINTEF): first line vehicles, capacity, speed; then one line per stop: number, x, y, demand, earliest, latest,
service, pickup partner, delivery partner (0: none). Distances and times are Euclidean, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_market.errors import InputError

TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Site:
    """A stop."""

    x: float
    y: float
    demand: float
    earliest: float
    latest: float
    service: float
    pickup: int
    delivery: int


@dataclass(frozen=True, slots=True)
class Case:
    """An instance; stop 0 is the depot."""

    vehicles: int
    capacity: float
    sites: tuple[Site, ...]

    def distance(self, a: int, b: int) -> float:
        """Return the distance of two stops."""
        return math.hypot(self.sites[a].x - self.sites[b].x, self.sites[a].y - self.sites[b].y)


def read_case(path: Path) -> Case:
    """Read an instance.

    Raises
    ------
    InputError
        If a line is not as the format says.
    """
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    sites = []
    try:
        vehicles, capacity = int(lines[0][0]), float(lines[0][1])
        for k, line in enumerate(lines[1:]):
            number, x, y, demand, earliest, latest, service, pickup, delivery = (float(word) for word in line)
            if number != k:
                raise InputError(str(path), f"line {k + 2}", int(number), f"number stops without gaps, here {k}")
            sites.append(Site(x, y, demand, earliest, latest, service, int(pickup), int(delivery)))
    except (ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(path), "lines", str(error), "use the format of SINTEF: nine numbers per stop") from error
    return Case(vehicles, capacity, tuple(sites))


def read_routes(path: Path) -> list[list[int]]:
    """Read a solution file: lines "Route 1 : 5 3 7 8"."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("Route")]
    return [[int(word) for word in line.partition(":")[2].split()] for line in lines]


def check_routes(case: Case, routes: Sequence[Sequence[int]]) -> tuple[float, list[str]]:
    """Return the distance of the routes, and all faults."""
    faults, total, visited = [], 0.0, []
    if len(routes) > case.vehicles:
        faults.append(f"{len(routes)} routes, there are {case.vehicles} vehicles")
    for number, route in enumerate(routes, 1):
        time = case.sites[0].earliest
        load, at, seen = 0.0, 0, set()
        for stop in [*route, 0]:
            if not 0 <= stop < len(case.sites):
                faults.append(f"route {number}: stop {stop} does not exist")
                continue
            site = case.sites[stop]
            total += case.distance(at, stop)
            time = max(time + case.distance(at, stop), site.earliest)
            if time > site.latest + TOLERANCE:
                faults.append(f"route {number}: stop {stop} is reached at {time:.3f}, latest {site.latest:g}")
            time += site.service
            load += site.demand
            if load > case.capacity + TOLERANCE:
                faults.append(f"route {number}: load {load:g} after stop {stop}, capacity {case.capacity:g}")
            if site.pickup and site.pickup not in seen:
                faults.append(f"route {number}: stop {stop} before its pickup {site.pickup}")
            seen.add(stop)
            at = stop
        faults += [
            f"route {number}: {stop} is picked up and not delivered"
            for stop in route
            if 0 < stop < len(case.sites) and case.sites[stop].delivery and case.sites[stop].delivery not in seen
        ]
        visited += list(route)
    faults += [
        f"stop {stop} is visited {visited.count(stop)} times"
        for stop in range(1, len(case.sites))
        if visited.count(stop) != 1
    ]
    return total, faults
