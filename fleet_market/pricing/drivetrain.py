"""Numbers of a robot type that its energy depends on, as floats or as arrays over many robots.

The battery energy of a wheel motor over a phase of constant force follows from the equations of the DC motor with gear
(Mabuchi and Maxon formularies; Pentzer, Brennan and Reichard 2014, ACC, use the same form for a skid-steered robot)::

    load current  I = tau / (N eta k) + I0      driving (tau: wheel torque, N: gear ratio, eta: its efficiency)
                  I = tau eta / (N k) + I0      braking (tau < 0)
    power         P = I (I R + k N / r v)       v: wheel speed at the rim, r: wheel radius
    battery       P / eta_driver where P > 0, P eta_regeneration where P < 0

with torque constant k, resistance R and no-load current I0. At constant force P is linear in the speed, and on a ramp the
speed is linear in time: the drawn and the returned share of a ramp are two triangles under one straight line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleet_market.body import RobotType
from fleet_market.errors import InputError
from fleet_market.pricing.plan import USUAL_MODE, FloatArray

G_MPS2 = 9.80665
"""Standard gravity (ISO 80000-3)."""
CONTACT_HALF_LENGTH_M = 0.004
"""Half-length of the contact patch of a small solid tyre [assumption]."""
MOTORS = 2

Number = FloatArray
"""A float or an array over robots."""


@dataclass(frozen=True, slots=True)
class Drivetrain:
    """What the energy of one robot type, or of each of many, depends on.

    Every field is a float64 array of shape ``()`` for one type or ``(robots, 1)`` for many, the last axis standing for the
    legs of a plan. Lengths in metres, forces in newton, currents in ampere, powers in watt.
    """

    mass_kg: Number
    accel_mps2: Number
    max_speed_mps: Number
    max_yaw_rate_radps: Number
    yaw_accel_radps2: Number
    yaw_inertia_per_kg_m2: Number
    """Of a disc as wide as the footprint, for robot and payload [assumption]."""
    turn_travel_m_per_rad: Number
    """Travel of each wheel per radian turned in place."""
    turn_drag_n_per_n: Number
    """Force at the wheels' rims that sliding takes in a turn, per newton of weight and coefficient of friction."""
    drive_a_per_n: Number
    """Motor current per newton at the rims of all wheels while driving; gear losses add."""
    brake_a_per_n: Number
    """As above while braking; gear losses help."""
    no_load_a: Number
    resistance_ohm: Number
    emf_v_per_mps: Number
    """Back-EMF per rim speed."""
    drawn: Number
    """Battery power per power at the terminals of one motor, for all motors, where it is drawn."""
    returned: Number
    """As above where it is returned."""

    @classmethod
    def of(cls, robots: RobotType | Sequence[RobotType]) -> Drivetrain:
        """Return the numbers of one type, or of many as columns."""
        if isinstance(robots, RobotType):
            return cls(*(np.asarray(number) for number in _numbers(robots)))
        table = np.array([_numbers(robot) for robot in robots]).reshape(len(robots), -1)
        return cls(*(column[:, None] for column in table.T))

    def cruise_j(self, force_n: FloatArray, speed_mps: Any, time_s: FloatArray) -> FloatArray:
        """Return the battery energy of a phase of constant force and speed, joules."""
        current = self._current_a(force_n)
        power = current * (current * self.resistance_ohm + self.emf_v_per_mps * speed_mps)
        energy: FloatArray = power * time_s * np.where(power < 0, self.returned, self.drawn)
        return energy

    def ramp_j(self, force_n: FloatArray, speed_mps: Any, time_s: FloatArray) -> FloatArray:
        """Return the battery energy of a phase of constant force between standstill and a speed, joules."""
        current = self._current_a(force_n)
        slow = current * current * self.resistance_ohm
        fast = slow + current * self.emf_v_per_mps * speed_mps
        if not (fast < 0).any():
            whole: FloatArray = (slow + fast) * (0.5 * time_s * self.drawn)
            return whole
        below = np.minimum(fast, 0.0)
        span = np.where(below < 0, slow - fast, 1.0)
        drawn = np.where(below < 0, slow * slow / span, slow + fast) * self.drawn
        energy: FloatArray = 0.5 * time_s * (drawn - below * below / span * self.returned)
        return energy

    def no_load_j(self, time_s: FloatArray, travel_m: FloatArray) -> FloatArray:
        """Return what motors and gears take without any load, joules."""
        watts = self.no_load_a * self.no_load_a * self.resistance_ohm * self.drawn
        newtons = self.no_load_a * self.emf_v_per_mps * self.drawn
        energy: FloatArray = watts * time_s + newtons * travel_m
        return energy

    def _current_a(self, force_n: FloatArray) -> FloatArray:
        current: FloatArray = np.maximum(force_n, 0.0) * self.drive_a_per_n
        if np.any(force_n < 0):
            current += np.minimum(force_n, 0.0) * self.brake_a_per_n
        current += self.no_load_a
        return current


def _numbers(robot: RobotType) -> tuple[float, ...]:
    m, r = robot.motor, robot.wheel_radius_m
    amps = r / (MOTORS * m.gear_ratio * m.torque_constant_nm_a)
    travel_m, drag = _turning(robot)
    return (
        robot.mass_kg,
        robot.max_accel_mps2,
        robot.max_speed_mps,
        robot.max_yaw_rate_radps,
        robot.max_yaw_accel_radps2,
        robot.footprint_radius_m**2 / 2,
        travel_m,
        drag,
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

    Four wheels at (+-L/2, +-B/2) slide sideways at yaw rate times L/2. Coulomb friction along and across the sliding
    direction balances in moment where the rims run 1 + (L/B)^2 times as fast as the ground under them moves; the drive
    force is then mu m g L / sqrt(L^2 + B^2). The ratio is the "effective track" of Mandow et al. 2007 (IROS, experimental
    kinematics of skid-steer robots); for a Husky it gives 1.80, its maker's driver uses 1.875.
    """
    half_m, base_m = robot.track_width_m / 2, robot.wheelbase_m
    if robot.drive == "differential":
        return half_m, 2 / 3 * CONTACT_HALF_LENGTH_M / half_m
    return half_m * (1 + (base_m / robot.track_width_m) ** 2), base_m / float(np.hypot(base_m, robot.track_width_m))


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
    """Return rolling resistance and sliding friction of a type on a class of floor; the usual ones where it is not named."""
    named = robot.surfaces.get(surface)
    if named is None:
        return robot.rolling_resistance, robot.sliding_friction
    return named.rolling_resistance, named.sliding_friction
