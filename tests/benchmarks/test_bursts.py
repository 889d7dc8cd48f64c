"""The burst and bidders benchmarks: their bidding software, and small runs of what they measure."""

from dataclasses import replace

import pytest

from benchmarks._appending import AppendingBidder
from benchmarks._bidders_run import Fleet
from benchmarks._burst_core import Core
from benchmarks._burst_site import DEADLINE_NS, PAYLOAD_KG, SOC, Site, Size
from benchmarks._reoptimising import ReoptimisingBidder
from fleet_market.protocol.messages import DeclineReason
from fleet_market.robot.bidding import Bidder, Offer
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue


@pytest.fixture(scope="module")
def site():
    return Site(Size(30, 12), 1)


@pytest.fixture(scope="module")
def config(site):
    config = site.agent_config(0)
    return replace(config, type=config.type.model_copy(update={"parcels": 2}))


@pytest.fixture(scope="module")
def product(config):
    memory = Memory(config.type)
    return Bidder(config.type, config.roadmap, config.chargers, config.tariff, memory, config.surfaces)


def errands(site, count):
    """Orders of the first hall, all of which its robots can do."""
    found = []
    for _, _, order in site.orders[:count]:
        names = (text.partition(":")[2] for text in (order.pickup, order.dropoff))
        pickup, dropoff = (site.resolve(f"0:{name}", source="t", field="f") for name in names)
        found.append(Errand(order.order, pickup, dropoff, PAYLOAD_KG, DEADLINE_NS))
    return found


def test_an_empty_queue_is_priced_alike_by_cheap_software_and_the_products(site, config, product):
    lots, queue = errands(site, 5), Queue(config.home, 0, SOC)
    cheap, exact = AppendingBidder(config, {}).asks(lots, queue), product.asks(lots, queue)
    assert [a.ask_uc for a in cheap] == pytest.approx([a.ask_uc for a in exact], rel=1e-6)
    assert [a.finish_ns for a in cheap] == pytest.approx([a.finish_ns for a in exact], rel=1e-6)


def test_cheap_software_does_a_lot_after_all_that_it_has(site, config):
    bidder, queue = AppendingBidder(config, {}), Queue(config.home, 0, SOC)
    first, second = errands(site, 2)
    (alone,) = bidder.asks([first], queue)
    (after,) = bidder.asks([second], bidder.taken(first, queue))
    assert after.finish_ns > alone.finish_ns
    assert bidder.taken(second, bidder.taken(first, queue)).visits[-1].order == second.order


def test_cheap_software_says_why_it_cannot(site, config):
    bidder, queue = AppendingBidder(config, {}), Queue(config.home, 0, SOC)
    (lot,) = errands(site, 1)
    away = replace(lot, dropoff=site.resolve("1:shelf-a1", source="t", field="f"))
    bad = [replace(lot, payload_kg=999.0), away, replace(lot, deadline_ns=1)]
    reasons = [answer.reason for answer in bidder.asks(bad, queue)]
    assert reasons == [DeclineReason.PAYLOAD, DeclineReason.UNREACHABLE, DeclineReason.DEADLINE]
    (empty,) = bidder.asks([lot], replace(queue, soc=0.01))
    assert empty.reason is DeclineReason.BATTERY


def test_expensive_software_finds_no_dearer_queue_and_never_carries_too_much(site, config, product):
    bidder = ReoptimisingBidder(config, 30.0, 0)
    bidder.new_batch()
    queue = Queue(config.home, 0, SOC)
    for errand in errands(site, 5):
        queue = queue.appended(errand)
    best = bidder.best(queue)
    assert product.cost(best).total_uc < product.cost(queue).total_uc
    aboard = most = 0
    for visit in best.visits:
        aboard += 1 if visit.pickup else -1
        most = max(most, aboard)
    assert most <= config.type.parcels


def test_expensive_software_asks_what_its_best_queue_costs_more(site, config, product):
    bidder = ReoptimisingBidder(config, 30.0, 0)
    bidder.new_batch()
    *held, lot = errands(site, 4)
    queue = Queue(config.home, 0, SOC)
    for errand in held:
        queue = bidder.taken(errand, queue)
    (offer,) = bidder.asks([lot], queue)
    assert isinstance(offer, Offer)
    assert offer.ask_uc >= product.cost(offer.queue).total_uc - product.cost(queue).total_uc - 1


def test_a_search_without_time_leaves_the_queue_as_it_is(site, config):
    queue = Queue(config.home, 0, SOC)
    for errand in errands(site, 4):
        queue = queue.appended(errand)
    bidder = ReoptimisingBidder(config, 0.0, 0)
    bidder.new_batch()
    assert bidder.best(queue) == queue
    assert bidder.cut_off > 0


def test_a_burst_through_the_core_is_awarded_whole(site):
    core = Core(site, 0.001)
    run = core.run()
    assert run.awarded_s.keys() == run.posted_s.keys()
    assert min(run.latencies_s()) > 0
    assert run.asks >= 30
    assert {order.robot for order in core.market.state.orders.values()} <= core.robots.keys()


def test_bidders_are_paid_what_their_orders_cost_the_customers():
    fleet = Fleet(batches=8, budget_s=5.0, seed=3, halves=("cheap", "expensive"))
    run = fleet.run()
    orders = fleet._market.state.orders.values()
    assert sum(t.paid_uc for t in run.tallies) == sum(order.price_uc or 0 for order in orders if order.settled_ns)
    assert sum(t.done for t in run.tallies) + run.unsold == run.posted > 0
    assert all(t.cost_uc > 0 and t.driven_s > 0 for t in run.tallies if t.done)
