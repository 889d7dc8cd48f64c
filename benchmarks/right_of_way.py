"""Six robots share a corridor one lane wide, in PyBullet: touches, deadlocks, trips in half an hour; what a way costs.

Two rooms of 5 m by 4 m, joined by a corridor 8 m long and 1 m wide. Every trip leads through it. The traffic control
grants the ways, the path follower drives them, the physics moves the robots and counts what they touch. Besides, the CPU
time of a request for a way is measured on a larger floor.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks._hall_ways import QUICK_REQUESTS, REQUESTS, ways_rows
from benchmarks.report import Options, Row, main
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import Pose, RobotType
from fleet_market.commons import TrafficControl
from fleet_market.commons.traffic import Messages
from fleet_market.ids import MessageId, RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.roadmap import Roadmap
from fleet_market.protocol.messages import Place, Position, Release, Reroute, Route, RouteRequest, Stop, WirePose
from fleet_market.robot.floor import TRACKING_MARGIN_M
from fleet_market.robot.tracking import Limits, PathTracker
from fleet_market_sim import SimRobotConfig, SimWorld

FLEET = Path(__file__).parents[1] / "launch/fleets/auto.yaml"
MINUTES, QUICK_MINUTES = 30.0, 2.0
SAMPLE_S = 0.05
DWELL_S = 4.0
DEADLOCK_S = 120.0
"""A robot that has not moved for this long although it wants to is locked."""
CELL_M = 0.05
PICTURE = """\
##################
#....########....#
#....########....#
#................#
#....########....#
#....########....#
##################
"""
HOMES = [(1.5, 1.5), (1.5, 5.5), (1.5, 3.5), (16.5, 1.5), (16.5, 5.5), (16.5, 3.5)]
GOALS = ([(3.0, 2.5), (3.0, 4.5), (4.0, 2.5), (4.0, 4.5)], [(15.0, 2.5), (15.0, 4.5), (14.0, 2.5), (14.0, 4.5)])
"""Stops in the room on the left, and on the right."""


def floor() -> OccupancyGrid:
    """Return the map: each character of the picture is a square of 1 m."""
    squares = np.array([[mark == "#" for mark in row] for row in PICTURE.split()[::-1]])
    occupied = np.kron(squares, np.ones((round(1 / CELL_M),) * 2, dtype=bool)).astype(bool)
    return OccupancyGrid(occupied, ~occupied, CELL_M, (0.0, 0.0))


@dataclass(slots=True)
class _Mover:
    """One robot and the way that it follows."""

    kind: RobotType
    route: Route | None = None
    released: int = 0
    at: int = 0
    """Point of the route at which the leg under way began."""
    leg: int = 0
    tracker: PathTracker | None = None
    passed: int = 0
    dwell_until_s: float = 0.0
    must_ask: bool = True
    moved_s: float = 0.0
    trips: int = 0


@dataclass(slots=True)
class Shift:
    """What happened on one floor in a time."""

    minutes: float
    trips: int = 0
    robot_robot: int = 0
    robot_wall: int = 0
    locked: int = 0
    """Robots that did not get on for `DEADLOCK_S`."""
    longest_wait_s: float = 0.0
    nearest_m: float = float("inf")
    notes: list[str] = field(default_factory=list)


class _Yard:
    def __init__(self, seed: int) -> None:
        fleet, grid = load_fleet(FLEET), floor()
        roadmap = Roadmap.build(grid, clearance_m=fleet.footprint_radius_m + TRACKING_MARGIN_M)
        homes = {robot.id: Pose(*xy) for robot, xy in zip(fleet.robots, HOMES, strict=True)}
        self.control = TrafficControl(roadmap, homes, footprint_radius_m=fleet.footprint_radius_m)
        self.movers = {robot.id: _Mover(robot.type) for robot in fleet.robots}
        configs = [SimRobotConfig(robot.id, robot.type, homes[robot.id], 1.0) for robot in fleet.robots]
        self.world, self.now_s, self.requests = SimWorld(grid, configs), 0.0, 0
        self.random = random.Random(seed)

    @property
    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    def hear(self, messages: Messages) -> None:
        for robot, body in messages:
            mover = self.movers[robot]
            match body:
                case Route():
                    mover.route, mover.released, mover.at, mover.leg = body, body.released, 0, 0
                    mover.must_ask, mover.tracker, mover.passed = False, None, 0
                case Release() if mover.route is not None and body.route == mover.route.route:
                    mover.released = body.released
                case Reroute() if mover.route is not None and body.route == mover.route.route:
                    mover.must_ask = True

    def ask(self, robot: RobotId, pose: Pose) -> None:
        room = GOALS[self.movers[robot].trips % 2 == (HOMES[list(self.movers).index(robot)][0] > HOMES[0][0])]
        x, y = self.random.choice(room)
        stop = Stop(place=Place(x=x, y=y), dwell_s=DWELL_S)
        self.requests += 1
        body = RouteRequest(request=MessageId(f"q{self.requests}"), pose=WirePose.of(pose), stops=(stop,))
        self.hear(self.control.request(robot, body, self.now_ns))

    def tick(self) -> None:
        self.now_s += SAMPLE_S
        for robot, mover in self.movers.items():
            state = self.world.state(robot)
            vx, wz = self.command(robot, mover, state.pose)
            if abs(state.vx) > 0.02 or abs(state.wz) > 0.05 or self.now_s < mover.dwell_until_s:
                mover.moved_s = self.now_s
            self.world.command(robot, vx, wz, valid_s=0.3)
        self.world.step(round(SAMPLE_S * self.world.hz))

    def command(self, robot: RobotId, mover: _Mover, pose: Pose) -> tuple[float, float]:
        if self.now_s < mover.dwell_until_s:
            return 0.0, 0.0
        if mover.must_ask or mover.route is None or not mover.route.points:
            self.ask(robot, pose)
        route = mover.route
        if route is None or not route.points:
            mover.dwell_until_s = self.now_s + DWELL_S
            return 0.0, 0.0
        end = route.stops[mover.leg] if mover.leg < len(route.stops) else len(route.points) - 1
        if mover.tracker is None:
            kind = mover.kind
            limits = Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps)
            mover.tracker = PathTracker(route.points[mover.at : end + 1], limits)
        step = mover.tracker.step(pose, max(1, mover.released - mover.at))
        mover.passed = max(mover.passed, mover.at + max(1, step.passed))
        if step.arrived:
            mover.at, mover.leg, mover.tracker = end, mover.leg + 1, None
            mover.dwell_until_s, mover.must_ask = self.now_s + DWELL_S, True
            mover.trips += route.served
        self.tell(robot, mover, pose)
        return step.vx, step.wz

    def tell(self, robot: RobotId, mover: _Mover, pose: Pose) -> None:
        route = None if mover.route is None else mover.route.route
        body = Position(
            pose=WirePose.of(pose), soc=1.0, route=route, passed=mover.passed, stops_done=mover.leg, moving=True,
            doing="driving",
        )  # fmt: skip
        self.hear(self.control.position(robot, body, self.now_ns))


def run(minutes: float, seed: int) -> Shift:
    """Let six robots drive to and fro for a time and return what happened."""
    yard, shift = _Yard(seed), Shift(minutes)
    with yard.world as world:
        for sample in range(round(minutes * 60 / SAMPLE_S)):
            yard.tick()
            waits_s = [yard.now_s - mover.moved_s for mover in yard.movers.values()]
            shift.longest_wait_s = max(shift.longest_wait_s, *waits_s)
            if sample % 4 == 0:
                poses = [world.state(robot).pose for robot in yard.movers]
                shift.nearest_m = min(shift.nearest_m, *(a.distance_to(b.x, b.y) for a, b in combinations(poses, 2)))
        shift.locked = sum(yard.now_s - mover.moved_s > DEADLOCK_S for mover in yard.movers.values())
        shift.trips = sum(mover.trips for mover in yard.movers.values())
        shift.robot_robot, shift.robot_wall = world.contacts.robot_robot, world.contacts.robot_wall
        shift.notes = world.contacts.first
    return shift


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    minutes = QUICK_MINUTES if options.quick else MINUTES
    shifts = [run(minutes, seed) for seed in options.seeds]
    yield Row("simulated", sum(shift.minutes for shift in shifts), "min", None if options.quick else MINUTES, "higher")
    yield Row("robots touching robots", sum(s.robot_robot for s in shifts), "times", 0.0, note="PyBullet's contact points")
    yield Row("robots touching walls", sum(s.robot_wall for s in shifts), "times", 0.0)
    yield Row("robots locked at the end", sum(s.locked for s in shifts), "robots", 0.0)
    yield Row("trips through the corridor", sum(s.trips for s in shifts), "trips")
    yield Row("longest wait", max(s.longest_wait_s for s in shifts), "s", DEADLOCK_S)
    yield Row("nearest two robots came, centre to centre", min(s.nearest_m for s in shifts), "m")
    yield from ways_rows(options.seeds[0], requests=QUICK_REQUESTS if options.quick else REQUESTS)


if __name__ == "__main__":
    main("right_of_way", measure, about=__doc__ or "", packages=("pybullet",))
