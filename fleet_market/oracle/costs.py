"""What the robots that could do a task would ask for it, learned from the asks of closed batches.

An ask is modelled as linear in the air-line ways (energy, tyres and time go with the metres driven) and in load times way,
times a factor of the robot::

    ask = factor (b0 + b1 way_m + b2 task_m + b3 payload_kg task_m)

with `way_m` from where the robot will be to the start and `task_m` from start to goal. The weights minimise the squared
*relative* error, since errors grow with the ask; the mean detour of a floor is in them, the detour of one way is not.
The factor is the geometric mean of ask over model, shrunk towards 1 by `FACTOR_PRIOR` asks; the mean of all factors is 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fleet_market.ids import RobotId
from fleet_market.oracle.learning import FloatArray, Regression

SCALE_UC = 1e6
"""Weights are in credits, so that the faint prior on them is small against the samples."""
MEMORY = 3000.0
"""Asks after which what was before counts 1/e [assumption]."""
LEAST_ASKS = 20
"""Below so many asks nothing is said about costs [assumption]."""
FACTOR_PRIOR, FACTOR_MEMORY = 5.0, 100.0
"""Asks that a factor of 1 is worth, and asks that a robot's factor remembers [assumption]."""
LEAST_SHARE = 0.1
"""No task costs less than this share of the mean ask: a linear model can go below 0 where it has seen nothing."""


class CostModel:
    """The asks of a zone's robots, learned."""

    def __init__(self) -> None:
        self._regression = Regression(np.zeros(4), np.full(4, 1e-6), MEMORY)
        self._logs: dict[RobotId, tuple[float, float]] = {}
        self._mean_uc, self._common = 0.0, 0.0

    def copy(self) -> CostModel:
        """Return a model that can learn without this one."""
        other = CostModel()
        other._regression, other._logs = self._regression.copy(), self._logs.copy()
        other._mean_uc, other._common = self._mean_uc, self._common
        return other

    @property
    def known(self) -> bool:
        """Whether enough asks were heard."""
        return self._regression.samples >= LEAST_ASKS

    def factor(self, robot: RobotId) -> float:
        """Return how this robot's asks compare with those of all."""
        return math.exp(self._own(robot) - self._common)

    def learn(
        self, robots: Sequence[RobotId], way_m: FloatArray, task_m: FloatArray, payload_kg: FloatArray, ask_uc: FloatArray
    ) -> None:
        """Learn from asks of a closed batch; those of 0 say nothing about costs.

        Parameters
        ----------
        robots : sequence of RobotId
        way_m, task_m, payload_kg, ask_uc : (len(robots),) float64 arrays
        """
        some = ask_uc > 0
        if not some.any():
            return
        robots = [robot for robot, one in zip(robots, some, strict=True) if one]
        ask_uc = ask_uc[some]
        features = _features(way_m[some], task_m[some], payload_kg[some])
        factors = np.array([self.factor(robot) for robot in robots])
        self._regression.learn(features * (factors / ask_uc * SCALE_UC)[:, None], np.ones(len(ask_uc)))
        self._mean_uc = float(ask_uc.mean())
        ratios = np.log(ask_uc / self._floored(features @ self._regression.weights * SCALE_UC))
        for robot, ratio in zip(robots, ratios.tolist(), strict=True):
            count, total = self._logs.get(robot, (0.0, 0.0))
            kept = 1 - 1 / FACTOR_MEMORY
            self._logs[robot] = (kept * count + 1, kept * total + ratio)
        self._common = float(np.mean([self._own(robot) for robot in self._logs]))

    def costs_uc(self, way_m: FloatArray, task_m: float, payload_kg: float) -> FloatArray:
        """Return what a robot of factor 1 would ask, by its way to the start, shape (N,)."""
        full = np.full_like
        features = _features(way_m, full(way_m, task_m), full(way_m, payload_kg))
        return self._floored(features @ self._regression.weights * SCALE_UC)

    def _own(self, robot: RobotId) -> float:
        count, total = self._logs.get(robot, (0.0, 0.0))
        return total / (count + FACTOR_PRIOR)

    def _floored(self, costs_uc: FloatArray) -> FloatArray:
        floored: FloatArray = np.maximum(costs_uc, max(1.0, LEAST_SHARE * self._mean_uc))
        return floored


def _features(way_m: FloatArray, task_m: FloatArray, payload_kg: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(way_m), way_m, task_m, payload_kg * task_m], axis=1)
