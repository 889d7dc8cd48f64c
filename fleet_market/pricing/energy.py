"""Battery energy and duration of a plan: closed form from the spec sheet, nothing measured on the way.

Every stretch between two halts is driven with a trapezoidal speed profile (a triangular one where it is short): constant
acceleration, cruise, constant braking. In each phase the force at the wheels is constant, hence the motor current, and
the energy of the phase follows exactly from the equations of the DC motor with gear (Mabuchi/Maxon formulary; the same
form is used by Pentzer et al. 2014 for skid-steered robots)::

    load current  I = tau / (N eta k) + I0      driving (tau: wheel torque, N: gear ratio, eta: its efficiency)
                  I = tau eta / (N k) + I0      braking (tau < 0)
    energy        E = (I^2 R t + k N / r I d) / eta_driver     over time t and wheel travel d, r: wheel radius

with torque constant k, resistance R and no-load current I0. What braking returns is lost: no regeneration. Rolling
resistance is Crr m g. Turning in place moves each wheel by half the track times the angle against rolling resistance and
the scrub of the contact patch, 2/3 mu a per newton of load with a patch of half-length a (Popov 2010, Contact Mechanics
and Friction, section 10.4). Computer and sensors draw the hotel power all the time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fleet_market.body import RobotType
from fleet_market.pricing.plan import PlanLeg, TaskPlan

G_MPS2 = 9.80665
"""Standard gravity (ISO 80000-3)."""
SCRUB_FRICTION = 1.0
CONTACT_HALF_LENGTH_M = 0.004
"""Half-length of the contact patch of a small solid tyre [assumption]."""


class _Phase(NamedTuple):
    """A stretch of time in which the force at the wheels is constant."""

    force_n: float
    time_s: float
    travel_m: float


def duration_s(plan: TaskPlan, robot: RobotType) -> float:
    """Return how long the plan takes, seconds."""
    return plan.dwell_s + sum(_leg_duration_s(leg, robot) for leg in plan.legs)


def energy_j(plan: TaskPlan, robot: RobotType) -> float:
    """Return the energy that the plan draws from the battery, joules."""
    hotel_j = robot.hotel_w * duration_s(plan, robot)
    return hotel_j + sum(_motor_energy_j(phase, robot) for leg in plan.legs for phase in _phases(leg, robot))


def _leg_duration_s(leg: PlanLeg, robot: RobotType) -> float:
    return sum(phase.time_s for phase in _phases(leg, robot))


def _phases(leg: PlanLeg, robot: RobotType) -> list[_Phase]:
    mass_kg = robot.mass_kg + leg.payload_kg
    rolling_n = robot.rolling_resistance * mass_kg * G_MPS2
    accel, stretch_m = robot.max_accel_mps2, leg.length_m / leg.halts
    speed = min(robot.max_speed_mps, math.sqrt(accel * stretch_m))
    ramp_s, ramp_m = speed / accel, speed * speed / (2 * accel)
    cruise_m = max(0.0, stretch_m - 2 * ramp_m)
    n, inertia_n = leg.halts, mass_kg * accel
    phases = [
        _Phase(rolling_n + inertia_n, n * ramp_s, n * ramp_m),
        _Phase(rolling_n, n * cruise_m / robot.max_speed_mps, n * cruise_m),
        _Phase(rolling_n - inertia_n, n * ramp_s, n * ramp_m),
    ]
    half_track_m = robot.track_width_m / 2
    scrub_nm = 2 / 3 * SCRUB_FRICTION * CONTACT_HALF_LENGTH_M * mass_kg * G_MPS2
    turn_s = leg.turn_rad / robot.max_yaw_rate_radps
    return [*phases, _Phase(rolling_n + scrub_nm / half_track_m, turn_s, leg.turn_rad * half_track_m)]


def _motor_energy_j(phase: _Phase, robot: RobotType) -> float:
    """Return the battery energy of both motors over a phase."""
    m = robot.motor
    torque_nm = phase.force_n * robot.wheel_radius_m / 2
    geared_nm = (
        torque_nm / (m.gear_ratio * m.gear_efficiency) if torque_nm >= 0 else torque_nm * m.gear_efficiency / m.gear_ratio
    )
    current_a = geared_nm / m.torque_constant_nm_a + m.no_load_current_a
    copper_j = current_a**2 * m.resistance_ohm * phase.time_s
    shaft_j = m.torque_constant_nm_a * current_a * m.gear_ratio * phase.travel_m / robot.wheel_radius_m
    return 2 * max(0.0, copper_j + shaft_j) / m.driver_efficiency
