"""The pursuit of one job on one vehicle: from its order to its end, by what the vehicle's states prove."""

from __future__ import annotations

from fleet_market.body import Act, End, Go, Link, Result
from fleet_market_hardware.vda5050 import proofs
from fleet_market_hardware.vda5050.body_view import BodyView
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import Effect, JobEnded, StepDone
from fleet_market_hardware.vda5050.speech import Speech
from fleet_market_hardware.vda5050.work import Phase, Work

SETTLE_NS = 1_000_000_000
"""A vehicle that does not answer a cancel stands if it still says so this long after it."""
PLACE_SLACK_M = 0.05


class Pursuit:
    """Sees jobs through, one at a time.

    Parameters
    ----------
    config : VehicleConfig
    view : BodyView
        What the vehicle says.
    speech : Speech
        What is said to it.
    """

    def __init__(self, config: VehicleConfig, view: BodyView, speech: Speech) -> None:
        self.config, self.view, self._speech = config, view, speech
        self.work: Work | None = None
        self.orphan: str | None = None
        """Order of a job that ended LOST: it may still be driven."""
        self._lost_ns = self._cancelled_ns = 0

    def begin(self, work: Work, now_ns: int) -> list[Effect]:
        """Send the order of a job; a vehicle on a charger leaves it first."""
        self.work, self.orphan = work, None
        return self._ask(work, "stopCharging", now_ns) if work.phase is Phase.PREPARING else self.send_order(work, now_ns)

    def look(self, work: Work, now_ns: int) -> list[Effect]:
        """Look how far a job is, and do what is due."""
        if (link := self.view.link(now_ns)) is not Link.UP:
            why = "its connection broke, or it has gone" if link is Link.LOST else f"silent for {self.config.stale_s:g} s"
            return self._lose(work, why, now_ns)
        if work.phase is not Phase.ENDING and now_ns >= work.deadline_ns:
            return self.wind_down(work, End.TIMED_OUT, "the deadline has passed", now_ns)
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
            return self.send_order(work, now_ns)
        if now_ns - work.since_ns > self.config.accept_s * 1e9:
            return self.wind_down(work, End.FAILED, f"still charging after {self.config.accept_s:g} s", now_ns)
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
            return self.wind_down(work, End.FAILED, why, now_ns)
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
            return [*effects, *self.wind_down(work, End.FAILED, why, now_ns)]
        if work.accepted_update < route.update_id:
            if (error := proofs.rejection(route, state, work.known)) is not None:
                return [*effects, *self.wind_down(work, End.FAILED, f"update refused: {error}", now_ns)]
            return [*effects, *self._resend(work, now_ns)]
        if route.wants_update:
            return [*effects, *self.send_order(work, now_ns)]
        return [*effects, *(self._arrived(work, now_ns) if proofs.is_complete(route, state) else [])]

    def _off_path(self, work: Work) -> str:
        state, pose, limit_m = self.view.state, self.view.pose(), self.config.off_path_m
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
            return [told, *self.wind_down(work, End.DONE, "", now_ns)]
        if state.charging is False and now_ns - work.since_ns > self.config.accept_s * 1e9:
            soc = "an unknown state of charge" if state.soc is None else f"{state.soc:.0%}"
            return self.wind_down(work, End.FAILED, f"does not charge, at {soc}", now_ns)
        return []

    def _look_ending(self, work: Work, now_ns: int) -> list[Effect]:
        state = self.view.state
        if state is not None and self.view.state_ns > work.since_ns and self._has_stopped(work):
            return self._end(work, work.end, work.reason, standstill=True)
        if now_ns - work.since_ns > self.config.stop_s * 1e9:
            why = f"{work.reason}; standstill NOT confirmed within {self.config.stop_s:g} s".removeprefix("; ")
            self.orphan, self._lost_ns = work.route.order_id, now_ns
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

    def wind_down(self, work: Work, end: End, reason: str, now_ns: int) -> list[Effect]:
        """End a job early: cancel its order, leave the charger, and look for standstill."""
        if work.phase is Phase.ENDING:
            return []
        ordered = work.phase in {Phase.ORDERED, Phase.RUNNING}
        work.phase, work.since_ns, work.end, work.reason = Phase.ENDING, now_ns, end, reason
        work.asked.clear()
        effects = self._ask(work, "cancelOrder", now_ns) if ordered else []
        if self.view.state is not None and self.view.state.charging and "charge" in self.config.actions:
            effects += self._ask(work, "stopCharging", now_ns)
        return [*effects, self._speech.instant("stateRequest")]

    def _lose(self, work: Work, reason: str, now_ns: int) -> list[Effect]:
        self.orphan, self._lost_ns = (work.route.order_id if work.phase is not Phase.PREPARING else None), now_ns
        return self._end(work, End.LOST, reason, standstill=None)

    def _end(self, work: Work, end: End, reason: str, *, standstill: bool | None) -> list[Effect]:
        self.work = None
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

    def drop_orphan(self, now_ns: int) -> list[Effect]:
        """Have a vehicle that is back drop the order of a job that is over for us."""
        state = self.view.state
        if self.orphan is None or self.work is not None or state is None or self.view.link(now_ns) is not Link.UP:
            return []
        if self.view.state_ns >= self._lost_ns and (state.order_id != self.orphan or proofs.is_idle(state)):
            self.orphan = None
            return []
        if now_ns - self._cancelled_ns < self.config.resend_s * 1e9:
            return []
        self._cancelled_ns = now_ns
        return [self._speech.instant("cancelOrder"), self._speech.instant("stateRequest")]

    # --- what goes out --------------------------------------------------------------------------------------------------

    def send_order(self, work: Work, now_ns: int) -> list[Effect]:
        """Send the order, or its next update, with all that is released."""
        work.order = work.route.order()
        work.known = self.view.state.errors if self.view.state is not None else ()
        work.sent_ns = now_ns
        return [self._speech.order(work.order)]

    def _resend(self, work: Work, now_ns: int) -> list[Effect]:
        """Send the same order again on silence; a vehicle that has it ignores the copy (2.1.0, section 6.6.4.3)."""
        if now_ns - work.sent_ns < self.config.resend_s * 1e9 or work.order is None:
            return []
        work.sent_ns = now_ns
        return [self._speech.order(work.order)]

    def _ask(self, work: Work, kind: str, now_ns: int) -> list[Effect]:
        """Send an instant action of the job; the same one again where it has had no effect."""
        name, sent_ns = work.asked.get(kind, (self._speech.new_id(), 0))
        if sent_ns and now_ns - sent_ns < self.config.resend_s * 1e9:
            return []
        work.asked[kind] = (name, now_ns)
        return [self._speech.instant(kind, name)]
