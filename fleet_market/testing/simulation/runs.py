"""One run of the simulation: a seed in, what happened out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from fleet_market.ids import RobotId
from fleet_market.testing.simulation import site
from fleet_market.testing.simulation.bodies import Body, Parcel, World
from fleet_market.testing.simulation.chaos import Points, havoc
from fleet_market.testing.simulation.machines import (
    CustomerMachine,
    Lies,
    Machine,
    MarketMachine,
    RobotMachine,
    is_market,
)
from fleet_market.testing.simulation.network import Message, Network
from fleet_market.testing.simulation.scenario import OrderPlan, Scenario
from fleet_market.testing.simulation.trace import Trace
from fleet_market.testing.simulation.virtual_time import StalledError, VirtualLoop, run
from fleet_market.testing.simulation.watch import Watch

CALM_S = 1500.0
"""So long after the last fault everything must have come to its end."""
LOOK_S = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one seed."""

    seed: int
    faults: tuple[str, ...]
    """Broken invariants; empty: all held."""
    digest: str
    """Hash of everything that happened: equal for equal runs."""
    simulated_s: float
    orders: dict[str, int]
    """How many orders ended how."""
    starts: int
    """Of the market."""
    messages: int
    lost: int
    repeated: int


class Simulation:
    """The parts of one run, where they find each other.

    Parameters
    ----------
    loop : VirtualLoop
    scenario : Scenario
    out : file, optional
        Where the trace is written.
    """

    def __init__(self, loop: VirtualLoop, scenario: Scenario, out: TextIO | None = None) -> None:
        self.loop, self.scenario = loop, scenario
        self.chance = random.Random(f"chance {scenario.seed}")  # noqa: S311 - seeded chance, no secret
        self.trace = Trace(loop.time, out)
        rng = random.Random(f"network {scenario.seed}")  # noqa: S311 - as above
        self.network = Network(loop, rng, self.trace, scenario.weather)
        self.network.published_by, self.network.acknowledged_by = self._published, self._acknowledged
        homes = site.homes(scenario.robots)
        self.world = World({robot: Body(robot, home) for robot, home in homes.items()})
        self.watch, self.points = Watch(self), Points(self)
        self.market = MarketMachine(self)
        self.robots = [self._robot(number, robot) for number, robot in enumerate(homes)]
        self.customers = [
            CustomerMachine(self, name, [order for order in scenario.orders if order.customer == name])
            for name in ("ann", "bob")
        ]
        self.machines: list[Machine] = [self.market, *self.robots, *self.customers]

    def _robot(self, number: int, robot: RobotId) -> RobotMachine:
        scenario = self.scenario
        lies = Lies(completes_at_once="liar" in scenario.faults and number == 0)
        return RobotMachine(self, robot, f"owner-{number % scenario.owners}", scenario.skew_s[number], lies)

    def put_parcel(self, plan: OrderPlan) -> None:
        """Put an order's parcel where it is to be picked up, unless it is there already."""
        place = site.PLACES[plan.pickup]
        self.world.parcels.setdefault(plan.name, Parcel(plan.mass_kg, (place.x, place.y)))

    def _published(self, client: str, topic: str, payload: bytes) -> None:
        self.watch.published(client, topic, payload)
        if is_market(client) and topic.endswith(("/award", "/settle", "/cancel")):
            self.points.reached("after publish")

    def _acknowledged(self, client: str, message: Message) -> None:
        self.watch.acknowledged(client, message)
        if is_market(client) and not message.topic.endswith("/position"):
            self.points.reached("after ack")

    async def go(self) -> Report:
        """Let everything run until all orders have ended, and return what came of it."""
        tasks = [asyncio.create_task(machine.run(), name=machine.name) for machine in self.machines]
        tasks.append(asyncio.create_task(havoc(self), name="havoc"))
        end_s = self.scenario.chaos_s + CALM_S
        while self.loop.time() < end_s and not self.watch.faults:
            await asyncio.sleep(LOOK_S)
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
            if self.loop.time() > self.scenario.chaos_s and not self.watch.unfinished():
                break
        if not self.watch.faults:
            self.watch.last_look()
        for trouble in self.loop.trouble:
            self.watch.fault(trouble)
        return self._report()

    def _report(self) -> Report:
        zone = self.market.zone
        states = [] if zone is None else [str(order.state) for order in zone.engine.market.state.orders.values()]
        return Report(
            seed=self.scenario.seed,
            faults=tuple(self.watch.faults),
            digest=self.trace.end(),
            simulated_s=self.loop.time(),
            orders=dict(sorted(Counter(states).items())),
            starts=self.market.starts,
            messages=self.network.published,
            lost=self.network.lost,
            repeated=self.network.repeated,
        )


def simulate(seed: int, *, out: TextIO | None = None, scenario: Scenario | None = None) -> Report:
    """Run one seed.

    Parameters
    ----------
    seed : int
    out : file, optional
        Where everything that happens is written, one line each.
    scenario : Scenario, optional
        In the place of the one that the seed stands for.

    Returns
    -------
    Report
        Equal, trace and all, for equal seeds.
    """
    drawn = scenario or Scenario.of(seed)

    async def main(loop: VirtualLoop) -> Report:
        return await Simulation(loop, drawn, out).go()

    with _quiet():
        try:
            return run(main)
        except StalledError as error:
            return Report(seed, (f"the program hangs: {error}",), "", 0.0, {}, 0, 0, 0, 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the product's log: a simulation has thousands of lost connections."""
    logger, collects = logging.getLogger("fleet_market"), gc.isenabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    gc.disable()
    try:
        yield
    finally:
        logger.setLevel(level)
        if collects:
            gc.enable()
