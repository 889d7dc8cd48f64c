"""Scores, the choice of an oracle, and whether to buy at all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.errors import InputError
from fleet_market.oracle.demand import TRIALS, Worth, budget_uc
from fleet_market.oracle.scoring import Standing, choose, interval_score, reference_price_uc, scored

PRICES = st.integers(0, 10**9)


def test_inside_a_band_costs_its_width_and_outside_ten_times_the_distance_at_80_percent():
    assert interval_score(10, 14, 0.8, 12) == 4
    assert interval_score(10, 14, 0.8, 8) == pytest.approx(4 + 10 * 2)
    assert interval_score(10, 14, 0.8, 15) == pytest.approx(4 + 10 * 1)


@pytest.mark.parametrize("shift", [-0.3, -0.1, 0.1, 0.3])
def test_the_score_is_proper_the_true_quantiles_score_best(shift):
    prices = np.random.default_rng(7).lognormal(2.0, 0.3, 20_000)
    low, high = np.quantile(prices, [0.1, 0.9])

    def mean(a, b):
        return np.mean([interval_score(a, b, 0.8, x) for x in prices])

    honest = mean(low, high)
    assert mean(low * (1 + shift), high * (1 + shift)) > honest
    assert mean(low * (1 - abs(shift)), high * (1 + abs(shift))) > honest, "wide to be safe"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_numbers_that_are_none_are_refused(bad, place):
    numbers = [1.0, 2.0, 0.8, 1.5]
    numbers[place] = bad
    with pytest.raises(InputError):
        interval_score(*numbers)


def test_a_band_the_wrong_way_round_and_a_scale_of_nothing_are_refused():
    with pytest.raises(InputError):
        interval_score(2, 1, 0.8, 1)
    with pytest.raises(InputError):
        scored(Standing(), 1, 2, 0.8, 1, 0)


def test_the_reference_does_not_follow_the_buyers_budget():
    assert reference_price_uc([("acme", 10), ("bolt", 14), ("cart", 20)], "acme") == 14
    assert reference_price_uc([("acme", 10), ("acme", 12)], "acme") == 10, "nobody else has asked"
    assert reference_price_uc([], "acme") is None


@given(st.lists(st.tuples(PRICES, PRICES, PRICES), min_size=1, max_size=30))
def test_a_standing_is_a_mean_of_its_scores(quotes):
    standing, scores = Standing(), []
    for a, b, x in quotes:
        standing = scored(standing, min(a, b), max(a, b), 0.8, x, 1000)
        scores.append(interval_score(min(a, b), max(a, b), 0.8, x) / 1000)
    assert min(scores) - 1e-6 * max(scores) <= standing.mean <= max(scores) * (1 + 1e-9)
    assert 0 <= standing.coverage <= 1
    assert standing.scored == len(quotes)


def test_the_better_and_the_cheaper_oracle_is_chosen():
    good, bad = Standing().after(0.1, hit=True), Standing().after(0.9, hit=False)
    assert choose({"a": 5, "b": 5}, {"a": bad, "b": good}, 1000, 0.5) == "b"
    assert choose({"a": 5, "b": 4}, {"a": good, "b": good}, 1000, 0.5) == "b"
    assert choose({"a": 5, "b": 5}, {"a": bad, "b": good}, 1000, 0.005) == "a", "now and then any of them"
    assert choose({"a": 5, "new": 4}, {"a": bad}, 1000, 0.5) == "new", "of the unknown the usual is expected"
    assert choose({}, {}, 1000, 0.5) is None


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 5), st.floats(0, 1))
def test_somebody_is_always_chosen(draw, number, explored):
    fees = {f"o{i}": 1 for i in range(number)}
    assert choose(fees, {}, 10, draw, explored) in fees


@given(PRICES, PRICES, PRICES, st.booleans())
def test_a_budget_never_exceeds_what_the_task_is_worth(value, a, b, thin):
    low, high = min(a, b), max(a, b)
    budget = budget_uc(value, low, high, thin=thin)
    if budget is None:
        assert low > value
    else:
        assert budget <= value
        assert thin or low <= budget <= high
    assert budget_uc(value, low, high, thin=True) == value


def learned(worth, gains):
    for gain in gains:
        worth = worth.after(gain)
    return worth


def test_first_quotes_are_bought_on_trial_up_to_a_fee():
    for number in range(TRIALS):
        worth = learned(Worth(most_uc=100), [0.0] * number)
        assert worth.buys(100)
        assert not worth.buys(101)


def test_a_buyer_goes_on_while_the_fee_may_be_worth_it_and_stops_when_it_is_not():
    gains = np.random.default_rng(3).normal(40.0, 100.0, 400)
    worth = learned(Worth(most_uc=50), gains)
    assert worth.buys(30)
    assert not worth.buys(80)
    assert 5.0 < worth.error_uc < 15.0, "100 / sqrt(100), since older gains count less"


def test_quotes_that_never_change_anything_are_bought_less_and_less():
    worth = learned(Worth(most_uc=100), [0.0] * TRIALS)
    assert worth.buys(20)
    worth = learned(worth, [0.0] * 300)
    assert not worth.buys(20)
    assert worth.buys(0)


def test_losses_end_the_buying():
    assert not learned(Worth(most_uc=100), [-100.0] * 2 * TRIALS).buys(1)


def test_a_gain_that_is_no_number_is_refused():
    with pytest.raises(InputError):
        Worth(1).after(math.nan)
