"""Asks are exact differences of whole-queue prices, and what a robot asks for it can do."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.errors import InputError
from fleet_market.ids import OrderId
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import TaskPlan, energy_j
from fleet_market.protocol.messages import ASK_PARTS, DeclineReason
from fleet_market.robot.bidding import Bidder, Offer, Refusal, line_of
from fleet_market.robot.floor import lay_out
from fleet_market.robot.memory import Memory
from fleet_market.robot.pricing import growth_uc
from fleet_market.robot.queue import Errand, Queue, Visit

LAUNCH = Path(__file__).parents[2] / "launch"
S = 10**9


@cache
def floor():
    fleet = load_fleet(LAUNCH / "fleets/warehouse.yaml")
    return fleet, lay_out(fleet, load_map(LAUNCH / "maps/warehouse.yaml"), source="fleet")


@cache
def bidder(parcels=3, capacity_wh=480.0):
    fleet, laid = floor()
    robot = fleet.robots[0].type
    battery = robot.battery.model_copy(update={"capacity_wh": capacity_wh})
    robot = robot.model_copy(update={"parcels": parcels, "battery": battery})
    return Bidder(robot, laid.roadmap, laid.chargers, fleet.tariff, Memory(robot), Surfaces(fleet.surfaces)), robot


def start(soc=0.9):
    _, laid = floor()
    return Queue(next(iter(laid.homes.values())), 0, soc)


PLACES = tuple(floor()[0].places.values())


@st.composite
def errands(draw, name):
    pickup, dropoff = draw(st.lists(st.sampled_from(PLACES), min_size=2, max_size=2, unique=True))
    return Errand(
        OrderId(name),
        pickup,
        dropoff,
        payload_kg=draw(st.sampled_from([0.0, 1.0, 5.0, 9.0])),
        deadline_ns=draw(st.integers(20, 400)) * S,
        lateness_uc_per_h=draw(st.sampled_from([0, 0, 50_000_000])),
    )


@st.composite
def queues(draw, one, most=3, soc=0.9):
    """A queue of orders taken one after the other; the first stops may be done or under way."""
    queue = start(soc)
    for i in range(draw(st.integers(0, most))):
        errand = draw(errands(f"held-{i}"))
        if isinstance(offer := one.ask(errand, queue), Offer):
            queue = offer.queue
    done = draw(st.integers(0, max(0, len(queue.visits) - 1)))
    for visit in queue.visits[:done]:
        queue = after(queue, visit)
    return replace(queue, locked=draw(st.integers(0, min(1, len(queue.visits)))))


def after(queue, visit):
    """The queue when a stop is done; time stands still."""
    errand = queue.errand(visit.order)
    rest = [e for e in queue.errands if e is not errand]
    if visit.pickup:
        rest.append(replace(errand, pickup=None))
    place = queue.place(visit)
    pose = replace(queue.pose, x=place.x, y=place.y)
    return replace(queue, pose=pose, errands=tuple(rest), visits=queue.visits[1:])


@given(data=st.data(), parcels=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_an_ask_is_the_difference_of_two_whole_queue_prices_part_by_part(data, parcels):
    one, _ = bidder(parcels)
    queue = data.draw(queues(one))
    lots = [data.draw(errands(f"lot-{i}")) for i in range(3)]
    before = one.cost(queue)
    for lot, offer in zip(lots, one.asks(lots, queue), strict=True):
        if not isinstance(offer, Offer):
            continue
        grown = one.cost(offer.queue)
        growth = grown.total_uc - grown.lateness_uc[lot.order] - before.total_uc
        assert offer.ask_uc == sum(offer.parts_uc) == max(0, growth)
        assert min(offer.parts_uc) >= 0
        held_uc = sum(uc for order, uc in grown.lateness_uc.items() if order != lot.order)
        delay_uc = held_uc - sum(before.lateness_uc.values())
        raw = [
            b - a + delay_uc * (n == "opportunity")
            for n, a, b in zip(ASK_PARTS, before.parts_uc, grown.parts_uc, strict=True)
        ]
        if min(raw) >= 0:
            assert list(offer.parts_uc) == raw


@given(data=st.data(), parcels=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_what_a_robot_offers_keeps_load_deadlines_precedence_and_what_it_does_now(data, parcels):
    one, robot = bidder(parcels)
    queue = data.draw(queues(one))
    lots = [data.draw(errands(f"lot-{i}")) for i in range(3)]
    before = one.cost(queue)
    for lot, offer in zip(lots, one.asks(lots, queue), strict=True):
        if not isinstance(offer, Offer):
            continue
        visits, aboard = offer.queue.visits, {e.order for e in queue.errands if e.pickup is None}
        assert visits.index(Visit(lot.order, pickup=True)) < visits.index(Visit(lot.order, pickup=False))
        assert tuple(visit for visit in visits if visit.order != lot.order) == queue.visits
        assert visits[: queue.locked] == queue.visits[: queue.locked]
        for visit in visits:
            aboard ^= {visit.order}
            assert len(aboard) <= parcels
            assert sum(offer.queue.errand(order).payload_kg for order in aboard) <= robot.max_payload_kg
        assert not aboard
        assert lot.lateness_uc_per_h or offer.finish_ns <= lot.deadline_ns
        for order, drop_s in one.cost(offer.queue).drop_s.items():
            held = offer.queue.errand(order)
            if order != lot.order and not held.lateness_uc_per_h and drop_s > before.drop_s[order] + 0.02:
                assert drop_s * S <= held.deadline_ns


@given(data=st.data(), soc=st.floats(0.2, 0.6), capacity_wh=st.sampled_from([6.0, 12.0, 480.0]))
@settings(max_examples=60, deadline=None)
def test_the_battery_never_falls_below_its_reserve_on_the_way_and_never_below_the_way_to_a_charger(data, soc, capacity_wh):
    one, robot = bidder(2, capacity_wh)
    queue = start(soc)
    for i in range(data.draw(st.integers(1, 4))):
        errand = replace(data.draw(errands(f"held-{i}")), deadline_ns=10**6 * S)
        if isinstance(offer := one.ask(errand, queue), Offer):
            queue = offer.queue
    assume(queue.visits)
    left, at, load_kg = soc, queue.pose, 0.0
    for halt in one.drive(queue).halts:
        way = one.legs.way(at, halt.place)
        legs, at = way.plan(at.yaw, load_kg), way.end
        dwell_s = 0.0 if halt.order is None else robot.handling_s
        left -= energy_j(TaskPlan(tuple(legs), dwell_s), robot) / (3600 * capacity_wh)
        if halt.order is None:
            assert left >= 0
            assert halt.until_soc <= robot.battery.target_soc
            left = max(left, halt.until_soc)
        else:
            load_kg += queue.errand(halt.order).payload_kg * (1 if halt.pickup else -1)
            assert left >= robot.battery.reserve_soc
    charges = [halt.until_soc for halt in one.drive(queue).halts if halt.order is None]
    assert not charges or min(charges) > robot.battery.reserve_soc


@pytest.mark.parametrize("soc", [0.22, 0.26, 0.35, 0.45])
def test_a_charging_stop_is_planned_instead_of_a_refusal_only_when_needed(soc):
    lot = Errand(OrderId("far"), PLACES[0], PLACES[7], 5.0, 10**6 * S)
    one, _ = bidder(1, 6.0)
    full, low = one.ask(lot, start(0.8)), one.ask(lot, start(soc))
    assert not one.drive(full.queue).charges
    assert one.drive(low.queue).charges
    assert low.finish_ns > full.finish_ns
    hopeless = bidder(1, 1.0)[0].ask(lot, start(soc))
    assert hopeless.reason is DeclineReason.BATTERY


def test_what_held_orders_lose_by_delay_is_in_the_ask_and_a_hard_deadline_is_kept():
    one, _ = bidder(1)
    held = Errand(OrderId("held"), PLACES[0], PLACES[4], 1.0, 1 * S)
    lot = Errand(OrderId("lot"), PLACES[10], PLACES[11], 1.0, 10**6 * S)
    queue = start().appended(held)
    ahead = queue.with_errand(lot, (Visit(lot.order, pickup=True), Visit(lot.order, pickup=False), *queue.visits))
    free_uc = one.cost(ahead).total_uc
    urgent = replace(ahead, errands=(replace(held, lateness_uc_per_h=10**9), lot))
    assert one.cost(urgent).total_uc > free_uc
    offer = one.ask(lot, replace(queue, errands=(replace(held, lateness_uc_per_h=10**9),)))
    assert offer.queue.visits[:2] == queue.visits


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_ask_without_an_order_is_the_ask_of_a_robot_that_does_not_have_it(data):
    one, _ = bidder(2)
    queue = data.draw(queues(one))
    lot = data.draw(errands("lot"))
    free = [errand.order for errand in queue.errands if errand.order not in queue.fixed()]
    assume(free)
    gone = data.draw(st.sampled_from(free))
    rest = queue.without({gone})
    assert one.ask(lot, queue, without={gone}) == one.ask(lot, rest)
    assert gone not in {errand.order for errand in rest.errands}
    for order in queue.fixed():
        with pytest.raises(InputError, match="being executed"):
            queue.without({order})
    with pytest.raises(InputError, match="name an order"):
        queue.without({OrderId("nobody-s")})


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=9, max_size=9))
def test_grown_parts_add_up_and_none_is_negative(pairs):
    grown = growth_uc([a for a, _ in pairs], [b for _, b in pairs])
    assert sum(grown) == max(0, sum(a - b for a, b in pairs))
    assert min(grown) >= 0


@pytest.mark.parametrize(
    ("visits", "says"),
    [
        ((Visit(OrderId("a"), pickup=False), Visit(OrderId("a"), pickup=True)), "before you drop it off"),
        ((Visit(OrderId("a"), pickup=True),), "visit each place"),
        ((Visit(OrderId("a"), pickup=True),) * 2, "visit each place"),
    ],
)
def test_a_queue_that_makes_no_sense_is_refused(visits, says):
    errand = Errand(OrderId("a"), PLACES[0], PLACES[1], 1.0, S)
    with pytest.raises(InputError, match=says):
        replace(start(), errands=(errand,), visits=visits)


def test_an_order_that_the_robot_holds_already_is_declined_and_others_are_not():
    one, _ = bidder(1)
    held, other = (Errand(OrderId(name), PLACES[0], PLACES[4], 1.0, 10**6 * S) for name in ("held", "other"))
    answers = one.asks([held, other], one.taken(held, start()))
    assert answers[0].reason is DeclineReason.BUSY
    assert isinstance(answers[1], Offer)


def test_an_answer_goes_over_the_wire():
    one, _ = bidder(1)
    lot = Errand(OrderId("lot"), PLACES[0], PLACES[4], 1.0, 10**6 * S)
    offer = one.ask(lot, start())
    assert line_of(3, offer).ask_uc == offer.ask_uc
    assert len(line_of(3, Refusal(DeclineReason.BATTERY, "x" * 100)).detail) == 40


def test_a_robot_s_node_needs_neither_scipy_nor_numba():
    code = (
        "import sys, fleet_market.daemons.robot, fleet_market.robot.agent\n"
        "assert not {m.split('.')[0] for m in sys.modules} & {'scipy', 'numba'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
