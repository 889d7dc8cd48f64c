"""How far off a forecast is likely to be: bands widen when the market tightens, not only after they have missed.

Errors that are divided by the size that was expected of them are alike in a calm market and in a tight one, so that past
ones say something about the first of a kind (normalised conformal intervals: Papadopoulos, Vovk and Gammerman 2011; Lei et
al. 2018, section 5.2). The expected size is learned by least squares as linear in

* 1,
* 1 / sqrt(1 + robots that would ask): the way to the nearest of n robots goes with 1 / sqrt(n), as the mean distance to the
  nearest of n points in the plane does, and what is not known of it too,
* log(high / low) of the competitive prices; where no robot would ask, from a usual cost to a usual budget.

All three are known when an order comes on sale. A poor guess makes intervals wider than need be, it costs no coverage.
"""

from __future__ import annotations

import math

import numpy as np

from fleet_market.oracle.learning import FloatArray, Regression

PRIOR = np.array([0.03, 0.05, 0.25])
"""The last: a price that lies anywhere between two ends is a quarter of their distance off their middle, in the mean. The
others [assumption]."""
STRENGTH = np.ones(3)
MEMORY = 1000.0
"""Samples that the prior is worth, and after which what was before counts 1/e [assumption]."""
LEAST, MOST = 0.02, 1.0
"""Bounds of what is expected: 2 %, and a factor of e [assumption]."""


def features(robots: int, low_uc: float, high_uc: float) -> FloatArray:
    """Return what the size of an error depends on, (3,).

    Parameters
    ----------
    robots : int
        That would ask now, at least 0.
    low_uc, high_uc : float
        Ends of the competitive prices; below 1, and a high end below the low one, count as equal to that.
    """
    low_uc = max(1.0, low_uc)
    return np.array([1.0, 1 / math.sqrt(1 + robots), math.log(max(low_uc, high_uc) / low_uc)])


class Spread:
    """The expected size of the errors of a zone's forecasts, in natural logarithms of the price."""

    def __init__(self) -> None:
        self._regression = Regression(PRIOR, STRENGTH, MEMORY)

    def copy(self) -> Spread:
        """Return a spread that can learn without this one."""
        other = Spread()
        other._regression = self._regression.copy()
        return other

    def expected(self, of: FloatArray) -> float:
        """Return the mean size of the error at these features, from `LEAST` to `MOST`."""
        return min(max(float(of @ self._regression.weights), LEAST), MOST)

    def learn(self, of: FloatArray, errors: FloatArray) -> None:
        """Learn from errors that were seen.

        Parameters
        ----------
        of : (m, 3) float64 array
        errors : (m,) float64 array
            log(price / forecast).
        """
        self._regression.learn(of, np.abs(errors))
