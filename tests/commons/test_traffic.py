"""The traffic control against robots that are slow, stop and break down at random; they move from point to point."""

import math
import random
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fleet_market.adapters.map_files import load_map
from fleet_market.body import Pose
from fleet_market.commons import TrafficControl
from fleet_market.ids import MessageId, RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.parking import check_parking, separation_m, spread
from fleet_market.maps.roadmap import Roadmap
from fleet_market.protocol.messages import Place, Position, Release, Reroute, Route, RouteRequest, Stop, WirePose

RADIUS_M = 0.3
APART_M = separation_m(RADIUS_M)
TICK_S = 0.25
CORRIDOR = """
########################
#......##########......#
#......##########......#
#......................#
#......##########......#
#......##########......#
########################
"""


def drawn(picture: str, cell_m: float) -> OccupancyGrid:
    rows = picture.strip().splitlines()[::-1]
    per = round(cell_m / 0.05)
    occupied = np.kron(np.array([[c == "#" for c in row] for row in rows]), np.ones((per, per), dtype=bool)).astype(bool)
    return OccupancyGrid(occupied, ~occupied, 0.05, (0.0, 0.0))


@dataclass
class Robot:
    name: RobotId
    x: float
    y: float
    route: Route | None = None
    released: int = 0
    index: int = 0
    rest_s: float = 0.0
    trips: int = 0
    dead: bool = False
    stops_left: list[int] = field(default_factory=list)
    must_ask: bool = True


class Floor:
    """Drives robots from stop to stop for ever and watches their distances."""

    def __init__(self, roadmap: Roadmap, homes: dict[RobotId, Pose], chargers=(), seed=0, interrupting=0.0):
        self.roadmap, self.homes, self.now_s, self.requests = roadmap, homes, 0.0, 0
        self.random = random.Random(seed)
        self.interrupting = interrupting
        self.control = TrafficControl(roadmap, homes, chargers, footprint_radius_m=RADIUS_M)
        self.robots = {r: Robot(r, p.x, p.y) for r, p in homes.items()}
        zones = [n for p in (*homes.values(), *chargers) for n in roadmap.within(p.x, p.y, APART_M)]
        self.free = [n for n in range(len(roadmap)) if n not in set(zones)]
        self.nearest_m, self.unserved = math.inf, 0

    def deliver(self, messages):
        for name, body in messages:
            robot = self.robots[name]
            match body:
                case Route():
                    robot.route, robot.released, robot.index = body, body.released, 0
                    robot.stops_left, robot.must_ask = list(body.stops), False
                    self.unserved += not body.served
                    robot.rest_s = 0.0 if body.points else 5.0
                case Release() if robot.route is not None and body.route == robot.route.route:
                    assert body.released > robot.released
                    robot.released = body.released
                case Reroute():
                    robot.must_ask = True

    def ask(self, robot: Robot):
        self.requests += 1
        stops = []
        if robot.trips or self.random.random() < 0.8:
            for _ in range(2):
                x, y = self.roadmap.xy[self.random.choice(self.free)]
                stops.append(Stop(place=Place(x=x, y=y), dwell_s=4.0))
        pose = WirePose.of(Pose(robot.x, robot.y))
        body = RouteRequest(request=MessageId(f"q{self.requests}"), pose=pose, stops=tuple(stops))
        self.deliver(self.control.request(robot.name, body, round(self.now_s * 1e9)))

    def tick(self):
        self.now_s += TICK_S
        for robot in self.robots.values():
            if not robot.dead:
                self.move(robot)
        self.watch()

    def move(self, robot: Robot):
        if robot.rest_s > 0:
            robot.rest_s -= TICK_S
            if robot.rest_s <= 0 and robot.route.points:
                self.tell(robot)
            return
        points = robot.route.points if robot.route else ()
        if robot.must_ask or not points or robot.index == len(points) - 1:
            robot.trips += 1
            self.ask(robot)
            return
        if self.random.random() < self.interrupting:
            self.ask(robot)
            return
        if robot.stops_left and robot.index == robot.stops_left[0]:
            robot.stops_left.pop(0)
            robot.rest_s = self.random.uniform(2, 12)
            return
        if robot.index + 1 < robot.released and self.random.random() < 0.8:
            robot.index += 1
            robot.x, robot.y = points[robot.index]
            self.tell(robot)

    def tell(self, robot: Robot):
        position = Position(
            pose=WirePose.of(Pose(robot.x, robot.y)), soc=0.5, route=robot.route.route, passed=robot.index + 1,
            stops_done=len(robot.route.stops) - len(robot.stops_left), moving=True, doing="driving",
        )  # fmt: skip
        self.deliver(self.control.position(robot.name, position, round(self.now_s * 1e9)))

    def watch(self):
        for a, b in combinations(self.robots.values(), 2):
            self.nearest_m = min(self.nearest_m, math.dist((a.x, a.y), (b.x, b.y)))


def corridor(robots=6, chargers=()):
    roadmap = Roadmap.build(drawn(CORRIDOR, 1.0), clearance_m=0.35)
    poses = [Pose(1.5, 1.5), Pose(1.5, 5.5), Pose(1.5, 3.5), Pose(22.5, 1.5), Pose(22.5, 5.5), Pose(22.5, 3.5)]
    homes = {RobotId(f"r{i}"): pose for i, pose in enumerate(poses[:robots])}
    check_parking(roadmap, dict(homes), keep_clear={}, separation_m=APART_M)
    return Floor(roadmap, homes, chargers)


def test_six_robots_share_a_one_lane_corridor_for_half_an_hour_and_nobody_waits_for_ever():
    floor = corridor()
    before = {}
    for minute in range(30):
        for _ in range(round(60 / TICK_S)):
            floor.tick()
        if minute % 10 == 9:
            now = {r.name: r.trips for r in floor.robots.values()}
            assert all(now[r] > before.get(r, 0) for r in now), f"somebody got nowhere: {before} {now}"
            before = now
    assert floor.nearest_m >= APART_M - 0.16
    assert floor.unserved == 0


@pytest.mark.parametrize("seed", range(2))
def test_robots_that_change_their_mind_on_the_way_stay_apart_and_get_on(seed):
    roadmap = Roadmap.build(load_map(Path(__file__).parents[2] / "launch/maps/warehouse.yaml"), clearance_m=0.35)
    poses = spread(roadmap, 8, taken={}, keep_clear=[], separation_m=APART_M, names="robots")
    floor = Floor(roadmap, {RobotId(f"r{i}"): p for i, p in enumerate(poses)}, seed=seed, interrupting=0.003)
    for _ in range(round(600 / TICK_S)):
        floor.tick()
    assert floor.nearest_m >= APART_M - 0.16
    assert floor.unserved == 0
    assert min(r.trips for r in floor.robots.values()) >= 3


def test_a_robot_that_breaks_down_is_driven_around_and_the_others_go_on():
    roadmap = Roadmap.build(load_map(Path(__file__).parents[2] / "launch/maps/warehouse.yaml"), clearance_m=0.35)
    poses = spread(roadmap, 6, taken={}, keep_clear=[], separation_m=APART_M, names="robots")
    floor = Floor(roadmap, {RobotId(f"r{i}"): p for i, p in enumerate(poses)}, seed=5)
    victim = floor.robots[RobotId("r2")]
    while not (victim.route and victim.route.points and 3 < victim.index < victim.released - 1):
        floor.tick()
    victim.dead = True
    floor.deliver(floor.control.lost(victim.name, round(floor.now_s * 1e9)))
    assert floor.control.lost(victim.name, round(floor.now_s * 1e9)) == []
    before = {r.name: r.trips for r in floor.robots.values()}
    for _ in range(round(400 / TICK_S)):
        floor.tick()
    assert floor.nearest_m >= APART_M - 0.16
    assert all(r.trips >= before[r.name] + 2 for r in floor.robots.values() if not r.dead)


def test_two_robots_never_get_one_charger_and_a_third_is_told_that_none_is_free():
    roadmap = Roadmap.build(load_map(Path(__file__).parents[2] / "launch/maps/warehouse.yaml"), clearance_m=0.35)
    poses = spread(roadmap, 5, taken={}, keep_clear=[], separation_m=APART_M, names="robots")
    homes, chargers = {RobotId(f"r{i}"): p for i, p in enumerate(poses[:3])}, poses[3:]
    control = TrafficControl(roadmap, homes, chargers, footprint_radius_m=RADIUS_M)
    answers = []
    for name, pose in homes.items():
        stop = Stop(place=None, dwell_s=600.0)
        body = RouteRequest(request=MessageId(f"charge-{name}"), pose=WirePose.of(pose), stops=(stop,))
        first = next(b for r, b in control.request(name, body, 0) if r == name)
        assert control.request(name, body, 10**9) == [(name, first)]
        answers.append(first)
    ends = [a.points[a.stops[0]] for a in answers if a.served]
    assert len(ends) == len(set(ends)) == 2
    assert [math.dist(end, (c.x, c.y)) < 0.2 for end in ends for c in chargers].count(True) == 2
    assert not answers[2].served
    assert answers[2].reason == "no charger is free"


def test_a_robot_that_charges_for_long_keeps_only_its_charger_from_others():
    roadmap = Roadmap.build(drawn(CORRIDOR, 1.0), clearance_m=0.35)
    homes = {RobotId("charging"): Pose(1.5, 1.5), RobotId("passing"): Pose(1.5, 5.5)}
    control = TrafficControl(roadmap, homes, [Pose(4.5, 5.5)], footprint_radius_m=RADIUS_M)
    released = {}

    def note(messages):
        for name, body in messages:
            assert not isinstance(body, Reroute)
            released[name, body.route] = body.released

    def drive(name, *stops):
        pose, request = WirePose.of(homes[RobotId(name)]), MessageId(f"way-of-{name}")
        messages = control.request(RobotId(name), RouteRequest(request=request, pose=pose, stops=stops), 0)
        note(messages)
        (way,) = (body for _, body in messages if isinstance(body, Route))
        index = done = 0
        while index < len(way.points) - 1:
            if way.stops[done : done + 1] == (index,):
                if stops[done].place is None:
                    return
                done += 1
            else:
                index += 1
                assert index < released[name, way.route], f"{name} is kept from point {index} at {way.points[index]}"
            x, y = way.points[index]
            at = Position(
                pose=WirePose.of(Pose(x, y)), soc=0.5, route=way.route, passed=index + 1, stops_done=done,
                moving=True, doing="driving",
            )  # fmt: skip
            note(control.position(RobotId(name), at, 0))

    drive("charging", Stop(place=None, dwell_s=2000.0))
    drive("passing", Stop(place=Place(x=4.5, y=3.5), dwell_s=8.0), Stop(place=Place(x=20.5, y=3.5), dwell_s=8.0))


def test_a_robot_that_gets_no_way_at_all_turns_away_who_waits_for_it_and_nobody_who_need_not(monkeypatch):
    roadmap = Roadmap.build(drawn(CORRIDOR, 1.0), clearance_m=0.35)
    first, second = RobotId("first"), RobotId("second")
    homes = {first: Pose(1.5, 1.5), second: Pose(1.5, 5.5)}
    control = TrafficControl(roadmap, homes, footprint_radius_m=RADIUS_M)

    def ask(name, number, *stops):
        at = WirePose.of(homes[name])
        return control.request(name, RouteRequest(request=MessageId(f"{name}-{number}"), pose=at, stops=stops), 0)

    through = Stop(place=Place(x=20.5, y=3.5), dwell_s=4.0)
    ask(first, 1, through)
    ask(second, 1, through)
    plans = control._schedule.plans
    passed = next(n for needs in plans[second].needs for robot, n in needs.items() if robot == first)
    for index in range(2, passed + 1):
        x, y = plans[first].points[index - 1]
        body = Position(
            pose=WirePose(x=x, y=y),
            soc=0.5,
            route=plans[first].route,
            passed=index,
            stops_done=0,
            moving=True,
            doing="driving",
        )
        control.position(first, body, 10**9)
    done = next(i for i, needs in enumerate(plans[second].needs) if first in needs)
    assert plans[second].released > done, "second has leave to drive where first has passed"
    monkeypatch.setattr(control, "_plan", lambda *_: (None, "no way leads there at the moment"))
    messages = ask(first, 2, through)
    (route,) = (body for robot, body in messages if isinstance(body, Route))
    assert (route.served, route.points) == (False, ())
    assert control.request(second, RouteRequest(request=MessageId("again"), pose=WirePose.of(homes[second])), 10**9)


def test_a_robot_that_stands_although_it_may_go_on_is_told_again():
    floor = corridor(robots=2)
    first, second = floor.robots.values()
    floor.random = random.Random(3)
    for robot in (first, second):
        robot.trips = 1
        floor.ask(robot)
    route = first.route
    assert route.released > 1

    def at(seconds):
        pose = WirePose.of(Pose(first.x, first.y))
        body = Position(pose=pose, doing="working", route=route.route, passed=1, soc=None, moving=False)
        return floor.control.position(first.name, body, round(seconds * 1e9))

    assert at(0.0) == at(1.0) == []
    assert at(3.0) == [(first.name, Release(route=route.route, released=route.released))]
    assert at(4.0) == []
    assert len(at(6.0)) == 1
