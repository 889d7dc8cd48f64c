"""Classes of floor and slopes, as a map names them: rectangles on the usual, level floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleet_market.body import USUAL_SURFACE, Point

STEP_M = 0.25
"""A way is looked at in pieces of at most this."""
GRADE_DIGITS = 3
"""Slopes that differ by less than a per mille count as one."""


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle of floor, metres, map frame."""

    surface: str
    """Name of its class; robots learn what it costs them."""
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    grade_x: float = 0.0
    """Rise per metre towards +x."""
    grade_y: float = 0.0
    rolling: float = 1.0
    """For a simulator only: true rolling resistance, as a factor of the robots' usual one."""
    friction: float = 1.0
    """For a simulator only: true friction of the tyres, as a factor of the usual one."""

    def holds(self, x: float, y: float) -> bool:
        """Return whether a place lies in the rectangle."""
        return self.x_min <= x < self.x_max and self.y_min <= y < self.y_max


class Surfaces:
    """The areas of one floor; where they overlap the last one counts.

    Parameters
    ----------
    areas : sequence of Area
    """

    def __init__(self, areas: Sequence[Area] = ()) -> None:
        self._areas = tuple(reversed(areas))

    def along(self, points: Sequence[Point]) -> dict[tuple[str, float], float]:
        """Return how far a way leads over each class and slope.

        Parameters
        ----------
        points : sequence of (x, y)
            The way, metres; each piece of `STEP_M` counts as where its middle lies.

        Returns
        -------
        dict of (surface, grade) to float
            Metres; grade is rise over run in the direction of driving.
        """
        found: dict[tuple[str, float], float] = {}
        for a, b in pairwise(points):
            if (length := math.dist(a, b)) <= 0:
                continue
            towards = ((b[0] - a[0]) / length, (b[1] - a[1]) / length)
            pieces = math.ceil(length / STEP_M) if self._areas else 1
            for k in range(pieces):
                along_m = (k + 0.5) / pieces * length
                key = self._at((a[0] + along_m * towards[0], a[1] + along_m * towards[1]), towards)
                found[key] = found.get(key, 0.0) + length / pieces
        return found

    def _at(self, place: Point, towards: Point) -> tuple[str, float]:
        for area in self._areas:
            if area.holds(*place):
                grade = area.grade_x * towards[0] + area.grade_y * towards[1]
                return area.surface, round(grade, GRADE_DIGITS) + 0.0
        return USUAL_SURFACE, 0.0
