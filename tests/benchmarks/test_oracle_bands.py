"""What the oracle's benchmark computes from its stories."""

import numpy as np
import pytest

from benchmarks._oracle_bands import Told, interval95, naive_width, tell


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
