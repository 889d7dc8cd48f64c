"""What a plan asks of a robot's parts."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market.body import RobotType
from fleet_market.pricing.ageing import S_PER_H, FloatLike
from fleet_market.pricing.plan import PlanLeg, TaskPlan

G_MPS2 = 9.80665
"""Standard gravity (ISO 80000-3)."""
RATED_SHARE_OF_PEAK = 1 / 3
"""Continuous torque over peak torque of a geared DC motor [assumption]."""


@dataclass(frozen=True, slots=True)
class Duty:
    """The duty of one plan, or of many: every field a number or an array of one shape, at least 0."""

    energy_out_j: FloatLike
    """Drawn from the battery."""
    c_rate: FloatLike
    """Of the discharge, per hour."""
    travel_m: FloatLike
    load_m: FloatLike
    """Travel times load: way times (1 + payload / mass of the robot)."""
    scrub_rad: FloatLike
    """Turning times load: angle times (1 + payload / mass of the robot)."""
    drive_h: FloatLike
    """Hours in which the drive motors turn."""
    current_ratio: FloatLike
    """Mean current of a drive motor over its rated current."""
    arm_rated_h: FloatLike = 0.0
    """Hours of the arm at rated torque and speed (`wear.arm_rated_h`)."""


def duty_of(plan: TaskPlan, robot: RobotType, drawn_j: float, lasts_s: float) -> Duty:
    """Return what a plan asks of a robot's parts.

    Parameters
    ----------
    plan : TaskPlan
    robot : RobotType
    drawn_j : float
        Energy that it draws from the battery, at least 0.
    lasts_s : float
        Its duration, dwells included.
    """
    drive_s = max(0.0, lasts_s - plan.dwell_s)
    rate = drawn_j / robot.battery.capacity_wh / lasts_s if lasts_s > 0 else 0.0
    ratio = 0.0
    if drive_s > 0 and plan.length_m > 0:
        current_a = sum(leg.length_m * _current_a(leg, robot) for leg in plan.legs) / plan.length_m
        ratio = current_a / rated_current_a(robot)
    return Duty(
        energy_out_j=drawn_j,
        c_rate=rate,
        travel_m=plan.length_m,
        load_m=sum(leg.length_m * (1 + leg.payload_kg / robot.mass_kg) for leg in plan.legs),
        scrub_rad=sum(leg.turn_rad * (1 + leg.payload_kg / robot.mass_kg) for leg in plan.legs),
        drive_h=drive_s / S_PER_H,
        current_ratio=ratio,
    )


def rated_current_a(robot: RobotType) -> float:
    """Return the continuous current of a drive motor, amperes: as given, or after its peak torque."""
    if robot.wear.rated_current_a is not None:
        return robot.wear.rated_current_a
    return _current_at(RATED_SHARE_OF_PEAK * robot.motor.peak_wheel_torque_nm, robot)


def _current_a(leg: PlanLeg, robot: RobotType) -> float:
    """Return the mean current over a leg: rolling all the way, and speeding up at its halts; braking is left out."""
    mass_kg, stretch_m = robot.mass_kg + leg.payload_kg, leg.length_m / leg.halts
    # A ramp takes v/a of the s/v + v/a of a stretch; where v is not reached, half of it.
    share = 1 / (1 + max(1.0, robot.max_accel_mps2 * stretch_m / robot.max_speed_mps**2))
    force_n = mass_kg * (robot.rolling_resistance * G_MPS2 + share * robot.max_accel_mps2)
    return _current_at(force_n * robot.wheel_radius_m / 2, robot)


def _current_at(wheel_torque_nm: float, robot: RobotType) -> float:
    motor = robot.motor
    geared_nm = wheel_torque_nm / (motor.gear_ratio * motor.gear_efficiency)
    return geared_nm / motor.torque_constant_nm_a + motor.no_load_current_a
