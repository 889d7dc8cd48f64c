"""What a battery's own gauge says of its age, against the wear that was taken down for it.

A gauge counts cycles and knows the state of health: full capacity now over that by design. Both are measured, wear is
booked by a model. Where the two part, the model is put right: the pack's damage is what its health shows, and what its
use costs from then on is multiplied by a factor f. Shown wear is ``m = f p + noise``, where p is the wear booked since the
first reading; with f ~ N(1, s_f^2) and noise ~ N(0, s_m^2), that of two readings on the mean slope of the life, the mean
of f given m is (linear regression with a prior)

    f = (p m s_f^2 + s_m^2) / (p^2 s_f^2 + s_m^2)

A gauge that errs by a per cent says nothing while little is booked, and all when much is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from fleet_market.body import BatterySpec
from fleet_market.errors import InputError
from fleet_market.pricing.components import FACTOR_RANGE, Component
from fleet_market.pricing.life import capacity, planned_life

FACTOR_SD = 0.5
"""How far packs wear from the plan, before anything is known of this one [assumption]."""
HEALTH_SD = 0.01
"""Error of one reading of a state of health; gauges that track impedance are said to be within 1 to 2 % [assumption]."""
CHANGED_HEALTH, CHANGED_CYCLES = 0.08, 5.0
"""A pack that is healthier by this much, or has this many cycles fewer, is another one [assumption]."""
LEAST_HEALTH = 0.05
"""A pack that shows less counts as this: its capacity must not be 0."""
WORN_OUT = 1.0 - 1e-9
"""Damage of a pack at or beyond the end of its life that has not been replaced yet."""
MOST_LIVES = 4.0


@dataclass(frozen=True, slots=True)
class PackAge:
    """What is known of a pack's age by its gauge; None is not measured."""

    health: float | None = None
    cycles: float | None = None
    first_health: float | None = None
    """When this pack was seen first."""
    booked: float = 0.0
    """Share of its life that was taken down since, by the plain model."""
    compared: float = 0.0
    """Of this, what had been taken down when its health was read last."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field.name} must be finite and at least 0, was {value}")

    @property
    def capacity_share(self) -> float:
        """Share of the design capacity that there is; 1 where nobody measures it."""
        return 1.0 if self.health is None else min(1.0, max(LEAST_HEALTH, self.health))

    def is_another(self, health: float | None, cycles: float | None) -> bool:
        """Return whether a reading is of another pack."""
        healthier = None not in (health, self.health) and (health or 0.0) > (self.health or 0.0) + CHANGED_HEALTH
        fresher = None not in (cycles, self.cycles) and (cycles or 0.0) < (self.cycles or 0.0) - CHANGED_CYCLES
        return healthier or fresher

    def read(self, health: float | None, cycles: float | None) -> PackAge:
        """Return the age after a reading of the same pack; what it does not say stays as it was."""
        known = self.health if health is None else health
        first = self.first_health if self.first_health is not None else known
        booked = self.booked if self.first_health is not None else 0.0
        compared = self.compared if health is None else booked
        return PackAge(known, self.cycles if cycles is None else cycles, first, booked, compared)

    def after(self, share: float) -> PackAge:
        """Return the age after more wear was booked."""
        return replace(self, booked=max(0.0, self.booked + share))

    def factor(self, battery: BatterySpec) -> float:
        """Return by how much this pack wears faster than booked; 1 where its gauge says nothing, within `FACTOR_RANGE`."""
        if self.health is None or self.first_health is None:
            return 1.0
        shown = share_at(battery, self.health) - share_at(battery, self.first_health)
        noise, prior = 2 * (HEALTH_SD / (1 - battery.end_capacity)) ** 2, FACTOR_SD**2
        found = (self.compared * shown * prior + noise) / (self.compared**2 * prior + noise)
        return min(max(found, FACTOR_RANGE[0]), FACTOR_RANGE[1])

    def seen(self, battery: BatterySpec, part: Component) -> Component:
        """Return the battery as a part, with the damage that its health shows, or that its cycles mean."""
        if self.health is not None:
            shown = share_at(battery, self.health)
        elif self.cycles is not None and part.damage == 0.0:
            # A pack that is not new when it is first seen; from then on its wear is booked.
            shown = cycles_share(battery, self.cycles)
        else:
            return part
        return replace(part, damage=min(WORN_OUT, shown))


@lru_cache(maxsize=4096)
def share_at(battery: BatterySpec, health: float) -> float:
    """Return the share of its planned life after which a pack shows this state of health, 0 to `MOST_LIVES`."""
    life = planned_life(battery)
    per_share = life.cycle_part / life.cycle_weight, (1 - life.cycle_part) / life.calendar_weight
    low, high = 0.0, MOST_LIVES
    if health >= 1:
        return low
    for _ in range(50):
        middle = (low + high) / 2
        healthier = float(capacity(battery, middle * per_share[0], middle * per_share[1])) > health
        low, high = (middle, high) if healthier else (low, middle)
    return high


def cycles_share(battery: BatterySpec, cycles: float) -> float:
    """Return the share of its planned life after which a pack has made so many full cycles."""
    return cycles / (battery.planned_efc_per_day * planned_life(battery).days)


def from_json(data: Mapping[str, Any], source: str) -> PackAge:
    """Return what `dataclasses.asdict` made of a `PackAge`.

    Raises
    ------
    InputError
        If a field is missing, unknown or out of range.
    """
    names = {field.name for field in fields(PackAge)}
    if set(data) != names:
        raise InputError(source, "fields", sorted(data), f"use {', '.join(sorted(names))}")
    for name, value in data.items():
        if value is None and name not in {"booked", "compared"}:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise InputError(source, name, value, "use a finite number of at least 0")
    return PackAge(**data)
