"""Full-information prices against the linear program, and one more task against the market solved anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from fleet_market.auction import LotOffer, SealedAsk
from fleet_market.ids import OrderId, OwnerId, RobotId
from fleet_market.oracle import fair_bands
from fleet_market.oracle.shadow import RESERVE_UC, LiveMarket

PENALTY = 10**7


@st.composite
def markets(draw, least_robots=1):
    robots, lots = draw(st.integers(least_robots, 6)), draw(st.integers(1, 6))
    budgets = draw(st.lists(st.integers(0, 1000), min_size=lots, max_size=lots))
    cost = st.one_of(st.none(), st.integers(0, 1000))
    return budgets, draw(st.lists(st.lists(cost, min_size=lots, max_size=lots), min_size=robots, max_size=robots))


def batch(budgets, costs):
    offers = [LotOffer(OrderId(f"o{j}"), b) for j, b in enumerate(budgets)]
    asks = [
        SealedAsk(RobotId(f"r{i}"), OwnerId(f"w{i}"), OrderId(f"o{j}"), cost)
        for i, row in enumerate(costs)
        for j, cost in enumerate(row)
        if cost is not None
    ]
    return offers, asks


def dual_interval(budgets, costs, lot):
    """The lowest and highest price of a lot over all optimal duals of the batch, by HiGHS."""
    cells = [
        (i, j, budgets[j] - cost)
        for i, row in enumerate(costs)
        for j, cost in enumerate(row)
        if cost is not None and cost <= budgets[j]
    ]
    robots, lots = len(costs), len(budgets)
    cover = np.zeros((len(cells), robots + lots))
    for k, (i, j, _) in enumerate(cells):
        cover[k, i] = cover[k, robots + j] = 1
    gains = np.array([gain for _, _, gain in cells], dtype=float)
    ones = np.ones(robots + lots)
    best = linprog(ones, A_ub=-cover, b_ub=-gains, bounds=(0, None), method="highs").fun
    ends = []
    for sign in (1, -1):
        weigh = np.zeros(robots + lots)
        weigh[robots + lot] = sign
        found = linprog(weigh, A_ub=-cover, b_ub=-gains, A_eq=ones[None], b_eq=[best], bounds=(0, None), method="highs")
        ends.append(found.x[robots + lot])
    return budgets[lot] - ends[1], budgets[lot] - ends[0]


@settings(max_examples=60, deadline=None)
@given(markets())
def test_the_band_of_a_lot_is_the_interval_of_the_duals_of_the_linear_program(market):
    for band in fair_bands(*batch(*market)):
        low, high = dual_interval(*market, int(band.order[1:]))
        assert (band.low_uc, band.high_uc) == pytest.approx((low, high), abs=1e-4)
        assert band.low_uc <= band.fair_uc <= band.high_uc


@settings(max_examples=200, deadline=None)
@given(markets(), st.data())
def test_one_more_task_has_the_prices_that_the_market_solved_anew_gives_it(market, data):
    budgets, costs = market
    columns = [[(i, row[j]) for i, row in enumerate(costs) if row[j] is not None] for j in range(len(budgets))]
    mine = data.draw(st.lists(st.one_of(st.none(), st.integers(0, 1000)), min_size=len(costs), max_size=len(costs)))
    edges = [(i, cost) for i, cost in enumerate(mine) if cost is not None]
    live = LiveMarket(len(costs), columns, budgets)
    shadow = live.shadow(edges)
    whole = [*budgets, PENALTY], [[*row, cost] for row, cost in zip(costs, mine, strict=True)]
    bands = {band.order: band for band in fair_bands(*batch(*whole))}
    anew = bands.get(OrderId(f"o{len(budgets)}"))
    assert (shadow is None) == (anew is None)
    if shadow is not None:
        near = len(budgets) + 2  # every trade weighs one micro-credit more
        assert abs(shadow.low_uc - anew.low_uc) <= near
        if shadow.high_uc is None:
            assert anew.high_uc > PENALTY // 2
        else:
            assert abs(shadow.high_uc - anew.high_uc) <= near
    assert live.shadow(edges) == shadow, "asking changes nothing"


@settings(max_examples=100, deadline=None)
@given(markets(), st.data())
def test_a_task_on_sale_does_not_compete_with_itself(market, data):
    budgets, costs = market
    columns = [[(i, row[j]) for i, row in enumerate(costs) if row[j] is not None] for j in range(len(budgets))]
    lot = data.draw(st.integers(0, len(budgets) - 1))
    others = [column if j != lot else [] for j, column in enumerate(columns)]
    with_it = LiveMarket(len(costs), columns, budgets).shadow(columns[lot], instead_of=lot)
    without = LiveMarket(len(costs), others, budgets).shadow(columns[lot])
    assert (with_it is None) == (without is None)
    if with_it is not None and without is not None:
        assert (with_it.low_uc, with_it.high_uc) == (without.low_uc, without.high_uc)


def test_what_the_task_itself_offers_is_above_all_else():
    assert RESERVE_UC > 1000 * 10**15 // 2, "no chain of a thousand budgets reaches it"
