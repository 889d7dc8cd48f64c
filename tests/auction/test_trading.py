"""Which moves are kept, and at which prices."""

from hypothesis import given
from hypothesis import strategies as st

from fleet_market.auction.trading import Move, components, settle_prices

ROBOTS = ["r0", "r1", "r2", "r3", "r4"]


@st.composite
def bundles(draw):
    moves = []
    for i in range(draw(st.integers(1, 6))):
        giver, taker = draw(st.permutations(ROBOTS))[:2]
        moves.append(Move(f"o{i}", giver, taker, draw(st.integers(0, 50)), draw(st.sampled_from([0, 0, 3]))))
    savings = {robot: draw(st.integers(0, 200)) for robot in {move.giver for move in moves}}
    return moves, savings


def test_two_robots_share_the_surplus_in_halves():
    deal = settle_prices([Move("o", "a", "b", 40)], {"a": 100})
    assert (deal.price_uc, deal.gain_uc, deal.surplus_uc) == ({"o": 70}, {"a": 30, "b": 30}, 60)


def test_a_rival_lowers_the_price_but_not_below_a_tenth_of_the_surplus():
    assert settle_prices([Move("o", "a", "b", 40, rival_uc=50)], {"a": 100}).price_uc == {"o": 50}
    assert settle_prices([Move("o", "a", "b", 40, rival_uc=40)], {"a": 100}).price_uc == {"o": 46}
    assert settle_prices([Move("o", "a", "b", 40, rival_uc=90)], {"a": 100}).price_uc == {"o": 70}


def test_what_the_giver_expects_to_lose_counts_like_money_against_the_taker():
    deal = settle_prices([Move("o", "a", "b", 40, extra_uc=20)], {"a": 100})
    assert (deal.price_uc, deal.gain_uc) == ({"o": 60}, {"a": 20, "b": 20})
    assert settle_prices([Move("o", "a", "b", 40, extra_uc=20, rival_uc=65)], {"a": 100}).price_uc == {"o": 45}
    assert settle_prices([Move("o", "a", "b", 40, extra_uc=60)], {"a": 100}) is None


def test_what_gains_nothing_or_too_little_is_no_deal():
    assert settle_prices([Move("o", "a", "b", 100)], {"a": 100}) is None
    assert settle_prices([Move("o", "a", "b", 95)], {"a": 100}, least_uc=6) is None


def test_a_swap_that_helps_only_together_is_a_deal():
    moves = [Move("x", "a", "b", 80), Move("y", "b", "a", 10)]
    deal = settle_prices(moves, {"a": 50, "b": 90})
    assert deal.surplus_uc == 50
    assert deal.gain_uc == {"a": 25, "b": 25}
    paid_by_a = deal.price_uc["x"] - deal.price_uc["y"]
    assert 50 - 10 - paid_by_a == 25


def test_who_gains_by_taking_and_giving_pays_where_a_price_can_do_it():
    """b takes x for next to nothing and gives y away for much: a keeps its whole saving, since no price is below 0."""
    deal = settle_prices([Move("x", "a", "b", 5), Move("y", "b", "c", 10)], {"a": 10, "b": 105})
    assert deal.price_uc["x"] == 0
    assert deal.gain_uc == {"a": 10, "b": 57, "c": 33}


@given(bundles())
def test_components_share_no_robot_and_lose_no_move(drawn):
    moves, _ = drawn
    parts = components(moves)
    assert sorted(m.order for part in parts for m in part) == sorted(m.order for m in moves)
    robots = [{r for m in part for r in (m.giver, m.taker)} for part in parts]
    assert sum(map(len, robots)) == len(set().union(*robots))
    for part in parts:  # every part is connected: nothing can be split off
        for cut in range(1, len(part)):
            assert len(components(part)) == 1, cut


@given(bundles())
def test_everyone_gains_in_every_deal_and_the_gains_are_the_fall_of_costs(drawn):
    moves, savings = drawn
    for part in components(moves):
        robots = {robot for move in part for robot in (move.giver, move.taker)}
        fall = sum(savings.get(r, 0) for r in robots) - sum(m.ask_uc + m.extra_uc for m in part)
        deal = settle_prices(part, savings)
        if deal is None:
            continue
        assert deal.surplus_uc == fall == sum(deal.gain_uc.values()) > 0
        assert min(deal.gain_uc.values()) > 0
        assert min(deal.price_uc.values()) >= 0
        for robot, gain in deal.gain_uc.items():
            given_uc = sum(deal.price_uc[m.order] + m.extra_uc for m in part if m.giver == robot)
            taken_uc = sum(deal.price_uc[m.order] - m.ask_uc for m in part if m.taker == robot)
            assert gain == savings.get(robot, 0) - given_uc + taken_uc


@given(bundles())
def test_a_single_move_that_gains_is_always_a_deal(drawn):
    (move, *_), savings = drawn
    deal = settle_prices([move], {move.giver: savings[move.giver]})
    assert (deal is not None) == (savings[move.giver] - move.ask_uc - move.extra_uc >= 2)
