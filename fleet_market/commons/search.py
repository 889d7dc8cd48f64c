"""The quickest way through a floor on which others drive: safe-interval path planning (Phillips and Likhachev 2011).

A* over (leg, place, safe interval, heading), where a leg leads to the next stop. Searching all legs at once finds a way
also where the quickest arrival at one stop would leave the robot trapped there. What is still to go is known exactly but
for the other robots (`Guide`): where none is in the way, the search looks at little more than the way itself.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from fleet_market.body import Point
from fleet_market.commons.guide import START, Entry, Guide, Leg
from fleet_market.commons.to_go import HEADINGS, Lattice, Pace
from fleet_market.maps.roadmap import Roadmap

MAX_LABELS = 400_000
"""A search that has looked at so many states gives up."""
MAX_EXACT, HASTE = 400, 2.0
"""From so many states on what is still to go counts so many times, and a way may take so many times as long as the quickest
[assumption: robots that meet without a long wait cost fewer states]."""
TURN_S_PER_RAD = 1.0
ROUNDING_S = 1e-9
ON_NODE_M = 0.15
"""A robot this near to a node stands on it."""
ENTRY_M = 0.45
"""A robot drives from where it stands straight to a node at most this far away."""

Interval = tuple[float, float]


class Way(NamedTuple):
    """A way found; lists have one entry per point, the first is where the robot stands."""

    points: list[Point]
    nodes: list[int]
    dwell_s: list[float]
    drive_s: list[float]
    arrive_s: list[float]
    stops: tuple[int, ...]
    """Position in `points` of the end of each leg."""


Label: TypeAlias = tuple[float, int, int, float, int, float, int]
"""Time, leg, node or `START`, until when it may stay, heading as in `Guide`, time of the drive there, label before."""

Move: TypeAlias = tuple[int, int, list[Interval]]
"""Heading, node and its safe intervals."""


class _Reached:
    """When a place was reached within one safe interval, by heading."""

    __slots__ = ("at_s", "since_s", "turned_from", "turned_s")

    def __init__(self) -> None:
        self.at_s: dict[int, float] = {}
        self.turned_s = [math.inf] * HEADINGS
        """When a robot that was there can have turned to each heading of the lattice."""
        self.since_s = [math.inf] * HEADINGS
        self.turned_from = [0] * HEADINGS
        """Since when, and with which heading, that robot was there."""

    def turn(self, time_s: float, heading: int, turns_s: Sequence[float]) -> None:
        """Take note that a robot that has arrived with a heading can turn from a time on."""
        for to, turn_s in enumerate(turns_s):
            if time_s + turn_s < self.turned_s[to]:
                self.turned_s[to], self.since_s[to], self.turned_from[to] = time_s + turn_s, time_s, heading


class Search:
    """Searches on one floor at one time.

    Parameters
    ----------
    roadmap : Roadmap
    lattice : Lattice
        The same nodes.
    held : callable
        Returns when a node is held by others, seconds, in any order.
    closed : set of node
        Nodes never to be driven over.
    speed_mps : float
    """

    def __init__(
        self,
        roadmap: Roadmap,
        lattice: Lattice,
        held: Callable[[int], Iterable[Interval]],
        closed: set[int],
        speed_mps: float,
    ) -> None:
        self._roadmap, self._lattice, self._held, self._closed = roadmap, lattice, held, closed
        self._pace = Pace(speed_mps, TURN_S_PER_RAD)
        self._safe: dict[int, list[Interval]] = {}
        self._ways: dict[int, list[Move]] = {}
        self._opens: dict[int, list[tuple[float, int]]] = {}

    def find(self, start: Point, start_until_s: float, legs: Sequence[Leg], now_s: float) -> Way | None:
        """Return a way from `start` through all `legs`, None if there is none: the quickest, but for what `HASTE` says.

        Parameters
        ----------
        start_until_s : float
            Until when the robot may stay where it is.
        legs : sequence of Leg
            At the end of the last the robot must be able to stay for ever.
        """
        if any(not leg.goals for leg in legs):
            return None
        here, entries = self._roadmap.nearest(*start, within_m=ON_NODE_M), self._entries(start)
        guide = Guide(self._lattice, self._pace, self._closed, legs, here, entries)
        if not guide.possible:
            return None
        first = [(HEADINGS + i, entry.node, self._safe_intervals(entry.node)) for i, entry in enumerate(entries)]
        first_s = [0.0] * HEADINGS + [entry.length_m / self._pace.speed_mps for entry in entries]
        labels: list[Label] = [(now_s, 0, START, start_until_s, HEADINGS, 0.0, -1)]
        heap = [(now_s, 0.0, 0)]
        reached = {labels[0][1:4]: _Reached()}
        reached[labels[0][1:4]].at_s[HEADINGS] = now_s
        weight, looked_at = 1.0, 0
        while heap and len(labels) < MAX_LABELS:
            number = heapq.heappop(heap)[-1]
            time_s, leg, node, until_s, heading, _, _ = label = labels[number]
            known = reached[leg, node, until_s]
            if time_s > known.at_s[heading] or self._is_useless(label, known, guide.turns_s):
                continue
            looked_at += 1
            if looked_at == MAX_EXACT:
                weight = HASTE
                heap = [(labels[n][0] + weight * to_go_s, to_go_s, n) for _, to_go_s, n in heap]
                heapq.heapify(heap)
            at_stop = (here if node == START else node) in legs[leg].goals
            if at_stop and leg + 1 == len(legs) and until_s == math.inf:
                return self._trace(labels, number, start, legs)
            following = self._stay(label, number, legs) if at_stop else []
            if node == START:
                following += self._moves(label, number, first, first_s)
            else:
                known.turn(time_s, heading, guide.turns_s[heading])
                following += self._moves(label, number, self._ways_from(node), guide.drive_s[heading])
            for after in following:
                known_after = reached.get(after[1:4])
                if known_after is None:
                    known_after = reached[after[1:4]] = _Reached()
                if after[0] < known_after.at_s.get(after[4], math.inf) and not self._is_useless(
                    after, known_after, guide.turns_s
                ):
                    to_go_s = guide(after[1], after[2], after[4])
                    if to_go_s < math.inf:
                        known_after.at_s[after[4]] = after[0]
                        heapq.heappush(heap, (after[0] + weight * to_go_s, to_go_s, len(labels)))
                        labels.append(after)
        return None

    def _stay(self, label: Label, number: int, legs: Sequence[Leg]) -> list[Label]:
        """Return what comes after the stop at which the robot is, if it may stay there as long as it must."""
        time_s, leg, node, until_s, heading, _, _ = label
        after_s = time_s + legs[leg].dwell_s
        if leg + 1 == len(legs) or after_s > until_s:
            return []
        return [(after_s, leg + 1, node, until_s, heading, 0.0, number)]

    def _is_useless(self, label: Label, known: _Reached, turns_s: Sequence[Sequence[float]]) -> bool:
        """Return whether a robot that was there before and has turned since comes everywhere as early.

        It does, but for nodes that become free only later: a robot that waits turns only then.
        """
        time_s, _, node, until_s, heading, _, _ = label
        if heading >= HEADINGS or known.turned_s[heading] > time_s + ROUNDING_S:
            return False
        before_s, mine_s, theirs_s = known.since_s[heading], turns_s[heading], turns_s[known.turned_from[heading]]
        for free_s, to in self._openings(node):
            if free_s <= before_s:
                break
            if free_s < until_s and max(time_s, free_s) + mine_s[to] < free_s + theirs_s[to] - ROUNDING_S:
                return False
        return True

    def _moves(self, label: Label, number: int, ways: Iterable[Move], drive_s: Sequence[float]) -> list[Label]:
        """Return what a robot can do next; `drive_s`: how long each of `ways` takes, by heading."""
        time_s, leg, _, leave_s, _, _, _ = label
        moves: list[Label] = []
        for heading, node, intervals in ways:
            move_s = drive_s[heading]
            for free_s, until_s in intervals:
                arrive_s = (max(time_s, free_s)) + move_s
                if free_s + move_s > leave_s:
                    break
                if arrive_s <= leave_s and arrive_s < until_s:
                    moves.append((arrive_s, leg, node, until_s, heading, move_s, number))
        return moves

    def _ways_from(self, node: int) -> list[Move]:
        ways = self._ways.get(node)
        if ways is None:
            ways = self._ways[node] = [
                (to, other, self._safe_intervals(other))
                for to, other in self._lattice.moves(node)
                if other not in self._closed
            ]
        return ways

    def _openings(self, node: int) -> list[tuple[float, int]]:
        """Return when neighbours become free, the last first, with the headings that lead there."""
        openings = self._opens.get(node)
        if openings is None:
            ways = self._ways_from(node)
            found = [(free_s, to) for to, _, intervals in ways for free_s, _ in intervals if free_s > -math.inf]
            openings = self._opens[node] = sorted(found, reverse=True)
        return openings

    def _entries(self, start: Point) -> list[Entry]:
        """Return how a robot can drive straight from where it stands to a node; not back to one under it."""
        xy = self._roadmap.xy
        near = [(n, math.dist(start, xy[n])) for n in self._roadmap.within(*start, ENTRY_M)]
        ways = [(n, d) for n, d in near if d > ON_NODE_M and self._roadmap.connects(start, xy[n])]
        ways = ways or [(n, d) for n, d in near if d > 1e-3]
        return [Entry(n, d, math.atan2(xy[n][1] - start[1], xy[n][0] - start[0])) for n, d in ways if n not in self._closed]

    def _safe_intervals(self, node: int) -> list[Interval]:
        safe = self._safe.get(node)
        if safe is None:
            safe, free_s = [], -math.inf
            for begin_s, end_s in sorted(self._held(node)):
                if begin_s > free_s:
                    safe.append((free_s, begin_s))
                free_s = max(free_s, end_s)
            if not math.isinf(free_s) or free_s < 0:
                safe.append((free_s, math.inf))
            self._safe[node] = safe
        return safe

    def _trace(self, labels: list[Label], number: int, start: Point, legs: Sequence[Leg]) -> Way:
        chain = []
        while number >= 0:
            chain.append(labels[number])
            number = labels[number][-1]
        chain.reverse()
        way = Way([start], [-1], [0.0], [0.0], [chain[0][0]], ())
        stops: list[int] = []
        for (_, before, *_), (time_s, leg, node, _, _, drive_s, _) in pairwise(chain):
            if leg > before:
                way.dwell_s[-1] += legs[before].dwell_s
                stops.append(len(way.points) - 1)
                continue
            way.points.append(self._roadmap.xy[node])
            way.nodes.append(node)
            way.dwell_s.append(0.0)
            way.drive_s.append(drive_s)
            way.arrive_s.append(time_s)
        return way._replace(stops=(*stops, len(way.points) - 1))
