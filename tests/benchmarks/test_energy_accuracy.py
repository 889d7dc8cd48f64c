"""What the energy benchmark predicts and learns with, against hand calculation; no physics."""

import numpy as np
import pytest

from benchmarks import energy_accuracy, metered_tasks
from fleet_market.pricing import EnergyModel, PlanLeg, TaskPlan
from fleet_market_sim.bots import DELIVERY
from fleet_market_sim.experiment import CLEAN, Metered


def plans(number=30):
    rng = np.random.default_rng(1)
    return [
        TaskPlan((PlanLeg(length, turn, 1, mass, speed_mps=1.0), PlanLeg(5.0, 0.0, 1, 0.0, speed_mps=0.8)), dwell)
        for length, turn, mass, dwell in rng.uniform([3, 0, 0, 5], [20, 3, 20, 30], (number, 4))
    ]


def true_tasks(factor=1.0):
    model = EnergyModel(DELIVERY.true)
    features = [(plan, model.features(plan)) for plan in plans()]
    return [Metered(plan, factor * float(f.energy_j), float(f.duration_s)) for plan, f in features]


def test_open_rmfs_equations_pay_kinetic_energy_twice_and_know_no_payload():
    robot = DELIVERY.true
    leg = PlanLeg(10.0, 1.0, 1, 15.0, speed_mps=1.0)
    inertia = robot.mass_kg * robot.footprint_radius_m**2 / 2
    duration = 10.0 + 2.0 + 1 / 1.2 + 1.2 / 3 + 5.0
    expected = robot.mass_kg * 1.0 + inertia * 1.2**2 + 0.018 * 38 * 9.80665 * 10 + 45 * duration
    assert energy_accuracy.rmf_j(TaskPlan((leg,), 5.0), robot) == pytest.approx(expected)


def test_least_squares_see_the_first_tasks_only():
    tasks = [Metered(t.plan, 30.0 * t.plan.length_m, 0.0) for t in true_tasks()]
    fitted = energy_accuracy._least_squares(tasks, DELIVERY.sheet, 10, with_time=False)
    assert fitted == pytest.approx([t.energy_j for t in tasks])
    spoiled = [*tasks[:10], *(Metered(t.plan, 1.0, 0.0) for t in tasks[10:])]
    again = energy_accuracy._least_squares(spoiled, DELIVERY.sheet, 10, with_time=False)
    assert again == pytest.approx(fitted)


def test_a_prediction_never_sees_its_own_task_and_learning_helps():
    tasks = true_tasks()
    predicted = energy_accuracy._learning(tasks, DELIVERY.sheet)
    changed = [*tasks[:20], Metered(tasks[20].plan, 9e9, 1e6), *tasks[21:]]
    assert energy_accuracy._learning(changed, DELIVERY.sheet)[:21] == pytest.approx(predicted[:21])
    errors = energy_accuracy._relative(predicted, tasks)
    assert errors[10:].mean() < 0.3 * errors[0]
    frozen = energy_accuracy._learning(changed, DELIVERY.sheet, until=10)
    assert frozen == pytest.approx(energy_accuracy._learning(tasks, DELIVERY.sheet, until=10))


def test_a_kept_task_comes_back_as_it_was_driven(tmp_path, monkeypatch):
    tasks = true_tasks()
    monkeypatch.setattr(metered_tasks, "run", lambda *_: iter(tasks))
    assert metered_tasks.metered(tmp_path, DELIVERY, CLEAN, 0, 30) == tasks
    monkeypatch.setattr(metered_tasks, "run", None)
    assert metered_tasks.metered(tmp_path, DELIVERY, CLEAN, 0, 30) == tasks


def test_the_row_of_the_step_counts_the_tasks_until_the_error_is_back(monkeypatch):
    monkeypatch.setattr(energy_accuracy, "SHUFFLES", 3)
    row = energy_accuracy._step_row(DELIVERY, [true_tasks()])
    assert row.value is None or 0 <= row.value < 15
    assert "+10 W" in row.note
