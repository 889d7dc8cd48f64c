"""A robot from one YAML file: base, battery, actions, limits.

::

    robot: amr1
    type: carrier                      # robot type: speeds, mass, wheels
    base: {type: vesc, port: /dev/serial/by-id/usb-STM_VESC, right_can_id: 1, pole_pairs: 7, gear_ratio: 10}
    battery: {type: sbs, bus: 1}       # optional
    limits: {max_speed_mps: 0.8, fence: [[0, 0], [10, 0], [10, 6], [0, 6]]}
    actions:                           # optional
      load: {command: [lift, up], timeout_s: 20}
      unload: {command: [lift, down], timeout_s: 20}
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_market.body import DriverSpec, End, Point, Pose, RobotType
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits as Tracked
from fleet_market_hardware import tables
from fleet_market_hardware.bases.differential import Action, Differential, Limits
from fleet_market_hardware.bases.geometry import Fence, Geometry
from fleet_market_hardware.batteries.monitor import Monitor
from fleet_market_hardware.composed import ComposedRobot
from fleet_market_hardware.drivers import DriverMissingError, DriverSetup
from fleet_market_hardware.runner import JobError

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
KILL_S = 2.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ODriveBase(_Part):
    """Two axes of ODrives; see `bases.odrive.ODriveWheels`."""

    one_board: bool = False
    """Both axes on one board, as on the ODrive 3.6."""

    type: Literal["odrive"]
    channel: str
    interface: str = "socketcan"
    left: int = 0
    right: int = 1
    gear_ratio: Positive = 1.0
    invert_left: bool = False
    invert_right: bool = True
    options: dict[str, Any] = Field(default_factory=dict)


class VescBase(_Part):
    """Two VESCs; see `bases.vesc.VescWheels`."""

    type: Literal["vesc"]
    port: str
    baud: int = 115_200
    right_can_id: int = 1
    pole_pairs: Annotated[int, Field(ge=1)] = 7
    gear_ratio: Positive = 1.0
    torque_constant_nm_a: Positive | None = None
    invert_left: bool = False
    invert_right: bool = True
    brake_a: Positive = 10.0


class Cia402Base(_Part):
    """Two CiA 402 drives; see `bases.cia402.Cia402Wheels`."""

    type: Literal["cia402"]
    channel: str
    interface: str = "socketcan"
    left: int = 1
    right: int = 2
    counts_per_turn: Positive
    velocity_units_per_turn_s: Positive | None = None
    invert_left: bool = False
    invert_right: bool = True
    eds: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Create2Base(_Part):
    """An iRobot Create 2; see `bases.create2.Create2Wheels`. Its wheels are its maker's, not those of the robot type."""

    type: Literal["create2"]
    port: str
    baud: int = 115_200


class SbsPart(_Part):
    """A smart battery on I2C."""

    type: Literal["sbs"]
    bus: int
    address: int = 0x0B


class Ina226Part(_Part):
    """A power meter INA226."""

    type: Literal["ina226"]
    bus: int
    shunt_ohm: Positive
    address: int = 0x40
    discharge_positive: bool = True


class Ina228Part(_Part):
    """A power meter INA228."""

    type: Literal["ina228"]
    bus: int
    shunt_ohm: Positive
    max_current_a: Positive
    address: int = 0x40
    discharge_positive: bool = True


class SysfsPart(_Part):
    """A supply of the Linux kernel."""

    type: Literal["sysfs"]
    supply: str


class ModbusPart(_Part):
    """A battery management system over Modbus."""

    type: Literal["modbus"]
    port: str
    map: str
    """Name of a register map that ships, or path of a YAML file."""
    unit: int = 1
    baud: int = 9600


class LimitsPart(_Part):
    """What the base never exceeds; the robot type's limits hold as well."""

    max_speed_mps: Positive | None = None
    max_yaw_rate_radps: Positive | None = None
    fence: Annotated[list[Point], Field(min_length=3)] | None = None
    """Corners of the floor that the robot may not leave, metres, map frame."""


class ActionPart(_Part):
    """An action of an arm, a lift, or a person with a button: a command that ends with 0 when it is done."""

    command: Annotated[list[str], Field(min_length=1)]
    """Program and arguments; the parcel's id and its mass in kilograms are added."""
    timeout_s: Positive = 30.0


class Parts(_Part):
    """What a robot is made of."""

    base: Annotated[ODriveBase | VescBase | Cia402Base | Create2Base, Field(discriminator="type")]
    battery: Annotated[SbsPart | Ina226Part | Ina228Part | SysfsPart | ModbusPart, Field(discriminator="type")] | None = (
        None
    )
    limits: LimitsPart = LimitsPart()
    actions: dict[Literal["load", "unload", "charge"], ActionPart] = Field(default_factory=dict)
    start: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where it stands when it is switched on: x, y in metres, yaw in radians."""


_WHEELS = {
    "odrive": "fleet_market_hardware.bases.odrive:ODriveWheels",
    "vesc": "fleet_market_hardware.bases.vesc:VescWheels",
    "cia402": "fleet_market_hardware.bases.cia402:Cia402Wheels",
    "create2": "fleet_market_hardware.bases.create2:Create2Wheels",
}
_GAUGES = {
    "sbs": "fleet_market_hardware.batteries.smbus:SmartBattery",
    "ina226": "fleet_market_hardware.batteries.smbus:Ina226",
    "ina228": "fleet_market_hardware.batteries.smbus:Ina228",
    "sysfs": "fleet_market_hardware.batteries.sysfs:SysfsBattery",
}
_MEASURES_SOC = {"sbs", "sysfs"}
_COUNT_ENERGY = {"vesc", "ina228"}
"""What integrates power itself."""


def load_robot(path: Path, types: Mapping[str, RobotType]) -> ComposedRobot:
    """Return the robot of a YAML file, not yet open.

    Raises
    ------
    InputError
        If the file or a field of it is wrong.
    DriverMissingError
        If a library that it needs is not installed.
    """
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(str(path), "the file", path.name, f"use a YAML file that can be read ({error})") from error
    if not isinstance(told, dict):
        raise InputError(str(path), "the file", type(told).__name__, "use a mapping with robot, type and base")
    robot, kind = told.pop("robot", None), told.pop("type", None)
    if not isinstance(robot, str) or not robot:
        raise InputError(str(path), "robot", robot, "use the robot's id")
    if kind not in types:
        raise InputError(str(path), "type", kind, f"use one of {', '.join(sorted(types))}")
    return compose(RobotId(robot), types[kind], told, str(path))


def compose(robot: RobotId, kind: RobotType, told: Mapping[str, Any], source: str = "driver settings") -> ComposedRobot:
    """Return a robot of its parts, not yet open; raises `InputError` if a field is wrong."""
    try:
        parts = Parts.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(source, field, first["input"], first["msg"]) from error
    wheels = _loaded(_WHEELS[parts.base.type])(**parts.base.model_dump(exclude={"type"}))
    geometry = Geometry(kind.wheel_radius_m, kind.track_width_m)
    speed = min(kind.max_speed_mps, parts.limits.max_speed_mps or kind.max_speed_mps)
    lacks: set[str] = set()
    if parts.base.type == "create2":
        geometry = Geometry(tables.CREATE_WHEEL_RADIUS_M, tables.CREATE_TRACK_M)
        speed = min(speed, tables.CREATE_MAX_MM_S / 1000)
        lacks = {"dead_man"}
    turn = min(kind.max_yaw_rate_radps, parts.limits.max_yaw_rate_radps or kind.max_yaw_rate_radps)
    fence = None if parts.limits.fence is None else Fence(parts.limits.fence)
    soc_known = parts.base.type == "create2" or (
        parts.battery is not None
        and (parts.battery.type in _MEASURES_SOC or (parts.battery.type == "modbus" and _map_has_soc(parts.battery.map)))
    )
    measures = {"motors"} | ({"battery"} if soc_known else set())
    if {parts.base.type, None if parts.battery is None else parts.battery.type} & _COUNT_ENERGY:
        measures.add("energy")
    spec = DriverSpec(
        robot, speed, kind.max_payload_kg, frozenset(parts.actions), frozenset(measures), frozenset(lacks)
    )  # fmt: skip
    base = Differential(
        wheels, spec, geometry, Limits(speed, kind.max_accel_mps2, turn, kind.max_yaw_accel_radps2, fence),
        gauge=None if parts.battery is None else Monitor(_gauge(parts.battery)),
        actions={name: _action(name, part) for name, part in parts.actions.items()},
        start=Pose(*parts.start),
    )  # fmt: skip
    return ComposedRobot(base, Tracked(speed, kind.max_accel_mps2, turn))


def driver(setup: DriverSetup) -> ComposedRobot:
    """Return a robot whose settings are those of its YAML file; see `Parts`."""
    return compose(setup.robot, setup.type, setup.settings)


def _gauge(part: SbsPart | Ina226Part | Ina228Part | SysfsPart | ModbusPart) -> Any:
    told = part.model_dump(exclude={"type"})
    if isinstance(part, ModbusPart):
        modbus = _module("fleet_market_hardware.batteries.modbus")
        return modbus.ModbusBattery(part.port, modbus.load_map(part.map), unit=part.unit, baud=part.baud)
    return _loaded(_GAUGES[part.type])(**told)


def _map_has_soc(name: str) -> bool:
    return "soc" in _module("fleet_market_hardware.batteries.modbus").load_map(name).registers


def _loaded(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(_module(module), attribute)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise DriverMissingError(f"{error}: install fleet-market[hardware]") from error


def _action(kind: str, part: ActionPart) -> Action:
    async def act(parcel: str, mass_kg: float) -> None:
        command = [*part.command, parcel, f"{mass_kg:g}"]
        try:
            process = await asyncio.create_subprocess_exec(*command)
        except OSError as error:
            raise JobError(End.FAILED, f"{kind}: {part.command[0]} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(part.timeout_s):
                code = await process.wait()
        except TimeoutError:
            raise JobError(End.FAILED, f"{kind}: {part.command[0]} took longer than {part.timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                async with asyncio.timeout(KILL_S):
                    await process.wait()
        if code != 0:
            raise JobError(End.FAILED, f"{kind}: {part.command[0]} ended with {code}")

    return act
