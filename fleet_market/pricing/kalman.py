"""Learning a few factors from one sum per task: a bounded Kalman filter.

The factors f do a random walk; task t measures y = phi f + noise. Everything is divided by the predicted sum, so noise is
relative. Recursive least squares with a forgetting factor is the same filter with another rule for the covariance, and
that rule winds the covariance up without limit where tasks are alike (Astrom and Wittenmark 1995, Adaptive Control,
section 11.5): on real robots it diverged. Here

* the covariance grows by the process noise of a random walk and never beyond the prior,
* a surprise counts 3 standard deviations at most (Huber 1964, Annals of Mathematical Statistics 35(1):73),
* the factors stay within limits,
* after a drift alarm (`drift`) the factors concerned get the covariance of the prior again: the next tasks teach them anew.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_market.errors import InputError
from fleet_market.pricing.drift import Cusum
from fleet_market.pricing.plan import FloatArray

GATE_SD = 3.0
SPREAD_MEMORY = 0.05
SPREAD_LIMITS = (0.5, 3.0)
KEPT_RESIDUALS = 20
ROUNDING = 1e-9
SHARED = "*"
FORMAT: Literal[1] = 1


class Estimate(NamedTuple):
    """What is expected and how sure it is, in the unit of the sum."""

    mean: float
    sd: float


class Component(NamedTuple):
    """One factor that is learned, its prior and its limits."""

    name: str
    shared: bool
    """One for all groups, or one for each."""
    start: float
    start_sd: float
    low: float
    high: float
    process_sd: float
    """Step of its random walk per task."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a task taught."""

    predicted: float
    measured: float
    surprise: float
    """Innovation in its standard deviations."""
    alarm: bool
    """Whether the cumulative sum passed its limit: something has changed."""

    @property
    def relative_error(self) -> float:
        """Predicted over measured, less 1."""
        return self.predicted / self.measured - 1 if self.measured else math.inf


class FilterState(BaseModel):
    """What a filter knows, as it is kept in JSON."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    format: Literal[1]
    columns: list[tuple[str, str]]
    """Group and factor of each number below; factors of all groups have the group `SHARED`."""
    factors: list[float]
    covariance: list[list[float]]
    cusum: tuple[float, float]
    spread2: float = Field(ge=SPREAD_LIMITS[0] ** 2, le=SPREAD_LIMITS[1] ** 2)
    tasks: dict[str, int]
    alarms: list[int]
    residuals: list[float]


class FactorFilter:
    """Bounded Kalman filter over the factors of components in groups (surfaces, zones).

    Parameters
    ----------
    components : sequence of Component
    measure_sd : float
        Relative standard deviation of one measured sum.
    """

    def __init__(self, components: Sequence[Component], measure_sd: float) -> None:
        self._components, self._measure_sd = tuple(components), measure_sd
        self._columns: dict[tuple[str, str], int] = {}
        self._x = np.empty(0)
        self._p = np.empty((0, 0))
        self._drift = Cusum()
        self._spread2 = 1.0
        self._tasks: dict[str, int] = {}
        self.alarms: list[int] = []
        """Numbers of the tasks, from 1, at which the alarm went off."""
        self.residuals: deque[float] = deque(maxlen=KEPT_RESIDUALS)
        """The last relative errors, measured over predicted less 1."""

    @property
    def tasks(self) -> int:
        """Number of tasks learned from."""
        return self._tasks.get(SHARED, 0)

    @property
    def groups(self) -> dict[str, int]:
        """Known groups and the number of tasks that touched each."""
        return {name: number for name, number in self._tasks.items() if name != SHARED}

    @property
    def spread(self) -> float:
        """How much larger surprises are than the filter expects; multiplies every standard deviation that it gives out."""
        return math.sqrt(self._spread2)

    def factors(self, groups: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Return means ``(groups, components)`` and their covariance over the same, flattened; priors where unknown."""
        x, p, index = self._extended(groups)
        return x[index], p[np.ix_(index.ravel(), index.ravel())]

    def expect(self, groups: Sequence[str], phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of sums, at least 0 each.

        Parameters
        ----------
        groups : sequence of str
        phi : (..., groups, components) float64 array

        Returns
        -------
        means, sds : (...) float64 arrays
            The noise of one measurement is included.
        """
        factors, covariance = self.factors(groups)
        flat = phi.reshape(*phi.shape[:-2], -1)
        mean = np.maximum(0.0, flat @ factors.ravel())
        variance = np.maximum(0.0, ((flat @ covariance) * flat).sum(-1)) + (self._measure_sd * mean) ** 2
        return mean, self.spread * np.sqrt(variance)

    def learn(self, groups: Sequence[str], phi: FloatArray, measured: float) -> Lesson:
        """Learn from one measured sum.

        Parameters
        ----------
        groups : sequence of str
        phi : (groups, components) float64 array
        measured : float
            At least 0.

        Raises
        ------
        InputError
            If a number is not finite or `measured` is negative.
        """
        if not (math.isfinite(measured) and measured >= 0):
            raise InputError("learning", "measured", measured, "use a finite number of at least 0")
        if not np.isfinite(phi).all():
            raise InputError("learning", "features", phi.tolist(), "use finite numbers")
        x, p, index = self._extended(groups)
        row = np.zeros(len(x))
        np.add.at(row, index.ravel(), phi.ravel())
        predicted = float(row @ x)
        if predicted <= 0:
            return Lesson(max(0.0, predicted), measured, 0.0, alarm=False)
        self._keep(groups, index)
        row /= predicted
        p = self._walk(p, row != 0)
        surprise, x, p = self._step(x, p, row, measured / predicted - 1)
        self._x, self._p = np.clip(x, *self._limits()), p
        self._tasks = {g: self._tasks.get(g, 0) + 1 for g in (SHARED, *groups)} | {
            g: n for g, n in self._tasks.items() if g not in groups and g != SHARED
        }
        self.residuals.append(measured / predicted - 1)
        alarm = self._watch(surprise, row != 0)
        return Lesson(predicted, measured, surprise, alarm)

    def _step(
        self, x: FloatArray, p: FloatArray, row: FloatArray, innovation: float
    ) -> tuple[float, FloatArray, FloatArray]:
        """Return surprise, factors and covariance after one measurement (Joseph's form keeps the covariance positive)."""
        noise = self._measure_sd**2
        variance = float(row @ p @ row) + noise
        surprise = innovation / math.sqrt(variance)
        gain = p @ row / variance
        x = x + gain * max(-GATE_SD, min(GATE_SD, surprise)) * math.sqrt(variance)
        left = np.eye(len(x)) - np.outer(gain, row)
        p = left @ p @ left.T + noise * np.outer(gain, gain)
        return surprise, x, (p + p.T) / 2

    def _walk(self, p: FloatArray, touched: np.ndarray[Any, np.dtype[np.bool_]]) -> FloatArray:
        """Return the covariance before a measurement: grown by the random walk, capped at the prior."""
        grown = p + np.diag(np.where(touched, self._each("process_sd"), 0.0) ** 2)
        sd = np.sqrt(np.diag(grown))
        scale = np.minimum(1.0, self._each("start_sd") / np.where(sd > 0, sd, 1.0))
        capped: FloatArray = grown * np.outer(scale, scale)
        return capped

    def _watch(self, surprise: float, touched: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
        """Follow the size of the surprises, and forget how sure the factors of this task were where an alarm goes off."""
        alarm = self._drift.watch(surprise / self.spread)
        low, high = SPREAD_LIMITS
        self._spread2 += SPREAD_MEMORY * (min(surprise**2, (2 * GATE_SD) ** 2) - self._spread2)
        self._spread2 = min(high**2, max(low**2, self._spread2))
        if alarm:
            self.alarms.append(self.tasks)
            free = np.where(touched, 0.0, 1.0)
            self._p = self._p * np.outer(free, free) + np.diag(np.where(touched, self._each("start_sd"), 0.0) ** 2)
        return alarm

    def _extended(self, groups: Sequence[str]) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.intp]]]:
        """Return state and covariance with columns for these groups too, and the column of every factor."""
        columns = dict(self._columns)
        keys = [[(SHARED if c.shared else group, c.name) for c in self._components] for group in groups]
        for key in (key for row in keys for key in row):
            columns.setdefault(key, len(columns))
        index = np.array([[columns[key] for key in row] for row in keys])
        new = [key for key in columns if key not in self._columns]
        prior = {c.name: c for c in self._components}
        x = np.concatenate([self._x, [prior[name].start for _, name in new]])
        p = np.diag([0.0] * len(self._x) + [prior[name].start_sd ** 2 for _, name in new])
        p[: len(self._x), : len(self._x)] = self._p
        return x, p, index

    def _keep(self, groups: Sequence[str], index: np.ndarray[Any, np.dtype[np.intp]]) -> None:
        for group, row in zip(groups, index, strict=True):
            for component, column in zip(self._components, row, strict=True):
                self._columns[SHARED if component.shared else group, component.name] = int(column)

    def _each(self, field: str) -> FloatArray:
        values = {c.name: getattr(c, field) for c in self._components}
        names = [name for (_, name), _ in sorted(self._columns.items(), key=lambda item: item[1])]
        return np.array([values[name] for name in names])

    def _limits(self) -> tuple[FloatArray, FloatArray]:
        return self._each("low"), self._each("high")

    def export(self) -> dict[str, Any]:
        """Return everything that was learned, as JSON holds it."""
        return FilterState(
            format=FORMAT,
            columns=sorted(self._columns, key=self._columns.__getitem__),
            factors=self._x.tolist(),
            covariance=self._p.tolist(),
            cusum=(self._drift.up, self._drift.down),
            spread2=self._spread2,
            tasks=dict(self._tasks),
            alarms=list(self.alarms),
            residuals=list(self.residuals),
        ).model_dump(mode="json")

    def restore(self, data: Mapping[str, Any], source: str = "calibration") -> None:
        """Take over what `export` gave.

        Raises
        ------
        InputError
            If `data` is not such an export; `source` and the field are named, nothing is changed.
        """
        try:
            state = FilterState.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise InputError(source, field, first["input"], f"use an export of this program: {first['msg']}") from None
        columns = state.columns
        known = {(c.name, c.shared) for c in self._components}
        if len(set(columns)) != len(columns) or not all((name, group == SHARED) in known for group, name in columns):
            raise InputError(source, "columns", columns, "use pairs of group and factor, each once")
        limits = {c.name: (c.low, c.high) for c in self._components}
        low, high = np.array([limits[name] for _, name in columns]).reshape(-1, 2).T
        x, n = np.array(state.factors), len(columns)
        if len(x) != n or not ((low <= x) & (x <= high)).all():
            raise InputError(source, "factors", state.factors, f"use {n} numbers from {low.tolist()} to {high.tolist()}")
        if [len(row) for row in state.covariance] != [n] * n:
            raise InputError(source, "covariance", state.covariance, f"use {n} rows of {n} numbers")
        p = np.array(state.covariance).reshape(n, n)
        if n and (not np.allclose(p, p.T) or np.linalg.eigvalsh(p).min() < -ROUNDING):
            raise InputError(source, "covariance", state.covariance, "use a symmetric matrix without negative eigenvalues")
        self._columns = {key: i for i, key in enumerate(columns)}
        self._x, self._p = x, p
        self._drift, self._spread2 = Cusum(state.cusum), state.spread2
        self._tasks, self.alarms = dict(state.tasks), list(state.alarms)
        self.residuals = deque(state.residuals, maxlen=KEPT_RESIDUALS)
