"""What all devices share: errors that name device, field, value and mend; readings that can be doubted."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet_market.errors import InputError
from fleet_market_hardware.tables import SPANS


class DeviceError(InputError):
    """A device cannot be used as it was asked to; `source` is the device."""


class DeviceSilentError(DeviceError, TimeoutError):
    """A device does not answer, or not in a way that makes sense."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A value that a device told and nobody should believe."""

    device: str
    field: str
    value: float
    reason: str

    def __str__(self) -> str:
        return f"{self.device}: {self.field} was {self.value:g}: {self.reason}"


class Doubts:
    """Sorts the believable from the rest: one per device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._found: dict[str, Doubt] = {}

    def believe(self, field: str, value: float | None, span: str = "") -> float | None:
        """Return `value` if it can be true, else None, and keep the doubt.

        Parameters
        ----------
        field : str
        value : float, optional
        span : str
            Name in `tables.SPANS`; `field` itself by default.
        """
        if value is None:
            return None
        limits = SPANS[span or field]
        if math.isfinite(value) and limits.low <= value <= limits.high:
            self._found.pop(field, None)
            return value
        unit = f" {limits.unit}" if limits.unit else ""
        self._found[field] = Doubt(self._device, field, value, f"cannot be; {limits.low:g} to {limits.high:g}{unit} can")
        return None

    def say(self, field: str, value: float, reason: str) -> None:
        """Keep a doubt of another kind, until `clear`."""
        self._found[field] = Doubt(self._device, field, value, reason)

    def clear(self, field: str) -> None:
        """Take a doubt back."""
        self._found.pop(field, None)

    def all(self) -> tuple[Doubt, ...]:
        """Return what is doubted now."""
        return tuple(self._found.values())
