"""Parts that fail by chance: what an hour costs when a part is replaced at a planned age, or at its failure before.

Life is Weibull, ``R(u) = exp(-(u/scale)^shape)``. Age replacement (Barlow and Proschan 1965, Mathematical Theory of
Reliability, chapter 4): by the renewal theorem an hour costs in the long run

    (planned cost * R(T) + failure cost * (1 - R(T))) / integral of R from 0 to T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fleet_market.pricing.ageing import FloatLike

_STEP = 1 / 32
_AT = _STEP * np.arange(-100, 101)
_NODES = np.tanh(np.pi / 2 * np.sinh(_AT))
_WEIGHTS = _STEP * np.pi / 2 * np.cosh(_AT) / np.cosh(np.pi / 2 * np.sinh(_AT)) ** 2
"""Nodes and weights on -1 to 1 of the double exponential rule (Takahasi and Mori 1974, Double exponential formulas for
numerical integration, Publ. RIMS 9). It needs no eigenvalues: in a robot's node LAPACK would be used for nothing else."""


@dataclass(frozen=True, slots=True)
class AgeReplacement:
    """A part with a planned replacement.

    Parameters
    ----------
    planned_uc, failure_uc : int
        Cost of a planned replacement and of a failure, micro-credits.
    interval_h : float
        Age at the planned replacement, running hours.
    scale_h : float, optional
        Characteristic life, running hours; ``None``: the part never fails before its time.
    shape : float
        At least 1.
    """

    planned_uc: int
    failure_uc: int
    interval_h: float
    scale_h: float | None = None
    shape: float = 2.0

    def hazard(self, age_h: FloatLike) -> FloatLike:
        """Return the cumulative hazard ``(u/scale)^shape`` at an age."""
        if self.scale_h is None:
            return 0.0 * np.asarray(age_h)
        return (np.asarray(age_h) / self.scale_h) ** self.shape

    @property
    def survival(self) -> float:
        """Share of parts that reach the planned replacement."""
        return math.exp(-float(self.hazard(self.interval_h)))

    @property
    def mean_life_h(self) -> float:
        """Mean running hours from replacement to replacement."""
        return _mean_life_h(self)

    @property
    def renewal_uc(self) -> float:
        """Mean cost of a replacement, micro-credits."""
        return self.planned_uc * self.survival + self.failure_uc * (1 - self.survival)

    @property
    def rate_uc_per_h(self) -> float:
        """Long-run cost of a running hour, micro-credits: the default price."""
        return self.renewal_uc / self.mean_life_h

    def marginal_uc(self, age_h: FloatLike, hours: FloatLike) -> FloatLike:
        """Return what `hours` cost a part of this age: the failure that they risk, and their part of the planned one.

        Dear for old parts, cheap for young ones; in the mean over lives the sum is `renewal_uc`, as with the long-run rate.
        """
        risk = self.hazard(np.asarray(age_h) + hours) - self.hazard(age_h)
        return self.failure_uc * risk + self.planned_uc * self.survival / self.mean_life_h * np.asarray(hours)


@lru_cache(maxsize=1024)
def _mean_life_h(part: AgeReplacement) -> float:
    ages = part.interval_h * (_NODES + 1) / 2
    return float(np.sum(_WEIGHTS * np.exp(-part.hazard(ages)))) * part.interval_h / 2
