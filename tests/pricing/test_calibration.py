import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.errors import InputError
from fleet_market.pricing import Calibration, EnergyModel, PlanArray, PlanLeg, TaskPlan
from fleet_market.pricing.calibration import COMPONENTS, FACTOR_LIMITS, MEASURE_SD, START_SD
from fleet_market.pricing.energy import FEATURES
from fleet_market.pricing.kalman import FactorFilter

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = next(r.type for r in FLEET.robots if r.type.name == "carrier")
RUNNER = next(r.type for r in FLEET.robots if r.type.name == "runner")
TRUE = np.array([1.2, 0.8, 1.5, 0.7])


def tasks(seed, number, surfaces=("floor",)):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        yield TaskPlan(
            tuple(
                PlanLeg(
                    rng.uniform(3, 40),
                    rng.uniform(0, 6),
                    int(rng.integers(1, 6)),
                    rng.uniform(0, 20),
                    grade=rng.uniform(-0.02, 0.04),
                    surface=str(rng.choice(surfaces)),
                )
                for _ in range(3)
            ),
            rng.uniform(0, 20),
        )


def truth_j(plan, true=TRUE, robot=RUNNER, seconds=None):
    features = EnergyModel(robot).features(plan)
    if seconds is not None:
        features = features.lasting(seconds)
    return float((features.joules * true).sum())


def taught(seed, number, noise=0.02, true=TRUE, **more):
    calibration, rng = Calibration(RUNNER), np.random.default_rng((seed, 1))
    for plan in tasks(seed, number, **more):
        calibration.update(plan, truth_j(plan, true) * (1 + noise * rng.standard_normal()))
    return calibration


def errors(calibration, plans, true=TRUE):
    return np.array([calibration.predict(plan).mean / truth_j(plan, true) - 1 for plan in plans])


def test_a_new_robot_asks_by_its_spec_sheet_and_says_how_unsure_it_is():
    plan = next(tasks(0, 1))
    expected = Calibration(RUNNER).predict(plan)
    parts = EnergyModel(RUNNER).features(plan).joules[0]
    assert expected.mean == pytest.approx(parts.sum())
    assert expected.sd == pytest.approx(math.hypot(START_SD * np.linalg.norm(parts), MEASURE_SD * parts.sum()))


@pytest.mark.parametrize("seed", range(3))
def test_ten_tasks_teach_a_robot_what_its_tasks_take(seed):
    before = np.abs(errors(Calibration(RUNNER), tasks(seed + 10, 20))).mean()
    after = np.abs(errors(taught(seed, 10), tasks(seed + 10, 20))).mean()
    assert before > 0.10
    assert after < 0.05


def test_the_standard_deviation_falls_with_learning_and_covers_the_errors():
    inside, sure = [], []
    for seed in range(20):
        calibration = taught(seed, 30, noise=0.05)
        rng = np.random.default_rng((seed, 2))
        for plan in tasks(seed + 50, 10):
            expected = calibration.predict(plan)
            measured = truth_j(plan) * (1 + 0.05 * rng.standard_normal())
            inside.append(abs(measured - expected.mean) <= expected.sd)
            sure.append(expected.sd / expected.mean)
    assert 0.6 < np.mean(inside) < 0.95
    assert np.mean(sure) < 0.10


def test_floors_are_learned_apart_and_tasks_over_several_teach_all_of_them():
    carpet = TRUE * [1, 1, 2.5, 1]
    calibration, rng = Calibration(RUNNER), np.random.default_rng(3)

    def true_j(plan):
        features = EnergyModel(RUNNER).features(plan)
        table = np.array([carpet if s == "carpet" else TRUE for s in features.surfaces])
        return float((features.joules * table).sum())

    for plan in tasks(3, 60, surfaces=("floor", "carpet")):
        calibration.update(plan, true_j(plan) * (1 + 0.02 * rng.standard_normal()))
    views = {view.surface: view.factors for view in calibration.view().surfaces}
    assert views["carpet"]["traction"].mean > 1.4 * views["floor"]["traction"].mean
    assert views["carpet"]["hotel"] == views["floor"]["hotel"]
    late = [abs(calibration.predict(p).mean / true_j(p) - 1) for p in tasks(99, 20, surfaces=("carpet",))]
    assert np.mean(late) < 0.06


@pytest.mark.parametrize("step", [[1.6, 1, 1, 1], [1, 1, 2.5, 1], [0.6, 0.6, 0.6, 0.6]], ids=str)
def test_after_a_step_the_error_is_back_within_ten_tasks_and_the_alarm_has_gone_off(step):
    found, alarmed = [], 0
    for seed in range(20):
        rng, calibration, true, errors_now = np.random.default_rng((seed, 4)), Calibration(RUNNER), TRUE, []
        for number, plan in enumerate(tasks(seed, 70)):
            if number == 40:
                true = TRUE * step
            measured = truth_j(plan, true) * (1 + 0.05 * rng.standard_normal())
            errors_now.append(abs(calibration.predict(plan).mean / measured - 1))
            calibration.update(plan, measured)
        found.append(errors_now)
        alarmed += any(41 <= number <= 51 for number in calibration.view().alarms)
    before, at_once, after = np.mean(found, 0)[10:40].mean(), np.mean(found, 0)[40], np.mean(found, 0)[50:].mean()
    assert at_once > 3 * before
    assert after < 1.3 * before
    assert alarmed >= 17


def test_without_a_step_the_alarm_is_quiet():
    alarms = sum(len(taught(seed, 100, noise=0.05).view().alarms) for seed in range(10))
    assert alarms <= 10


def test_one_absurd_measurement_counts_three_standard_deviations_at_most():
    plan = next(tasks(7, 1))
    calm, wild, worse = (taught(5, 20) for _ in range(3))
    expected = calm.predict(plan)
    calm.update(plan, expected.mean + 4 * expected.sd / calm.view().spread)
    wild.update(plan, 50 * expected.mean)
    worse.update(plan, 500 * expected.mean)
    assert wild.predict(plan).mean == pytest.approx(calm.predict(plan).mean, rel=0.02)
    assert worse.predict(plan).mean == wild.predict(plan).mean


def test_waiting_is_not_blamed_on_the_computer_where_the_executed_time_is_known():
    blamed, told = Calibration(RUNNER), Calibration(RUNNER)
    for plan in tasks(8, 25):
        seconds = 1.6 * float(EnergyModel(RUNNER).features(plan).duration_s)
        measured = truth_j(plan, np.ones(4), seconds=seconds)
        blamed.update(plan, measured)
        told.update(plan, measured, seconds)
    hotel = [c.view().surfaces[0].factors["hotel"].mean for c in (blamed, told)]
    assert hotel[0] > 1.2
    assert hotel[1] == pytest.approx(1.0, abs=0.02)


def test_an_uncertain_duration_makes_the_energy_uncertain_by_the_hotel_power():
    plan, calibration = next(tasks(9, 1)), taught(9, 20)
    seconds = float(EnergyModel(RUNNER).features(plan).duration_s)
    sure, unsure, longer = (
        calibration.predict(plan, lasts) for lasts in ((seconds, 0.0), (seconds, 40.0), (seconds + 60, 0.0))
    )
    watts = RUNNER.hotel_w * calibration.view().surfaces[0].factors["hotel"].mean
    assert unsure.sd**2 - sure.sd**2 == pytest.approx((40 * watts) ** 2)
    assert longer.mean - sure.mean == pytest.approx(60 * watts)
    assert calibration.predict(plan) == pytest.approx(sure)


def test_newer_tasks_count_more_so_the_order_matters():
    plans = list(tasks(11, 40))
    high, low = [(p, truth_j(p, 1.4 * TRUE)) for p in plans[:20]], [(p, truth_j(p, TRUE)) for p in plans[20:]]
    ends = {}
    for name, order in (("low last", high + low), ("high last", low + high)):
        calibration = Calibration(RUNNER)
        for plan, joules in order:
            calibration.update(plan, joules)
        ends[name] = np.mean(errors(calibration, plans))
    assert abs(ends["low last"]) < 0.05
    assert ends["high last"] == pytest.approx(0.4, abs=0.07)


phis = st.lists(st.floats(0, 1e5), min_size=4, max_size=4)


@settings(deadline=None)
@given(st.lists(st.tuples(phis, st.floats(0, 1e7), st.sampled_from([("a",), ("b",), ("a", "b")])), max_size=30))
def test_whatever_happens_the_filter_stays_within_its_bounds(history):
    learner = FactorFilter(COMPONENTS, MEASURE_SD)
    for phi, measured, groups in history:
        learner.learn(groups, np.array([phi] * len(groups)), measured)
    factors, covariance = learner.factors(("a", "b"))
    low, high = FACTOR_LIMITS
    assert ((low <= factors) & (factors <= high)).all()
    assert (np.diag(covariance) <= START_SD**2 * (1 + 1e-9)).all()
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    mean, sd = learner.expect(("a", "b"), np.ones((2, 4)))
    assert mean > 0
    assert np.isfinite(sd)


def test_a_thousand_tasks_alike_never_wind_the_covariance_up():
    learner, rng = FactorFilter(COMPONENTS, MEASURE_SD), np.random.default_rng(12)
    phi = np.array([[300.0, 200.0, 100.0, 50.0]])
    for _ in range(1000):
        learner.learn(["floor"], phi, 900.0 * (1 + 0.03 * rng.standard_normal()))
    factors, covariance = learner.factors(["floor"])
    assert np.trace(covariance) <= 4 * START_SD**2
    assert float((factors * phi).sum()) == pytest.approx(900.0, rel=0.05)
    learner.learn(["floor"], np.array([[0.0, 0.0, 0.0, 500.0]]), 600.0)
    assert (learner.factors(["floor"])[0] < 3).all()


@pytest.mark.parametrize("surfaces", [("floor",), ("floor", "carpet")])
def test_what_was_learned_survives_a_restart_to_the_last_bit(surfaces):
    first = taught(13, 25, surfaces=surfaces)
    second = Calibration(RUNNER)
    second.restore(json.loads(json.dumps(first.export())))
    assert second.view() == first.view()
    for plan in tasks(14, 10, surfaces=(*surfaces, "grass")):
        assert second.predict(plan) == first.predict(plan)
        assert second.update(plan, truth_j(plan)) == first.update(plan, truth_j(plan))
    assert second.export() == first.export()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"robot_type": "carrier"}, "robot_type"),
        ({"format": 99}, "format"),
        ({"factors": [1.0, 1.0, 99.0, 1.0]}, "factors"),
        ({"factors": [1.0]}, "factors"),
        ({"columns": [["*", "hotel"]] * 4}, "columns"),
        ({"columns": [["*", "hotel"], ["*", "no_load"], ["floor", "magic"], ["floor", "turning"]]}, "columns"),
        ({"covariance": [[1.0]]}, "covariance"),
        ({"covariance": np.diag([-0.1, 0.1, 0.1, 0.1]).tolist()}, "covariance"),
        ({"tasks": None}, "tasks"),
        ({"spread2": 1e9}, "spread2"),
        ({"residuals": [math.nan]}, "residuals"),
    ],
)
def test_a_damaged_export_is_refused_by_name_and_changes_nothing(change, said):
    calibration, plan = taught(15, 5), next(tasks(15, 1))
    before = calibration.export()
    with pytest.raises(InputError, match=f"robots.json: {said}"):
        calibration.restore(before | change, "robots.json")
    assert calibration.export() == before
    assert calibration.predict(plan).mean > 0


@pytest.mark.parametrize("measured", [-1.0, math.nan, math.inf])
def test_a_measurement_that_makes_no_sense_is_refused(measured):
    calibration, plan = Calibration(RUNNER), next(tasks(0, 1))
    with pytest.raises(InputError, match="measured"):
        calibration.update(plan, measured)
    with pytest.raises(InputError, match="executed_s"):
        calibration.update(plan, 100.0, measured)
    assert calibration.view().tasks == 0


def test_a_task_of_nothing_teaches_nothing():
    calibration = Calibration(RUNNER)
    lesson = calibration.update(TaskPlan((PlanLeg(0.0, 0.0, 1, 0.0),)), 0.0)
    assert (lesson.predicted, lesson.alarm, calibration.view().tasks) == (0.0, False, 0)


def test_many_plans_get_the_predictions_of_each():
    calibration, plans = taught(16, 15, surfaces=("floor", "carpet")), list(tasks(17, 12, surfaces=("floor", "carpet")))
    means, sds = calibration.predict_many(PlanArray.stack(plans))
    alone = [calibration.predict(plan) for plan in plans]
    assert means == pytest.approx([e.mean for e in alone])
    assert sds == pytest.approx([e.sd for e in alone])


def test_the_view_names_everything_that_people_ask_for():
    view = taught(18, 30).view()
    (surface,) = view.surfaces
    assert (view.tasks, surface.surface, surface.tasks, len(view.residuals)) == (30, "floor", 30, 20)
    assert tuple(surface.factors) == FEATURES
    assert all(0 < factor.sd <= START_SD for factor in surface.factors.values())
    assert all(a != b for a, b in pairwise(view.residuals))


def test_pricing_works_without_scipy():
    code = "import sys, fleet_market.pricing, fleet_market.pricing.margin; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
