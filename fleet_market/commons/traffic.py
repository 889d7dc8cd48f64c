"""Traffic control: grants each robot a way through the shared floor, to chargers and home, and leave to drive it.

Multi-agent pickup and delivery in a well-formed floor (Cap et al. 2015; Ma et al. 2017, "Lifelong multi-agent path finding
for online pickup and delivery tasks"): every robot has a parking place of its own, which nobody else drives over, and every
way granted ends there. Hence there is always a way to grant: wait until all others are at home. Ways are planned one after
another, each around those granted before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from fleet_market.body import Point, Pose
from fleet_market.commons.guide import Leg
from fleet_market.commons.plans import Plan, Schedule
from fleet_market.commons.search import Interval, Search, Way
from fleet_market.commons.to_go import Lattice
from fleet_market.errors import InputError
from fleet_market.ids import MessageId, RobotId, RouteId, derive
from fleet_market.maps.parking import ON_NODE_M, separation_m
from fleet_market.maps.roadmap import Roadmap
from fleet_market.protocol.messages import Position, Release, Reroute, Route, RouteRequest

START_SLACK_M = 0.15
"""Where a robot has come to rest by chance it may be nearer to others by this."""
CRUISE_MPS = 0.7
"""Mean speed that plans reckon with."""
COAST_M = 1.3
"""How far a robot can still roll after its last sign of life: late news, dead-man and braking, each at full speed."""
TELL_AGAIN_S = 3.0
FAULT = "fault"
"""What a robot is `doing` that cannot move any more."""

Messages = list[tuple[RobotId, Route | Release | Reroute]]


class TrafficControl:
    """Right of way for all robots of one floor. Each call returns what is to be told to whom.

    Parameters
    ----------
    roadmap : Roadmap
    homes : mapping of RobotId to Pose
        Parking place of each robot, where it stands at the start; see `maps.parking.check_parking`.
    chargers : sequence of Pose
    footprint_radius_m : float
        Radius of the largest robot.
    cruise_mps : float
        Mean speed that plans reckon with; a wrong one costs time, never safety.
    """

    def __init__(
        self,
        roadmap: Roadmap,
        homes: Mapping[RobotId, Pose],
        chargers: Sequence[Pose] = (),
        *,
        footprint_radius_m: float,
        cruise_mps: float = CRUISE_MPS,
    ) -> None:
        self._roadmap, self._cruise_mps = roadmap, cruise_mps
        separation = separation_m(footprint_radius_m)
        self._schedule = Schedule(separation, START_SLACK_M)
        self._lattice = Lattice(roadmap)
        self._nodes_near = self._lattice.nodes_within(separation - 1e-6)
        self._homes = {robot: self._node(pose, robot) for robot, pose in homes.items()}
        self._chargers = [self._node(pose, f"charger {i}") for i, pose in enumerate(chargers)]
        self._kept_free = {robot: set(self._nodes_near(node)) for robot, node in self._homes.items()}
        self._charger_zones = [set(self._nodes_near(node)) for node in self._chargers]
        self._lost: set[RobotId] = set()
        self._poses: dict[RobotId, Point] = {}
        self._routes = 0
        for robot, pose in homes.items():
            self._schedule.plans[robot] = self._standing(robot, (pose.x, pose.y), 0.0)

    def request(self, robot: RobotId, body: RouteRequest, now_ns: int) -> Messages:
        """Grant a way through the stops and home; the same request again gets the same answer.

        A way that cannot be had now is answered with one that leads home, `served` false.
        """
        if robot not in self._homes:
            return [(robot, self._refusal(robot, body, "no parking place is known for this robot"))]
        before = self._schedule.plans[robot]
        if before.request == body.request:
            return [(robot, self._route(before, body.request))]
        now_s = now_ns / 1e9
        self._lost.discard(robot)
        start = (body.pose.x, body.pose.y)
        self._poses[robot] = start
        self._schedule.refresh(now_s)
        plan, reason = self._plan(robot, start, body, now_s)
        messages: Messages = []
        if plan is None:
            plan = self._standing(robot, start, now_s)
            plan.request, plan.served, plan.reason = body.request, False, reason
            messages = self._stay(robot, plan, f"{robot} stands in the way", now_s)
        else:
            self._schedule.put(robot, plan)
        self._schedule.release(robot)
        messages.append((robot, self._route(plan, body.request)))
        return [*messages, *self._releases()]

    def position(self, robot: RobotId, body: Position, now_ns: int) -> Messages:
        """Take note of where a robot is, and let others go on whom it lets pass."""
        plan = self._schedule.plans.get(robot)
        if plan is None:
            return []
        if robot not in self._lost:
            self._poses[robot] = (body.pose.x, body.pose.y)
        if body.doing == FAULT:
            return [] if robot in self._lost else self.lost(robot, now_ns)
        if body.route != plan.route:
            return []
        before = (plan.passed, plan.stops_done)
        if plan.passed < body.passed <= plan.released:
            plan.arrive_s[plan.passed : body.passed] = [now_ns / 1e9] * (body.passed - plan.passed)
            plan.passed = body.passed
        while plan.stops_done < min(body.stops_done, len(plan.stops)) and plan.end_of_leg() < plan.passed:
            plan.dwell_s[plan.end_of_leg()] = 0.0
            plan.stops_done += 1
        if (plan.passed, plan.stops_done) != before:
            plan.told_s = now_ns / 1e9
            return self._releases()
        return self._tell_again(robot, plan, now_ns / 1e9)

    def _tell_again(self, robot: RobotId, plan: Plan, now_s: float) -> Messages:
        """Repeat the last word to a robot that does not go on although it may: it may not have heard it."""
        if plan.told_s is None:
            plan.told_s = now_s
        if now_s < plan.told_s + TELL_AGAIN_S or not (plan.ends or plan.passed < plan.released):
            return []
        plan.told_s = now_s
        if plan.ends:
            return [(robot, Reroute(route=plan.route, reason="its way has ended"))]
        return [(robot, Release(route=plan.route, released=plan.released))]

    def lost(self, robot: RobotId, now_ns: int) -> Messages:
        """Treat a robot as an obstacle where it was last, until it asks for a way again; turn others away from it."""
        plan = self._schedule.plans.get(robot)
        if plan is None or robot in self._lost:
            return []
        self._lost.add(robot)
        now_s = now_ns / 1e9
        at = self._poses.get(robot, plan.points[plan.passed - 1])
        rolling, previous = 0.0, at
        points = [at]
        for point in plan.points[plan.passed : plan.released]:
            rolling += math.dist(previous, point)
            previous = point
            if rolling > COAST_M:
                break
            points.append(point)
        wreck = self._standing(robot, at, now_s)
        wreck.points, wreck.nodes = points, [-1] * len(points)
        wreck.dwell_s = wreck.drive_s = [0.0] * len(points)
        wreck.needs = [{} for _ in points]
        wreck.arrive_s = [now_s] * len(points)
        wreck.released, wreck.ends = len(points), True
        return [*self._stay(robot, wreck, f"{robot} does not move any more", now_s), *self._releases()]

    def _stay(self, robot: RobotId, plan: Plan, reason: str, now_s: float) -> Messages:
        """Let a robot stay where it is for ever, and turn away all who meant to go there or wait for it to pass."""
        before = self._schedule.plans[robot]
        waiting = [
            other
            for other, theirs in self._schedule.plans.items()
            if other != robot and any(needs.get(robot, 0) > before.passed for needs in theirs.needs[theirs.released :])
        ]
        self._schedule.replace(robot, plan)
        messages = self._interrupt([*waiting, *self._schedule.in_conflict(robot)], reason, now_s)
        self._schedule.put(robot, plan)
        return messages

    def _interrupt(self, robots: Sequence[RobotId], reason: str, now_s: float) -> Messages:
        """End the plans of `robots` and of all who wait for them."""
        messages: Messages = []
        more = [r for r in robots if not self._schedule.plans[r].ends]
        while more:
            for robot in dict.fromkeys(more):
                plan = self._schedule.plans[robot]
                plan.ends = True
                messages.append((robot, Reroute(route=plan.route, reason=reason)))
            self._schedule.refresh(now_s)
            more = self._schedule.stuck()
        return messages

    def _plan(self, robot: RobotId, start: Point, body: RouteRequest, now_s: float) -> tuple[Plan | None, str]:
        """Return a plan through the stops, else one that leads home with the reason, else None."""
        home = Leg((self._homes[robot],), 0.0)
        held, until_s = self._held(robot, start)
        charger: int | None = None
        reason = "no way leads there at the moment"
        legs: list[Leg] | None = []
        for stop in body.stops:
            if stop.place is not None:
                goals = self._roadmap.goals(stop.place)
            else:
                charger = self._free_charger(robot, start)
                goals = () if charger is None else (self._chargers[charger],)
                reason = "no charger is free" if charger is None else reason
            if legs is not None:
                legs = [*legs, Leg(goals, stop.dwell_s)] if goals else None
        if legs is not None and (
            way := self._search(robot, start, held, charger).find(start, until_s, [*legs, home], now_s)
        ):
            return self._granted(robot, body, way, charger), ""
        if not body.stops:
            return None, reason
        way = self._search(robot, start, held, None).find(start, until_s, [home], now_s)
        if way is None:
            return None, reason
        plan = self._granted(robot, body, way, None)
        plan.stops, plan.served, plan.reason = (), False, reason
        return plan, reason

    def _search(
        self, robot: RobotId, start: Point, held: Callable[[int], Iterable[Interval]], charger: int | None
    ) -> Search:
        """Return a search that leaves out where others park, and all chargers but `charger` and one that is to be left."""
        here = self._roadmap.nearest(*start)
        closed: set[int] = set()
        closed.update(*(zone for other, zone in self._kept_free.items() if other != robot))
        closed.update(*(zone for k, zone in enumerate(self._charger_zones) if k != charger and here not in zone))
        return Search(self._roadmap, self._lattice, held, closed, self._cruise_mps)

    def _granted(self, robot: RobotId, body: RouteRequest, way: Way, charger: int | None) -> Plan:
        self._routes += 1
        return Plan(
            route=RouteId(f"{robot}-{derive(body.request, self._routes)}"),
            request=body.request,
            points=way.points,
            nodes=way.nodes,
            dwell_s=way.dwell_s,
            drive_s=way.drive_s,
            arrive_s=way.arrive_s,
            stops=way.stops[:-1],
            charger=charger,
        )

    def _standing(self, robot: RobotId, at: Point, now_s: float) -> Plan:
        """Return the plan of a robot that stays where it is."""
        self._routes += 1
        return Plan(
            route=RouteId(f"{robot}-{derive(self._routes)}"),
            request=None,
            points=[at],
            nodes=[-1],
            dwell_s=[0.0],
            drive_s=[0.0],
            arrive_s=[now_s],
            needs=[{}],
        )

    def _held(self, robot: RobotId, start: Point) -> tuple[Callable[[int], Iterable[Interval]], float]:
        """Return what tells when a node is held by others, and until when the robot may stay at its start."""
        at_nodes: dict[int, list[Interval]] = {}
        near_others: dict[int, list[Interval]] = {}
        until_s = math.inf
        for other, plan in self._schedule.plans.items():
            if other == robot:
                continue
            for i in plan.open_points():
                held = (plan.held_from_s(i), plan.held_until_s(i))
                if math.dist(start, plan.points[i]) < self._schedule.radius_m(0) and i >= plan.released:
                    until_s = min(until_s, held[0])
                if plan.nodes[i] >= 0:
                    at_nodes.setdefault(plan.nodes[i], []).append(held)
                    continue
                for node in self._roadmap.within(*plan.points[i], self._schedule.radius_m(i)):
                    near_others.setdefault(node, []).append(held)

        def held_at(node: int) -> list[Interval]:
            intervals = list(near_others.get(node, ()))
            for other in self._nodes_near(node) & at_nodes.keys():
                intervals += at_nodes[other]
            return intervals

        return held_at, until_s

    def _free_charger(self, robot: RobotId, start: Point) -> int | None:
        """Return the nearest charger that no other robot uses or is on its way to."""
        taken = {
            plan.charger
            for other, plan in self._schedule.plans.items()
            if other != robot and plan.charger is not None and plan.passed <= max(plan.stops, default=-1) + 1
        }
        node = self._roadmap.nearest(*start)
        free = [k for k in range(len(self._chargers)) if k not in taken]
        if node is None or not free:
            return None
        return min(free, key=lambda k: (self._roadmap.to((self._chargers[k],)).from_m(node), k))

    def _releases(self) -> Messages:
        plans = self._schedule.plans
        return [
            (robot, Release(route=plans[robot].route, released=plans[robot].released))
            for robot in plans
            if self._schedule.release(robot)
        ]

    def _node(self, pose: Pose, name: str) -> int:
        node = self._roadmap.nearest(pose.x, pose.y, within_m=ON_NODE_M)
        if node is None:
            raise InputError(self._roadmap.name, name, f"{pose.x:g};{pose.y:g}", "use a place on free floor")
        return node

    def _route(self, plan: Plan, request: MessageId) -> Route:
        alone = len(plan.points) == 1
        return Route(
            request=request,
            route=plan.route,
            served=plan.served,
            points=() if alone and not plan.served else tuple((round(x, 3), round(y, 3)) for x, y in plan.points),
            stops=plan.stops,
            released=0 if alone and not plan.served else plan.released,
            reason=plan.reason,
        )

    def _refusal(self, robot: RobotId, body: RouteRequest, reason: str) -> Route:
        route = RouteId(f"{robot}-none")
        return Route(request=body.request, route=route, served=False, points=(), stops=(), released=0, reason=reason)
