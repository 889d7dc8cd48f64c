"""Robots' agents against the market and the traffic control, with kinematic bodies: no clock, no I/O, one thread."""

import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Act, Battery, End, Go, Job, Link, Pose, Result, Telemetry
from fleet_market.commons.traffic import START_SLACK_M
from fleet_market.contracts import MarketTerms
from fleet_market.ids import Identifier, MessageId, OrderId, ZoneId
from fleet_market.maps.parking import separation_m
from fleet_market.market import Command, Market, OpenMarket
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.pricing import Tariff
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import (
    Announce,
    CancelOrder,
    OrderReply,
    OrderState,
    Position,
    PostOrder,
    Presence,
    RouteRequest,
    StatusReply,
    StatusRequest,
    WhyReply,
    WhyRequest,
    WirePose,
)
from fleet_market.robot.agent import Agent, AgentConfig
from fleet_market.robot.effects import ReleaseJob, RunJob, Say, StopJob
from fleet_market.robot.floor import lay_out

LAUNCH = Path(__file__).parents[1] / "launch"
TICK_S, S, CREDIT = 0.1, 10**9, 10**6
SPEED_MPS, CHARGE_PER_S = 0.7, 0.01
ZONE = ZoneId("main")


@dataclass
class Body:
    """A robot that moves from point to point without inertia, on a flat floor that counts what it uses."""

    pose: Pose
    soc: float
    kind: object
    parcels: dict[str, float] = field(default_factory=dict)
    seq: int = 0
    link: Link = Link.UP
    silent: tuple[str, ...] = ()
    stuck: bool = False
    job: Job | None = None
    step: int = 0
    begun_s: float = 0.0
    index: int = 0
    released: int = 0
    on_way_m: float = 0.0
    moving: bool = False
    used_j: float = 0.0
    passed: int = 0
    health: float | None = None
    cycles: float | None = None
    faults: tuple = ()
    meter: bool = True

    def telemetry(self, now_s):
        self.seq += 1
        soc = None if "battery_state" in self.silent else self.soc
        used_j = self.used_j if self.meter else None
        return Telemetry(
            seq=self.seq, stamp_ns=round(now_s * S), link=self.link, pose=self.pose, moving=self.moving,
            battery=Battery(soc=soc, energy_out_j=used_j, health=self.health, cycles=self.cycles),
            payload_kg=sum(self.parcels.values()), silent=self.silent, faults=self.faults,
        )  # fmt: skip

    def draw(self, energy_j):
        self.used_j += energy_j
        self.soc = max(0.0, self.soc - energy_j / (3600 * self.kind.battery.capacity_wh))

    def begin(self, job, now_s):
        assert self.job is None, "two jobs at once"
        self.job, self.step = job, -1
        self.next_step(now_s)

    def next_step(self, now_s):
        self.step, self.begun_s, self.index, self.passed = self.step + 1, now_s, 0, 0
        if self.step < len(self.job.steps) and isinstance(go := self.job.steps[self.step], Go):
            self.released = go.released if go.path else 1


@dataclass
class Yard:
    """A fleet on its floor, its market, and the messages between them."""

    seed: int = 0
    lossy: float = 0.0
    terms: MarketTerms = field(default_factory=MarketTerms)
    fleet_file: str = "warehouse.yaml"
    max_tasks: int = 3
    parcels: int = 1
    capacity_wh: float = 480.0
    measures: frozenset = frozenset({"pose", "battery", "energy", "payload"})

    def __post_init__(self):
        self.now_s, self.random = 0.0, random.Random(self.seed)
        fleet = load_fleet(LAUNCH / "fleets" / self.fleet_file)
        self.floor = lay_out(fleet, load_map(LAUNCH / "maps/warehouse.yaml"), source="fleet")
        self.traffic, self.market = self.floor.traffic(), Market(self.floor.places)
        self.heard, self.unconfirmed, self.replies, self.numbers = [], {}, {}, 0
        self.bodies, self.agents, self.results, self.epoch = {}, {}, deque(), 1
        self.nearest_m, self.requests = math.inf, Counter()
        self.said = {robot.id: [] for robot in fleet.robots}
        self.types = {robot.id: robot for robot in fleet.robots}
        self.open(fleet.customers)
        for robot in fleet.robots:
            self.bodies[robot.id] = Body(self.floor.homes[robot.id], robot.soc, self.kind(robot.id))
            self.start(robot.id)

    def open(self, customers):
        opening = OpenMarket(zone=ZONE, epoch=self.epoch, seed=str(self.seed), terms=self.terms, customers=customers)
        self.give(SELF, opening)

    def kind(self, name):
        kind = self.types[name].type
        battery = kind.battery.model_copy(update={"capacity_wh": self.capacity_wh})
        return kind.model_copy(update={"max_tasks": self.max_tasks, "parcels": self.parcels, "battery": battery})

    def start(self, name, session=1):
        robot = self.types[name]
        config = AgentConfig(
            name, self.kind(name), self.floor.homes[name], self.floor.chargers, Tariff(300_000), self.floor.roadmap, session
        )
        self.agents[name] = Agent(config, measures=self.measures)
        announce = Announce(
            zone=ZONE, owner=robot.owner, robot_type=robot.type.name, max_payload_kg=robot.type.max_payload_kg,
            max_speed_mps=1.0, battery_wh=480.0, home=WirePose.of(config.home),
        )  # fmt: skip
        self.give(name, announce, sid=session)
        self.give(name, Presence(status="online", zone=ZONE), sid=session)

    def kill(self, name):
        """The robot's process dies: its will is heard, its body coasts no further."""
        agent = self.agents.pop(name)
        self.bodies[name].job, self.bodies[name].moving = None, False
        self.give(name, Presence(status="lost", zone=ZONE), sid=agent.config.session)
        self.route(self.traffic.lost(name, self.now_ns))

    @property
    def now_ns(self):
        return round(self.now_s * S)

    def give(self, source, body, name=None, sid=1):
        """The market takes one input as its daemon would hand it over; returns what it answers."""
        name = None if name is None else MessageId(name)
        if (source, name) in self.replies:
            return self.deliver(self.replies[source, name])
        if isinstance(body, RouteRequest | Position):
            control = self.traffic.request if isinstance(body, RouteRequest) else self.traffic.position
            self.requests[source] += isinstance(body, RouteRequest)
            if isinstance(body, Position):
                self.market.handle(Command(source, body, self.now_ns))
            self.route(control(source, body, self.now_ns))
            return []
        out = self.market.handle(Command(source, body, self.now_ns, name, sid))
        for done in out.done:
            self.unconfirmed.pop(done, None)
        self.unconfirmed |= {send.id: send for send in out.sends if send.id is not None}
        if name is not None and out.changed:
            self.replies[source, name] = out.sends
        return self.deliver(out.sends)

    def deliver(self, sends):
        for send in sends:
            self.post(send)
        return [send.body for send in sends]

    def post(self, send):
        """A message of the market goes out, unless it gets lost."""
        address = topics.parse(send.topic)
        self.numbers += 1
        name = send.id or MessageId(f"m{self.numbers}")
        wire = encode(Envelope(id=name, ts=self.now_ns, src=Identifier(SELF), sid=self.epoch, body=send.body))
        for robot in self.agents:
            concerned = address.direction == "zone" or (address.direction == "to" and address.name == robot)
            if concerned and self.random.random() >= self.lossy:
                self.heard.append((robot, name, decode(wire, limit=65536).body))

    def route(self, messages):
        for robot, body in messages:
            self.numbers += 1
            if self.random.random() >= self.lossy:
                self.heard.append((robot, MessageId(f"m{self.numbers}"), body))

    def tick(self):
        self.now_s += TICK_S
        self.give(SELF, tick(self.now_ns).body)
        if round(self.now_s / TICK_S) % 50 == 0:
            for send in list(self.unconfirmed.values()):
                self.post(send)
        heard, self.heard = self.heard, []
        for robot, name, body in heard:
            if robot in self.agents:
                self.carry_out(robot, self.agents[robot].hear(name, body, self.now_ns))
        for robot, body in self.bodies.items():
            if robot in self.agents:
                self.move(robot, body)
                if robot in self.agents:
                    telemetry = body.telemetry(self.now_s)
                    self.carry_out(robot, self.agents[robot].sense(telemetry, body.passed, self.now_ns))
        for a, b in combinations(self.bodies.values(), 2):
            self.nearest_m = min(self.nearest_m, a.pose.distance_to(b.pose.x, b.pose.y))

    def carry_out(self, robot, effects):
        body = self.bodies[robot]
        for effect in effects:
            match effect:
                case Say(_, said, name):
                    self.said[robot].append(said)
                    if self.random.random() >= self.lossy:
                        self.give(robot, decode(encode(self.envelope(robot, said, name))).body, name)
                case RunJob(job, _):
                    body.begin(job, self.now_s)
                case ReleaseJob(job_id, points) if body.job is not None and body.job.id == job_id:
                    body.released = max(body.released, points)
                case StopJob() if body.job is not None:
                    self.end(robot, body, End.CANCELLED, "stopped")

    def envelope(self, robot, body, name):
        return Envelope(id=name, ts=self.now_ns, src=Identifier(robot), sid=1, body=body)

    def end(self, robot, body, how, reason=""):
        job, body.job, body.moving = body.job, None, False
        result = Result(job.id, how, body.step, reason, standstill=True)
        self.carry_out(robot, self.agents[robot].job_ended(result, self.now_ns))

    def move(self, robot, body):
        body.draw(body.kind.hotel_w * TICK_S)
        body.moving = False
        if body.job is None or body.stuck:
            return
        if body.step >= len(body.job.steps):
            self.end(robot, body, End.DONE)
            return
        step = body.job.steps[body.step]
        if isinstance(step, Act):
            self.act(robot, body, step)
            return
        path = step.path or ((step.pose.x, step.pose.y),)
        left_m = SPEED_MPS * TICK_S
        while body.index < min(body.released, len(path)) and left_m > 0:
            x, y = path[body.index]
            gap_m = body.pose.distance_to(x, y)
            share = min(1.0, left_m / gap_m) if gap_m else 1.0
            at = (body.pose.x + share * (x - body.pose.x), body.pose.y + share * (y - body.pose.y))
            body.pose, left_m = Pose(*at, body.pose.yaw), left_m - gap_m
            body.moving = True
            body.draw(30.0 * share * gap_m)
            if share < 1.0:
                break
            body.index += 1
        body.passed = body.index
        if body.index == len(path):
            body.moving = False
            self.step_done(robot, body)

    def act(self, robot, body, act):
        if act.kind == "charge":
            body.soc = min(1.0, body.soc + CHARGE_PER_S * TICK_S)
            if body.soc >= act.until_soc:
                self.step_done(robot, body)
            return
        if self.now_s - body.begun_s < act.seconds:
            return
        if act.kind == "load":
            for other in self.bodies.values():
                if act.parcel in other.parcels and other is not body:
                    assert body.pose.distance_to(other.pose.x, other.pose.y) < 4.0
                    del other.parcels[act.parcel]
            body.parcels[act.parcel] = act.mass_kg
            assert len(body.parcels) <= body.kind.parcels
            assert sum(body.parcels.values()) <= body.kind.max_payload_kg
        else:
            assert act.parcel in body.parcels, "a parcel appeared from nowhere"
            del body.parcels[act.parcel]
        self.step_done(robot, body)

    def step_done(self, robot, body):
        number, job = body.step, body.job.id
        body.next_step(self.now_s)
        self.carry_out(robot, self.agents[robot].step_done(job, number, self.now_ns))

    # --- a customer ---

    def order(self, name, pickup, dropoff, **more):
        fields = {"payload_kg": 2.0, "deadline_s": 600.0, "max_price_uc": 12 * CREDIT} | more
        replies = self.give(
            "demo", PostOrder(order=OrderId(name), pickup=pickup, dropoff=dropoff, **fields), f"post-{name}"
        )
        (reply,) = (b for b in replies if isinstance(b, OrderReply))
        assert reply.result == "accepted", reply
        return self.market.state.orders[OrderId(name)]

    def cancel(self, name):
        replies = self.give("demo", CancelOrder(order=OrderId(name)), f"cancel-{name}")
        return next(b.result for b in replies if isinstance(b, OrderReply))

    def why(self, name):
        (reply,) = self.give("demo", WhyRequest(order=OrderId(name)), f"why-{self.now_s}")
        assert isinstance(reply, WhyReply)
        return reply

    def until(self, condition, within_s=600.0):
        end_s = self.now_s + within_s
        while not condition():
            assert self.now_s < end_s, f"not within {within_s:g} s"
            self.tick()

    def run(self, seconds):
        for _ in range(round(seconds / TICK_S)):
            self.tick()

    def holder(self, order):
        return next((n for n, a in self.agents.items() if any(t.award.order == order for t in a.tasks)), None)

    def all_over(self):
        return all(o.state in OVER for o in self.market.state.orders.values())

    def check_books(self):
        (status,) = self.give("demo", StatusRequest(what="ledger"), f"status-{self.now_s}")
        assert isinstance(status, StatusReply)
        assert status.sum_debits_uc == status.sum_credits_uc
        assert self.market.ledger.audit() == []

    def check_end(self):
        """All is over: no escrow, nobody at work, no parcel aboard, everybody kept apart."""
        self.check_books()
        assert self.market.ledger.escrow_left_uc() == 0
        assert self.nearest_m >= separation_m(self.floor.footprint_radius_m) - START_SLACK_M - 0.01


OVER = (OrderState.SETTLED, OrderState.EXPIRED, OrderState.FAILED, OrderState.CANCELLED)
PLACES = [f"shelf-{row}{n}" for row in "abcd" for n in range(1, 5)] + [f"receiving-{n}" for n in range(1, 5)]
DOCKS = [f"shipping-{n}" for n in range(1, 5)]
