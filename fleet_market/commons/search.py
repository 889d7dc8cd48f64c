"""The quickest way through a floor on which others drive: safe-interval path planning (Phillips and Likhachev 2011).

A* over (leg, place, safe interval), where a leg leads to the next stop. Searching all legs at once finds a way also where
the quickest arrival at one stop would leave the robot trapped there.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from fleet_market.body import Point
from fleet_market.maps.roadmap import Roadmap, turn_between

MAX_LABELS = 400_000
"""A search that has looked at so many states gives up."""
TURN_S_PER_RAD = 1.0
ON_NODE_M = 0.15
"""A robot this near to a node stands on it."""
ENTRY_M = 0.45
"""A robot drives from where it stands straight to a node at most this far away."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Leg:
    """Drive to one of `goals` and stay there."""

    goals: tuple[int, ...]
    dwell_s: float


class Way(NamedTuple):
    """A way found; lists have one entry per point, the first is where the robot stands."""

    points: list[Point]
    nodes: list[int]
    dwell_s: list[float]
    drive_s: list[float]
    arrive_s: list[float]
    stops: tuple[int, ...]
    """Position in `points` of the end of each leg."""


class _Label(NamedTuple):
    time_s: float
    leg: int
    node: int
    until_s: float
    heading: float | None
    drive_s: float
    parent: int


class Search:
    """One search.

    Parameters
    ----------
    roadmap : Roadmap
    blocked : mapping of node to intervals
        When a node is held by others, seconds, in any order.
    closed : set of node
        Nodes never to be driven over.
    speed_mps : float
    """

    def __init__(
        self, roadmap: Roadmap, blocked: Mapping[int, Sequence[Interval]], closed: set[int], speed_mps: float
    ) -> None:
        self._roadmap, self._blocked, self._closed, self._speed_mps = roadmap, blocked, closed, speed_mps
        self._safe: dict[int, list[Interval]] = {}

    def find(self, start: Point, start_until_s: float, legs: Sequence[Leg], now_s: float) -> Way | None:
        """Return the quickest way from `start` through all `legs`, None if there is none.

        Parameters
        ----------
        start_until_s : float
            Until when the robot may stay where it is.
        legs : sequence of Leg
            At the end of the last the robot must be able to stay for ever.
        """
        if any(not leg.goals for leg in legs):
            return None
        roadmap = self._roadmap
        trees = [roadmap.to(leg.goals).all_m for leg in legs]
        rest_s = [0.0] * len(legs)
        for k in range(len(legs) - 1, 0, -1):
            between_m = min(trees[k][goal] for goal in legs[k - 1].goals)
            rest_s[k - 1] = rest_s[k] + legs[k - 1].dwell_s + between_m / self._speed_mps
        here = self._node_at(start)
        labels = [_Label(now_s, 0, -1, start_until_s, None, 0.0, -1)]
        heap: list[tuple[float, int]] = [(now_s, 0)]
        done: set[tuple[int, int, float]] = set()
        while heap and len(labels) < MAX_LABELS:
            _, number = heapq.heappop(heap)
            label = labels[number]
            if (key := (label.leg, label.node, label.until_s)) in done:
                continue
            done.add(key)
            leg = legs[label.leg]
            if (here if label.node < 0 else label.node) in leg.goals:
                if label.leg == len(legs) - 1:
                    if math.isinf(label.until_s):
                        return self._trace(labels, number, start, legs)
                elif label.time_s + leg.dwell_s <= label.until_s:
                    stay = label._replace(time_s=label.time_s + leg.dwell_s, leg=label.leg + 1, drive_s=0.0, parent=number)
                    labels.append(stay)
                    to_go_m = trees[stay.leg][here if here is not None and stay.node < 0 else stay.node]
                    heapq.heappush(heap, (stay.time_s + to_go_m / self._speed_mps + rest_s[stay.leg], len(labels) - 1))
            for following in self._moves(label, number, start):
                if (following.leg, following.node, following.until_s) in done:
                    continue
                to_go_m = trees[label.leg][following.node]
                if math.isinf(to_go_m):
                    continue
                labels.append(following)
                expected_s = following.time_s + to_go_m / self._speed_mps + rest_s[label.leg]
                heapq.heappush(heap, (expected_s, len(labels) - 1))
        return None

    def _moves(self, label: _Label, number: int, start: Point) -> list[_Label]:
        moves = []
        x, y = start if label.node < 0 else self._roadmap.xy[label.node]
        neighbours = self._entries(start) if label.node < 0 else self._roadmap.neighbours(label.node)
        for node, length_m in neighbours:
            if node in self._closed:
                continue
            to_x, to_y = self._roadmap.xy[node]
            heading = math.atan2(to_y - y, to_x - x)
            turn_s = 0.0 if label.heading is None else TURN_S_PER_RAD * turn_between(label.heading, heading)
            drive_s = length_m / self._speed_mps + turn_s
            for free_s, until_s in self._safe_intervals(node):
                if free_s + drive_s > label.until_s:
                    break
                arrive_s = max(label.time_s, free_s) + drive_s
                if arrive_s <= label.until_s and arrive_s < until_s:
                    moves.append(_Label(arrive_s, label.leg, node, until_s, heading, drive_s, number))
        return moves

    def _node_at(self, point: Point) -> int | None:
        return self._roadmap.nearest(*point, within_m=ON_NODE_M)

    def _entries(self, start: Point) -> list[tuple[int, float]]:
        """Return the nodes to which a robot can drive straight from where it stands; not back to one under it."""
        xy = self._roadmap.xy
        near = [(n, math.dist(start, xy[n])) for n in self._roadmap.within(*start, ENTRY_M)]
        ways = [(n, d) for n, d in near if d > ON_NODE_M and self._roadmap.connects(start, xy[n])]
        return ways or [(n, d) for n, d in near if d > 1e-3]

    def _safe_intervals(self, node: int) -> list[Interval]:
        safe = self._safe.get(node)
        if safe is None:
            safe, free_s = [], -math.inf
            for begin_s, end_s in sorted(self._blocked.get(node, ())):
                if begin_s > free_s:
                    safe.append((free_s, begin_s))
                free_s = max(free_s, end_s)
            if not math.isinf(free_s) or free_s < 0:
                safe.append((free_s, math.inf))
            self._safe[node] = safe
        return safe

    def _trace(self, labels: list[_Label], number: int, start: Point, legs: Sequence[Leg]) -> Way:
        chain = []
        while number >= 0:
            chain.append(labels[number])
            number = labels[number].parent
        chain.reverse()
        way = Way([start], [-1], [0.0], [0.0], [chain[0].time_s], ())
        stops: list[int] = []
        for before, label in pairwise(chain):
            if label.leg > before.leg:
                way.dwell_s[-1] += legs[before.leg].dwell_s
                stops.append(len(way.points) - 1)
                continue
            way.points.append(self._roadmap.xy[label.node])
            way.nodes.append(label.node)
            way.dwell_s.append(0.0)
            way.drive_s.append(label.drive_s)
            way.arrive_s.append(label.time_s)
        return way._replace(stops=(*stops, len(way.points) - 1))
