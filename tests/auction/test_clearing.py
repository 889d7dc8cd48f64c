import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.auction import LotOffer, SealedAsk, clear
from fleet_market.auction.assignment import NO_ASK, best_assignment
from fleet_market.ids import OrderId, OwnerId, RobotId
from fleet_market.oracle import fair_bands


@st.composite
def markets(draw, *, owners=3):
    robots, lots = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    offers = [LotOffer(OrderId(f"o{j}"), draw(st.integers(0, 60))) for j in range(lots)]
    asks = []
    for i in range(robots):
        owner = OwnerId(f"w{draw(st.integers(0, owners - 1))}")
        asked = [j for j in range(lots) if draw(st.booleans())]
        asks += [SealedAsk(RobotId(f"r{i}"), owner, OrderId(f"o{j}"), draw(st.integers(0, 60))) for j in asked]
    return offers, asks


def brute_force(offers, asks):
    """The best welfare by trying every way to give lots to robots."""
    budget = {o.order: o.budget_uc for o in offers}
    gains = {(a.robot, a.order): budget[a.order] - a.ask_uc for a in asks if a.ask_uc <= budget[a.order]}
    robots = sorted({a.robot for a in asks})
    best = 0
    for choice in itertools.product([None, *budget], repeat=len(robots)):
        taken = [c for c in choice if c is not None]
        if len(set(taken)) == len(taken) and all(c is None or (r, c) in gains for r, c in zip(robots, choice, strict=True)):
            best = max(best, sum(gains[r, c] for r, c in zip(robots, choice, strict=True) if c is not None))
    return best


@settings(max_examples=200, deadline=None)
@given(markets())
def test_welfare_is_the_best_and_nobody_loses(market):
    offers, asks = market
    budget = {o.order: o.budget_uc for o in offers}
    asked = {(a.robot, a.order): a.ask_uc for a in asks}
    cleared = clear(offers, asks, seed="s")
    assert cleared.welfare_uc == brute_force(offers, asks)
    assert cleared.welfare_uc == sum(budget[a.order] - a.ask_uc for a in cleared.awards)
    assert len({a.robot for a in cleared.awards}) == len({a.order for a in cleared.awards}) == len(cleared.awards)
    for award in cleared.awards:
        assert award.ask_uc == asked[award.robot, award.order]
        assert award.ask_uc <= award.price_uc <= budget[award.order]
    for owner, without in cleared.welfare_without_uc.items():
        mine = [a for a in cleared.awards if a.owner == owner]
        assert sum(a.price_uc - a.ask_uc for a in mine) == cleared.welfare_uc - without
        assert without == brute_force(offers, [a for a in asks if a.owner != owner])


@settings(max_examples=300, deadline=None)
@given(markets(), st.data())
def test_no_owner_gains_by_lying_about_the_costs_of_its_robots(market, data):
    offers, costs = market
    owners = sorted({a.owner for a in costs})
    if not owners:
        return
    liar = data.draw(st.sampled_from(owners))
    lies = []
    for ask in costs:
        if ask.owner != liar:
            lies.append(ask)
        elif data.draw(st.booleans()):  # else withheld
            lies.append(SealedAsk(ask.robot, ask.owner, ask.order, data.draw(st.integers(0, 60))))
    true_cost = {(a.robot, a.order): a.ask_uc for a in costs}

    def profit(asks):
        return sum(
            a.price_uc - true_cost[a.robot, a.order] for a in clear(offers, asks, seed="s").awards if a.owner == liar
        )

    assert profit(lies) <= profit(costs)


@given(markets(), st.text(max_size=5))
def test_the_same_batch_clears_the_same_whatever_the_order_of_arrival(market, seed):
    offers, asks = market
    forward, backward = clear(offers, asks, seed=seed), clear(offers, list(reversed(asks)), seed=seed)
    assert forward == backward


def test_ties_are_drawn_by_the_seed_and_every_robot_wins_its_share():
    offers = [LotOffer(OrderId("o"), 10)]
    asks = [SealedAsk(RobotId(f"r{i}"), OwnerId(f"w{i}"), OrderId("o"), 5) for i in range(4)]
    wins = [clear(offers, asks, seed=str(s)).awards[0].robot for s in range(400)]
    assert all(70 <= wins.count(f"r{i}") <= 130 for i in range(4)), [wins.count(f"r{i}") for i in range(4)]


def test_a_single_lot_is_paid_the_second_best_ask_of_another_owner_or_the_budget():
    offers = [LotOffer(OrderId("o"), 100)]

    def price(*asks):
        rows = [SealedAsk(RobotId(f"r{i}"), OwnerId(w), OrderId("o"), a) for i, (w, a) in enumerate(asks)]
        return clear(offers, rows, seed="s").awards[0].price_uc

    assert price(("w1", 40), ("w2", 60)) == 60
    assert price(("w1", 40), ("w1", 60)) == 100, "an owner does not compete with itself"
    assert price(("w1", 40), ("w1", 50), ("w2", 70)) == 70


def test_a_trade_that_gains_nothing_is_made_all_the_same():
    offers = [LotOffer(OrderId("o"), 7)]
    assert clear(offers, [SealedAsk(RobotId("r"), OwnerId("w"), OrderId("o"), 7)], seed="s").awards[0].price_uc == 7


def test_sums_too_large_for_exact_arithmetic_are_refused():
    import numpy as np

    with pytest.raises(OverflowError):
        best_assignment(np.array([[2**52, NO_ASK], [NO_ASK, 2**52]]))


@pytest.mark.parametrize(
    "asks", [[("r", "nowhere", 1)], [("r", "o", 1), ("r", "o", 2)]], ids=["unknown lot", "asked twice"]
)
def test_malformed_batches_are_refused(asks):
    rows = [SealedAsk(RobotId(r), OwnerId("w"), OrderId(o), a) for r, o, a in asks]
    with pytest.raises(ValueError, match="must"):
        clear([LotOffer(OrderId("o"), 9)], rows, seed="s")


@settings(max_examples=150, deadline=None)
@given(markets(owners=4))
def test_bands_are_competitive_and_hold_every_price_of_single_robot_owners(market):
    offers, asks = market
    single = [SealedAsk(a.robot, OwnerId(a.robot), a.order, a.ask_uc) for a in asks]
    cleared = clear(offers, single, seed="s")
    bands = {b.order: b for b in fair_bands(offers, single)}
    assert len(bands) == len(cleared.awards)
    for band in bands.values():
        assert band.low_uc <= band.high_uc
        assert band.optimum_uc == cleared.welfare_uc
    by_budget = {o.order: o.budget_uc for o in offers}
    for award in cleared.awards:
        if award.order in bands and len(cleared.awards) == len(offers):
            assert bands[award.order].low_uc <= award.price_uc <= by_budget[award.order]
