"""The wear of a plan, part by part: a price in micro-credits and the share of the part's life behind it.

Every price is what the part costs times the share of its life that the duty uses up, so that over its life a part is paid
for once:

* battery: throughput at the planned cycle (`life`); the rainflow form is in `soc_trace`. The calendar is rent of time and
  in no price here.
* gear motors: running hours by age replacement (`renewal`): the long-run rate, or the marginal hazard of a part's age.
* brushes: running hours times (current / rated current)^m, m 1 to 2 [assumption]; friction wears with the way, sparks with
  the charge.
* tyres: Archard 1953, J. Appl. Phys. 24:981, worn volume = k * force * sliding distance. A rolling tyre slides by its slip,
  a turning one scrubs: 2/3 of the half-length of its contact patch per radian (Popov 2010, Contact Mechanics and Friction,
  10.4), and with skid steering half the wheelbase (wheels dragged sideways around the middle of the robot; Mandow et al.
  2007, IROS, 10.1109/IROS.2007.4399139). The coefficient k is behind the life in metres at the rated slip.
* arm: strain wave gears last ``L (n_N/n) (T_N/T)^3`` (Harmonic Drive, engineering data of the CSD and SHD series).

Rolling bearings of the wheels are left out: ISO 281 gives 10^7 km.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleet_market.body import RobotType
from fleet_market.pricing.ageing import FloatLike
from fleet_market.pricing.duty import Duty
from fleet_market.pricing.life import throughput_share
from fleet_market.pricing.renewal import AgeReplacement


@dataclass(frozen=True, slots=True)
class WearTerm:
    """The wear of one part; both numbers at least 0."""

    uc: FloatLike
    """Price, micro-credits, not rounded."""
    share: FloatLike
    """Share of the part's life, 1 for all of it; of its mean life where it fails by chance."""


@dataclass(frozen=True, slots=True)
class WearCost:
    """The wear of a plan, or of many, by part."""

    battery: WearTerm
    drive: WearTerm
    brushes: WearTerm
    tread: WearTerm
    arm: WearTerm

    @property
    def total_uc(self) -> FloatLike:
        """Sum of the five prices, micro-credits, from first to last."""
        return self.battery.uc + self.drive.uc + self.brushes.uc + self.tread.uc + self.arm.uc

    def terms(self) -> dict[str, WearTerm]:
        """Return the terms by the name of the part."""
        return {name: getattr(self, name) for name in PARTS}


PARTS = ("battery", "drive", "brushes", "tread", "arm")


def wear(
    duty: Duty, robot: RobotType, *, battery_factor: FloatLike = 1.0, drive_age_h: FloatLike | None = None
) -> WearCost:
    """Return the wear of a duty.

    Parameters
    ----------
    duty : Duty
        Numbers, or arrays of one shape: then every number of the result is an array of this shape.
    robot : RobotType
    battery_factor : float or array
        What this robot's days cost its battery over what the plan says (`components.Tally.factor`).
    drive_age_h : float or array, optional
        Running hours of the gear motors since they were new: prices them by the marginal hazard. Not given: by the
        long-run rate.
    """
    spec = robot.wear
    gears = drive_replacement(robot)
    gear_uc = gears.rate_uc_per_h * duty.drive_h if drive_age_h is None else gears.marginal_uc(drive_age_h, duty.drive_h)
    brushed: FloatLike = 0.0 * duty.drive_h
    if spec.brush_set_uc:
        brushed = duty.drive_h * np.asarray(duty.current_ratio) ** spec.brush_current_exponent / spec.brush_life_h
    battery_share = battery_factor * throughput_share(robot.battery, duty.energy_out_j, duty.c_rate)
    return WearCost(
        battery=_term(robot.battery.replacement_uc, battery_share),
        drive=WearTerm(gear_uc, duty.drive_h / gears.mean_life_h),
        brushes=_term(spec.brush_set_uc, brushed),
        tread=_term(spec.tread_set_uc, tread_share(duty, robot)),
        arm=_term(spec.arm_set_uc, np.asarray(duty.arm_rated_h) / spec.arm_life_h + 0.0 * duty.drive_h),
    )


def tread_share(duty: Duty, robot: RobotType) -> FloatLike:
    """Return the share of the tyres' life that sliding under load uses up."""
    spec = robot.wear
    dragged_m = robot.wheelbase_m / 2 if robot.drive == "skid" else 0.0
    per_rad_m = spec.tread_slip * robot.track_width_m / 2 + 2 / 3 * spec.contact_half_length_m + dragged_m
    sliding_m = spec.tread_slip * duty.load_m + per_rad_m * duty.scrub_rad
    return sliding_m / (spec.tread_rated_slip * spec.tread_life_m)


def drive_replacement(robot: RobotType) -> AgeReplacement:
    """Return how the gear motors of a type are replaced."""
    spec = robot.wear
    failure_uc = spec.drive_set_uc if spec.drive_failure_uc is None else spec.drive_failure_uc
    return AgeReplacement(
        spec.drive_set_uc, failure_uc, spec.drive_life_h, spec.drive_weibull_scale_h, spec.drive_weibull_shape
    )


def arm_rated_h(hours: FloatLike, speed_ratio: FloatLike, torque_ratio: FloatLike) -> FloatLike:
    """Return the hours at rated torque and speed that wear an arm's gears like `hours` at these shares of them."""
    return hours * speed_ratio * np.asarray(torque_ratio) ** 3


def _term(price_uc: int, share: FloatLike) -> WearTerm:
    """Return price times share; a part without a price is not there."""
    used = share if price_uc else 0.0 * share
    return WearTerm(price_uc * used, used)
