import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.errors import InputError
from fleet_market.pricing.margin import curse_factor, margin_uc

SD = 1000.0
AUCTIONS = 60_000


def profits(bidders, spread, margins, *, pay_second, sds=SD):
    """Return what winners earn per auction; costs differ by `spread`, robots bid cost, error and margin."""
    rng = np.random.default_rng((bidders, round(spread)))
    cost = 50_000 + spread * rng.standard_normal((AUCTIONS, bidders))
    asks = cost + sds * rng.standard_normal((AUCTIONS, bidders)) + margins
    order = np.argsort(asks, axis=1)
    rows, winner = np.arange(AUCTIONS), order[:, 0]
    paid = asks[rows, order[:, 1] if pay_second else winner]
    return paid - cost[rows, winner]


@pytest.mark.parametrize("bidders", [2, 3, 5, 20])
@pytest.mark.parametrize("spread", [0.0, 300.0, 1000.0, 5000.0])
@pytest.mark.parametrize("pay_second", [False, True])
def test_the_winner_does_not_lose_on_average_whatever_it_is_paid(bidders, spread, pay_second):
    earned = profits(bidders, spread, margin_uc(SD, bidders), pay_second=pay_second)
    assert earned.mean() > -2 * earned.std() / math.sqrt(AUCTIONS)


@pytest.mark.parametrize(("bidders", "pay_second"), [(3, False), (5, False), (20, False), (5, True), (20, True)])
def test_without_the_margin_the_winner_is_cursed(bidders, pay_second):
    earned = profits(bidders, 300.0, 0.0, pay_second=pay_second)
    assert earned.mean() < -0.1 * SD


def test_robots_that_are_not_equally_unsure_do_not_lose_by_the_clarke_price_and_a_little_by_their_own_asks():
    sds = np.array([300.0, 1000.0, 1000.0, 2000.0])
    margins = np.array([margin_uc(sd, 4) for sd in sds])
    for spread in (0.0, 500.0, 2000.0):
        assert profits(4, spread, margins, pay_second=True, sds=sds).mean() > 0
        assert profits(4, spread, margins, pay_second=False, sds=sds).mean() > -0.15 * sds.mean()


def test_the_factor_is_the_mean_of_the_largest_of_n_draws():
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10, 30, 100):
        exact = rng.standard_normal((40_000, n)).max(1).mean()
        assert exact - 0.01 < curse_factor(n) < 1.07 * exact


@given(st.floats(0, 1e12), st.floats(1.0, 1e9), st.integers(1, 10_000))
def test_the_margin_rises_with_the_standard_deviation_and_with_the_bidders(sd, more, bidders):
    assert 0 <= margin_uc(sd, bidders) <= margin_uc(sd + more, bidders)
    assert margin_uc(sd + 10 * more, bidders) > margin_uc(sd, bidders)
    assert margin_uc(sd, bidders) >= margin_uc(sd, max(1, bidders - 1))


def test_a_sure_robot_needs_no_margin_and_nonsense_is_refused():
    assert margin_uc(0.0) == 0
    for sd in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="sd_uc"):
            margin_uc(sd)
    for bidders in (0, -3, 10_001):
        with pytest.raises(InputError, match="bidders"):
            margin_uc(1.0, bidders)
