"""Robots' agents against the market and the traffic control, one parcel at a time."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robot_yard import CREDIT, DOCKS, OVER, PLACES, TICK_S, Yard

from fleet_market.body import End, Link
from fleet_market.contracts import MarketTerms
from fleet_market.ids import MessageId
from fleet_market.protocol.messages import Ask, Call, Cancel, Complete, OrderState, Phase, Progress
from fleet_market.robot.agent import Doing
from fleet_market.robot.losses import RETRY_FAULT_S


def test_an_order_is_bid_for_driven_proved_and_paid():
    yard = Yard()
    order = yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    yard.run(60)
    assert all(agent.doing in (Doing.IDLE, Doing.CHARGING) for agent in yard.agents.values())
    for name, body in yard.bodies.items():
        if yard.agents[name].doing is Doing.IDLE:
            assert body.pose.distance_to(yard.floor.homes[name].x, yard.floor.homes[name].y) < 0.3
    yard.check_end()


def test_two_orders_in_a_row_are_queued_by_one_robot_and_both_are_done():
    yard = Yard()
    orders = [yard.order(f"o{i}", PLACES[i], DOCKS[i % 4]) for i in range(12)]
    queues = 0
    while not yard.all_over():
        yard.tick()
        queues = max(queues, *(len(agent.tasks) for agent in yard.agents.values()))
        assert yard.now_s < 900
    assert [o.state for o in orders] == [OrderState.SETTLED] * 12
    assert queues >= 2
    yard.check_end()


@pytest.mark.slow
def test_a_burst_of_forty_orders_on_six_robots_is_awarded_in_one_batch_and_done():
    yard = Yard(max_tasks=16, terms=MarketTerms(resale=False))  # half of its time; `test_resale` has re-auctions
    yard.run(1)
    orders = [
        yard.order(f"o{i}", PLACES[i % 20], DOCKS[i % 4], deadline_s=4000.0, max_price_uc=60 * CREDIT) for i in range(40)
    ]
    yard.until(lambda: not any(o.state in (OrderState.SCHEDULED, OrderState.OPEN) for o in orders), 5)
    assert len({o.records[-1].call for o in orders}) == 1, "one batch"
    assert max(o.records[-1].round for o in orders) > len(orders) / len(yard.agents)
    assert all(o.ask_uc <= o.price_uc <= o.max_price_uc for o in orders)
    yard.until(yard.all_over, 2500)
    assert [(o.state, o.attempts) for o in orders] == [(OrderState.SETTLED, 1)] * 40
    yard.check_end()


def test_the_market_hears_at_once_how_far_a_task_is_and_whether_the_parcel_is_aboard():
    yard = Yard()
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: order.state is OrderState.EXECUTING)
    behind = 0
    while order.state is OrderState.EXECUTING:
        yard.tick()
        for contract in yard.market.state.contracts.values():
            told = (contract.phase, contract.aboard)
            known = [(t.phase, t.aboard) for t in yard.agents[contract.robot].tasks if t.award.contract == contract.id]
            behind = behind + 1 if known and told != known[0] else 0
            assert behind <= 1, (told, known)
    assert order.state is OrderState.SETTLED


@pytest.mark.parametrize(("held_up_s", "answered"), [(5.0, True), (9.0, False)])
def test_a_call_that_was_held_up_beyond_its_end_is_answered_if_it_is_not_too_old(held_up_s, answered):
    yard, held, post = Yard(), [], Yard.post

    def holding(send):
        if isinstance(send.body, Call) and (not held or held[0].body.call == send.body.call):
            held.append(send)
        else:
            post(yard, send)

    yard.post = holding
    order = yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: held)
    assert held[0].body.close_ns - yard.now_ns < 3e9
    yard.run(held_up_s)
    del yard.post
    for send in held:
        yard.post(send)
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    call = held[0].body.call
    said = {name for name in yard.agents for one in yard.said[name] if isinstance(one, Ask) and one.call == call}
    assert said == (set(yard.agents) if answered else set())
    yard.check_end()


def test_contracts_that_wait_give_a_sign_of_life_three_times_in_a_lease():
    yard, signs = Yard(), Counter()
    handle = yard.market.handle

    def counting(command):
        if isinstance(command.body, Progress):
            signs[command.body.contract, command.body.phase] += 1
        return handle(command)

    yard.market.handle = counting
    for i in range(12):
        yard.order(f"o{i}", PLACES[i], DOCKS[i % 4])
    yard.run(10)
    contracts = yard.market.state.contracts
    waiting = {name for name, contract in contracts.items() if contract.phase is Phase.QUEUED}
    signs.clear()
    yard.run(yard.market.state.terms.lease_s)
    still = [name for name in waiting if name in contracts and contracts[name].phase is Phase.QUEUED]
    assert still
    assert all(2 <= signs[name, Phase.QUEUED] <= 4 for name in still), signs
    aboard = [count for (_, phase), count in signs.items() if phase is Phase.TO_DROPOFF]
    assert max(aboard) > 4


@pytest.mark.parametrize("aboard", [False, True])
def test_the_task_of_a_killed_robot_is_done_by_another_with_the_parcel_if_it_is_aboard(aboard):
    yard = Yard()
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    body = yard.bodies[victim]
    at_work = (lambda: "o1" in body.parcels and body.moving) if aboard else (lambda: body.moving)
    yard.until(at_work)
    yard.run(4)
    yard.kill(victim)
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    assert order.robot != victim
    assert not body.parcels
    yard.check_end()


def test_a_robot_that_comes_back_to_life_goes_home_and_works_again():
    yard = Yard()
    yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    yard.until(lambda: yard.bodies[victim].moving)
    yard.run(3)
    yard.kill(victim)
    yard.run(5)
    yard.start(victim, session=2)
    yard.until(lambda: yard.market.state.orders["o1"].state in OVER)
    home = yard.floor.homes[victim]
    yard.until(lambda: yard.bodies[victim].pose.distance_to(home.x, home.y) < 0.3)
    yard.check_end()


@pytest.mark.parametrize("aboard", [False, True])
def test_a_robot_that_cannot_move_gives_its_task_up_and_another_does_it(aboard):
    yard = Yard()
    order = yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    body = yard.bodies[victim]
    yard.until(lambda: body.moving and (not aboard or "o1" in body.parcels))
    body.stuck = True
    yard.run(3)
    yard.end(victim, body, End.FAILED, "blocked: told to drive, but does not move")
    assert yard.agents[victim].doing is Doing.FAULT
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    assert order.robot != victim
    body.stuck = False
    yard.run(300)
    assert not body.parcels
    assert yard.agents[victim].doing in (Doing.IDLE, Doing.CHARGING)
    yard.check_end()


def test_a_robot_that_never_gets_leave_to_drive_gives_its_task_up():
    yard = Yard()
    order = yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    victim = yard.holder("o1")
    body = yard.bodies[victim]
    yard.until(lambda: body.moving)
    body.stuck = True  # its driver says nothing: as if it waited for others
    yard.until(lambda: order.state in OVER, 900)
    assert order.state is OrderState.SETTLED
    assert order.robot != victim


@pytest.mark.parametrize("when", ["queued", "driving", "loading", "aboard"])
def test_a_cancelled_order_is_dropped_whatever_the_robot_is_doing(when):
    yard = Yard()
    order = yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    robot = yard.holder("o1")
    agent, body = yard.agents[robot], yard.bodies[robot]
    condition = {
        "queued": lambda: True,
        "driving": lambda: body.moving,
        "loading": lambda: body.job is not None and body.step == 1,
        "aboard": lambda: "o1" in body.parcels and body.moving,
    }[when]
    yard.until(condition)
    assert yard.cancel("o1") == "cancelled", "confirmed at once"
    pickup = order.pickup
    yard.run(400)
    assert order.state is OrderState.CANCELLED
    assert not body.parcels
    assert agent.doing in (Doing.IDLE, Doing.CHARGING)
    if when == "aboard":
        down = [b for b in yard.said[robot] if isinstance(b, Complete)][-1].steps[-1].pose
        assert math.dist((down.x, down.y), (pickup.x, pickup.y)) <= pickup.radius_m + 0.1
        assert order.price_uc > 0
    yard.check_end()


def test_a_robot_that_cannot_set_a_lost_parcel_down_waits_before_it_tries_again():
    yard = Yard()
    yard.order("o1", "shelf-c2", "shipping-2")
    yard.until(lambda: yard.holder("o1") is not None)
    robot = yard.holder("o1")
    body = yard.bodies[robot]
    yard.until(lambda: body.job is not None and body.step == 1)
    (task,) = yard.agents[robot].tasks
    lost = Cancel(contract=task.award.contract, reason="sold to another", bring_back=False)
    yard.carry_out(robot, yard.agents[robot].hear(MessageId("lost"), lost, yard.now_ns))
    yard.until(lambda: body.job is not None and body.job.steps[-1].kind == "unload")
    for _ in range(3):
        yard.end(robot, body, End.FAILED, "the wheels are stuck")
        assert body.job is None, "tries again in the same instant"
        failed_s = yard.now_s
        yard.until(lambda: body.job is not None)
        assert yard.now_s - failed_s >= RETRY_FAULT_S - TICK_S
    yard.until(lambda: not body.parcels)


def test_a_robot_below_its_reserve_charges_first_and_two_never_share_a_charger():
    yard = Yard()
    for name, body in yard.bodies.items():
        body.soc = 0.1 if name.startswith("runner") else 0.9
    at_charger = Counter()
    for _ in range(round(500 / TICK_S)):
        yard.tick()
        for k, charger in enumerate(yard.floor.chargers):
            here = [n for n, b in yard.bodies.items() if b.pose.distance_to(charger.x, charger.y) < 0.3]
            assert len(here) <= 1
            at_charger.update((k, n) for n in here)
    assert {name for _, name in at_charger} == {"runner-1", "runner-2", "runner-3"}
    assert all(body.soc >= 0.79 for name, body in yard.bodies.items() if name.startswith("runner"))
    yard.check_end()


def test_whoever_cannot_do_an_order_says_why():
    yard = Yard()
    for body in yard.bodies.values():
        body.soc = 0.9
    yard.bodies["carrier-1"].silent = ("battery_state",)
    yard.bodies["carrier-2"].link = Link.STALE
    yard.bodies["carrier-3"].soc = 0.201
    yard.tick()
    order = yard.order("heavy", "shelf-a1", "shipping-1", payload_kg=15.0, deadline_s=100.0)
    yard.until(lambda: order.records)
    outcomes = {line.robot: line.outcome for line in yard.why("heavy").records[-1].asks}
    assert outcomes["carrier-1"] == "declined: silent (battery_state)"
    assert outcomes["carrier-2"].startswith("declined: silent")
    assert outcomes["carrier-3"].startswith("declined: charging (20%, back at 25%")
    assert {outcomes[f"runner-{i}"] for i in (1, 2, 3)} == {"declined: payload (carries 8 kg at most)"}


def test_after_a_restart_of_the_market_robots_ask_for_their_way_again_and_finish():
    yard = Yard()
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: yard.holder("o1") is not None)
    body = yard.bodies[yard.holder("o1")]
    yard.until(lambda: "o1" in body.parcels and body.moving)
    yard.traffic, yard.epoch = yard.floor.traffic(), 2
    for robot in yard.bodies:
        yard.traffic.lost(robot, yard.now_ns)
    yard.open({})
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED


@given(seed=st.integers(0, 2**16), lossy=st.sampled_from([0.0, 0.05]), data=st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_all_orders_end_and_no_money_is_lost(seed, lossy, data):
    yard = Yard(seed=seed, lossy=lossy)
    names = iter(range(1000))
    for _ in range(data.draw(st.integers(1, 8))):
        match data.draw(st.sampled_from(["order", "order", "order", "kill", "cancel"])):
            case "order":
                ends = data.draw(st.tuples(st.sampled_from(PLACES), st.sampled_from(DOCKS)))
                yard.order(f"o{next(names)}", *ends, payload_kg=data.draw(st.sampled_from([1.0, 8.0, 18.0])))
            case "kill" if len(yard.agents) > 3:
                yard.kill(data.draw(st.sampled_from(sorted(yard.agents))))
            case "cancel" if yard.market.state.orders:
                order = data.draw(st.sampled_from(sorted(yard.market.state.orders)))
                yard.cancel(order)
        yard.run(data.draw(st.integers(1, 40)))
        yard.check_books()
    yard.until(yard.all_over, 1500)
    yard.check_end()
