"""A contract as the robot that holds it sees it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_market.ids import OrderId
from fleet_market.pricing import PlanLeg
from fleet_market.protocol.messages import Award, Fix, Phase, StepEvidence
from fleet_market.robot.queue import Errand


@dataclass(slots=True)
class Task:
    """One contract from its award to its end."""

    award: Award
    phase: Phase = Phase.QUEUED
    aboard: bool = False
    steps: list[StepEvidence] = field(default_factory=list)
    legs: list[PlanLeg] = field(default_factory=list)
    """Its share of the ways that were driven for it."""
    dwell_s: float = 0.0
    energy_j: float = 0.0
    metered: bool = True
    """Whether all of that was counted by a meter, and none of it derived from the state of charge."""
    executed_s: float = 0.0
    fixes: list[Fix] = field(default_factory=list)
    """Where the robot set out for it, and its stops so far."""
    charged: bool = False
    """Whether the robot has charged since it set out for it."""
    shared: bool = False
    """Whether other parcels were aboard on its ways."""
    last_progress_ns: int = 0
    told: tuple[Phase, bool] | None = None
    """Phase, and whether the parcel is aboard, as the market knows it."""

    @property
    def order(self) -> OrderId:
        """The order that it is about."""
        return self.award.order

    @property
    def errand(self) -> Errand:
        """What is left to do."""
        return Errand.of(self.award, aboard=self.aboard)
