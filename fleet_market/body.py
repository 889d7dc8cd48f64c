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
USUAL_SURFACE = "floor"
"""Class of floor where a map names no other."""


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
    cycle_life_efc: Positive | None = None
    """Equivalent full cycles to the end of life by cycling alone at the rated conditions, as the maker says; ``None``: what
    the published curve of the chemistry gives. Scales that curve."""
    rated_depth: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Depth of the cycles behind `cycle_life_efc`; data sheets mostly say 0.8 or 1."""
    rated_c_rate: Annotated[float, Field(gt=0.0, le=10.0)] = 0.5
    """Rate of the cycles behind `cycle_life_efc`, per hour, mean of charge and discharge."""
    end_capacity: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.8
    """Share of the new capacity at which the pack is replaced."""
    temperature_c: Annotated[float, Field(ge=-20.0, le=60.0)] = 25.0
    """Mean temperature of the cells over their life [assumption]."""
    planned_efc_per_day: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0
    """Equivalent full cycles per day that the owner plans; weighs cycling against the calendar [assumption]."""
    planned_work_h_per_day: Annotated[float, Field(gt=0.0, le=24.0)] = 16.0
    """Hours per day between tasks and chargers; for the rest the robot is parked at `target_soc` [assumption]."""

    @field_validator("target_soc")
    @classmethod
    def _above_resume(cls, value: float, info: ValidationInfo) -> float:
        resume = info.data.get("resume_soc", 0.0)
        if value <= resume:
            raise ValueError(f"use a number above resume_soc ({resume:g}), at most 1")
        return value


class WearSpec(_Spec):
    """What working uses up, beside the battery. A part with price 0 is not there or not priced."""

    tread_set_uc: Annotated[int, Field(ge=0)]
    """Price of a set of tyres, micro-credits."""
    tread_life_m: Positive
    """Life of the set in metres driven straight and empty at `tread_rated_slip`."""
    tread_rated_slip: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    """Slip behind `tread_life_m`, sliding per rolling distance; 0.005 to 0.02 on dry floor [assumption]."""
    tread_slip: Share = 0.01
    """Slip on the floors where the robot works [assumption]."""
    contact_half_length_m: Positive = 0.004
    """Half-length of a tyre's contact patch; small solid tyre [assumption]."""
    drive_set_uc: Annotated[int, Field(ge=0)]
    """Price of the planned replacement of the gear motors, micro-credits."""
    drive_life_h: Positive
    """Running hours of a gear motor to its planned replacement."""
    drive_weibull_scale_h: Positive | None = None
    """Characteristic life (63 % failed), running hours; ``None``: no failure before the planned replacement."""
    drive_weibull_shape: Annotated[float, Field(ge=1.0, le=10.0)] = 2.0
    """1 for chance failures, 2 to 4 for wear-out [assumption]."""
    drive_failure_uc: Annotated[int, Field(ge=0)] | None = None
    """Cost of a failure before the planned replacement, downtime included; ``None``: as `drive_set_uc`."""
    brush_set_uc: Annotated[int, Field(ge=0)] = 0
    """Price of a set of brushes; 0 for brushless motors."""
    brush_life_h: Positive = 3000.0
    """Running hours of the brushes at rated current; makers say 1,000 to 5,000 [assumption]."""
    brush_current_exponent: Annotated[float, Field(ge=0.0, le=3.0)] = 1.5
    """Brush wear grows with current to this power, 1 to 2 [assumption]."""
    rated_current_a: Positive | None = None
    """Continuous current of a drive motor; ``None``: a third of that at its peak torque [assumption]."""
    arm_set_uc: Annotated[int, Field(ge=0)] = 0
    """Price of the gears of an arm; 0 without arm."""
    arm_life_h: Positive = 35_000.0
    """Median life at rated torque and 2,000 rpm of the input (Harmonic Drive catalogue: 35,000 h for HFUC, CSD and SHD)."""


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
    """Sum of all that it carries at once."""
    parcels: Annotated[int, Field(ge=1, le=24)] = 1
    """Parcels that it carries at once; together they weigh `max_payload_kg` at most."""
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
    max_tasks: Annotated[int, Field(ge=1, le=100)] = 3
    """Contracts that it holds at once. Long queues give the work of a burst to the few cheapest robots, one order after the
    other: cheap, and late."""
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
    cycles: float | None = None
    """Cycles since the pack was new, as its gauge counts them."""
    health: float | None = None
    """Full capacity now over that by design; a new pack may show a little more than 1."""


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


Level = Literal["WARNING", "URGENT", "CRITICAL", "FATAL"]
GRAVE_LEVELS = frozenset({"CRITICAL", "FATAL"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a robot; the levels are those of VDA 5050 3.0.0: it cannot work under the last two."""

    code: str
    level: Level
    text: str = ""

    @property
    def is_grave(self) -> bool:
        """Whether the robot cannot work under it."""
        return self.level in GRAVE_LEVELS

    def __str__(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code


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
    faults: tuple[Fault, ...] = ()
    """What the robot complains about now."""

    @property
    def grave(self) -> Fault | None:
        """The first fault under which it cannot work; None if there is none."""
        return next((fault for fault in self.faults if fault.is_grave), None)


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


LACKS = {
    "speed_limit": "a `Go` with a speed limit of its own",
    "dead_man": "a standstill soon after the driver is gone; it ends at the last released point at the latest",
}
"""What a driver may lack, each with what it means."""


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """What a driver can do and what it really measures."""

    robot_id: RobotId
    max_speed_mps: float
    max_payload_kg: float
    actions: frozenset[str]
    measures: frozenset[str]
    """Names of telemetry fields that are measured; all others are derived or ``None``.

    ``pose``, ``battery`` (its state of charge), ``energy`` (a meter's count of the joules drawn from it), ``motors``,
    ``payload``.
    """
    lacks: frozenset[str] = frozenset()
    """What of the contract the robot's own interface cannot do, of `LACKS`; a job that needs it is REJECTED."""
