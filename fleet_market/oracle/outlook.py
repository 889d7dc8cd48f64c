"""How the level of a zone's prices goes on: what a task will cost later, and how full the zone will be.

The level is the mean of log(price / reference cost) of the lots sold lately. It is forecast as a mean-reverting series
(an autoregression fitted apart for each horizon, "direct" forecasts: Marcellino, Stock and Watson 2006)::

    level(t + h) = usual(t + h) + rho_h (level(t) - usual(t))

where `usual` is the mean of the same hour of the day, as soon as enough of that hour was seen, and of all hours before.
Each horizon has errors of its own, from which `fleet_market.oracle.conformal` makes intervals.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from copy import copy

import numpy as np

from fleet_market.oracle.conformal import Track
from fleet_market.oracle.learning import Regression
from fleet_market.units import NS_PER_S

HORIZONS_S = (60.0, 300.0, 900.0, 3600.0)
LATELY = 20.0
"""Lots that the level remembers [assumption]."""
USUALLY = 3000.0
"""Lots that the usual level remembers [assumption]."""
DAY_S, HOURS = 86_400.0, 24
LEAST_OF_HOUR = 50.0
"""Lots of an hour of the day from which on it counts for itself [assumption]."""
PRIOR_DECAY_S = 600.0
"""Before anything was learned a level is thought to keep 1/e of its distance so long [assumption]."""
KEPT = 4000
"""Closed batches that are looked back on."""


class _Mean:
    """A mean that forgets."""

    __slots__ = ("_memory", "count", "value")

    def __init__(self, memory: float) -> None:
        self._memory, self.count, self.value = memory, 0.0, 0.0

    def add(self, value: float) -> None:
        self.count = min(self.count + 1, self._memory)
        self.value += (value - self.value) / self.count


class Outlook:
    """Levels and loads of a zone over time."""

    def __init__(self) -> None:
        self._level, self._usual = _Mean(LATELY), _Mean(USUALLY)
        self._hours = [_Mean(USUALLY / HOURS) for _ in range(HOURS)]
        self._past: deque[tuple[int, float, float]] = deque(maxlen=KEPT)
        self._rho = {h: Regression(np.array([math.exp(-h / PRIOR_DECAY_S)]), np.array([1.0]), USUALLY) for h in HORIZONS_S}
        self._errors = {h: Track() for h in HORIZONS_S}
        self._load_errors = {h: Track() for h in HORIZONS_S}

    def copy(self) -> Outlook:
        """Return an outlook that can learn without this one."""
        other = Outlook()
        other._level, other._usual = copy(self._level), copy(self._usual)
        other._hours = [copy(hour) for hour in self._hours]
        other._past = self._past.copy()
        other._rho = {h: rho.copy() for h, rho in self._rho.items()}
        other._errors = {h: track.copy() for h, track in self._errors.items()}
        other._load_errors = {h: track.copy() for h, track in self._load_errors.items()}
        return other

    def hear(self, closed_ns: int, logs: list[float], load: float) -> None:
        """Learn from a closed batch: log(price / reference cost) of its sold lots, and lots per robot that asked."""
        usual = self._usual_at(closed_ns)
        for horizon_s in HORIZONS_S:
            past = self._at(closed_ns - round(horizon_s * NS_PER_S))
            if past is None:
                continue
            then_ns, level, load_then = past
            self._load_errors[horizon_s].add(load - load_then)
            deviation = level - self._usual_at(then_ns)
            for log in logs:
                self._errors[horizon_s].add(log - usual - self._rho_at(horizon_s) * deviation)
            if logs:
                self._rho[horizon_s].learn(np.full((len(logs), 1), deviation), np.array(logs) - usual)
        for log in logs:
            for mean in (self._level, self._usual, self._hours[_hour(closed_ns)]):
                mean.add(log)
        if self._level.count:
            self._past.append((closed_ns, self._level.value, load))

    @property
    def level(self) -> float:
        """The level by now; 0 before any price was seen."""
        return self._level.value

    def forecast(self, now_ns: int, at_ns: int) -> tuple[float, Track] | None:
        """Return the expected log(price / reference cost) at a later time, and how far such forecasts were off."""
        if not self._past:
            return None
        horizon_s = horizon_of((at_ns - now_ns) / NS_PER_S)
        deviation = self._level.value - self._usual_at(now_ns)
        return self._usual_at(at_ns) + self._rho_at(horizon_s) * deviation, self._errors[horizon_s]

    def load(self, now_ns: int, at_ns: int) -> tuple[float, Track] | None:
        """Return the load of the newest batch, and by how much it changed over such times."""
        if not self._past:
            return None
        return self._past[-1][2], self._load_errors[horizon_of((at_ns - now_ns) / NS_PER_S)]

    def _rho_at(self, horizon_s: float) -> float:
        return min(max(float(self._rho[horizon_s].weights[0]), 0.0), 1.0)

    def _usual_at(self, at_ns: int) -> float:
        hour = self._hours[_hour(at_ns)]
        return hour.value if hour.count >= LEAST_OF_HOUR else self._usual.value

    def _at(self, at_ns: int) -> tuple[int, float, float] | None:
        index = bisect_right(self._past, at_ns, key=lambda entry: entry[0])
        return self._past[index - 1] if index else None


def horizon_of(seconds: float) -> float:
    """Return the horizon whose errors speak for a forecast so far ahead: the next longer one, or the longest."""
    return next((horizon for horizon in HORIZONS_S if horizon >= seconds), HORIZONS_S[-1])


def _hour(at_ns: int) -> int:
    return int(at_ns / NS_PER_S % DAY_S / DAY_S * HOURS)
