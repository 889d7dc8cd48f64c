"""Ways between the places where a robot stops: what driving them takes, and how far apart all of some places are."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fleet_market.body import Point, Pose
from fleet_market.errors import UnreachableError
from fleet_market.maps.roadmap import FloatArray, Roadmap, leg, turn_between
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import PlanLeg
from fleet_market.protocol.messages import Place
from fleet_market.robot.tracking import SHARP_CORNER_RAD

MAX_WAYS = 4096
"""Ways between places that are kept: all pairs of 64."""
MAX_PASSING = 512
PASSING_STARTS = 4
"""Ways that begin where no other one ends, as where the robot is now, and how many such beginnings: of use for a batch or
two [assumption]. A robot that drives begins from ever new ones."""
MAX_NODES = 512
MAX_SURVEYS = 64
SURVEY_NEAR_M = 1.0
SHORTEST_SURVEY_M = 0.5
LEAST_STRETCH, MOST_STRETCH = 0.5, 10.0
"""A planner that cuts corners saves half at most; one that finds ten times the way means another floor [assumption]."""
USUAL_TURN_RAD = math.pi
"""Turning counted in a way of which only the length is looked at."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way, whatever the heading in which the robot begins it."""

    length_m: float
    first_rad: float | None
    """Heading of its first stretch; None where the robot only turns."""
    turn_rad: float
    """Sum of the absolute changes of heading behind that."""
    halts: int
    """How often the robot comes to rest: at sharp corners and at the end."""
    end: Pose
    floors: tuple[tuple[tuple[str, float], float], ...]
    """Shares of the length by class of floor and grade."""

    def plan(self, yaw: float, payload_kg: float) -> list[PlanLeg]:
        """Return what driving the way takes, by class of floor, for a robot that begins it with heading `yaw`."""
        towards = self.end.yaw if self.first_rad is None else self.first_rad
        turn_rad = self.turn_rad + turn_between(yaw, towards)
        if not self.floors:
            return [PlanLeg(self.length_m, turn_rad, self.halts, payload_kg)]
        return [
            PlanLeg(self.length_m * share, turn_rad * share, self.halts * share, payload_kg, grade=grade, surface=surface)
            for (surface, grade), share in self.floors
        ]


class Legs:
    """The ways of one robot on one floor; those between places are kept.

    Parameters
    ----------
    roadmap : Roadmap
    chargers : sequence of Pose
    surfaces : Surfaces
    """

    def __init__(self, roadmap: Roadmap, chargers: Sequence[Pose], surfaces: Surfaces) -> None:
        self._roadmap, self._surfaces = roadmap, surfaces
        nodes = (roadmap.nearest(c.x, c.y) for c in chargers)
        self._charger_nodes = tuple(sorted({n for n in nodes if n is not None}))
        self.chargers = tuple(Place(x=roadmap.xy[n][0], y=roadmap.xy[n][1]) for n in self._charger_nodes)
        """The places where a robot charges."""
        self._ways: OrderedDict[tuple[Point, Place], Way] = OrderedDict()
        self._passing: OrderedDict[tuple[Point, Place], Way] = OrderedDict()
        self._starts: deque[Point] = deque()
        """Where the ways of `_passing` begin, oldest first."""
        self._ends: set[Point] = set()
        self._surveys: OrderedDict[Place, tuple[Pose, float]] = OrderedDict()
        self._nodes: dict[Point, int | None] = {}
        self._goals: dict[Place, tuple[int, ...]] = {}

    @property
    def kept(self) -> int:
        """How many ways are kept."""
        return len(self._ways) + len(self._passing)

    def way(self, start: Pose, place: Place) -> Way:
        """Return the way to a place.

        Raises
        ------
        UnreachableError
            If there is none.
        """
        key = ((start.x, start.y), place)
        between = key[0] in self._ends
        kept, most = (self._ways, MAX_WAYS) if between else (self._passing, MAX_PASSING)
        if not between and key[0] not in self._starts:
            self._pass(key[0])
        way = kept.pop(key, None)
        if way is None:
            way = self._found(start, place)
            if len(kept) >= most:
                kept.popitem(last=False)
            if way.first_rad is not None:
                self._remember((way.end.x, way.end.y))
        kept[key] = way
        if way.first_rad is None and place.yaw is None:
            return _on_the_spot(start)
        return way

    def _pass(self, start: Point) -> None:
        """Forget the ways that begin where the robot was long ago."""
        self._starts.append(start)
        if len(self._starts) > PASSING_STARTS:
            left = self._starts.popleft()
            for key in [key for key in self._passing if key[0] == left]:
                del self._passing[key]

    def _remember(self, end: Point) -> None:
        if len(self._ends) >= MAX_NODES:
            self._ends.clear()
        self._ends.add(end)

    def survey(self, start: Pose, place: Place, length_m: float) -> None:
        """Take the length that the robot's own planner finds for a way.

        It holds for ways to this place that begin near `start`, until the next one; one that has nothing to do with the
        roadmap's is passed over.

        Parameters
        ----------
        start : Pose
        place : Place
        length_m : float
        """
        try:
            usual_m = leg(self._roadmap, start, place).length_m
        except UnreachableError:
            return
        if usual_m < SHORTEST_SURVEY_M or not LEAST_STRETCH <= length_m / usual_m <= MOST_STRETCH:
            return
        self._surveys[place] = (start, length_m / usual_m)
        self._surveys.move_to_end(place)
        if len(self._surveys) > MAX_SURVEYS:
            self._surveys.popitem(last=False)
        for kept in (self._ways, self._passing):
            for key in [key for key in kept if key[1] == place]:
                del kept[key]

    def _stretch(self, start: Pose, place: Place) -> float:
        """Return how much longer the way is than on the roadmap, as far as that has been surveyed."""
        begun, stretch = self._surveys.get(place, (start, 1.0))
        return stretch if begun.distance_to(start.x, start.y) <= SURVEY_NEAR_M else 1.0

    def _found(self, start: Pose, place: Place) -> Way:
        found = leg(self._roadmap, start, place)
        headings = [math.atan2(b[1] - a[1], b[0] - a[0]) for a, b in pairwise(found.points)]
        if not headings:
            yaw = start.yaw if place.yaw is None else place.yaw
            return _on_the_spot(Pose(start.x, start.y, yaw))
        turns = [turn_between(a, b) for a, b in pairwise(headings)]
        last = headings[-1] if place.yaw is None else place.yaw
        floors = self._surfaces.along(found.points)
        driven_m = sum(floors.values())
        return Way(
            length_m=found.length_m * self._stretch(start, place),
            first_rad=headings[0],
            turn_rad=sum(turns) + turn_between(headings[-1], last),
            halts=1 + sum(turn >= SHARP_CORNER_RAD for turn in turns),
            end=Pose(*found.points[-1], last),
            floors=tuple((key, length / driven_m) for key, length in floors.items()),
        )

    def to_charger_m(self, at: Pose) -> float:
        """Return the length of the way to the nearest charger, 0 where no charger is on the map or can be reached."""
        node = self._node((at.x, at.y))
        if node is None or not self._charger_nodes:
            return 0.0
        length_m = self._roadmap.to(self._charger_nodes).from_m(node)
        return 0.0 if math.isinf(length_m) else length_m

    def distances_m(self, start: Pose, places: Sequence[Place]) -> FloatArray:
        """Return how far it is from each of some places to each other, turns counted in.

        Parameters
        ----------
        start : Pose
        places : sequence of Place

        Returns
        -------
        (1 + places, 1 + places) float64 array, metres
            The start comes first; `inf` where there is no way, and towards the start.
        """
        goals = [self._goals_of(place) for place in places]
        here = self._node((start.x, start.y))
        known = [here, *(goal[0] if goal else None for goal in goals)]
        distances = np.full((len(known), len(known)), math.inf)
        for column, goal in enumerate(goals, start=1):
            if goal:
                tree = self._roadmap.to(goal)
                distances[:, column] = [math.inf if node is None else tree.from_m(node) for node in known]
        np.fill_diagonal(distances, 0.0)
        return distances

    def _goals_of(self, place: Place) -> tuple[int, ...]:
        if place not in self._goals:
            if len(self._goals) >= MAX_NODES:
                self._goals.clear()
            self._goals[place] = self._roadmap.goals(place)
        return self._goals[place]

    def _node(self, point: Point) -> int | None:
        if point not in self._nodes:
            if len(self._nodes) >= MAX_NODES:
                self._nodes.clear()
            self._nodes[point] = self._roadmap.nearest(*point)
        return self._nodes[point]


def _on_the_spot(pose: Pose) -> Way:
    return Way(0.0, None, 0.0, 1, pose, ())
