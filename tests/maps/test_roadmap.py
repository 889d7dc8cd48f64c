import copy
import heapq
import math
import tracemalloc

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.body import Pose
from fleet_market.errors import InputError, PlaceError, UnreachableError
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.places import Places
from fleet_market.maps.roadmap import SHORTER_M, TURN_COST_M_PER_RAD, DistanceTree, Roadmap, leg, turn_between
from fleet_market.protocol.messages import Place


def floor(*rows: str, resolution_m: float = 0.25) -> OccupancyGrid:
    """A floor drawn in text, top row first: '#' wall, '?' unknown, '.' free; each letter is a square metre."""
    scale = round(1 / resolution_m)
    cells = np.array([list(row) for row in reversed(rows)]).repeat(scale, axis=0).repeat(scale, axis=1)
    return OccupancyGrid(cells == "#", cells == ".", resolution_m, (0.0, 0.0))


HALL = floor(
    "##############",
    "#............#",
    "#..##..##....#",
    "#..##..##....#",
    "#............#",
    "##############",
)
TWO_ROOMS = floor("########", "#..##..#", "#..##..#", "########")


def test_disc_dilation_agrees_with_distances_cell_by_cell():
    grid = floor("....", ".#..", "....", "...?", resolution_m=0.25)
    clear = grid.clear_of(0.6)
    rows, columns = grid.free.shape
    obstacles = [
        grid.centre(r, c)
        for r in range(-4, rows + 4)
        for c in range(-4, columns + 4)
        if not (0 <= r < rows and 0 <= c < columns) or not grid.free[r, c]
    ]
    for r in range(rows):
        for c in range(columns):
            x, y = grid.centre(r, c)
            gap = min(math.hypot(max(abs(x - ox) - 0.125, 0), max(abs(y - oy) - 0.125, 0)) for ox, oy in obstacles)
            assert clear[r, c] == (gap >= 0.6 - 1e-9), (r, c, gap)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_leg_keeps_its_clearance_and_is_no_shorter_than_the_straight_line(data):
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    clear = HALL.clear_of(0.35)
    a, b = (data.draw(st.integers(0, len(roadmap) - 1)) for _ in range(2))
    goal = Place(x=roadmap.xy[b][0], y=roadmap.xy[b][1])
    way = leg(roadmap, Pose(*roadmap.xy[a]), goal)
    assert way.points[0] == roadmap.xy[a]
    assert way.points[-1] == roadmap.xy[b]
    assert way.length_m >= math.dist(roadmap.xy[a], roadmap.xy[b]) - 1e-9
    for p, q in zip(way.points, way.points[1:], strict=False):
        for k in range(21):
            x, y = p[0] + (q[0] - p[0]) * k / 20, p[1] + (q[1] - p[1]) * k / 20
            assert clear[HALL.cell(x, y)], (x, y)


@given(st.floats(-1, 15), st.floats(-1, 7), st.floats(0, 5))
def test_nodes_within_a_radius_are_those_that_a_look_at_all_of_them_finds(x, y, radius_m):
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    far = [math.hypot(a - x, b - y) for a, b in roadmap.xy]
    found = roadmap.within(x, y, radius_m)
    assert found == sorted(found)
    assert {node for node, d in enumerate(far) if d <= radius_m} <= set(found)
    assert all(far[node] <= math.sqrt(radius_m**2 + 2e-9) for node in found)


def test_the_way_back_is_as_long_as_the_way_there():
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    there = leg(roadmap, Pose(1.5, 1.5), Place(x=12.0, y=4.0))
    back = leg(roadmap, Pose(12.0, 4.0), Place(x=1.5, y=1.5))
    assert there.length_m == pytest.approx(back.length_m, abs=0.3)


def test_a_straight_way_has_no_turns_and_a_final_heading_counts():
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    straight = leg(roadmap, Pose(1.5, 1.5, 0.0), Place(x=12.0, y=1.5))
    assert straight.length_m == pytest.approx(10.5)
    assert straight.turn_rad == pytest.approx(0.0)
    turned = leg(roadmap, Pose(1.5, 1.5, 0.0), Place(x=12.0, y=1.5, yaw=math.pi / 2))
    assert turned.turn_rad == pytest.approx(math.pi / 2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tree_that_grows_as_it_is_asked_says_what_a_whole_one_says(data):
    grid = data.draw(st.sampled_from([HALL, TWO_ROOMS]))
    roadmap = Roadmap.build(grid, clearance_m=0.35)
    nodes = st.integers(0, len(roadmap) - 1)
    goals = tuple(data.draw(st.lists(nodes, min_size=1, max_size=3, unique=True)))
    growing, whole = roadmap.to(goals), Roadmap.build(grid, clearance_m=0.35).to(goals)
    expected_m = list(whole.all_m)
    for node in data.draw(st.lists(nodes, min_size=1, max_size=10)):
        assert growing.from_m(node) == expected_m[node]
        if math.isfinite(expected_m[node]):
            assert growing.path(node) == whole.path(node)
    assert list(growing.all_m) == expected_m


def plain_dijkstra(roadmap, goals):
    """Distances to the nearest goal by the textbook: everything infinite at first, and the whole floor at once."""
    distance, onward = dict.fromkeys(range(len(roadmap)), math.inf), {}
    heap = [(0.0, goal) for goal in goals]
    distance.update(dict.fromkeys(goals, 0.0))
    while heap:
        d, node = heapq.heappop(heap)
        if d > distance[node]:
            continue
        for other, length_m in roadmap.neighbours(node):
            turn_rad = 0.0
            if node in onward:
                (ax, ay), (bx, by), (cx, cy) = (roadmap.xy[n] for n in (other, node, onward[node]))
                turn_rad = turn_between(math.atan2(by - ay, bx - ax), math.atan2(cy - by, cx - bx))
            total_m = d + length_m + TURN_COST_M_PER_RAD * turn_rad
            if total_m < distance[other] - SHORTER_M:
                distance[other], onward[other] = float(np.float32(total_m)), node
                heapq.heappush(heap, (distance[other], other))
    return distance, onward


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_tree_says_what_the_textbook_says_before_and_after_it_is_whole(data):
    grid = data.draw(st.sampled_from([HALL, TWO_ROOMS]))
    roadmap = Roadmap.build(grid, clearance_m=0.35)
    nodes = st.integers(0, len(roadmap) - 1)
    goals = tuple(data.draw(st.lists(nodes, min_size=1, max_size=3, unique=True)))
    expected_m, onward = plain_dijkstra(roadmap, goals)
    tree = roadmap.to(goals)
    for node in (*data.draw(st.lists(nodes, max_size=10)), *goals):
        assert tree.from_m(node) == expected_m[node]
        if math.isfinite(expected_m[node]):
            assert [onward.get(n) for n in tree.path(node)] == [*tree.path(node)[1:], None]
    assert list(tree.all_m) == list(expected_m.values())
    assert [tree.from_m(node) for node in range(len(roadmap))] == list(expected_m.values())


def test_a_copy_says_the_same_and_works_it_out_by_itself():
    roadmap = Roadmap.build(TWO_ROOMS, clearance_m=0.35)
    expected_m = list(roadmap.to((5,)).all_m)
    copied = copy.deepcopy(roadmap)
    assert copied.to((5,)) is not roadmap.to((5,))
    assert list(copied.to((5,)).all_m) == expected_m


def test_trees_take_no_memory_for_the_far_end_of_a_large_floor():
    free = np.ones((480, 120), dtype=bool)
    roadmap = Roadmap.build(OccupancyGrid(~free, free, 0.25, (0.0, 0.0)), clearance_m=0.35)
    goals = range(1000, len(roadmap), 300)
    before_bytes = psutil.Process().memory_info().rss
    for goal in goals:
        assert 0 < roadmap.to((goal,)).from_m(goal - 500) < 30
    assert psutil.Process().memory_info().rss - before_bytes < 6 * len(roadmap) * len(goals) / 2


@pytest.mark.parametrize("grid", [HALL, TWO_ROOMS])
def test_neighbours_are_those_between_which_the_way_is_clear(grid):
    roadmap = Roadmap.build(grid, clearance_m=0.35)
    node_at = {xy: node for node, xy in enumerate(roadmap.xy)}
    for node, (x, y) in enumerate(roadmap.xy):
        around = [(x + dx, y + dy) for dx in (-0.25, 0, 0.25) for dy in (-0.25, 0, 0.25) if dx or dy]
        joined = {node_at[at] for at in around if at in node_at and roadmap.connects((x, y), at)}
        assert {other for other, _ in roadmap.neighbours(node)} == joined
        assert all(length == pytest.approx(math.dist((x, y), roadmap.xy[o])) for o, length in roadmap.neighbours(node))


def test_nodes_on_open_floor_share_their_edges():
    tracemalloc.start()
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 150 * len(roadmap)


def test_a_map_too_wide_for_the_trees_is_refused():
    with pytest.raises(InputError, match="coarser pitch"):
        Roadmap.build(HALL, clearance_m=0.35, pitch_m=0.0001)


class Looked(list):
    """Edges that count whose are looked at."""

    def __init__(self, edges):
        super().__init__(edges)
        self.at = set()

    def __getitem__(self, node):
        self.at.add(node)
        return super().__getitem__(node)


def test_a_tree_grows_no_farther_than_it_is_asked():
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    goal, near = roadmap.nearest(1.5, 1.5), roadmap.nearest(2.5, 1.5)
    edges = Looked([[(other - node, m) for other, m in roadmap.neighbours(node)] for node in range(len(roadmap))])
    tree = DistanceTree(roadmap.xy, edges, (goal,))
    assert tree.from_m(near) == pytest.approx(1.0)
    assert 0 < len(edges.at) < len(roadmap) / 5
    assert all(math.dist(roadmap.xy[node], roadmap.xy[goal]) <= 1.0 for node in edges.at)
    seen = set(edges.at)
    assert tree.from_m(near) == pytest.approx(1.0)
    assert edges.at == seen


def test_a_walled_off_room_is_not_reachable():
    roadmap = Roadmap.build(TWO_ROOMS, clearance_m=0.35)
    with pytest.raises(UnreachableError):
        leg(roadmap, Pose(2.0, 2.0), Place(x=6.0, y=2.0))


def test_a_ring_keeps_off_the_middle():
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    ring = roadmap.goals(Place(x=10.0, y=2.0, radius_m=1.6, keep_off_m=0.9))
    distances = [math.dist(roadmap.xy[n], (10.0, 2.0)) for n in ring]
    assert ring
    assert min(distances) > 0.9
    assert max(distances) <= 1.6 + 1e-9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dock", "known names: door"),
        ("1;2;3;4", "x;y or x;y;yaw"),
        ("1;nan", "x;y or x;y;yaw"),
        ("99;1", "outside of the map"),
        ("3.5;2.5", "occupied"),
        ("1.02;1.02", "too near to an obstacle"),
    ],
)
def test_a_bad_place_is_refused_with_field_value_and_mend(text, says):
    places = Places(HALL, Roadmap.build(HALL, clearance_m=0.35), {"door": Place(x=1.5, y=1.5)})
    with pytest.raises(PlaceError) as caught:
        places.resolve(text, source="orders.csv", field="line 3, pickup")
    assert says in str(caught.value)
    assert "orders.csv: line 3, pickup" in str(caught.value)
    assert repr(text) in str(caught.value)


def test_places_are_found_by_name_or_coordinates_unless_cut_off_or_kept_free():
    roadmap = Roadmap.build(HALL, clearance_m=0.35)
    kept = roadmap.nearest(12.0, 4.0)
    places = Places(HALL, roadmap, {"door": Place(x=1.5, y=1.5, yaw=1.0)}, {kept: "the parking place of r1"})
    assert places.resolve("door", source="s", field="f").yaw == 1.0
    assert places.resolve("2;1.5;0.5", source="s", field="f").yaw == 0.5
    with pytest.raises(PlaceError, match="kept free for the parking place of r1"):
        places.resolve("12;4", source="s", field="f")
    split = floor("#########", "#..##...#", "#..##...#", "#########")
    with pytest.raises(PlaceError, match="no way leads there"):
        Places(split, Roadmap.build(split, clearance_m=0.35), {}).resolve("2;2", source="s", field="f")


def test_a_floor_without_room_has_no_ways():
    full = np.ones((20, 20), dtype=bool)
    roadmap = Roadmap.build(OccupancyGrid(full, ~full, 0.05, (0.0, 0.0)), clearance_m=0.1)
    assert (len(roadmap), list(roadmap.to(()).all_m)) == (0, [])
