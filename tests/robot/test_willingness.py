"""Whether a robot asks for tasks at all: switched off, limited, and what it would ask."""

import pytest
from robot_yard import CREDIT, S, Yard

from fleet_market.ids import OrderId
from fleet_market.protocol.messages import DeclineReason, OrderState, Place
from fleet_market.robot.agent import Doing
from fleet_market.robot.bidding import Offer
from fleet_market.robot.queue import Errand


def lot(**more):
    values = {
        "order": OrderId("x"), "pickup": Place(x=10.5, y=3.5), "dropoff": Place(x=23.0, y=6.0), "payload_kg": 2.0,
        "deadline_ns": 900 * S,
    }  # fmt: skip
    return Errand(**{**values, **more})


def test_a_robot_that_does_not_bid_wins_nothing_and_finishes_what_it_has():
    yard = Yard()
    first = yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: yard.holder("o1") is not None)
    for agent in yard.agents.values():
        agent.situation.bidding = False
    second = yard.order("o2", "shelf-b1", "shipping-2")
    yard.until(lambda: first.state is OrderState.SETTLED)
    assert second.state is OrderState.OPEN
    yard.until(lambda: all(agent.at_rest for agent in yard.agents.values()))
    assert all(agent.doing in (Doing.IDLE, Doing.CHARGING) for agent in yard.agents.values())
    next(iter(yard.agents.values())).situation.bidding = True
    yard.until(lambda: second.state is OrderState.SETTLED)


def test_a_robot_with_work_is_not_at_rest():
    yard = Yard()
    yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: yard.holder("o1") is not None)
    assert sum(not agent.at_rest for agent in yard.agents.values()) == 1


@pytest.mark.parametrize(("limit", "most"), [(None, 3), (1, 1), (2, 2), (50, 3)])
def test_the_limit_of_tasks_never_goes_above_that_of_the_type(limit, most):
    yard = Yard()
    agent = next(iter(yard.agents.values()))
    agent.situation.max_tasks = limit
    assert agent.situation.most_tasks == most


def test_a_limit_of_one_task_is_kept():
    yard = Yard()
    for agent in yard.agents.values():
        agent.situation.max_tasks = 1
    for i in range(8):
        yard.order(f"o{i}", "shelf-a1", "shipping-1", max_price_uc=60 * CREDIT)
    for _ in range(600):
        yard.tick()
        assert max(len(agent.tasks) for agent in yard.agents.values()) <= 1
    assert any(agent.tasks for agent in yard.agents.values())


def test_a_price_is_what_the_robot_asks_in_a_batch_and_asks_for_nothing():
    yard = Yard()
    yard.run(1)
    agent = yard.agents["carrier-1"]
    offer = agent.price(lot(), yard.now_ns)
    assert isinstance(offer, Offer)
    assert sum(offer.parts_uc) == offer.ask_uc > 0
    assert not agent.tasks
    assert agent.price(lot(payload_kg=500.0), yard.now_ns).reason is DeclineReason.PAYLOAD
    agent.situation.bidding = False
    assert agent.price(lot(), yard.now_ns).detail == "does not bid now"
    agent.situation.telemetry = None
    agent.situation.bidding = True
    assert agent.price(lot(), yard.now_ns).reason is DeclineReason.SILENT
