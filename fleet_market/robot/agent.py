"""The robot's agent: bids, holds contracts, gets the right of way, has its driver do the work, and proves it.

A state machine without clock and without I/O: messages, telemetry and results of jobs go in, effects come out. What it
knows is in `situation`; `dealing` answers the market, `resale` trades contracts with other robots, `execution` does the
work, `losses` handles what comes to nothing, `reports` says how far it is.
"""

from __future__ import annotations

from fleet_market.body import End, Pose, Result, Telemetry
from fleet_market.ids import MessageId
from fleet_market.protocol.messages import (
    AnyBody,
    Auctioneer,
    Award,
    Call,
    Cancel,
    FairReply,
    Keep,
    Prepare,
    Reauction,
    Receipt,
    Release,
    Reroute,
    Route,
    Settle,
)
from fleet_market.robot.bidding import Bidder, Offer, Refusal
from fleet_market.robot.dealing import Dealer
from fleet_market.robot.effects import Effect, ReleaseJob
from fleet_market.robot.execution import PATIENCE_S, Worker
from fleet_market.robot.learning import Learner
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand
from fleet_market.robot.reports import Reporter
from fleet_market.robot.resale import Reseller
from fleet_market.robot.situation import AgentConfig, Doing, Situation, Trip
from fleet_market.robot.surveys import Survey, wanted
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

__all__ = ["Agent", "AgentConfig", "Doing"]


class Agent:
    """One robot's agent. Every public call returns what is to be done now.

    Parameters
    ----------
    config : AgentConfig
    memory : Memory, optional
        What the robot has learned before; a new robot knows its data sheet.
    bidder : Bidder, optional
        Prices the lots and finds their places in the queue.
    measures : frozenset of str
        What of the telemetry is measured, as `DriverSpec.measures` says; from what is derived no energy is learned.
    """

    def __init__(
        self,
        config: AgentConfig,
        memory: Memory | None = None,
        bidder: Bidder | None = None,
        *,
        measures: frozenset[str] = frozenset(),
    ) -> None:
        self.config = config
        self.memory = memory or Memory(config.type)
        self.situation = Situation(config, self.memory, measures)
        self.epoch: int | None = None
        self._voice = Voice(config.robot, config.session)
        bidder = bidder or self._bidder()
        self._legs = bidder.legs
        self._worker = Worker(self.situation, self._voice, bidder)
        self._losses = self._worker.losses
        self._dealer = Dealer(self.situation, self._voice, bidder, self._losses.replan)
        self._reseller = Reseller(self.situation, self._voice, bidder, self._dealer)
        self._learner = Learner(self.situation, self._voice)
        self._reporter = Reporter(self.situation, self._voice, self._worker.meter)

    def _bidder(self) -> Bidder:
        config = self.config
        return Bidder(config.type, config.roadmap, config.chargers, config.tariff, self.memory, config.surfaces)

    @property
    def doing(self) -> Doing:
        """What the robot is about."""
        return self.situation.doing

    @property
    def tasks(self) -> list[Task]:
        """The contracts that it holds."""
        return self.situation.tasks

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to be done under contract, the market knows it, and the robot is not on its way."""
        now = self.situation
        return not now.tasks and self._voice.heard and now.doing not in {Doing.WORKING, Doing.HOMING, Doing.WAITING}

    def price(self, lot: Errand, now_ns: int) -> Offer | Refusal:
        """Return what the robot would ask for a lot now, or why it would not; it asks for nothing by that."""
        return self._dealer.price(lot, now_ns)

    def energy_so_far_j(self, task: Task) -> float | None:
        """Return what was measured for a contract until now, joules; None where the battery has no meter."""
        return self._worker.meter.so_far_j(task)

    def hear(self, message: MessageId, body: AnyBody, now_ns: int) -> list[Effect]:
        """Take a message of the market."""
        now = self.situation
        match body:
            case Auctioneer():
                self._follow(body)
            case Call():
                self._dealer.take_page(body, now_ns)
            case Award() if self.epoch is None or body.epoch >= self.epoch:
                self._dealer.take_award(body, now_ns)
                self._reseller.consider(now_ns)
            case FairReply() if self._reseller.adviser.hear(body, now_ns):
                self._reseller.offer(now_ns)
            case Cancel():
                self._losses.lose(body, now_ns)
                self._voice.say("receipt", Receipt(of=message))
            case Reauction():
                self._reseller.answer(body, now_ns)
            case Prepare():
                self._reseller.let_go(body, now_ns)
            case Keep():
                self._reseller.keep(body)
                self._voice.say("receipt", Receipt(of=message))
            case Settle():
                self._learner.learn(body.contract, now_ns)
                self._voice.say("receipt", Receipt(of=message))
            case Receipt():
                self._voice.confirm(body)
            case Route():
                self._worker.take_route(body, now_ns)
            case Release() | Reroute() if now.trip is not None and body.route == now.trip.route.route:
                self._keep_to_way(body, now.trip)
            case _:
                pass
        return self._decide(now_ns)

    def ways_wanted(self, call: Call) -> list[Survey]:
        """Return the ways of which the length, as the robot's own planner finds it, would better the ask."""
        telemetry = self.situation.telemetry
        return [] if telemetry is None or telemetry.pose is None else wanted(self._legs, telemetry.pose, call.lots)

    def survey(self, way: Survey, length_m: float) -> None:
        """Take the length of a way that the robot's own planner has found."""
        self._legs.survey(way.start, way.place, length_m)

    def sense(self, telemetry: Telemetry, passed: int, now_ns: int) -> list[Effect]:
        """Take the newest telemetry, and how many points of the running job's path lie behind the robot."""
        now = self.situation
        now.telemetry = telemetry
        if telemetry.battery.soc is not None:
            self.memory.observe(telemetry.battery.soc, now_ns)
        self.memory.observe_age(telemetry.battery.health, telemetry.battery.cycles)
        self._losses.look_at_faults(telemetry, now_ns)
        if now.job is not None:
            if passed != now.passed or telemetry.moving or self._worker.charges(now.job):
                now.moved_ns, now.waited_before = now_ns, False
            elif now_ns - now.moved_ns > ns(PATIENCE_S):
                self._worker.wait_no_longer(now_ns)
            now.passed = passed
        self._voice.repeat(now_ns)
        if telemetry.pose is not None:
            self._reporter.report(telemetry.pose, now_ns)
        return self._decide(now_ns)

    def step_done(self, job_id: str, step: int, now_ns: int) -> list[Effect]:
        """Take note that a step of the running job is done."""
        now = self.situation
        if now.job is not None and now.job.id == job_id and step == 0 and len(now.job.steps) > 1:
            self._worker.arrived()
        return self._decide(now_ns)

    def job_ended(self, result: Result, now_ns: int) -> list[Effect]:
        """Take the result of a job."""
        now = self.situation
        if now.job is None or result.job_id != now.job.id:
            return self._decide(now_ns)
        now.job, now.stopping = None, False
        if result.end is End.DONE:
            self._worker.leg_done(now_ns)
        elif result.end is End.CANCELLED:
            now.ask_again = True
        else:
            self._losses.failed(f"{result.end}: {result.reason}", now_ns)
        now.passed = 0
        self._reseller.offer(now_ns)
        return self._decide(now_ns)

    def _keep_to_way(self, body: Release | Reroute, trip: Trip) -> None:
        """Take what the traffic control says about the route that the robot is on."""
        if isinstance(body, Reroute):
            self._losses.replan(body.reason)
            return
        trip.released = max(trip.released, body.released)
        if (job := self.situation.job) is not None:
            self._voice.want(ReleaseJob(job.id, trip.released - trip.at))

    def _follow(self, body: Auctioneer) -> None:
        if self.epoch is not None and body.epoch > self.epoch:
            self.situation.asked = None
            self._losses.replan("the market has started anew")
        self.epoch = max(body.epoch, self.epoch or 0)

    def _decide(self, now_ns: int) -> list[Effect]:
        """Begin what is to be done next, and return all effects."""
        now = self.situation
        pose: Pose | None = None if now.telemetry is None else now.telemetry.pose
        if now.telemetry is not None and pose is not None and now.job is None and now.asked is None:
            self._worker.begin_next(now.telemetry, pose, now_ns)
        else:
            self._worker.ask_again(now_ns)
        return self._voice.take()
