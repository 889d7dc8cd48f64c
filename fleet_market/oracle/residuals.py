r"""Energy that does not fit the way: records that are signed, and still false.

A record tells a way and an energy. The closed form of `fleet_market.pricing.energy` gives the energy of that way, as long
as it took, from the robot's spec sheet in four parts; the true factors on these parts are those of the *type*. They are
fitted to the records of all *other* robots of the type, with the spec sheet as prior (ridge regression; Bishop 2006,
"Pattern Recognition and Machine Learning", section 3.3). A robot has no influence on what it is judged by, and what the
robot itself has learned is not asked: its own calibration would learn a lie as it learns a worn gear. The fit begins from
the median robot and leaves out whoever lies far off, above or below: no single robot brings another under suspicion.

What is left over, relative, of a robot's last `WINDOW` records is averaged; the mean :math:`\bar r` of n records has the
standard error

.. math:: s^2 = \sigma^2 / n + \tau^2 (1 + 1/m) + \bar\phi^T P \bar\phi

with the scatter :math:`\sigma` of a record and :math:`\tau` of honest robots around their type, both taken from the m
other robots, and the covariance P of the fit. The robot is under suspicion while :math:`\bar r / s` is above `LIMIT`.

**False alarms.** This is a moving-sum test, looked at after every record (Bauer and Hackl 1978, Technometrics 20(4):431).
`LIMIT` 3.09 is passed by chance in one look of a thousand, so within ten records in a row with probability 0.01 at most
(Boole's inequality); the looks overlap, so it is less. That holds as far as scatter and robots are normal:
``benchmarks/_oracle_proof.py`` measures it.

**What this cannot tell**: a robot that lies from one that is broken (both use up more than the way takes); a lie of all
robots of a type at once, as far as spec sheets are wrong (by 10 to 45 % in our experiments); a lie about the energy that
comes with as large a lie about way, load and time, which the order, the map and the market's clock have to disprove
(`fleet_market.oracle.plausibility`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fleet_market.body import RobotType
from fleet_market.ids import RobotId
from fleet_market.pricing import EnergyModel, PlanLeg, TaskPlan
from fleet_market.pricing.plan import FloatArray
from fleet_market.protocol.messages.telemetry import TelemetryRecord

WINDOW = 10
"""Records of a robot that are averaged."""
LIMIT = 3.09
"""Quantile 0.999 of the standard normal distribution."""
LEAST = 3
"""A robot with fewer records is not judged."""
POWER = 1.645
"""Quantile 0.95: what is found with this probability is named beside every finding."""
KEPT = 40
"""Newest records of a robot that the fleet learns from."""
PRIOR_SD = 0.3
"""Of the factors of a type around its spec sheet; as for a single robot (`fleet_market.pricing.calibration`)."""
ROBOT_SD, ROBOT_WEIGHT = 0.02, 10.0
"""Honest robots of a type differ by 2 % [assumption: tolerance of motors, tyres and computers of one make]; counts like
`ROBOT_WEIGHT` robots that were seen."""
RECORD_SD, RECORD_WEIGHT = 0.06, 10.0
"""Scatter of one record at first, as in `fleet_market.pricing.calibration`; counts like `RECORD_WEIGHT` records."""
LEAST_SD = 0.01
"""No energy meter is better. [assumption: 1 %, class of usual shunt gauges]"""
CLIP_SD = 3.0
"""A single record counts no more than this off its robot's median (winsorised mean; Huber 1964, Ann. Math. Stat. 35:73)."""
LEAST_J = 1.0
FITS = 3
"""Fits of the reference: from the median robot, then without those that lie far off."""


@dataclass(frozen=True, slots=True)
class EnergyFinding:
    """How a robot's last records fit their ways."""

    robot: RobotId
    records: int
    excess: float
    """Mean of measured over expected energy, less 1."""
    sd: float
    """Standard error of it for an honest robot."""
    others: int
    """Robots of the same type that it is compared with."""
    alarm: bool

    @property
    def score(self) -> float:
        """Excess in standard errors."""
        return self.excess / self.sd

    @property
    def found_from(self) -> float:
        """The least inflation that would be found in 95 of 100 cases with what is known now."""
        return (LIMIT + POWER) * self.sd


@dataclass(slots=True)
class _Robot:
    phi: deque[FloatArray] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Shares of the parts in the spec sheet's energy, (4,) each."""
    ratio: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Measured over the spec sheet's energy."""


class EnergyWatch:
    """Watches the energy in records, robot by robot, against the other robots of its type.

    Parameters
    ----------
    types : mapping of str to RobotType
        Spec sheets by the name that a robot announces.
    """

    def __init__(self, types: Mapping[str, RobotType]) -> None:
        self._models = {name: EnergyModel(robot) for name, robot in types.items()}
        self._fleets: dict[str, dict[RobotId, _Robot]] = {name: {} for name in types}
        self.suspects: set[RobotId] = set()
        """Robots whose last look raised the alarm: the fleet learns nothing from them."""

    def hear(self, record: TelemetryRecord, type_name: str) -> EnergyFinding | None:
        """Take a verified record; return how the robot's last records fit.

        Returns
        -------
        EnergyFinding or None
            None if the record cannot be judged: nothing was measured or driven, the type is unknown, or the robot has
            fewer than `LEAST` records.
        """
        model = self._models.get(type_name)
        if model is None or record.energy_j is None:
            return None
        return self.take(record.robot, type_name, plan_of(record), record.energy_j, record.executed_s)

    def take(
        self, robot: RobotId, type_name: str, plan: TaskPlan, energy_j: float, executed_s: float
    ) -> EnergyFinding | None:
        """Do what `hear` does with a plan that was carried out."""
        if not self.learn(robot, type_name, plan, energy_j, executed_s):
            return None
        fleet = self._fleets[type_name]
        own = fleet[robot]
        if len(own.ratio) < LEAST:
            return None
        others = [known for name, known in fleet.items() if name != robot and name not in self.suspects]
        finding = _judge(robot, own, [known for known in others if len(known.ratio) >= LEAST])
        (self.suspects.add if finding.alarm else self.suspects.discard)(robot)
        return finding

    def learn(self, robot: RobotId, type_name: str, plan: TaskPlan, energy_j: float, executed_s: float) -> bool:
        """Take a record without judging the robot by it; return whether there was anything to learn."""
        features = self._models[type_name].features(plan).lasting(executed_s)
        parts: FloatArray = features.joules.sum(axis=0)
        expected_j = float(parts.sum())
        if not (expected_j >= LEAST_J and math.isfinite(energy_j) and energy_j >= 0):
            return False
        own = self._fleets[type_name].setdefault(robot, _Robot())
        own.phi.append(parts / expected_j)
        own.ratio.append(energy_j / expected_j)
        return True

    def forget(self, robot: RobotId) -> None:
        """Take a robot out: it has left, or begins anew after a repair."""
        self.suspects.discard(robot)
        for fleet in self._fleets.values():
            fleet.pop(robot, None)


def plan_of(record: TelemetryRecord) -> TaskPlan:
    """Return the way of a record as the energy model takes it."""
    legs = tuple(
        PlanLeg(leg.length_m, leg.turn_rad, leg.halts, leg.payload_kg, grade=leg.grade, surface=leg.surface)
        for leg in record.legs
    )
    return TaskPlan(legs, record.dwell_s)


def _judge(robot: RobotId, own: _Robot, others: list[_Robot]) -> EnergyFinding:
    factors, covariance, record_sd, robot_sd = _reference(others)
    phi, ratio = np.array(own.phi)[-WINDOW:], np.array(own.ratio)[-WINDOW:]
    excess = _mean(ratio / (phi @ factors) - 1, record_sd)
    mean_phi, n = phi.mean(axis=0) / float(phi.mean(axis=0) @ factors), len(ratio)
    share = 1 + 1 / len(others) if others else 1.0
    variance = record_sd**2 / n + robot_sd**2 * share + float(mean_phi @ covariance @ mean_phi)
    sd = math.sqrt(variance)
    return EnergyFinding(robot, n, excess, sd, len(others), alarm=excess > LIMIT * sd)


def _reference(others: list[_Robot]) -> tuple[FloatArray, FloatArray, float, float]:
    """Return factors of the type, their covariance, and the scatter of records and of robots."""
    prior = np.eye(4) / PRIOR_SD**2
    record_sd, robot_sd = RECORD_SD, ROBOT_SD
    factors: FloatArray = np.ones(4)
    covariance: FloatArray = np.eye(4) * PRIOR_SD**2
    if not others:
        return factors, covariance, record_sd, robot_sd
    phis = [np.array(known.phi) for known in others]
    ratios = [np.array(known.ratio) for known in others]
    factors = np.full(4, float(np.median([np.median(r) for r in ratios])))
    for _ in range(FITS):
        left = [r / (p @ factors) - 1 for p, r in zip(phis, ratios, strict=True)]
        kept = _alike(left, record_sd, robot_sd)
        phi = np.concatenate([phis[k] for k in kept])
        ratio = np.concatenate([ratios[k] for k in kept])
        covariance = np.linalg.inv(phi.T @ phi / record_sd**2 + prior).astype(np.float64)
        factors = covariance @ (phi.T @ ratio / record_sd**2 + prior @ np.ones(4))
        record_sd, robot_sd = _scatter([ratios[k] / (phis[k] @ factors) - 1 for k in kept], record_sd)
    return factors, covariance, record_sd, robot_sd


def _alike(left: list[FloatArray], record_sd: float, robot_sd: float) -> list[int]:
    """Return which robots teach the fleet: not those that lie far off the median robot, above it or below."""
    means = np.array([_mean(r, record_sd) for r in left])
    sds = np.sqrt(robot_sd**2 + record_sd**2 / np.array([len(r) for r in left]))
    return list(np.flatnonzero(np.abs(means - np.median(means)) <= LIMIT * sds))


def _scatter(left: list[FloatArray], record_sd: float) -> tuple[float, float]:
    """Return the standard deviations of records around their robot and of robots around their type, each with its prior.

    The second is what the robots' means scatter beyond what their records explain (method of moments; DerSimonian and
    Laird 1986, Controlled Clinical Trials 7:177), from the median deviation, so that one robot that lies does not hide
    another one.
    """
    squares = sum(float(((r - r.mean()) ** 2).sum()) for r in left)
    freedom = sum(len(r) - 1 for r in left)
    variance = (RECORD_WEIGHT * RECORD_SD**2 + squares) / (RECORD_WEIGHT + freedom)
    means = np.array([_mean(r, record_sd) for r in left])
    spread = 1.4826 * float(np.median(np.abs(means - np.median(means)))) if len(left) > 2 else ROBOT_SD
    by_records = variance * float(np.mean([1 / len(r) for r in left]))
    between = max(0.0, spread**2 - by_records)
    robot_variance = (ROBOT_WEIGHT * ROBOT_SD**2 + len(left) * between) / (ROBOT_WEIGHT + len(left))
    return max(LEAST_SD, math.sqrt(variance)), math.sqrt(robot_variance)


def _mean(left: FloatArray, record_sd: float) -> float:
    middle = float(np.median(left))
    return float(np.clip(left, middle - CLIP_SD * record_sd, middle + CLIP_SD * record_sd).mean())
