"""What a robot has learned of itself, and what is left of its parts: read by its asks, kept by whoever runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from fleet_market.body import RobotType
from fleet_market.errors import InputError
from fleet_market.pricing import Calibration, DurationModel, Lesson, PriceQuote, Tariff, TaskPlan, price
from fleet_market.pricing import health as pack
from fleet_market.pricing.components import Component, Components, from_json
from fleet_market.pricing.health import PackAge
from fleet_market.pricing.life import J_PER_WH
from fleet_market.robot.battery_day import BatteryDay
from fleet_market.robot.records import Chain

VERSION = 1


class Memory:
    """One robot's memory, fresh from its data sheet; `restore` brings an earlier one back.

    Parameters
    ----------
    robot : RobotType
    """

    def __init__(self, robot: RobotType) -> None:
        self._robot = robot
        self.calibration, self.durations = Calibration(robot), DurationModel(robot)
        self.components = Components()
        self.age = PackAge()
        self.chain = Chain()
        """Of its telemetry records."""
        self._day = BatteryDay()

    @property
    def capacity_j(self) -> float:
        """Energy of the battery when it is full: its design capacity, less what its gauge says is lost."""
        return self._robot.battery.capacity_wh * J_PER_WH * self.age.capacity_share

    @property
    def battery_factor(self) -> float:
        """What to multiply the planned wear of the battery by: how this robot uses it, and how fast this pack ages."""
        return self.components.cycles.factor * self.age.factor(self._robot.battery)

    def observe_age(self, health: float | None, cycles: float | None) -> None:
        """Take note of what the battery's own gauge says of its age; another pack is a new part."""
        if health is None and cycles is None:
            return
        part = self.components.battery
        if self.age.is_another(health, cycles):
            part, self.age = part.replaced(), PackAge()
        age = self.age.read(health, cycles)
        if age == self.age:
            return
        self.age = age
        self.components = replace(self.components, battery=self.age.seen(self._robot.battery, part))

    def observe(self, soc: float, now_ns: int) -> None:
        """Take note of the state of charge; the wear of a whole day is counted cycle by cycle."""
        if self._day.observe(soc, now_ns):
            before = self.components.battery
            self.components = self._day.close(self.components, self._robot.battery)
            self.age = self.age.after(_grown(before, self.components.battery))
            self._day = BatteryDay()
            self._day.observe(soc, now_ns)

    def quote(self, plan: TaskPlan, tariff: Tariff) -> PriceQuote:
        """Return the price of a task as the robot knows itself now."""
        lasts = self.durations.predict(plan)
        energy = self.calibration.predict(plan, lasts)
        return price(plan, self._robot, tariff, energy=energy, lasts=lasts, battery_factor=self.battery_factor)

    def settled(
        self, plan: TaskPlan, quote: PriceQuote, *, measured_j: float | None, executed_s: float, elapsed_s: float
    ) -> Lesson | None:
        """Learn from a settled task and take its wear down.

        Parameters
        ----------
        plan : TaskPlan
            As it was priced.
        quote : PriceQuote
            Its price.
        measured_j : float, optional
            Energy drawn from the battery; None where nothing measures it finely enough, then no energy is learned.
        executed_s : float
            How long it took.
        elapsed_s : float
            Time since the task before was taken down: the battery ages by the calendar too.

        Returns
        -------
        Lesson or None
            What was learned about energy.
        """
        self.durations.update(plan, executed_s)
        before, share = self.components.battery, float(quote.wear.battery.share)
        plain_share = share / self.age.factor(self._robot.battery)
        worn = self.components.after_task(quote.wear, quote.duty)
        self._day.task_share += plain_share
        self.components = worn.after_time(elapsed_s, self._robot)
        self.age = self.age.after(_grown(before, self.components.battery) - share + plain_share)
        return None if measured_j is None else self.calibration.update(plan, measured_j, executed_s)

    def export(self) -> dict[str, Any]:
        """Return the memory as JSON holds it."""
        return {
            "version": VERSION,
            "calibration": self.calibration.export(),
            "durations": self.durations.export(),
            "components": self.components.to_json(),
            "day": self._day.export(),
            "age": asdict(self.age),
            "chain": self.chain.export(),
        }

    def restore(self, data: Mapping[str, Any], source: str) -> None:
        """Take over what `export` gave.

        Raises
        ------
        InputError
            If `data` is not the memory of a robot of this type; nothing has changed then.
        """
        if data.get("version") != VERSION:
            raise InputError(
                source, "version", data.get("version"), f"use a memory of version {VERSION}, or remove the file"
            )
        parts = {}
        for name in ("calibration", "durations", "components", "day"):
            parts[name] = _mapping(data.get(name), source, name)
        calibration, durations = Calibration(self._robot), DurationModel(self._robot)
        calibration.restore(parts["calibration"], f"{source}: calibration")
        durations.restore(parts["durations"], f"{source}: durations")
        components = from_json(parts["components"], f"{source}: components")
        day = BatteryDay.restored(parts["day"], f"{source}: day")
        chain = Chain()
        if (kept := data.get("chain")) is not None:
            chain = Chain.restored(_mapping(kept, source, "chain"), f"{source}: chain")
        told = data.get("age")  # memories from before gauges were read have none
        age = PackAge() if told is None else pack.from_json(_mapping(told, source, "age"), f"{source}: age")
        self.calibration, self.durations, self.components, self._day = calibration, durations, components, day
        self.age, self.chain = age, chain


def _grown(before: Component, after: Component) -> float:
    """Return the share of lives that was used up between two looks at a part."""
    return after.damage + after.replacements - before.damage - before.replacements


def _mapping(told: object, source: str, name: str) -> Mapping[str, Any]:
    if not isinstance(told, Mapping):
        raise InputError(source, name, told, "use a memory that this program wrote, or remove the file")
    return told
