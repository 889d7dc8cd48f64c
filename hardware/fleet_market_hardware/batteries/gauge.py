"""What a battery gauge or a power meter must offer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fleet_market.body import Battery
from fleet_market_hardware.devices import Doubts


@dataclass(frozen=True, slots=True)
class Reading:
    """What a gauge tells; None is not measured."""

    battery: Battery = field(default_factory=Battery)
    """Its `energy_out_j` as the device counts; begins anew when the device does."""
    cycles: float | None = None
    health: float | None = None
    """Full capacity now over that by design."""
    capacity_ah: float | None = None


class Gauge(Protocol):
    """One gauge. Every method is called from one thread, may block, and has a limit on its time."""

    name: str
    doubts: Doubts

    def open(self, timeout_s: float) -> None:
        """Connect; raises `DeviceError` if the device is not there or not the one that was meant."""

    def read(self) -> Reading:
        """Read once; raises `OSError` if the device does not answer."""

    def close(self) -> None:
        """Disconnect; may be called twice."""
