"""The ask: what a robot must be paid for a task so that it does not lose."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet_market.body import RobotType
from fleet_market.pricing.ageing import S_PER_H
from fleet_market.pricing.duty import duty_of
from fleet_market.pricing.energy import duration_s, energy_j
from fleet_market.pricing.plan import TaskPlan
from fleet_market.pricing.wear import wear

J_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Tariff:
    """What energy costs at the charger, micro-credits per kilowatt-hour."""

    energy_uc_per_kwh: int

    def __post_init__(self) -> None:
        if self.energy_uc_per_kwh < 0:
            raise ValueError(f"energy_uc_per_kwh must be at least 0, was {self.energy_uc_per_kwh}")


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """The price of a task and its parts, micro-credits; the parts add up to `ask_uc` exactly."""

    ask_uc: int
    energy_uc: int
    wear_uc: int
    time_uc: int
    energy_j: float
    duration_s: float


def price(plan: TaskPlan, robot: RobotType, tariff: Tariff) -> PriceQuote:
    """Return what `robot` must be paid to carry out `plan`.

    Energy is paid as it comes out of the charger, its losses included. Each part is rounded up to a whole micro-credit, so
    that rounding never costs the robot.
    """
    drawn_j, lasts_s = energy_j(plan, robot), duration_s(plan, robot)
    energy_uc = math.ceil(drawn_j / robot.battery.charge_efficiency / J_PER_KWH * tariff.energy_uc_per_kwh)
    wear_uc = math.ceil(float(wear(duty_of(plan, robot, drawn_j, lasts_s), robot).total_uc))
    time_uc = math.ceil(lasts_s / S_PER_H * robot.time_rent_uc_per_h)
    return PriceQuote(energy_uc + wear_uc + time_uc, energy_uc, wear_uc, time_uc, drawn_j, lasts_s)
