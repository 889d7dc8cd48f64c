"""The town in which the sale of quotes is measured, and the frame of the oracle's benchmark."""

import numpy as np
import pytest

from benchmarks._oracle_buyers import Choosing, Consulting, name_naive
from benchmarks._oracle_resale import BUDGET_UC, Holders, market_price_uc
from benchmarks._oracle_sale import interval
from benchmarks._oracle_town import LOADS, Order, Plan, Robot, Town
from benchmarks.oracle import PARTS, chosen
from fleet_market.errors import InputError
from fleet_market.ids import OrderId, OwnerId, RobotId
from fleet_market.oracle import Knowledge, Question

PLAN = Plan.draw(3, 60, LOADS["usual"])


def robot(name, owner, x):
    return Robot(RobotId(name), OwnerId(owner), (x, 0.0), 1.0)


def test_every_order_ends_and_nobody_pays_more_than_it_is_worth_or_less_than_it_costs():
    orders = Town(PLAN, name_naive).run()
    assert len(orders) == len(PLAN.orders)
    sold = [order for order in orders if order.price_uc is not None]
    assert len(sold) > 40
    assert all(order.cost_uc <= order.price_uc <= order.value_uc for order in sold)
    assert all(order.fair_uc is not None and order.offered >= 1 for order in sold)


def test_who_does_not_consult_is_not_changed_by_an_oracle_that_listens():
    silent = Town(PLAN, name_naive).run()
    heard = Town(PLAN, Consulting(knowledge := Knowledge(), lambda _: False).decide, knowledge).run()
    assert [o.price_uc for o in silent] == [o.price_uc for o in heard]


def test_the_price_of_a_contract_lies_between_the_best_and_the_next_other_robot():
    town = Town(PLAN, name_naive, robots=[robot("r1", "a", 0.0), robot("r2", "b", 10.0), robot("r3", "c", 40.0)])
    task = Question((0.0, 0.0), (0.0, 10.0))
    costs = [r.cost_uc(task) for r in town.robots]
    assert market_price_uc(town, task, RobotId("r1")) == (costs[1] + costs[2]) // 2
    town.robots.pop()
    assert market_price_uc(town, task, RobotId("r1")) == costs[1], "an only bidder takes what it costs it"
    town.robots.pop()
    assert market_price_uc(town, task, RobotId("r1")) == BUDGET_UC, "nobody else is there"


def test_a_clairvoyant_is_never_worse_than_a_rule():
    knowledge = Knowledge()
    holders = Holders(knowledge, np.random.default_rng(1))
    Town(Plan.draw(1, 150, LOADS["usual"]), name_naive, knowledge, before=holders.before).run()
    assert holders.count > 20
    assert all(cost >= holders.best_uc for cost in holders.cost_uc.values())


class Told:
    """An oracle that says the same of every task."""

    def __init__(self, quote):
        self.quote = quote

    def hear(self, observation, now_ns):
        pass

    def band(self, question, now_ns, at_ns=None, confidence=0.8):
        return self.quote


def test_a_lie_begins_when_it_should_and_is_of_the_size_it_should_be():
    knowledge = Knowledge()
    asked = Town(PLAN, Consulting(knowledge, lambda _: True).decide, knowledge).run()
    quote = next(order.quote for order in reversed(asked) if order.quote is not None and not order.quote.thin)
    buyers = Choosing(Told(quote), np.random.default_rng(0), {"liar": 0}, "liar", 0.3, 5)
    orders = Town(PLAN, buyers.decide, settled=buyers.settled).run()
    lows = [order.quote.low_uc for order in sorted(orders, key=lambda order: order.post_ns)]
    assert lows[:5] == [quote.low_uc] * 5
    assert set(lows[5:]) == {round(1.3 * quote.low_uc)}
    assert buyers.standings["liar"].scored == sum(order.price_uc is not None for order in orders)


def test_an_interval_holds_the_mean_and_needs_several_seeds():
    assert interval([1.0, 2.0], np.mean) == "too few seeds for an interval"
    low, high = map(float, interval(list(map(float, range(20))), np.mean).removeprefix("95 %: ").split(" to "))
    assert 5.0 < low < 9.5 < high < 14.0


def test_parts_are_chosen_by_name():
    assert chosen("") == list(PARTS)
    assert chosen("sale, bands") == ["sale", "bands"]
    with pytest.raises(InputError, match="price"):
        chosen("price")


def test_an_order_that_was_not_sold_is_worth_nothing():
    assert Order(OrderId("o"), 0, Question((0.0, 0.0), (1.0, 1.0)), 10, 0).surplus_uc == 0
