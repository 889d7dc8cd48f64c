"""Least squares that forgets: what was long ago counts less, so that a change of the market is learned.

Ridge regression (Hoerl and Kennard 1970) towards a prior, with exponential forgetting of the sums (Ljung and Soderstrom
1983, "Theory and Practice of Recursive Identification", section 2.6).
"""

from __future__ import annotations

from copy import copy
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]


class Regression:
    """A linear model, learned as samples come in.

    Parameters
    ----------
    prior : (n,) float64 array
        The weights without any sample.
    strength : (n,) float64 array
        How many samples, at features of 1, the prior is worth.
    memory : float
        After so many samples what was before counts 1/e.
    """

    def __init__(self, prior: FloatArray, strength: FloatArray, memory: float) -> None:
        self._prior, self._strength, self._memory = prior, np.diag(strength), memory
        self._squares = np.zeros((len(prior), len(prior)))
        self._products = np.zeros(len(prior))
        self._weights: FloatArray | None = prior
        self.samples = 0.0
        """How many samples are remembered."""

    def copy(self) -> Regression:
        """Return a model that can learn without this one."""
        return copy(self)  # the arrays are replaced, never written into

    @property
    def weights(self) -> FloatArray:
        """The weights by now, (n,)."""
        if self._weights is None:
            right = self._products + self._strength @ self._prior
            self._weights = np.asarray(np.linalg.solve(self._squares + self._strength, right), dtype=np.float64)
        return self._weights

    def learn(self, features: FloatArray, targets: FloatArray) -> None:
        """Learn from samples.

        Parameters
        ----------
        features : (m, n) float64 array
        targets : (m,) float64 array
        """
        kept = float(np.exp(-len(targets) / self._memory))
        self._squares = kept * self._squares + features.T @ features
        self._products = kept * self._products + features.T @ targets
        self.samples = kept * self.samples + len(targets)
        self._weights = None
