"""Roadmap: an 8-connected lattice over the part of the floor where a robot keeps clear of everything.

Distances come from Dijkstra's algorithm (1959) backward from a goal, with a small price on turns so that of equally
short ways the straightest is taken. Lists and a heap rather than a solver library: a robot's node prices with this
and must stay small, and one tree over a hall of 5,000 nodes takes about 25 ms. A tree grows only as far as somebody
asks: on a large floor, a robot that is offered what is near does not pay for the far end.
"""

from __future__ import annotations

import heapq
import math
import mmap
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.body import Point, Pose
from fleet_market.errors import InputError, UnreachableError
from fleet_market.maps.grid import BoolArray, OccupancyGrid
from fleet_market.protocol.messages import Place

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Edges: TypeAlias = Sequence[Sequence[tuple[int, float]]]
"""For each node and each of its neighbours: how much larger the number of that is, and how far it is, metres.

Nodes on open floor have the same neighbours in this form, and share one object."""

PITCH_M = 0.25
TURN_COST_M_PER_RAD = 0.15
"""A quarter turn counts like 0.24 m of way: about the time that it takes."""
MAX_TREES = 512
MAX_SPAN = 2**15
ROUNDING_M = 1e-4
SHORTER_M = 1e-5
"""By so much a way must be shorter to be taken instead: the precision of single numbers at 100 m."""
AT_GOAL_M = 2.0**-100
"""Stands for 0 in a tree that grows, where 0 is what nobody has written: added to any length it changes nothing."""
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

    6 bytes per node, for a robot keeps hundreds of them: single precision is 0.01 mm at 100 m. Where a tree has not grown
    nobody has written to its pages, and the system gives no memory for them: for the far end of a large floor.

    Parameters
    ----------
    xy : sequence of (x, y)
        Of each node, metres.
    edges : Edges
        No edge spans `MAX_SPAN` nodes.
    goals : iterable of int
    """

    def __init__(self, xy: Sequence[Point], edges: Edges, goals: Iterable[int]) -> None:
        self._xy, self._edges = xy, edges
        room = memoryview(mmap.mmap(-1, max(1, 6 * len(xy)), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._distance_m = room[: 4 * len(xy)].cast("f")
        """While the tree grows: 0 where no way is known yet, `AT_GOAL_M` at a goal; afterwards as it is."""
        self._onward = room[4 * len(xy) : 6 * len(xy)].cast("h")
        """How much larger the number of the next node is; 0 at a goal."""
        self._heap = [(AT_GOAL_M, goal) for goal in goals]
        for _, goal in self._heap:
            self._distance_m[goal] = AT_GOAL_M
        if not self._heap:
            self._end()

    def from_m(self, node: int) -> float:
        """Return the length of the way from a node, metres, turns counted in; infinite where there is none."""
        if self._heap:
            self._work_out(node)
        length_m = self._distance_m[node]
        return 0.0 if length_m == AT_GOAL_M else length_m

    @property
    def all_m(self) -> Sequence[float]:
        """`from_m` of every node."""
        if self._heap:
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
        while onward := self._onward[nodes[-1]]:
            nodes.append(nodes[-1] + onward)
        return nodes

    def _work_out(self, node: int | None) -> None:
        """Go on until nothing that is left can shorten the way from `node`; None: from any."""
        distance, steps, heap, xy, edges = self._distance_m, self._onward, self._heap, self._xy, self._edges
        while heap and (node is None or not 0.0 < distance[node] <= heap[0][0]):
            d, nearest = heapq.heappop(heap)
            if d > distance[nearest]:
                continue
            x, y = xy[nearest]
            onward = nearest + steps[nearest]
            heading = math.atan2(xy[onward][1] - y, xy[onward][0] - x) if onward != nearest else None
            for more, length in edges[nearest]:
                other = nearest + more
                total, known = d + length, distance[other]
                if known <= total and known:
                    continue
                if heading is not None:
                    ox, oy = xy[other]
                    total += TURN_COST_M_PER_RAD * turn_between(math.atan2(y - oy, x - ox), heading)
                if not known or total < known - SHORTER_M:
                    distance[other], steps[other] = total, -more
                    heapq.heappush(heap, (distance[other], other))
        if not heap:
            self._end()

    def _end(self) -> None:
        """Say where there is no way, and what is 0, once nothing is left to work out."""
        told_m = np.asarray(self._distance_m)
        told_m[told_m == 0] = math.inf
        told_m[told_m == AT_GOAL_M] = 0


class Roadmap:
    """The lattice; see `build`."""

    def __init__(
        self,
        points: FloatArray,
        edges: Edges,
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
        columns = [memoryview(column) for column in points.T.copy()]  # a list would be as large as what is kept
        one = dict[float, float]().setdefault  # nodes of a row, or of a column, share their number
        self.xy: list[Point] = [(one(x, x), one(y, y)) for x, y in zip(*columns, strict=True)]
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

        Raises
        ------
        InputError
            If the map is wider than `MAX_SPAN` / 2 nodes.
        """
        clear = grid.clear_of(clearance_m)
        width, height = grid.size_m
        columns, rows = int(width / pitch_m) + 1, int(height / pitch_m) + 1
        if columns >= MAX_SPAN // 2:
            mend = f"use a map of at most {MAX_SPAN // 2 * pitch_m:.0f} m, or a coarser pitch than {pitch_m:g} m"
            raise InputError(grid.name, "width", f"{width:g} m", mend)
        x = grid.origin[0] + np.arange(columns) * pitch_m
        y = grid.origin[1] + np.arange(rows) * pitch_m
        stands = _are_clear(grid, clear, *np.meshgrid(x, y))
        j, i = np.nonzero(stands)
        number = np.full((rows + 2, columns + 2), -1)
        number[j + 1, i + 1] = np.arange(len(j))
        points = np.stack([x[i], y[j]], axis=1)
        more = np.zeros((len(j), len(_STEPS)), dtype=np.int64)
        for step, (dj, di) in enumerate(_STEPS):
            other = number[j + 1 + dj, i + 1 + di]
            there = np.flatnonzero(other >= 0)
            free = there[_segments_clear(grid, clear, points[there], points[other[there]])]
            more[free, step] = other[free] - free
        lengths_m = [pitch_m * math.hypot(*step) for step in _STEPS]
        kinds, kind = np.unique(more, axis=0, return_inverse=True)
        one = dict[tuple[int, float], tuple[int, float]]().setdefault
        shared = [tuple([one(end, end) for end in zip(row, lengths_m, strict=True) if end[0]]) for row in kinds.tolist()]
        edges = [shared[k] for k in kind.reshape(-1).tolist()]
        return cls(points, edges, clear=clear, grid=grid, clearance_m=clearance_m, pitch_m=pitch_m)

    def __len__(self) -> int:
        return len(self.xy)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: all but the trees, which it works out by itself when it is asked."""
        return self.__dict__ | {"_trees": OrderedDict()}

    def neighbours(self, node: int) -> Sequence[tuple[int, float]]:
        """Return (node, length in metres) of each neighbour."""
        return [(node + more, length_m) for more, length_m in self._edges[node]]

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
    pieces = _pieces(grid, a, b)
    way = np.array(a) + np.arange(1, pieces)[:, None] / pieces * (np.array(b) - np.array(a))
    return bool(_are_clear(grid, clear, *way.T).all())


def _pieces(grid: OccupancyGrid, a: Point, b: Point) -> int:
    return max(2, math.ceil(math.dist(a, b) / (grid.resolution_m / 2)))


def _segments_clear(grid: OccupancyGrid, clear: BoolArray, a: FloatArray, b: FloatArray) -> BoolArray:
    """Return, for points (n, 2) of the same distance from each other, whether the disc can be moved from a to b."""
    good = np.ones(len(a), dtype=bool)
    if len(a):
        pieces = _pieces(grid, a[0], b[0])
        for k in range(1, pieces):
            good &= _are_clear(grid, clear, *(a + k / pieces * (b - a)).T)
    return good


def _are_clear(grid: OccupancyGrid, clear: BoolArray, x: FloatArray, y: FloatArray) -> BoolArray:
    """Return for each point whether a robot that stands there keeps its clearance; nowhere outside of the map."""
    column = np.floor((x - grid.origin[0]) / grid.resolution_m).astype(np.int64)
    row = np.floor((y - grid.origin[1]) / grid.resolution_m).astype(np.int64)
    rows, columns = clear.shape
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    good: BoolArray = inside & clear[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    return good


def _components(edges: Edges) -> tuple[IntArray, int]:
    component = np.full(len(edges), -1, dtype=np.int64)
    sizes: list[int] = []
    for seed in range(len(edges)):
        if component[seed] >= 0:
            continue
        component[seed], stack, size = len(sizes), [seed], 0
        while stack:
            node = stack.pop()
            size += 1
            for more, _ in edges[node]:
                other = node + more
                if component[other] < 0:
                    component[other] = len(sizes)
                    stack.append(other)
        sizes.append(size)
    return component, int(np.argmax(sizes)) if sizes else -1
