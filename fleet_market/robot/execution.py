"""A robot's execution of its queue: it asks for the right of way, has its driver do the work, and proves it.

The stops are visited in the order of `Situation.visits`; where the robot stands between two of them, it looks anew whether
it must charge first. A way is asked for the next two stops at once. What is being executed is finished before anything
else: new orders only change what comes behind it.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Literal

from fleet_market.body import Act, Go, Job, Link, Point, Pose, Telemetry
from fleet_market.errors import UnreachableError
from fleet_market.pricing import TaskPlan
from fleet_market.protocol.messages import Complete, Phase, Route, RouteRequest, StepEvidence, Stop, WirePose
from fleet_market.robot.bidding import Bidder
from fleet_market.robot.effects import Remember, RunJob
from fleet_market.robot.losses import Losses
from fleet_market.robot.metering import Meter
from fleet_market.robot.queue import Visit
from fleet_market.robot.situation import NEVER_NS, STOPS_AHEAD, Asked, Doing, Done, Goal, Situation, Trip
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

CHARGE_MARGIN_SOC = 0.03
"""A robot this little above its reserve can do hardly any task: it charges when it has nothing to do."""
CHARGE_SPARE_SOC = 0.01
"""On top of what the queue needs, so that a little more than was expected does not mean another charging stop."""
REQUEST_AGAIN_S = 3.0
RETRY_ROUTE_S, GIVE_UP_ROUTE_S = 4.0, 90.0
RETRY_CHARGER_S = 20.0
FROZEN_S = 5.0
"""A market at work says within a second what becomes of a contract that was let go of; then others are done first."""
PATIENCE_S = 120.0
"""A robot that has had no leave to drive for this long asks for another way, and after as long again gives its task up."""
JOB_LIMIT_S = 1800.0
AT_HOME_M = 0.3
MAX_UNSETTLED = 20
"""Tasks carried out of which a robot remembers what they took until they are settled."""
LEAST_FIXES = 2
"""A record says from where to where."""


class Worker:
    """Carries out the contracts of one agent.

    Parameters
    ----------
    situation : Situation
    voice : Voice
    bidder : Bidder
        Knows the ways and when the queue needs a charging stop.
    """

    def __init__(self, situation: Situation, voice: Voice, bidder: Bidder) -> None:
        self._now, self._voice, self._bidder = situation, voice, bidder
        self.losses = Losses(situation, voice)
        self.meter = Meter(situation, bidder.legs)

    # --- what comes next ------------------------------------------------------------------------------------------------

    def begin_next(self, telemetry: Telemetry, pose: Pose, now_ns: int) -> None:
        """Begin what is to be done next by a robot that stands and waits for nothing."""
        now = self._now
        if telemetry.link is not Link.UP:
            return
        if telemetry.grave is not None:
            now.doing, now.ask_again = Doing.FAULT, True
            return
        if now.orphans and now.put_back is None:
            self.losses.wait_for_handover(telemetry, now_ns)
            return
        if now_ns < now.wait_until_ns:
            return
        if now.put_back is not None:
            self._start(self.losses.unload_again(pose), now_ns)
            return
        if now.doing is Doing.FAULT:
            now.doing, now.ask_again = Doing.WAITING, True
        if self._head_is_frozen(now_ns):
            now.doing = Doing.WAITING
            return
        goals = self._goals(telemetry, now_ns)
        if now.ask_again or not self._leads_to(goals, pose):
            if not goals or goals[0].visit is None or now_ns >= now.retry_at_ns:
                self._ask_route(goals, pose, now_ns)
        elif now.trip is not None and not now.trip.over:
            self._drive(now.trip, pose, now_ns)
        else:
            now.doing = Doing.IDLE

    def _goals(self, telemetry: Telemetry, now_ns: int) -> tuple[Goal, ...]:
        """Return where the robot goes next; nothing: home."""
        now, full_soc = self._now, self._now.config.type.battery.target_soc
        if not now.visits:
            charge = self._must_charge(telemetry) and now_ns >= now.charge_from_ns
            return (Goal(until_soc=full_soc),) if charge else ()
        until_soc = self._charge_first(now_ns)
        if until_soc is not None:
            until_soc = min(full_soc, until_soc + CHARGE_SPARE_SOC)
            return (Goal(until_soc=until_soc),) if now_ns >= now.charge_from_ns else ()
        ahead = takewhile(lambda visit: not now.is_frozen(visit.order), now.visits[: now.stops_ahead])
        return tuple(Goal(visit, now.place(visit)) for visit in ahead)

    def _charge_first(self, now_ns: int) -> float | None:
        """Return up to which state of charge the robot must charge before its next stop; None if it need not."""
        queue = self._now.queue(now_ns)
        if queue is None:
            return None
        try:
            first = self._bidder.drive(queue).halts[0]
        except UnreachableError:
            return None
        needed_soc = first.until_soc if first.order is None else None
        return needed_soc if needed_soc is not None and queue.soc < needed_soc else None

    def _head_is_frozen(self, now_ns: int) -> bool:
        """Return whether the next stop waits for word whether it is sold; what waits for long comes last."""
        now = self._now
        if not now.visits or not now.is_frozen(now.visits[0].order):
            return False
        if now_ns - min(since_ns for _, since_ns in now.frozen.values()) >= ns(FROZEN_S):
            now.visits = tuple(sorted(now.visits, key=lambda visit: now.is_frozen(visit.order)))
        return now.is_frozen(now.visits[0].order)

    def _must_charge(self, telemetry: Telemetry) -> bool:
        soc, battery = telemetry.battery.soc, self._now.config.type.battery
        if soc is None or not self._now.config.chargers:
            return False
        trip = self._now.trip
        on_the_way = trip is not None and trip.goal is not None and trip.goal.visit is None
        return soc < (battery.target_soc if on_the_way else battery.reserve_soc + CHARGE_MARGIN_SOC)

    def _leads_to(self, goals: tuple[Goal, ...], pose: Pose) -> bool:
        """Return whether the rest of the route leads where the robot is to go."""
        trip, home = self._now.trip, self._now.config.home
        if trip is None:
            return not goals and pose.distance_to(home.x, home.y) <= AT_HOME_M
        rest = trip.goals[trip.leg :]
        return rest == goals[: len(rest)] and bool(rest) == bool(goals)

    # --- the right of way -----------------------------------------------------------------------------------------------

    def _ask_route(self, goals: tuple[Goal, ...], pose: Pose, now_ns: int) -> None:
        now, handling_s = self._now, self._now.config.type.handling_s
        stops = tuple(
            Stop(place=goal.place, dwell_s=self._charging_s(goal) if goal.visit is None else handling_s) for goal in goals
        )
        request = RouteRequest(request=self._voice.name("route"), pose=WirePose.of(pose), stops=stops)
        now.asked = Asked(request, goals, now_ns)
        self._voice.say("route", request)
        self.meter.set_out(goals[0] if goals else None, pose, now_ns)
        task = now.at_hand
        if task is not None and task.phase is Phase.QUEUED:
            task.phase = Phase.TO_PICKUP

    def ask_again(self, now_ns: int) -> None:
        """Ask once more for a way that has not been answered."""
        asked = self._now.asked
        if asked is not None and now_ns - asked.at_ns >= ns(REQUEST_AGAIN_S):
            asked.at_ns = now_ns
            self._voice.say("route", asked.request)

    def _charging_s(self, goal: Goal) -> float:
        battery = self._now.config.type.battery
        soc = 0.0 if self._now.telemetry is None else self._now.telemetry.battery.soc or 0.0
        gain_w = battery.max_charge_w * battery.charge_efficiency - self._now.config.type.hotel_w
        until_soc = battery.target_soc if goal.until_soc is None else goal.until_soc
        return max(60.0, (until_soc - soc) * self._now.memory.capacity_j / max(gain_w, 1.0))

    def take_route(self, route: Route, now_ns: int) -> None:
        """Take the answer of the traffic control."""
        now = self._now
        if now.asked is None or route.request != now.asked.request.request:
            return
        goals, now.asked, now.ask_again = now.asked.goals, None, False
        now.trip = Trip(route, goals if route.served else (), route.released)
        now.passed = 0
        if route.served:
            if goals:
                now.give_up, now.stops_ahead = None, STOPS_AHEAD
            return
        if not route.points:
            now.trip = None
        visit = goals[0].visit if goals else None
        if visit is not None and (task := now.task(visit.order)) is not None:
            now.retry_at_ns = now_ns + ns(RETRY_ROUTE_S)
            now.stops_ahead = 1 if len(goals) > 1 else STOPS_AHEAD
            if now.give_up is None or now.give_up[0] != visit:
                now.give_up = (visit, now_ns + ns(GIVE_UP_ROUTE_S))
            elif now_ns >= now.give_up[1]:
                self.losses.abort(task, f"no way: {route.reason}", now_ns)
        elif goals:
            now.charge_from_ns = now_ns + ns(RETRY_CHARGER_S)
        else:
            now.wait_until_ns = now_ns + ns(RETRY_ROUTE_S)
            now.ask_again = not route.points

    def wait_no_longer(self, now_ns: int) -> None:
        """Ask for another way; a robot that still does not get on with that one gives its task up."""
        now = self._now
        now.moved_ns = now_ns
        task = now.at_hand
        if now.waited_before and task is not None:
            self.losses.abort(task, f"no leave to drive for {2 * PATIENCE_S:g} s", now_ns)
        else:
            self.losses.replan("no leave to drive for long")
        now.waited_before = True

    # --- jobs -----------------------------------------------------------------------------------------------------------

    def _drive(self, trip: Trip, pose: Pose, now_ns: int) -> None:
        """Have the next leg driven, and done what is to be done at its end."""
        now, goal = self._now, trip.goal
        path: tuple[Point, ...] = trip.route.points[trip.at : trip.end_of_leg() + 1]
        yaw = None if goal is None or goal.place is None else goal.place.yaw
        go = Go(
            Pose(*path[-1], pose.yaw if yaw is None else yaw),
            path,
            released=max(1, trip.released - trip.at),
            tol_rad=None if yaw is None else 0.1,
        )
        self.meter.set_out(goal, pose, now_ns)
        if goal is None:
            now.doing = Doing.HOMING
            self._start((go,), now_ns)
        elif goal.visit is None:
            now.doing = Doing.CHARGING
            self._start((go, Act("charge", until_soc=goal.until_soc)), now_ns)
        elif (task := now.task(goal.visit.order)) is not None:
            now.doing = Doing.WORKING
            task.phase = Phase.TO_PICKUP if goal.visit.pickup else Phase.TO_DROPOFF
            mass_kg, seconds = task.award.payload_kg, now.config.type.handling_s
            act = Act("load" if goal.visit.pickup else "unload", task.order, mass_kg, seconds)
            self._start((go, act), now_ns)

    def _start(self, steps: tuple[Go | Act, ...], now_ns: int) -> None:
        now = self._now
        now.job = Job(f"{now.config.robot}-{self._voice.number()}", steps)
        now.passed, now.stopping, now.moved_ns = 0, False, now_ns
        self._voice.want(RunJob(now.job, 10 * JOB_LIMIT_S if self.charges(now.job) else JOB_LIMIT_S))

    @staticmethod
    def charges(job: Job) -> bool:
        """Return whether a job is to charge."""
        return any(isinstance(step, Act) and step.kind == "charge" for step in job.steps)

    def arrived(self) -> None:
        """Take note that the robot stands where its job is to load or unload."""
        now, task, goal = self._now, self._now.at_hand, self._now.goal
        if task is None or goal is None or goal.visit is None or now.put_back is not None:
            return
        task.phase = Phase.LOADING if goal.visit.pickup else Phase.UNLOADING
        if now.weighed is None or now.weighed[0] != goal.visit:
            now.weighed = (goal.visit, None if now.telemetry is None else now.telemetry.payload_kg)

    def leg_done(self, now_ns: int) -> None:
        """Take note that a job is done as it should be."""
        now, trip = self._now, self._now.trip
        if trip is None:
            if now.put_back is not None:
                now.put_back, now.ask_again = None, True
            return
        goal = trip.goal
        trip.at, trip.leg = trip.end_of_leg(), trip.leg + 1
        now.last_position_ns = NEVER_NS
        if goal is None:
            now.doing = Doing.IDLE
        elif goal.visit is None:
            for held in now.tasks:
                held.charged = held.charged or bool(held.fixes)
        if goal is None or goal.visit is None or now.put_back is not None:
            return
        task, telemetry = now.task(goal.visit.order), now.telemetry
        if task is None or telemetry is None or telemetry.pose is None:
            return
        self.meter.arrived(task, telemetry.pose, now_ns)
        before_kg = now.weighed[1] if now.weighed is not None and now.weighed[0] == goal.visit else None
        task.steps.append(_evidence(goal.visit, telemetry.pose, before_kg, telemetry.payload_kg, now_ns))
        now.weighed = None
        now.visits = tuple(visit for visit in now.visits if visit != goal.visit)
        if goal.visit.pickup:
            task.aboard, task.phase = True, Phase.TO_DROPOFF
        else:
            self._complete(task, now_ns)

    def _complete(self, task: Task, now_ns: int) -> None:
        now = self._now
        energy_j, contract = round(task.energy_j, 1) if task.metered else None, task.award.contract
        complete = Complete(contract=contract, steps=tuple(task.steps), energy_j=energy_j)
        self._voice.must_say("complete", complete, now_ns, contract)
        if task.legs:
            plan = TaskPlan(tuple(task.legs), task.dwell_s)
            quote = self._bidder.quote(plan)
            now.done[contract] = Done(plan, quote, energy_j, task.executed_s)
        while len(now.done) > MAX_UNSETTLED:
            now.done.pop(next(iter(now.done)))
        self._record(task, energy_j)
        now.forget(task)

    def _record(self, task: Task, energy_j: float | None) -> None:
        """Say what was measured; that it was said is kept first."""
        if len(task.fixes) < LEAST_FIXES:
            return
        config, memory = self._now.config, self._now.memory
        record = memory.chain.add(config.robot, config.session, task, energy_j)
        self._voice.want(Remember(memory.export()))
        self._voice.say("telemetry", record)


def _evidence(visit: Visit, pose: Pose, before_kg: float | None, after_kg: float | None, now_ns: int) -> StepEvidence:
    """Return what proves a stop; a scale that was not read both times proves nothing."""
    kind: Literal["pickup", "dropoff"] = "pickup" if visit.pickup else "dropoff"
    step = StepEvidence(kind=kind, pose=WirePose.of(pose), at_ns=now_ns)
    if before_kg is None or after_kg is None:
        return step
    return step.model_copy(update={"payload_before_kg": _to_gram(before_kg), "payload_kg": _to_gram(after_kg)})


def _to_gram(mass_kg: float) -> float:
    """Return what a scale shows as messages carry it; without load it may err below 0."""
    return round(max(0.0, mass_kg), 3)
