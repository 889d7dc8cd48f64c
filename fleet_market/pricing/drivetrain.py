"""Numbers of a robot type that its energy depends on, and the energy of its motors over a phase of constant force.

The battery energy follows from the equations of the DC motor with gear (Mabuchi and Maxon formularies; Pentzer, Brennan and
Reichard 2014, ACC, use the same form for a skid-steered robot)::

    load current  I = tau / (N eta k) + I0      driving (tau: wheel torque, N: gear ratio, eta: its efficiency)
                  I = tau eta / (N k) + I0      braking (tau < 0)
    power         P = I (I R + k N / r v)       v: wheel speed at the rim, r: wheel radius
    battery       P / eta_driver where P > 0, P eta_regeneration where P < 0

with torque constant k, resistance R and no-load current I0. At constant force P is linear in the speed, and on a ramp the
speed is linear in time: the drawn and the returned share of a ramp are two triangles under one straight line.

The formulas are written once, for plain numbers (one plan in microseconds) and for arrays (a million plans in a second).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fleet_market.body import RobotType
from fleet_market.errors import InputError
from fleet_market.pricing.plan import USUAL_MODE

G_MPS2 = 9.80665
"""Standard gravity (ISO 80000-3)."""
CONTACT_HALF_LENGTH_M = 0.004
"""Half-length of the contact patch of a small solid tyre [assumption]."""
MOTORS = 2

Value = Any
"""A float, or a float64 array; all values of one call broadcast against each other."""


class Arithmetic(NamedTuple):
    """What differs between plain numbers and arrays."""

    minimum: Callable[[Value, Value], Value]
    maximum: Callable[[Value, Value], Value]
    where: Callable[[Value, Value, Value], Value]
    """Both branches are computed before."""
    sqrt: Callable[[Value], Value]
    any: Callable[[Value], bool | np.bool_]


NUMBERS = Arithmetic(min, max, lambda condition, yes, no: yes if condition else no, math.sqrt, bool)
ARRAYS = Arithmetic(np.minimum, np.maximum, np.where, np.sqrt, np.any)


@dataclass(frozen=True, slots=True)
class Drivetrain:
    """What the energy of one robot type, or of each of many, depends on.

    Every value is a float for one type, or a ``(robots, 1)`` float64 array for many, the last axis standing for the legs of
    a plan. Lengths in metres, forces in newton, currents in ampere.
    """

    ops: Arithmetic
    mass_kg: Value
    accel_mps2: Value
    max_speed_mps: Value
    max_yaw_rate_radps: Value
    yaw_accel_radps2: Value
    yaw_inertia_per_kg_m2: Value
    """Of a disc as wide as the footprint, for robot and payload [assumption]."""
    turn_travel_m_per_rad: Value
    """Travel of each wheel per radian turned in place."""
    turn_drag_n_per_n: Value
    """Force at the rims of all wheels that sliding takes in a turn, per newton of weight and coefficient of friction."""
    drive_a_per_n: Value
    """Current of each motor per newton at the rims of all wheels while driving; gear losses add."""
    brake_a_per_n: Value
    """As above while braking; gear losses help."""
    no_load_a: Value
    resistance_ohm: Value
    emf_v_per_mps: Value
    """Back-EMF per rim speed."""
    drawn: Value
    """Battery power of all motors per power at the terminals of one, where it is drawn."""
    returned: Value
    """As above where it is returned."""

    @classmethod
    def of(cls, robot: RobotType) -> Drivetrain:
        """Return the numbers of one type."""
        return cls(NUMBERS, *_numbers(robot))

    @classmethod
    def of_many(cls, robots: Sequence[RobotType]) -> Drivetrain:
        """Return the numbers of many types as columns."""
        table = np.array([_numbers(robot) for robot in robots]).reshape(len(robots), -1)
        return cls(ARRAYS, *(column[:, None] for column in table.T))

    def cruise_j(self, force_n: Value, speed_mps: Value, time_s: Value) -> Value:
        """Return the battery energy of a phase of constant force and speed, joules."""
        current = self._current_a(force_n)
        power = current * (current * self.resistance_ohm + self.emf_v_per_mps * speed_mps)
        if not self.ops.any(power < 0):
            return power * time_s * self.drawn
        return power * time_s * self.ops.where(power < 0, self.returned, self.drawn)

    def ramp_j(self, force_n: Value, speed_mps: Value, time_s: Value) -> Value:
        """Return the battery energy of a phase of constant force between standstill and a speed, joules."""
        current = self._current_a(force_n)
        slow = current * current * self.resistance_ohm
        fast = slow + current * self.emf_v_per_mps * speed_mps
        if not self.ops.any(fast < 0):
            return (slow + fast) * (0.5 * time_s * self.drawn)
        below = self.ops.minimum(fast, 0.0)
        span = self.ops.where(below < 0, slow - fast, 1.0)
        drawn = self.ops.where(below < 0, slow * slow / span, slow + fast) * self.drawn
        return 0.5 * time_s * (drawn - below * below / span * self.returned)

    def no_load_j(self, time_s: Value, travel_m: Value) -> Value:
        """Return what motors and gears take without any load, joules."""
        return self.no_load_a * self.drawn * (self.no_load_a * self.resistance_ohm * time_s + self.emf_v_per_mps * travel_m)

    def _current_a(self, force_n: Value) -> Value:
        if not self.ops.any(force_n < 0):
            return force_n * self.drive_a_per_n + self.no_load_a
        pulled, pushed = self.ops.maximum(force_n, 0.0), self.ops.minimum(force_n, 0.0)
        return pulled * self.drive_a_per_n + pushed * self.brake_a_per_n + self.no_load_a


def _numbers(robot: RobotType) -> tuple[float, ...]:
    m, r = robot.motor, robot.wheel_radius_m
    amps = r / (MOTORS * m.gear_ratio * m.torque_constant_nm_a)
    return (
        robot.mass_kg,
        robot.max_accel_mps2,
        robot.max_speed_mps,
        robot.max_yaw_rate_radps,
        robot.max_yaw_accel_radps2,
        robot.footprint_radius_m**2 / 2,
        *_turning(robot),
        amps / m.gear_efficiency,
        amps * m.gear_efficiency,
        m.no_load_current_a,
        m.resistance_ohm,
        m.torque_constant_nm_a * m.gear_ratio / r,
        MOTORS / m.driver_efficiency,
        MOTORS * m.regeneration_efficiency,
    )


def _turning(robot: RobotType) -> tuple[float, float]:
    """Return wheel travel per radian and rim force per newton of friction, turning in place.

    Two driven wheels scrub their contact patches: a moment of 2/3 mu a per newton of load with patches of half-length a
    (Popov 2010, Contact Mechanics and Friction, section 10.4), over half the track B.

    Four wheels at (+-L/2, +-B/2) slide sideways at yaw rate times L/2. Coulomb friction against the sliding direction
    balances in moment where the rims run 1 + (L/B)^2 times as fast as the ground under them moves; the drive force is then
    mu m g L / sqrt(L^2 + B^2). The ratio is the "effective track" of Mandow et al. 2007 (IROS, Experimental kinematics for
    wheeled skid-steer mobile robots); for a Husky it gives 1.80, its maker's driver uses 1.875.
    """
    half_m, base_m = robot.track_width_m / 2, robot.wheelbase_m
    if robot.drive == "differential":
        return half_m, 2 / 3 * CONTACT_HALF_LENGTH_M / half_m
    return half_m * (1 + (base_m / robot.track_width_m) ** 2), base_m / math.hypot(base_m, robot.track_width_m)


def hotel_w(robot: RobotType, mode: str) -> float:
    """Return the power of computer, sensors and radio in a mode of computing, watts.

    Raises
    ------
    InputError
        If the type does not know the mode.
    """
    if mode in robot.compute_modes_w:
        return robot.compute_modes_w[mode]
    if mode == USUAL_MODE:
        return robot.hotel_w
    raise InputError(robot.name, "compute_mode", mode, f"use one of {', '.join((USUAL_MODE, *robot.compute_modes_w))}")


def floor(robot: RobotType, surface: str) -> tuple[float, float]:
    """Return rolling resistance and sliding friction on a class of floor, the usual ones where it is not named."""
    named = robot.surfaces.get(surface)
    if named is None:
        return robot.rolling_resistance, robot.sliding_friction
    return named.rolling_resistance, named.sliding_friction
