"""Robots that carry several parcels at once, and charge between stops, against the market and the traffic control."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robot_yard import CREDIT, DOCKS, OVER, PLACES, TICK_S, Yard

from fleet_market.body import End
from fleet_market.protocol.messages import Complete, OrderState, Phase
from fleet_market.robot.agent import Doing
from fleet_market.robot.losses import HANDOVER_WAIT_S


def together(yard):
    """Post two orders from one aisle to one dock; return the robot that has both parcels aboard and drives."""
    yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: yard.holder("o1") is not None)
    robot = yard.holder("o1")
    yard.order("o2", "shelf-c2", "shipping-1")
    yard.until(lambda: set(yard.bodies[robot].parcels) == {"o1", "o2"} and yard.bodies[robot].moving)
    return robot


def test_parcels_for_one_dock_travel_together_and_each_is_proved_and_paid():
    yard = Yard(parcels=2)
    robot = together(yard)
    yard.until(yard.all_over)
    orders = list(yard.market.state.orders.values())
    assert [(o.state, o.robot) for o in orders] == [(OrderState.SETTLED, robot)] * 2
    proofs = [body for body in yard.said[robot] if isinstance(body, Complete)]
    assert {tuple(round(s.payload_kg - s.payload_before_kg, 3) for s in proof.steps) for proof in proofs} == {(2.0, -2.0)}
    assert max(step.payload_kg for proof in proofs for step in proof.steps) == 4.0
    yard.check_end()


def test_the_energies_of_contracts_that_share_ways_add_up_to_what_the_robot_drew_on_them():
    yard = Yard(parcels=2)
    yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: any(agent.situation.at_hand for agent in yard.agents.values()))
    robot = yard.holder("o1")
    before_j = yard.bodies[robot].used_j
    yard.order("o2", "shelf-c2", "shipping-1")
    yard.until(lambda: len([body for body in yard.said[robot] if isinstance(body, Complete)]) == 2)
    drawn_j = yard.bodies[robot].used_j - before_j
    yard.until(yard.all_over)
    orders = list(yard.market.state.orders.values())
    assert all(0 < o.measured_energy_j < drawn_j for o in orders)
    assert sum(o.measured_energy_j for o in orders) == pytest.approx(drawn_j, rel=0.01)


def test_one_parcel_at_a_time_is_carried_by_those_who_can_carry_no_more():
    yard = Yard()
    for i in range(8):
        yard.order(f"o{i}", PLACES[i], "shipping-1")
    while not yard.all_over():
        yard.tick()
        assert all(len(body.parcels) <= 1 for body in yard.bodies.values())
        assert yard.now_s < 900


def test_one_of_two_parcels_is_cancelled_and_brought_back_the_other_is_delivered():
    yard = Yard(parcels=2)
    robot = together(yard)
    assert yard.cancel("o1") == "cancelled"
    yard.until(yard.all_over)
    first, second = yard.market.state.orders["o1"], yard.market.state.orders["o2"]
    assert (first.state, second.state, second.robot) == (OrderState.CANCELLED, OrderState.SETTLED, robot)
    assert not yard.bodies[robot].parcels
    yard.check_end()


@pytest.mark.parametrize("how", ["killed", "stuck"])
def test_others_take_all_parcels_over_from_a_robot_that_does_not_get_on(how):
    yard = Yard(parcels=2)
    robot = together(yard)
    body = yard.bodies[robot]
    yard.run(2)
    if how == "killed":
        yard.kill(robot)
    else:
        body.stuck = True
        yard.end(robot, body, End.FAILED, "blocked: told to drive, but does not move")
    yard.until(yard.all_over, 900)
    orders = list(yard.market.state.orders.values())
    assert [o.state for o in orders] == [OrderState.SETTLED] * 2
    assert all(o.robot != robot for o in orders)
    assert not body.parcels
    yard.check_end()


def test_a_robot_that_another_helped_out_goes_on_working():
    yard = Yard(parcels=2)
    robot = together(yard)
    yard.end(robot, yard.bodies[robot], End.FAILED, "blocked: told to drive, but does not move")
    yard.until(yard.all_over, 900)
    yard.until(lambda: yard.agents[robot].doing in (Doing.IDLE, Doing.CHARGING), 300)
    assert not yard.agents[robot].situation.orphans
    assert not yard.bodies[robot].parcels
    yard.check_end()


def test_a_parcel_is_fetched_from_a_robot_that_broke_down_where_it_is_to_go():
    yard = Yard()
    order = yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: any(task.phase is Phase.UNLOADING for agent in yard.agents.values() for task in agent.tasks))
    robot = yard.holder("o1")
    yard.end(robot, yard.bodies[robot], End.FAILED, "the lift is stuck")
    yard.until(yard.all_over, HANDOVER_WAIT_S / 2)
    assert order.state is OrderState.SETTLED
    assert order.robot != robot
    yard.check_end()


def test_a_parcel_that_nobody_fetches_is_set_down_where_the_market_looks_for_it():
    yard = Yard()
    yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: any(body.parcels and body.moving for body in yard.bodies.values()))
    robot = yard.holder("o1")
    body, others = yard.bodies[robot], [name for name in yard.agents if name != robot]
    for other in others:
        yard.kill(other)
    yard.end(robot, body, End.FAILED, "blocked")
    where, came_down_at = body.pose, None
    while not yard.all_over():
        yard.tick()
        assert yard.now_s < 1200
        if came_down_at is None and not body.parcels:
            came_down_at = body.pose
    assert came_down_at == where
    order = yard.market.state.orders["o1"]
    assert (order.state, order.robot) == (OrderState.SETTLED, robot)
    yard.check_end()


def test_loading_that_was_interrupted_after_the_parcel_was_on_is_begun_anew_and_proved():
    yard = Yard(parcels=2)
    order = yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: any("o1" in body.parcels for body in yard.bodies.values()))
    robot = yard.holder("o1")
    yard.end(robot, yard.bodies[robot], End.CANCELLED, "stopped by hand")
    yard.until(yard.all_over)
    assert (order.state, order.robot, order.attempts) == (OrderState.SETTLED, robot, 1)


def test_a_robot_that_hears_nothing_of_its_battery_finishes_what_it_has_but_takes_nothing_new():
    yard = Yard()
    order = yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: yard.holder("o1") is not None)
    robot = yard.holder("o1")
    yard.until(lambda: yard.bodies[robot].moving)
    yard.bodies[robot].silent = ("battery_state",)
    yard.until(yard.all_over)
    assert (order.state, order.robot) == (OrderState.SETTLED, robot)
    yard.order("o2", "shelf-c1", "shipping-1")
    yard.until(yard.all_over)
    assert yard.market.state.orders["o2"].robot != robot


def test_a_battery_too_empty_for_an_order_is_charged_first_and_no_longer_than_needed():
    yard = Yard(capacity_wh=6.0)
    for body in yard.bodies.values():
        body.soc = 0.26
    order = yard.order("far", "receiving-1", "shipping-4", max_price_uc=100 * CREDIT)
    yard.until(lambda: yard.holder("far") is not None, 10)
    robot = yard.holder("far")
    body, charged, most = yard.bodies[robot], False, 0.0
    while order.state not in OVER:
        yard.tick()
        charged = charged or yard.agents[robot].doing is Doing.CHARGING
        most = max(most, body.soc)
        assert body.soc > body.kind.battery.reserve_soc
        assert yard.now_s < 900
    assert order.state is OrderState.SETTLED
    assert charged
    assert 0.26 < most < body.kind.battery.target_soc - 0.2
    yard.check_end()


def test_a_robot_that_has_broken_into_its_reserve_with_a_parcel_aboard_charges_and_goes_on():
    yard = Yard(capacity_wh=12.0)
    order = yard.order("o1", "receiving-1", "shipping-4", max_price_uc=100 * CREDIT)
    yard.until(lambda: any("o1" in body.parcels and body.moving for body in yard.bodies.values()))
    robot = yard.holder("o1")
    body = yard.bodies[robot]
    body.soc = 0.19
    yard.tick()
    yard.end(robot, body, End.CANCELLED, "stopped by hand")
    yard.until(lambda: yard.agents[robot].doing is Doing.CHARGING, 30)
    yard.until(lambda: order.state in OVER)
    assert (order.state, order.robot) == (OrderState.SETTLED, robot)
    yard.check_end()


@given(seed=st.integers(0, 2**16), lossy=st.sampled_from([0.0, 0.05]), data=st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_all_parcels_arrive_and_no_money_is_lost(seed, lossy, data):
    yard = Yard(seed=seed, lossy=lossy, parcels=3)
    names = iter(range(1000))
    for _ in range(data.draw(st.integers(1, 8))):
        match data.draw(st.sampled_from(["order", "order", "order", "kill", "cancel", "stop"])):
            case "order":
                ends = data.draw(st.tuples(st.sampled_from(PLACES), st.sampled_from(DOCKS)))
                mass_kg = data.draw(st.sampled_from([1.0, 4.0, 8.0]))
                yard.order(f"o{next(names)}", *ends, payload_kg=mass_kg, max_price_uc=40 * CREDIT)
            case "kill" if len(yard.agents) > 3:
                yard.kill(data.draw(st.sampled_from(sorted(yard.agents))))
            case "cancel" if yard.market.state.orders:
                yard.cancel(data.draw(st.sampled_from(sorted(yard.market.state.orders))))
            case "stop" if working := [n for n in sorted(yard.agents) if yard.bodies[n].job is not None]:
                victim = data.draw(st.sampled_from(working))
                yard.end(victim, yard.bodies[victim], End.FAILED, "blocked")
        yard.run(data.draw(st.integers(1, 40)))
        yard.check_books()
    yard.until(yard.all_over, 2000)
    yard.run(300 * TICK_S)
    yard.check_end()
