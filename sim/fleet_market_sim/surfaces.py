"""The floor: classes of surface and slopes, by region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet_market.errors import InputError


@dataclass(frozen=True, slots=True)
class Surface:
    """A class of floor, as factors of a robot's values on its usual floor.

    Raises
    ------
    InputError
        If a factor is negative or not a number.
    """

    name: str = "floor"
    rolling: float = 1.0
    """Factor of rolling resistance."""
    friction: float = 1.0
    """Factor of the tyres' Coulomb friction: grip, scrub when turning, sliding of skid-steered wheels."""

    def __post_init__(self) -> None:
        for name in ("rolling", "friction"):
            if not 0 <= getattr(self, name) <= 100:
                raise InputError(f"surface {self.name}", name, getattr(self, name), "use a factor from 0 to 100")


USUAL = Surface()


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of the floor, metres, with its surface and its slope.

    `grade_x` and `grade_y` say how much the floor rises per metre towards +x and +y.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    surface: Surface = USUAL
    grade_x: float = 0.0
    grade_y: float = 0.0

    def __post_init__(self) -> None:
        if not (self.x_min < self.x_max and self.y_min < self.y_max):
            raise InputError("region", "corners", self, "give the lower left corner, then the upper right one")
        if not max(abs(self.grade_x), abs(self.grade_y)) <= 0.5:  # NaN is refused too
            raise InputError("region", "grade", (self.grade_x, self.grade_y), "use slopes of at most 0.5")


@dataclass(frozen=True, slots=True)
class SurfaceMap:
    """Regions on a floor; where they overlap the last one counts, where none is the floor is as usual and level.

    Instead of rectangles, or beneath them, a layer of cells may name the class of each place.
    """

    regions: Sequence[Region] = ()
    cells: NDArray[np.integer] | None = None
    """(rows, columns) array of positions in `classes`; row 0 at the bottom."""
    classes: Sequence[Surface] = (USUAL,)
    resolution_m: float = 1.0
    origin: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if self.cells is not None and not (self.cells.min() >= 0 and self.cells.max() < len(self.classes)):
            raise InputError("surface map", "cells", int(self.cells.max()), f"use 0 to {len(self.classes) - 1}")

    def at(self, x: float, y: float) -> tuple[Surface, float, float]:
        """Return surface and slope (towards +x, +y) at a place."""
        for region in reversed(self.regions):
            if region.x_min <= x < region.x_max and region.y_min <= y < region.y_max:
                return region.surface, region.grade_x, region.grade_y
        if self.cells is not None:
            column = int((x - self.origin[0]) // self.resolution_m)
            row = int((y - self.origin[1]) // self.resolution_m)
            if 0 <= row < self.cells.shape[0] and 0 <= column < self.cells.shape[1]:
                return self.classes[int(self.cells[row, column])], 0.0, 0.0
        return USUAL, 0.0, 0.0
