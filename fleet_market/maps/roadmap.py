"""Roadmap: an 8-connected lattice over the part of the floor where a robot keeps clear of everything.

Distances come from Dijkstra's algorithm (1959) backward from a goal, with a small price on turns so that of equally
short ways the straightest is taken. Lists and a heap rather than a solver library: a robot's node prices with this
and must stay small, and one tree over a hall of 5,000 nodes takes about 25 ms. A tree grows only as far as somebody
asks: on a large floor, a robot that is offered what is near does not pay for the far end.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.body import Point, Pose
from fleet_market.errors import UnreachableError
from fleet_market.maps.grid import BoolArray, OccupancyGrid
from fleet_market.protocol.messages import Place

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

PITCH_M = 0.25
TURN_COST_M_PER_RAD = 0.15
"""A quarter turn counts like 0.24 m of way: about the time that it takes."""
MAX_TREES = 512
ROUNDING_M = 1e-4
SNAP_M = 0.45
"""A pose this far from the nearest node still counts as on the roadmap (a robot that was stopped between nodes)."""

_STEPS = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]


def turn_between(a: float, b: float) -> float:
    """Return the absolute angle between two headings, radians, 0 to pi."""
    return abs((b - a + math.pi) % (2 * math.pi) - math.pi)


class Leg(NamedTuple):
    """A way from a pose to a place."""

    length_m: float
    turn_rad: float
    """Sum of the absolute changes of heading."""
    points: tuple[Point, ...]


class DistanceTree:
    """Shortest ways from everywhere to one set of goals, worked out as far as somebody asks.

    12 bytes per node, for a robot keeps hundreds of them.

    Parameters
    ----------
    xy : sequence of (x, y)
        Of each node, metres.
    edges : sequence of sequences of (node, length in metres)
    goals : iterable of int
    """

    def __init__(self, xy: Sequence[Point], edges: Sequence[Sequence[tuple[int, float]]], goals: Iterable[int]) -> None:
        self._xy, self._edges = xy, edges
        self._distance_m = array("d", [math.inf]) * len(xy)
        self._towards = array("i", [-1]) * len(xy)
        self._heap = [(0.0, goal) for goal in goals]
        for _, goal in self._heap:
            self._distance_m[goal] = 0.0

    def from_m(self, node: int) -> float:
        """Return the length of the way from a node, metres, turns counted in; infinite where there is none."""
        if self._heap:
            self._work_out(node)
        return self._distance_m[node]

    @property
    def all_m(self) -> Sequence[float]:
        """`from_m` of every node."""
        self._work_out(None)
        return self._distance_m

    def path(self, start: int) -> list[int]:
        """Return the nodes from `start` to the goal, both included.

        Raises
        ------
        UnreachableError
            If no way leads from `start` to the goal.
        """
        if math.isinf(self.from_m(start)):
            raise UnreachableError(f"no way leads from node {start} to the goal")
        nodes = [start]
        while (following := self._towards[nodes[-1]]) >= 0:
            nodes.append(following)
        return nodes

    def _work_out(self, node: int | None) -> None:
        """Go on until nothing that is left can shorten the way from `node`; None: from any."""
        distance, towards, heap, xy, edges = self._distance_m, self._towards, self._heap, self._xy, self._edges
        while heap and (node is None or distance[node] > heap[0][0]):
            d, nearest = heapq.heappop(heap)
            if d > distance[nearest]:
                continue
            x, y = xy[nearest]
            onward = towards[nearest]
            heading = math.atan2(xy[onward][1] - y, xy[onward][0] - x) if onward >= 0 else None
            for other, length in edges[nearest]:
                total = d + length
                if total >= distance[other]:
                    continue
                if heading is not None:
                    ox, oy = xy[other]
                    total += TURN_COST_M_PER_RAD * turn_between(math.atan2(y - oy, x - ox), heading)
                if total < distance[other] - 1e-9:
                    distance[other], towards[other] = total, nearest
                    heapq.heappush(heap, (total, other))


class Roadmap:
    """The lattice; see `build`."""

    def __init__(
        self,
        points: FloatArray,
        edges: list[list[tuple[int, float]]],
        *,
        clear: BoolArray,
        grid: OccupancyGrid,
        clearance_m: float,
        pitch_m: float,
    ) -> None:
        self.points = points
        """(nodes, 2), metres; row by row, by ascending y."""
        self.pitch_m = pitch_m
        self.clearance_m = clearance_m
        self.name = grid.name
        self.xy: list[Point] = [(float(x), float(y)) for x, y in points]
        self._edges = edges
        self._clear = clear
        self._grid = grid
        self._trees: OrderedDict[tuple[int, ...], DistanceTree] = OrderedDict()
        self.component, self.main_component = _components(edges)

    @classmethod
    def build(cls, grid: OccupancyGrid, *, clearance_m: float, pitch_m: float = PITCH_M) -> Roadmap:
        """Return the lattice of `pitch_m` on `grid`.

        A node stands where a disc of `clearance_m` touches free cells only; an edge joins two of the eight neighbours
        where the disc can be moved along it.
        """
        clear = grid.clear_of(clearance_m)
        width, height = grid.size_m
        columns, rows = int(width / pitch_m) + 1, int(height / pitch_m) + 1
        number: dict[tuple[int, int], int] = {}
        points: list[Point] = []
        for j in range(rows):
            for i in range(columns):
                x, y = grid.origin[0] + i * pitch_m, grid.origin[1] + j * pitch_m
                cell = grid.cell(x, y)
                if cell is not None and clear[cell]:
                    number[j, i] = len(points)
                    points.append((x, y))
        edges: list[list[tuple[int, float]]] = [[] for _ in points]
        steps = [(dj, di, pitch_m * math.hypot(dj, di)) for dj, di in _STEPS]
        for (j, i), node in number.items():
            for dj, di, length_m in steps:
                other = number.get((j + dj, i + di))
                if other is not None and _segment_clear(grid, clear, points[node], points[other]):
                    edges[node].append((other, length_m))
        places = np.array(points, dtype=np.float64).reshape(-1, 2)
        return cls(places, edges, clear=clear, grid=grid, clearance_m=clearance_m, pitch_m=pitch_m)

    def __len__(self) -> int:
        return len(self.xy)

    def neighbours(self, node: int) -> Sequence[tuple[int, float]]:
        """Return (node, length in metres) of each neighbour."""
        return self._edges[node]

    def is_clear(self, x: float, y: float) -> bool:
        """Return whether a robot standing at the point keeps its clearance."""
        cell = self._grid.cell(x, y)
        return cell is not None and bool(self._clear[cell])

    def connects(self, a: Point, b: Point) -> bool:
        """Return whether a robot can drive straight from one point to the other and keep its clearance."""
        return self.is_clear(*b) and _segment_clear(self._grid, self._clear, a, b)

    def within(self, x: float, y: float, radius_m: float) -> list[int]:
        """Return the nodes within `radius_m` of a point, in ascending order."""
        reach_m = radius_m + ROUNDING_M
        first, end = np.searchsorted(self.points[:, 1], (y - reach_m, y + reach_m)).tolist()  # nodes stand row by row
        offsets = self.points[first:end] - (x, y)
        inside = np.flatnonzero((offsets * offsets).sum(axis=1) <= radius_m * radius_m + 1e-9)
        return [first + int(node) for node in inside]

    def nearest(self, x: float, y: float, *, within_m: float = SNAP_M) -> int | None:
        """Return the nearest node of the main component, else of any, within `within_m`; None if there is none."""
        near = self.within(x, y, within_m)
        if not near:
            return None
        return min(
            near,
            key=lambda n: (self.component[n] != self.main_component, math.dist(self.xy[n], (x, y)), n),
        )

    def goals(self, place: Place) -> tuple[int, ...]:
        """Return the nodes at which a robot is at `place`: one, or a ring where something stands on the place."""
        if place.keep_off_m > 0:
            inner = set(self.within(place.x, place.y, place.keep_off_m))
            return tuple(n for n in self.within(place.x, place.y, place.radius_m) if n not in inner)
        node = self.nearest(place.x, place.y, within_m=place.radius_m)
        return () if node is None else (node,)

    def to(self, goals: tuple[int, ...]) -> DistanceTree:
        """Return the shortest ways to `goals`; the newest `MAX_TREES` are kept."""
        tree = self._trees.pop(goals, None)
        if tree is None:
            tree = DistanceTree(self.xy, self._edges, goals)
            if len(self._trees) >= MAX_TREES:
                self._trees.popitem(last=False)
        self._trees[goals] = tree
        return tree


def leg(roadmap: Roadmap, start: Pose, place: Place) -> Leg:
    """Return the way from `start` to `place`.

    The last point is the place itself where a robot can stand there, else the nearest node.

    Raises
    ------
    UnreachableError
        If the start is off the roadmap or no way leads to the place.
    """
    node = roadmap.nearest(start.x, start.y)
    goals = roadmap.goals(place)
    if node is None or not goals:
        raise UnreachableError(f"{'start' if node is None else place.name or 'goal'} is off the roadmap")
    points: list[Point] = [(start.x, start.y), *(roadmap.xy[n] for n in roadmap.to(goals).path(node))]
    if place.keep_off_m == 0 and roadmap.is_clear(place.x, place.y):
        points[-1] = (place.x, place.y)
    points = merge_collinear(points)
    length = sum(math.dist(a, b) for a, b in pairwise(points))
    return Leg(length, _turns(start.yaw, points, place.yaw), tuple(points))


def merge_collinear(points: Sequence[Point]) -> list[Point]:
    """Return the corners of a path: points that repeat or lie on a straight stretch are left out."""
    kept: list[Point] = []
    for point in points:
        if kept and math.dist(kept[-1], point) < 1e-6:
            continue
        if len(kept) >= 2:
            before = math.atan2(kept[-1][1] - kept[-2][1], kept[-1][0] - kept[-2][0])
            after = math.atan2(point[1] - kept[-1][1], point[0] - kept[-1][0])
            if turn_between(before, after) < 1e-6:
                kept.pop()
        kept.append(point)
    return kept


def _turns(yaw: float, points: Sequence[Point], final_yaw: float | None) -> float:
    total, heading = 0.0, yaw
    for a, b in pairwise(points):
        following = math.atan2(b[1] - a[1], b[0] - a[0])
        total += turn_between(heading, following)
        heading = following
    return total if final_yaw is None else total + turn_between(heading, final_yaw)


def _segment_clear(grid: OccupancyGrid, clear: BoolArray, a: Point, b: Point) -> bool:
    pieces = max(2, math.ceil(math.dist(a, b) / (grid.resolution_m / 2)))
    for k in range(1, pieces):
        t = k / pieces
        cell = grid.cell(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]))
        if cell is None or not clear[cell]:
            return False
    return True


def _components(edges: list[list[tuple[int, float]]]) -> tuple[IntArray, int]:
    component = np.full(len(edges), -1, dtype=np.int64)
    sizes: list[int] = []
    for seed in range(len(edges)):
        if component[seed] >= 0:
            continue
        component[seed], stack, size = len(sizes), [seed], 0
        while stack:
            node = stack.pop()
            size += 1
            for other, _ in edges[node]:
                if component[other] < 0:
                    component[other] = len(sizes)
                    stack.append(other)
        sizes.append(size)
    return component, int(np.argmax(sizes)) if sizes else -1
