"""Makes instances for the replay benchmark: a grid of lanes, whole or split, with full, low or empty batteries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

LANE_M = 8.0
SPEED_MPS = 0.5
SOC_PER_M = 2.4e-4
"""A 288 Wh battery at 0.25 kJ a metre, a small delivery robot [assumption]."""
SIDE = 10
KINDS = ("full", "split", "low", "split-low")


def make_all(folder: Path, *, quick: bool) -> list[Path]:
    """Write the set of own instances; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = ((4, 10), (5, 20)) if quick else ((5, 20), (10, 50), (20, 100))
    return [make(folder, kind, m, n, seed=1) for m, n in sizes for kind in KINDS]


def make(folder: Path, kind: str, robots: int, tasks: int, *, seed: int) -> Path:
    """Write one instance.

    Parameters
    ----------
    kind : str
        "full": batteries of 50 to 100 %. "low": of 10.5 to 14 %, the threshold is 10 %. "split": two islands, a tenth
        of the tasks leads from one to the other and cannot be done.
    """
    rng = np.random.default_rng(seed)
    split, low = "split" in kind, "low" in kind
    way_m = shortest_path(csr_matrix(_lanes(split=split)), directed=False)
    west = np.array([x < SIDE // 2 for x in range(SIDE) for _ in range(SIDE)])
    islands = [np.flatnonzero(west), np.flatnonzero(~west)] if split else [np.arange(SIDE * SIDE)]

    def place(island: int) -> int:
        return int(rng.choice(islands[island % len(islands)]))

    given: dict[str, Any] = {
        "robots": [
            {"id": f"r{i}", "start": place(i), "charger": place(i), "soc": _soc(rng, low=low)} for i in range(robots)
        ],
        "tasks": [],
        "config": {"threshold_soc": 0.1, "recharge_soc": 0.8, "charge_rate_soc_per_s": 1 / 3600},
        "travel_s": _with_null(way_m / SPEED_MPS),
        "travel_dsoc": _with_null(way_m * SOC_PER_M),
    }
    for i in range(tasks):
        crosses = split and i % 10 == 9
        pickup, dropoff = place(i), place(i + crosses)
        given["tasks"].append({"id": f"t{i}", "pickup": pickup, "dropoff": dropoff, "earliest_start_s": 0.0})
    path = folder / f"{kind}-{robots}-{tasks}-{seed}.json"
    path.write_text(json.dumps(given))
    return path


def _soc(rng: np.random.Generator, *, low: bool) -> float:
    return round(float(rng.uniform(0.105, 0.14) if low else rng.uniform(0.5, 1.0)), 4)


def _lanes(*, split: bool) -> np.ndarray:
    lanes = np.zeros((SIDE * SIDE, SIDE * SIDE))
    for x in range(SIDE):
        for y in range(SIDE):
            if x + 1 < SIDE and not (split and x + 1 == SIDE // 2):
                lanes[x * SIDE + y, (x + 1) * SIDE + y] = LANE_M
            if y + 1 < SIDE:
                lanes[x * SIDE + y, x * SIDE + y + 1] = LANE_M
    return lanes


def _with_null(matrix: np.ndarray) -> list[list[float | None]]:
    return [[round(float(v), 9) if np.isfinite(v) else None for v in row] for row in matrix]
