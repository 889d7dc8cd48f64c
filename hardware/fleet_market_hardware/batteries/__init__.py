"""Batteries and power meters: `Gauge`s, read by a `Monitor` in a thread of its own."""

from fleet_market_hardware.batteries.gauge import Gauge, Reading
from fleet_market_hardware.batteries.monitor import Monitor

__all__ = ["Gauge", "Monitor", "Reading"]
