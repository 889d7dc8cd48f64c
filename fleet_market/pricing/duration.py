"""How long tasks of one robot really last: the plan's times with learned factors, plus waiting per metre of each zone.

    T = sum over zones (a_z drive time + w_z way) + h dwell time

a_z starts at 1 (the speed profiles are driven as planned), w_z at 0 seconds per metre (nobody in the way), h at 1. Waiting
for others grows with the way through a zone: stops come at random along it, so their number is in proportion to its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fleet_market.body import RobotType
from fleet_market.pricing.energy import EnergyModel, Features
from fleet_market.pricing.kalman import Component, Estimate, FactorFilter, Lesson
from fleet_market.pricing.plan import FloatArray, PlanArray, TaskPlan

MEASURE_SD = 0.08
"""Relative, of one task's duration among others in the way [assumption]."""
COMPONENTS = (
    Component("dwell", shared=True, start=1.0, start_sd=0.3, low=0.1, high=8.0, process_sd=0.02),
    Component("drive", shared=False, start=1.0, start_sd=0.1, low=0.5, high=4.0, process_sd=0.01),
    Component("wait_s_per_m", shared=False, start=0.0, start_sd=0.3, low=0.0, high=8.0, process_sd=0.02),
)


class DurationModel:
    """Durations of one robot's tasks.

    Parameters
    ----------
    robot : RobotType
    """

    def __init__(self, robot: RobotType) -> None:
        self._model = EnergyModel(robot)
        self._filter = FactorFilter(COMPONENTS, MEASURE_SD)

    def predict(self, plan: TaskPlan) -> Estimate:
        """Return the duration of a plan, seconds."""
        means, sds = self.expect(self._model.features(plan))
        return Estimate(float(means), float(sds))

    def predict_many(self, plans: PlanArray) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the durations of many plans, shape (...) each, seconds."""
        return self.expect(self._model.features(plans))

    def expect(self, features: Features) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the durations for features, shape (...) each, seconds."""
        return self._filter.expect(features.zones, _times(features))

    def update(self, plan: TaskPlan, executed_s: float) -> Lesson:
        """Learn from a settled task.

        Raises
        ------
        InputError
            If `executed_s` is negative or not finite.
        """
        features = self._model.features(plan)
        return self._filter.learn(features.zones, _times(features), executed_s)

    def factors(self) -> dict[str, dict[str, Estimate]]:
        """Return what was learned, by zone and factor."""
        found = {}
        for zone in self._filter.groups:
            mean, covariance = self._filter.factors([zone])
            sds = covariance.diagonal() ** 0.5
            found[zone] = {c.name: Estimate(float(m), float(s)) for c, m, s in zip(COMPONENTS, mean[0], sds, strict=True)}
        return found

    def export(self) -> dict[str, Any]:
        """Return everything that was learned, as JSON holds it."""
        return self._filter.export()

    def restore(self, data: Mapping[str, Any], source: str = "durations") -> None:
        """Take over what `export` gave.

        Raises
        ------
        InputError
            If `data` is not such an export.
        """
        self._filter.restore(data, source)


def _times(features: Features) -> FloatArray:
    """Return (..., zones, 3); dwell counts to the first zone, its factor is the same in all."""
    times = np.zeros((*features.drive_s.shape, len(COMPONENTS)))
    times[..., 0, 0] = features.dwell_s
    times[..., 1], times[..., 2] = features.drive_s, features.drive_m
    return times
