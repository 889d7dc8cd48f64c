"""Occupancy grid of a floor, as ROS maps describe it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.body import Point

BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OccupancyGrid:
    """Cells of a floor; row 0 is the lowest y, column 0 the lowest x.

    Parameters
    ----------
    occupied : (rows, columns) bool array
        Cells with an obstacle.
    free : (rows, columns) bool array
        Cells known to be free; a cell that is neither is unknown: it may not be driven on, but it is no wall.
    resolution_m : float
        Side of a cell.
    origin : (x, y)
        Map coordinates of the lower left corner of cell [0, 0], metres.
    name : str
        Where the map comes from, for error messages.
    """

    occupied: BoolArray
    free: BoolArray
    resolution_m: float
    origin: Point
    name: str = "map"

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the map."""
        rows, columns = self.free.shape
        return columns * self.resolution_m, rows * self.resolution_m

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """Return (row, column) of the cell that holds the point, None outside of the map."""
        column = math.floor((x - self.origin[0]) / self.resolution_m)
        row = math.floor((y - self.origin[1]) / self.resolution_m)
        rows, columns = self.free.shape
        return (row, column) if 0 <= row < rows and 0 <= column < columns else None

    def centre(self, row: int, column: int) -> Point:
        """Return the middle of a cell in map coordinates."""
        return (
            self.origin[0] + (column + 0.5) * self.resolution_m,
            self.origin[1] + (row + 0.5) * self.resolution_m,
        )

    def clear_of(self, radius_m: float) -> BoolArray:
        """Return the cells around whose centre a disc of `radius_m` touches free cells only.

        A disc touches a cell if it reaches into the cell's square; outside of the map nothing is free.

        Returns
        -------
        (rows, columns) bool array
        """
        reach = math.ceil(radius_m / self.resolution_m)
        padded = np.pad(~self.free, reach, constant_values=True)
        rows, columns = self.free.shape
        blocked = ~self.free
        limit = radius_m / self.resolution_m
        for dr in range(-reach, reach + 1):
            for dc in range(-reach, reach + 1):
                if math.hypot(max(abs(dr) - 0.5, 0.0), max(abs(dc) - 0.5, 0.0)) < limit and (dr or dc):
                    blocked |= padded[reach + dr : reach + dr + rows, reach + dc : reach + dc + columns]
        return ~blocked
