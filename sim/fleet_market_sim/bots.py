"""Three robots to measure with: what their makers say, and what they are.

The sheets are wrong on purpose, as data sheets are: power, losses and friction are better on paper. Motors: constants of a
Clearpath Husky A200 (Reina and Galati 2016, Vehicle System Dynamics; gear efficiency 0.70, no-load current 1.35 A), with a
smaller gear for the two robots on two wheels [assumption]. Batteries, prices and masses are of the usual size [assumption].
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market.body import BatterySpec, MotorSpec, RobotType, WearSpec


@dataclass(frozen=True, slots=True)
class Bot:
    """A robot on paper and as it is, and how it is used."""

    name: str
    sheet: RobotType
    true: RobotType
    speeds_mps: tuple[float, float]
    """Range of cruising speeds."""
    max_grade: float
    """Steepest floor."""


_BATTERY = BatterySpec(
    chemistry="lfp",
    voltage_v=24.0,
    capacity_wh=960.0,
    max_charge_w=480.0,
    charge_efficiency=0.9,
    reserve_soc=0.2,
    resume_soc=0.3,
    target_soc=0.8,
    replacement_uc=43_200_000_000,
    cycle_life_efc=3000.0,
)
_WEAR = WearSpec(tread_set_uc=8_000_000_000, tread_life_m=15e6, drive_set_uc=80_000_000_000, drive_life_h=10_500.0)
_MOTOR = MotorSpec(
    torque_constant_nm_a=0.044,
    resistance_ohm=0.46,
    gear_ratio=30.0,
    gear_efficiency=0.70,
    no_load_current_a=0.9,
    driver_efficiency=0.92,
    peak_wheel_torque_nm=15.0,
)
_CHASSIS = RobotType(
    name="delivery",
    mass_kg=38.0,
    footprint_radius_m=0.3,
    wheel_radius_m=0.1,
    track_width_m=0.36,
    max_speed_mps=1.2,
    max_accel_mps2=0.5,
    max_yaw_rate_radps=1.2,
    max_payload_kg=20.5,
    rolling_resistance=0.018,
    hotel_w=45.0,
    handling_s=4.0,
    motor=_MOTOR,
    battery=_BATTERY,
    wear=_WEAR,
    time_rent_uc_per_h=210_000_000,
)


def _bot(true: RobotType, speeds_mps: tuple[float, float], max_grade: float, **sheet: float) -> Bot:
    motor = true.motor.model_copy(
        update={"gear_efficiency": 0.75, "no_load_current_a": round(true.motor.no_load_current_a * 8 / 9, 2)}
    )
    return Bot(true.name, true.model_copy(update={**sheet, "motor": motor}), true, speeds_mps, max_grade)


DELIVERY = _bot(_CHASSIS, (0.6, 1.2), 0.04, hotel_w=40.0, rolling_resistance=0.015)
"""Delivery robot: its computer draws most of the energy."""

LEAN = _bot(
    _CHASSIS.model_copy(
        update={
            "name": "lean",
            "hotel_w": 12.0,
            "rolling_resistance": 0.025,
            "motor": _MOTOR.model_copy(update={"no_load_current_a": 0.25}),
        }
    ),
    (0.6, 1.2),
    0.06,
    hotel_w=10.0,
    rolling_resistance=0.020,
)
"""The same chassis with little else to feed: traction and slopes make the energy."""

SKID = _bot(
    _CHASSIS.model_copy(
        update={
            "name": "skid",
            "drive": "skid",
            "mass_kg": 50.0,
            "footprint_radius_m": 0.56,
            "wheel_radius_m": 0.165,
            "track_width_m": 0.555,
            "wheelbase_m": 0.512,
            "max_speed_mps": 0.9,
            "max_yaw_rate_radps": 0.8,
            "rolling_resistance": 0.02,
            "sliding_friction": 0.65,
            "motor": _MOTOR.model_copy(
                update={"gear_ratio": 78.71, "no_load_current_a": 1.35, "peak_wheel_torque_nm": 60.0}
            ),
        }
    ),
    (0.4, 0.9),
    0.04,
    hotel_w=40.0,
    rolling_resistance=0.016,
    sliding_friction=0.8,
)
"""Skid-steered robot with the dimensions of a Husky: turning makes the energy."""

BOTS = (DELIVERY, LEAN, SKID)
