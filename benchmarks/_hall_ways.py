"""CPU time of the traffic control per request: ten robots on the floor of `ros_nodes`, with what they have reserved.

Robots move from point to point as they are let. Orders come as in `ros_nodes`, and go to the robot that has least to drive.
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks._ros_floor import write_files
from benchmarks.report import Row
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Point, Pose
from fleet_market.commons.traffic import Messages
from fleet_market.ids import MessageId, RobotId
from fleet_market.protocol.messages import Place, Position, Release, Reroute, Route, RouteRequest, Stop, WirePose
from fleet_market.robot.floor import Floor, lay_out

TICK_S = 0.36
"""A robot passes about a point of its way in this."""
HANDLING_S = 4.0
EVERY_S = 2.4
"""Between two orders, as in `ros_nodes`."""
MAX_STOPS = 4
QUANTILE = 0.99
ROBOTS, REQUESTS, QUICK_REQUESTS = 10, 300, 30


@dataclass(slots=True)
class _Robot:
    name: RobotId
    at: Point
    stops: list[Stop] = field(default_factory=list)
    route: Route | None = None
    released: int = 0
    index: int = 0
    done: int = 0
    rests_s: float = 0.0
    must_ask: bool = False

    def way_m(self, place: Place) -> float:
        """Return how far it drives to come to a place after its stops."""
        points = [self.at, *((p.x, p.y) for p in (*(stop.place for stop in self.stops), place) if p is not None)]
        return sum(math.dist(a, b) for a, b in pairwise(points))


class Hall:
    """The floor, its traffic control and what that has cost.

    Parameters
    ----------
    robots : int
    seed : int
    """

    def __init__(self, robots: int, seed: int) -> None:
        self.floor = _floor(robots)
        self.control = self.floor.traffic()
        self.robots = {name: _Robot(name, (home.x, home.y)) for name, home in self.floor.homes.items()}
        self.random, self.now_s = random.Random(seed), 0.0
        self.cpu_ms: list[float] = []

    def run(self, requests: int) -> None:
        """Let robots ask for so many ways and drive meanwhile."""
        next_s = 0.0
        while len(self.cpu_ms) < requests:
            self.now_s += TICK_S
            if self.now_s >= next_s:
                next_s += EVERY_S
                self._award(self.random.randrange(len(self.robots)))
            for robot in self.robots.values():
                self._move(robot)

    def _award(self, number: int) -> None:
        """Give the order in front of a robot's home to whoever has least to drive for it, and room for it."""
        places = [self.floor.places.resolve(f"{kind}{number}", source="hall", field="place") for kind in "pd"]
        stops = [Stop(place=place, dwell_s=HANDLING_S) for place in places]
        able = [robot for robot in self.robots.values() if len(robot.stops) + len(stops) <= MAX_STOPS]
        if able:
            robot = min(able, key=lambda robot: robot.way_m(places[0]))
            robot.stops += stops
            robot.must_ask = True

    def _move(self, robot: _Robot) -> None:
        if robot.rests_s > 0:
            robot.rests_s -= TICK_S
            if robot.rests_s <= 0:
                robot.stops.pop(0)
                robot.done += 1
                self._tell(robot)
            return
        if robot.must_ask:
            self._ask(robot)
        route = robot.route
        if route is None or not route.points:
            return
        if robot.stops and robot.done < len(route.stops) and robot.index == route.stops[robot.done]:
            robot.rests_s = HANDLING_S
        elif robot.index + 1 < robot.released:
            robot.index += 1
            robot.at = route.points[robot.index]
            self._tell(robot)

    def _ask(self, robot: _Robot) -> None:
        pose = WirePose.of(Pose(*robot.at))
        body = RouteRequest(request=MessageId(f"q{len(self.cpu_ms)}"), pose=pose, stops=tuple(robot.stops))
        begun_s = time.process_time()
        messages = self.control.request(robot.name, body, round(self.now_s * 1e9))
        self.cpu_ms.append(1000 * (time.process_time() - begun_s))
        self._hear(messages)

    def _hear(self, messages: Messages) -> None:
        for name, body in messages:
            robot = self.robots[name]
            match body:
                case Route():
                    robot.route, robot.released, robot.index, robot.done = body, body.released, 0, 0
                    robot.must_ask, robot.rests_s = not body.served, 0.0
                case Release() if robot.route is not None and body.route == robot.route.route:
                    robot.released = body.released
                case Reroute():
                    robot.must_ask = True

    def _tell(self, robot: _Robot) -> None:
        if robot.route is None:
            return
        body = Position(
            pose=WirePose.of(Pose(*robot.at)), soc=0.5, route=robot.route.route, passed=robot.index + 1,
            stops_done=robot.done, moving=True, doing="driving",
        )  # fmt: skip
        self._hear(self.control.position(robot.name, body, round(self.now_s * 1e9)))


def ways_rows(seed: int, *, requests: int = REQUESTS) -> list[Row]:
    """Return the rows."""
    hall = Hall(ROBOTS, seed)
    hall.run(requests)
    ordered = sorted(hall.cpu_ms)
    what = f"{ROBOTS} robots in a hall of {len(hall.floor.roadmap)} nodes: CPU time per request for a way"
    about = f"{requests} requests in {hall.now_s:.0f} s"
    return [
        Row(f"{what}, median", median(ordered), "ms", note=about),
        Row(f"{what}, p99", ordered[int(QUANTILE * requests)], "ms", note=f"worst {ordered[-1]:.0f} ms"),
    ]


def _floor(robots: int) -> Floor:
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "hall", robots)
        fleet = load_fleet(Path(folder) / "hall/fleet.yaml")
        return lay_out(fleet, load_map(Path(folder) / "hall/hall.yaml"), source="hall")
