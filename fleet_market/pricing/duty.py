"""What a plan asks of a robot's parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleet_market.body import RobotType
from fleet_market.pricing.ageing import S_PER_H, FloatLike
from fleet_market.pricing.drivetrain import G_MPS2
from fleet_market.pricing.energy import Features
from fleet_market.pricing.plan import FloatArray, PlanArray, TaskPlan

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
        currents_a = (leg.length_m * _current_a(leg.length_m, leg.halts, leg.payload_kg, robot) for leg in plan.legs)
        ratio = float(sum(currents_a) / plan.length_m / rated_current_a(robot))
    return Duty(
        energy_out_j=drawn_j,
        c_rate=rate,
        travel_m=plan.length_m,
        load_m=sum(leg.length_m * (1 + leg.payload_kg / robot.mass_kg) for leg in plan.legs),
        scrub_rad=sum(leg.turn_rad * (1 + leg.payload_kg / robot.mass_kg) for leg in plan.legs),
        drive_h=drive_s / S_PER_H,
        current_ratio=ratio,
    )


def duties_of(
    plans: PlanArray,
    features: Features,
    robot: RobotType,
    drawn_j: FloatArray | None = None,
    lasts_s: FloatArray | None = None,
) -> Duty:
    """Return what many plans ask of the parts of robots of one type, in arrays of shape (...).

    Parameters
    ----------
    plans : PlanArray
    features : Features
        Of these plans.
    robot : RobotType
    drawn_j, lasts_s : (...) float64 array, optional
        Energies and durations, as in `duty_of`; by the spec sheet where they are not given.
    """
    load = 1 + plans.payload_kg / robot.mass_kg
    drawn_j = features.energy_j if drawn_j is None else drawn_j
    lasts_s = features.duration_s if lasts_s is None else lasts_s
    drive_s = np.maximum(0.0, lasts_s - features.dwell_s)
    hours = np.where(lasts_s > 0, lasts_s, np.inf) / S_PER_H
    travel_m = features.drive_m.sum(-1)
    return Duty(
        energy_out_j=drawn_j,
        c_rate=drawn_j / S_PER_H / robot.battery.capacity_wh / hours,
        travel_m=travel_m,
        load_m=(plans.length_m * load).sum(-1),
        scrub_rad=(plans.turn_rad * load).sum(-1),
        drive_h=drive_s / S_PER_H,
        current_ratio=_current_ratios(plans, travel_m, robot) if robot.wear.brush_set_uc else 0.0,
    )


def _current_ratios(plans: PlanArray, travel_m: FloatArray, robot: RobotType) -> FloatArray:
    currents_a = _current_a(plans.length_m, plans.halts, plans.payload_kg, robot)
    mean_a = (plans.length_m * currents_a).sum(-1) / np.where(travel_m > 0, travel_m, 1.0)
    ratios: FloatArray = mean_a / rated_current_a(robot)
    return ratios


def rated_current_a(robot: RobotType) -> float:
    """Return the continuous current of a drive motor, amperes: as given, or after its peak torque."""
    if robot.wear.rated_current_a is not None:
        return robot.wear.rated_current_a
    return float(_current_at(RATED_SHARE_OF_PEAK * robot.motor.peak_wheel_torque_nm, robot))


def _current_a(length_m: FloatLike, halts: FloatLike, payload_kg: FloatLike, robot: RobotType) -> FloatLike:
    """Return the mean current over a leg: rolling all the way, and speeding up at its halts; braking is left out."""
    mass_kg, stretch_m = robot.mass_kg + payload_kg, length_m / halts
    # A ramp takes v/a of the s/v + v/a of a stretch; where v is not reached, half of it.
    share = 1 / (1 + np.maximum(1.0, robot.max_accel_mps2 * stretch_m / robot.max_speed_mps**2))
    force_n = mass_kg * (robot.rolling_resistance * G_MPS2 + share * robot.max_accel_mps2)
    return _current_at(force_n * robot.wheel_radius_m / 2, robot)


def _current_at(wheel_torque_nm: FloatLike, robot: RobotType) -> FloatLike:
    motor = robot.motor
    geared_nm = wheel_torque_nm / (motor.gear_ratio * motor.gear_efficiency)
    return geared_nm / motor.torque_constant_nm_a + motor.no_load_current_a
