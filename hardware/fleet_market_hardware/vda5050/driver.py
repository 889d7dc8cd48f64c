"""A VDA 5050 vehicle as a `RobotDriver`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from fleet_market.body import End, Job, Link, Result, Telemetry
from fleet_market.errors import InputError
from fleet_market_hardware.drivers import DriverSetup
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import Effect, JobEnded, Send, StepDone
from fleet_market_hardware.vda5050.headers import Headers
from fleet_market_hardware.vda5050.link import MasterLink
from fleet_market_hardware.vda5050.master import Master
from fleet_market_hardware.vda5050.proofs import is_idle

log = logging.getLogger(__name__)

END_SLACK_S = 5.0
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 1883


class Vda5050Driver:
    """Drives a vehicle of whatever make. Implements `fleet_market.ports.RobotDriver`.

    Parameters
    ----------
    config : VehicleConfig
    link : MasterLink
        Several drivers may share one.
    """

    def __init__(self, config: VehicleConfig, link: MasterLink) -> None:
        self.config, self._link = config, link
        self._master = Master(config, lambda: str(uuid.uuid4()))
        self.spec = self._master.spec
        self._headers = Headers(config.manufacturer, config.serial)
        self._news = asyncio.Event()
        self._open = False
        self._ending: asyncio.Future[Result] | None = None
        self._on_step: Callable[[int, str], None] | None = None

    # --- of the link ----------------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Take note of a connection to the broker."""
        self._carry_out(self._master.connected(self._link.now_ns()))

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a message of the vehicle."""
        self._carry_out(self._master.hear(topic, payload, self._link.now_ns()))
        self._news.set()

    def tick(self) -> None:
        """Take note that time has passed."""
        self._carry_out(self._master.tick(self._link.now_ns()))

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(topic, version, body):
                    self._link.send(self.config.topic_of(topic), self._headers.add(topic, version, body))
                case StepDone(index, text):
                    if self._on_step is not None:
                        self._on_step(index, text)
                case JobEnded(result):
                    log.info("%s ended %s after %d steps %s", result.job_id, result.end, result.steps_done, result.reason)
                    if self._ending is not None and not self._ending.done():
                        self._ending.set_result(result)

    # --- of the port ----------------------------------------------------------------------------------------------------

    async def open(self, *, timeout_s: float) -> None:
        """Connect; returns once the vehicle has said its state, else raises `TimeoutError`."""
        if self._open:
            return
        self._open = True
        await self._link.join(self)
        begun_ns = self._link.now_ns()
        try:
            await self._until(lambda: self._master.view.state_ns >= begun_ns and self._link_is_up(), timeout_s)
        except TimeoutError:
            self._open = False
            await self._link.leave(self)
            topic = self.config.topic_of("state")
            raise TimeoutError(f"no state on {topic} within {timeout_s:g} s: is the vehicle on, the topic right?") from None

    async def close(self) -> None:
        """Stop the vehicle, unless it drives for somebody else, and disconnect."""
        if not self._open:
            return
        if self._link_is_up() and self._master.drives:
            await self.stop(timeout_s=self.config.stop_s)
        self._open = False
        await self._link.leave(self)

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        return self._master.telemetry(self._link.now_ns())

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why values are None that the vehicle did send."""
        return self._master.view.doubts

    @property
    def version(self) -> str:
        """Version of VDA 5050 in which the vehicle is spoken to."""
        return self._master.version

    async def run(self, job: Job, *, deadline_s: float, on_step: Callable[[int, str], None] | None = None) -> Result:
        """Run `job` as one order; `deadline_s` from now. See `RobotDriver.run`."""
        if not self._open:
            return Result(job.id, End.REJECTED, 0, "the driver is not open")
        if self._master.busy:
            return Result(job.id, End.REJECTED, 0, "another job is running")
        ending = self._ending = asyncio.get_running_loop().create_future()
        self._on_step = on_step
        self._carry_out(self._master.begin(job, deadline_s, self._link.now_ns()))
        try:
            await asyncio.wait([ending])
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            self._carry_out(self._master.stop(self._link.now_ns()))
            await asyncio.wait([ending], timeout=self.config.stop_s + END_SLACK_S)
        finally:
            self._on_step = None
        return ending.result() if ending.done() else Result(job.id, End.LOST, 0, "stopped, and no end of it seen")

    def release(self, job_id: str, points: int) -> None:
        """Let the running `Go` of `job_id` drive through its first `points` points: an update of its order."""
        self._carry_out(self._master.release(job_id, points, self._link.now_ns()))

    def passed(self) -> int:
        """Return how many points of the running `Go` lie behind the vehicle."""
        return self._master.passed()

    async def stop(self, *, timeout_s: float) -> bool:
        """End the running job; True only if a state that is newer than this shows standstill."""
        asked_ns = self._link.now_ns()
        ending, busy = self._ending, self._master.busy
        self._carry_out([*self._master.stop(asked_ns), *self._master.ask_state()])
        try:
            if busy and ending is not None:
                async with asyncio.timeout(timeout_s):
                    await asyncio.wait([ending])
                if ending.result().standstill is not None:
                    return ending.result().standstill is True
            await self._until(lambda: self._stands_since(asked_ns), max(0.0, timeout_s - self._since_s(asked_ns)))
        except TimeoutError:
            return False
        return True

    async def estop(self, *, engage: bool = True) -> None:
        """Latch or release: the vehicle is paused and its order cancelled. No safety function: nothing in VDA 5050 is."""
        self._carry_out(self._master.estop(engage=engage, now_ns=self._link.now_ns()))
        if engage:
            await self.stop(timeout_s=self.config.stop_s)
            return
        asked_ns = self._link.now_ns()
        try:
            await self._until(lambda: self._is_unpaused_since(asked_ns), self.config.stop_s)
        except TimeoutError:
            log.warning("%s is still paused", self.config.robot)

    # --- what is looked for ---------------------------------------------------------------------------------------------

    def _since_s(self, then_ns: int) -> float:
        return (self._link.now_ns() - then_ns) / 1e9

    def _link_is_up(self) -> bool:
        return self._master.view.link(self._link.now_ns()) is Link.UP

    def _stands_since(self, then_ns: int) -> bool:
        view = self._master.view
        return view.state is not None and view.state_ns > then_ns and is_idle(view.state)

    def _is_unpaused_since(self, then_ns: int) -> bool:
        view = self._master.view
        return view.state is not None and view.state_ns > then_ns and view.state.paused is not True

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._news.clear()
                await self._news.wait()


def driver(setup: DriverSetup) -> Vda5050Driver:
    """Return a driver of a vehicle; its settings are ``host``, ``port`` and the fields of `VehicleConfig`.

    Raises
    ------
    InputError
        If a setting is missing or wrong.
    """
    settings: dict[str, Any] = dict(setup.settings)
    host, port = settings.pop("host", DEFAULT_HOST), settings.pop("port", DEFAULT_PORT)
    if not isinstance(host, str) or not host:
        raise InputError("driver settings", "host", host, "use the broker's name or address")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise InputError("driver settings", "port", port, "use a number from 1 to 65535")
    robot = setup.type
    known = {
        "robot": setup.robot,
        "serial": setup.robot,
        "max_speed_mps": robot.max_speed_mps,
        "max_payload_kg": robot.max_payload_kg,
        "capacity_wh": robot.battery.capacity_wh,
    }
    try:
        config = VehicleConfig(**{**known, **settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise InputError("driver settings", where, first.get("input"), first["msg"]) from None
    return Vda5050Driver(config, MasterLink(host, port))
