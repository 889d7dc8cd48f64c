"""What one robot's energy really is: factors on the parts of the closed form, learned from every settled task.

The hotel's and the motors' no-load factor belong to the robot; those of traction and turning to the robot and the class of
floor. They start from the spec sheet, at 1 with a wide standard deviation, so a new robot bids carefully.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_market.body import RobotType
from fleet_market.errors import InputError
from fleet_market.pricing.energy import FEATURES, HOTEL, EnergyModel, Features
from fleet_market.pricing.kalman import Component, Estimate, FactorFilter, Lesson
from fleet_market.pricing.plan import FloatArray, PlanArray, TaskPlan

START_SD, PROCESS_SD, MEASURE_SD = 0.3, 0.05, 0.06
"""Chosen on two seeds of the study behind this model (38 kg AMR in PyBullet), checked on others and on real robots."""
FACTOR_LIMITS = (0.1, 8.0)
OF_THE_ROBOT = ("hotel", "no_load")
COMPONENTS = tuple(Component(name, name in OF_THE_ROBOT, 1.0, START_SD, *FACTOR_LIMITS, PROCESS_SD) for name in FEATURES)


@dataclass(frozen=True, slots=True)
class SurfaceView:
    """What a robot knows about a class of floor."""

    surface: str
    tasks: int
    factors: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class CalibrationView:
    """What a robot has learned, for people."""

    tasks: int
    surfaces: tuple[SurfaceView, ...]
    residuals: tuple[float, ...]
    """The last relative errors, measured over predicted less 1."""
    spread: float
    """Factor on all standard deviations, from the surprises so far."""
    alarms: tuple[int, ...]
    """Numbers of the tasks at which something changed."""


class Calibration:
    """Energy factors of one robot.

    Parameters
    ----------
    robot : RobotType
        The spec sheet.
    """

    def __init__(self, robot: RobotType) -> None:
        self._name, self._model = robot.name, EnergyModel(robot)
        self._filter = FactorFilter(COMPONENTS, MEASURE_SD)

    def predict(self, plan: TaskPlan, lasts: Estimate | None = None) -> Estimate:
        """Return the battery energy of a plan, joules.

        Parameters
        ----------
        plan : TaskPlan
        lasts : Estimate, optional
            Duration from the duration model; else nobody is in the way.
        """
        means, sds = self.expect(self._model.features(plan), *(lasts or (None, 0.0)))
        return Estimate(float(means), float(sds))

    def predict_many(self, plans: PlanArray) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the energy of many plans, shape (...) each, joules."""
        return self.expect(self._model.features(plans))

    def expect(
        self, features: Features, lasts_s: FloatArray | float | None = None, lasts_sd_s: FloatArray | float = 0.0
    ) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations of the energy for features, shape (...) each, joules.

        Parameters
        ----------
        features : Features
        lasts_s : (...) float64 array, optional
            Expected durations; those of the plans by default.
        lasts_sd_s : (...) float64 array
            Their standard deviations.
        """
        planned_s = features.duration_s
        if lasts_s is not None:
            features = features.lasting(lasts_s)
        means, sds = self._filter.expect(features.surfaces, features.joules)
        factors, _ = self._filter.factors(features.surfaces)
        whole_s = planned_s if lasts_s is None else lasts_s
        watts = features.joules[..., HOTEL].sum(-1) * factors[0, HOTEL] / (whole_s + (planned_s == 0))
        total: FloatArray = (sds**2 + (watts * lasts_sd_s) ** 2) ** 0.5
        return means, total

    def update(self, plan: TaskPlan, measured_j: float, executed_s: float | None = None) -> Lesson:
        """Learn from a settled task.

        Parameters
        ----------
        plan : TaskPlan
            As it was priced.
        measured_j : float
            Energy drawn from the battery, at least 0.
        executed_s : float, optional
            How long it took, at least 0: what waiting cost is then not blamed on the motors.

        Raises
        ------
        InputError
            If a number is negative or not finite.
        """
        features = self._model.features(plan)
        if executed_s is not None:
            if not (math.isfinite(executed_s) and executed_s >= 0):
                raise InputError(self._name, "executed_s", executed_s, "use a finite number of at least 0")
            features = features.lasting(executed_s)
        return self.learn(features, measured_j)

    def learn(self, features: Features, measured_j: float) -> Lesson:
        """Learn from the features of one task."""
        return self._filter.learn(features.surfaces, features.joules, measured_j)

    def view(self) -> CalibrationView:
        """Return what was learned."""
        f = self._filter
        surfaces = []
        for surface, tasks in f.groups.items():
            mean, covariance = f.factors([surface])
            sds = covariance.diagonal() ** 0.5
            factors = {name: Estimate(float(m), float(s)) for name, m, s in zip(FEATURES, mean[0], sds, strict=True)}
            surfaces.append(SurfaceView(surface, tasks, factors))
        return CalibrationView(f.tasks, tuple(surfaces), tuple(f.residuals), f.spread, tuple(f.alarms))

    def export(self) -> dict[str, Any]:
        """Return everything that was learned, as JSON holds it."""
        return {"robot_type": self._name} | self._filter.export()

    def restore(self, data: Mapping[str, Any], source: str = "calibration") -> None:
        """Take over what `export` gave.

        Raises
        ------
        InputError
            If `data` is not an export of a robot of this type.
        """
        if data.get("robot_type") != self._name:
            raise InputError(source, "robot_type", data.get("robot_type"), f"use the calibration of a {self._name}")
        self._filter.restore(data, source)
