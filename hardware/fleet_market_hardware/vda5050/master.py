"""Master control of one vehicle, as a pure state machine: what it says and the time in, what to send out.

A job is one order with one id. It is sent, and again on silence; taken when a state carries its id; done by proof only; and
ended early by a cancel whose effect is looked for. A vehicle that forgets its order, falls silent or is reported gone is
LOST, which says nothing about standstill: by the standard it drives on to its last released node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fleet_market.body import End, Go, Job, Link, Result, Telemetry
from fleet_market.errors import ProtocolError
from fleet_market_hardware.refusing import refusal
from fleet_market_hardware.runner import LATCHED
from fleet_market_hardware.vda5050 import proofs
from fleet_market_hardware.vda5050.body_view import BodyView
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import Effect, JobEnded
from fleet_market_hardware.vda5050.pursuit import Pursuit
from fleet_market_hardware.vda5050.route import Route
from fleet_market_hardware.vda5050.seen import (
    SeenFactsheet,
    read_connection,
    read_factsheet,
    read_place,
    read_state,
)
from fleet_market_hardware.vda5050.speech import Speech
from fleet_market_hardware.vda5050.work import Phase, Work, shape_fault

RETAINED_NS = 2_000_000_000
"""The first connection message, so soon after our own connection, may be an old one that the broker kept."""
ANSWER_NS = 5_000_000_000
"""A vehicle that an old message calls gone has this long to say otherwise."""
MAX_JOB_ID = 64
"""Characters of a job's id in that of its order; the rest makes it unique."""


class Master:
    """Runs jobs on one vehicle, one at a time.

    Parameters
    ----------
    config : VehicleConfig
    ids : callable
        Makes ids that no other order or action has ever had.
    """

    def __init__(self, config: VehicleConfig, ids: Callable[[], str]) -> None:
        self.config, self.spec, self.view = config, config.spec(), BodyView(config)
        self._speech = Speech(config.version, ids)
        self._pursuit = Pursuit(config, self.view, self._speech)
        self.factsheet: SeenFactsheet | None = None
        self.estopped = False
        self.refused = 0
        """Messages that were no JSON objects."""
        self._connected_ns: int | None = None
        """Of our own connection, until the first connection message after it."""
        self._polled_ns = self._paused_ns = 0
        self._answer_by_ns: int | None = None

    @property
    def version(self) -> str:
        """In which the vehicle is spoken to."""
        return self._speech.version

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._pursuit.work is not None

    @property
    def drives(self) -> bool:
        """Whether the vehicle may be driving for us: in a job, or still in one that was lost."""
        return self._pursuit.work is not None or self._pursuit.orphan is not None

    def telemetry(self, now_ns: int) -> Telemetry:
        """Return the newest snapshot of the vehicle."""
        shown = self.view.telemetry(now_ns)
        return replace(shown, faults=(LATCHED, *shown.faults)) if self.estopped else shown

    def passed(self) -> int:
        """Return how many path points of the running `Go` lie behind the vehicle; 0 without one."""
        work = self._pursuit.work
        if work is None or work.phase not in {Phase.RUNNING, Phase.ENDING} or self.view.state is None:
            return 0
        step, points = work.route.passed(proofs.reached(work.route, self.view.state), self.view.pose())
        return points if step < len(work.job.steps) and step >= work.steps_done else 0

    # --- what comes in --------------------------------------------------------------------------------------------------

    def connected(self, now_ns: int) -> list[Effect]:
        """Take note that we are on the broker, again: a vehicle may say nothing for 30 s unless it is asked."""
        self._connected_ns = now_ns
        return [self._speech.instant("stateRequest"), self._speech.instant("factsheetRequest")]

    def hear(self, topic: str, payload: bytes, now_ns: int) -> list[Effect]:
        """Take a message of the vehicle; `topic` is its last level. Nothing that a vehicle says raises."""
        try:
            match topic:
                case "state":
                    state = read_state(payload)
                    self._speech.learn(state.version)
                    self.view.take_state(state, now_ns)
                    self._answer_by_ns = None
                case "visualization":
                    self.view.take_place(read_place(payload), now_ns)
                case "connection":
                    return self._hear_connection(payload, now_ns)
                case "factsheet":
                    self.factsheet = read_factsheet(payload)
                    self._speech.learn(self.factsheet.version)
        except ProtocolError:
            self.refused += 1
            return []
        return self.tick(now_ns)

    def _hear_connection(self, payload: bytes, now_ns: int) -> list[Effect]:
        version, there = read_connection(payload)
        self._speech.learn(version)
        connected_ns, self._connected_ns = self._connected_ns, None
        if there is None:
            return []
        if there:
            return [self._speech.instant("stateRequest")]
        if connected_ns is not None and now_ns - connected_ns < RETAINED_NS:
            self._answer_by_ns = now_ns + ANSWER_NS
            return [self._speech.instant("stateRequest")]
        self.view.broken = True
        return self.tick(now_ns)

    # --- what is wanted -------------------------------------------------------------------------------------------------

    def begin(self, job: Job, deadline_s: float, now_ns: int) -> list[Effect]:
        """Begin a job; it ends with a `JobEnded`, at once if it is refused."""
        if why := self._refusal(job, now_ns):
            return [JobEnded(Result(job.id, End.REJECTED, 0, why))]
        state, pose = self.view.state, self.view.pose()
        if state is None or pose is None or state.position is None:
            return [JobEnded(Result(job.id, End.REJECTED, 0, "it has not said where it is"))]
        order_id = f"{job.id[:MAX_JOB_ID]}.{self._speech.new_id()}"
        map_id = state.position.map_id or self.config.map_id
        route = Route(order_id, job, pose, self.config, map_id, self._speech.new_id)
        phase = Phase.PREPARING if state.charging else Phase.ORDERED
        return self._pursuit.begin(Work(job, route, now_ns + round(deadline_s * 1e9), phase, now_ns), now_ns)

    def _refusal(self, job: Job, now_ns: int) -> str:
        if self.estopped:
            return "emergency stop is latched"
        if self._pursuit.work is not None:
            return "another job is running"
        if why := refusal(self.spec, job) or shape_fault(job):
            return why
        if self.view.link(now_ns) is not Link.UP or self.view.state is None:
            return f"link is {self.view.link(now_ns)}"
        if self._pursuit.orphan is not None:
            return "it may still drive the order of a job that was lost"
        may_charge = "charge" in self.config.actions
        return proofs.why_not_ready(self.view.state, may_charge=may_charge, position_known=self.view.pose() is not None)

    def release(self, job_id: str, points: int, now_ns: int) -> list[Effect]:
        """Extend the base of the running `Go` to its first `points` points."""
        work = self._pursuit.work
        if work is None or work.job.id != job_id or work.phase not in {Phase.PREPARING, Phase.ORDERED, Phase.RUNNING}:
            return []
        step = next((i for i, s in enumerate(work.job.steps) if i >= work.steps_done and isinstance(s, Go)), None)
        if step is None or not work.route.release(step, points) or work.phase is Phase.PREPARING:
            return []
        return self._pursuit.send_order(work, now_ns) if work.accepted_update == work.route.update_id else []

    def stop(self, now_ns: int) -> list[Effect]:
        """End the running job; without one, have the vehicle drop whatever it drives."""
        if self._pursuit.work is None:
            return [self._speech.instant("cancelOrder")] if self.view.state and not proofs.is_idle(self.view.state) else []
        return self._pursuit.wind_down(self._pursuit.work, End.CANCELLED, "stopped", now_ns)

    def ask_state(self) -> list[Effect]:
        """Ask the vehicle for its state."""
        return [self._speech.instant("stateRequest")]

    def estop(self, *, engage: bool, now_ns: int) -> list[Effect]:
        """Latch or release: startPause and a cancel, or stopPause. No safety function: VDA 5050 has no remote stop."""
        self.estopped, self._paused_ns = engage, now_ns
        return [self._speech.instant("startPause" if engage else "stopPause"), *(self.stop(now_ns) if engage else [])]

    # --- time and states ------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> list[Effect]:
        """Look at what is known by now; called with every message and now and then without one."""
        effects: list[Effect] = []
        if self._answer_by_ns is not None and now_ns >= self._answer_by_ns:
            self._answer_by_ns, self.view.broken = None, True
        if self._pursuit.work is not None:
            effects += self._pursuit.look(self._pursuit.work, now_ns)
        effects += self._keep_paused(now_ns)
        effects += self._pursuit.drop_orphan(now_ns)
        heard_ns = max(self.view.state_ns, self._polled_ns)
        if self._pursuit.work is not None and not self.view.broken and now_ns - heard_ns >= self.config.poll_s * 1e9:
            self._polled_ns = now_ns
            effects.append(self._speech.instant("stateRequest"))
        return effects

    def _keep_paused(self, now_ns: int) -> list[Effect]:
        state = self.view.state
        if state is None or now_ns - self._paused_ns < self.config.resend_s * 1e9 or self.view.state_ns <= self._paused_ns:
            return []
        if self._paused_ns == 0 or state.paused in {None, self.estopped}:
            return []
        self._paused_ns = now_ns
        return [self._speech.instant("startPause" if self.estopped else "stopPause")]
