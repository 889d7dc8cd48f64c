"""Which robot drivers there are, and how one is made.

A driver is a factory: `DriverSetup` in, an unopened `fleet_market.ports.RobotDriver` out. Those of Fleet Market stand in
`BUILT_IN`; other packages add theirs by an entry point of the group ``fleet_market.drivers``::

    [project.entry-points."fleet_market.drivers"]
    my_base = "my_package.driver:driver"

A bench on which ``fleet-market driver check`` can hurt the robot is an entry point of the same name in the group
``fleet_market.driver_benches``. Nothing is imported before it is asked for, so that a library that is missing on one
machine concerns only who uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fleet_market.body import RobotType
from fleet_market.errors import FleetMarketError, InputError
from fleet_market.ids import RobotId
from fleet_market.ports import RobotDriver

DRIVERS, BENCHES = "fleet_market.drivers", "fleet_market.driver_benches"

BUILT_IN = {
    "cia402": "fleet_market_hardware.compose:driver",
    "create2": "fleet_market_hardware.compose:driver",
    "odrive": "fleet_market_hardware.compose:driver",
    "vesc": "fleet_market_hardware.compose:driver",
    "base": "fleet_market_ros.base:driver",
    "kinematic": "fleet_market_hardware.kinematic:driver",
    "nav2": "fleet_market_ros.nav2:driver",
    "vda5050": "fleet_market_hardware.vda5050:driver",
}
BUILT_IN_BENCHES = {
    "cia402": "fleet_market_hardware.emulators.benches:Cia402Bench",
    "create2": "fleet_market_hardware.emulators.benches:Create2Bench",
    "odrive": "fleet_market_hardware.emulators.benches:ODriveBench",
    "vesc": "fleet_market_hardware.emulators.benches:VescBench",
    "base": "fleet_market_ros.simulated_bench:base_bench",
    "kinematic": "fleet_market_hardware.kinematic:bench",
    "nav2": "fleet_market_ros.simulated_bench:nav2_bench",
    "vda5050": "fleet_market_hardware.vda5050.peer.bench:bench",
}
ABOUT = {
    "cia402": "two CiA 402 servo drives on CANopen; against canopen's slave, no real device",
    "create2": "iRobot Create 2; against emulated firmware, no real device; no dead-man of its own",
    "odrive": "two ODrive axes on CAN; against odrive-can's mock, no real device",
    "vesc": "two VESCs on a serial port; against emulated firmware, no real device",
    "base": "velocity base over ROS 2 topics (cmd_vel, odom, battery_state) and the waypoint follower",
    "kinematic": "a unicycle without physics or hardware, to try the suite on",
    "nav2": "a robot that Nav2 drives (NavigateToPose)",
    "vda5050": "an AGV of any make over MQTT (VDA 5050 1.1 and 2.0; 2.1 and 3.0 not verified against a peer)",
}


class DriverMissingError(FleetMarketError, ImportError):
    """A driver is known, and what it needs is not installed."""


@dataclass(frozen=True, slots=True)
class DriverSetup:
    """What a driver is told about its robot."""

    robot: RobotId
    type: RobotType
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of this driver, by name; what it does not know it refuses."""
    ros: Any = None
    """The ROS node that the driver shares, a `fleet_market_ros.ros.Ros`; without one it makes a node of its own."""
    tell: Callable[[Mapping[str, Any]], None] = lambda _defaults: None
    """Is shown all settings that the driver has, with their defaults, before any is checked."""


Factory = Callable[[DriverSetup], RobotDriver]


@dataclass(frozen=True, slots=True)
class Listed:
    """A driver that can be named."""

    name: str
    target: str
    """``module:attribute``."""
    package: str
    about: str


def listed() -> list[Listed]:
    """Return every driver that can be named, by name; imports none of them."""
    found = {n: Listed(n, target, "fleet-market", ABOUT[n]) for n, target in BUILT_IN.items()}
    for point in entry_points(group=DRIVERS):
        found.setdefault(point.name, Listed(point.name, point.value, _package(point), ""))
    return [found[name] for name in sorted(found)]


def find(name: str) -> Factory:
    """Return the factory of the driver `name`.

    Raises
    ------
    InputError
        If there is none of that name.
    DriverMissingError
        If its module, or a library that it needs, is not installed.
    """
    target = next((one.target for one in listed() if one.name == name), None)
    if target is None:
        names = ", ".join(one.name for one in listed())
        raise InputError("driver", "name", name, f"use one of {names}, or install the package that brings it")
    factory: Factory = _load(name, target)
    return factory


def find_bench(name: str) -> Callable[[], Any] | None:
    """Return what makes the test bench of the driver `name`; None if it has none."""
    target = BUILT_IN_BENCHES.get(name) or next((p.value for p in entry_points(group=BENCHES, name=name)), None)
    return None if target is None else _load(name, target)


def settings_of(setup: DriverSetup, defaults: Mapping[str, Any], positive: Collection[str] = ()) -> dict[str, Any]:
    """Return `defaults` overlaid with the settings of `setup`.

    Parameters
    ----------
    positive : collection of str
        Settings that must be above 0.

    Raises
    ------
    InputError
        If a setting is none of `defaults`, of another kind, no finite number or out of its range.
    """
    setup.tell(defaults)
    for name, value in setup.settings.items():
        if name not in defaults:
            known = ", ".join(sorted(defaults)) or "none at all"
            raise InputError("driver settings", name, value, f"no such setting: use {known}")
        usual = defaults[name]
        number = isinstance(usual, float) and isinstance(value, int | float) and not isinstance(value, bool)
        if not number and type(value) is not type(usual):
            raise InputError("driver settings", name, value, f"use a {type(usual).__name__}, as in {usual!r}")
        if number and not (math.isfinite(value) and (value > 0 or name not in positive)):
            raise InputError(
                "driver settings", name, value, f"use a number{' above 0' * (name in positive)}, as in {usual!r}"
            )
    return {**defaults, **setup.settings}


def _load(name: str, target: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        raise DriverMissingError(f"driver {name} cannot be used: {error}; see docs/drivers.md for what it needs") from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "?"
