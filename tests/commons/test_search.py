"""The search for ways against an exhaustive one over (leg, node, safe interval, heading), on small floors at random."""

import heapq
import math
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.commons import guide as guiding
from fleet_market.commons import search as searching
from fleet_market.commons.guide import START, Entry, Guide, Leg
from fleet_market.commons.search import ENTRY_M, ON_NODE_M, TURN_S_PER_RAD, Search
from fleet_market.commons.to_go import HEADINGS, STEPS, TURN_RAD, Lattice, Pace, TimeToGo
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.roadmap import Roadmap, turn_between

SPEED_MPS = 0.7
BLOCK_M = 0.5
SEEDS = st.integers(0, 2**32)


def random_floor(random, columns, rows):
    """A floor of square blocks of which some are shelves, with a wall around."""
    blocks = np.array([[random.random() < 0.2 for _ in range(columns)] for _ in range(rows)])
    blocks[0, 0] = False
    return floor_of(blocks)


def floor_of(blocks):
    blocks = np.pad(blocks, 1, constant_values=True)
    occupied = np.kron(blocks, np.ones((10, 10), dtype=bool)).astype(bool)
    return Roadmap.build(OccupancyGrid(occupied, ~occupied, BLOCK_M / 10, (0.0, 0.0)), clearance_m=0.1)


class Case:
    """A search with everything at random."""

    def __init__(self, random, columns=4, rows=3):
        self.roadmap = random_floor(random, columns, rows)
        self.lattice = Lattice(self.roadmap)
        nodes = range(len(self.roadmap))
        x, y = self.roadmap.xy[random.choice(nodes)]
        self.start = (x + random.choice((0.0, random.uniform(-0.15, 0.15))), y + random.choice((0.0, 0.1)))
        self.start_until_s = random.choice((math.inf, random.uniform(0, 20)))
        self.closed = {n for n in nodes if random.random() < 0.08}
        self.held = {n: self.intervals(random) for n in nodes if random.random() < 0.4}
        self.legs = [
            Leg(tuple(random.sample(nodes, min(len(nodes), random.choice((1, 1, 3))))), random.choice((0.0, 4.0)))
            for _ in range(random.choice((1, 2, 3)))
        ]
        self.now_s = 10.0

    def intervals(self, random):
        begins_s = [random.uniform(0, 40) for _ in range(random.choice((1, 1, 2)))]
        intervals = [(begin_s, begin_s + random.uniform(0.5, 10)) for begin_s in begins_s]
        intervals += [(-math.inf, random.uniform(10, 20))] * (random.random() < 0.2)
        return intervals + [(random.uniform(20, 60), math.inf)] * (random.random() < 0.1)

    def find(self):
        search = Search(self.roadmap, self.lattice, lambda node: self.held.get(node, ()), self.closed, SPEED_MPS)
        return search.find(self.start, self.start_until_s, self.legs, self.now_s)

    def safe(self, node):
        edges, safe = [(-math.inf, -math.inf), *sorted(self.held.get(node, ())), (math.inf, math.inf)], []
        free_s = -math.inf
        for begin_s, end_s in edges[1:]:
            safe += [(free_s, begin_s)] * (begin_s > free_s)
            free_s = max(free_s, end_s)
        return safe

    def entries(self):
        xy = self.roadmap.xy
        near = [(n, math.dist(self.start, xy[n])) for n in self.roadmap.within(*self.start, ENTRY_M)]
        ways = [(n, d) for n, d in near if d > ON_NODE_M and self.roadmap.connects(self.start, xy[n])]
        return ways or [(n, d) for n, d in near if d > 1e-3]

    def earliest_s(self):
        """Dijkstra's algorithm over everything there is."""
        here = self.roadmap.nearest(*self.start, within_m=ON_NODE_M)
        heap, done = [(self.now_s, 0, START, self.start_until_s, None)], set()
        while heap:
            time_s, leg, node, until_s, heading = state = heapq.heappop(heap)
            if state[1:] in done:
                continue
            done.add(state[1:])
            if (here if node == START else node) in self.legs[leg].goals:
                if leg + 1 == len(self.legs):
                    if math.isinf(until_s):
                        return time_s
                elif time_s + self.legs[leg].dwell_s <= until_s:
                    heapq.heappush(heap, (time_s + self.legs[leg].dwell_s, leg + 1, node, until_s, heading))
            x, y = self.start if node == START else self.roadmap.xy[node]
            for other, length_m in self.entries() if node == START else self.roadmap.neighbours(node):
                if other in self.closed:
                    continue
                to = round(math.atan2(self.roadmap.xy[other][1] - y, self.roadmap.xy[other][0] - x), 9)
                turn_s = 0.0 if heading is None else TURN_S_PER_RAD * turn_between(heading, to)
                drive_s = length_m / SPEED_MPS + turn_s
                for free_s, end_s in self.safe(other):
                    arrive_s = max(time_s, free_s) + drive_s
                    if arrive_s <= until_s and arrive_s < end_s:
                        heapq.heappush(heap, (arrive_s, leg, other, end_s, to))
        return None


def check_way(case, way):
    """The way can be driven in its times, stops long enough, and is never where somebody else is."""
    xy = [case.start, *(case.roadmap.xy[n] for n in way.nodes[1:])]
    assert way.points == xy
    heading = None
    for i, (a, b) in enumerate(pairwise(xy)):
        to = math.atan2(b[1] - a[1], b[0] - a[0])
        turn_s = 0.0 if heading is None else TURN_S_PER_RAD * turn_between(heading, to)
        assert way.drive_s[i + 1] == pytest.approx(math.dist(a, b) / SPEED_MPS + turn_s)
        assert way.arrive_s[i + 1] >= way.arrive_s[i] + way.dwell_s[i] + way.drive_s[i + 1] - 1e-6
        heading = to
    leaves_s = [*way.arrive_s[1:], math.inf]
    departs_s = [b - d for b, d in zip(way.arrive_s[1:], way.drive_s[1:], strict=True)]
    for node, from_s, until_s in zip(way.nodes[1:], departs_s, leaves_s[1:], strict=True):
        assert node not in case.closed
        assert all(until_s <= begin_s + 1e-6 or from_s >= end_s - 1e-6 for begin_s, end_s in case.held.get(node, ()))
    assert leaves_s[0] <= case.start_until_s
    here = case.roadmap.nearest(*case.start, within_m=ON_NODE_M)
    for stop, leg in zip(way.stops, case.legs, strict=True):
        assert (way.nodes[stop] if stop else here) in leg.goals


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from((1, 2, 10)))
def test_the_way_is_as_quick_as_the_quickest_that_there_is(seed, margin):
    random = Random(seed)
    case = Case(random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guiding, "MARGIN", margin)
        way, expected_s = case.find(), case.earliest_s()
    if expected_s is None:
        assert way is None
        return
    assert way is not None
    assert way.arrive_s[-1] + way.dwell_s[-1] == pytest.approx(expected_s, abs=1e-6)
    check_way(case, way)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from((1, 5, 20)), st.sampled_from((1.02, 1.2, 2.0)))
def test_a_way_found_in_haste_takes_no_longer_than_it_may(seed, exact, haste):
    case = Case(Random(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "MAX_EXACT", exact)
        patch.setattr(searching, "HASTE", haste)
        way, expected_s = case.find(), case.earliest_s()
    if expected_s is None:
        assert way is None
        return
    taken_s = way.arrive_s[-1] + way.dwell_s[-1] - case.now_s
    assert taken_s <= haste * (expected_s - case.now_s) + 1e-6
    check_way(case, way)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from((1, 4)))
def test_what_guides_the_search_never_promises_too_little_nor_falls_faster_than_time_passes(seed, margin):
    random = Random(seed)
    case = Case(random, columns=7, rows=4)
    xy, pace = case.roadmap.xy, Pace(SPEED_MPS, TURN_S_PER_RAD)
    ends = [(n, d, math.atan2(xy[n][1] - case.start[1], xy[n][0] - case.start[0])) for n, d in case.entries()]
    here = case.roadmap.nearest(*case.start, within_m=ON_NODE_M)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guiding, "MARGIN", margin)
        entries = [Entry(*end) for end in ends if end[0] not in case.closed]
        guide = Guide(case.lattice, pace, case.closed, case.legs, here, entries)
    if not guide.possible:
        return
    last = len(case.legs) - 1

    def at_most(state_s, cost_s, *after):
        assert state_s <= cost_s + guide(*after) + 1e-6

    for leg, (goals, dwell_s) in enumerate((leg.goals, leg.dwell_s) for leg in case.legs):
        for i, entry in enumerate(entries):
            at_most(guide(leg, START, HEADINGS), entry.length_m / SPEED_MPS, leg, entry.node, HEADINGS + i)
        states = [(n, h) for n in range(len(case.roadmap)) for h in range(HEADINGS)]
        states += [(entry.node, HEADINGS + i) for i, entry in enumerate(entries)]
        states += [(START, HEADINGS)]
        for node, heading in states:
            to_go_s = guide(leg, node, heading)
            if (here if node == START else node) in goals:
                if leg == last:
                    assert to_go_s == 0.0
                else:
                    at_most(to_go_s, dwell_s, leg + 1, node, heading)
            if node == START:
                continue
            angle = heading * TURN_RAD if heading < HEADINGS else entries[heading - HEADINGS].heading_rad
            for to, other in case.lattice.moves(node):
                if other not in case.closed:
                    turn_s = TURN_S_PER_RAD * turn_between(angle, to * TURN_RAD)
                    at_most(to_go_s, math.dist(xy[node], xy[other]) / SPEED_MPS + turn_s, leg, other, to)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from((1, 2)))
def test_what_a_small_window_does_not_show_is_never_counted_for_too_much(seed, margin):
    random = Random(seed)
    roadmap = random_floor(random, 7, 6)
    lattice, pace, nodes = Lattice(roadmap), Pace(SPEED_MPS, TURN_S_PER_RAD), range(len(roadmap))
    free = lattice.free({n for n in nodes if random.random() < 0.35})
    goals = {goal: [random.uniform(3, 4) for _ in range(HEADINGS)] for goal in random.sample(nodes, min(2, len(nodes)))}
    sources = random.sample(nodes, 1)
    small, whole = (TimeToGo(lattice, free, goals, sources, m, pace) for m in (margin, 1000))
    assert whole.whole
    for node in nodes:
        for some, all_s in zip(small.by_heading(node), whole.by_heading(node), strict=True):
            assert some <= all_s + 1e-6
    if small.is_exact(sources[0]):
        assert small.by_heading(sources[0]) == pytest.approx(whole.by_heading(sources[0]), abs=1e-6)


@pytest.mark.parametrize("quarters", range(4))
def test_the_only_way_may_leave_the_window_on_any_side(quarters):
    plan = np.array([list(row) for row in (".......s", ".#######", ".......g")])
    plan = np.rot90(plan, quarters)
    roadmap = floor_of(plan == "#")
    source, goal = (
        roadmap.nearest(*(BLOCK_M * (1.5 + np.argwhere(plan == mark)[0][::-1])), within_m=BLOCK_M) for mark in "sg"
    )
    lattice, pace = Lattice(roadmap), Pace(SPEED_MPS, TURN_S_PER_RAD)
    free = lattice.free(())
    small, whole = (TimeToGo(lattice, free, {goal: [0.0] * HEADINGS}, [source], margin, pace) for margin in (2, 1000))
    assert whole.whole
    assert not small.whole
    for some, all_s in zip(small.by_heading(source), whole.by_heading(source), strict=True):
        assert 0 < some <= all_s < math.inf


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_a_lattice_has_the_edges_of_its_roadmap(seed):
    random = Random(seed)
    roadmap = random_floor(random, 5, 4)
    lattice = Lattice(roadmap)
    for node in range(len(roadmap)):
        x, y = roadmap.xy[node]
        found = {
            (other, lattice.column[node] + STEPS[to][0], lattice.row[node] + STEPS[to][1])
            for to, other in lattice.moves(node)
        }
        assert found == {(other, lattice.column[other], lattice.row[other]) for other, _ in roadmap.neighbours(node)}
        for to, other in lattice.moves(node):
            angle = math.atan2(roadmap.xy[other][1] - y, roadmap.xy[other][0] - x)
            assert turn_between(angle, to * TURN_RAD) == pytest.approx(0.0, abs=1e-6)
            assert lattice.edges[to, lattice.row[node], lattice.column[node]]
    assert lattice.edges.sum() == sum(len(roadmap.neighbours(node)) for node in range(len(roadmap)))


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.2, 0.25, 0.51, 0.9, 3.0]))
def test_a_lattice_finds_the_nodes_within_a_radius_of_each_node(seed, radius_m):
    roadmap = random_floor(Random(seed), 5, 4)
    nodes_within = Lattice(roadmap).nodes_within(radius_m)
    for node, (x, y) in enumerate(roadmap.xy):
        assert nodes_within(node) == {
            n for n, (a, b) in enumerate(roadmap.xy) if math.hypot(a - x, b - y) < radius_m + 1e-9
        }


def test_on_an_empty_floor_the_search_looks_at_little_more_than_the_way(monkeypatch):
    occupied = np.pad(np.zeros((200, 400), dtype=bool), 1, constant_values=True)
    roadmap = Roadmap.build(OccupancyGrid(occupied, ~occupied, 0.05, (0.0, 0.0)), clearance_m=0.3)
    goals = [roadmap.nearest(x, y) for x, y in ((15.0, 8.0), (4.0, 6.0), (2.0, 2.0))]
    search = Search(roadmap, Lattice(roadmap), lambda _: (), set(), SPEED_MPS)
    looked_at = 0
    moves = Search._moves

    def counted(*args):
        nonlocal looked_at
        looked_at += 1
        return moves(*args)

    monkeypatch.setattr(Search, "_moves", counted)
    way = search.find((2.0, 2.0), math.inf, [Leg((goal,), 4.0) for goal in goals], 0.0)
    assert len(way.points) > 90
    assert looked_at < 2 * len(way.points)
