"""What a robot tells of the energy that a contract takes while it works: the meter's figure, or nothing."""

from dataclasses import replace

import pytest
from robot_yard import Body, Yard

from fleet_market.protocol.messages import Complete, OrderState, Progress


def watch(yard, monkeypatch):
    """Keep the signs of life too; the yard keeps what proves something."""
    heard, give = [], yard.give

    def keep(source, body, *more, **others):
        if isinstance(body, Progress):
            heard.append(body.energy_j)
        return give(source, body, *more, **others)

    monkeypatch.setattr(yard, "give", keep)
    return heard


def test_the_energy_so_far_grows_on_the_way_up_to_what_is_proved_and_the_customer_sees_it(monkeypatch):
    yard = Yard()
    heard, seen = watch(yard, monkeypatch), []
    order = yard.order("o1", "shelf-b3", "shipping-4")
    yard.until(lambda: order.state is OrderState.EXECUTING)
    while order.state is OrderState.EXECUTING:
        if (so_far_j := order.view().energy_so_far_j) is not None:
            seen.append(so_far_j)
        yard.tick()
    assert order.state is OrderState.SETTLED
    assert heard == sorted(heard)
    assert len(set(heard)) > 5, "on the way, not only at the stops"
    assert 0 < heard[-1] <= order.measured_energy_j
    assert heard[-1] == pytest.approx(order.measured_energy_j, rel=0.3)
    assert set(seen) <= set(heard)
    assert len(set(seen)) > 5
    assert (order.view().energy_so_far_j, order.view().measured_energy_j) == (None, order.measured_energy_j)


def test_a_robot_without_a_meter_tells_no_energy_and_none_is_called_measured(monkeypatch):
    with_meter = Body.telemetry

    def without(body, now_s):
        now = with_meter(body, now_s)
        return replace(now, battery=replace(now.battery, energy_out_j=None))

    monkeypatch.setattr(Body, "telemetry", without)
    yard = Yard()
    heard = watch(yard, monkeypatch)
    order = yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: order.state is OrderState.SETTLED)
    assert set(heard) == {None}
    assert [b.energy_j for b in yard.said[order.robot] if isinstance(b, Complete)] == [None]
    assert order.view().measured_energy_j is None
    assert order.view().predicted_energy_j > 0


def test_parcels_that_travel_together_share_the_figure_of_the_leg_that_is_driven(monkeypatch):
    yard = Yard(parcels=2)
    yard.order("o1", "shelf-c1", "shipping-1")
    yard.until(lambda: yard.holder("o1") is not None)
    robot = yard.holder("o1")
    yard.order("o2", "shelf-c2", "shipping-1")
    agent, body = yard.agents[robot], yard.bodies[robot]
    yard.until(lambda: set(body.parcels) == {"o1", "o2"} and body.moving)
    before, drawn_j = [agent.energy_so_far_j(task) for task in agent.tasks], body.used_j
    yard.run(2.0)
    grown = [agent.energy_so_far_j(task) - was_j for task, was_j in zip(agent.tasks, before, strict=True)]
    assert grown[0] == pytest.approx(grown[1])
    assert sum(grown) == pytest.approx(body.used_j - drawn_j)
