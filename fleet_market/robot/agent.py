"""The robot's agent: bids, holds contracts, gets the right of way, has its driver do the work, and proves it.

A state machine without clock and without I/O: messages, telemetry and results of jobs go in, effects come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fleet_market.body import Act, End, Go, Job, Link, Point, Pose, Result, RobotType, Telemetry
from fleet_market.errors import UnreachableError
from fleet_market.ids import CallId, ContractId, MessageId, OrderId, RobotId, derive
from fleet_market.maps.roadmap import Roadmap
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import (
    Abort,
    Accept,
    AnyBody,
    AskLine,
    Auctioneer,
    Award,
    Call,
    Cancel,
    Complete,
    Decline,
    DeclineLine,
    DeclineReason,
    Lot,
    Phase,
    Position,
    Progress,
    Receipt,
    Release,
    Reroute,
    Route,
    RouteRequest,
    Settle,
    StepEvidence,
    Stop,
    WirePose,
    printable,
)
from fleet_market.robot.bidding import J_PER_WH, Appraisal, Bidder, Outlook, sealed
from fleet_market.robot.effects import Effect, ReleaseJob, Remember, RunJob, Say, StopJob
from fleet_market.robot.memory import Memory
from fleet_market.robot.outbox import Outbox
from fleet_market.robot.tasks import Task
from fleet_market.units import ns

CHARGE_MARGIN_SOC = 0.03
"""A robot this little above its reserve can do hardly any task: it charges when it has nothing to do."""
PROGRESS_S = 1.0
POSITION_S, RESTING_POSITION_S = 0.2, 1.0
REQUEST_AGAIN_S = 3.0
RETRY_ROUTE_S, GIVE_UP_ROUTE_S = 4.0, 90.0
RETRY_CHARGER_S, RETRY_FAULT_S = 20.0, 20.0
PATIENCE_S = 120.0
"""A robot that has had no leave to drive for this long asks for another way, and after as long again gives its task up."""
HANDOVER_WAIT_S = 240.0
"""How long a robot that has lost a contract with the parcel aboard waits for the one that takes it over."""
JOB_LIMIT_S = 1800.0
EMPTY_KG = 0.5
AT_HOME_M = 0.3
MAX_PAGES_KEPT = 4
MAX_UNSETTLED = 20
"""Tasks carried out of which a robot remembers what they took until they are settled."""
CHARGE_S_PER_H = 3600.0
NEVER_NS = -(10**18)


class Doing(StrEnum):
    """What the robot is about, for those who look on and for the traffic control."""

    IDLE = "idle"
    HOMING = "homing"
    WORKING = "working"
    CHARGING = "charging"
    WAITING = "waiting"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything about one robot that its agent needs to know."""

    robot: RobotId
    type: RobotType
    home: Pose
    chargers: tuple[Pose, ...]
    tariff: Tariff
    roadmap: Roadmap
    session: int = 0
    """Number of this start of the robot, larger than that of every earlier one."""
    surfaces: Surfaces = field(default_factory=Surfaces)


@dataclass(frozen=True, slots=True)
class _Done:
    """A task that was carried out and is not settled yet."""

    appraisal: Appraisal
    measured_j: float | None
    executed_s: float


class Purpose(StrEnum):
    """Why the robot drives to the next stop of its route."""

    PICKUP = "pickup"
    DROPOFF = "dropoff"
    CHARGE = "charge"
    HOME = "home"


@dataclass(slots=True)
class _Trip:
    """The route that the robot follows, and what it is to do at its stops."""

    route: Route
    purposes: tuple[Purpose, ...]
    released: int
    at: int = 0
    """Point of the route at which the robot stood when its latest job began."""
    leg: int = 0

    def end_of_leg(self) -> int:
        """Return the point where the leg ends."""
        return self.route.stops[self.leg] if self.leg < len(self.route.stops) else len(self.route.points) - 1

    @property
    def purpose(self) -> Purpose:
        """Why the robot drives this leg."""
        return self.purposes[self.leg] if self.leg < len(self.purposes) else Purpose.HOME

    @property
    def over(self) -> bool:
        """Whether the robot has come home on it."""
        return self.leg > len(self.route.stops) or not self.route.points


class Agent:
    """One robot's agent. Every public call returns what is to be done now.

    Parameters
    ----------
    config : AgentConfig
    memory : Memory, optional
        What the robot has learned before; a new robot knows its data sheet.
    """

    def __init__(self, config: AgentConfig, memory: Memory | None = None) -> None:
        self.config = config
        self.memory = memory or Memory(config.type)
        self.doing = Doing.IDLE
        self.tasks: list[Task] = []
        self.epoch: int | None = None
        self._bidder = Bidder(config.type, config.roadmap, config.chargers, config.tariff, self.memory, config.surfaces)
        self._done: dict[ContractId, _Done] = {}
        self._aged_ns: int | None = None
        self._outbox = Outbox()
        self._pages: dict[tuple[CallId, int], dict[int, Call]] = {}
        self._seen: tuple[CallId | None, dict[OrderId, Lot]] = (None, {})
        """The lots of the latest call that it was offered, in whatever round."""
        self._telemetry: Telemetry | None = None
        self._passed = 0
        self._numbers = 0
        self._trip: _Trip | None = None
        self._asked: tuple[RouteRequest, tuple[Purpose, ...], int] | None = None
        self._job: Job | None = None
        self._stopping = False
        self._ask_again = False
        """The route is out of date: ask for another one as soon as the robot stands."""
        self._wait_until_ns = self._charge_from_ns = 0
        self._stranded_until_ns: int | None = None
        self._put_back: Award | None = None
        """The order whose parcel is aboard although its contract is gone, cancelled while it was loaded."""
        self._moved_ns, self._waited_before = 0, False
        self._last_position_ns = NEVER_NS
        self._effects: list[Effect] = []

    # --- inputs --------------------------------------------------------------------------------------------------------

    def hear(self, message: MessageId, body: AnyBody, now_ns: int) -> list[Effect]:
        """Take a message of the market."""
        match body:
            case Auctioneer():
                self._follow(body)
            case Call():
                self._take_page(body, now_ns)
            case Award():
                self._take_award(body, now_ns)
            case Cancel():
                self._lose(body, now_ns)
                self._say("receipt", Receipt(of=message))
            case Settle():
                self._learn(body.contract, now_ns)
                self._say("receipt", Receipt(of=message))
            case Receipt():
                self._outbox.confirm(body.of)
            case Route():
                self._take_route(body, now_ns)
            case Release() if self._trip is not None and body.route == self._trip.route.route:
                self._trip.released = max(self._trip.released, body.released)
                if self._job is not None:
                    self._effects.append(ReleaseJob(self._job.id, self._trip.released - self._trip.at))
            case Reroute() if self._trip is not None and body.route == self._trip.route.route:
                self._replan(body.reason)
            case _:
                pass
        return self._decide(now_ns)

    def sense(self, telemetry: Telemetry, passed: int, now_ns: int) -> list[Effect]:
        """Take the newest telemetry, and how many points of the running job's path lie behind the robot."""
        self._telemetry = telemetry
        if telemetry.battery.soc is not None:
            self.memory.observe(telemetry.battery.soc, now_ns)
        if self._job is not None:
            if passed != self._passed or telemetry.moving or self._charges(self._job):
                self._moved_ns, self._waited_before = now_ns, False
            elif now_ns - self._moved_ns > ns(PATIENCE_S):
                self._wait_no_longer(now_ns)
            self._passed = passed
        self._effects += self._outbox.due(now_ns)
        if telemetry.pose is not None:
            self._report(telemetry.pose, now_ns)
        return self._decide(now_ns)

    def step_done(self, job_id: str, step: int, now_ns: int) -> list[Effect]:
        """Take note that a step of the running job is done."""
        if self._job is not None and self._job.id == job_id and step == 0 and self.tasks and len(self._job.steps) > 1:
            phase = {Purpose.PICKUP: Phase.LOADING, Purpose.DROPOFF: Phase.UNLOADING}.get(self._purpose())
            if phase is not None and self._put_back is None:
                self.tasks[0].phase = phase
        return self._decide(now_ns)

    def job_ended(self, result: Result, now_ns: int) -> list[Effect]:
        """Take the result of a job."""
        if self._job is None or result.job_id != self._job.id:
            return self._decide(now_ns)
        self._job, self._stopping = None, False
        if result.end is End.DONE:
            self._leg_done(now_ns)
        elif result.end is End.CANCELLED:
            self._ask_again = True
        else:
            self._failed(f"{result.end}: {result.reason}", now_ns)
        self._passed = 0
        return self._decide(now_ns)

    # --- the market ----------------------------------------------------------------------------------------------------

    def _follow(self, body: Auctioneer) -> None:
        if self.epoch is not None and body.epoch > self.epoch:
            self._asked = None
            self._replan("the market has started anew")
        self.epoch = max(body.epoch, self.epoch or 0)

    def _take_page(self, page: Call, now_ns: int) -> None:
        pages = self._pages.setdefault((page.call, page.round), {})
        pages[page.page] = page
        if len(pages) == page.pages:
            del self._pages[page.call, page.round]
            if now_ns < page.close_ns:
                self._bid(page, [lot for n in sorted(pages) for lot in pages[n].lots], now_ns)
        while len(self._pages) > MAX_PAGES_KEPT:
            self._pages.pop(next(iter(self._pages)))

    def _bid(self, call: Call, lots: Sequence[Lot], now_ns: int) -> None:
        """Answer one round; what earlier rounds of the same call have won is in the schedule already."""
        if self._seen[0] != call.call:
            self._seen = (call.call, {})
        seen = self._seen[1]
        seen.update((lot.order, lot) for lot in lots)
        refusal = self._unfit(now_ns, won=len(call.won))
        asks: list[AskLine] = []
        declines: list[DeclineLine] = []
        outlook = self._outlook(now_ns)
        for order in call.won:
            outlook = None if outlook is None or order not in seen else self._with(outlook, seen[order])
        soc = None if self._telemetry is None else self._telemetry.battery.soc
        for number, lot in enumerate(lots):
            if refusal is not None or outlook is None or soc is None:
                reason, detail = refusal or (DeclineReason.SILENT, "no pose or state of charge")
                declines.append(DeclineLine(lot=number, reason=reason, detail=detail[:40]))
                continue
            line = self._bidder.answer(number, lot, outlook, soc)
            if isinstance(line, AskLine):
                asks.append(line)
            else:
                declines.append(line)
        at = None if outlook is None else WirePose.of(outlook.pose)
        self._say("ask", sealed(call.call, call.round, at, asks, declines))

    def _with(self, outlook: Outlook, lot: Lot) -> Outlook | None:
        """Return the outlook with a lot that the robot has won but has no contract for yet."""
        try:
            return outlook.then(self._bidder.appraise(outlook.pose, lot.pickup, lot.dropoff, lot.payload_kg))
        except UnreachableError:
            return None

    def _unfit(self, now_ns: int, *, won: int = 0) -> tuple[DeclineReason, str] | None:
        """Return why the robot takes no task at all now."""
        telemetry = self._telemetry
        if telemetry is None:
            return DeclineReason.SILENT, "odom"
        if telemetry.silent or telemetry.link is not Link.UP:
            return DeclineReason.SILENT, ", ".join(telemetry.silent) or "odom"
        if self.doing is Doing.FAULT or now_ns < self._wait_until_ns:
            return DeclineReason.FAULT, "does not get on"
        if self._stranded_until_ns is not None or self._put_back is not None:
            return DeclineReason.FAULT, "has a parcel of a lost contract"
        if len(self.tasks) + won >= self.config.type.max_tasks:
            return DeclineReason.BUSY, f"has {len(self.tasks) + won} orders"
        soc = telemetry.battery.soc
        if self.doing is Doing.CHARGING and soc is not None and soc < self.config.type.battery.resume_soc:
            return DeclineReason.CHARGING, f"{soc:.0%}, back at {self.config.type.battery.resume_soc:.0%}"
        return None

    def _outlook(self, now_ns: int) -> Outlook | None:
        telemetry = self._telemetry
        if telemetry is None or telemetry.pose is None:
            return None
        free_ns, energy_j, sd_s = now_ns, 0.0, 0.0
        for task in self.tasks:
            quote = task.appraisal.quote
            spent_ns = now_ns - task.started_ns if task.started_ns else 0
            free_ns += max(ns(quote.lasts.mean) - spent_ns, 0)
            used_j = max(0.0, (self._energy_out_j() - task.energy_at_start_j)) if task.started_ns else 0.0
            energy_j += max(quote.energy.mean - used_j, 0.0)
            sd_s += quote.lasts.sd
        end = self.tasks[-1].end if self.tasks else telemetry.pose
        return Outlook(end, free_ns, energy_j, sd_s)

    def _take_award(self, award: Award, now_ns: int) -> None:
        if self.epoch is not None and award.epoch < self.epoch:
            return
        known = any(task.award.contract == award.contract for task in self.tasks)
        outlook = self._outlook(now_ns)
        refusal = None if known else self._unfit(now_ns)
        if not known and (refusal is not None or outlook is None):
            reason = "no pose" if refusal is None else f"{refusal[0]}: {refusal[1]}"
            self._must_say("decline", Decline(contract=award.contract, reason=reason), now_ns, award.contract)
            return
        if not known and outlook is not None:
            try:
                appraisal = self._bidder.appraise(outlook.pose, award.pickup, award.dropoff, award.payload_kg)
            except UnreachableError as error:
                decline = Decline(contract=award.contract, reason=printable(str(error)))
                self._must_say("decline", decline, now_ns, award.contract)
                return
            self.tasks.append(Task(award, appraisal))
            if len(self.tasks) == 1:
                self._replan("a task has come")
        self._must_say("accept", Accept(contract=award.contract), now_ns, award.contract)

    def _lose(self, body: Cancel, now_ns: int) -> None:
        task = next((t for t in self.tasks if t.award.contract == body.contract), None)
        if task is None:
            return
        if not body.bring_back:
            self._drop(task, now_ns)
        elif task.phase is not Phase.UNLOADING:
            task.award = task.award.model_copy(update={"dropoff": task.award.pickup})
            self._replan("the parcel goes back")

    def _drop(self, task: Task, now_ns: int) -> None:
        """Forget a contract that is gone; a parcel that is aboard waits for whoever takes it over."""
        at_hand = task is self.tasks[0] and task.phase is not Phase.QUEUED
        self.tasks.remove(task)
        if not at_hand:
            return
        self._asked = None  # a way for it would be driven in vain
        if task.phase is Phase.LOADING and self._job is not None:
            self._put_back = task.award
        elif task.aboard:
            self._stranded_until_ns = now_ns + ns(HANDOVER_WAIT_S)
            self._stop("the contract is gone")
        else:
            self._replan("the contract is gone")

    # --- work ----------------------------------------------------------------------------------------------------------

    def _decide(self, now_ns: int) -> list[Effect]:
        """Begin what is to be done next, and return all effects."""
        telemetry = self._telemetry
        if telemetry is not None and telemetry.pose is not None and self._job is None and self._asked is None:
            self._next(telemetry, telemetry.pose, now_ns)
        elif self._asked is not None and now_ns - self._asked[2] >= ns(REQUEST_AGAIN_S):
            request, purposes, _ = self._asked
            self._asked = (request, purposes, now_ns)
            self._say("route", request)
        effects, self._effects = self._effects, []
        return effects

    def _next(self, telemetry: Telemetry, pose: Pose, now_ns: int) -> None:
        if telemetry.link is not Link.UP:
            return
        if self._stranded_until_ns is not None:
            self._wait_for_handover(telemetry, now_ns)
            return
        if self._put_back is not None:
            self._unload_again(pose, self._put_back, now_ns)
            return
        if now_ns < self._wait_until_ns:
            return
        if self.doing is Doing.FAULT:
            self.doing, self._ask_again = Doing.WAITING, True
        if self.tasks:
            self._work(self.tasks[0], pose, now_ns)
        elif now_ns >= self._charge_from_ns and self._must_charge(telemetry):
            if self._trip is None or self._ask_again or self._trip.purpose is not Purpose.CHARGE:
                self._ask_route((Purpose.CHARGE,), pose, now_ns)
            else:
                self._drive(pose, now_ns)
        elif self._ask_again or (
            self._trip is None and pose.distance_to(self.config.home.x, self.config.home.y) > AT_HOME_M
        ):
            self._ask_route((), pose, now_ns)
        elif self._trip is not None and not self._trip.over:
            self._drive(pose, now_ns)
        else:
            self.doing = Doing.IDLE

    def _work(self, task: Task, pose: Pose, now_ns: int) -> None:
        if task.phase is Phase.QUEUED:
            task.phase = Phase.TO_PICKUP
            task.started_ns, task.energy_at_start_j = now_ns, self._energy_out_j()
            self._ask_again = True
        if self._ask_again or self._trip is None or self._trip.purpose not in (Purpose.PICKUP, Purpose.DROPOFF):
            if now_ns >= task.retry_at_ns:
                self._ask_route((Purpose.DROPOFF,) if task.aboard else (Purpose.PICKUP, Purpose.DROPOFF), pose, now_ns)
        else:
            self._drive(pose, now_ns)

    def _must_charge(self, telemetry: Telemetry) -> bool:
        soc, battery = telemetry.battery.soc, self.config.type.battery
        if soc is None or not self.config.chargers:
            return False
        on_the_way = self._trip is not None and self._trip.purpose is Purpose.CHARGE
        return soc < (battery.target_soc if on_the_way else battery.reserve_soc + CHARGE_MARGIN_SOC)

    def _ask_route(self, purposes: tuple[Purpose, ...], pose: Pose, now_ns: int) -> None:
        handling_s, stops = self.config.type.handling_s, []
        for purpose in purposes:
            match purpose:
                case Purpose.PICKUP:
                    stops.append(Stop(place=self.tasks[0].award.pickup, dwell_s=handling_s))
                case Purpose.DROPOFF:
                    stops.append(Stop(place=self.tasks[0].award.dropoff, dwell_s=handling_s))
                case _:
                    stops.append(Stop(place=None, dwell_s=self._charging_s()))
        self._numbers += 1
        name = MessageId(f"route-{self.config.session}-{self._numbers}")
        request = RouteRequest(request=name, pose=WirePose.of(pose), stops=tuple(stops))
        self._asked = (request, purposes, now_ns)
        self._say("route", request)

    def _charging_s(self) -> float:
        battery = self.config.type.battery
        soc = 0.0 if self._telemetry is None else self._telemetry.battery.soc or 0.0
        gain_w = battery.max_charge_w * battery.charge_efficiency - self.config.type.hotel_w
        return max(60.0, (battery.target_soc - soc) * battery.capacity_wh * CHARGE_S_PER_H / max(gain_w, 1.0))

    def _take_route(self, route: Route, now_ns: int) -> None:
        if self._asked is None or route.request != self._asked[0].request:
            return
        _, purposes, _ = self._asked
        self._asked, self._ask_again = None, False
        self._trip = _Trip(route, purposes if route.served else (), route.released)
        self._passed = 0
        if route.served:
            for task in self.tasks[:1]:
                task.give_up_ns = None
            return
        if not route.points:
            self._trip = None
        if Purpose.CHARGE in purposes:
            self._charge_from_ns = now_ns + ns(RETRY_CHARGER_S)
        elif self.tasks and purposes:
            task = self.tasks[0]
            task.retry_at_ns = now_ns + ns(RETRY_ROUTE_S)
            if task.give_up_ns is None:
                task.give_up_ns = now_ns + ns(GIVE_UP_ROUTE_S)
            elif now_ns >= task.give_up_ns:
                self._abort(f"no way: {route.reason}", now_ns)
        else:
            self._wait_until_ns = now_ns + ns(RETRY_ROUTE_S)
            self._ask_again = not route.points

    def _wait_no_longer(self, now_ns: int) -> None:
        """Ask for another way; a robot that still does not get on with that one gives its task up."""
        self._moved_ns = now_ns
        if self._waited_before and self.tasks and self.tasks[0].phase is not Phase.QUEUED:
            self._abort(f"no leave to drive for {2 * PATIENCE_S:g} s", now_ns)
        else:
            self._replan("no leave to drive for long")
        self._waited_before = True

    def _purpose(self) -> Purpose:
        return Purpose.HOME if self._trip is None else self._trip.purpose

    def _drive(self, pose: Pose, now_ns: int) -> None:
        trip = self._trip
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
        self.doing = {Purpose.CHARGE: Doing.CHARGING, Purpose.HOME: Doing.HOMING}.get(trip.purpose, Doing.WORKING)
        if self.tasks and trip.purpose in (Purpose.PICKUP, Purpose.DROPOFF):
            self.tasks[0].phase = Phase.TO_PICKUP if trip.purpose is Purpose.PICKUP else Phase.TO_DROPOFF
        self._start((go,) if act is None else (go, act), now_ns)

    def _final_yaw(self, trip: _Trip) -> float | None:
        match trip.purpose:
            case Purpose.PICKUP:
                return self.tasks[0].award.pickup.yaw
            case Purpose.DROPOFF:
                return self.tasks[0].award.dropoff.yaw
            case _:
                return None

    def _action(self, purpose: Purpose) -> Act | None:
        seconds = self.config.type.handling_s
        match purpose:
            case Purpose.PICKUP:
                award = self.tasks[0].award
                return Act("load", award.order, award.payload_kg, seconds)
            case Purpose.DROPOFF:
                award = self.tasks[0].award
                return Act("unload", award.order, award.payload_kg, seconds)
            case Purpose.CHARGE:
                return Act("charge", until_soc=self.config.type.battery.target_soc)
            case _:
                return None

    def _start(self, steps: tuple[Go | Act, ...], now_ns: int) -> None:
        self._numbers += 1
        self._job = Job(f"{self.config.robot}-{self._numbers}", steps)
        self._passed, self._stopping = 0, False
        self._moved_ns = now_ns
        self._effects.append(RunJob(self._job, JOB_LIMIT_S if not self._charges(self._job) else 10 * JOB_LIMIT_S))

    @staticmethod
    def _charges(job: Job) -> bool:
        return any(isinstance(step, Act) and step.kind == "charge" for step in job.steps)

    def _leg_done(self, now_ns: int) -> None:
        trip = self._trip
        if self._put_back is not None and trip is None:
            self._put_back = None
            self._ask_again = True
            return
        if trip is None:
            return
        purpose = trip.purpose
        trip.at, trip.leg = trip.end_of_leg(), trip.leg + 1
        self._last_position_ns = NEVER_NS
        if purpose is Purpose.HOME:
            self.doing = Doing.IDLE
        if purpose not in (Purpose.PICKUP, Purpose.DROPOFF) or self._put_back is not None or not self.tasks:
            return
        task, telemetry = self.tasks[0], self._telemetry
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
        energy_j = round(max(0.0, self._energy_out_j() - task.energy_at_start_j), 1)
        complete = Complete(contract=task.award.contract, steps=tuple(task.steps), energy_j=energy_j)
        self._must_say("complete", complete, now_ns, task.award.contract)
        metered = telemetry.battery.energy_out_j is not None
        self._done[task.award.contract] = _Done(
            task.appraisal, energy_j if metered else None, (now_ns - task.started_ns) / 1e9
        )
        while len(self._done) > MAX_UNSETTLED:
            self._done.pop(next(iter(self._done)))
        self.tasks.pop(0)
        self._ask_again = bool(self.tasks)

    def _learn(self, contract: ContractId, now_ns: int) -> None:
        """Learn from a task that was found good and paid."""
        done = self._done.pop(contract, None)
        if done is None:
            return
        elapsed_s = done.executed_s if self._aged_ns is None else (now_ns - self._aged_ns) / 1e9
        self._aged_ns = now_ns
        self.memory.settled(
            done.appraisal.plan,
            done.appraisal.quote,
            measured_j=done.measured_j,
            executed_s=done.executed_s,
            elapsed_s=max(0.0, elapsed_s),
        )
        self._effects.append(Remember(self.memory.export()))

    def _failed(self, reason: str, now_ns: int) -> None:
        """Give the task up, if there is one, and try again to move after a while."""
        self._ask_again = True
        if self._telemetry is not None and (self._telemetry.payload_kg or 0.0) < EMPTY_KG:
            self._put_back = None
        if self.tasks and self.tasks[0].phase is not Phase.QUEUED:
            self._abort(reason, now_ns)
        self.doing = Doing.FAULT
        self._wait_until_ns = now_ns + ns(RETRY_FAULT_S)

    def _abort(self, reason: str, now_ns: int) -> None:
        task, pose = self.tasks[0], None if self._telemetry is None else self._telemetry.pose
        body = Abort(
            contract=task.award.contract,
            reason=printable(reason),
            pose=WirePose.of(pose or self.config.home),
            aboard=task.aboard,
        )
        self._must_say("abort", body, now_ns, task.award.contract)
        self._drop(task, now_ns)

    def _wait_for_handover(self, telemetry: Telemetry, now_ns: int) -> None:
        """Stand until another robot has taken the parcel."""
        self.doing = Doing.FAULT
        taken = telemetry.payload_kg is not None and telemetry.payload_kg < EMPTY_KG
        if taken or (self._stranded_until_ns is not None and now_ns >= self._stranded_until_ns):
            self._stranded_until_ns = None
            self._ask_again = True

    def _unload_again(self, pose: Pose, award: Award, now_ns: int) -> None:
        """Set the parcel down where it was loaded: its order was cancelled meanwhile."""
        self._trip = None
        self._start((Go(pose), Act("unload", award.order, award.payload_kg, self.config.type.handling_s)), now_ns)

    def _replan(self, reason: str) -> None:
        """Have another route as soon as possible: stop driving, but finish loading and unloading."""
        self._ask_again = True
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        handling = bool(self.tasks) and self.tasks[0].phase in (Phase.LOADING, Phase.UNLOADING)
        if self._job is not None and not self._stopping and not handling:
            self._stopping = True
            self._effects.append(StopJob(reason))

    # --- reports -------------------------------------------------------------------------------------------------------

    def _report(self, pose: Pose, now_ns: int) -> None:
        for task in self.tasks:
            if now_ns - task.last_progress_ns >= ns(PROGRESS_S) or task.told != (task.phase, task.aboard):
                task.last_progress_ns, task.told = now_ns, (task.phase, task.aboard)
                progress = Progress(
                    contract=task.award.contract, phase=task.phase, pose=WirePose.of(pose), aboard=task.aboard
                )
                self._say("progress", progress)
        moving = self._telemetry is not None and self._telemetry.moving
        if now_ns - self._last_position_ns >= ns(POSITION_S if moving else RESTING_POSITION_S):
            self._last_position_ns = now_ns
            self._say("position", self._position(pose, moving=moving))

    def _position(self, pose: Pose, *, moving: bool) -> Position:
        trip, soc = self._trip, None if self._telemetry is None else self._telemetry.battery.soc
        passed = 0 if trip is None else trip.at + max(1, self._passed)
        return Position(
            pose=WirePose.of(pose),
            soc=None if soc is None else round(soc, 4),
            route=None if trip is None else trip.route.route,
            passed=passed,
            stops_done=0 if trip is None else trip.leg,
            moving=moving,
            doing=self._shown(),
            queue=len(self.tasks),
        )

    def _shown(self) -> str:
        if self.doing is Doing.WORKING and self.tasks:
            return self.tasks[0].phase
        return self.doing

    def _energy_out_j(self) -> float:
        """Return the energy drawn so far: the battery's own counter, else what the state of charge tells."""
        battery = None if self._telemetry is None else self._telemetry.battery
        if battery is None:
            return 0.0
        if battery.energy_out_j is not None:
            return battery.energy_out_j
        return -(battery.soc or 0.0) * self.config.type.battery.capacity_wh * J_PER_WH

    def _say(self, kind: str, body: AnyBody) -> None:
        self._numbers += 1
        self._effects.append(Say(kind, body, MessageId(f"{kind}-{self.config.session}-{self._numbers}")))

    def _must_say(self, kind: str, body: AnyBody, now_ns: int, contract: ContractId) -> None:
        name = MessageId(f"{kind}-{derive(self.config.robot, contract)}")
        self._effects.append(self._outbox.add(kind, body, name, now_ns))
