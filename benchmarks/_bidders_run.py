"""A fleet whose halves have different bidding software, on the real market core."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, TypeAlias

from benchmarks._appending import AppendingBidder, Jobs
from benchmarks._burst_site import SOC, ZONE, Site, Size, robot_id
from benchmarks._reoptimising import ReoptimisingBidder
from fleet_market.contracts import MarketTerms
from fleet_market.ids import ContractId, MessageId, OrderId, OwnerId, RobotId
from fleet_market.ledger import AccountKind, account
from fleet_market.market import Command, Market, OpenMarket, Send
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.pricing import TaskPlan
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    ASK_PARTS,
    Accept,
    Ask,
    AskLine,
    Award,
    Body,
    Call,
    Complete,
    OrderState,
    StepEvidence,
    WirePose,
)
from fleet_market.robot.bidding import Bidder, line_of, sealed
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue, Visit
from fleet_market.robot.situation import AgentConfig
from fleet_market.units import ns

ROBOTS, PARCELS = 4, 3
"""Two of each kind of software, of these one of each type of body; parcels that a body carries at once."""
BATCH_S, ORDERS = 15.0, (0, 0, 1, 1, 2)
"""A batch every so many seconds, each with one of these numbers of new orders, all equally likely."""
DEADLINE_S, LONG_S = 600.0, 86_400.0
NOT_COSTS = tuple(ASK_PARTS.index(part) for part in ("risk", "opportunity"))
"""Parts of an ask that cost nothing when a task is done as expected."""


Software: TypeAlias = Literal["cheap", "usual", "expensive"]
"""Usual is the product's own."""


@dataclass(slots=True)
class Tally:
    """What one robot has done, and what it had from it."""

    software: Software
    first: bool
    """Whether it is of the first half of the fleet."""
    done: int = 0
    paid_uc: int = 0
    cost_uc: int = 0
    driven_s: float = 0.0
    pricing_s: float = 0.0
    """CPU time of its bidding software."""
    longest_s: float = 0.0
    """The same for the dearest batch."""
    cut_off: int = 0
    """How often a search was ended by its budget."""

    @property
    def profit_uc(self) -> int:
        """What is left of what it was paid."""
        return self.paid_uc - self.cost_uc


@dataclass(slots=True)
class BiddersRun:
    """What a run has shown."""

    tallies: list[Tally]
    posted: int
    unsold: int
    simulated_s: float


@dataclass(slots=True)
class _Task:
    contract: ContractId
    errand: Errand
    steps: list[StepEvidence] = field(default_factory=list)
    energy_j: float = 0.0


class Driver:
    """One robot: its queue, and how far it has come. It drives as it planned, and all takes as long as expected.

    Batteries stay as they are: charging is no part of the question.
    """

    def __init__(self, config: AgentConfig, bidder: Bidder, tally: Tally) -> None:
        self.robot, self.tally = config.robot, tally
        self._bidder, self._handling_s = bidder, config.type.handling_s
        self._pose, self._free_ns = config.home, 0
        """Where and when it is free: a visit that has begun counts as made."""
        self._tasks: dict[OrderId, _Task] = {}
        self._visits: tuple[Visit, ...] = ()
        self._seen: dict[OrderId, Errand] = {}
        self._proofs: deque[tuple[int, Complete]] = deque()
        self._batch_s = 0.0

    def begin_batch(self) -> None:
        """Give the bidding software a new budget."""
        self._batch_s = 0.0
        if isinstance(self._bidder, ReoptimisingBidder):
            self._bidder.new_batch()

    def end_batch(self) -> None:
        """Take note of what the software has taken."""
        self.tally.pricing_s += self._batch_s
        self.tally.longest_s = max(self.tally.longest_s, self._batch_s)
        if isinstance(self._bidder, ReoptimisingBidder):
            self.tally.cut_off = self._bidder.cut_off

    def answer(self, call: Call, now_ns: int) -> Ask:
        """Return its asks."""
        begun = time.process_time()
        self._seen |= {lot.order: Errand.of(lot) for lot in call.lots}
        queue = self._queue(now_ns)
        for order in call.won:
            queue = self._bidder.taken(self._seen[order], queue)
        answers = self._bidder.asks([self._seen[lot.order] for lot in call.lots], queue)
        self._batch_s += time.process_time() - begun
        lines = [line_of(number, answer) for number, answer in enumerate(answers)]
        asks = [line for line in lines if isinstance(line, AskLine)]
        declines = [line for line in lines if not isinstance(line, AskLine)]
        return sealed(call.call, call.round, WirePose.of(queue.end), asks, declines)

    def take(self, award: Award, now_ns: int) -> None:
        """Put an order that it has won in its queue."""
        begun = time.process_time()
        errand = Errand.of(award)
        self._visits = self._bidder.taken(errand, self._queue(now_ns)).visits
        self._tasks[errand.order] = _Task(award.contract, errand)
        self._batch_s += time.process_time() - begun

    def drive(self, until_ns: int) -> list[Complete]:
        """Make the visits that begin before `until_ns`; return the proofs of what is done by then."""
        while self._visits and self._free_ns < until_ns:
            self._visit()
        if not self._visits:
            self._free_ns = max(self._free_ns, until_ns)
        found = []
        while self._proofs and self._proofs[0][0] <= until_ns:
            found.append(self._proofs.popleft()[1])
        return found

    def _queue(self, now_ns: int) -> Queue:
        """Return what it is going to do from when it is next free."""
        errands = tuple(task.errand for task in self._tasks.values())
        return Queue(self._pose, max(now_ns, self._free_ns), SOC, errands, self._visits)

    def _visit(self) -> None:
        visit, self._visits = self._visits[0], self._visits[1:]
        task, tally = self._tasks[visit.order], self.tally
        place = task.errand.dropoff if task.errand.pickup is None else task.errand.pickup
        aboard_kg = sum(other.errand.payload_kg for other in self._tasks.values() if other.errand.pickup is None)
        way = self._bidder.legs.way(self._pose, place)
        quote = self._bidder.quote(TaskPlan(tuple(way.plan(self._pose.yaw, aboard_kg)), self._handling_s))
        tally.cost_uc += quote.ask_uc - sum(quote.parts_uc[part] for part in NOT_COSTS)
        tally.driven_s += quote.lasts.mean
        self._pose, self._free_ns = way.end, self._free_ns + ns(quote.lasts.mean)
        task.energy_j += quote.energy.mean
        at = WirePose(x=place.x, y=place.y)
        task.steps.append(StepEvidence(kind="pickup" if visit.pickup else "dropoff", pose=at, at_ns=self._free_ns))
        if visit.pickup:
            task.errand = replace(task.errand, pickup=None)
            return
        del self._tasks[visit.order]
        tally.done += 1
        proof = Complete(contract=task.contract, steps=tuple(task.steps), energy_j=task.energy_j)
        self._proofs.append((self._free_ns, proof))


class Fleet:
    """The run.

    Parameters
    ----------
    batches : int
    budget_s : float
        CPU time that the expensive software may take for one batch.
    seed : int
        Draws the orders.
    halves : pair of Software
        Of the first half and the second half of the fleet.
    """

    def __init__(self, batches: int, budget_s: float, seed: int, halves: tuple[Software, Software]) -> None:
        rng = Random(seed)
        self._counts = [rng.choice(ORDERS) for _ in range(batches)]
        self._site = Site(Size(sum(self._counts), ROBOTS), seed)
        self._market = Market(self._site)
        jobs: dict[str, Jobs] = {}
        self._drivers: dict[RobotId, Driver] = {}
        for number in range(ROBOTS):
            config = self._site.agent_config(number)
            config = replace(config, type=config.type.model_copy(update={"parcels": PARCELS}))
            half = number // 2 % 2
            tally = Tally(halves[half], half == 0)
            bidder: Bidder
            if tally.software == "expensive":
                bidder = ReoptimisingBidder(config, budget_s, seed)
            elif tally.software == "usual":
                memory = Memory(config.type)
                bidder = Bidder(config.type, config.roadmap, config.chargers, config.tariff, memory, config.surfaces)
            else:
                bidder = AppendingBidder(config, jobs.setdefault(config.type.name, {}))
            self._drivers[config.robot] = Driver(config, bidder, tally)
        self._now_ns = self._messages = 0

    def run(self) -> BiddersRun:
        """Run all batches, and drive until everything that was sold is done."""
        self._open()
        orders = iter(self._site.orders)
        for count in self._counts:
            self._now_ns += ns(BATCH_S)
            self._drive()
            for _, customer, order in (next(orders) for _ in range(count)):
                self._give(customer, order.model_copy(update={"deadline_s": DEADLINE_S}))
            self._trade()
        self._now_ns += ns(LONG_S)
        self._drive()
        return self._found()

    def _open(self) -> None:
        terms = MarketTerms(batch_s=BATCH_S / 2, lease_s=LONG_S, overdue_s=LONG_S, accept_s=LONG_S)
        self._give(SELF, OpenMarket(zone=ZONE, epoch=1, seed="0", terms=terms, customers=self._site.customers))
        for number in range(ROBOTS):
            owner = OwnerId(robot_id(number))
            for body in (self._site.announce(number).model_copy(update={"owner": owner}), self._site.present()):
                self._give(robot_id(number), body)

    def _drive(self) -> None:
        for robot, driver in self._drivers.items():
            for proof in driver.drive(self._now_ns):
                self._give(robot, proof)

    def _trade(self) -> None:
        """Have one batch opened and cleared: every robot answers all calls at once."""
        for driver in self._drivers.values():
            driver.begin_batch()
        sends = deque(self._give(SELF, tick(self._now_ns).body))
        while sends:
            send = sends.popleft()
            for robot in self._hearers(send):
                driver = self._drivers[robot]
                match send.body:
                    case Call() as call:
                        sends += self._give(robot, driver.answer(call, self._now_ns))
                    case Award() as award:
                        driver.take(award, self._now_ns)
                        self._give(robot, Accept(contract=award.contract))
        for driver in self._drivers.values():
            driver.end_batch()

    def _hearers(self, send: Send) -> Iterable[RobotId]:
        address = topics.parse(send.topic)
        if address.direction == "zone":
            return self._drivers
        return [RobotId(address.name)] if address.direction == "to" else ()

    def _give(self, source: str, body: Body) -> list[Send]:
        self._messages += 1
        return self._market.handle(Command(source, body, self._now_ns, MessageId(f"m{self._messages}"))).sends

    def _found(self) -> BiddersRun:
        state = self._market.state
        for robot, driver in self._drivers.items():
            mine = account(AccountKind.OWNER, robot)
            driver.tally.paid_uc = state.ledger.balance(mine).posted_uc if state.ledger.has(mine) else 0
        settled = sum(order.state is OrderState.SETTLED for order in state.orders.values())
        tallies = [driver.tally for driver in self._drivers.values()]
        if settled != sum(tally.done for tally in tallies):
            raise AssertionError(f"{settled} orders were paid, {sum(t.done for t in tallies)} done")
        return BiddersRun(tallies, len(state.orders), len(state.orders) - settled, BATCH_S * len(self._counts))
