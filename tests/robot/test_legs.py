"""Ways that are kept say what new ones would, and a robot that drives on does not keep those from where it has been."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.body import Pose
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.roadmap import Roadmap
from fleet_market.maps.surfaces import Surfaces
from fleet_market.protocol.messages import Place
from fleet_market.robot.legs import MAX_PASSING, PASSING_STARTS, Legs

FREE = np.zeros((40, 60), dtype=bool)
FREE[1:-1, 1:-1] = True
ROADMAP = Roadmap.build(OccupancyGrid(~FREE, FREE, 0.1, (0.0, 0.0)), clearance_m=0.3)
PLACES = [Place(x=1.0, y=1.0), Place(x=5.0, y=1.0, yaw=1.0), Place(x=1.0, y=3.0), Place(x=5.0, y=3.0)]


def new():
    return Legs(ROADMAP, [], Surfaces([]))


def test_ways_from_where_a_robot_passes_are_not_kept_for_long():
    legs = new()
    for place in PLACES:
        for start in PLACES:
            legs.way(Pose(start.x, start.y, 0.0), place)
    for number in range(2 * MAX_PASSING):
        at = Pose(1.0 + 4.0 * number / (2 * MAX_PASSING) + 0.0001, 2.0, 0.0)
        for place in PLACES:
            legs.way(at, place)
    assert legs.kept <= (PASSING_STARTS + len(PLACES)) * len(PLACES)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(1.0, 5.0), st.floats(1.0, 3.0), st.floats(-3, 3), st.integers(0, 3)), max_size=20))
def test_a_way_that_was_kept_is_the_one_that_would_be_found(asked):
    legs = new()
    for x, y, yaw, number in asked:
        way = legs.way(Pose(x, y, yaw), PLACES[number])
        again = legs.way(Pose(x, y, yaw), PLACES[number])
        onward = legs.way(way.end, PLACES[0])
        assert again == way == new().way(Pose(x, y, yaw), PLACES[number])
        assert onward == new().way(way.end, PLACES[0])
