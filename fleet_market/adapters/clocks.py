"""Market clocks: the wall clock, and the one clock of a simulation."""

from __future__ import annotations

import time
from collections.abc import Callable

from fleet_market.errors import ClockError

MAX_STEP_S = 5.0
"""A clock that is set by more than this is not trusted any more. [assumption] Time servers correct a running machine's
clock by slewing, which the monotonic clock follows (clock_gettime(2)), or by steps well below this."""


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


class WatchedClock:
    """A wall clock that notices when it is set.

    Parameters
    ----------
    wall_ns, steady_ns : callable
        The time of day and one that nobody sets, nanoseconds.
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, steady_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall_ns, self._steady_ns = wall_ns, steady_ns
        self._ahead_ns = wall_ns() - steady_ns()
        self._last_ns = 0

    def now_ns(self) -> int:
        """Return the time; a clock that was set back a little stands still until it has caught up.

        Raises
        ------
        ClockError
            If the clock has jumped by more than `MAX_STEP_S` since the last call. A machine that slept looks the same.
        """
        wall_ns = self._wall_ns()
        ahead_ns = wall_ns - self._steady_ns()
        step_s = (ahead_ns - self._ahead_ns) / 1e9
        if abs(step_s) > MAX_STEP_S:
            way = "forward" if step_s > 0 else "back"
            raise ClockError(
                f"the clock of this machine has jumped {way} by {abs(step_s):.1f} s, or the machine slept: nothing was"
                " traded since; check the clock, then start again"
            )
        self._ahead_ns = ahead_ns
        self._last_ns = max(self._last_ns, wall_ns)
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
