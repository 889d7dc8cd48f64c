"""Robots' agents against the market and the traffic control, with kinematic bodies: no clock, no I/O, one thread."""

import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Act, Battery, End, Go, Job, Link, Pose, Result, Telemetry
from fleet_market.commons.traffic import START_SLACK_M, separation_m
from fleet_market.contracts import MarketTerms
from fleet_market.ids import Identifier, MessageId, OrderId, ZoneId
from fleet_market.market import Command, Market, OpenMarket
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.pricing import Tariff
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import (
    Announce,
    CancelOrder,
    Complete,
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
from fleet_market.robot.agent import Agent, AgentConfig, Doing
from fleet_market.robot.effects import ReleaseJob, RunJob, Say, StopJob
from fleet_market.robot.floor import lay_out

LAUNCH = Path(__file__).parents[2] / "launch"
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

    def telemetry(self, now_s):
        self.seq += 1
        return Telemetry(
            seq=self.seq, stamp_ns=round(now_s * S), link=self.link, pose=self.pose, moving=self.moving,
            battery=Battery(soc=self.soc, energy_out_j=self.used_j), payload_kg=sum(self.parcels.values()),
            silent=self.silent,
        )  # fmt: skip

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
            self.bodies[robot.id] = Body(self.floor.homes[robot.id], robot.soc, robot.type)
            self.start(robot.id)

    def open(self, customers):
        opening = OpenMarket(zone=ZONE, epoch=self.epoch, seed=str(self.seed), terms=self.terms, customers=customers)
        self.give(SELF, opening)

    def start(self, name, session=1):
        robot = self.types[name]
        kind = robot.type.model_copy(update={"max_tasks": self.max_tasks})
        config = AgentConfig(
            name, kind, self.floor.homes[name], self.floor.chargers, Tariff(300_000), self.floor.roadmap, session
        )
        self.agents[name] = Agent(config)
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
            return self.replies[source, name]
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
        for send in out.sends:
            if send.id is not None:
                self.unconfirmed[send.id] = send
            self.post(send)
        bodies = [send.body for send in out.sends]
        if name is not None and out.changed:
            self.replies[source, name] = bodies
        return bodies

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
        body.used_j += body.kind.hotel_w * TICK_S
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
            body.moving, body.used_j = True, body.used_j + 30.0 * share * gap_m
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


def test_an_order_is_bid_for_driven_proved_and_paid():
    yard = Yard()
    order = yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    yard.run(60)
    assert all(agent.doing in (Doing.IDLE, Doing.CHARGING) for agent in yard.agents.values())
    for name, body in yard.bodies.items():
        if yard.agents[name].doing is Doing.IDLE:
            assert body.pose.distance_to(yard.floor.homes[name].x, yard.floor.homes[name].y) < 0.3
    yard.check_end()


def test_two_orders_in_a_row_are_queued_by_one_robot_and_both_are_done():
    yard = Yard()
    orders = [yard.order(f"o{i}", PLACES[i], DOCKS[i % 4]) for i in range(12)]
    queues = 0
    while not yard.all_over():
        yard.tick()
        queues = max(queues, *(len(agent.tasks) for agent in yard.agents.values()))
        assert yard.now_s < 900
    assert [o.state for o in orders] == [OrderState.SETTLED] * 12
    assert queues >= 2
    yard.check_end()


@pytest.mark.slow
def test_a_burst_of_forty_orders_on_six_robots_is_awarded_in_one_batch_and_done():
    yard = Yard(max_tasks=16)
    yard.run(1)
    orders = [
        yard.order(f"o{i}", PLACES[i % 20], DOCKS[i % 4], deadline_s=4000.0, max_price_uc=60 * CREDIT) for i in range(40)
    ]
    yard.until(lambda: not any(o.state in (OrderState.SCHEDULED, OrderState.OPEN) for o in orders), 5)
    assert len({o.records[-1].call for o in orders}) == 1, "one batch"
    assert max(o.records[-1].round for o in orders) > len(orders) / len(yard.agents)
    assert all(o.ask_uc <= o.price_uc <= o.max_price_uc for o in orders)
    yard.until(yard.all_over, 2500)
    assert [(o.state, o.attempts) for o in orders] == [(OrderState.SETTLED, 1)] * 40
    yard.check_end()


def test_the_market_hears_at_once_how_far_a_task_is_and_whether_the_parcel_is_aboard():
    yard = Yard()
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: order.state is OrderState.EXECUTING)
    behind = 0
    while order.state is OrderState.EXECUTING:
        yard.tick()
        for contract in yard.market.state.contracts.values():
            told = (contract.phase, contract.aboard)
            known = [(t.phase, t.aboard) for t in yard.agents[contract.robot].tasks if t.award.contract == contract.id]
            behind = behind + 1 if known and told != known[0] else 0
            assert behind <= 1, (told, known)
    assert order.state is OrderState.SETTLED


@pytest.mark.parametrize("aboard", [False, True])
def test_the_task_of_a_killed_robot_is_done_by_another_with_the_parcel_if_it_is_aboard(aboard):
    yard = Yard()
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    body = yard.bodies[victim]
    at_work = (lambda: "o1" in body.parcels and body.moving) if aboard else (lambda: body.moving)
    yard.until(at_work)
    yard.run(4)
    yard.kill(victim)
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    assert order.robot != victim
    assert not body.parcels
    yard.check_end()


def test_a_robot_that_comes_back_to_life_goes_home_and_works_again():
    yard = Yard()
    yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    yard.until(lambda: yard.bodies[victim].moving)
    yard.run(3)
    yard.kill(victim)
    yard.run(5)
    yard.start(victim, session=2)
    yard.until(lambda: yard.market.state.orders["o1"].state in OVER)
    home = yard.floor.homes[victim]
    yard.until(lambda: yard.bodies[victim].pose.distance_to(home.x, home.y) < 0.3)
    yard.check_end()


@pytest.mark.parametrize("aboard", [False, True])
def test_a_robot_that_cannot_move_gives_its_task_up_and_another_does_it(aboard):
    yard = Yard()
    order = yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    body = yard.bodies[victim]
    yard.until(lambda: body.moving and (not aboard or "o1" in body.parcels))
    body.stuck = True
    yard.run(3)
    yard.end(victim, body, End.FAILED, "blocked: told to drive, but does not move")
    assert yard.agents[victim].doing is Doing.FAULT
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    assert order.robot != victim
    body.stuck = False
    yard.run(300)
    assert not body.parcels
    assert yard.agents[victim].doing in (Doing.IDLE, Doing.CHARGING)
    yard.check_end()


def test_a_robot_that_never_gets_leave_to_drive_gives_its_task_up():
    yard = Yard()
    order = yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    body = yard.bodies[victim]
    yard.until(lambda: body.moving)
    body.stuck = True  # its driver says nothing: as if it waited for others
    yard.until(lambda: order.state in OVER, 900)
    assert order.state is OrderState.SETTLED
    assert order.robot != victim


@pytest.mark.parametrize("when", ["queued", "driving", "loading", "aboard"])
def test_a_cancelled_order_is_dropped_whatever_the_robot_is_doing(when):
    yard = Yard()
    order = yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    robot = yard.holder("o1")
    agent, body = yard.agents[robot], yard.bodies[robot]
    condition = {
        "queued": lambda: True,
        "driving": lambda: body.moving,
        "loading": lambda: body.job is not None and body.step == 1,
        "aboard": lambda: "o1" in body.parcels and body.moving,
    }[when]
    yard.until(condition)
    (reply,) = (b for b in yard.give("demo", CancelOrder(order=OrderId("o1")), "cancel-1") if isinstance(b, OrderReply))
    assert reply.result == "cancelled", "confirmed at once"
    pickup = order.pickup
    yard.run(400)
    assert order.state is OrderState.CANCELLED
    assert not body.parcels
    assert agent.doing in (Doing.IDLE, Doing.CHARGING)
    if when == "aboard":
        down = [b for b in yard.said[robot] if isinstance(b, Complete)][-1].steps[-1].pose
        assert math.dist((down.x, down.y), (pickup.x, pickup.y)) <= pickup.radius_m + 0.1
        assert order.price_uc > 0
    yard.check_end()


def test_a_robot_below_its_reserve_charges_first_and_two_never_share_a_charger():
    yard = Yard()
    for name, body in yard.bodies.items():
        body.soc = 0.1 if name.startswith("runner") else 0.9
    at_charger = Counter()
    for _ in range(round(500 / TICK_S)):
        yard.tick()
        for k, charger in enumerate(yard.floor.chargers):
            here = [n for n, b in yard.bodies.items() if b.pose.distance_to(charger.x, charger.y) < 0.3]
            assert len(here) <= 1
            at_charger.update((k, n) for n in here)
    assert {name for _, name in at_charger} == {"runner-1", "runner-2", "runner-3"}
    assert all(body.soc >= 0.79 for name, body in yard.bodies.items() if name.startswith("runner"))
    yard.check_end()


def test_whoever_cannot_do_an_order_says_why():
    yard = Yard()
    for body in yard.bodies.values():
        body.soc = 0.9
    yard.bodies["carrier-1"].silent = ("battery_state",)
    yard.bodies["carrier-2"].link = Link.STALE
    yard.bodies["carrier-3"].soc = 0.201
    yard.tick()
    order = yard.order("heavy", "shelf-a1", "shipping-1", payload_kg=15.0, deadline_s=100.0)
    yard.until(lambda: order.records)
    outcomes = {line.robot: line.outcome for line in yard.why("heavy").records[-1].asks}
    assert outcomes["carrier-1"] == "declined: silent (battery_state)"
    assert outcomes["carrier-2"].startswith("declined: silent")
    assert outcomes["carrier-3"].startswith("declined: charging (20%, back at 25%")
    assert {outcomes[f"runner-{i}"] for i in (1, 2, 3)} == {"declined: payload (carries 8 kg at most)"}


def test_after_a_restart_of_the_market_robots_ask_for_their_way_again_and_finish():
    yard = Yard()
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: yard.holder("o1") is not None)
    body = yard.bodies[yard.holder("o1")]
    yard.until(lambda: "o1" in body.parcels and body.moving)
    yard.traffic, yard.epoch = yard.floor.traffic(), 2
    for robot in yard.bodies:
        yard.traffic.lost(robot, yard.now_ns)
    yard.open({})
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED


@given(seed=st.integers(0, 2**16), lossy=st.sampled_from([0.0, 0.05]), data=st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_all_orders_end_and_no_money_is_lost(seed, lossy, data):
    yard = Yard(seed=seed, lossy=lossy)
    names = iter(range(1000))
    for _ in range(data.draw(st.integers(1, 8))):
        match data.draw(st.sampled_from(["order", "order", "order", "kill", "cancel"])):
            case "order":
                ends = data.draw(st.tuples(st.sampled_from(PLACES), st.sampled_from(DOCKS)))
                yard.order(f"o{next(names)}", *ends, payload_kg=data.draw(st.sampled_from([1.0, 8.0, 18.0])))
            case "kill" if len(yard.agents) > 3:
                yard.kill(data.draw(st.sampled_from(sorted(yard.agents))))
            case "cancel" if yard.market.state.orders:
                order = data.draw(st.sampled_from(sorted(yard.market.state.orders)))
                yard.give("demo", CancelOrder(order=order), f"cancel-{order}")
        yard.run(data.draw(st.integers(1, 40)))
        yard.check_books()
    yard.until(yard.all_over, 1500)
    yard.check_end()
