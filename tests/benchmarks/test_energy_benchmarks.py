"""What the energy benchmarks measure with, against hand calculation."""

import numpy as np
import pytest

from benchmarks import ask_regret, ask_speed, real_energy
from fleet_market.pricing import PlanLeg, TaskPlan, price
from fleet_market.pricing.energy import NO_LOAD, TRACTION, TURNING


def test_a_husky_that_stands_takes_copper_losses_only_and_a_rolling_one_the_back_emf_too():
    window = np.tile([0.0, 2.0, 4.0, 0.0, 0.0], (65, 1))
    assert real_energy.measured_j(window) == pytest.approx(10 * 0.46 * (4 + 16))
    window[:, 3:] = -0.5
    back_emf = 0.044 * 78.71 * 0.5 / 0.165
    assert real_energy.measured_j(window) == pytest.approx(10 * (0.46 * 20 + back_emf * 6))


def test_straight_ahead_takes_rolling_and_no_turning_and_standing_takes_nothing():
    straight = real_energy.window_features(np.full(65, 0.5), np.full(65, 0.5))
    current = 0.03 * 70 * 9.80665 * 0.165 / 2 / (78.71 * 0.70 * 0.044) + 1.35
    power = 2 * current * (current * 0.46 + 0.044 * 78.71 * 0.5 / 0.165)
    assert straight[TURNING] == pytest.approx(0.0)
    assert straight[NO_LOAD] + straight[TRACTION] == pytest.approx(10 * power)
    assert real_energy.window_features(np.zeros(65), np.zeros(65)) == pytest.approx(np.zeros(4))


def test_the_features_never_see_a_current_and_do_not_mind_left_and_right_or_back_and_forth():
    rng = np.random.default_rng(0)
    left, right = rng.uniform(-0.6, 0.6, (2, 100))
    some = real_energy.window_features(left, right)
    assert real_energy.window_features(right, left) == pytest.approx(some)
    assert real_energy.window_features(-left, -right) == pytest.approx(some)
    assert (some >= 0).all()


def test_asks_as_arrays_are_the_robots_own_quotes():
    robots, plans = ask_speed.market(3, 4, 0)
    features = ask_speed.EnergyModel(robots).features(plans)
    asks = ask_speed.ask_uc(plans, features, ask_speed.Rates.of(robots))
    for lot in range(3):
        for i, robot in enumerate(robots):
            legs = tuple(
                PlanLeg(
                    plans.length_m[lot, i, k],
                    plans.turn_rad[lot, i, k],
                    int(plans.halts[lot, i, k]),
                    plans.payload_kg[lot, 0, k],
                )
                for k in range(2)
            )
            quote = price(TaskPlan(legs, 8.0), robot, ask_speed.TARIFF)
            assert asks[lot, i] == pytest.approx(quote.ask_uc, abs=3)


def test_regret_is_what_the_winners_cost_more():
    cost = np.array([[1.0, 2.0], [4.0, 3.0]])
    assert ask_regret._judge(cost, cost) == (0.0, 100.0)
    regret, right = ask_regret._judge(cost, np.array([[2.0, 1.0], [2.0, 1.0]]))
    assert (regret, right) == (pytest.approx(25.0), 50.0)
