"""The life of a robot's own pack: shares of it, its capacity, and the prices that follow.

`cycle_damage` and `calendar_damage` are shares of a life by cycling alone and by time alone, each additive (`ageing`).
Where both act, lost capacities add up, not these shares: the pack ends on a curve in the plane of the two, not on a line.
The price must be linear, so that it neither depends on the order of tasks nor on the age of the pack. It therefore follows
the tangent of that curve at the point where the *planned* use ends (`planned_life`): weights ``w`` with

    share of life = w_cyc * cycle damage + w_cal * calendar damage = 1   at the planned end of life,

in which each kind's part is its marginal part in the lost capacity (Euler's theorem). A use that differs from the plan by a
little is charged right to the second order of the difference. Tasks pay the first term; the second is rent of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fleet_market.body import BatterySpec
from fleet_market.pricing.ageing import HOURS_PER_DAY, FloatLike, ageing_form, mean_c_rate

J_PER_WH = 3600.0
RATED_C = 25.0
RATED_SOC = 0.5
"""Temperature and mean state of charge of a data sheet's cycles."""


@dataclass(frozen=True, slots=True)
class PlannedLife:
    """What the owner's plan makes of a pack's life."""

    days: float
    cycle_weight: float
    """Share of life per unit of cycle damage."""
    calendar_weight: float
    cycle_part: float
    """Part of the life that cycles use up; the calendar takes the rest, by day `(1 - cycle_part) / days`."""
    depth: float
    """Depth of a planned cycle: from `target_soc` down to `resume_soc`."""
    mean_soc: float


def cycle_damage(
    battery: BatterySpec, depth: FloatLike, mean_soc: FloatLike, c_rate: FloatLike, temperature_c: FloatLike | None = None
) -> FloatLike:
    """Return the share of a life by cycling alone that one full cycle uses up.

    Parameters
    ----------
    battery : BatterySpec
    depth, mean_soc : float or array
        Of the cycle, 0 to 1.
    c_rate : float or array
        Mean of charge and discharge, per hour.
    temperature_c : float or array, optional
        Of the cells; the planned one if not given.
    """
    celsius = battery.temperature_c if temperature_c is None else temperature_c
    form = ageing_form(battery.chemistry)
    return form.cycle(depth, mean_soc, c_rate, celsius) / form.ends(1 - battery.end_capacity)[0] * _scale(battery)


def calendar_damage(
    battery: BatterySpec, hours: FloatLike, mean_soc: FloatLike, temperature_c: FloatLike | None = None
) -> FloatLike:
    """Return the share of a life by time alone that `hours` use up."""
    celsius = battery.temperature_c if temperature_c is None else temperature_c
    form = ageing_form(battery.chemistry)
    return hours * form.calendar(mean_soc, celsius) / form.ends(1 - battery.end_capacity)[1]


def capacity(battery: BatterySpec, cycles: FloatLike, calendar: FloatLike) -> FloatLike:
    """Return the share of the new capacity that is left after these damages: the state of health."""
    form = ageing_form(battery.chemistry)
    by_cycling, by_time = form.ends(1 - battery.end_capacity)
    return 1 - form.loss(cycles * by_cycling, calendar * by_time)


@lru_cache(maxsize=1024)
def planned_life(battery: BatterySpec) -> PlannedLife:
    """Return how long the pack lasts as planned, and the weights of its price."""
    depth = battery.target_soc - battery.resume_soc
    mean_soc = (battery.target_soc + battery.resume_soc) / 2
    charge_c = battery.max_charge_w / battery.capacity_wh
    driving_h = max(1.0, battery.planned_work_h_per_day - battery.planned_efc_per_day / charge_c)
    c_rate = mean_c_rate(charge_c, battery.planned_efc_per_day / driving_h)
    per_cycle = float(cycle_damage(battery, depth, mean_soc, c_rate))
    cycles = per_cycle * battery.planned_efc_per_day / depth
    parked_h = HOURS_PER_DAY - battery.planned_work_h_per_day
    working = calendar_damage(battery, battery.planned_work_h_per_day, mean_soc)
    calendar = float(working + calendar_damage(battery, parked_h, battery.target_soc))
    low, high = 0.0, 1 / max(cycles, calendar)
    for _ in range(100):
        middle = (low + high) / 2
        alive = capacity(battery, middle * cycles, middle * calendar) > battery.end_capacity
        low, high = (middle, high) if alive else (low, middle)
    form = ageing_form(battery.chemistry)
    ends = form.ends(1 - battery.end_capacity)
    by_cycles, by_time = form.elasticities(high * cycles * ends[0], high * calendar * ends[1])
    part = by_cycles / (by_cycles + by_time)
    return PlannedLife(high, part / (high * cycles), (1 - part) / (high * calendar), part, depth, mean_soc)


def throughput_share(battery: BatterySpec, energy_out_j: FloatLike, discharge_c: FloatLike) -> FloatLike:
    """Return the share of life that an energy drawn uses up, in closed form: every joule as part of a planned cycle.

    On average over a life this is what the rainflow form gives, as long as the cycles are like the planned ones; what
    a robot's own days make of it is learnt (`components.Tally`).
    """
    life = planned_life(battery)
    c_rate = mean_c_rate(battery.max_charge_w / battery.capacity_wh, discharge_c)
    per_cycle = life.cycle_weight * cycle_damage(battery, life.depth, life.mean_soc, c_rate)
    return per_cycle * energy_out_j / (battery.capacity_wh * J_PER_WH * life.depth)


def calendar_share_per_h(battery: BatterySpec) -> float:
    """Return the share of life that a planned hour uses up, whatever the robot does: rent of time, in no task's price."""
    life = planned_life(battery)
    return (1 - life.cycle_part) / life.days / HOURS_PER_DAY


def calendar_share(
    battery: BatterySpec, hours: FloatLike, mean_soc: FloatLike, temperature_c: FloatLike | None = None
) -> FloatLike:
    """Return the share of life that hours at a measured state of charge and temperature use up."""
    return planned_life(battery).calendar_weight * calendar_damage(battery, hours, mean_soc, temperature_c)


def calendar_rent_uc_per_h(battery: BatterySpec) -> float:
    """Return the calendar's part of the pack's price, micro-credits per planned hour."""
    return battery.replacement_uc * calendar_share_per_h(battery)


def capacity_after(
    battery: BatterySpec, efc: FloatLike, depth: float, mean_soc: float, c_rate: float, hours_per_efc: float
) -> FloatLike:
    """Return the state of health predicted after `efc` equivalent full cycles, all alike, time included."""
    cycles = np.asarray(efc) / depth * cycle_damage(battery, depth, mean_soc, c_rate)
    return capacity(battery, cycles, calendar_damage(battery, np.asarray(efc) * hours_per_efc, mean_soc))


def efc_to_end(battery: BatterySpec, depth: float, mean_soc: float, c_rate: float, hours_per_efc: float) -> float:
    """Return the equivalent full cycles, all alike, after which `end_capacity` is left."""
    per_efc = float(cycle_damage(battery, depth, mean_soc, c_rate)) / depth
    low, high = 0.0, 1 / per_efc
    for _ in range(100):
        middle = (low + high) / 2
        alive = capacity_after(battery, middle, depth, mean_soc, c_rate, hours_per_efc) > battery.end_capacity
        low, high = (middle, high) if alive else (low, middle)
    return high


@lru_cache(maxsize=1024)
def _scale(battery: BatterySpec) -> float:
    """Return how much faster than its chemistry's published cell this pack wears, after its data sheet."""
    if battery.cycle_life_efc is None:
        return 1.0
    form = ageing_form(battery.chemistry)
    per_efc = float(form.cycle(battery.rated_depth, RATED_SOC, battery.rated_c_rate, RATED_C)) / battery.rated_depth
    return form.ends(1 - battery.end_capacity)[0] / per_efc / battery.cycle_life_efc
