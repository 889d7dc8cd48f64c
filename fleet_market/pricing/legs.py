"""Time and energy of single legs in closed form, by speed profile and motor equation; for plain numbers and for arrays.

Every stretch between two halts is driven with a trapezoidal speed profile (a triangular one where it is short): constant
acceleration, cruise, constant braking; every turn in place likewise in yaw. In each phase the force at the wheels is
constant::

    straight   F = m g (Crr cos a + sin a) + m v'           a: angle of the slope
    turning    F = m g cos a (Crr + mu d) + J w' / b        d, b: drag and travel, see `Drivetrain`
"""

from __future__ import annotations

from typing import NamedTuple

from fleet_market.pricing.drivetrain import G_MPS2, Arithmetic, Drivetrain, Value


class Way(NamedTuple):
    """A leg as in `PlanLeg`, with the floor's rolling resistance and sliding friction."""

    length_m: Value
    turn_rad: Value
    halts: Value
    payload_kg: Value
    speed_mps: Value
    grade: Value
    rolling: Value
    sliding: Value


class Parts(NamedTuple):
    """Time and energy of a leg; the energies are those of the battery, joules."""

    time_s: Value
    no_load_j: Value
    """What the unloaded motors and gears take, as far as braking does not cover it."""
    traction_j: Value
    """What straight driving takes on top; negative where braking returns more than the way takes."""
    turning_j: Value
    """What turning takes on top."""


def drive(way: Way, train: Drivetrain) -> Parts:
    """Return time and energy of a leg; the energies add up to that of the motor equations exactly."""
    ops = train.ops
    mass_kg = train.mass_kg + way.payload_kg
    across, along = _slope(way.grade, ops)
    weight_n = mass_kg * G_MPS2
    steady_n = weight_n * (way.rolling * across + along)
    inertia_n = mass_kg * train.accel_mps2
    limit = ops.minimum(way.speed_mps, train.max_speed_mps)
    speed, ramp_s, cruise_s = _profile(way.length_m, way.halts, limit, train.accel_mps2, ops)
    straight_j = (
        train.ramp_j(steady_n + inertia_n, speed, ramp_s)
        + train.ramp_j(steady_n - inertia_n, speed, ramp_s)
        + train.cruise_j(steady_n, speed, cruise_s)
    )
    time_s = 2 * ramp_s + cruise_s
    idle_j = _between(straight_j, train.no_load_j(time_s, way.length_m), ops)
    if not ops.any(way.turn_rad):
        return Parts(time_s, idle_j, straight_j - idle_j, 0.0)
    turn_s, turn_idle_j, turning_j = _turn(way, train, mass_kg, weight_n * across)
    return Parts(time_s + turn_s, idle_j + turn_idle_j, straight_j - idle_j, turning_j)


def _turn(way: Way, train: Drivetrain, mass_kg: Value, load_n: Value) -> tuple[Value, Value, Value]:
    ops, travel = train.ops, train.turn_travel_m_per_rad
    drag_n = load_n * (way.rolling + way.sliding * train.turn_drag_n_per_n)
    spin_n = mass_kg * (train.yaw_inertia_per_kg_m2 * train.yaw_accel_radps2 / travel)
    rate, ramp_s, steady_s = _profile(way.turn_rad, way.halts, train.max_yaw_rate_radps, train.yaw_accel_radps2, ops)
    rim_mps = rate * travel
    turn_j = (
        train.ramp_j(drag_n + spin_n, rim_mps, ramp_s)
        + train.ramp_j(drag_n - spin_n, rim_mps, ramp_s)
        + train.cruise_j(drag_n, rim_mps, steady_s)
    )
    time_s = 2 * ramp_s + steady_s
    idle_j = _between(turn_j, train.no_load_j(time_s, way.turn_rad * travel), ops)
    return time_s, idle_j, turn_j - idle_j


def _profile(way: Value, stretches: Value, limit: Value, accel: Value, ops: Arithmetic) -> tuple[Value, Value, Value]:
    """Return top speed, time of all accelerations (that of all brakings is the same) and time of cruising.

    The way is cut into equal stretches from standstill to standstill: trapezoids, or triangles, in speed.
    """
    top = ops.minimum(limit, ops.sqrt(accel * way / stretches))
    ramp_s = stretches * top / accel
    cruise_s = ops.maximum(0.0, way / ops.where(top > 0, top, 1.0) - ramp_s)
    return top, ramp_s, cruise_s


def _slope(grade: Value, ops: Arithmetic) -> tuple[Value, Value]:
    """Return cosine and sine of the slope's angle."""
    if not ops.any(grade):
        return 1.0, 0.0
    across = 1 / ops.sqrt(1 + grade * grade)
    return across, grade * across


def _between(value: Value, most: Value, ops: Arithmetic) -> Value:
    return ops.maximum(0.0, ops.minimum(value, most))
