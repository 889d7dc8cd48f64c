"""Intervals over past errors: their share, under any errors, and after a shock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.errors import InputError
from fleet_market.oracle.conformal import GAMMA, LEAST, LEVELS, WINDOW, Groups, Track, checked_confidence

errors = st.floats(-100, 100, allow_nan=False)


def covered(track, stream, confidence):
    held = []
    for error in stream:
        if len(track) >= LEAST:
            low, high = track.interval(confidence)
            held.append(low <= error <= high)
        track.add(float(error))
    return np.array(held)


@pytest.mark.parametrize("confidence", LEVELS)
@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy"])
def test_intervals_hold_their_share_whatever_the_distribution(confidence, draw):
    held = covered(Track(), getattr(np.random.default_rng(1), draw)(size=4000), confidence)
    assert held.mean() == pytest.approx(confidence, abs=0.02)


@pytest.mark.parametrize("kind", ["drift", "jumps", "growing"])
def test_the_share_is_kept_when_the_errors_change(kind):
    """Gibbs and Candes (2021), proposition 4.1, both tails: no assumption on the errors but that they are bounded."""
    rng, steps = np.random.default_rng(2), np.arange(4000)
    stream = {
        "drift": rng.normal(steps / 400, 1),
        "jumps": rng.normal(5.0 * (steps // 500 % 2), 1),
        "growing": rng.normal(0, 1 + steps / 400),
    }[kind]
    assert covered(Track(), stream, 0.8).mean() == pytest.approx(0.8, abs=0.02)


def test_after_a_jump_the_next_hundreds_are_held_again():
    rng = np.random.default_rng(3)
    held = covered(Track(), np.concatenate([rng.normal(0, 1, 600), rng.normal(8, 1, 600)]), 0.8)
    after = held[600 - LEAST :]
    assert after[:10].mean() < 0.5, "nobody foresees it"
    assert after[100:300].mean() > 0.7


@given(st.lists(errors, min_size=LEAST, max_size=WINDOW), errors)
def test_the_ends_are_ordered_and_wider_for_more_confidence(past, error):
    track = Track()
    for one in past:
        track.add(one)
    ends = [track.interval(level) for level in LEVELS]
    assert all(low <= high for low, high in ends)
    assert 0 <= track.rank(error) <= 1
    assert track.middle() in past


@settings(deadline=None)
@given(st.lists(errors, min_size=2, max_size=40))
def test_the_rank_of_an_end_is_that_of_a_conformal_quantile(past):
    track = Track()
    for one in past[:LEAST]:  # too few for the level to have been moved
        track.add(one)
    ordered = sorted(past[:LEAST])
    n = len(ordered)
    rank = int(0.1 * (n + 1) + 1e-9)
    low, high = track.interval(0.8)
    if rank:
        assert (low, high) == (ordered[rank - 1], ordered[-rank])
    else:
        assert low <= ordered[0]
        assert high >= ordered[-1]


def test_the_window_forgets():
    track = Track()
    for one in [100.0] * WINDOW + [0.0] * WINDOW:
        track.add(one)
    assert len(track) == WINDOW
    assert track.interval(0.5) == (0.0, 0.0)
    assert track.middle() == 0.0


def test_a_quantile_that_was_never_seen_is_none():
    track = Track()
    for one in range(9):
        track.add(float(one))
    assert track.quantile(0.9) == 8.0
    assert track.quantile(0.95) is None


def test_a_group_of_few_gives_way_to_a_coarser_one():
    groups = Groups()
    for one in range(LEAST):
        groups.add(("coarse",), float(one))
    groups.add(("fine", "coarse"), 1.0)
    assert len(groups.best(("fine", "coarse"))) == LEAST + 1
    assert groups.best(("fine",)) is None


def test_the_level_moves_by_what_was_missed():
    track = Track()
    for one in np.linspace(-1, 1, 2 * LEAST):
        track.add(float(one))
    before = list(track._shift[0.8])
    track.add(10.0)
    assert track._shift[0.8][1] == pytest.approx(before[1] + GAMMA * (0.1 - 1))
    assert track._shift[0.8][0] == pytest.approx(before[0] + GAMMA * 0.1)


@pytest.mark.parametrize("confidence", [0.0, 0.49, 0.96, 1.0, float("nan")])
def test_a_confidence_that_cannot_be_given_is_refused(confidence):
    with pytest.raises(InputError, match="confidence"):
        checked_confidence(confidence)
