"""Master control of one vehicle, as a pure state machine: what it says and the time in, what to send out.

A job is one order with one id. It is sent, and again on silence; taken when a state carries its id; done by proof only; and
ended early by a cancel whose effect is looked for. A vehicle that forgets its order, falls silent or is reported gone is
LOST, which says nothing about standstill: by the standard it drives on to its last released node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fleet_market.body import Act, End, Go, Job, Link, Pose, Result, Telemetry
from fleet_market.errors import ProtocolError
from fleet_market_hardware.refusing import refusal
from fleet_market_hardware.runner import LATCHED
from fleet_market_hardware.vda5050 import proofs
from fleet_market_hardware.vda5050.body_view import BodyView
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import Effect, JobEnded, Send, StepDone
from fleet_market_hardware.vda5050.messages import Action, InstantActions
from fleet_market_hardware.vda5050.route import Route
from fleet_market_hardware.vda5050.seen import (
    SeenFactsheet,
    read_connection,
    read_factsheet,
    read_place,
    read_state,
)
from fleet_market_hardware.vda5050.versions import VERSIONS, instant_actions_in, order_in
from fleet_market_hardware.vda5050.work import Phase, Work, shape_fault

SETTLE_NS = 1_000_000_000
"""A vehicle that does not answer a cancel stands if it still says so this long after it."""
RETAINED_NS = 2_000_000_000
"""The first connection message, so soon after our own connection, may be an old one that the broker kept."""
ANSWER_NS = 5_000_000_000
"""A vehicle that an old message calls gone has this long to say otherwise."""
PLACE_SLACK_M = 0.05
MAX_JOB_ID = 64
"""Characters of a job's id in that of its order; the rest makes it unique."""
CHARGE_SLACK_SOC = 0.01


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
        self.version = config.version
        self.factsheet: SeenFactsheet | None = None
        self.estopped = False
        self.refused = 0
        """Messages that were no JSON objects."""
        self._ids = ids
        self._work: Work | None = None
        self._orphan: str | None = None
        """Order of a job that ended LOST: it may still be driven."""
        self._lost_ns = 0
        self._connected_ns: int | None = None
        """Of our own connection, until the first connection message after it."""
        self._polled_ns = self._paused_ns = self._cancelled_ns = 0
        self._answer_by_ns: int | None = None

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._work is not None

    @property
    def drives(self) -> bool:
        """Whether the vehicle may be driving for us: in a job, or still in one that was lost."""
        return self._work is not None or self._orphan is not None

    def telemetry(self, now_ns: int) -> Telemetry:
        """Return the newest snapshot of the vehicle."""
        shown = self.view.telemetry(now_ns)
        return replace(shown, faults=(LATCHED, *shown.faults)) if self.estopped else shown

    def passed(self) -> int:
        """Return how many path points of the running `Go` lie behind the vehicle; 0 without one."""
        work = self._work
        if work is None or work.phase not in {Phase.RUNNING, Phase.ENDING} or self.view.state is None:
            return 0
        step, points = work.route.passed(proofs.reached(work.route, self.view.state), self._pose())
        return points if step < len(work.job.steps) and step >= work.steps_done else 0

    def _pose(self) -> Pose | None:
        return self.view.telemetry(self.view.state_ns).pose

    # --- what comes in --------------------------------------------------------------------------------------------------

    def connected(self, now_ns: int) -> list[Effect]:
        """Take note that we are on the broker, again: a vehicle may say nothing for 30 s unless it is asked."""
        self._connected_ns = now_ns
        return [self._instant("stateRequest"), self._instant("factsheetRequest")]

    def hear(self, topic: str, payload: bytes, now_ns: int) -> list[Effect]:
        """Take a message of the vehicle; `topic` is its last level. Nothing that a vehicle says raises."""
        try:
            match topic:
                case "state":
                    state = read_state(payload)
                    self._learn(state.version)
                    self.view.take_state(state, now_ns)
                    self._answer_by_ns = None
                case "visualization":
                    self.view.take_place(read_place(payload), now_ns)
                case "connection":
                    return self._hear_connection(payload, now_ns)
                case "factsheet":
                    self.factsheet = read_factsheet(payload)
                    self._learn(self.factsheet.version)
        except ProtocolError:
            self.refused += 1
            return []
        return self.tick(now_ns)

    def _learn(self, version: str | None) -> None:
        """Speak as the vehicle does: some take no other version than their own."""
        if version is not None and version.partition(".")[0] in {known.partition(".")[0] for known in VERSIONS}:
            self.version = version

    def _hear_connection(self, payload: bytes, now_ns: int) -> list[Effect]:
        version, there = read_connection(payload)
        self._learn(version)
        connected_ns, self._connected_ns = self._connected_ns, None
        if there is None:
            return []
        if there:
            return [self._instant("stateRequest")]
        if connected_ns is not None and now_ns - connected_ns < RETAINED_NS:
            self._answer_by_ns = now_ns + ANSWER_NS
            return [self._instant("stateRequest")]
        self.view.broken = True
        return self.tick(now_ns)

    # --- what is wanted -------------------------------------------------------------------------------------------------

    def begin(self, job: Job, deadline_s: float, now_ns: int) -> list[Effect]:
        """Begin a job; it ends with a `JobEnded`, at once if it is refused."""
        if why := self._refusal(job, now_ns):
            return [JobEnded(Result(job.id, End.REJECTED, 0, why))]
        state, pose = self.view.state, self._pose()
        if state is None or pose is None or state.position is None:
            return [JobEnded(Result(job.id, End.REJECTED, 0, "it has not said where it is"))]
        order_id = f"{job.id[:MAX_JOB_ID]}.{self._ids()}"
        map_id = state.position.map_id or self.config.map_id
        route = Route(order_id, job, pose, self.config, map_id, self._ids)
        phase = Phase.PREPARING if state.charging else Phase.ORDERED
        work = self._work = Work(job, route, now_ns + round(deadline_s * 1e9), phase, now_ns)
        self._orphan = None
        return self._ask(work, "stopCharging", now_ns) if phase is Phase.PREPARING else self._send_order(work, now_ns)

    def _refusal(self, job: Job, now_ns: int) -> str:
        if self.estopped:
            return "emergency stop is latched"
        if self._work is not None:
            return "another job is running"
        if why := refusal(self.spec, job) or shape_fault(job):
            return why
        if self.view.link(now_ns) is not Link.UP or self.view.state is None:
            return f"link is {self.view.link(now_ns)}"
        if self._orphan is not None:
            return "it may still drive the order of a job that was lost"
        may_charge = "charge" in self.config.actions
        return proofs.why_not_ready(self.view.state, may_charge=may_charge, position_known=self._pose() is not None)

    def release(self, job_id: str, points: int, now_ns: int) -> list[Effect]:
        """Extend the base of the running `Go` to its first `points` points."""
        work = self._work
        if work is None or work.job.id != job_id or work.phase not in {Phase.PREPARING, Phase.ORDERED, Phase.RUNNING}:
            return []
        step = next((i for i, s in enumerate(work.job.steps) if i >= work.steps_done and isinstance(s, Go)), None)
        if step is None or not work.route.release(step, points) or work.phase is Phase.PREPARING:
            return []
        return self._send_order(work, now_ns) if work.accepted_update == work.route.update_id else []

    def stop(self, now_ns: int) -> list[Effect]:
        """End the running job; without one, have the vehicle drop whatever it drives."""
        if self._work is None:
            return [self._instant("cancelOrder")] if self.view.state and not proofs.is_idle(self.view.state) else []
        return self._wind_down(self._work, End.CANCELLED, "stopped", now_ns)

    def ask_state(self) -> list[Effect]:
        """Ask the vehicle for its state."""
        return [self._instant("stateRequest")]

    def estop(self, *, engage: bool, now_ns: int) -> list[Effect]:
        """Latch or release: startPause and a cancel, or stopPause. No safety function: VDA 5050 has no remote stop."""
        self.estopped, self._paused_ns = engage, now_ns
        return [self._instant("startPause" if engage else "stopPause"), *(self.stop(now_ns) if engage else [])]

    # --- time and states ------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> list[Effect]:
        """Look at what is known by now; called with every message and now and then without one."""
        effects: list[Effect] = []
        if self._answer_by_ns is not None and now_ns >= self._answer_by_ns:
            self._answer_by_ns, self.view.broken = None, True
        if self._work is not None:
            effects += self._look(self._work, now_ns)
        effects += self._keep_paused(now_ns)
        effects += self._drop_orphan(now_ns)
        heard_ns = max(self.view.state_ns, self._polled_ns)
        if self._work is not None and not self.view.broken and now_ns - heard_ns >= self.config.poll_s * 1e9:
            self._polled_ns = now_ns
            effects.append(self._instant("stateRequest"))
        return effects

    def _look(self, work: Work, now_ns: int) -> list[Effect]:
        if (link := self.view.link(now_ns)) is not Link.UP:
            why = "its connection broke, or it has gone" if link is Link.LOST else f"silent for {self.config.stale_s:g} s"
            return self._lose(work, why, now_ns)
        if work.phase is not Phase.ENDING and now_ns >= work.deadline_ns:
            return self._wind_down(work, End.TIMED_OUT, "the deadline has passed", now_ns)
        match work.phase:
            case Phase.PREPARING:
                return self._look_preparing(work, now_ns)
            case Phase.ORDERED:
                return self._look_ordered(work, now_ns)
            case Phase.RUNNING:
                return self._look_running(work, now_ns)
            case Phase.CHARGING:
                return self._look_charging(work, now_ns)
            case Phase.ENDING:
                return self._look_ending(work, now_ns)

    def _look_preparing(self, work: Work, now_ns: int) -> list[Effect]:
        state = self.view.state
        if state is not None and self.view.state_ns > work.since_ns and state.charging is False:
            work.phase, work.since_ns = Phase.ORDERED, now_ns
            return self._send_order(work, now_ns)
        if now_ns - work.since_ns > self.config.accept_s * 1e9:
            return self._wind_down(work, End.FAILED, f"still charging after {self.config.accept_s:g} s", now_ns)
        return self._ask(work, "stopCharging", now_ns)

    def _look_ordered(self, work: Work, now_ns: int) -> list[Effect]:
        state = self.view.state
        if state is not None and state.order_id == work.route.order_id:
            work.phase, work.since_ns = Phase.RUNNING, now_ns
            return self._look_running(work, now_ns)
        if state is not None and (error := proofs.rejection(work.route, state, work.known)) is not None:
            return self._end(work, End.REJECTED, str(error), standstill=state.driving is False)
        if now_ns - work.since_ns > self.config.accept_s * 1e9:
            why = f"the order was neither taken nor refused within {self.config.accept_s:g} s"
            return self._wind_down(work, End.FAILED, why, now_ns)
        return self._resend(work, now_ns)

    def _look_running(self, work: Work, now_ns: int) -> list[Effect]:
        state, route = self.view.state, work.route
        if state is None:
            return []
        if state.order_id != route.order_id:
            return self._lose(
                work, f"it has order {state.order_id!r} instead of ours: restarted, or another master", now_ns
            )
        effects = self._tell_steps(work)
        work.accepted_update = max(work.accepted_update, min(state.update_id, route.update_id))
        if (
            why := proofs.failed_action(route.actions, state)
            or str(proofs.grave_error(state) or "")
            or self._off_path(work)
        ):
            return [*effects, *self._wind_down(work, End.FAILED, why, now_ns)]
        if work.accepted_update < route.update_id:
            if (error := proofs.rejection(route, state, work.known)) is not None:
                return [*effects, *self._wind_down(work, End.FAILED, f"update refused: {error}", now_ns)]
            return [*effects, *self._resend(work, now_ns)]
        if route.wants_update:
            return [*effects, *self._send_order(work, now_ns)]
        return [*effects, *(self._arrived(work, now_ns) if proofs.is_complete(route, state) else [])]

    def _off_path(self, work: Work) -> str:
        state, pose, limit_m = self.view.state, self._pose(), self.config.off_path_m
        if state is None or pose is None or limit_m is None:
            return ""
        off_m = work.route.off_path_m(proofs.reached(work.route, state), pose)
        return f"{off_m:.2f} m off the path" if off_m > limit_m else ""

    def _arrived(self, work: Work, now_ns: int) -> list[Effect]:
        """Take the vehicle's word that all is done, if it also is where the job ends."""
        goal = next((step for step in reversed(work.job.steps) if isinstance(step, Go)), None)
        state = self.view.state
        pose = None if state is None else self.view.pose_of(state.position)
        if goal is not None:
            if pose is None:
                return []
            away_m = pose.distance_to(goal.pose.x, goal.pose.y)
            if away_m > goal.tol_m + PLACE_SLACK_M:
                return self._end(work, End.FAILED, f"says that it has arrived, {away_m:.2f} m away", standstill=True)
        last = work.job.steps[-1]
        if isinstance(last, Act) and last.kind == "charge":
            work.steps_done, work.phase, work.since_ns = len(work.job.steps) - 1, Phase.CHARGING, now_ns
            return self._look_charging(work, now_ns)
        work.steps_done = len(work.job.steps)
        return self._end(work, End.DONE, "", standstill=True)

    def _look_charging(self, work: Work, now_ns: int) -> list[Effect]:
        state, act = self.view.state, work.job.steps[-1]
        if state is None or not isinstance(act, Act):
            return []
        enough = act.until_soc is None or (state.soc is not None and state.soc >= act.until_soc)
        if enough and (state.charging or act.until_soc is not None):
            work.steps_done = len(work.job.steps)
            told = StepDone(work.steps_done - 1, "act")
            if act.until_soc is None:
                return [told, *self._end(work, End.DONE, "", standstill=True)]
            return [told, *self._wind_down(work, End.DONE, "", now_ns)]
        if state.charging is False and now_ns - work.since_ns > self.config.accept_s * 1e9:
            soc = "an unknown state of charge" if state.soc is None else f"{state.soc:.0%}"
            return self._wind_down(work, End.FAILED, f"does not charge, at {soc}", now_ns)
        return []

    def _look_ending(self, work: Work, now_ns: int) -> list[Effect]:
        state = self.view.state
        if state is not None and self.view.state_ns > work.since_ns and self._has_stopped(work):
            return self._end(work, work.end, work.reason, standstill=True)
        if now_ns - work.since_ns > self.config.stop_s * 1e9:
            why = f"{work.reason}; standstill NOT confirmed within {self.config.stop_s:g} s".removeprefix("; ")
            self._orphan, self._lost_ns = work.route.order_id, now_ns
            end = End.FAILED if work.end is End.DONE else work.end
            return self._end(work, end, why, standstill=False)
        effects: list[Effect] = []
        if "cancelOrder" in work.asked:
            effects += self._ask(work, "cancelOrder", now_ns)
        if state is not None and state.charging and "charge" in self.config.actions:
            effects += self._ask(work, "stopCharging", now_ns)
        return effects

    def _has_stopped(self, work: Work) -> bool:
        """Return whether the state shows standstill, and that the cancel has come through or had nothing to cancel."""
        state = self.view.state
        if state is None or not proofs.is_idle(state):
            return False
        if state.charging and any(isinstance(step, Act) and step.kind == "charge" for step in work.job.steps):
            return False
        if "cancelOrder" not in work.asked:
            return True
        answer = state.actions.get(work.asked["cancelOrder"][0])
        answered = answer is not None and answer.status in {proofs.FINISHED, proofs.FAILED}
        return answered or self.view.state_ns - work.since_ns >= SETTLE_NS

    # --- ends -----------------------------------------------------------------------------------------------------------

    def _wind_down(self, work: Work, end: End, reason: str, now_ns: int) -> list[Effect]:
        if work.phase is Phase.ENDING:
            return []
        ordered = work.phase in {Phase.ORDERED, Phase.RUNNING}
        work.phase, work.since_ns, work.end, work.reason = Phase.ENDING, now_ns, end, reason
        work.asked.clear()
        effects = self._ask(work, "cancelOrder", now_ns) if ordered else []
        if self.view.state is not None and self.view.state.charging and "charge" in self.config.actions:
            effects += self._ask(work, "stopCharging", now_ns)
        return [*effects, self._instant("stateRequest")]

    def _lose(self, work: Work, reason: str, now_ns: int) -> list[Effect]:
        self._orphan, self._lost_ns = (work.route.order_id if work.phase is not Phase.PREPARING else None), now_ns
        return self._end(work, End.LOST, reason, standstill=None)

    def _end(self, work: Work, end: End, reason: str, *, standstill: bool | None) -> list[Effect]:
        self._work = None
        return [JobEnded(Result(work.job.id, end, work.steps_done, reason, standstill))]

    def _tell_steps(self, work: Work) -> list[Effect]:
        """Tell the steps that are proven by now, in their order."""
        state, told = self.view.state, list[Effect]()
        while state is not None and work.steps_done < len(work.job.steps):
            number, step = work.steps_done, work.job.steps[work.steps_done]
            if isinstance(step, Go):
                if not work.route.is_reached(number, proofs.reached(work.route, state)):
                    break
            elif step.kind == "charge" or not proofs.all_finished([work.route.action_of[number]], state):
                break
            work.steps_done += 1
            told.append(StepDone(number, type(step).__name__.lower()))
        return told

    def _drop_orphan(self, now_ns: int) -> list[Effect]:
        """Have a vehicle that is back drop the order of a job that is over for us."""
        state = self.view.state
        if self._orphan is None or self._work is not None or state is None or self.view.link(now_ns) is not Link.UP:
            return []
        if self.view.state_ns >= self._lost_ns and (state.order_id != self._orphan or proofs.is_idle(state)):
            self._orphan = None
            return []
        if now_ns - self._cancelled_ns < self.config.resend_s * 1e9:
            return []
        self._cancelled_ns = now_ns
        return [self._instant("cancelOrder"), self._instant("stateRequest")]

    def _keep_paused(self, now_ns: int) -> list[Effect]:
        state = self.view.state
        if state is None or now_ns - self._paused_ns < self.config.resend_s * 1e9 or self.view.state_ns <= self._paused_ns:
            return []
        if self._paused_ns == 0 or state.paused in {None, self.estopped}:
            return []
        self._paused_ns = now_ns
        return [self._instant("startPause" if self.estopped else "stopPause")]

    # --- what goes out --------------------------------------------------------------------------------------------------

    def _send_order(self, work: Work, now_ns: int) -> list[Effect]:
        """Send the order, or its next update, with all that is released."""
        work.order = work.route.order()
        work.known = self.view.state.errors if self.view.state is not None else ()
        work.sent_ns = now_ns
        return [Send("order", self.version, order_in(self.version, work.order.body()))]

    def _resend(self, work: Work, now_ns: int) -> list[Effect]:
        """Send the same order again on silence; a vehicle that has it ignores the copy (2.1.0, section 6.6.4.3)."""
        if now_ns - work.sent_ns < self.config.resend_s * 1e9 or work.order is None:
            return []
        work.sent_ns = now_ns
        return [Send("order", self.version, order_in(self.version, work.order.body()))]

    def _ask(self, work: Work, kind: str, now_ns: int) -> list[Effect]:
        """Send an instant action of the job; the same one again where it has had no effect."""
        name, sent_ns = work.asked.get(kind, (self._ids(), 0))
        if sent_ns and now_ns - sent_ns < self.config.resend_s * 1e9:
            return []
        work.asked[kind] = (name, now_ns)
        return [self._instant(kind, name)]

    def _instant(self, kind: str, name: str | None = None) -> Send:
        action = Action(action_type=kind, action_id=name or self._ids(), blocking_type="NONE")
        body = InstantActions(actions=(action,)).body()
        return Send("instantActions", self.version, instant_actions_in(self.version, body["actions"]))
