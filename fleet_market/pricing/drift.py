"""The drift alarm: tells a robot that changed from a robot that had a bad day."""

from __future__ import annotations

from collections.abc import Sequence

ALLOWANCE, LIMIT = 0.5, 5.0
MOST_AT_ONCE = 4.0
"""One surprise alone, however large, raises no alarm."""


class Cusum:
    """Page's two-sided cumulative sum of normalised innovations (Page 1954, Biometrika 41:100).

    With allowance 0.5 and decision limit 5 it alarms about once in 465 values without cause, and after about 10 at a shift
    of one standard deviation (Montgomery, Introduction to Statistical Quality Control, section 9.1).
    """

    def __init__(self, sums: Sequence[float] = (0.0, 0.0)) -> None:
        self.up, self.down = sums

    def watch(self, surprise: float) -> bool:
        """Take in a surprise in standard deviations; return whether the limit is passed, and begin anew where it is."""
        z = max(-MOST_AT_ONCE, min(MOST_AT_ONCE, surprise))
        self.up = max(0.0, self.up + z - ALLOWANCE)
        self.down = max(0.0, self.down - z - ALLOWANCE)
        if max(self.up, self.down) <= LIMIT:
            return False
        self.up = self.down = 0.0
        return True
