"""The robot's body as the market sees it: spec sheet, telemetry, jobs and their results.

SI units, radians, REP-103 frames (x forward, y left, yaw counter-clockwise). ``None`` always means *not measured*, never
zero; NaN never appears.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from fleet_market.ids import RobotId

Point = tuple[float, float]
"""A place on the floor, metres, map frame."""


@dataclass(frozen=True, slots=True)
class Pose:
    """A place and a heading in the map frame, metres and radians."""

    x: float
    y: float
    yaw: float = 0.0

    def distance_to(self, x: float, y: float) -> float:
        """Return the straight-line distance to a point, metres."""
        return math.hypot(self.x - x, self.y - y)


Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MotorSpec(_Spec):
    """One of the two drive motors, brushed DC or its equivalent, with gear."""

    torque_constant_nm_a: Positive
    """Motor torque per ampere, equal to the back-EMF constant in V s/rad."""
    resistance_ohm: Positive
    gear_ratio: Positive
    gear_efficiency: Annotated[float, Field(gt=0.0, le=1.0)]
    no_load_current_a: NonNegative
    """Current that turns the unloaded motor: Coulomb friction and iron losses."""
    driver_efficiency: Annotated[float, Field(gt=0.0, le=1.0)]
    peak_wheel_torque_nm: Positive
    regeneration_efficiency: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the braking power at the motor's terminals that returns to the battery."""


class SurfaceSpec(_Spec):
    """What a class of floor does to this type's wheels."""

    rolling_resistance: NonNegative
    """Coefficient of rolling resistance, force per normal force."""
    sliding_friction: NonNegative = 1.0
    """Coulomb coefficient of a wheel that is dragged sideways in a turn."""


class BatterySpec(_Spec):
    """The traction battery."""

    chemistry: Literal["lfp", "nmc", "lmo"] = "lfp"
    """Cathode of its lithium-ion cells."""
    voltage_v: Positive
    capacity_wh: Positive
    max_charge_w: Positive
    charge_efficiency: Annotated[float, Field(gt=0.0, le=1.0)]
    reserve_soc: Share
    """State of charge that a task must leave, on top of the way to a charger."""
    resume_soc: Share
    """A charging robot takes tasks again from here on."""
    target_soc: Share
    """A charging robot leaves the charger by itself here."""
    replacement_uc: Annotated[int, Field(ge=0)]
    """Price of a new pack, micro-credits."""
    cycle_life_efc: Positive
    """Equivalent full cycles to the end of life."""


class WearSpec(_Spec):
    """What driving uses up, beside the battery."""

    tread_set_uc: Annotated[int, Field(ge=0)]
    """Price of a set of tyres, micro-credits."""
    tread_life_m: Positive
    drive_set_uc: Annotated[int, Field(ge=0)]
    """Price of both gear motors, micro-credits."""
    drive_life_h: Positive
    """Running hours of a gear motor to its planned replacement."""


class RobotType(_Spec):
    """The spec sheet of a kind of robot: what its maker says, not what one robot really does."""

    name: str
    mass_kg: Positive
    footprint_radius_m: Positive
    """Circle around the middle of the drive axle that holds the whole robot."""
    wheel_radius_m: Positive
    track_width_m: Positive
    drive: Literal["differential", "skid"] = "differential"
    """Two driven wheels and a caster, or four driven wheels that skid in turns."""
    wheelbase_m: NonNegative = Field(default=0.0, validate_default=True)
    """Distance between the axles of a skid-steered robot."""
    max_speed_mps: Positive
    max_accel_mps2: Positive
    max_yaw_rate_radps: Positive
    max_yaw_accel_radps2: Positive = 3.0
    max_payload_kg: NonNegative
    rolling_resistance: NonNegative
    """Coefficient of rolling resistance, force per normal force, on every floor that `surfaces` does not name."""
    sliding_friction: NonNegative = 1.0
    """Coulomb coefficient of a wheel that is dragged sideways in a turn, on every floor that `surfaces` does not name."""
    surfaces: dict[str, SurfaceSpec] = Field(default_factory=dict)
    """Classes of floor, as maps name them, that differ from the usual one."""
    hotel_w: NonNegative
    """Power of computer, sensors and radio, drawn all the time."""
    compute_modes_w: dict[str, NonNegative] = Field(default_factory=dict)
    """Power instead of `hotel_w` in a mode of computing, e.g. while mapping or with the computer throttled."""
    handling_s: NonNegative
    """Time to take a parcel aboard or to set it down."""
    motor: MotorSpec
    battery: BatterySpec
    wear: WearSpec
    time_rent_uc_per_h: Annotated[int, Field(ge=0)]
    """Capital and maintenance, charged by the hour, micro-credits."""

    @field_validator("wheelbase_m")
    @classmethod
    def _skids_over_a_length(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("drive") == "skid" and value == 0:
            raise ValueError("a skid-steered robot has a wheelbase above 0")
        return value


@dataclass(frozen=True, slots=True)
class Battery:
    """State of the battery; current is negative when discharging (as in ``sensor_msgs/BatteryState``)."""

    soc: float | None = None
    voltage_v: float | None = None
    current_a: float | None = None
    temperature_c: float | None = None
    energy_out_j: float | None = None
    """Cumulative energy drawn from the battery, where the hardware or its driver integrates it."""
    charging: bool | None = None


@dataclass(frozen=True, slots=True)
class Motor:
    """State of one motor at its output shaft."""

    name: str
    revolutions: float | None = None
    velocity_rad_s: float | None = None
    torque_nm: float | None = None


class Link(StrEnum):
    """How fresh the telemetry is."""

    UP = "UP"
    STALE = "STALE"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The newest snapshot of a robot's body."""

    seq: int
    """Strictly increasing."""
    stamp_ns: int
    """Time of the measurement on the robot's clock (simulation time in a simulation)."""
    link: Link
    pose: Pose | None = None
    vx: float | None = None
    wz: float | None = None
    odometer_m: float = 0.0
    battery: Battery = field(default_factory=Battery)
    motors: tuple[Motor, ...] = ()
    payload_kg: float | None = None
    moving: bool = False
    silent: tuple[str, ...] = ()
    """Names of expected sources that have not spoken lately, e.g. ``("battery_state",)``."""


@dataclass(frozen=True, slots=True)
class Go:
    """Drive along `path` and end at `pose`.

    `path` holds the points to drive through, metres, the last one the place of `pose`. Only the first `released` points
    may be driven until `RobotDriver.release` raises that number: the base and the horizon of VDA 5050.
    """

    pose: Pose
    path: tuple[Point, ...] = ()
    released: int = 0
    tol_m: float = 0.10
    tol_rad: float | None = None
    max_speed: float | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """Do something at standstill: ``load``, ``unload``, ``charge``."""

    kind: Literal["load", "unload", "charge"]
    parcel: str = ""
    mass_kg: float = 0.0
    seconds: float = 0.0
    until_soc: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Steps that a driver runs in order."""

    id: str
    steps: tuple[Go | Act, ...]


class End(StrEnum):
    """How a job ended."""

    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a job, with what the driver can prove about it."""

    job_id: str
    end: End
    steps_done: int
    reason: str = ""
    standstill: bool | None = None
    """Whether telemetry shows standstill; ``None`` is unknown."""


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """What a driver can do and what it really measures."""

    robot_id: RobotId
    max_speed_mps: float
    max_payload_kg: float
    actions: frozenset[str]
    measures: frozenset[str]
    """Names of telemetry fields that are measured; all others are derived or ``None``."""
