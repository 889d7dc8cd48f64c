"""The machines of a simulation: the market's, the robots', the customers'. Each runs the product's own program.

A machine has a clock of its own and can die at any instant: what its program does from then on has no effect, and a new
one starts after a while from what the disk holds. A robot's body and a market's disk outlive their programs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet_market.adapters.clocks import WallClock
from fleet_market.adapters.guard import FROM_MARKET, Guard
from fleet_market.adapters.ingress import Ingress
from fleet_market.adapters.intake import Brake
from fleet_market.adapters.mqtt import MqttConfig, Will
from fleet_market.daemons.robot import RobotConfig, RobotDaemon
from fleet_market.daemons.zone import Zone, ZoneConfig
from fleet_market.daemons.zone_server import SESSION_EXPIRY_S
from fleet_market.errors import BrokerError, ProtocolError
from fleet_market.ids import CustomerId, Identifier, MessageId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.ledger import StoreRecord
from fleet_market.pricing import Tariff
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.gate import Gate, Limits
from fleet_market.protocol.messages import (
    Accept,
    AnyBody,
    Body,
    CancelOrder,
    Complete,
    OrderReply,
    PostOrder,
    StepEvidence,
    WirePose,
)
from fleet_market.protocol.registry import market_name
from fleet_market.robot.agent import Agent, AgentConfig
from fleet_market.robot.effects import Effect, Say
from fleet_market.robot.memory import Memory
from fleet_market.testing.simulation import site
from fleet_market.testing.simulation.bidders import ThumbBidder
from fleet_market.testing.simulation.bodies import Driver
from fleet_market.testing.simulation.network import Client, SimulatedTransport
from fleet_market.testing.simulation.scenario import ENDOWMENT_UC, TERMS, OrderPlan
from fleet_market.testing.simulation.stores import LoopWriter, MemoryDisk, SqliteDisk

if TYPE_CHECKING:
    from fleet_market.testing.simulation.runs import Simulation

ZONE = ZoneId("main")
MARKET = market_name(ZONE)
HOST, PORT = "127.0.0.1", 1883
BIRTH_NS = 1_800_000_000 * 10**9
"""Where all clocks begin, nanoseconds since 1970."""
REPEAT_S = 2.0
"""A customer repeats a request after this long."""
RESTART_S = (0.1, 20.0)
NOTICED_S = (0.0, 15.0)
"""How long the broker may take to notice a dead client."""


def is_market(client_id: str) -> bool:
    """Return whether a client is one of the market's sessions."""
    return client_id.partition(".")[0] == MARKET


class MachineClock:
    """A machine's clock: the true time, and how far it is off."""

    def __init__(self, loop: asyncio.AbstractEventLoop, off_s: float = 0.0) -> None:
        self._loop, self.off_s = loop, off_s

    def time_ns(self) -> int:
        """Return what the clock shows."""
        return BIRTH_NS + round((self._loop.time() + self.off_s) * 1e9)


class Machine:
    """Runs a program again and again until it is switched off."""

    name: str

    def __init__(self, sim: Simulation, name: str, off_s: float = 0.0) -> None:
        self.sim, self.name = sim, name
        self.clock = MachineClock(sim.loop, off_s)
        self.on = True
        self.life: asyncio.Task[None] | None = None
        self.transports: list[SimulatedTransport] = []
        """Its connections."""
        self._down_until_s = 0.0

    async def run(self) -> None:
        """Start the program whenever it is not running."""
        while True:
            await asyncio.sleep(max(0.0, self._down_until_s - self.sim.loop.time()))
            if not self.on:
                await asyncio.sleep(1.0)
                continue
            self.transports = []
            self.life = asyncio.create_task(self.live(), name=f"{self.name} lives")
            await asyncio.wait([self.life])
            self.buried()
            if not self.life.cancelled() and (error := self.life.exception()) is not None:
                self.sim.watch.fault(f"{self.name} died of {_told(error)}")
            self._down_until_s = max(self._down_until_s, self.sim.loop.time() + self.sim.chance.uniform(*RESTART_S))

    async def live(self) -> None:
        """Run the program."""
        raise NotImplementedError

    def connect(self, *arguments: Any, **more: Any) -> SimulatedTransport:
        """Return a connection of its program; parameters as of `MqttTransport`."""
        self.transports.append(made := SimulatedTransport(self.sim.network, *arguments, **more))
        return made

    def buried(self) -> None:
        """Clear away after a program that has ended."""

    def crash(self, why: str, down_s: float = 0.0) -> None:
        """Let the program die at once, and stay dead for `down_s` at least."""
        if self.life is None or self.life.done():
            return
        self.sim.trace.note(f"{self.name} crashes: {why}")
        self._down_until_s = max(self._down_until_s, self.sim.loop.time() + down_s)
        for transport in self.transports:
            client = transport._current  # noqa: SLF001 - also one that is connecting
            if isinstance(client, Client):
                self.sim.network.crash(client, self.sim.chance.uniform(*NOTICED_S))
        self.life.cancel()


class MarketMachine(Machine):
    """Runs the market of one zone."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim, "market")
        scenario = sim.scenario
        self.disk: MemoryDisk | SqliteDisk = SqliteDisk(scenario.seed) if scenario.sqlite else MemoryDisk()
        self.zone: Zone | None = None
        self.writer: LoopWriter | None = None
        self.starts = 0
        self._config = ZoneConfig(
            places=site.places(),
            zone=ZONE,
            terms=TERMS,
            customers={CustomerId("ann"): ENDOWMENT_UC, CustomerId("bob"): ENDOWMENT_UC},
            seed=str(scenario.seed),
            tick_s=scenario.tick_s,
        )

    async def live(self) -> None:
        """Recover, connect, trade."""
        sim, scenario = self.sim, self.sim.scenario
        store = self.disk.open()
        self.writer = LoopWriter(
            store, sim.chance, scenario.sync_s, before=self._before, after=self._after, failed=self._failed
        )
        guard = Guard(Gate(Limits()), sim.loop.time, sim.loop.time)
        config = ZoneConfig(**{f: getattr(self._config, f) for f in self._config.__slots__} | {
            "traffic": site.traffic(scenario.robots, real=scenario.real_traffic)
        })  # fmt: skip
        zone = Zone(config, store, self.writer, WallClock(self.clock.time_ns), guard)
        zone.engine.snapshot_inputs = scenario.snapshot_inputs
        zone.recover()
        self.zone = zone
        self.starts += 1
        sim.watch.recovered(zone)
        mqtt = MqttConfig(HOST, PORT, MARKET, Will(*zone.closing()), session_expiry_s=SESSION_EXPIRY_S)
        robots = zone.engine.market.state.robots
        ingress = Ingress(mqtt, ZONE, guard, robots, Brake(), greet=zone.greet, connect=self.connect)
        async with ingress as transport:
            await transport.connected()
            await zone.run(transport)

    def crash(self, why: str, down_s: float = 0.0) -> None:
        """Let the daemon die."""
        if self.writer is not None:
            self.writer.die()
        super().crash(why, down_s)

    def buried(self) -> None:
        """Switch the machine off and on again."""
        if self.writer is not None:
            self.writer.die()
        self.disk.start_again()

    def _before(self, records: Sequence[StoreRecord]) -> bool:
        self.sim.trace.note(f"commit {len(records)}", records[-1].event.hash.encode())
        if self.sim.points.reached("during commit"):
            self.disk.cut_soon(self.sim.chance.randint(1, 30))
        if any(record.done for record in records) and self.sim.points.reached("before outbox delete"):
            return True
        return self.sim.points.reached("before commit")

    def _failed(self, error: Exception) -> bool:
        cut = self.disk.cut_by(error)
        if cut:
            self.crash("its disk has lost its power")
        return cut

    def _after(self, records: Sequence[StoreRecord]) -> bool:
        self.sim.watch.committed(records)
        return self.sim.points.reached("after commit")


@dataclass(slots=True)
class Lies:
    """What a dishonest robot does."""

    completes_at_once: bool = False
    """It says that it is done as soon as it has accepted, without having moved."""


class WatchedDaemon(RobotDaemon):
    """The robot's daemon, looked at after everything that its agent decides."""

    machine: RobotMachine

    def _carry_out(self, effects: list[Effect]) -> None:
        machine = self.machine
        machine.sim.watch.agent(machine, effects)
        super()._carry_out(machine.lied(effects))


class RobotMachine(Machine):
    """Runs one robot."""

    def __init__(self, sim: Simulation, robot: RobotId, owner: str, off_s: float, lies: Lies) -> None:
        super().__init__(sim, robot, off_s)
        self.robot, self.owner, self.lies = robot, OwnerId(owner), lies
        self.daemon: WatchedDaemon | None = None
        self.sessions = 0
        self.body = sim.world.bodies[robot]

    async def live(self) -> None:
        """Take part in the market."""
        sim = self.sim
        self.sessions += 1
        agent = AgentConfig(
            robot=self.robot,
            type=site.PORTER,
            home=site.homes(sim.scenario.robots)[self.robot],
            chargers=site.CHARGERS,
            tariff=Tariff(300_000_000),
            roadmap=site.roadmap(),
            session=self.sessions,
        )
        config = RobotConfig(agent, self.owner, HOST, PORT, ZONE, sense_s=sim.scenario.sense_s)
        driver = Driver(sim.world, self.robot, sim.watch.handling)
        daemon = WatchedDaemon(config, driver, WallClock(self.clock.time_ns))
        if not sim.scenario.real_prices:
            memory = Memory(agent.type)
            bidder = ThumbBidder(agent.type, agent.roadmap, agent.tariff, memory)
            daemon.agent = Agent(agent, memory, bidder, measures=driver.spec.measures)
        daemon.machine = self
        daemon.guard = Guard(Gate(FROM_MARKET), sim.loop.time, sim.loop.time)
        self.daemon = daemon
        await daemon.serve(
            self.connect(daemon.mqtt(), daemon.subscriptions(), on_connect=[daemon.greet], guard=daemon.guard)
        )

    def buried(self) -> None:
        """Forget the agent."""
        self.daemon = None

    def lied(self, effects: list[Effect]) -> list[Effect]:
        """Return what a dishonest robot does instead."""
        if not self.lies.completes_at_once:
            return effects
        said: list[Effect] = []
        for effect in effects:
            said.append(effect)
            if isinstance(effect, Say) and isinstance(effect.body, Accept):
                said.append(self._false_completion(effect.body))
        return said

    def _false_completion(self, accept: Accept) -> Say:
        now_ns, pose = self.clock.time_ns(), WirePose.of(self.body.at(self.sim.loop.time()))
        steps = (
            StepEvidence(kind="pickup", pose=pose, at_ns=now_ns, payload_kg=5.0),
            StepEvidence(kind="dropoff", pose=pose, at_ns=now_ns, payload_kg=0.0),
        )
        self.sim.watch.lies += 1
        complete = Complete(contract=accept.contract, steps=steps, energy_j=10.0)
        return Say("complete", complete, MessageId(f"lie-{self.sim.watch.lies}"))


@dataclass(slots=True)
class Dealing:
    """What a customer knows of one of its orders."""

    plan: OrderPlan
    accepted: bool = False
    answered: bool = False
    cancelled: bool = False


class CustomerMachine(Machine):
    """Runs a customer that posts its orders, repeats what is not answered, and changes its mind."""

    def __init__(self, sim: Simulation, name: str, plans: Sequence[OrderPlan]) -> None:
        super().__init__(sim, name)
        self.dealings = [Dealing(plan) for plan in plans]
        self._waiting: dict[MessageId, asyncio.Future[Body]] = {}

    async def live(self) -> None:
        """Post all orders."""
        mqtt = MqttConfig(HOST, PORT, f"{self.name}-app")
        self._transport = self.connect(mqtt, [(topics.to_customer(self.name, "#"), 1)])
        async with self._transport, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(self._transport))
            for dealing in self.dealings:
                tasks.create_task(self._deal(dealing))

    @property
    def done(self) -> bool:
        """Whether every request has been answered."""
        return all(dealing.answered for dealing in self.dealings)

    async def _deal(self, dealing: Dealing) -> None:
        plan = dealing.plan
        await asyncio.sleep(plan.at_s)
        body = PostOrder(
            order=OrderId(plan.name),
            pickup=plan.pickup,
            dropoff=plan.dropoff,
            payload_kg=plan.mass_kg,
            release_s=plan.release_s,
            deadline_s=plan.deadline_s,
            max_price_uc=plan.max_price_uc,
            lateness_uc_per_h=plan.lateness_uc_per_h,
        )
        self.sim.put_parcel(plan)
        reply = await self._ask("order", body, f"post-{plan.name}")
        dealing.accepted = reply.result in ("accepted", "exists")
        if dealing.accepted:
            self.sim.watch.accepted(plan.name)
            if plan.post_again:
                again = await self._ask("order", body, f"post-{plan.name}-again")
                if again.result != "exists":
                    self.sim.watch.fault(f"order {plan.name} was accepted, and when posted again it was {again.result}")
            if plan.cancel_after_s is not None:
                await asyncio.sleep(plan.cancel_after_s)
                answer = await self._ask("cancel", CancelOrder(order=OrderId(plan.name)), f"cancel-{plan.name}")
                dealing.cancelled = answer.result == "cancelled"
        dealing.answered = True

    async def _ask(self, kind: str, body: AnyBody, name: str) -> OrderReply:
        """Send a request until it is answered."""
        message = MessageId(name)
        payload = encode(Envelope(id=message, ts=0, src=Identifier(self.name), body=body))
        future = self._waiting[message] = self.sim.loop.create_future()
        while not future.done():
            with contextlib.suppress(BrokerError):
                await self._transport.publish(topics.from_customer(self.name, kind), payload)
            await asyncio.wait([future], timeout=REPEAT_S)
        reply = future.result()
        assert isinstance(reply, OrderReply)  # noqa: S101 - nothing else is asked for
        return reply

    async def _listen(self, transport: SimulatedTransport) -> None:
        async for delivery in transport.deliveries():
            delivery.ack()
            try:
                message = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
            except ProtocolError as error:
                self.sim.watch.fault(f"{self.name} was sent rubbish: {error}")
                continue
            waiter = None if message.corr is None else self._waiting.get(message.corr)
            if waiter is not None and not waiter.done():
                waiter.set_result(message.body)


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
