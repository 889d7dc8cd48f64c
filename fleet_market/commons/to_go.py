"""How long a way still takes at least, turns included: what the search for ways is guided by.

Exact for a floor on which nobody else drives: the shortest way over (node, heading), worked out backward from the goals,
with the turns that the search itself counts. Whole straight runs are relaxed at once (a running minimum along each line of
the lattice, in all eight directions, then turns at each node), until nothing changes: about as many rounds as the way has
turns. Only a window round the way is looked at; a way that leaves it counts as if it were straight, so that no time is
ever too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.maps.grid import BoolArray
from fleet_market.maps.roadmap import Roadmap

FloatArray: TypeAlias = NDArray[np.float64]

HEADINGS = 8
TURN_RAD = 2 * math.pi / HEADINGS
STEPS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
"""(columns, rows) by heading: heading k is `k * TURN_RAD`."""
AXES = STEPS[: HEADINGS // 2]
TURNS = [(k, (k + 1) % HEADINGS) for k in range(HEADINGS)] + [((k + 1) % HEADINGS, k) for k in reversed(range(HEADINGS))]
"""Turns by 45 degrees, first all to the left, then all to the right."""
FAR_S = 2.0**13
"""More than it takes to drive anywhere: not reached."""
CONVERGED_S = 1e-7


class Lattice:
    """The nodes of a roadmap in columns and rows, and which of its edges there are.

    Parameters
    ----------
    roadmap : Roadmap
    """

    def __init__(self, roadmap: Roadmap) -> None:
        self.pitch_m = roadmap.pitch_m
        places = np.rint((roadmap.points - roadmap.points.min(axis=0, initial=math.inf)) / self.pitch_m).astype(np.int64)
        self.columns, self.rows = (int(n) + 1 for n in places.max(axis=0, initial=-1))
        self.column: list[int] = places[:, 0].tolist()
        self.row: list[int] = places[:, 1].tolist()
        counts = [len(roadmap.neighbours(node)) for node in range(len(roadmap))]
        sources = np.repeat(np.arange(len(roadmap)), counts)
        ends = np.fromiter((o for node in range(len(roadmap)) for o, _ in roadmap.neighbours(node)), np.int64, len(sources))
        self.edges: BoolArray = np.zeros((HEADINGS, self.rows, self.columns), dtype=bool)
        """[heading, row, column]"""
        for heading, step in enumerate(STEPS):
            along = sources[(places[ends] - places[sources] == step).all(axis=1)]
            self.edges[heading, places[along, 1], places[along, 0]] = True
        self._places = places
        self._roadmap = roadmap
        self._moves: dict[int, list[tuple[int, int]]] = {}

    def moves(self, node: int) -> Sequence[tuple[int, int]]:
        """Return (heading, node) of each neighbour."""
        moves = self._moves.get(node)
        if moves is None:
            here = (self.column[node], self.row[node])
            moves = self._moves[node] = [
                (STEPS.index((self.column[other] - here[0], self.row[other] - here[1])), other)
                for other, _ in self._roadmap.neighbours(node)
            ]
        return moves

    def nodes_within(self, radius_m: float) -> Callable[[int], frozenset[int]]:
        """Return what gives the nodes within `radius_m` of a node, itself included, and remembers them."""
        reach = int(radius_m / self.pitch_m)
        width = self.columns + 2 * reach
        number = np.full((self.rows + 2 * reach) * width, -1)
        at = (self._places[:, 1] + reach) * width + self._places[:, 0] + reach
        number[at] = np.arange(len(at))
        steps = np.arange(-reach, reach + 1)
        inside = np.hypot(steps[:, None], steps[None, :]) * self.pitch_m <= radius_m
        offsets = (steps[:, None] * width + steps[None, :])[inside]
        known: dict[int, frozenset[int]] = {}

        def within(node: int) -> frozenset[int]:
            near = known.get(node)
            if near is None:
                found = number[at[node] + offsets]
                near = known[node] = frozenset(found[found >= 0].tolist())
            return near

        return within

    def free(self, closed: Iterable[int]) -> BoolArray:
        """Return [row, column]: False at nodes in `closed`."""
        free = np.ones((self.rows, self.columns), dtype=bool)
        nodes = list(closed)
        free[[self.row[node] for node in nodes], [self.column[node] for node in nodes]] = False
        return free

    def apart_m(self, a: int, b: int) -> float:
        """Return how long the way between two nodes is at least, metres."""
        x, y = abs(self.column[a] - self.column[b]), abs(self.row[a] - self.row[b])
        return self.pitch_m * (max(x, y) + (math.sqrt(2) - 1) * min(x, y))


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast robots drive and turn: m/s and s/rad."""

    speed_mps: float
    turn_s_per_rad: float

    def drive_s(self, pitch_m: float, heading: int) -> float:
        """Return how long it takes to drive to the next node of a lattice."""
        return pitch_m * math.hypot(*STEPS[heading]) / self.speed_mps


class TimeToGo:
    """The least time from each node and heading to the end: exact for ways that do not leave a window, else a bound.

    Parameters
    ----------
    lattice : Lattice
    free : [row, column] bool array
        Where robots may drive to.
    goals : mapping of node to sequence of float
        How long it takes at least from there on, seconds, by heading on arrival.
    sources : sequence of node
    margin : int
        The window has all goals and sources and so many columns and rows around them.
    pace : Pace
    """

    def __init__(
        self,
        lattice: Lattice,
        free: BoolArray,
        goals: Mapping[int, Sequence[float]],
        sources: Sequence[int],
        margin: int,
        pace: Pace,
    ) -> None:
        self._lattice, self._pace = lattice, pace
        columns, rows = [[of[goal] for goal in goals] for of in (lattice.column, lattice.row)]
        self._box = (min(columns), max(columns), min(rows), max(rows))
        columns, rows = (
            [*some, *(of[s] for s in sources)] for some, of in ((columns, lattice.column), (rows, lattice.row))
        )
        self._left, self._low = max(0, min(columns) - margin), max(0, min(rows) - margin)
        right, high = min(lattice.columns, max(columns) + margin + 1), min(lattice.rows, max(rows) + margin + 1)
        self._columns, self._rows = right - self._left, high - self._low
        self.whole = (self._columns, self._rows) == (lattice.columns, lattice.rows)
        self._rest_s = min(min(least_s) for least_s in goals.values())
        self._round_s = self._ways_round(right, high)
        times = np.empty((HEADINGS, self._rows, self._columns + 1))
        times[:] = self._round_s
        for goal, least_s in goals.items():
            at = (lattice.row[goal] - self._low, lattice.column[goal] - self._left)
            times[:, *at] = np.minimum(np.array(least_s) - self._rest_s, FAR_S)
        window = (slice(self._low, high), slice(self._left, right))
        _relax(times, _cut(lattice.edges[:, *window], free[window]), lattice.pitch_m, pace)
        times = np.where(times >= FAR_S, math.inf, times + self._rest_s)
        self._times = np.ascontiguousarray(times.transpose(1, 2, 0)).reshape(-1).data

    def __call__(self, node: int, heading: int) -> float:
        """Return how long it takes at least from a node at which a robot has arrived with a heading, seconds."""
        column, row = self._lattice.column[node] - self._left, self._lattice.row[node] - self._low
        if 0 <= column < self._columns and 0 <= row < self._rows:
            time_s: float = self._times[(row * (self._columns + 1) + column) * HEADINGS + heading]
            return time_s
        left, right, low, high = self._box
        x, y = self._lattice.column[node], self._lattice.row[node]
        across, along = max(left - x, x - right, 0), max(low - y, y - high, 0)
        straight_s: float = self._straight_s(max(across, along), min(across, along))
        return self._rest_s + straight_s

    def by_heading(self, node: int) -> list[float]:
        """Return the same for all headings."""
        return [self(node, heading) for heading in range(HEADINGS)]

    def is_exact(self, node: int) -> bool:
        """Return whether the times from a node inside are reached without leaving the window, from all headings."""
        column, row = self._lattice.column[node] - self._left, self._lattice.row[node] - self._low
        return bool(max(self.by_heading(node)) < self._rest_s + self._round_s[row, column])

    def _ways_round(self, right: int, high: int) -> FloatArray:
        """Return how long it takes at least from each node inside through the outside, [row, column], one column more."""
        box_left, box_right, box_low, box_high = self._box
        column = np.arange(self._left, right + 1)[None, :]
        row = np.arange(self._low, high)[:, None]
        across = np.maximum(0, np.maximum(box_left - column, column - box_right))
        along = np.maximum(0, np.maximum(box_low - row, row - box_high))
        ways: list[tuple[Any, Any]] = []
        if self._left > 0:
            ways.append((column + box_left - 2 * (self._left - 1), along))
        if right < self._lattice.columns:
            ways.append((2 * right - column - box_right, along))
        if self._low > 0:
            ways.append((across, row + box_low - 2 * (self._low - 1)))
        if high < self._lattice.rows:
            ways.append((across, 2 * high - row - box_high))
        ways_s = np.full((self._rows, self._columns + 1), FAR_S)
        for x, y in ways:
            np.minimum(ways_s, self._straight_s(np.maximum(x, y), np.minimum(x, y)), out=ways_s)
        return ways_s

    def _straight_s(self, more: Any, less: Any) -> Any:
        """Return how long a way over so many columns and rows, or rows and columns, takes at least, without turns."""
        return (self._lattice.pitch_m / self._pace.speed_mps) * (more + (math.sqrt(2) - 1) * less)


def _cut(edges: BoolArray, free: BoolArray) -> BoolArray:
    """Return the edges that stay inside and do not lead to what is not free, [heading, node], one column more."""
    _, rows, columns = edges.shape
    padded = np.zeros((rows + 2, columns + 2), dtype=bool)
    padded[1:-1, 1:-1] = free
    cut = np.zeros((HEADINGS, rows, columns + 1), dtype=bool)
    for heading, (x, y) in enumerate(STEPS):
        cut[heading, :, :-1] = edges[heading] & padded[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]
    return cut.reshape(HEADINGS, -1)


def _relax(times: FloatArray, edges: BoolArray, pitch_m: float, pace: Pace) -> None:
    """Lower `times` [heading, row, column] to what it takes over `edges` and turns, until nothing changes."""
    width = times.shape[2]
    flat = times.reshape(HEADINGS, -1)
    lines = [_Lines(edges, k, x + y * width, pace.drive_s(pitch_m, k)) for k, (x, y) in enumerate(AXES)]
    turn_s = pace.turn_s_per_rad * TURN_RAD
    while True:
        before = flat.copy()
        for line in lines:
            line.relax(flat)
        for a, b in TURNS:
            np.minimum(flat[b], flat[a] + turn_s, out=flat[b])
        if (before - flat).max() <= CONVERGED_S:
            return


class _Lines:
    """All lines of one direction and its opposite, of a lattice whose nodes stand one after another, row by row.

    Row i of such a line is a node, row i + 1 the next one. From a node at row i it takes ``(i - j) * drive_s`` to the one
    at row j; where an edge is missing on the way, `FAR_S` is added.
    """

    def __init__(self, edges: BoolArray, heading: int, step: int, drive_s: float) -> None:
        self._there, self._back, self._nodes = heading, heading + HEADINGS // 2, edges.shape[1]
        length = -(-self._nodes // step)
        missing = np.ones((2, length * step), dtype=bool)
        missing[0, : self._nodes] = ~edges[self._back]
        missing[1, : self._nodes] = ~edges[self._there, ::-1]
        self._offset = FAR_S * missing.reshape(2, length, step).cumsum(axis=1)
        self._offset += drive_s * np.arange(length)[:, None]
        self._in, self._out = (np.full((2, length * step), FAR_S) for _ in range(2))

    def relax(self, times: FloatArray) -> None:
        """Lower `times` [heading, node] to what it takes over straight runs."""
        before, after = (a.reshape(self._offset.shape) for a in (self._in, self._out))
        self._in[0, : self._nodes], self._in[1, : self._nodes] = times[self._back], times[self._there, ::-1]
        np.subtract(before, self._offset, out=before)
        np.minimum.accumulate(before, axis=1, out=before)
        np.add(before[:, :-1], self._offset[:, 1:], out=after[:, 1:])
        np.minimum(times[self._back], self._out[0, : self._nodes], out=times[self._back])
        np.minimum(times[self._there, ::-1], self._out[1, : self._nodes], out=times[self._there, ::-1])
