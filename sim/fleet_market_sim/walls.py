"""Walls from a map: occupied cells, merged into rectangles."""

from __future__ import annotations

from typing import NamedTuple

from fleet_market.maps.grid import OccupancyGrid


class Rectangle(NamedTuple):
    """A block of occupied cells in map coordinates, metres."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


def rectangles(grid: OccupancyGrid) -> list[Rectangle]:
    """Return rectangles that cover the occupied cells, each cell once: runs of a row, grown upwards while they match."""
    rows = grid.occupied.shape[0]
    done: list[Rectangle] = []
    growing: dict[tuple[int, int], int] = {}
    for row in range(rows + 1):
        runs = _runs(grid.occupied[row].tolist()) if row < rows else []
        kept = {run: growing.get(run, row) for run in runs}
        done += [_rectangle(grid, run, first, row) for run, first in growing.items() if run not in kept]
        growing = kept
    return done


def _runs(cells: list[bool]) -> list[tuple[int, int]]:
    runs, start = [], None
    for column, occupied in enumerate([*cells, False]):
        if occupied and start is None:
            start = column
        elif not occupied and start is not None:
            runs.append((start, column))
            start = None
    return runs


def _rectangle(grid: OccupancyGrid, run: tuple[int, int], first_row: int, end_row: int) -> Rectangle:
    (x, y), r = grid.origin, grid.resolution_m
    return Rectangle(x + run[0] * r, y + first_row * r, x + run[1] * r, y + end_row * r)
