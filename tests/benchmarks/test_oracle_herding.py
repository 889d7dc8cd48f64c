"""Whether the measures of herding would show it."""

import math
from dataclasses import dataclass, replace

import pytest

from benchmarks._oracle_herding import (
    PULL,
    WINDOW,
    WRONG,
    WRONG_FROM,
    Crowd,
    Found,
    _rows,
    corrected,
    posted,
    scaled,
    trace,
    wrong_batch,
)
from benchmarks._oracle_town import BATCH_S, LOADS, Plan, Town
from fleet_market.oracle import Knowledge
from fleet_market.units import ns

PLAN = Plan.draw(1003, 100, LOADS["usual"])
USUAL = [(i - 100.0, 0.1 * (-1) ** i) for i in range(200)]
FOUND = Found((100.0, 100.0), (100.0, 100.0), (100.0, 100.0), (0.4, 0.4), 1.0, 2.0, 0.0)


def run(crowd):
    town = Town(PLAN, crowd.decide, crowd.knowledge, closed=crowd.closed, before=crowd.before, asking=crowd.asks_uc)
    return town, town.run()


def test_an_error_that_stays_is_never_corrected_and_one_that_passes_is_as_soon_as_it_has_passed():
    assert corrected(USUAL, USUAL) == 1
    assert corrected(USUAL, [(at, off + 0.5 * (at > 0)) for at, off in USUAL]) is None
    assert corrected(USUAL, [(at, off + 5.0 * (0 < at <= 30)) for at, off in USUAL]) == 31
    assert corrected(USUAL, [(at, off + 5.0 * (at <= 0)) for at, off in USUAL]) == 1, "the wrong batch itself is number 0"
    assert corrected(USUAL, USUAL[: 100 + WINDOW]) is None, "too few orders came after it"


def test_nobody_who_has_no_oracle_is_changed_and_robots_that_follow_ask_half_way_but_not_below_their_cost():
    alone, crowd = Crowd(None, followers=1.0), Crowd(Knowledge(), followers=0.5)
    town, orders = run(alone)
    assert all(order.quote is None and not order.given_up for order in orders)
    assert all(alone.asks_uc(town, robot, orders[-1]) == robot.cost_uc(orders[-1].task) for robot in town.robots)
    town, orders = run(crowd)
    order = orders[-1]
    quote, followed = crowd._quote(town, order), 0
    assert quote is not None
    assert not quote.thin
    for number, robot in enumerate(town.robots):
        cost_uc, ask_uc = robot.cost_uc(order.task), crowd.asks_uc(town, robot, order)
        half_way = round(cost_uc ** (1 - PULL) * quote.expected_uc**PULL)
        assert ask_uc == pytest.approx(max(cost_uc, half_way) if number < 6 else cost_uc, abs=1)
        followed += ask_uc > cost_uc
    assert followed > 0


def test_an_order_comes_into_the_wrong_batch_and_its_trace_is_that_of_the_bands_after_it():
    plan = Plan.draw(1003, 300, LOADS["usual"])
    batch = wrong_batch(plan)
    assert batch >= WRONG_FROM
    assert any(posted(order) == batch for order in plan.orders)
    assert not any(WRONG_FROM <= posted(order) < batch for order in plan.orders)
    crowd = Crowd(Knowledge())
    usual = Town(plan, crowd.decide, crowd.knowledge, asking=crowd.asks_uc).run()
    wrong = [replace(o, quote=o.quote and scaled(o.quote, 1.5 if posted(o) == batch else 1.0)) for o in usual]
    assert trace(usual, wrong, batch) == 0
    stays = [replace(o, quote=o.quote and scaled(o.quote, 1.1 if posted(o) > batch else 1.0)) for o in usual]
    assert trace(usual, stays, batch) == pytest.approx(math.log(1.1), rel=1e-3)


@dataclass
class Same:
    """An oracle that says the same of every task."""

    quote: object

    def hear(self, observation, now_ns):
        pass

    def band(self, question, now_ns, at_ns=None, confidence=0.8):
        return self.quote


def test_all_bands_of_the_wrong_batch_are_wrong_and_no_others():
    _, orders = run(Crowd(Knowledge()))
    quote = next(o.quote for o in reversed(orders) if o.quote is not None and not o.quote.thin)
    town, crowd = Town(PLAN, lambda _town, _order: None), Crowd(Same(quote), wrong_batch=WRONG_FROM)
    told = {}
    for batch in (WRONG_FROM - 1, WRONG_FROM, WRONG_FROM + 1):
        town.now_ns = ns(batch * BATCH_S)
        told[batch] = {crowd._quote(town, order).expected_uc for order in orders[:3]}
    assert told == {
        WRONG_FROM - 1: {quote.expected_uc},
        WRONG_FROM: {round(WRONG * quote.expected_uc)},
        WRONG_FROM + 1: {quote.expected_uc},
    }
    assert scaled(quote, 2.0).low_uc == 2 * quote.low_uc


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        ({"paid_uc": (94.0, 100.0)}, [0]),
        ({"paid_uc": (106.0, 100.0)}, [0]),
        ({"prices_uc": (94.0, 100.0)}, [1]),
        ({"spread": (0.19, 0.4)}, [2]),
        ({"bands_after": 21.0}, [3]),
        ({"prices_after": None}, [4]),
    ],
)
def test_prices_that_move_asks_that_are_alike_and_errors_that_stay_miss_their_goals(change, missed):
    rows = _rows("town", [replace(FOUND, **change)])
    assert [i for i, row in enumerate(rows) if not row.met] == missed
