"""What a motor controller must offer to be a base: two wheels, read and commanded in one exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fleet_market_hardware.devices import Doubts


@dataclass(frozen=True, slots=True)
class Wheel:
    """One driven wheel, at the wheel's own shaft; None is not measured."""

    angle_rad: float
    """As the device counts: cumulative, signed, positive forward; begins anew when the device does."""
    velocity_rad_s: float | None = None
    torque_nm: float | None = None
    fault: str = ""
    """What the controller complains about; empty if nothing."""


@dataclass(frozen=True, slots=True)
class WheelsReading:
    """What the controllers told in one exchange."""

    left: Wheel
    right: Wheel
    voltage_v: float | None = None
    current_a: float | None = None
    """From the battery; negative when discharging."""
    energy_out_j: float | None = None
    """As the device counts; begins anew when the device does."""
    soc: float | None = None
    temperature_c: float | None = None
    """Of the battery, where the controller knows it."""
    charging: bool | None = None


class Wheels(Protocol):
    """Two wheels on one bus. Every method is called from the thread of the bus, may block, and has a limit on its time."""

    name: str
    """The device in messages, e.g. ``vesc /dev/ttyACM0``."""
    doubts: Doubts
    exchange_s: float
    """Longest `exchange`, seconds."""

    def open(self, timeout_s: float) -> None:
        """Connect and enable the drives; raises `DeviceError`, or `DeviceSilentError` if nobody answers in time."""

    def exchange(self, left_rad_s: float, right_rad_s: float) -> WheelsReading | None:
        """Command both wheels and return what they tell; None if nothing new came. Raises `OSError` if the bus is gone."""

    def halt(self) -> None:
        """Stop the wheels as hard as the device can, and have it refuse to turn them until `recover`."""

    def recover(self) -> None:
        """Take back `halt`."""

    def close(self) -> None:
        """Disable the drives and disconnect; may be called twice, and on a bus that is gone."""
