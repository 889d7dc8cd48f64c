"""Battery energy and duration of plans: closed form from the spec sheet, nothing measured on the way.

Computer and sensors draw the hotel power of the compute mode all the time; what driving takes follows leg by leg from
speed profile and motor equation (`legs`, `drivetrain`). The energy comes as four parts, `FEATURES`, whose true size a robot
learns (`calibration`)::

    hotel      power of computer, sensors, radio x duration
    no_load    what the unloaded motors and gears take over the way
    traction   rolling, slope, payload, acceleration, less what braking saves or returns
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

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet_market.body import USUAL_SURFACE, RobotType
from fleet_market.pricing.drivetrain import ARRAYS, Drivetrain, Value, floor, hotel_w
from fleet_market.pricing.legs import Parts, Way, drive
from fleet_market.pricing.plan import USUAL_ZONE, FloatArray, IndexArray, PlanArray, PlanLeg, TaskPlan

FEATURES = ("hotel", "no_load", "traction", "turning")
HOTEL, NO_LOAD, TRACTION, TURNING = range(len(FEATURES))
MOMENT_S = 1e-6
"""A plan no longer than this draws no hotel power worth a factor."""
AT_ONCE = 8192
"""Legs that are computed at once: what the formulas touch then stays in the processor's cache."""


def duration_s(plan: TaskPlan, robot: RobotType) -> float:
    """Return how long the plan takes if nobody is in the way, seconds."""
    train = Drivetrain.of(robot)
    return float(plan.dwell_s + sum(_leg(leg, robot, train).time_s for leg in plan.legs))


def energy_j(plan: TaskPlan, robot: RobotType) -> float:
    """Return the energy that the plan draws from the battery by the spec sheet, joules; never below 0.

    Raises
    ------
    InputError
        If the robot does not know the plan's compute mode.
    """
    train = Drivetrain.of(robot)
    parts = [_leg(leg, robot, train) for leg in plan.legs]
    driving_j = sum(p.no_load_j + p.traction_j + p.turning_j for p in parts)
    seconds = plan.dwell_s + sum(p.time_s for p in parts)
    return float(max(0.0, hotel_w(robot, plan.compute_mode) * seconds + driving_j))


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
        return _added(self.drive_s) + self.dwell_s

    @property
    def energy_j(self) -> FloatArray:
        """Energies at factors of 1, shape (...), at least 0: what a long way down returns is not sold."""
        total: FloatArray = np.maximum(0.0, _added(_added(self.joules)))
        return total

    def lasting(self, seconds: FloatArray | float) -> Features:
        """Return the features of the same plans if they last or lasted another time: the hotel's share follows it.

        A plan of no more than `MOMENT_S` stays as it is.
        """
        planned = self.duration_s
        lasts = planned > MOMENT_S
        ratio = np.where(lasts, seconds / np.where(lasts, planned, 1.0), 1.0)
        joules = self.joules.copy()
        joules[..., HOTEL] *= ratio[..., None]
        return replace(self, joules=joules)


class EnergyModel:
    """Closed-form energy of one robot type, or of a row of them against many plans at once.

    Parameters
    ----------
    robots : RobotType, or sequence of them
        With a sequence only arrays of plans can be computed; their last axis before the legs is that of the robots, or 1.
    """

    def __init__(self, robots: RobotType | Sequence[RobotType]) -> None:
        self._one = robots if isinstance(robots, RobotType) else None
        self._robots = (robots,) if isinstance(robots, RobotType) else tuple(robots)
        self._train = Drivetrain.of(robots) if isinstance(robots, RobotType) else Drivetrain.of_many(robots)

    def features(self, plans: TaskPlan | PlanArray) -> Features:
        """Return the parts of the energy of plans, and their times.

        Raises
        ------
        InputError
            If a robot does not know the plan's compute mode.
        ValueError
            If one plan is asked of a row of robots.
        """
        if isinstance(plans, PlanArray):
            return self._of_many(plans)
        if self._one is None:
            raise ValueError("one plan must be asked of one robot: use PlanArray for many robots")
        return _of_one(plans, self._one, self._train)

    def _of_many(self, plans: PlanArray) -> Features:
        train = replace(self._train, ops=ARRAYS)
        way, surface, zone = self._ways(plans)
        shape = np.broadcast_shapes(*(np.shape(a) for a in (*way, surface, zone, train.mass_kg, plans.dwell_s[..., None])))
        *outer, width = shape
        surfaces, zones = len(plans.surfaces), len(plans.zones)
        joules = np.zeros((*outer, surfaces, len(FEATURES)))
        drive_s, drive_m = np.zeros((*outer, zones)), np.zeros((*outer, zones))
        for rows in _pieces(shape):
            cut = [_rows(a, rows, len(shape)) for a in (*way, surface, zone)]
            parts = drive(Way(*cut[:-2]), train)
            places = zip((HOTEL, NO_LOAD, TRACTION, TURNING), parts, strict=True)
            for k, part in places:
                joules[(rows, ..., k)] = _by_class(part, cut[-2], surfaces, width)
            drive_s[rows] = _by_class(parts.time_s, cut[-1], zones, width)
            drive_m[rows] = _by_class(cut[0], cut[-1], zones, width)
        joules[..., 0, HOTEL] += plans.dwell_s
        watts = np.array([hotel_w(robot, plans.compute_mode) for robot in self._robots])
        joules[..., HOTEL] *= watts[0] if self._one else watts[:, None]
        return Features(plans.surfaces, joules, plans.zones, drive_s, drive_m, np.broadcast_to(plans.dwell_s, outer))

    def _ways(self, plans: PlanArray) -> tuple[Way, IndexArray, IndexArray]:
        table = np.array([[floor(robot, surface) for surface in plans.surfaces] for robot in self._robots])
        row = np.zeros((1, 1), np.intp) if self._one else np.arange(len(self._robots))[:, None]
        if len(plans.surfaces) == 1:
            rolling, sliding = table[row, 0, 0], table[row, 0, 1]
        else:
            rolling, sliding = table[row, plans.surface, 0], table[row, plans.surface, 1]
        numbers = (plans.length_m, plans.turn_rad, plans.halts, plans.payload_kg, plans.speed_mps, plans.grade)
        if self._one and len(plans.surfaces) == 1:
            rolling, sliding = rolling[0], sliding[0]
        return Way(*numbers, rolling, sliding), plans.surface, plans.zone


def _of_one(plan: TaskPlan, robot: RobotType, train: Drivetrain) -> Features:
    surfaces = tuple(dict.fromkeys(leg.surface for leg in plan.legs)) or (USUAL_SURFACE,)
    zones = tuple(dict.fromkeys(leg.zone for leg in plan.legs)) or (USUAL_ZONE,)
    joules = [[0.0] * len(FEATURES) for _ in surfaces]
    drive_s, drive_m = [0.0] * len(zones), [0.0] * len(zones)
    watts = hotel_w(robot, plan.compute_mode)
    joules[0][HOTEL] = watts * plan.dwell_s
    for leg in plan.legs:
        parts = _leg(leg, robot, train)
        row, zone = joules[surfaces.index(leg.surface)], zones.index(leg.zone)
        row[HOTEL] += watts * parts.time_s
        row[NO_LOAD] += parts.no_load_j
        row[TRACTION] += parts.traction_j
        row[TURNING] += parts.turning_j
        drive_s[zone] += parts.time_s
        drive_m[zone] += leg.length_m
    return Features(surfaces, np.array(joules), zones, np.array(drive_s), np.array(drive_m), np.array(plan.dwell_s))


def _leg(leg: PlanLeg, robot: RobotType, train: Drivetrain) -> Parts:
    speed = math.inf if leg.speed_mps is None else leg.speed_mps
    numbers = (leg.length_m, leg.turn_rad, leg.halts, leg.payload_kg, speed, leg.grade)
    return drive(Way(*numbers, *floor(robot, leg.surface)), train)


def _pieces(shape: tuple[int, ...]) -> list[slice]:
    """Return slices of the first axis of about `AT_ONCE` elements; the whole where there is but one axis."""
    if len(shape) == 1:
        return [slice(None)]
    height = max(1, AT_ONCE // max(1, math.prod(shape[1:])))
    return [slice(start, start + height) for start in range(0, shape[0], height)]


def _rows(array: Value, rows: slice, ndim: int) -> Value:
    whole = np.ndim(array) < ndim or array.shape[0] == 1 or ndim == 1
    return array if whole else array[rows]


def _by_class(value: Value, index: IndexArray, classes: int, width: int) -> FloatArray:
    """Return sums over the `width` legs by class of the leg, shape (..., classes)."""
    legs = np.broadcast_to(value, (*np.shape(value)[:-1], width))
    if classes == 1:
        return _added(legs)[..., None]
    return np.stack([_added(np.where(index == k, legs, 0.0)) for k in range(classes)], axis=-1)


def _added(array: FloatArray) -> FloatArray:
    """Return sums over the last axis; the few legs, surfaces or parts are added faster than numpy reduces short axes."""
    total: FloatArray = array[..., 0]
    for k in range(1, array.shape[-1]):
        total = total + array[..., k]
    return total
