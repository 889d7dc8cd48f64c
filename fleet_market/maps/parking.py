"""Where robots park and charge: spread over any map, out of everybody's way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fleet_market.body import Point, Pose
from fleet_market.errors import InputError
from fleet_market.maps.roadmap import Roadmap

CORNER_RADIUS_M = 1.0
"""A place is the better for parking the less free floor there is within this distance."""
MAX_TRIES = 400
"""Candidates tried for one parking place before the map counts as full."""
MAX_NICHES = 0.01
"""Parking places may cut off this share of the free floor, in niches where nobody stops any more."""
ON_NODE_M = 0.18
"""Half the diagonal of the roadmap's lattice: a place on free floor has a node this near."""
SEPARATION_MARGIN_M = 0.28
"""Two robots keep this much more than their radii: tracking errors, lattice diagonals, and air."""


def separation_m(footprint_radius_m: float) -> float:
    """Return the distance between the places of two robots of this radius."""
    return 2 * footprint_radius_m + SEPARATION_MARGIN_M


def spread(
    roadmap: Roadmap, count: int, *, taken: Mapping[str, Pose], keep_clear: Sequence[Point], separation_m: float, names: str
) -> list[Pose]:
    """Return `count` parking places, spread over the main component of the map.

    Each stands near walls, keeps `separation_m` from the places in `keep_clear`, and leaves the rest of the floor in one
    piece; the same input gives the same places.

    Parameters
    ----------
    taken : mapping of name to Pose
        Parking places that there are already.
    keep_clear : sequence of (x, y)
        Places where robots will have to stop, metres.
    separation_m : float
        Distance within which one robot is in the other's way.
    names : str
        What the places are for, for the error message.

    Raises
    ------
    InputError
        If the map has no room for so many.
    """
    if count == 0:
        return []  # a robot's node reads a complete file: to look at the whole floor would take it most of its start
    parked = list(taken.values())
    found: list[Pose] = []
    candidates = _candidates(roadmap, keep_clear, separation_m)
    for number in range(count):
        parked_xy = [(p.x, p.y) for p in (*parked, *found)]
        for node in _farthest_first(roadmap, candidates, parked_xy, 2 * separation_m)[:MAX_TRIES]:
            pose = Pose(*roadmap.xy[node])
            if _cut_off(roadmap, [*parked, *found, pose], separation_m) is None:
                found.append(pose)
                break
        else:
            mend = f"use at most {number} on this map, or give their poses yourself"
            raise InputError(roadmap.name, names, f"{count} auto", mend)
    return found


def check_parking(
    roadmap: Roadmap, parked: Mapping[str, Pose], *, keep_clear: Mapping[str, Point], separation_m: float
) -> None:
    """Check that robots can stand on all places of `parked` and still drive from and to everywhere.

    Parameters
    ----------
    parked : mapping of name to Pose
        Starts and chargers; the name (``robots[2].start``) appears in the error.
    keep_clear : mapping of name to (x, y)
        Places where robots have to stop.

    Raises
    ------
    InputError
        If a place is not on free floor, too near to another one, or cuts the floor in two.
    """
    names = list(parked)
    for i, name in enumerate(names):
        pose = parked[name]
        shown = f"{pose.x:g};{pose.y:g}"
        node = roadmap.nearest(pose.x, pose.y, within_m=ON_NODE_M)
        if node is None or not roadmap.is_clear(pose.x, pose.y):
            mend = f"use a place with {roadmap.clearance_m:.2f} m of free floor around it"
            raise InputError(roadmap.name, name, shown, mend)
        if roadmap.component[node] != roadmap.main_component:
            raise InputError(roadmap.name, name, shown, "no way leads there: use a place that robots can reach")
        for other in names[:i]:
            apart = pose.distance_to(parked[other].x, parked[other].y)
            if apart < separation_m:
                raise InputError(roadmap.name, name, shown, f"{apart:.2f} m from {other}: keep {separation_m:.2f} m apart")
        for place, (x, y) in keep_clear.items():
            if pose.distance_to(x, y) < separation_m:
                raise InputError(roadmap.name, name, shown, f"blocks {place}: keep {separation_m:.2f} m from it")
    if (index := _cut_off(roadmap, list(parked.values()), separation_m)) is not None:
        pose = parked[names[index]]
        mend = "a robot there could not get out, or would cut the floor in two: choose a place aside"
        raise InputError(roadmap.name, names[index], f"{pose.x:g};{pose.y:g}", mend)


def _candidates(roadmap: Roadmap, keep_clear: Sequence[Point], separation_m: float) -> list[int]:
    """Return the nodes of the main component away from `keep_clear`, those with least free floor around them first."""
    xy = roadmap.points
    good = roadmap.component == roadmap.main_component
    for x, y in keep_clear:
        good &= np.hypot(xy[:, 0] - x, xy[:, 1] - y) >= separation_m
    nodes = [int(n) for n in np.flatnonzero(good)]
    around = {n: len(roadmap.within(*roadmap.xy[n], CORNER_RADIUS_M)) for n in nodes}
    nodes.sort(key=lambda n: (around[n], n))
    return nodes


def _farthest_first(roadmap: Roadmap, nodes: list[int], parked: list[Point], apart_m: float) -> list[int]:
    """Return the better half of `nodes` (by free floor) sorted by distance from `parked`, then the other half."""
    if not parked:
        return nodes
    half = nodes[: max(1, len(nodes) // 4)]
    distance = {n: min(math.dist(roadmap.xy[n], p) for p in parked) for n in nodes}
    near_walls = sorted((n for n in half if distance[n] >= apart_m), key=lambda n: (-distance[n], n))
    rest = sorted((n for n in nodes[len(half) :] if distance[n] >= apart_m), key=lambda n: (-distance[n], n))
    return near_walls[: MAX_TRIES // 2] + rest


def out_of_bounds(roadmap: Roadmap, parked: Mapping[str, Pose], separation_m: float) -> dict[int, str]:
    """Return the nodes of the main component where nobody else may stop, with the name of the parking place to blame."""
    names = list(parked)
    owners, free, reached = _divide(roadmap, list(parked.values()), separation_m)
    blamed = {node: names[min(who)] for node, who in owners.items()}
    for node in free - reached:
        x, y = roadmap.xy[node]
        blamed[node] = min(names, key=lambda name: parked[name].distance_to(x, y))
    return blamed


def _divide(
    roadmap: Roadmap, parked: Sequence[Pose], separation_m: float
) -> tuple[dict[int, set[int]], set[int], set[int]]:
    """Return whose each node is, the nodes that are nobody's, and the largest connected part of those."""
    owners: dict[int, set[int]] = {}
    for i, pose in enumerate(parked):
        for node in roadmap.within(pose.x, pose.y, separation_m - 1e-6):
            owners.setdefault(node, set()).add(i)
    free = {int(n) for n in np.flatnonzero(roadmap.component == roadmap.main_component)} - owners.keys()
    left, largest = set(free), set[int]()
    while len(left) > len(largest):
        part = _flood(roadmap, min(left), free)
        left -= part
        largest = max(largest, part, key=len)
    return owners, free, largest


def _cut_off(roadmap: Roadmap, parked: Sequence[Pose], separation_m: float) -> int | None:
    """Return the position of a place from which no way leads out, or that cuts the floor in two; None if all is well."""
    owners, free, reached = _divide(roadmap, parked, separation_m)
    if len(free - reached) > MAX_NICHES * len(free) or not reached:
        return len(parked) - 1
    for i, pose in enumerate(parked):
        home = roadmap.nearest(pose.x, pose.y, within_m=ON_NODE_M)
        own = {n for n, who in owners.items() if who == {i}}
        if home not in own:
            return i
        niche = _flood(roadmap, home, own)
        if not any(other in reached for node in niche for other, _ in roadmap.neighbours(node)):
            return i
    return None


def _flood(roadmap: Roadmap, start: int, allowed: set[int]) -> set[int]:
    seen, stack = {start}, [start]
    while stack:
        for other, _ in roadmap.neighbours(stack.pop()):
            if other in allowed and other not in seen:
                seen.add(other)
                stack.append(other)
    return seen
