"""What the oracle's benchmark computes from its stories."""

import numpy as np
import pytest

from benchmarks._oracle_bands import Told, hindsight_width, interval95, naive_width, recovered, tell


def test_a_band_holds_a_price_between_its_ends():
    assert Told(1, 3, 3, 9).held
    assert not Told(1, 3, 4, 2).held


def test_the_naive_band_is_as_wide_as_it_must_be():
    told = [Told(0, 0, price, price) for price in range(101)]
    assert naive_width(told, 0.8) == pytest.approx(80, abs=2)
    assert naive_width(told, 1.0) == 100


def test_the_interval_of_a_mean_is_students():
    assert interval95([1.0]) == "one seed, no interval"
    assert interval95([0.0, 2.0]) == "95 % interval of the mean -11.7 to 13.7"  # 1 +- 12.706 sqrt(2) / sqrt(2)


def test_a_story_is_that_of_its_seed():
    one, other = tell(1, 0.5, 30), tell(1, 0.5, 30)
    assert one == other != tell(2, 0.5, 30)
    assert np.mean([t.low_uc <= t.high_uc for t in one]) == 1


def test_bands_hold_again_from_the_first_hundred_that_is_as_promised():
    held = np.zeros((5, 400), dtype=bool)
    held[:4, 150:] = True  # 80 % of the seeds
    first, later = recovered(held)
    assert first == 150 - 100 + 94  # 94 of a hundred at 80 % are 75.2 %
    assert len(later) == 400 - 100 - first + 1
    assert later[-1] == 0.8


@pytest.mark.parametrize("share", [0, 5])
def test_bands_that_never_hold_as_promised_are_not_said_to(share):
    held = np.zeros((5, 300), dtype=bool)
    held[:share] = True
    assert recovered(held) == (None, [])


def test_in_hindsight_a_band_is_as_wide_as_what_it_does_not_know():
    rng = np.random.default_rng(5)
    known, hidden = rng.normal(15, 0.5, 4000), rng.uniform(-0.5, 0.5, 4000)
    told = [Told(0, 0, round(np.exp(k + h)), 0, known=(k,)) for k, h in zip(known, hidden, strict=True)]
    price = np.mean(np.exp(known))
    assert hindsight_width(told, [()] * 4000) == pytest.approx(price * (np.exp(0.4) - np.exp(-0.4)), rel=0.05)
    assert hindsight_width(told, [(h,) for h in hidden]) < 1e-4 * price
