"""The plan of a task, as far as its cost depends on it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanLeg:
    """One way from stop to stop.

    Parameters
    ----------
    length_m : float
        At least 0.
    turn_rad : float
        Sum of the absolute changes of heading, turned in place; at least 0.
    halts : int
        How often the robot comes to rest on the way, the end of the leg included; at least 1.
    payload_kg : float
        What it carries; at least 0.

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.
    """

    length_m: float
    turn_rad: float
    halts: int
    payload_kg: float

    def __post_init__(self) -> None:
        for name in ("length_m", "turn_rad", "payload_kg"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and at least 0, was {value}")
        if self.halts < 1:
            raise ValueError(f"halts must be at least 1, was {self.halts}")


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """The legs of a task in their order, and the time at standstill (loading, unloading) in all."""

    legs: tuple[PlanLeg, ...]
    dwell_s: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.dwell_s) or self.dwell_s < 0:
            raise ValueError(f"dwell_s must be finite and at least 0, was {self.dwell_s}")

    @property
    def length_m(self) -> float:
        """Length of all legs."""
        return sum(leg.length_m for leg in self.legs)
