"""The robot daemon: one agent between its driver and the market, on MQTT."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.memory_files import load_memory, save_memory
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport, Will
from fleet_market.body import Job, Result
from fleet_market.errors import BrokerError, ProtocolError
from fleet_market.ids import Identifier, MessageId, OwnerId, ZoneId, derive
from fleet_market.ports import Clock, RobotDriver, Surveyor
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import Announce, AnyBody, Call, Position, Presence, TelemetryRecord, WirePose
from fleet_market.protocol.registry import Role
from fleet_market.protocol.telemetry import signed
from fleet_market.robot.agent import Agent, AgentConfig
from fleet_market.robot.effects import Effect, ReleaseJob, Remember, RunJob, Say, StopJob
from fleet_market.robot.memory import Memory

log = logging.getLogger(__name__)

SENSE_S = 0.05
"""Usual period of looking at the telemetry (wall time)."""
STOP_TIMEOUT_S = 10.0
OPEN_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 2.0
SESSION_EXPIRY_S = 60
SURVEY_S = 0.8
"""Longest wait for the robot's own planner before a call is priced without it; a batch lasts 2 s."""
MAX_UNSENT = 1000
MAX_SENDING = 20
"""Messages that wait for the broker's confirmation at once; positions are not confirmed, the next makes up for one."""
EPOCH_OF_SESSIONS_S = 1_700_000_000


def new_session() -> int:
    """Return a session number that is larger than that of every earlier start of the robot."""
    return int(time.time()) - EPOCH_OF_SESSIONS_S


def _memory(config: RobotConfig) -> Memory:
    memory = Memory(config.agent.type)
    if config.memory is not None and (data := load_memory(config.memory)) is not None:
        memory.restore(data, str(config.memory))
    return memory


@dataclass(frozen=True, slots=True)
class RobotConfig:
    """Where a robot trades, and as whose."""

    agent: AgentConfig
    owner: OwnerId
    host: str
    port: int
    zone: ZoneId = ZoneId("main")  # noqa: RUF009 - an immutable string
    memory: Path | None = None
    """File that keeps what the robot learns; without it a start begins with the data sheet again."""
    keys: Path | None = None
    """Folder of keys; without keys the MQTT broker must be on the loopback interface."""
    sense_s: float = SENSE_S
    """Period of looking at the telemetry."""
    open_timeout_s: float = OPEN_TIMEOUT_S
    """How long to wait for the robot's first telemetry."""
    broker_timeout_s: float | None = None
    """How long to wait for the broker at first; None: as long as it takes."""


class RobotDaemon:
    """Runs one robot's agent.

    Parameters
    ----------
    driver : RobotDriver
        Not yet open.
    clock : Clock
        Market time.

    Raises
    ------
    InputError
        If the memory file is not that of a robot of this type.
    """

    def __init__(self, config: RobotConfig, driver: RobotDriver, clock: Clock) -> None:
        self.config, self.agent = config, Agent(config.agent, _memory(config), measures=driver.spec.measures)
        self._driver, self._clock = driver, clock
        self._robot = config.agent.robot
        self.guard = guard_for(config.keys, Role.ROBOT, self._robot, config.host)
        self._unsent: asyncio.Queue[tuple[str, AnyBody, MessageId]] = asyncio.Queue(MAX_UNSENT)
        self._job: asyncio.Task[None] | None = None
        self._greetings = 0
        self._transport: MqttTransport | None = None
        self.on_hear: Callable[[AnyBody], None] = lambda _body: None
        """Called with every message of the market, after the agent has heard it."""
        self.on_say: Callable[[AnyBody], None] = lambda _body: None
        """Called with everything that the agent says."""

    @property
    def online(self) -> bool:
        """Whether the MQTT broker can be had now."""
        return self._transport is not None and self._transport.connected.is_set()

    async def drain(self) -> None:
        """Stop bidding; returns when all that the robot holds is done, the market knows it, and the robot stands."""
        self.agent.situation.bidding = False
        while not self.agent.at_rest:  # noqa: ASYNC110 - the agent has no events
            await asyncio.sleep(self.config.sense_s)

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve over MQTT until cancelled; calls `ready` when the robot has telemetry and takes part in the market.

        Raises
        ------
        TimeoutError
            If the robot's telemetry does not come.
        BrokerError
            If no broker answers within `broker_timeout_s` at first; one that is lost later is waited for.
        """
        transport = MqttTransport(self.mqtt(), self.subscriptions(), on_connect=[self.greet], guard=self.guard)
        await self.serve(transport, ready)

    async def serve(self, transport: MqttTransport, ready: Callable[[], None] = lambda: None) -> None:
        """Do what `run` does on a transport that is made with `mqtt`, `subscriptions`, `greet` and `guard`."""
        await self._driver.open(timeout_s=self.config.open_timeout_s)
        try:
            async with transport as self._transport:
                await self._connect(self._transport)
                try:
                    async with asyncio.TaskGroup() as self._tasks:
                        self._tasks.create_task(self._listen(self._transport), name="inputs")
                        self._tasks.create_task(self._send(self._transport), name="outputs")
                        self._tasks.create_task(self._sense(), name="telemetry")
                        ready()
                finally:
                    await self._take_leave()
        finally:
            await self._driver.close()

    async def _connect(self, transport: MqttTransport) -> None:
        try:
            async with asyncio.timeout(self.config.broker_timeout_s):
                await transport.connected.wait()
        except TimeoutError:
            where, trouble = f"{self.config.host}:{self.config.port}", transport.trouble or "no answer"
            raise BrokerError(f"no MQTT broker answers at {where} ({trouble}): start one, or name another") from None

    async def _take_leave(self) -> None:
        """Say that the robot is gone on purpose; otherwise the broker says that it is lost."""
        gone = self._envelope(Presence(status="offline", zone=self.config.zone), MessageId(derive("gone", self._session)))
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                if self._transport is not None:
                    await self._transport.publish(topics.state(self._robot, "presence"), encode(gone), retain=True)

    def subscriptions(self) -> list[tuple[str, int]]:
        """Return the topics, each with its QoS, that the robot listens to."""
        return [(topics.to_robot(self._robot, "#"), 1), (topics.zone(self.config.zone, "#"), 1)]

    def mqtt(self) -> MqttConfig:
        """Return how the robot connects, and what is said when its connection breaks."""
        will = self._envelope(Presence(status="lost", zone=self.config.zone), MessageId(derive("will", self._session)))
        return MqttConfig(
            self.config.host,
            self.config.port,
            self._robot,
            Will(topics.state(self._robot, "presence"), encode(will)),
            session_expiry_s=SESSION_EXPIRY_S,
        )

    @property
    def _session(self) -> int:
        return self.config.agent.session

    def _envelope(self, body: AnyBody, name: MessageId) -> Envelope:
        return Envelope(id=name, ts=self._clock.now_ns(), src=Identifier(self._robot), sid=self._session, body=body)

    async def greet(self) -> None:
        """Say who this is after every connection; both are retained."""
        robot, battery = self.config.agent.type, self.config.agent.type.battery
        announce = Announce(
            zone=self.config.zone,
            owner=self.config.owner,
            robot_type=robot.name,
            max_payload_kg=robot.max_payload_kg,
            max_speed_mps=robot.max_speed_mps,
            battery_wh=battery.capacity_wh,
            home=WirePose.of(self.config.agent.home),
        )
        self._greetings += 1
        if self._transport is None:
            return
        for kind, body in (("announce", announce), ("presence", Presence(status="online", zone=self.config.zone))):
            name = derive(kind, self._robot, self._session, self._greetings, self._clock.now_ns())
            message = self._envelope(body, MessageId(name))
            await self._transport.publish(topics.state(self._robot, kind), encode(message), retain=True)

    async def _listen(self, transport: MqttTransport) -> None:
        async for delivery in transport.deliveries():
            try:
                message = decode(delivery.payload, limit=MAX_OUTBOUND_BYTES)
            except ProtocolError as error:
                log.warning("passed over: %s", error)
            else:
                await self._survey(message.body)
                effects = self.agent.hear(message.id, message.body, self._clock.now_ns())
                self.on_hear(message.body)
                self._carry_out(effects)
            delivery.ack()

    async def _survey(self, body: AnyBody) -> None:
        """Before a call is priced, ask the robot's own planner how long the ways are, if it has one."""
        if not isinstance(body, Call) or not isinstance(self._driver, Surveyor):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SURVEY_S):
                for way in self.agent.ways_wanted(body):
                    length_m = await self._driver.path_length_m(way.start, way.goal)
                    if length_m is not None:
                        self.agent.survey(way, length_m)

    async def _sense(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(self.config.sense_s)

    def _look(self) -> None:
        self._carry_out(self.agent.sense(self._driver.telemetry(), self._driver.passed(), self._clock.now_ns()))

    async def _send(self, transport: MqttTransport) -> None:
        """Send what the agent says, in its order, without waiting for one confirmation before the next message."""
        room = asyncio.Semaphore(MAX_SENDING)

        async def publish(topic: str, payload: bytes, qos: int) -> None:
            with contextlib.suppress(BrokerError):
                await transport.publish(topic, payload, qos=qos)
            room.release()

        async with asyncio.TaskGroup() as sending:
            while True:
                kind, body, name = await self._unsent.get()
                await room.acquire()
                topic, payload = topics.from_robot(self._robot, self.config.zone, kind), encode(self._envelope(body, name))
                sending.create_task(publish(topic, payload, qos=0 if isinstance(body, Position) else 1))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Say(kind, body, name):
                    if isinstance(body, TelemetryRecord):
                        body = signed(body, self.guard.sign)
                    if self._unsent.full():
                        self._unsent.get_nowait()
                    self._unsent.put_nowait((kind, body, name))
                    self.on_say(body)
                case RunJob(job, deadline_s):
                    self._job = self._tasks.create_task(self._run(job, deadline_s), name=job.id)
                case ReleaseJob(job_id, points):
                    self._driver.release(job_id, points)
                case Remember(memory):
                    if self.config.memory is not None:
                        save_memory(self.config.memory, memory)
                case StopJob(reason):
                    log.info("stops: %s", reason)
                    self._tasks.create_task(self._stop(), name="stop")

    async def _run(self, job: Job, deadline_s: float) -> None:
        def step_done(step: int, _text: str) -> None:
            self._carry_out(self.agent.step_done(job.id, step, self._clock.now_ns()))

        result: Result = await self._driver.run(job, deadline_s=deadline_s, on_step=step_done)
        if result.reason:
            log.info("%s: %s %s", job.id, result.end, result.reason)
        self._look()  # evidence is of the moment when the job ends
        self._carry_out(self.agent.job_ended(result, self._clock.now_ns()))

    async def _stop(self) -> None:
        await self._driver.stop(timeout_s=STOP_TIMEOUT_S)
