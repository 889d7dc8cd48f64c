"""How far two places are apart by road, for an oracle that judges whether a robot can have driven what it says."""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from fleet_market.adapters.map_files import load_map
from fleet_market.body import Point
from fleet_market.maps.roadmap import Roadmap

MAX_BYTES = 32_000_000
"""Of all distances that are remembered: 800 sources on a floor of 10,000 nodes."""


class Roads:
    """The shortest ways of a roadmap, turns free: what every way between two places measures at least.

    From each place that is asked for the distances to all nodes are worked out (Dijkstra 1959) and remembered, the newest
    within `MAX_BYTES`. Call it with two points; it is a `fleet_market.oracle.plausibility.Distance`.
    """

    def __init__(self, roadmap: Roadmap) -> None:
        self._roadmap = roadmap
        size = len(roadmap)
        ends = [(node, other, length_m) for node in range(size) for other, length_m in roadmap.neighbours(node)]
        starts, others, lengths = zip(*ends, strict=True) if ends else ((), (), ())
        self._graph = csr_matrix((lengths, (starts, others)), shape=(size, size), dtype=np.float64)
        self._from: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._most = max(1, MAX_BYTES // max(1, 4 * size))

    @classmethod
    def of(cls, map_file: Path, clearance_m: float) -> Roads:
        """Return the roads of a map for robots that keep so far away from everything.

        Raises
        ------
        InputError
            If the map cannot be read.
        """
        return cls(Roadmap.build(load_map(map_file), clearance_m=clearance_m))

    def __call__(self, start: Point, goal: Point) -> float:
        """Return the length of the road, metres; infinite where a point is off the roadmap or no road leads there."""
        near, far = self._roadmap.nearest(*start), self._roadmap.nearest(*goal)
        if near is None or far is None:
            return math.inf
        aside_m = math.dist(self._roadmap.xy[near], start) + math.dist(self._roadmap.xy[far], goal)
        source, other = (far, near) if far in self._from else (near, far)
        return max(0.0, float(self._distances(source)[other]) - aside_m)

    def _distances(self, source: int) -> NDArray[np.float32]:
        found = self._from.pop(source, None)
        if found is None:
            found = dijkstra(self._graph, indices=source).astype(np.float32)
            while len(self._from) >= self._most:
                self._from.popitem(last=False)
        self._from[source] = found
        return found
