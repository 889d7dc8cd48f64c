"""The sparse matching against the dense solver of scipy, at sizes that brute force cannot reach."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.auction import LotOffer, Mechanism, SealedAsk, clear
from fleet_market.auction.assignment import NO_ASK, best_assignment
from fleet_market.auction.matching import FREE, Matching
from fleet_market.ids import OrderId, OwnerId, RobotId


def draw_market(seed):
    """A market of up to 40 robots of few to many owners and up to 60 lots; small numbers make ties likely."""
    rng = random.Random(seed)
    robots, lots, owners = rng.randint(1, 40), rng.randint(1, 60), rng.choice([2, 8, 40])
    top = rng.choice([3, 30, 10**12])
    offers = [LotOffer(OrderId(f"o{j}"), rng.randint(0, top)) for j in range(lots)]
    asks = []
    for i in range(robots):
        owner = OwnerId(f"w{rng.randrange(owners)}")
        asks += [
            SealedAsk(RobotId(f"r{i}"), owner, OrderId(f"o{j}"), rng.randint(0, top), rng.choice([0, 0, top // 9]))
            for j in rng.sample(range(lots), rng.randint(0, min(lots, 12)))
        ]
    return offers, asks


def dense(offers, asks):
    """The gains as a full matrix, and the robots of its rows."""
    robots = sorted({a.robot for a in asks})
    column = {o.order: (j, o.budget_uc) for j, o in enumerate(offers)}
    gain = np.full((len(robots), len(offers)), NO_ASK, dtype=np.int64)
    for a in asks:
        j, budget = column[a.order]
        gain[robots.index(a.robot), j] = max(budget - a.ask_uc - a.handicap_uc, NO_ASK)
    return gain, robots


def small(offers, asks):
    return all(o.budget_uc < 10**10 for o in offers)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9))
def test_sparse_and_dense_agree_on_welfare_and_on_every_owners_payment(seed):
    offers, asks = draw_market(seed)
    cleared = clear(offers, asks, seed="s")
    if not small(offers, asks):
        return
    gain, robots = dense(offers, asks)
    owner_of = {a.robot: a.owner for a in asks}
    welfare, pairs = best_assignment(gain)
    assert cleared.welfare_uc == welfare
    assert len(cleared.awards) == len(pairs), "among equal assignments one with the most trades"
    for owner, without in cleared.welfare_without_uc.items():
        others = [i for i, r in enumerate(robots) if owner_of[r] != owner]
        assert without == best_assignment(gain[others, :])[0]
        mine = [a for a in cleared.awards if a.owner == owner]
        assert sum(a.price_uc - a.ask_uc for a in mine) == welfare - without


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(list(Mechanism)))
def test_no_double_award_nobody_below_his_ask_nobody_above_the_budget_in_any_mechanism(seed, mechanism):
    offers, asks = draw_market(seed)
    budget = {o.order: o.budget_uc for o in offers}
    asked = {(a.robot, a.order): a for a in asks}
    cleared = clear(offers, asks, seed="s", mechanism=mechanism)
    assert len({a.robot for a in cleared.awards}) == len({a.order for a in cleared.awards}) == len(cleared.awards)
    for award in cleared.awards:
        ask = asked[award.robot, award.order]
        assert (ask.ask_uc, ask.handicap_uc) == (award.ask_uc, award.handicap_uc)
        assert ask.ask_uc <= award.price_uc <= budget[award.order] - award.handicap_uc
    assert cleared == clear(list(offers), list(reversed(asks)), seed="s", mechanism=mechanism)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9))
def test_prices_and_utilities_support_the_matching_at_both_ends_and_tell_what_each_adds(seed):
    offers, asks = draw_market(seed)
    gain, _ = dense(offers, asks)
    rows = [[(j, int(g) + 1) for j, g in enumerate(line) if g >= 0] for line in gain]
    matching = Matching(rows, len(offers))
    before = matching.pairs()

    def check():
        assert min([*matching.price, *matching.utility], default=0) >= 0
        for r, edges in enumerate(rows):
            for c, w in edges:
                spare = matching.price[c] + matching.utility[r] - w
                assert spare == 0 if matching.lot_of[r] == c else spare >= 0
        assert all(matching.utility[r] == 0 for r, c in enumerate(matching.lot_of) if c == FREE)
        assert all(matching.price[c] == 0 for c, r in enumerate(matching.row_of) if r == FREE)

    check()
    total = matching.total()
    matching.raise_prices()
    check()
    for _, c in before[:3]:
        shorter = [[edge for edge in edges if edge[0] != c] for edges in rows]
        assert matching.price[c] == total - Matching(shorter, len(offers)).total()
    matching.lower_prices()
    check()
    for r, _ in before[:3]:
        assert matching.utility[r] == total - Matching([*rows[:r], [], *rows[r + 1 :]], len(offers)).total()
        assert matching.loss_without([r]) == matching.utility[r]
    assert matching.pairs() == before, "asking what would be without someone changes nothing"


def test_prices_of_a_million_credits_are_exact_for_a_whole_fleet():
    """Beyond what float64 holds: the dense solver refuses such sums."""
    top = 10**12
    offers = [LotOffer(OrderId(f"o{j}"), top - j) for j in range(120)]
    asks = [
        SealedAsk(RobotId(f"r{i}"), OwnerId(f"w{i}"), OrderId(f"o{j}"), i) for i in range(120) for j in (i, (i + 1) % 120)
    ]
    cleared = clear(offers, asks, seed="s")
    assert cleared.welfare_uc == sum(top - j for j in range(120)) - sum(range(120))
    with pytest.raises(OverflowError):
        best_assignment(np.full((120, 120), top))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.data())
def test_no_owner_gains_by_lying_when_pairs_carry_handicaps(seed, data):
    offers, costs = draw_market(seed)
    costs = [a for a in costs if a.robot in {f"r{i}" for i in range(6)}]
    if not costs:
        return
    liar = data.draw(st.sampled_from(sorted({a.owner for a in costs})))
    true = {(a.robot, a.order): a.ask_uc for a in costs}
    factor = data.draw(st.sampled_from([0, 1, 5, 9, 11, 15, 30]))
    lies = [
        a if a.owner != liar else SealedAsk(a.robot, a.owner, a.order, a.ask_uc * factor // 10, a.handicap_uc)
        for a in costs
    ]

    def profit(asks):
        return sum(a.price_uc - true[a.robot, a.order] for a in clear(offers, asks, seed="s").awards if a.owner == liar)

    assert profit(lies) <= profit(costs)


@pytest.mark.parametrize(
    ("mechanism", "prices"),
    [
        (Mechanism.VCG, {"o1": 70, "o2": 90}),
        (Mechanism.FIRST_PRICE, {"o1": 40, "o2": 50}),
        (Mechanism.SECOND_PRICE, {"o1": 60, "o2": 90}),
        (Mechanism.SSI, {"o1": 40, "o2": 50}),
    ],
)
def test_each_mechanism_pays_what_its_page_says(mechanism, prices):
    offers = [LotOffer(OrderId("o1"), 100), LotOffer(OrderId("o2"), 90)]
    rows = [("r1", "o1", 40), ("r2", "o1", 60), ("r2", "o2", 50), ("r3", "o1", 70)]
    asks = [SealedAsk(RobotId(r), OwnerId(f"w-{r}"), OrderId(o), a) for r, o, a in rows]
    cleared = clear(offers, asks, seed="s", mechanism=mechanism)
    assert {a.order: a.price_uc for a in cleared.awards} == prices


def test_ssi_takes_the_lowest_ask_first_and_may_miss_the_optimum():
    offers = [LotOffer(OrderId("o1"), 100), LotOffer(OrderId("o2"), 100)]
    rows = [("r1", "o1", 10), ("r1", "o2", 12), ("r2", "o1", 11)]
    asks = [SealedAsk(RobotId(r), OwnerId(f"w-{r}"), OrderId(o), a) for r, o, a in rows]
    assert [a.order for a in clear(offers, asks, seed="s", mechanism=Mechanism.SSI).awards] == ["o1"]
    assert len(clear(offers, asks, seed="s").awards) == 2


def test_the_cheaper_ask_loses_to_the_one_that_costs_its_buyer_less_in_all():
    offers = [LotOffer(OrderId("o"), 100)]
    asks = [
        SealedAsk(RobotId("cheap"), OwnerId("w1"), OrderId("o"), 40, 30),
        SealedAsk(RobotId("careful"), OwnerId("w2"), OrderId("o"), 50, 5),
    ]
    (award,) = clear(offers, asks, seed="s").awards
    assert (award.robot, award.price_uc) == ("careful", 65), "it could have asked up to 65 and still cost less in all"


def best_total(rows, lots):
    gain = np.full((len(rows), lots), NO_ASK, dtype=np.int64)
    for row, edges in enumerate(rows):
        for lot, weight in edges:
            gain[row, lot] = weight
    return best_assignment(gain)[0]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9))
def test_lots_that_come_and_go_leave_the_matching_that_would_have_been_made_at_once(seed):
    rng = random.Random(seed)
    robots, lots = rng.randint(1, 8), rng.randint(1, 12)
    top = rng.choice([3, 1000])
    edges = [[(r, rng.randint(1, top)) for r in range(robots) if rng.random() < 0.6] for _ in range(lots)]
    at_first = rng.randint(0, lots)
    rows = [[(lot, w) for lot in range(at_first) for r, w in edges[lot] if r == row] for row in range(robots)]
    matching = Matching(rows, at_first)
    untouched, total = matching.copy(), matching.total()
    for lot in range(at_first, lots):
        number, gain = matching.add_lot(edges[lot])
        rows = [[*mine, *((lot, w) for r, w in edges[lot] if r == row)] for row, mine in enumerate(rows)]
        assert number == lot
        assert matching.total() == total + gain == best_total(rows, lots)
        total += gain
    for lot in rng.sample(range(lots), lots // 2):
        loss = matching.remove_lot(lot)
        rows = [[edge for edge in mine if edge[0] != lot] for mine in rows]
        assert matching.total() == total - loss == best_total(rows, lots)
        total -= loss
        check_duals(matching, rows)
    assert untouched.total() == Matching(untouched._rows, at_first).total(), "a copy is not changed"


def check_duals(matching, rows):
    for row, mine in enumerate(rows):
        for lot, weight in mine:
            gap = matching.price[lot] + matching.utility[row] - weight
            assert gap >= 0
            assert gap == 0 or matching.lot_of[row] != lot
        assert matching.utility[row] >= 0
        assert matching.lot_of[row] != FREE or matching.utility[row] == 0
    assert all(p >= 0 for p in matching.price)
    assert all(p == 0 for lot, p in enumerate(matching.price) if matching.row_of[lot] == FREE)
