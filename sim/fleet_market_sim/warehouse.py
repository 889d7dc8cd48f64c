"""Draw the warehouse of the examples: ``python -m fleet_market_sim.warehouse FOLDER`` writes warehouse.yaml and .pgm.

24 m by 16 m. Four double racks stand upright in the middle; the aisles between them are one lane wide, the ways around are
wide enough for two robots. Every aisle is open at both ends, so that one broken-down robot never cuts the floor in two.
Docks for receiving are on the left wall, docks for shipping on the right wall.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

RESOLUTION_M = 0.05
SIZE_M = (24.0, 16.0)
WALL_M = 0.2
FREE, WALL = 254, 0

RACKS_M = [(x, y, x + 1.2, y + 4.4) for x in (6.4, 8.8, 11.2, 13.6, 16.0) for y in (2.6, 9.0)]
"""Racks as (left, low, right, high): five columns in two rows; 1.2 m aisles between columns, 2 m between the rows."""
PILLARS_M = [(3.4, 7.8, 3.8, 8.2), (20.2, 7.8, 20.6, 8.2)]

YAML = """\
image: warehouse.pgm
mode: trinary
resolution: 0.05
origin: [0.0, 0.0, 0.0]
negate: 0
occupied_thresh: 0.65
free_thresh: 0.196
"""


def draw() -> bytes:
    """Return the map as a binary PGM image (row 0 on top)."""
    columns, rows = (round(length / RESOLUTION_M) for length in SIZE_M)
    cells = np.full((rows, columns), FREE, dtype=np.uint8)
    wall = round(WALL_M / RESOLUTION_M)
    cells[:wall], cells[-wall:], cells[:, :wall], cells[:, -wall:] = WALL, WALL, WALL, WALL
    for left, low, right, high in (*RACKS_M, *PILLARS_M):
        first_row, last_row = (round(y / RESOLUTION_M) for y in (low, high))
        first, last = (round(x / RESOLUTION_M) for x in (left, right))
        cells[first_row:last_row, first:last] = WALL
    return f"P5\n{columns} {rows}\n255\n".encode() + np.flipud(cells).tobytes()


def main(folder: Path) -> None:
    """Write the map into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "warehouse.pgm").write_bytes(draw())
    (folder / "warehouse.yaml").write_text(YAML)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
