"""Reads a gauge again and again in a thread, and makes its counters monotone."""

from __future__ import annotations

import threading
import time
from dataclasses import fields, replace

from fleet_market.body import Battery
from fleet_market_hardware.batteries.gauge import Gauge, Reading
from fleet_market_hardware.counters import Rising
from fleet_market_hardware.devices import DeviceSilentError, Doubt

PERIOD_S = 1.0
FRESH_S = 5.0
"""A battery that has not been read for this long is not known any more: its values become None."""
JOIN_S = 5.0


class Monitor:
    """One gauge and its thread.

    Parameters
    ----------
    gauge : Gauge
    period_s : float
        Time between two readings.
    """

    def __init__(self, gauge: Gauge, *, period_s: float = PERIOD_S) -> None:
        self._gauge, self._period_s = gauge, period_s
        self._energy = Rising()
        self._energy_j: float | None = None
        self._reading = Reading()
        self._read_s = -float("inf")
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.trouble = ""
        """Why the gauge cannot be read; empty if it can."""

    def open(self, timeout_s: float) -> None:
        """Connect and read once.

        Raises
        ------
        DeviceError
            If the gauge is not there, does not answer, or is not the one that was meant.
        """
        if self._thread is not None:
            return
        self._gauge.open(timeout_s)
        if not self._try():
            self._gauge.close()
            raise DeviceSilentError(self._gauge.name, "reading", None, f"check wiring and address ({self.trouble})")
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name=self._gauge.name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Disconnect; may be called twice."""
        thread, self._thread = self._thread, None
        self._ending.set()
        if thread is not None:
            thread.join(JOIN_S)
            self._gauge.close()

    def fresh(self) -> bool:
        """Return whether the gauge has been read lately."""
        return time.monotonic() - self._read_s < FRESH_S

    def reading(self) -> Reading:
        """Return the newest reading; one without values if it is stale."""
        return self._reading if self.fresh() else Reading()

    def over(self, other: Battery) -> Battery:
        """Return what the gauge says, and `other` where it says nothing."""
        reading = self.reading()
        own = replace(reading.battery, cycles=reading.cycles, health=reading.health)
        missing = {f.name: getattr(other, f.name) for f in fields(own) if getattr(own, f.name) is None}
        if self._energy_j is not None:
            missing["energy_out_j"] = self._energy_j  # two counters in turn would not be monotone
        return replace(own, **missing)

    def doubts(self) -> tuple[Doubt, ...]:
        """Return what the gauge told and nobody should believe."""
        return self._gauge.doubts.all()

    def _run(self) -> None:
        while not self._ending.wait(self._period_s):
            self._try()

    def _try(self) -> bool:
        try:
            reading = self._gauge.read()
        except (OSError, ValueError) as error:
            self.trouble = f"{self._gauge.name}: {error}"
            return False
        energy = reading.battery.energy_out_j
        if energy is not None:
            self._energy_j = self._energy.read(energy)
            reading = replace(reading, battery=replace(reading.battery, energy_out_j=self._energy_j))
        self._reading, self._read_s, self.trouble = reading, time.monotonic(), ""
        return True
