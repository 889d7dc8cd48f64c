"""Scores, the choice of an oracle, and whether to buy at all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.errors import InputError
from fleet_market.oracle.demand import TRIALS, Worth, budget_uc
from fleet_market.oracle.scoring import (
    Band,
    Standing,
    choose,
    interval_score,
    judged,
    reference_price_uc,
    shares,
)

PRICES = st.integers(0, 10**9)
BANDS = st.tuples(PRICES, PRICES).map(lambda ends: Band(min(ends), max(ends), 0.8))


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
        judged({}, {"a": Band(1, 2, 0.8)}, 1, 0)
    with pytest.raises(InputError):
        shares({"a": 1}, {}, 0)


def test_the_reference_is_the_middle_that_bands_speak_of_and_does_not_follow_the_buyers_budget():
    assert reference_price_uc([("acme", 10), ("bolt", 14), ("cart", 20)], "acme") == 12
    assert reference_price_uc([("acme", 10), ("bolt", 8)], "acme") == 10, "not below what the winner has asked"
    assert reference_price_uc([("acme", 10), ("acme", 12)], "acme") == 10, "nobody else has asked"
    assert reference_price_uc([("bolt", 14)], "acme") == 14
    assert reference_price_uc([], "acme") is None


@given(st.lists(st.tuples(BANDS, PRICES), min_size=1, max_size=30))
def test_a_standing_is_a_mean_of_its_scores(quotes):
    standing, scores = Standing(), []
    for band, price in quotes:
        ((score, standing),) = judged({"a": standing}, {"a": band}, price, 1000).values()
        assert score == interval_score(*band, price) / 1000
        scores.append(score)
    assert min(scores) - 1e-6 * max(scores) <= standing.mean <= max(scores) * (1 + 1e-9)
    assert 0 <= standing.coverage <= 1
    assert standing.scored == len(quotes)
    assert standing.excess == 0, "there was nobody to compare it with"


@given(BANDS, BANDS, BANDS, BANDS, PRICES)
def test_what_lies_between_two_oracles_is_their_scores_whatever_the_others_say(one, two, other, another, price):
    apart = []
    for third in (other, another):
        found = judged({}, {"one": one, "two": two, "third": third}, price, 10**6)
        apart.append(found["one"][1].excess - found["two"][1].excess)
    assert apart[0] == pytest.approx(apart[1], rel=1e-6, abs=1e-6)
    wanted = (interval_score(*one, price) - interval_score(*two, price)) / 10**6
    assert apart[0] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@given(st.permutations(["a", "b", "c"]), st.lists(st.tuples(BANDS, BANDS, BANDS, PRICES), min_size=1, max_size=5))
def test_names_do_not_count_in_a_comparison(names, tasks):
    standings, renamed = {}, {}
    for one, two, three, price in tasks:
        for known, called in ((standings, "abc"), (renamed, names)):
            bands = dict(zip(called, (one, two, three), strict=True))
            known |= {name: found for name, (_, found) in judged(known, bands, price, 1000).items()}
    assert [standings[n] for n in "abc"] == [renamed[n] for n in names]


def test_on_hard_tasks_nobody_looks_bad_because_of_the_task():
    easy, hard = Band(9, 11, 0.8), Band(9, 11, 0.8)
    found = judged({}, {"a": easy, "b": hard}, 100, 10)
    assert found["a"][1].excess == found["b"][1].excess == 0
    assert found["a"][1].mean == found["b"][1].mean > 50


def test_a_shift_shows_in_the_same_tasks_long_before_it_shows_in_the_scores():
    rng, known = np.random.default_rng(5), {}
    for price in rng.lognormal(15.0, 0.3, 40).astype(int):
        middle = price * np.exp(0.15 * rng.standard_normal())
        honest, shifted = (Band(int(f * 0.83 * middle), int(f * 1.21 * middle), 0.8) for f in (1.0, 1.3))
        bands = {"a": honest, "b": honest, "liar": shifted}
        known |= {name: found for name, (_, found) in judged(known, bands, int(price), 5_000_000).items()}
    wanted = shares(dict.fromkeys(known, 100), known, 5_000_000)
    assert wanted["liar"] < 0.02
    assert wanted["a"] == wanted["b"]


@pytest.mark.parametrize(("factor", "wider"), [(0.7, 1.0), (0.9, 1.0), (1.1, 1.0), (1.3, 1.0), (1.0, 1.2), (1.0, 0.8)])
def test_an_oracle_expects_the_largest_share_if_it_names_what_it_believes(factor, wider):
    prices = np.random.default_rng(8).lognormal(15.0, 0.2, 2000).astype(int)
    low, high = np.quantile(prices, [0.1, 0.9])
    rival = Band(int(0.95 * low), int(0.97 * high), 0.8)

    def expected(mine):
        found = (judged({}, {"me": mine, "rival": rival}, int(price), 6_000_000) for price in prices)
        return np.mean([shares({"me": 1, "rival": 1}, {n: s for n, (_, s) in f.items()}, 10**6)["me"] for f in found])

    other = Band(int(factor * low / wider), int(factor * high * wider), 0.8)
    assert expected(other) < expected(Band(int(low), int(high), 0.8))


def test_the_better_and_the_cheaper_oracle_is_asked_more():
    good, bad = Standing(excess=-3.0), Standing(excess=3.0)
    even = shares({"a": 5, "b": 5}, {"a": good, "b": good}, 1000)
    assert even == {"a": 0.5, "b": 0.5}
    assert shares({"a": 5, "b": 5}, {"a": bad, "b": good}, 1000)["b"] == pytest.approx(1 / (1 + math.exp(-0.4 * 6)))
    cheap = shares({"a": 50, "b": 40}, {"a": good, "b": good}, 1000)
    assert cheap["b"] == pytest.approx(1 / (1 + math.exp(-0.4 * 20 * 0.01))), "a fee of 1 % more, for twenty quotes"
    new = shares({"a": 5, "b": 5, "new": 5}, {"a": bad, "b": good}, 1000)
    assert new["a"] < new["new"] < new["b"], "of the unknown the usual is expected"
    assert shares({}, {}, 1000) == {}


def test_oracles_are_drawn_by_their_shares_and_now_and_then_any_of_them():
    known, fees = {"a": Standing(excess=2.0), "b": Standing(excess=-2.0)}, {"a": 5, "b": 5}
    draws = [choose(fees, known, 1000, (i + 0.5) / 1000, explored=0.0) for i in range(1000)]
    assert draws.count("a") == pytest.approx(1000 * shares(fees, known, 1000)["a"], abs=1)
    assert choose(fees, {"a": Standing(excess=1e6)}, 1000, 0.005) == "a"
    assert choose(fees, {"a": Standing(excess=1e6)}, 1000, 0.5) == "b"
    assert choose({}, {}, 1000, 0.5) is None


@given(
    st.floats(0, 1, exclude_max=True),
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(-1e9, 1e9)), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_somebody_is_always_chosen_and_shares_sum_to_one(draw, oracles, explored):
    fees = {f"o{i}": fee for i, (fee, _) in enumerate(oracles)}
    known = {f"o{i}": Standing(excess=excess) for i, (_, excess) in enumerate(oracles)}
    assert choose(fees, known, 10, draw, explored) in fees
    assert sum(shares(fees, known, 10).values()) == pytest.approx(1.0)


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
