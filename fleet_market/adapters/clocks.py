"""Market clocks: the wall clock, and the one clock of a simulation."""

from __future__ import annotations

import time
from collections.abc import Callable


class WallClock:
    """UTC in nanoseconds, never running backwards.

    Parameters
    ----------
    source : callable
        The machine's clock, nanoseconds since 1970.
    """

    def __init__(self, source: Callable[[], int] = time.time_ns) -> None:
        self._source = source
        self._last_ns = 0

    def now_ns(self) -> int:
        """Return the time; a clock that was set back stands still until it has caught up."""
        self._last_ns = max(self._last_ns, self._source())
        return self._last_ns


class SimulationClock:
    """The time that a simulator has announced last; it stands still between two announcements."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """Return the newest simulation time, 0 before the first."""
        return self._now_ns

    def advance(self, now_ns: int) -> None:
        """Take an announcement; an older one is ignored."""
        self._now_ns = max(self._now_ns, now_ns)
