"""Wear of a plan, as long-run rates: what a part costs, divided by what it does in its life.

* battery: price of the pack over the energy that it gives in its life (throughput price; cycle life at the rated depth),
* tyres: price of the set over its life in metres, in proportion to the load (Archard 1953: wear grows with force times
  distance),
* gear motors: price over their planned running hours (age replacement, Barlow and Proschan 1965, at the planned interval).
"""

from __future__ import annotations

from fleet_market.body import RobotType
from fleet_market.pricing.energy import duration_s
from fleet_market.pricing.plan import TaskPlan

J_PER_WH = 3600.0
S_PER_H = 3600.0


def battery_wear_uc(energy_out_j: float, robot: RobotType) -> float:
    """Return the battery's wear for an energy drawn, micro-credits."""
    battery = robot.battery
    return battery.replacement_uc * energy_out_j / (battery.cycle_life_efc * battery.capacity_wh * J_PER_WH)


def tread_wear_uc(plan: TaskPlan, robot: RobotType) -> float:
    """Return the tyres' wear, micro-credits."""
    loaded_m = sum(leg.length_m * (1 + leg.payload_kg / robot.mass_kg) for leg in plan.legs)
    return robot.wear.tread_set_uc * loaded_m / robot.wear.tread_life_m


def drive_wear_uc(plan: TaskPlan, robot: RobotType) -> float:
    """Return the gear motors' wear, micro-credits; they do not run while the robot loads or waits."""
    running_h = (duration_s(plan, robot) - plan.dwell_s) / S_PER_H
    return robot.wear.drive_set_uc * running_h / robot.wear.drive_life_h
