"""A robot of the world as others see it: what it is put in as, what it carries, its state."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_market.body import Pose, RobotType
from fleet_market.ids import RobotId
from fleet_market_sim.drivetrain import Truth

PARCEL_KG_PER_M3 = 150.0
"""Density of a parcel of which only the mass is known [assumption]."""


@dataclass(frozen=True, slots=True)
class SimRobotConfig:
    """One robot to be put into the world."""

    robot_id: RobotId
    type: RobotType
    start: Pose
    soc: float
    truth: Truth = field(default_factory=Truth)


@dataclass(frozen=True, slots=True)
class SimRobotState:
    """The true state of a robot; the pose is that of the middle of the drive axle in the map frame.

    Wheels are left and right; of two on a side the mean, and the sum of their torques.
    """

    pose: Pose
    vx: float
    wz: float
    odometer_m: float
    wheel_pos_rad: tuple[float, float]
    wheel_vel_rad_s: tuple[float, float]
    wheel_torque_nm: tuple[float, float]
    soc: float
    voltage_v: float
    current_a: float
    """Negative when discharging."""
    temperature_c: float
    energy_out_j: float
    charging: bool
    payload_kg: float
    surface: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a robot carries."""

    mass_kg: float
    given_height_m: float | None = None
    """Of its centre of mass above the deck."""

    @property
    def height_m(self) -> float:
        """Height of the centre of mass above the deck, of a cube of usual density where it is not known."""
        return self.side_m / 2 if self.given_height_m is None else self.given_height_m

    @property
    def side_m(self) -> float:
        """Edge of a cube of this mass and the usual density."""
        return float((self.mass_kg / PARCEL_KG_PER_M3) ** (1 / 3))
