"""What the robot really draws: brushed DC motors with gear, hotel power, battery and charger."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from fleet_market.body import MotorSpec, RobotType

STICTION_RAD_S = 5.0
"""Motor speed over which the no-load current fades in; keeps a standing motor from drawing it."""


@dataclass(frozen=True, slots=True)
class Truth:
    """How one robot differs from its type's spec sheet, as factors."""

    rolling_resistance: float = 1.0
    hotel_w: float = 1.0
    no_load_current: float = 1.0

    @classmethod
    def draw(cls, seed: int, robot_id: str, spread: float) -> Truth:
        """Return factors spread evenly over 1 +- `spread`, the same for the same seed and robot."""

        def factor(what: str) -> float:
            digest = hashlib.sha256(f"{seed}\x1f{robot_id}\x1f{what}".encode()).digest()
            return 1 + spread * (2 * int.from_bytes(digest[:8], "big") / 2**64 - 1)

        return cls(factor("rolling"), factor("hotel"), factor("no_load"))


def motor_power_w(motor: MotorSpec, no_load_a: float, torque_nm: float, speed_rad_s: float) -> float:
    """Return the power that one motor draws from the battery at a wheel torque and speed; braking returns nothing.

    The equation is that of the reference set-up: load current through the gear (its efficiency helps when braking), plus
    the no-load current; copper loss plus shaft power; the driver's efficiency.
    """
    driving = torque_nm * speed_rad_s >= 0
    geared = (
        torque_nm / (motor.gear_ratio * motor.gear_efficiency)
        if driving
        else torque_nm * motor.gear_efficiency / motor.gear_ratio
    )
    motor_speed = speed_rad_s * motor.gear_ratio
    current = geared / motor.torque_constant_nm_a + no_load_a * math.tanh(motor_speed / STICTION_RAD_S)
    power = current * (current * motor.resistance_ohm + motor.torque_constant_nm_a * motor_speed)
    return max(0.0, power) / motor.driver_efficiency


class Battery:
    """State of charge and counters of one battery, at constant voltage."""

    def __init__(self, robot: RobotType, soc: float) -> None:
        self._spec = robot.battery
        self.soc = soc
        self.energy_out_j = 0.0
        self.charging = False

    @property
    def empty(self) -> bool:
        """Whether nothing is left to draw."""
        return self.soc <= 0.0

    def run(self, draw_w: float, dt_s: float) -> None:
        """Draw power for a time; what a charger gives on top goes into the cells with its efficiency."""
        self.energy_out_j += draw_w * dt_s
        gain_w = self._spec.max_charge_w * self._spec.charge_efficiency if self.charging else 0.0
        change = (gain_w - draw_w) * dt_s / (self._spec.capacity_wh * 3600.0)
        self.soc = min(1.0, max(0.0, self.soc + change))
