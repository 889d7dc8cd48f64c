"""A burst through the market core alone: no network, no disk, and a clock that counts what the market computes.

The market runs on a core of its own, and its clock goes on by the CPU time that each input takes it. Every robot runs on a
computer of its own: it answers as much later as pricing takes it, by the mean of `ask_cost_s`. Messages take no time.
"""

from __future__ import annotations

import heapq
import resource
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks._burst_site import ZONE, Site, SiteRobot, robot_id
from fleet_market.ids import MessageId, RobotId
from fleet_market.market import Command, Market, OpenMarket, Send
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.protocol import topics
from fleet_market.protocol.messages import Body, Call, OrderEvent, OrderState
from fleet_market.robot.effects import Say
from fleet_market.units import ns

TICK_S, SENSE_S = 0.1, 1.0
LIMIT_S = 60.0
"""The run ends after this long even if orders are left."""


@dataclass(slots=True)
class CoreRun:
    """What a burst through the core has shown."""

    posted_s: dict[str, float] = field(default_factory=dict)
    awarded_s: dict[str, float] = field(default_factory=dict)
    """First award of each order."""
    inputs: Counter[str] = field(default_factory=Counter)
    sends: int = 0
    rounds: int = 0
    cpu_s: float = 0.0
    """The market's."""
    longest_s: float = 0.0
    """The dearest single input."""
    asks: int = 0
    """Lots that robots have priced."""
    peak_rss_mb: float = 0.0

    def latencies_s(self) -> list[float]:
        """Return how long each awarded order waited."""
        return [at - self.posted_s[order] for order, at in self.awarded_s.items()]

    def last_s(self) -> float:
        """Return how long after the first order the last one was awarded."""
        return max(self.awarded_s.values(), default=0.0) - min(self.posted_s.values(), default=0.0)


class Core:
    """The run; see the module.

    Parameters
    ----------
    site : Site
    ask_cost_s : float
        What it costs a robot to price one lot.
    """

    def __init__(self, site: Site, ask_cost_s: float) -> None:
        self._ask_cost_s = ask_cost_s
        self.site, self.market, self.found = site, Market(site), CoreRun()
        self.robots = {robot_id(n): SiteRobot(site, n) for n in range(site.size.robots)}
        self._due: list[tuple[float, int, str, Body, MessageId | None]] = []
        self._count = 0
        self._free_s = 0.0

    def run(self) -> CoreRun:
        """Return what the burst has shown."""
        self._open()
        for at_s, customer, order in self.site.orders:
            self._later(at_s, customer, order, MessageId(f"post-{order.order}"))
            self.found.posted_s[order.order] = at_s
        self._later(TICK_S, SELF, tick(0).body)
        for number, robot in enumerate(self.robots):
            self._later(SENSE_S * (1 + number / len(self.robots)), f"sense {robot}", tick(0).body)
        orders = self.site.size.orders
        while self._due and self._due[0][0] < LIMIT_S and len(self.found.awarded_s) < orders:
            at_s, _, source, body, message = heapq.heappop(self._due)
            if source.startswith("sense "):
                self._sense(RobotId(source.removeprefix("sense ")), at_s)
            else:
                self._take(at_s, source, body, message)
        self.found.asks = sum(robot.asks for robot in self.robots.values())
        self.found.peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return self.found

    def _open(self) -> None:
        """Have the market open and the robots come, before the clock starts."""
        site = self.site
        opened = OpenMarket(zone=ZONE, epoch=1, seed="0", terms=site.terms, customers=site.customers)
        self.market.handle(Command(SELF, opened, 0))
        for number, (name, robot) in enumerate(self.robots.items()):
            for body in (site.announce(number), site.present()):
                self.market.handle(Command(name, body, 0))
            robot.sense(0)

    def _later(self, at_s: float, source: str, body: Body, message: MessageId | None = None) -> None:
        self._count += 1
        heapq.heappush(self._due, (at_s, self._count, source, body, message))

    def _take(self, at_s: float, source: str, body: Body, message: MessageId | None) -> None:
        """Give the market one input as soon as it is free, and pass on what it sends."""
        begin_s = max(at_s, self._free_s)
        now_ns = ns(begin_s)
        ticking = source == SELF
        command = tick(now_ns) if ticking else Command(source, body, now_ns, message)
        begun = time.process_time()
        out = self.market.handle(command)
        took_s = time.process_time() - begun
        self._free_s = begin_s + took_s
        found = self.found
        found.cpu_s += took_s
        found.longest_s = max(found.longest_s, took_s)
        found.inputs["tick" if ticking else type(body).__name__] += 1
        found.sends += len(out.sends)
        for send in out.sends:
            self._pass_on(send)
        if ticking:
            self._later(max(at_s + TICK_S, self._free_s), SELF, body)

    def _pass_on(self, send: Send) -> None:
        if isinstance(send.body, OrderEvent) and send.body.view.state is OrderState.AWARDED:
            self.found.awarded_s.setdefault(send.body.view.order, self._free_s)
        if isinstance(send.body, Call):
            self.found.rounds = max(self.found.rounds, send.body.round)
        address = topics.parse(send.topic)
        if address.direction == "zone" and isinstance(send.body, Call):
            hearers = list(self.robots)
        elif address.direction == "to":
            hearers = [RobotId(address.name)]
        else:
            return
        for name in hearers:
            self._hear(name, send)

    def _hear(self, name: RobotId, send: Send) -> None:
        robot = self.robots[name]
        before = robot.asks
        said = robot.hear(send.id or MessageId("none"), send.body, ns(self._free_s))
        self._say(name, said, self._free_s + self._ask_cost_s * (robot.asks - before))

    def _sense(self, name: RobotId, at_s: float) -> None:
        self._say(name, self.robots[name].sense(ns(at_s)), at_s)
        self._later(at_s + SENSE_S, f"sense {name}", tick(0).body)

    def _say(self, name: RobotId, said: list[Say], at_s: float) -> None:
        for say in said:
            self._later(at_s, name, say.body, say.id)
