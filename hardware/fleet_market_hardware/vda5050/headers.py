"""The header of every message: a count for each topic, the time, the version and whom it concerns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

UINT32 = 2**32


def utc_now() -> str:
    """Return the time as the standard writes it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Headers:
    """Adds headers for one vehicle.

    Parameters
    ----------
    manufacturer, serial : str
    now : callable
        Returns the time as text.
    """

    def __init__(self, manufacturer: str, serial: str, now: Callable[[], str] = utc_now) -> None:
        self._manufacturer, self._serial, self._now = manufacturer, serial, now
        self._sent: Counter[str] = Counter()

    def add(self, topic: str, version: str, body: dict[str, Any]) -> bytes:
        """Return the message for the wire."""
        header = {
            "headerId": self._sent[topic] % UINT32,
            "timestamp": self._now(),
            "version": version,
            "manufacturer": self._manufacturer,
            "serialNumber": self._serial,
        }
        self._sent[topic] += 1
        return json.dumps({**header, **body}, allow_nan=False).encode()
