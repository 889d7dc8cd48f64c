"""What one drive motor really draws: brushed DC motor, gear and driver, with every loss by name."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from fleet_market.body import MotorSpec

STICTION_RAD_S = 5.0
"""Motor speed over which the no-load current fades in; keeps a standing motor from drawing it [assumption]."""


@dataclass(frozen=True, slots=True)
class Truth:
    """How one robot differs from its type's spec sheet, as factors.

    `gear_loss` scales what the gear loses per unit of output, 1/efficiency - 1. The battery's two factors are its age:
    capacity left, and internal resistance.
    """

    rolling_resistance: float = 1.0
    hotel_w: float = 1.0
    no_load_current: float = 1.0
    gear_loss: float = 1.0
    sliding_friction: float = 1.0
    battery_capacity: float = 1.0
    battery_resistance: float = 1.0

    @classmethod
    def draw(cls, seed: int, robot_id: str, spread: float) -> Truth:
        """Return factors spread evenly over 1 +- `spread`, the same for the same seed and robot."""

        def factor(what: str) -> float:
            digest = hashlib.sha256(f"{seed}\x1f{robot_id}\x1f{what}".encode()).digest()
            return 1 + spread * (2 * int.from_bytes(digest[:8], "big") / 2**64 - 1)

        return cls(*map(factor, ("rolling", "hotel", "no_load", "gear", "sliding", "capacity", "resistance")))


class MotorFlow(NamedTuple):
    """Where a motor's power goes, watts: ``drawn = copper + no_load + gear + driver + shaft``."""

    drawn_w: float
    """From the battery; negative when braking returns some."""
    copper_w: float
    no_load_w: float
    """Friction and iron losses inside the motor."""
    gear_w: float
    driver_w: float
    """Lost in the drive electronics and, when braking, in the braking resistor."""
    shaft_w: float
    """Mechanical power at the wheel."""


def true_motor(motor: MotorSpec, truth: Truth) -> MotorSpec:
    """Return the motor as it really is."""
    gear = 1 / (1 + (1 / motor.gear_efficiency - 1) * truth.gear_loss)
    return motor.model_copy(
        update={"gear_efficiency": gear, "no_load_current_a": motor.no_load_current_a * truth.no_load_current}
    )


def motor_flow(motor: MotorSpec, torque_nm: float, speed_rad_s: float) -> MotorFlow:
    """Return where the power of one motor goes at a torque and speed of its wheel.

    Load current through the gear (its losses help when braking) plus no-load current; copper loss plus shaft power; the
    driver's efficiency. The form is that of the catalogue equations of DC motors (e.g. maxon, "Key information on maxon
    DC motors"), with the gear as in Reina and Galati 2016. What braking yields is turned into heat unless the driver
    feeds it back.
    """
    shaft = torque_nm * speed_rad_s
    ratio, constant = motor.gear_ratio, motor.torque_constant_nm_a
    geared = torque_nm / ratio
    geared = geared / motor.gear_efficiency if shaft >= 0 else geared * motor.gear_efficiency
    motor_speed = speed_rad_s * ratio
    idle_a = motor.no_load_current_a * math.tanh(motor_speed / STICTION_RAD_S)
    current = geared / constant + idle_a
    copper = current * current * motor.resistance_ohm
    no_load = constant * idle_a * motor_speed
    gear = geared * motor_speed - shaft
    terminals = copper + no_load + gear + shaft
    drawn = terminals / motor.driver_efficiency if terminals > 0 else terminals * motor.regeneration_efficiency
    return MotorFlow(drawn, copper, no_load, gear, drawn - terminals, shaft)


def motor_power_w(motor: MotorSpec, no_load_a: float, torque_nm: float, speed_rad_s: float) -> float:
    """Return what one motor draws from the battery; see `motor_flow`."""
    return motor_flow(motor.model_copy(update={"no_load_current_a": no_load_a}), torque_nm, speed_rad_s).drawn_w


def drifted(truth: Truth, **factors: float) -> Truth:
    """Return the truth with some of its factors multiplied, e.g. ``drifted(truth, gear_loss=1.35)``."""
    return replace(truth, **{name: getattr(truth, name) * factor for name, factor in factors.items()})
