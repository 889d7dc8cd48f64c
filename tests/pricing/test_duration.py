import json
from pathlib import Path

import numpy as np
import pytest

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.errors import InputError
from fleet_market.pricing import DurationModel, PlanArray, PlanLeg, TaskPlan, duration_s
from fleet_market.pricing.duration import MEASURE_SD

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = next(r.type for r in FLEET.robots if r.type.name == "carrier")


def tasks(seed, number, zones=("hall",)):
    rng = np.random.default_rng(seed)
    for _ in range(number):
        legs = tuple(
            PlanLeg(rng.uniform(3, 60), rng.uniform(0, 6), int(rng.integers(1, 5)), 0.0, zone=str(rng.choice(zones)))
            for _ in range(2)
        )
        yield TaskPlan(legs, rng.uniform(4, 20))


def true_s(plan, wait_s_per_m, dwell=1.2):
    driven = duration_s(plan, CARRIER) - plan.dwell_s
    return driven + dwell * plan.dwell_s + sum(wait_s_per_m[leg.zone] * leg.length_m for leg in plan.legs)


def taught(seed, number, wait, noise=0.0):
    model, rng = DurationModel(CARRIER), np.random.default_rng((seed, 1))
    for plan in tasks(seed, number, tuple(wait)):
        model.update(plan, true_s(plan, wait) * (1 + noise * rng.standard_normal()))
    return model


def test_a_new_robot_expects_nobody_in_the_way():
    plan = next(tasks(0, 1))
    expected = DurationModel(CARRIER).predict(plan)
    assert expected.mean == pytest.approx(duration_s(plan, CARRIER))
    assert expected.sd > MEASURE_SD * expected.mean


def test_waiting_is_learned_per_zone():
    wait = {"hall": 0.05, "dock": 0.9}
    model = taught(1, 60, wait, noise=0.03)
    found = model.factors()
    assert found["dock"]["wait_s_per_m"].mean > found["hall"]["wait_s_per_m"].mean + 0.4
    errors = [abs(model.predict(p).mean / true_s(p, wait) - 1) for p in tasks(9, 30, ("dock",))]
    assert np.mean(errors) < 0.05


def test_the_spread_of_traffic_is_covered():
    wait, inside = {"hall": 0.2}, []
    for seed in range(15):
        model, rng = taught(seed, 30, wait, noise=0.10), np.random.default_rng((seed, 2))
        for plan in tasks(seed + 60, 10):
            expected = model.predict(plan)
            inside.append(abs(true_s(plan, wait) * (1 + 0.1 * rng.standard_normal()) - expected.mean) < expected.sd)
    assert 0.55 < np.mean(inside) < 0.85


def test_after_a_change_of_traffic_the_model_follows():
    model = taught(2, 40, {"hall": 0.0})
    plans = list(tasks(3, 30))
    before = [abs(model.predict(p).mean / true_s(p, {"hall": 0.8}) - 1) for p in plans]
    for plan in plans[:10]:
        model.update(plan, true_s(plan, {"hall": 0.8}))
    after = [abs(model.predict(p).mean / true_s(p, {"hall": 0.8}) - 1) for p in plans[10:]]
    assert np.mean(before) > 0.2
    assert np.mean(after) < 0.05


def test_waiting_never_makes_a_task_faster_than_its_plan_by_more_than_the_profiles_allow():
    model = DurationModel(CARRIER)
    for plan in tasks(4, 50):
        model.update(plan, 0.0)
    for plan in tasks(5, 20):
        expected = model.predict(plan)
        assert expected.mean >= 0.5 * (duration_s(plan, CARRIER) - plan.dwell_s)
    assert model.factors()["hall"]["wait_s_per_m"].mean >= 0


def test_what_was_learned_survives_a_restart_and_goes_for_many_plans():
    first, second = taught(6, 20, {"hall": 0.2, "dock": 0.5}, noise=0.05), DurationModel(CARRIER)
    second.restore(json.loads(json.dumps(first.export())))
    plans = list(tasks(7, 10, ("hall", "dock", "lift")))
    assert [second.predict(p) for p in plans] == [first.predict(p) for p in plans]
    means, sds = second.predict_many(PlanArray.stack(plans))
    assert means == pytest.approx([first.predict(p).mean for p in plans])
    assert sds == pytest.approx([first.predict(p).sd for p in plans])
    with pytest.raises(InputError, match="durations: columns"):
        second.restore(first.export() | {"columns": [["hall", "hotel"]]})
    with pytest.raises(InputError, match="measured"):
        second.update(plans[0], float("nan"))
