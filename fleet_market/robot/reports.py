"""What a robot reports by itself: how far its contracts are, and where it is."""

from __future__ import annotations

from fleet_market.body import Pose
from fleet_market.protocol.messages import Position, Progress, WirePose
from fleet_market.robot.situation import Doing, Situation
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

PROGRESS_S = 1.0
POSITION_S, RESTING_POSITION_S = 0.2, 1.0


class Reporter:
    """Reports for one agent."""

    def __init__(self, situation: Situation, voice: Voice) -> None:
        self._now, self._voice = situation, voice

    def report(self, pose: Pose, now_ns: int) -> None:
        """Say what is due."""
        now = self._now
        for task in now.tasks:
            if now_ns - task.last_progress_ns >= ns(PROGRESS_S) or task.told != (task.phase, task.aboard):
                task.last_progress_ns, task.told = now_ns, (task.phase, task.aboard)
                progress = Progress(
                    contract=task.award.contract, phase=task.phase, pose=WirePose.of(pose), aboard=task.aboard
                )
                self._voice.say("progress", progress)
        moving = now.telemetry is not None and now.telemetry.moving
        if now_ns - now.last_position_ns >= ns(POSITION_S if moving else RESTING_POSITION_S):
            now.last_position_ns = now_ns
            self._voice.say("position", self._position(pose, moving=moving))

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
        if self._now.doing is Doing.WORKING and self._now.tasks:
            return self._now.tasks[0].phase
        return self._now.doing
