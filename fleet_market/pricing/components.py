"""What is left of a robot's parts: wear so far, hours, metres and replacements, by part.

A part that reaches the end of its life is replaced: the count goes up and what is beyond starts the new part. The state is
plain data; whoever runs the robot keeps it.
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
class Components:
    """All parts of a robot."""

    battery: Component = field(default_factory=Component)
    drive: Component = field(default_factory=Component)
    brushes: Component = field(default_factory=Component)
    tread: Component = field(default_factory=Component)
    arm: Component = field(default_factory=Component)

    def after_task(self, cost: WearCost, duty: Duty) -> Components:
        """Return the parts after one task (numbers, no arrays)."""
        hours = {"drive": float(duty.drive_h), "brushes": float(duty.drive_h), "arm": float(duty.arm_rated_h)}
        return Components(
            **{
                name: getattr(self, name).used(
                    float(term.share), hours.get(name, 0.0), float(duty.travel_m) if name == "tread" else 0.0
                )
                for name, term in cost.terms().items()
            }
        )

    def after_time(self, seconds: float, robot: RobotType) -> Components:
        """Return the parts after a stretch of time: the battery ages by the calendar."""
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"seconds must be finite and at least 0, was {seconds}")
        hours = seconds / S_PER_H
        return replace(self, battery=self.battery.used(calendar_share_per_h(robot.battery) * hours, hours))

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
    parts = {}
    for name in PARTS:
        entry = data.get(name)
        known = {f.name for f in fields(Component)}
        if not isinstance(entry, Mapping) or set(entry) != known:
            raise InputError(source, name, entry, f"use a mapping with {', '.join(sorted(known))}")
        for key, value in entry.items():
            kind = int if key == "replacements" else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not math.isfinite(value) or value < 0:
                raise InputError(source, f"{name}.{key}", value, "use a finite number of at least 0")
        parts[name] = Component(**entry)
    return Components(**parts)
