import math
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fleet_market.adapters.map_files import load_map
from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.parking import check_parking, out_of_bounds, spread
from fleet_market.maps.roadmap import Roadmap

SEPARATION_M = 0.88


def floor(width_m: float, height_m: float) -> Roadmap:
    free = np.ones((round(height_m / 0.05), round(width_m / 0.05)), dtype=bool)
    return Roadmap.build(OccupancyGrid(~free, free, 0.05, (0.0, 0.0)), clearance_m=0.35)


def maps() -> list[Path]:
    found = [Path(__file__).parents[2] / "launch/maps/warehouse.yaml"]
    if data := os.environ.get("FLEET_MARKET_DATA"):
        found.append(Path(data) / "maps/depot.yaml")
    return found


@pytest.mark.parametrize("path", maps(), ids=lambda p: p.stem)
def test_places_are_apart_off_the_stops_and_leave_the_floor_whole(path):
    roadmap = Roadmap.build(load_map(path), clearance_m=0.35)
    middle = roadmap.xy[len(roadmap) // 2]
    found = spread(roadmap, 8, taken={}, keep_clear=[middle], separation_m=SEPARATION_M, names="robots")
    for a, b in combinations(found, 2):
        assert a.distance_to(b.x, b.y) >= SEPARATION_M
    assert all(p.distance_to(*middle) >= SEPARATION_M for p in found)
    named = {f"p{i}": pose for i, pose in enumerate(found)}
    check_parking(roadmap, named, keep_clear={"middle": middle}, separation_m=SEPARATION_M)
    blocked = out_of_bounds(roadmap, named, SEPARATION_M)
    free = int((roadmap.component == roadmap.main_component).sum()) - len(blocked)
    assert free > 0.8 * len(roadmap)
    assert spread(roadmap, 8, taken={}, keep_clear=[middle], separation_m=SEPARATION_M, names="robots") == found


def test_too_many_robots_for_a_small_room_is_an_error_that_says_how_many_fit():
    with pytest.raises(InputError, match=r"use at most [1-9]"):
        spread(floor(4, 3), 30, taken={}, keep_clear=[], separation_m=SEPARATION_M, names="robots")


@pytest.mark.parametrize(
    ("parked", "complaint"),
    [
        ({"a": Pose(0.1, 1)}, "0.35 m of free floor"),
        ({"a": Pose(1, 0.6), "b": Pose(1.5, 0.6)}, "0.50 m from a"),
        ({"a": Pose(3, 0.6)}, "blocks dock"),
        ({"a": Pose(2.0, 0.6)}, "cut the floor in two"),
    ],
)
def test_a_parking_place_in_the_way_is_refused_with_its_name(parked, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        check_parking(floor(6, 1.2), parked, keep_clear={"dock": (3, 0.6)}, separation_m=SEPARATION_M)
    assert caught.value.field in parked


def test_a_niche_behind_a_parked_robot_is_out_of_bounds_too():
    roadmap = floor(30, 1.2)
    blocked = out_of_bounds(roadmap, {"a": Pose(1.5, 0.5)}, SEPARATION_M)
    assert all(blocked.get(n) == "a" for n, (x, _) in enumerate(roadmap.xy) if x < 1.5)
    assert not any(n in blocked for n, (x, _) in enumerate(roadmap.xy) if x > 1.5 + math.ceil(SEPARATION_M))
