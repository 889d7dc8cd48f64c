"""Bands that widen with the market: what spread is expected, and that errors related to it are held as promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.oracle.conformal import LEAST as LEAST_ERRORS
from fleet_market.oracle.conformal import Track
from fleet_market.oracle.spread import LEAST, MOST, Spread, features

prices = st.floats(-1e6, 1e12)
markets = st.tuples(st.integers(0, 2000), prices, prices)


def stream(seed, robots, gaps):
    """Errors as wide as the gap of competitive prices, and wider with fewer robots."""
    rng = np.random.default_rng(seed)
    sizes = 0.1 / np.sqrt(1 + robots) + 0.3 * gaps
    return sizes * rng.standard_t(4, len(sizes))


def covered(robots, gaps, errors):
    """Learn error by error, as the oracle does; return which of them their own interval held, and how wide these were."""
    spread, track, held, widths = Spread(), Track(), [], []
    for count, gap, error in zip(robots.tolist(), gaps.tolist(), errors.tolist(), strict=True):
        of = features(count, 1e6, 1e6 * math.exp(gap))
        size = spread.expected(of)
        if len(track) >= LEAST_ERRORS:
            low, high = (size * end for end in track.interval(0.8))
            held.append(low <= error <= high)
            widths.append(high - low)
        spread.learn(of[None], np.array([error]))
        track.add(error / size)
    return np.array(held), np.array(widths)


@given(markets, st.lists(st.tuples(markets, st.floats(-50, 50)), max_size=30))
def test_the_spread_is_a_number_within_its_bounds_whatever_was_learned(market, learned):
    spread = Spread()
    for past, error in learned:
        spread.learn(features(*past)[None], np.array([error]))
    assert LEAST <= spread.expected(features(*market)) <= MOST
    assert np.isfinite(features(*market)).all()


@given(markets, st.integers(1, 100), st.floats(1.01, 10))
def test_at_first_fewer_robots_and_a_wider_gap_are_less_sure(market, robots, factor):
    count, low_uc, high_uc = market
    low_uc, high_uc = max(1.0, low_uc), max(1.0, low_uc, high_uc)
    some = Spread().expected(features(count + robots, low_uc, high_uc))
    assert some <= Spread().expected(features(count, low_uc, high_uc))
    assert some <= Spread().expected(features(count + robots, low_uc, factor * high_uc))


def test_the_sizes_of_errors_are_learned():
    rng = np.random.default_rng(1)
    robots, gaps = rng.integers(0, 30, 4000), rng.uniform(0, 0.5, 4000)
    spread = Spread()
    of = np.stack([features(n, 1e6, 1e6 * math.exp(gap)) for n, gap in zip(robots.tolist(), gaps.tolist(), strict=True)])
    spread.learn(of, stream(1, robots, gaps))
    mean_size = 1.0  # of Student's t with 4 degrees of freedom
    for n, gap in ((0, 0.4), (5, 0.2), (25, 0.1)):
        expected = mean_size * (0.1 / math.sqrt(1 + n) + 0.3 * gap)
        assert spread.expected(features(n, 1e6, 1e6 * math.exp(gap))) == pytest.approx(expected, rel=0.25)


def test_a_copy_learns_for_itself():
    spread, of = Spread(), features(3, 1.0, 2.0)
    before, other = spread.expected(of), spread.copy()
    other.learn(of[None], np.array([1.0]))
    assert spread.expected(of) == before < other.expected(of)


def test_errors_that_are_exchangeable_are_held_as_promised():
    rng = np.random.default_rng(2)
    robots, gaps = rng.integers(0, 30, 4000), rng.uniform(0, 0.5, 4000)
    held, _ = covered(robots, gaps, stream(2, robots, gaps))
    assert held.mean() == pytest.approx(0.8, abs=0.02)


def test_a_market_that_tightens_is_held_from_its_first_task_on():
    """Robots are taken and prices spread at once; nothing like it was seen before."""
    first = []
    for seed in range(20):
        robots, gaps = np.repeat([20, 0], 400), np.repeat([0.05, 0.8], 400)
        held, widths = covered(robots, gaps, stream(seed, robots, gaps))
        calm = 400 - LEAST_ERRORS
        first.append(held[calm : calm + 50].mean())
        assert widths[calm] > 3 * widths[calm - 1]
        assert held[calm:].mean() == pytest.approx(0.8, abs=0.06)
    assert 0.75 < np.mean(first) < 0.95


def test_what_nothing_foretold_is_made_up_for_by_the_level():
    """Errors grow tenfold at the same features: the long-run share stays (Gibbs and Candes 2021, proposition 4.1)."""
    rng = np.random.default_rng(3)
    errors = rng.normal(0, np.repeat([0.02, 0.2], 2000))
    held, _ = covered(np.full(4000, 10), np.full(4000, 0.1), errors)
    assert held.mean() == pytest.approx(0.8, abs=0.02)
