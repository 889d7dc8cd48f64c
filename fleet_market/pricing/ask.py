"""The ask: what a robot must be paid for a task so that it does not lose, and what it is made of.

The parts (`ASK_PARTS`) add up to the ask exactly:

* energy: as it comes out of the charger, its losses included,
* battery, drive, brushes, tread, arm: wear (`wear`),
* time: rent of the robot, for as long as the task lasts: capital, maintenance, and the calendar ageing of its battery. The
  owner states it in `RobotType.time_rent_uc_per_h`; `life.calendar_rent_uc_per_h` says what the calendar's part is,
* risk: the margin against the winner's curse (`margin`) on what is uncertain. Whatever makes a task longer makes it take
  more energy too, so the standard deviations of both are added as if they always went together: never too little,
* opportunity: rent for the time that the robot will spend at a charger to take the energy in again; in the ask for a lot
  also what the delay of the orders that the robot holds already costs their customers (`robot.pricing`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet_market.body import RobotType
from fleet_market.pricing.ageing import S_PER_H
from fleet_market.pricing.duty import Duty, duties_of, duty_of
from fleet_market.pricing.energy import Features, charger_j, duration_s, energy_j
from fleet_market.pricing.kalman import Estimate
from fleet_market.pricing.margin import USUAL_BIDDERS, curse_factor, margin_uc
from fleet_market.pricing.plan import FloatArray, PlanArray, TaskPlan
from fleet_market.pricing.wear import WearCost, wear
from fleet_market.protocol.messages import ASK_PARTS

J_PER_KWH = 3.6e6
LEAST_CHARGE_W = 1.0
"""Where computer and sensors take all that a charger gives; keeps the time at the charger finite."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """What energy costs at the charger, micro-credits per kilowatt-hour."""

    energy_uc_per_kwh: int

    def __post_init__(self) -> None:
        if self.energy_uc_per_kwh < 0:
            raise ValueError(f"energy_uc_per_kwh must be at least 0, was {self.energy_uc_per_kwh}")


@dataclass(frozen=True, slots=True)
class PriceQuote:
    """The price of a task, and what it follows from."""

    ask_uc: int
    parts_uc: tuple[int, ...]
    """In the order of `ASK_PARTS`; they add up to `ask_uc` exactly."""
    energy: Estimate
    """Joules from the battery."""
    lasts: Estimate
    """Seconds."""
    duty: Duty
    wear: WearCost

    def part_uc(self, name: str) -> int:
        """Return one part, micro-credits; raises `ValueError` if there is no part of this name."""
        return self.parts_uc[ASK_PARTS.index(name)]


def price(
    plan: TaskPlan,
    robot: RobotType,
    tariff: Tariff,
    *,
    energy: Estimate | None = None,
    lasts: Estimate | None = None,
    bidders: int = USUAL_BIDDERS,
    battery_factor: float = 1.0,
) -> PriceQuote:
    """Return what `robot` must be paid to carry out `plan`.

    Each part is rounded up to a whole micro-credit, so that rounding never costs the robot.

    Parameters
    ----------
    plan : TaskPlan
    robot : RobotType
    tariff : Tariff
    energy, lasts : Estimate, optional
        What the robot has learned to expect, joules from the battery and seconds; by the spec sheet and without doubt
        where they are not given.
    bidders : int
        How many robots are thought to ask for the task, this one included.
    battery_factor : float
        What the robot's cycles wear its battery, as a factor of the planned ones (`components.Tally`).
    """
    drawn = energy or Estimate(energy_j(plan, robot), 0.0)
    time = lasts or Estimate(duration_s(plan, robot), 0.0)
    duty = duty_of(plan, robot, drawn.mean, time.mean)
    worn = wear(duty, robot, battery_factor=battery_factor)
    energy_rate = charger_j(1.0, robot) / J_PER_KWH * tariff.energy_uc_per_kwh
    time_rate = robot.time_rent_uc_per_h / S_PER_H
    charging_rate = time_rate / _charging_w(robot)
    battery_rate = float(worn.battery.uc) / drawn.mean if drawn.mean > 0 else 0.0
    doubt_uc = drawn.sd * (energy_rate + battery_rate + charging_rate) + time.sd * time_rate
    costs = {name: float(term.uc) for name, term in worn.terms().items()}
    costs |= {
        "energy": drawn.mean * energy_rate,
        "time": time.mean * time_rate,
        "risk": margin_uc(doubt_uc, bidders),
        "opportunity": drawn.mean * charging_rate,
    }
    parts_uc = tuple(math.ceil(costs[name]) for name in ASK_PARTS)
    return PriceQuote(sum(parts_uc), parts_uc, drawn, time, duty, worn)


@dataclass(frozen=True, slots=True)
class QuoteArray:
    """The prices of many plans of one robot.

    Parameters
    ----------
    parts_uc : (plans, 9) int64 array
        In the order of `ASK_PARTS`.
    energy_j, energy_sd_j : (plans,) float64 array
    lasts_s, lasts_sd_s : (plans,) float64 array
    """

    parts_uc: NDArray[np.int64]
    energy_j: FloatArray
    energy_sd_j: FloatArray
    lasts_s: FloatArray
    lasts_sd_s: FloatArray


def price_many(
    plans: PlanArray,
    features: Features,
    robot: RobotType,
    tariff: Tariff,
    *,
    energy_j: tuple[FloatArray, FloatArray],
    lasts_s: tuple[FloatArray, FloatArray],
    bidders: int = USUAL_BIDDERS,
    battery_factor: float = 1.0,
) -> QuoteArray:
    """Return what `price` returns, for many plans at once.

    Parameters
    ----------
    plans : PlanArray
        Of one axis beside that of the legs.
    features : Features
        Of these plans.
    robot : RobotType
    tariff : Tariff
    energy_j, lasts_s : pairs of (plans,) float64 arrays
        Means and standard deviations.
    bidders : int
    battery_factor : float
    """
    (drawn, drawn_sd), (time, time_sd) = energy_j, lasts_s
    worn = wear(duties_of(plans, features, robot, drawn, time), robot, battery_factor=battery_factor)
    energy_rate = charger_j(1.0, robot) / J_PER_KWH * tariff.energy_uc_per_kwh
    time_rate = robot.time_rent_uc_per_h / S_PER_H
    charging_rate = time_rate / _charging_w(robot)
    battery_rate = np.where(drawn > 0, worn.battery.uc / np.where(drawn > 0, drawn, 1.0), 0.0)
    doubt_uc = drawn_sd * (energy_rate + battery_rate + charging_rate) + time_sd * time_rate
    costs = {name: term.uc for name, term in worn.terms().items()}
    costs |= {
        "energy": drawn * energy_rate,
        "time": time * time_rate,
        "risk": doubt_uc * curse_factor(bidders),
        "opportunity": drawn * charging_rate,
    }
    columns = [np.broadcast_to(np.ceil(costs[name]), drawn.shape) for name in ASK_PARTS]
    return QuoteArray(np.stack(columns, axis=-1).astype(np.int64), drawn, drawn_sd, time, time_sd)


def asks_uc(plans: PlanArray, features: Features, robot: RobotType, tariff: Tariff) -> FloatArray:
    """Return what robots of one type ask for many plans by the spec sheet, shape (...), micro-credits, not rounded.

    The same parts as in `price`, without doubt and hence without risk margin.
    """
    duties = duties_of(plans, features, robot)
    energy_rate = charger_j(1.0, robot) / J_PER_KWH * tariff.energy_uc_per_kwh
    time_rate = robot.time_rent_uc_per_h / S_PER_H
    total: FloatArray = (
        features.energy_j * (energy_rate + time_rate / _charging_w(robot))
        + features.duration_s * time_rate
        + wear(duties, robot).total_uc
    )
    return total


def _charging_w(robot: RobotType) -> float:
    """Return the power at which the battery of a resting robot fills."""
    battery = robot.battery
    return max(LEAST_CHARGE_W, battery.max_charge_w * battery.charge_efficiency - robot.hotel_w)
