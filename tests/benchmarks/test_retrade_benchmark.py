"""What the re-trading benchmark measures with, against hand calculation and brute force."""

import random
from itertools import permutations, product

import pytest

from benchmarks import retrade
from benchmarks._trading_floor import Exchange, PlaneTrader
from fleet_market.body import Pose
from fleet_market.ids import OrderId, RobotId
from fleet_market_sim.bots import BOTS

KIND = BOTS[0].sheet.model_copy(update={"max_tasks": 24})


@pytest.fixture(scope="module")
def small():
    return retrade._run(retrade._floor(), 3, tasks=4, robots=2)


def test_trades_lower_the_sum_of_costs_by_what_their_records_say(small):
    assert small.steps, "an instance that trades"
    for step, before_uc, after_uc in zip(small.steps, small.totals_uc, small.totals_uc[1:], strict=False):
        assert before_uc - after_uc == pytest.approx(step.record.surplus_uc, abs=5)
        costs = {r: small.traders[r].bidder.cost(q).total_uc for r, q in step.before.items()}
        for gain in step.record.gains:
            after = small.traders[gain.robot].bidder.cost(step.after[gain.robot]).total_uc
            assert step.gain_uc(gain.robot, costs[gain.robot], after) == pytest.approx(gain.gain_uc, abs=5)


def test_the_optimum_is_that_of_all_divisions_and_orders(small):
    errands = [errand for queue in small.dealt.values() for errand in queue.errands]
    best_uc = None
    for holders in product(small.traders, repeat=len(errands)):
        total_uc = 0
        for name, trader in small.traders.items():
            mine = [errand for errand, holder in zip(errands, holders, strict=True) if holder == name]
            empty = trader.queue.without([errand.order for errand in trader.queue.errands])
            costs = []
            for order in permutations(mine):
                queue = empty
                for errand in order:
                    queue = queue.appended(errand)
                costs.append(trader.bidder.cost(queue).total_uc)
            total_uc += min(costs)
        best_uc = total_uc if best_uc is None else min(best_uc, total_uc)
    assert retrade.optimum_uc(small.traders, errands) == pytest.approx(best_uc, rel=1e-3)
    assert small.totals_uc[-1] >= best_uc * 0.999


def test_two_robots_on_a_plane_swap_what_lies_next_door_to_the_other():
    traders = {
        RobotId(name): PlaneTrader(RobotId(name), KIND, Pose(x, 0.0, 0.0)) for name, x in (("left", 0.0), ("right", 50.0))
    }
    exchange = Exchange(retrade.Plane(), traders)

    class InTurn(random.Random):
        """Deals the first task to the robot on the left, the second to the other."""

        def choice(self, names):
            return names[len(exchange.market.state.orders)]

    exchange.deal({OrderId("far"): ("49;0", "48;0", 1.0), OrderId("near"): ("1;0", "2;0", 1.0)}, InTurn())
    assert exchange.cost_uc() == 100 * PlaneTrader.UC_PER_M
    exchange.trade()
    assert exchange.cost_uc() == 4 * PlaneTrader.UC_PER_M
