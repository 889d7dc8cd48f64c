"""Battery energy and duration of plans: closed form from the spec sheet, nothing measured on the way.

Every stretch between two halts is driven with a trapezoidal speed profile (a triangular one where it is short): constant
acceleration, cruise, constant braking; every turn in place likewise in yaw. In each phase the force at the wheels is
constant::

    straight   F = m g (Crr cos a + sin a) + m v'          a: angle of the slope
    turning    F = m g cos a (Crr + mu d) + J w' / b        d, b: see `drivetrain`

and the energy of the phase follows exactly from the equations of the DC motor with gear (`drivetrain`). Computer and
sensors draw the hotel power of the compute mode all the time.

The energy comes as four parts, `FEATURES`, whose true size a robot learns (`calibration`)::

    hotel      power of computer, sensors, radio x duration
    no_load    what the unloaded motors and gears take over the way
    traction   rolling, slope, payload, acceleration less what braking saves or returns
    turning    rolling and sliding friction of turns in place, and the spin

At factors of 1 they add up to the energy of the motor equations exactly.

Examples
--------
One robot and its tasks, before and after::

    model = EnergyModel(robot)                      # a RobotType
    features = model.features(plan)                 # joules (surfaces, 4), duration_s
    calibration = Calibration(robot)                # fleet_market.pricing.calibration
    expected = calibration.predict(plan)            # expected.mean, expected.sd in joules
    calibration.update(plan, measured_j, executed_s)

Many plans at once::

    plans = PlanArray.of(length_m=lengths, payload_kg=loads)        # (lots, robots, legs)
    drawn_j = EnergyModel(robots).features(plans).energy_j          # (lots, robots)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fleet_market.body import RobotType
from fleet_market.pricing.drivetrain import G_MPS2, Drivetrain, floor, hotel_w
from fleet_market.pricing.plan import FloatArray, PlanArray, TaskPlan

FEATURES = ("hotel", "no_load", "traction", "turning")
HOTEL, NO_LOAD, TRACTION, TURNING = range(len(FEATURES))


def duration_s(plan: TaskPlan, robot: RobotType) -> float:
    """Return how long the plan takes if nobody is in the way, seconds."""
    return float(EnergyModel(robot).features(plan).duration_s)


def energy_j(plan: TaskPlan, robot: RobotType) -> float:
    """Return the energy that the plan draws from the battery by the spec sheet, joules; never below 0."""
    return float(EnergyModel(robot).features(plan).energy_j)


def charger_j(drawn_j: float, robot: RobotType) -> float:
    """Return what the charger takes from the grid to give an energy drawn from the battery back, joules."""
    return drawn_j / robot.battery.charge_efficiency


@dataclass(frozen=True, slots=True)
class Features:
    """The energy of plans in parts, by the spec sheet.

    Parameters
    ----------
    surfaces : tuple of str
    joules : (..., surfaces, 4) float64 array
        Parts as in `FEATURES`. Hotel energy at standstill counts to the first surface: its factor is the same on all.
    zones : tuple of str
    drive_s, drive_m : (..., zones) float64 array
        Time and way of driving in each zone.
    dwell_s : (...) float64 array
        Time at standstill.
    """

    surfaces: tuple[str, ...]
    joules: FloatArray
    zones: tuple[str, ...]
    drive_s: FloatArray
    drive_m: FloatArray
    dwell_s: FloatArray

    @property
    def duration_s(self) -> FloatArray:
        """Durations if nobody is in the way, shape (...)."""
        total: FloatArray = self.drive_s.sum(-1) + self.dwell_s
        return total

    @property
    def energy_j(self) -> FloatArray:
        """Energies at factors of 1, shape (...), at least 0: what a long way down returns is not sold."""
        total: FloatArray = np.maximum(0.0, self.joules.sum((-1, -2)))
        return total

    def lasting(self, seconds: FloatArray | float) -> Features:
        """Return the features of the same plans if they last or lasted another time: the hotel's share follows it."""
        planned = self.duration_s
        ratio = np.where(planned > 0, seconds / np.where(planned > 0, planned, 1.0), 1.0)
        joules = self.joules.copy()
        joules[..., HOTEL] *= ratio[..., None]
        return replace(self, joules=joules)


class EnergyModel:
    """Closed-form energy of one robot type, or of a row of them against many plans at once.

    Parameters
    ----------
    robots : RobotType, or sequence of them
        With a sequence the last axis of plans before the legs must be that of the robots, or 1.
    """

    def __init__(self, robots: RobotType | Sequence[RobotType]) -> None:
        self._robots = (robots,) if isinstance(robots, RobotType) else tuple(robots)
        self._drive = Drivetrain.of(robots)
        self._single = isinstance(robots, RobotType)

    def features(self, plans: TaskPlan | PlanArray) -> Features:
        """Return the parts of the energy of plans, and their times.

        Raises
        ------
        InputError
            If a robot does not know the plan's compute mode.
        """
        if isinstance(plans, TaskPlan):
            stacked = self.features(PlanArray.stack([plans]))
            parts = (stacked.joules, stacked.drive_s, stacked.drive_m, stacked.dwell_s)
            joules, drive_s, drive_m, dwell_s = (part[0] for part in parts)
            return replace(stacked, joules=joules, drive_s=drive_s, drive_m=drive_m, dwell_s=dwell_s)
        rolling, sliding = self._floors(plans)
        legs = _legs(plans, self._drive, rolling, sliding)
        drive_s, drive_m = (_by_class(x, plans.zone, len(plans.zones)) for x in (legs.time_s, legs.length_m))
        shape = np.broadcast_shapes(plans.dwell_s.shape, drive_s.shape[:-1])
        drive_s, drive_m, dwell_s = _wide(drive_s, shape), _wide(drive_m, shape), np.broadcast_to(plans.dwell_s, shape)
        moving_s = drive_s if len(plans.surfaces) == len(plans.zones) == 1 else None
        if moving_s is None:
            moving_s = _wide(_by_class(legs.time_s, plans.surface, len(plans.surfaces)), shape)
        watts = np.array([hotel_w(robot, plans.compute_mode) for robot in self._robots])
        joules = np.empty((*moving_s.shape, len(FEATURES)))
        joules[..., HOTEL] = moving_s
        joules[..., 0, HOTEL] += dwell_s
        joules[..., HOTEL] *= watts[0] if self._single else watts[:, None]
        for k, part in ((NO_LOAD, legs.no_load_j), (TRACTION, legs.traction_j), (TURNING, legs.turning_j)):
            joules[..., k] = _by_class(part, plans.surface, len(plans.surfaces))
        return Features(plans.surfaces, joules, plans.zones, drive_s, drive_m, dwell_s)

    def _floors(self, plans: PlanArray) -> tuple[FloatArray, FloatArray]:
        """Return rolling resistance and sliding friction under every leg."""
        table = np.array([[floor(robot, surface) for surface in plans.surfaces] for robot in self._robots])
        if len(plans.surfaces) == 1:
            rolling, sliding = table[:, 0, 0], table[:, 0, 1]
            return (rolling[0], sliding[0]) if self._single else (rolling[:, None], sliding[:, None])
        row = np.zeros(1, int) if self._single else np.arange(len(self._robots))[:, None]
        return table[row, plans.surface, 0], table[row, plans.surface, 1]


class _Legs(NamedTuple):
    """Shape (..., legs) each."""

    time_s: FloatArray
    length_m: FloatArray
    no_load_j: FloatArray
    traction_j: FloatArray
    turning_j: FloatArray


def _legs(plans: PlanArray, drive: Drivetrain, rolling: FloatArray, sliding: FloatArray) -> _Legs:
    mass_kg = drive.mass_kg + plans.payload_kg
    across, along = _slope(plans.grade)
    weight_n = mass_kg * G_MPS2
    steady_n = weight_n * (rolling * across + along)
    inertia_n = mass_kg * drive.accel_mps2
    speed, ramp_s, cruise_s = _profile(
        plans.length_m, plans.halts, np.minimum(plans.speed_mps, drive.max_speed_mps), drive.accel_mps2
    )
    straight_j = drive.ramp_j(steady_n + inertia_n, speed, ramp_s) + drive.ramp_j(steady_n - inertia_n, speed, ramp_s)
    straight_j += drive.cruise_j(steady_n, speed, cruise_s)
    straight_s = 2 * ramp_s + cruise_s
    idle_j = drive.no_load_j(straight_s, plans.length_m)
    saved_j = np.clip(straight_j, 0.0, idle_j)
    turn_s, turn_j, turn_idle_j = _turns(plans, drive, weight_n * across * (rolling + sliding * drive.turn_drag_n_per_n))
    time_s = straight_s + turn_s
    length_m = np.broadcast_to(plans.length_m, time_s.shape)
    return _Legs(time_s, length_m, saved_j + turn_idle_j, straight_j - saved_j, turn_j)


def _turns(plans: PlanArray, drive: Drivetrain, drag_n: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return duration, energy above that of the unloaded motors, and the latter, of the turns on each leg."""
    if not plans.turn_rad.any():
        none = np.zeros(np.broadcast_shapes(plans.turn_rad.shape, drag_n.shape))
        return none, none, none
    rate, ramp_s, steady_s = _profile(plans.turn_rad, plans.halts, drive.max_yaw_rate_radps, drive.yaw_accel_radps2)
    travel = drive.turn_travel_m_per_rad
    moment_arm = drive.yaw_inertia_per_kg_m2 * drive.yaw_accel_radps2 / travel
    spin_n = (drive.mass_kg + plans.payload_kg) * moment_arm
    rim_mps = rate * travel
    energy_j = drive.ramp_j(drag_n + spin_n, rim_mps, ramp_s) + drive.ramp_j(drag_n - spin_n, rim_mps, ramp_s)
    energy_j += drive.cruise_j(drag_n, rim_mps, steady_s)
    time_s = 2 * ramp_s + steady_s
    idle_j = np.clip(energy_j, 0.0, drive.no_load_j(time_s, plans.turn_rad * travel))
    return time_s, energy_j - idle_j, idle_j


def _profile(
    way: FloatArray, stretches: FloatArray, limit: FloatArray, accel: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return top speed, time of all accelerations (that of all brakings is the same) and time of cruising.

    The way is cut into equal stretches from standstill to standstill, trapezoids or triangles in speed.
    """
    top = np.minimum(limit, np.sqrt(accel * way / stretches))
    ramp_s = stretches * top / accel * (way > 0)
    cruise_s = np.maximum(0.0, way / np.where(top > 0, top, 1.0) - ramp_s)
    return top, ramp_s, cruise_s


def _slope(grade: FloatArray) -> tuple[FloatArray | float, FloatArray | float]:
    """Return cosine and sine of the slope's angle."""
    if not grade.any():
        return 1.0, 0.0
    across = 1 / np.hypot(1.0, grade)
    return across, grade * across


def _by_class(legs: FloatArray, index: np.ndarray[tuple[int, ...], np.dtype[np.intp]], classes: int) -> FloatArray:
    """Return sums over legs by class of the leg, shape (..., classes)."""
    if classes == 1:
        return legs.sum(-1, keepdims=True)
    return np.stack([np.where(index == k, legs, 0.0).sum(-1) for k in range(classes)], axis=-1)


def _wide(array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return np.broadcast_to(array, (*shape, array.shape[-1]))
