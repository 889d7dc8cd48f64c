"""Counters that survive a reset of the device that counts."""

from __future__ import annotations


class Rising:
    """A cumulative counter, as its device counts: monotone, whatever the device does.

    A reading below the last one means that the device has begun anew, at 0: what it shows from then on is added.
    """

    def __init__(self) -> None:
        self._base = self._last = 0.0

    def read(self, value: float) -> float:
        """Take a reading and return the count.

        Parameters
        ----------
        value : float
            Of the device, at least 0, any unit.
        """
        if value < self._last:
            self._base += self._last
        self._last = value
        return self._base + value
