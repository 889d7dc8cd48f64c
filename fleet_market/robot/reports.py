"""What a robot reports by itself: how far its contracts are, and where it is."""

from __future__ import annotations

from fleet_market.body import Pose
from fleet_market.protocol.messages import Position, Progress, WirePose
from fleet_market.robot.metering import Meter
from fleet_market.robot.situation import Doing, Situation
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

PROGRESS_S = 1.0
"""While a parcel is aboard: should the robot break down, another one looks for it where the robot was last."""
SIGNS_PER_LEASE = 3
"""Of contracts that wait or whose parcel is still to be fetched: two signs may be lost, and full queues do not make a fleet
talk all the time."""
POSITION_S, RESTING_POSITION_S = 0.2, 1.0


class Reporter:
    """Reports for one agent."""

    def __init__(self, situation: Situation, voice: Voice, meter: Meter) -> None:
        self._now, self._voice, self._meter = situation, voice, meter

    def report(self, pose: Pose, now_ns: int) -> None:
        """Say what is due."""
        now = self._now
        for task in now.tasks:
            if now_ns - task.last_progress_ns >= _period_ns(task) or task.told != (task.phase, task.aboard):
                task.last_progress_ns, task.told = now_ns, (task.phase, task.aboard)
                self._voice.say("progress", self._progress(task, pose))
        moving = now.telemetry is not None and now.telemetry.moving
        if now_ns - now.last_position_ns >= ns(POSITION_S if moving else RESTING_POSITION_S):
            now.last_position_ns = now_ns
            self._voice.say("position", self._position(pose, moving=moving))

    def _progress(self, task: Task, pose: Pose) -> Progress:
        energy_j = self._meter.so_far_j(task)
        return Progress(
            contract=task.award.contract,
            phase=task.phase,
            pose=WirePose.of(pose),
            aboard=task.aboard,
            energy_j=None if energy_j is None else round(energy_j, 1),
        )

    def _position(self, pose: Pose, *, moving: bool) -> Position:
        now = self._now
        trip, soc = now.trip, None if now.telemetry is None else now.telemetry.battery.soc
        return Position(
            pose=WirePose.of(pose),
            soc=None if soc is None else round(soc, 4),
            route=None if trip is None else trip.route.route,
            passed=0 if trip is None else trip.at + max(1, now.passed),
            stops_done=0 if trip is None else trip.leg,
            moving=moving,
            doing=self._shown(),
            queue=len(now.tasks),
        )

    def _shown(self) -> str:
        task = self._now.at_hand
        return task.phase if self._now.doing is Doing.WORKING and task is not None else self._now.doing


def _period_ns(task: Task) -> int:
    """Return how often a contract gives a sign of life if nothing happens."""
    renewed_s = task.award.lease_s / SIGNS_PER_LEASE
    return ns(min(PROGRESS_S, renewed_s) if task.aboard else renewed_s)
