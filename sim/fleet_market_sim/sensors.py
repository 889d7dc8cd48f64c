"""What sensors make of the truth: noise, scale errors and steps, as an option."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, fields, replace

from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market_sim.state import SimRobotState


@dataclass(frozen=True, slots=True)
class SensorNoise:
    """How good the sensors are; 0 is perfect. The sizes of `usual` are assumptions of the common order.

    Raises
    ------
    InputError
        If a number is negative or not finite.
    """

    localisation_m: float = 0.0
    """Standard deviation of a position, each axis."""
    localisation_rad: float = 0.0
    odometry_scale: float = 0.0
    """Standard deviation of the scale error of a robot's wheels, constant in time."""
    current_a: float = 0.0
    """Standard deviation of one reading."""
    voltage_step_v: float = 0.0
    current_step_a: float = 0.0
    soc_step: float = 0.0
    """Resolution of the state of charge; AGVs usually tell whole percents."""
    meter_scale: float = 0.0
    """Standard deviation of the scale error of a robot's energy meter, constant in time."""
    scale_kg: float = 0.0
    """Standard deviation of one reading of the payload scale."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                raise InputError("sensor noise", field.name, getattr(self, field.name), "use 0 or more")

    @classmethod
    def usual(cls) -> SensorNoise:
        """Return noise as on a common indoor robot [assumption]."""
        return cls(0.01, 0.005, 0.005, 0.05, 0.01, 0.02, 0.01, 0.01, 0.05)


class Sensors:
    """The sensors of one robot; the same seed and robot give the same errors."""

    def __init__(self, noise: SensorNoise, seed: int, robot_id: str) -> None:
        digest = hashlib.sha256(f"{seed}\x1f{robot_id}\x1fsensors".encode()).digest()
        self._noise, self._random = noise, random.Random(digest)  # noqa: S311 - seeded chance, no secret
        self._wheels = 1 + self._random.gauss(0, noise.odometry_scale)
        self._meter = 1 + self._random.gauss(0, noise.meter_scale)

    def read(self, true: SimRobotState) -> SimRobotState:
        """Return what the sensors say of a true state."""
        noise, gauss, pose = self._noise, self._random.gauss, true.pose
        at, turn = noise.localisation_m, noise.localisation_rad
        (left, right), (left_speed, right_speed) = true.wheel_pos_rad, true.wheel_vel_rad_s
        return replace(
            true,
            pose=Pose(pose.x + gauss(0, at), pose.y + gauss(0, at), pose.yaw + gauss(0, turn)),
            odometer_m=true.odometer_m * self._wheels,
            wheel_pos_rad=(left * self._wheels, right * self._wheels),
            wheel_vel_rad_s=(left_speed * self._wheels, right_speed * self._wheels),
            soc=_step(true.soc, noise.soc_step),
            voltage_v=_step(true.voltage_v, noise.voltage_step_v),
            current_a=_step(true.current_a + gauss(0, noise.current_a), noise.current_step_a),
            energy_out_j=true.energy_out_j * self._meter,
            payload_kg=true.payload_kg + gauss(0, noise.scale_kg),
        )


def _step(value: float, step: float) -> float:
    return round(value / step) * step if step else value
