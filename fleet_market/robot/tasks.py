"""A contract as the robot that holds it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_market.body import Pose
from fleet_market.protocol.messages import Award, Phase, StepEvidence
from fleet_market.robot.bidding import Appraisal


@dataclass(slots=True)
class Task:
    """One contract from its award to its end."""

    award: Award
    appraisal: Appraisal
    """What it takes, from where the robot meant to be when it got the award."""
    phase: Phase = Phase.QUEUED
    aboard: bool = False
    steps: list[StepEvidence] = field(default_factory=list)
    started_ns: int = 0
    energy_at_start_j: float = 0.0
    retry_at_ns: int = 0
    """When to ask for the right of way again, after it was not to be had."""
    give_up_ns: int | None = None
    last_progress_ns: int = 0
    told: tuple[Phase, bool] | None = None
    """Phase, and whether the parcel is aboard, as the market knows it."""

    @property
    def end(self) -> Pose:
        """Where it leaves the robot."""
        return self.appraisal.end
