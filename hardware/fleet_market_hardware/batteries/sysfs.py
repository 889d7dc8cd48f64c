"""Any gauge that the Linux kernel has a driver for: ``/sys/class/power_supply``.

Files and units: the kernel's Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

from pathlib import Path

from fleet_market.body import Battery
from fleet_market_hardware.batteries.gauge import Reading
from fleet_market_hardware.devices import DeviceError, Doubts

CLASS = Path("/sys/class/power_supply")
MICRO = 1e6


class SysfsBattery:
    """Implements `fleet_market_hardware.batteries.Gauge`.

    Parameters
    ----------
    supply : str
        Name of the supply, e.g. ``BAT0``.
    root : Path
        The class's folder.
    """

    def __init__(self, supply: str, *, root: Path = CLASS) -> None:
        self.name = f"power_supply {supply}"
        self.doubts = Doubts(self.name)
        self._supply, self._folder = supply, root / supply

    def open(self, timeout_s: float) -> None:  # noqa: ARG002 - files
        """See whether it is there and is a battery."""
        if not self._folder.is_dir():
            root = self._folder.parent
            there = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
            raise DeviceError(self.name, "supply", self._supply, f"no such supply: use one of {there or 'none at all'}")
        kind = self._text("type")
        if kind not in {"Battery", "UPS"}:
            raise DeviceError(self.name, "type", kind, "use a supply of the type Battery or UPS")

    def read(self) -> Reading:
        """Read once."""
        believe = self.doubts.believe
        status = self._text("status")
        if status is None:
            raise OSError(f"{self.name}: no file status: the supply is gone")
        current = self._number("current_now", MICRO)
        if current is not None and status == "Discharging":
            current = -abs(current)  # some drivers tell the magnitude only
        full = self._number("charge_full", MICRO)
        whole, design = full, self._number("charge_full_design", MICRO)
        if whole is None:
            whole, design = self._number("energy_full", MICRO), self._number("energy_full_design", MICRO)
        return Reading(
            Battery(
                soc=believe("soc", self._number("capacity", 100)),
                voltage_v=believe("voltage_v", self._number("voltage_now", MICRO)),
                current_a=believe("current_a", current),
                temperature_c=believe("temperature_c", self._number("temp", 10)),
                charging={"Charging": True, "Discharging": False, "Not charging": False, "Full": False}.get(status),
            ),
            cycles=believe("cycles", self._number("cycle_count", 1) or None),
            health=believe("health", whole / design) if whole is not None and design else None,
            capacity_ah=full,
        )

    def close(self) -> None:
        """Nothing is held."""

    def _text(self, file: str) -> str | None:
        try:
            return (self._folder / file).read_text("ascii", "replace").strip()
        except OSError:
            return None

    def _number(self, file: str, per_unit: float) -> float | None:
        text = self._text(file)
        if text is None:
            return None
        try:
            return int(text) / per_unit
        except ValueError:
            self.doubts.say(file, float("nan"), f"not a number: {text[:20]!r}")
            return None
