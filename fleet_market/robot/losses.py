"""What a robot does about contracts that come to nothing: cancelled, taken away, or given up by itself."""

from __future__ import annotations

from fleet_market.body import Act, Go, Pose, Telemetry
from fleet_market.protocol.messages import Abort, Cancel, Phase, WirePose, printable
from fleet_market.robot.effects import StopJob
from fleet_market.robot.situation import Doing, Situation
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

HANDOVER_WAIT_S = 240.0
"""How long a robot that has lost a contract with the parcel aboard waits for the one that takes it over; then it sets the
parcel down where it stands, for that is where the market says that it is to be fetched."""
RETRY_FAULT_S = 20.0
GIVE_UP_FAULT_S = 20.0
"""A robot with a grave fault gives all its contracts up after this long: others can do them."""
EMPTY_KG = 0.5


class Losses:
    """Deals with the lost contracts of one agent."""

    def __init__(self, situation: Situation, voice: Voice) -> None:
        self._now, self._voice = situation, voice

    def lose(self, body: Cancel, now_ns: int) -> None:
        """Take note that a contract is gone, or that its parcel goes back."""
        now = self._now
        task = next((t for t in now.tasks if t.award.contract == body.contract), None)
        if task is None:
            return
        if not body.bring_back:
            self._drop(task, now_ns)
        elif task.phase is not Phase.UNLOADING:
            task.award = task.award.model_copy(update={"dropoff": task.award.pickup})
            if task is now.at_hand:
                self.replan("the parcel goes back")

    def failed(self, reason: str, now_ns: int) -> None:
        """Give up what the robot is about and what it has aboard, and try again to move after a while."""
        now = self._now
        now.ask_again = True
        if now.put_back is not None and self._scale_shows_no_more(now.telemetry):
            now.put_back = None
            now.orphans.clear()
        elif now.put_back is not None and now.orphans:  # perhaps that one was fetched, of two of the same weight
            now.orphans.append(now.put_back)
            now.put_back = now.orphans.pop(0)
        for task in [t for t in now.tasks if t.phase is not Phase.QUEUED]:
            self.abort(task, reason, now_ns)
        now.doing = Doing.FAULT
        now.wait_until_ns = now_ns + ns(RETRY_FAULT_S)

    def look_at_faults(self, telemetry: Telemetry, now_ns: int) -> None:
        """Stop under a grave fault, and give all contracts up if it stays; a charging robot goes on charging."""
        now, fault = self._now, telemetry.grave
        if fault is None:
            now.faulty_since_ns = None
            return
        if now.faulty_since_ns is None:
            now.faulty_since_ns = now_ns
        if now.job is not None and not any(isinstance(step, Act) and step.kind == "charge" for step in now.job.steps):
            self.stop(f"fault: {fault}")
        if now_ns - now.faulty_since_ns >= ns(GIVE_UP_FAULT_S):
            for task in list(now.tasks):
                self.abort(task, f"fault: {fault}", now_ns)

    def abort(self, task: Task, reason: str, now_ns: int) -> None:
        """Give a contract up."""
        pose = None if self._now.telemetry is None else self._now.telemetry.pose
        body = Abort(
            contract=task.award.contract,
            reason=printable(reason),
            pose=WirePose.of(pose or self._now.config.home),
            aboard=task.aboard,
        )
        self._voice.must_say("abort", body, now_ns, task.award.contract)
        self._drop(task, now_ns)

    def _drop(self, task: Task, now_ns: int) -> None:
        """Forget a contract that is gone; a parcel that is aboard waits for whoever takes it over."""
        now = self._now
        under_way = task is now.at_hand
        now.forget(task)
        if task.phase is Phase.QUEUED:
            return
        if under_way:
            now.asked = now.weighed = None  # a way for it would be driven in vain
        if task.phase is Phase.LOADING and now.job is not None:
            now.put_back = task.award
        elif task.aboard:
            now.orphans.append(task.award)
            now.stranded_until_ns = now_ns + ns(HANDOVER_WAIT_S)
            self.stop("the contract is gone")
        elif under_way:
            self.replan("the contract is gone")

    def wait_for_handover(self, telemetry: Telemetry, now_ns: int) -> None:
        """Stand until others have taken the parcels whose contracts are gone; at last set down what nobody has fetched."""
        now = self._now
        now.doing = Doing.FAULT
        if self._scale_shows_no_more(telemetry):
            now.orphans.clear()
            now.ask_again = True
        elif now_ns >= now.stranded_until_ns:
            now.put_back = now.orphans.pop(0)

    def _scale_shows_no_more(self, telemetry: Telemetry | None) -> bool:
        """Return whether nothing but parcels under contract is aboard."""
        shown_kg = None if telemetry is None else telemetry.payload_kg
        return shown_kg is not None and shown_kg < self._now.contracted_kg() + EMPTY_KG

    def unload_again(self, pose: Pose) -> tuple[Go | Act, ...]:
        """Return how to set a parcel down here: its order was cancelled while it was loaded, or nobody has fetched it."""
        award = self._now.put_back
        if award is None:
            return ()
        self._now.trip = None
        return Go(pose), Act("unload", award.order, award.payload_kg, self._now.config.type.handling_s)

    def replan(self, reason: str) -> None:
        """Have another route as soon as possible: stop driving, but finish loading and unloading."""
        self._now.ask_again = True
        self.stop(reason)

    def stop(self, reason: str) -> None:
        """Stop driving."""
        now = self._now
        handling = any(task.phase in (Phase.LOADING, Phase.UNLOADING) for task in now.tasks)
        if now.job is not None and not now.stopping and not handling:
            now.stopping = True
            self._voice.want(StopJob(reason))
