"""A robot's execution of its contracts: it asks for the right of way, has its driver do the work, and proves it."""

from __future__ import annotations

from fleet_market.body import Act, Go, Job, Link, Point, Pose, Telemetry
from fleet_market.protocol.messages import (
    Abort,
    Award,
    Cancel,
    Complete,
    Phase,
    Route,
    RouteRequest,
    StepEvidence,
    Stop,
    WirePose,
    printable,
)
from fleet_market.robot.effects import RunJob, StopJob
from fleet_market.robot.situation import NEVER_NS, Doing, Done, Purpose, Situation, Trip
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

CHARGE_MARGIN_SOC = 0.03
"""A robot this little above its reserve can do hardly any task: it charges when it has nothing to do."""
RETRY_ROUTE_S, GIVE_UP_ROUTE_S = 4.0, 90.0
RETRY_CHARGER_S, RETRY_FAULT_S = 20.0, 20.0
PATIENCE_S = 120.0
"""A robot that has had no leave to drive for this long asks for another way, and after as long again gives its task up."""
HANDOVER_WAIT_S = 240.0
"""How long a robot that has lost a contract with the parcel aboard waits for the one that takes it over."""
JOB_LIMIT_S = 1800.0
EMPTY_KG = 0.5
AT_HOME_M = 0.3
MAX_UNSETTLED = 20
"""Tasks carried out of which a robot remembers what they took until they are settled."""
CHARGE_S_PER_H = 3600.0


class Worker:
    """Carries out the contracts of one agent."""

    def __init__(self, situation: Situation, voice: Voice) -> None:
        self._now, self._voice = situation, voice

    def lose(self, body: Cancel, now_ns: int) -> None:
        """Take note that a contract is gone, or that its parcel goes back."""
        task = next((t for t in self._now.tasks if t.award.contract == body.contract), None)
        if task is None:
            return
        if not body.bring_back:
            self._drop(task, now_ns)
        elif task.phase is not Phase.UNLOADING:
            task.award = task.award.model_copy(update={"dropoff": task.award.pickup})
            self.replan("the parcel goes back")

    def _drop(self, task: Task, now_ns: int) -> None:
        """Forget a contract that is gone; a parcel that is aboard waits for whoever takes it over."""
        at_hand = task is self._now.tasks[0] and task.phase is not Phase.QUEUED
        self._now.tasks.remove(task)
        if not at_hand:
            return
        self._now.asked = None  # a way for it would be driven in vain
        if task.phase is Phase.LOADING and self._now.job is not None:
            self._now.put_back = task.award
        elif task.aboard:
            self._now.stranded_until_ns = now_ns + ns(HANDOVER_WAIT_S)
            self._stop("the contract is gone")
        else:
            self.replan("the contract is gone")

    def begin_next(self, telemetry: Telemetry, pose: Pose, now_ns: int) -> None:
        """Begin what is to be done next by a robot that stands and waits for nothing."""
        if telemetry.link is not Link.UP:
            return
        if self._now.stranded_until_ns is not None:
            self._wait_for_handover(telemetry, now_ns)
            return
        if self._now.put_back is not None:
            self._unload_again(pose, self._now.put_back, now_ns)
            return
        if now_ns < self._now.wait_until_ns:
            return
        if self._now.doing is Doing.FAULT:
            self._now.doing, self._now.ask_again = Doing.WAITING, True
        if self._now.tasks:
            self._work(self._now.tasks[0], pose, now_ns)
        elif now_ns >= self._now.charge_from_ns and self._must_charge(telemetry):
            if self._now.trip is None or self._now.ask_again or self._now.trip.purpose is not Purpose.CHARGE:
                self._ask_route((Purpose.CHARGE,), pose, now_ns)
            else:
                self._drive(pose, now_ns)
        elif self._now.ask_again or (
            self._now.trip is None and pose.distance_to(self._now.config.home.x, self._now.config.home.y) > AT_HOME_M
        ):
            self._ask_route((), pose, now_ns)
        elif self._now.trip is not None and not self._now.trip.over:
            self._drive(pose, now_ns)
        else:
            self._now.doing = Doing.IDLE

    def _work(self, task: Task, pose: Pose, now_ns: int) -> None:
        if task.phase is Phase.QUEUED:
            task.phase = Phase.TO_PICKUP
            task.started_ns, task.energy_at_start_j = now_ns, self._now.energy_out_j()
            self._now.ask_again = True
        if self._now.ask_again or self._now.trip is None or self._now.trip.purpose not in (Purpose.PICKUP, Purpose.DROPOFF):
            if now_ns >= task.retry_at_ns:
                self._ask_route((Purpose.DROPOFF,) if task.aboard else (Purpose.PICKUP, Purpose.DROPOFF), pose, now_ns)
        else:
            self._drive(pose, now_ns)

    def _must_charge(self, telemetry: Telemetry) -> bool:
        soc, battery = telemetry.battery.soc, self._now.config.type.battery
        if soc is None or not self._now.config.chargers:
            return False
        on_the_way = self._now.trip is not None and self._now.trip.purpose is Purpose.CHARGE
        return soc < (battery.target_soc if on_the_way else battery.reserve_soc + CHARGE_MARGIN_SOC)

    def wait_no_longer(self, now_ns: int) -> None:
        """Ask for another way; a robot that still does not get on with that one gives its task up."""
        self._now.moved_ns = now_ns
        if self._now.waited_before and self._now.tasks and self._now.tasks[0].phase is not Phase.QUEUED:
            self._abort(f"no leave to drive for {2 * PATIENCE_S:g} s", now_ns)
        else:
            self.replan("no leave to drive for long")
        self._now.waited_before = True

    def _drive(self, pose: Pose, now_ns: int) -> None:
        trip = self._now.trip
        if trip is None:
            return
        end = trip.end_of_leg()
        path: tuple[Point, ...] = trip.route.points[trip.at : end + 1]
        last = path[-1]
        yaw = self._final_yaw(trip)
        go = Go(
            Pose(last[0], last[1], pose.yaw if yaw is None else yaw),
            path,
            released=max(1, trip.released - trip.at),
            tol_rad=None if yaw is None else 0.1,
        )
        act = self._action(trip.purpose)
        self._now.doing = {Purpose.CHARGE: Doing.CHARGING, Purpose.HOME: Doing.HOMING}.get(trip.purpose, Doing.WORKING)
        if self._now.tasks and trip.purpose in (Purpose.PICKUP, Purpose.DROPOFF):
            self._now.tasks[0].phase = Phase.TO_PICKUP if trip.purpose is Purpose.PICKUP else Phase.TO_DROPOFF
        self._start((go,) if act is None else (go, act), now_ns)

    def _final_yaw(self, trip: Trip) -> float | None:
        match trip.purpose:
            case Purpose.PICKUP:
                return self._now.tasks[0].award.pickup.yaw
            case Purpose.DROPOFF:
                return self._now.tasks[0].award.dropoff.yaw
            case _:
                return None

    def _action(self, purpose: Purpose) -> Act | None:
        seconds = self._now.config.type.handling_s
        match purpose:
            case Purpose.PICKUP:
                award = self._now.tasks[0].award
                return Act("load", award.order, award.payload_kg, seconds)
            case Purpose.DROPOFF:
                award = self._now.tasks[0].award
                return Act("unload", award.order, award.payload_kg, seconds)
            case Purpose.CHARGE:
                return Act("charge", until_soc=self._now.config.type.battery.target_soc)
            case _:
                return None

    def _start(self, steps: tuple[Go | Act, ...], now_ns: int) -> None:
        self._now.job = Job(f"{self._now.config.robot}-{self._voice.number()}", steps)
        self._now.passed, self._now.stopping = 0, False
        self._now.moved_ns = now_ns
        self._voice.want(RunJob(self._now.job, JOB_LIMIT_S if not self.charges(self._now.job) else 10 * JOB_LIMIT_S))

    @staticmethod
    def charges(job: Job) -> bool:
        """Return whether a job is to charge."""
        return any(isinstance(step, Act) and step.kind == "charge" for step in job.steps)

    def leg_done(self, now_ns: int) -> None:
        """Take note that a job is done as it should be."""
        trip = self._now.trip
        if self._now.put_back is not None and trip is None:
            self._now.put_back = None
            self._now.ask_again = True
            return
        if trip is None:
            return
        purpose = trip.purpose
        trip.at, trip.leg = trip.end_of_leg(), trip.leg + 1
        self._now.last_position_ns = NEVER_NS
        if purpose is Purpose.HOME:
            self._now.doing = Doing.IDLE
        if purpose not in (Purpose.PICKUP, Purpose.DROPOFF) or self._now.put_back is not None or not self._now.tasks:
            return
        task, telemetry = self._now.tasks[0], self._now.telemetry
        if telemetry is None or telemetry.pose is None:
            return
        evidence = StepEvidence(
            kind="pickup" if purpose is Purpose.PICKUP else "dropoff",
            pose=WirePose.of(telemetry.pose),
            at_ns=now_ns,
            payload_kg=None if telemetry.payload_kg is None else round(telemetry.payload_kg, 3),
        )
        task.steps.append(evidence)
        if purpose is Purpose.PICKUP:
            task.aboard = True
            return
        energy_j = round(max(0.0, self._now.energy_out_j() - task.energy_at_start_j), 1)
        complete = Complete(contract=task.award.contract, steps=tuple(task.steps), energy_j=energy_j)
        self._voice.must_say("complete", complete, now_ns, task.award.contract)
        metered = telemetry.battery.energy_out_j is not None
        self._now.done[task.award.contract] = Done(
            task.appraisal, energy_j if metered else None, (now_ns - task.started_ns) / 1e9
        )
        while len(self._now.done) > MAX_UNSETTLED:
            self._now.done.pop(next(iter(self._now.done)))
        self._now.tasks.pop(0)
        self._now.ask_again = bool(self._now.tasks)

    def failed(self, reason: str, now_ns: int) -> None:
        """Give the task up, if there is one, and try again to move after a while."""
        self._now.ask_again = True
        if self._now.telemetry is not None and (self._now.telemetry.payload_kg or 0.0) < EMPTY_KG:
            self._now.put_back = None
        if self._now.tasks and self._now.tasks[0].phase is not Phase.QUEUED:
            self._abort(reason, now_ns)
        self._now.doing = Doing.FAULT
        self._now.wait_until_ns = now_ns + ns(RETRY_FAULT_S)

    def _abort(self, reason: str, now_ns: int) -> None:
        task, pose = self._now.tasks[0], None if self._now.telemetry is None else self._now.telemetry.pose
        body = Abort(
            contract=task.award.contract,
            reason=printable(reason),
            pose=WirePose.of(pose or self._now.config.home),
            aboard=task.aboard,
        )
        self._voice.must_say("abort", body, now_ns, task.award.contract)
        self._drop(task, now_ns)

    def _wait_for_handover(self, telemetry: Telemetry, now_ns: int) -> None:
        """Stand until another robot has taken the parcel."""
        self._now.doing = Doing.FAULT
        taken = telemetry.payload_kg is not None and telemetry.payload_kg < EMPTY_KG
        if taken or (self._now.stranded_until_ns is not None and now_ns >= self._now.stranded_until_ns):
            self._now.stranded_until_ns = None
            self._now.ask_again = True

    def _unload_again(self, pose: Pose, award: Award, now_ns: int) -> None:
        """Set the parcel down where it was loaded: its order was cancelled meanwhile."""
        self._now.trip = None
        self._start((Go(pose), Act("unload", award.order, award.payload_kg, self._now.config.type.handling_s)), now_ns)

    def replan(self, reason: str) -> None:
        """Have another route as soon as possible: stop driving, but finish loading and unloading."""
        self._now.ask_again = True
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        handling = bool(self._now.tasks) and self._now.tasks[0].phase in (Phase.LOADING, Phase.UNLOADING)
        if self._now.job is not None and not self._now.stopping and not handling:
            self._now.stopping = True
            self._voice.want(StopJob(reason))

    def _ask_route(self, purposes: tuple[Purpose, ...], pose: Pose, now_ns: int) -> None:
        handling_s, stops = self._now.config.type.handling_s, []
        for purpose in purposes:
            match purpose:
                case Purpose.PICKUP:
                    stops.append(Stop(place=self._now.tasks[0].award.pickup, dwell_s=handling_s))
                case Purpose.DROPOFF:
                    stops.append(Stop(place=self._now.tasks[0].award.dropoff, dwell_s=handling_s))
                case _:
                    stops.append(Stop(place=None, dwell_s=self._charging_s()))
        request = RouteRequest(request=self._voice.name("route"), pose=WirePose.of(pose), stops=tuple(stops))
        self._now.asked = (request, purposes, now_ns)
        self._voice.say("route", request)

    def _charging_s(self) -> float:
        battery = self._now.config.type.battery
        soc = 0.0 if self._now.telemetry is None else self._now.telemetry.battery.soc or 0.0
        gain_w = battery.max_charge_w * battery.charge_efficiency - self._now.config.type.hotel_w
        return max(60.0, (battery.target_soc - soc) * battery.capacity_wh * CHARGE_S_PER_H / max(gain_w, 1.0))

    def take_route(self, route: Route, now_ns: int) -> None:
        """Take the answer of the traffic control."""
        if self._now.asked is None or route.request != self._now.asked[0].request:
            return
        _, purposes, _ = self._now.asked
        self._now.asked, self._now.ask_again = None, False
        self._now.trip = Trip(route, purposes if route.served else (), route.released)
        self._now.passed = 0
        if route.served:
            for task in self._now.tasks[:1]:
                task.give_up_ns = None
            return
        if not route.points:
            self._now.trip = None
        if Purpose.CHARGE in purposes:
            self._now.charge_from_ns = now_ns + ns(RETRY_CHARGER_S)
        elif self._now.tasks and purposes:
            task = self._now.tasks[0]
            task.retry_at_ns = now_ns + ns(RETRY_ROUTE_S)
            if task.give_up_ns is None:
                task.give_up_ns = now_ns + ns(GIVE_UP_ROUTE_S)
            elif now_ns >= task.give_up_ns:
                self._abort(f"no way: {route.reason}", now_ns)
        else:
            self._now.wait_until_ns = now_ns + ns(RETRY_ROUTE_S)
            self._now.ask_again = not route.points
