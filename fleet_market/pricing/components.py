"""What is left of a robot's parts: wear so far, hours, metres and replacements, by part.

A part that reaches the end of its life is replaced: the count goes up and what is beyond starts the new part. The battery
also remembers how its measured days compare with the planned ones; that corrects the closed form of its price and the rent.
The state is plain data; whoever runs the robot keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fleet_market.body import RobotType
from fleet_market.errors import InputError
from fleet_market.pricing.ageing import S_PER_H
from fleet_market.pricing.duty import Duty
from fleet_market.pricing.life import calendar_share_per_h
from fleet_market.pricing.wear import PARTS, WearCost

VERSION = 1


@dataclass(frozen=True, slots=True)
class Component:
    """One part since it was new, and how often it was replaced."""

    damage: float = 0.0
    """Share of its life that is used up, 0 to 1."""
    hours: float = 0.0
    """Running hours; of the battery, hours of time."""
    metres: float = 0.0
    replacements: int = 0

    def __post_init__(self) -> None:
        for name in ("damage", "hours", "metres", "replacements"):
            value = getattr(self, name)
            if isinstance(value, bool) or not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and at least 0, was {value}")

    def used(self, share: float, hours: float = 0.0, metres: float = 0.0) -> Component:
        """Return the part after more use; at the end of its life it is a new one."""
        damage = self.damage + share
        ended = math.floor(damage)
        if not ended:
            return replace(self, damage=damage, hours=self.hours + hours, metres=self.metres + metres)
        left = (damage - ended) / share if share > 0 else 0.0
        part = min(1.0, left)
        return Component(damage - ended, hours * part, metres * part, self.replacements + ended)

    def replaced(self) -> Component:
        """Return the new part after a failure, or after a replacement before its time."""
        return Component(replacements=self.replacements + 1)


@dataclass(frozen=True, slots=True)
class Tally:
    """Shares of a battery's life: as planned, and as measured over the same days."""

    planned: float = 0.0
    measured: float = 0.0

    def __post_init__(self) -> None:
        for name in ("planned", "measured"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and at least 0, was {value}")

    @property
    def factor(self) -> float:
        """What to multiply a planned share by; 1 at first, within `FACTOR_RANGE`."""
        raw = (PRIOR_SHARE + self.measured) / (PRIOR_SHARE + self.planned)
        return min(max(raw, FACTOR_RANGE[0]), FACTOR_RANGE[1])

    def plus(self, planned: float, measured: float) -> Tally:
        """Return the tally after one more day."""
        return Tally(self.planned + planned, self.measured + measured)


PRIOR_SHARE = 0.005
"""Weight of the plan in a tally, share of a life: about ten days of a life of 2,000 [assumption]."""
FACTOR_RANGE = (0.25, 4.0)
"""A factor beyond is a mistake in the spec sheet, not use [assumption]."""


@dataclass(frozen=True, slots=True)
class Components:
    """All parts of a robot."""

    battery: Component = field(default_factory=Component)
    drive: Component = field(default_factory=Component)
    brushes: Component = field(default_factory=Component)
    tread: Component = field(default_factory=Component)
    arm: Component = field(default_factory=Component)
    cycles: Tally = field(default_factory=Tally)
    """Wear of the battery by cycles: `life.throughput_share` against `soc_trace`."""
    calendar: Tally = field(default_factory=Tally)
    """Wear of the battery by time: `life.calendar_share_per_h` against `life.calendar_share`."""

    def after_task(self, cost: WearCost, duty: Duty) -> Components:
        """Return the parts after one task (numbers, no arrays)."""
        hours = {"drive": float(duty.drive_h), "brushes": float(duty.drive_h), "arm": float(duty.arm_rated_h)}
        return replace(
            self,
            **{
                name: getattr(self, name).used(
                    float(term.share), hours.get(name, 0.0), float(duty.travel_m) if name == "tread" else 0.0
                )
                for name, term in cost.terms().items()
            },
        )

    def after_time(self, seconds: float, robot: RobotType) -> Components:
        """Return the parts after a stretch of time: the battery ages by the calendar, as far as learnt."""
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"seconds must be finite and at least 0, was {seconds}")
        hours = seconds / S_PER_H
        return replace(
            self, battery=self.battery.used(calendar_share_per_h(robot.battery) * self.calendar.factor * hours, hours)
        )

    def after_idling(self, share: float) -> Components:
        """Return the parts after the battery gave energy without a task, worth `share` of its life."""
        return replace(self, battery=self.battery.used(share))

    def after_day(self, cycles: Tally, calendar: Tally) -> Components:
        """Return the parts after a measured day: its shares of the battery's life, planned and measured.

        What tasks and time charged already (planned times factor) is put right in the battery's damage.
        """
        charged = cycles.planned * self.cycles.factor + calendar.planned * self.calendar.factor
        missing = max(cycles.measured + calendar.measured - charged, -self.battery.damage)
        return replace(
            self,
            battery=self.battery.used(missing),
            cycles=self.cycles.plus(cycles.planned, cycles.measured),
            calendar=self.calendar.plus(calendar.planned, calendar.measured),
        )

    def with_replaced(self, part: str) -> Components:
        """Return the parts with a new one.

        Raises
        ------
        InputError
            If there is no such part.
        """
        if part not in PARTS:
            raise InputError("components", "part", part, f"use one of {', '.join(PARTS)}")
        return replace(self, **{part: getattr(self, part).replaced()})

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {"version": VERSION} | asdict(self)


def from_json(data: Mapping[str, Any], source: str = "components") -> Components:
    """Return the state that `Components.to_json` gave.

    Raises
    ------
    InputError
        If a field is missing, unknown or out of range.
    """
    if data.get("version") != VERSION:
        raise InputError(source, "version", data.get("version"), f"use {VERSION}")
    parts: dict[str, Any] = {name: Component(**_numbers(data, name, Component, source)) for name in PARTS}
    tallies: dict[str, Any] = {name: Tally(**_numbers(data, name, Tally, source)) for name in ("cycles", "calendar")}
    return Components(**parts, **tallies)


def _numbers(data: Mapping[str, Any], name: str, kind: type[Component | Tally], source: str) -> Mapping[str, Any]:
    entry, known = data.get(name), {f.name for f in fields(kind)}
    if not isinstance(entry, Mapping) or set(entry) != known:
        raise InputError(source, name, entry, f"use a mapping with {', '.join(sorted(known))}")
    for key, value in entry.items():
        right = int if key == "replacements" else int | float
        if isinstance(value, bool) or not isinstance(value, right) or not math.isfinite(value) or value < 0:
            raise InputError(source, f"{name}.{key}", value, "use a finite number of at least 0")
    return entry
