"""The plan of a task, as far as its cost depends on it: one by one, and as arrays for many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

USUAL_SURFACE = "floor"
USUAL_ZONE = "site"
USUAL_MODE = "usual"
"""Computing as on the spec sheet: draws `RobotType.hotel_w`."""


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
    speed_mps : float, optional
        Cruising speed, above 0; never more than the type's maximum, which is the default.
    grade : float
        Mean slope, rise over run; negative downhill.
    surface : str
        Class of the floor, as the map names it.
    zone : str
        Part of the site; waiting for others is learned per zone.

    Raises
    ------
    ValueError
        If a number is not finite or out of its range.
    """

    length_m: float
    turn_rad: float
    halts: int
    payload_kg: float
    speed_mps: float | None = None
    grade: float = 0.0
    surface: str = USUAL_SURFACE
    zone: str = USUAL_ZONE

    def __post_init__(self) -> None:
        for name in ("length_m", "turn_rad", "payload_kg"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and at least 0, was {value}")
        if self.halts < 1:
            raise ValueError(f"halts must be at least 1, was {self.halts}")
        if self.speed_mps is not None and not (math.isfinite(self.speed_mps) and self.speed_mps > 0):
            raise ValueError(f"speed_mps must be finite and above 0, was {self.speed_mps}")
        if not math.isfinite(self.grade):
            raise ValueError(f"grade must be finite, was {self.grade}")


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """The legs of a task in their order, the time at standstill (loading, unloading) in all, and how much is computed."""

    legs: tuple[PlanLeg, ...]
    dwell_s: float = 0.0
    compute_mode: str = USUAL_MODE

    def __post_init__(self) -> None:
        if not math.isfinite(self.dwell_s) or self.dwell_s < 0:
            raise ValueError(f"dwell_s must be finite and at least 0, was {self.dwell_s}")

    @property
    def length_m(self) -> float:
        """Length of all legs."""
        return sum(leg.length_m for leg in self.legs)


@dataclass(frozen=True, slots=True)
class PlanArray:
    """Many plans at once, e.g. lots x robots or lots x insertions; all computed in the same mode.

    The last axis of every array of legs is the leg; plans with fewer legs are padded with legs of length and turn 0, which
    take no time and no energy. Shapes only have to broadcast against each other: a lot's loaded leg need not be repeated
    for every robot.

    Parameters
    ----------
    length_m, turn_rad, payload_kg, speed_mps, grade : (..., legs) float64 array
        As in `PlanLeg`; a speed of infinity is the type's maximum.
    halts : (..., legs) float64 array
        At least 1.
    dwell_s : (...) float64 array
    surface, zone : (..., legs) integer array
        Positions in `surfaces` and `zones`.
    surfaces, zones : tuple of str
    compute_mode : str

    Raises
    ------
    ValueError
        If a number is out of its range or not a number.
    """

    length_m: FloatArray
    turn_rad: FloatArray
    halts: FloatArray
    payload_kg: FloatArray
    dwell_s: FloatArray
    speed_mps: FloatArray
    grade: FloatArray
    surface: IndexArray
    zone: IndexArray
    surfaces: tuple[str, ...] = (USUAL_SURFACE,)
    zones: tuple[str, ...] = (USUAL_ZONE,)
    compute_mode: str = USUAL_MODE

    def __post_init__(self) -> None:
        for name in ("length_m", "turn_rad", "payload_kg", "dwell_s"):
            _demand(name, getattr(self, name), least=0.0)
        _demand("halts", self.halts, least=1.0)
        _demand("grade", self.grade)
        if not (self.speed_mps > 0).all():
            raise ValueError(f"speed_mps must be above 0, was {np.min(self.speed_mps)}")
        for name, known in (("surface", self.surfaces), ("zone", self.zones)):
            index = getattr(self, name)
            if index.size and not (index.min() >= 0 and index.max() < len(known)):
                raise ValueError(f"{name} must be from 0 to {len(known) - 1}, was {index.min()} to {index.max()}")

    @classmethod
    def of(
        cls,
        length_m: ArrayLike,
        turn_rad: ArrayLike = 0.0,
        halts: ArrayLike = 1.0,
        payload_kg: ArrayLike = 0.0,
        dwell_s: ArrayLike = 0.0,
        *,
        speed_mps: ArrayLike = math.inf,
        grade: ArrayLike = 0.0,
        surface: ArrayLike = 0,
        zone: ArrayLike = 0,
        surfaces: Sequence[str] = (USUAL_SURFACE,),
        zones: Sequence[str] = (USUAL_ZONE,),
        compute_mode: str = USUAL_MODE,
    ) -> PlanArray:
        """Return plans from whatever numpy turns into arrays; what is left out is as usual."""
        length, turn, stops, payload, speed, slope = (
            np.atleast_1d(np.asarray(a, float)) for a in (length_m, turn_rad, halts, payload_kg, speed_mps, grade)
        )
        return cls(
            length_m=length,
            turn_rad=turn,
            halts=stops,
            payload_kg=payload,
            dwell_s=np.asarray(dwell_s, float),
            speed_mps=speed,
            grade=slope,
            surface=np.atleast_1d(np.asarray(surface, np.intp)),
            zone=np.atleast_1d(np.asarray(zone, np.intp)),
            surfaces=tuple(surfaces),
            zones=tuple(zones),
            compute_mode=compute_mode,
        )

    @classmethod
    def stack(cls, plans: Sequence[TaskPlan]) -> PlanArray:
        """Return plans of one compute mode as arrays of shape ``(plans, legs)``.

        Raises
        ------
        ValueError
            If there are no plans or their compute modes differ.
        """
        modes = {plan.compute_mode for plan in plans}
        if len(modes) != 1:
            raise ValueError(f"plans must be of one compute mode, were of {sorted(modes)}")
        width = max(1, *(len(plan.legs) for plan in plans))
        surfaces = tuple(dict.fromkeys(leg.surface for plan in plans for leg in plan.legs)) or (USUAL_SURFACE,)
        zones = tuple(dict.fromkeys(leg.zone for plan in plans for leg in plan.legs)) or (USUAL_ZONE,)
        none = (0.0, 0.0, 1.0, 0.0, math.inf, 0.0, 0, 0)
        rows = [[_numbers(leg, surfaces, zones) for leg in plan.legs] + [none] * (width - len(plan.legs)) for plan in plans]
        table = np.array(rows, dtype=float)
        length, turn, halts, payload, speed, grade, surface, zone = np.moveaxis(table, -1, 0)
        return cls(
            length_m=length,
            turn_rad=turn,
            halts=halts,
            payload_kg=payload,
            dwell_s=np.array([plan.dwell_s for plan in plans]),
            speed_mps=speed,
            grade=grade,
            surface=surface.astype(np.intp),
            zone=zone.astype(np.intp),
            surfaces=surfaces,
            zones=zones,
            compute_mode=modes.pop(),
        )


def _numbers(leg: PlanLeg, surfaces: tuple[str, ...], zones: tuple[str, ...]) -> tuple[float, ...]:
    speed = math.inf if leg.speed_mps is None else leg.speed_mps
    places = (surfaces.index(leg.surface), zones.index(leg.zone))
    return (leg.length_m, leg.turn_rad, leg.halts, leg.payload_kg, speed, leg.grade, *places)


def _demand(name: str, array: FloatArray, least: float = -math.inf) -> None:
    """Refuse NaN, infinity and numbers below `least`."""
    if array.size and not (array.min() >= least and np.isfinite(array).all()):
        raise ValueError(f"{name} must be finite and at least {least}, was {np.min(array)} to {np.max(array)}")
