"""How far past forecasts were off, as intervals that hold a stated share whatever the errors' distribution is.

Split conformal intervals (Vovk, Gammerman and Shafer 2005; Lei et al. 2018) over a sliding window, apart for each group of
alike tasks (Mondrian: Vovk et al., section 4.5), both tails for themselves. After a shock past errors say too little; the
level is therefore moved by what was missed (adaptive conformal inference, Gibbs and Candes 2021, equation 2)::

    alpha <- alpha + GAMMA (target - missed)

which keeps the long-run share at its target for any sequence of errors, their proposition 4.1.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Hashable, Sequence

from fleet_market.errors import InputError

WINDOW = 300
"""Errors of a group that are looked at [assumption]."""
LEAST = 30
"""A group of fewer gives way to a coarser one [assumption]."""
GAMMA = 0.01
"""Twice the 0.005 of Gibbs and Candes, section 4: both tails have a level of their own, of half the size."""
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Confidences whose levels are adapted; others use the nearest."""
BEYOND = 0.5
"""Where the level asks for more than was ever seen: the range is prolonged by this share [assumption]."""

ROUNDING = 1e-9
"""A tenth of 10 is 1, also in floating point."""


def checked_confidence(confidence: float) -> float:
    """Return a confidence that can be given.

    Raises
    ------
    InputError
        If it is not between 0.5 and 0.95.
    """
    if not (math.isfinite(confidence) and LEVELS[0] <= confidence <= LEVELS[-1]):
        raise InputError("quote", "confidence", confidence, f"use a number from {LEVELS[0]} to {LEVELS[-1]}")
    return confidence


class Track:
    """The errors of one group."""

    def __init__(self) -> None:
        self._errors: deque[float] = deque()
        self._sorted: list[float] = []
        self._shift = {level: [0.0, 0.0] for level in LEVELS}
        self._held: dict[float, deque[bool]] = {level: deque(maxlen=WINDOW) for level in LEVELS}

    def __len__(self) -> int:
        return len(self._errors)

    def copy(self) -> Track:
        """Return a track that can learn without this one."""
        other = Track()
        other._errors, other._sorted = self._errors.copy(), self._sorted.copy()
        other._shift = {level: sides.copy() for level, sides in self._shift.items()}
        other._held = {level: held.copy() for level, held in self._held.items()}
        return other

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the ends between which the next error lies with this confidence; needs two errors at least."""
        level = _nearest(confidence)
        below, above = (_tail(confidence) * (1 + shift / _tail(level)) for shift in self._shift[level])
        errors, beyond = self._sorted, BEYOND * (self._sorted[-1] - self._sorted[0])
        low, high = self._rank(below), self._rank(above)
        return (
            errors[low - 1] if low else errors[0] - beyond,
            errors[-high] if high else errors[-1] + beyond,
        )

    def middle(self) -> float:
        """Return the median error."""
        return self._sorted[len(self._sorted) // 2]

    def quantile(self, share: float) -> float | None:
        """Return the error that the next one does not exceed with probability `share`, None if too few were seen."""
        rank = math.ceil(share * (len(self._sorted) + 1))
        return self._sorted[max(rank, 1) - 1] if rank <= len(self._sorted) else None

    def coverage(self, confidence: float) -> float | None:
        """Return the share of the past errors that their own intervals held, None before there were any."""
        held = self._held[_nearest(confidence)]
        return sum(held) / len(held) if held else None

    def rank(self, error: float) -> float:
        """Return the share of errors below `error`, ties half."""
        return (bisect_left(self._sorted, error) + bisect_right(self._sorted, error)) / (2 * len(self._sorted))

    def add(self, error: float) -> None:
        """Learn one more error, and whether the intervals would have held it."""
        if len(self) >= LEAST:
            for level in LEVELS:
                low, high = self.interval(level)
                missed = (error < low, error > high)
                self._held[level].append(not any(missed))
                for side, miss in enumerate(missed):
                    self._shift[level][side] += GAMMA * (_tail(level) - miss)
        self._errors.append(error)
        insort(self._sorted, error)
        if len(self._errors) > WINDOW:
            old = self._errors.popleft()
            del self._sorted[bisect_left(self._sorted, old)]

    def _rank(self, tail: float) -> int:
        """Return which error, counted from its end, leaves a share `tail` of n + 1 outside; 0: none that was seen."""
        return max(0, math.floor(min(tail, 0.5) * (len(self._sorted) + 1) + ROUNDING))


class Groups:
    """Tracks of groups, from the finest to the coarsest, each error in all that it belongs to."""

    def __init__(self) -> None:
        self._tracks: dict[Hashable, Track] = {}

    def copy(self) -> Groups:
        """Return groups that can learn without these."""
        other = Groups()
        other._tracks = {key: track.copy() for key, track in self._tracks.items()}
        return other

    def add(self, keys: Sequence[Hashable], error: float) -> None:
        """Learn one error."""
        for key in keys:
            self._tracks.setdefault(key, Track()).add(error)

    def best(self, keys: Sequence[Hashable]) -> Track | None:
        """Return the finest group that has enough errors, None if none has."""
        return next((track for key in keys if (track := self._tracks.get(key)) and len(track) >= LEAST), None)


def _nearest(confidence: float) -> float:
    return min(LEVELS, key=lambda level: abs(level - confidence))


def _tail(confidence: float) -> float:
    return (1 - confidence) / 2
