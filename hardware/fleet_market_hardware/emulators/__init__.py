"""Emulated firmware that speaks bytes with checksums, over ptys, with faults that can be switched on.

Written from the same documents as the drivers: they show that framing, checksums, time limits and trouble are handled, not
that a real device does what its document says.
"""

from fleet_market_hardware.emulators.plant import Plant
from fleet_market_hardware.emulators.pty_device import Faults, PtyDevice

__all__ = ["Faults", "Plant", "PtyDevice"]
