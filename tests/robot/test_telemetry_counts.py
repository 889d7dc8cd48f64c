"""What telemetry says of meters, of the battery's age and of faults has consequences: for learning, prices and bids."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from robot_yard import OVER, Yard

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import Fault
from fleet_market.errors import InputError
from fleet_market.pricing import PlanLeg, Tariff, TaskPlan, duration_s, energy_j
from fleet_market.pricing.health import PackAge, cycles_share, share_at
from fleet_market.pricing.life import planned_life
from fleet_market.protocol.messages import Complete, DeclineReason, OrderState
from fleet_market.robot.agent import Doing
from fleet_market.robot.bidding import Refusal
from fleet_market.robot.losses import GIVE_UP_FAULT_S
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = FLEET.types["carrier"]
TARIFF = Tariff(25_000_000)
PLAN = TaskPlan((PlanLeg(20.0, 3.0, 2, 0.0), PlanLeg(15.0, 2.0, 1, 5.0)), 8.0)
BROKEN = Fault("left_wheel", "CRITICAL", "over temperature\x07\n")
WORN = Fault("brushes", "WARNING", "replace them soon")


def settled_by(measures):
    yard = Yard(measures=frozenset(measures))
    order = yard.order("o1", "shelf-a1", "shipping-1")
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    yard.run(5)
    memory = yard.agents[order.robot].memory.export()
    return yard.agents[order.robot].memory, memory


def test_energy_that_is_derived_is_not_learned_as_if_it_were_measured():
    metered, _ = settled_by({"pose", "battery", "energy", "payload"})
    derived, told = settled_by({"pose", "battery", "payload"})
    assert metered.calibration.view().tasks == 1
    assert derived.calibration.view().tasks == 0
    assert told["durations"] == metered.export()["durations"], "time is measured by both"


@pytest.mark.parametrize("lost_first", [True, False])
def test_two_counts_of_energy_are_never_mixed(lost_first):
    yard = Yard()
    order = yard.order("o1", "shelf-a1", "shipping-1")
    for body in yard.bodies.values():
        body.meter = not lost_first
    yard.until(lambda: order.robot is not None and yard.bodies[order.robot].moving)
    yard.run(3)
    for body in yard.bodies.values():
        body.meter = lost_first
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED
    yard.run(5)
    (complete,) = (said for said in yard.said[order.robot] if isinstance(said, Complete))
    assert complete.energy_j is None
    assert yard.agents[order.robot].memory.calibration.view().tasks == 0


def test_a_robot_with_a_grave_fault_asks_for_nothing_until_it_is_gone():
    yard = Yard()
    yard.tick()
    for body in yard.bodies.values():
        body.faults = (WORN, BROKEN)
    order = yard.order("o1", "shelf-a1", "shipping-1")
    yard.run(30)
    assert order.robot is None
    agent = next(iter(yard.agents.values()))
    assert agent.doing is Doing.FAULT
    answer = agent.price(Errand(order.id, order.pickup, order.dropoff, 2.0, yard.now_ns + 10**12), yard.now_ns)
    assert (answer.reason, answer.detail) == (DeclineReason.FAULT, "left_wheel: over temperature  ")
    for body in yard.bodies.values():
        body.faults = (WORN,)
    yard.until(lambda: order.state in OVER)
    assert order.state is OrderState.SETTLED


def test_contracts_of_a_robot_that_breaks_down_are_done_by_others():
    yard = Yard()
    orders = [yard.order(f"o{i}", "shelf-a1", "shipping-1") for i in range(2)]
    yard.until(lambda: any(agent.tasks and agent.doing is not Doing.WORKING for agent in yard.agents.values()))
    sick = next(name for name, agent in yard.agents.items() if agent.tasks and agent.doing is not Doing.WORKING)
    yard.bodies[sick].faults = (BROKEN,)
    yard.run(GIVE_UP_FAULT_S - 1)
    held = [task.order for task in yard.agents[sick].tasks]
    assert held, "it may be a fault that passes"
    assert not yard.bodies[sick].moving
    yard.run(2)
    assert not yard.agents[sick].tasks
    yard.until(lambda: all(order.state in OVER for order in orders))
    assert {order.state for order in orders} == {OrderState.SETTLED}
    assert sick not in {order.robot for order in orders if order.id in held}


def test_an_aged_battery_is_driven_to_a_charger_earlier():
    yard = Yard(capacity_wh=40.0)
    yard.tick()
    name, agent = next(iter(yard.agents.items()))
    order = yard.order("o1", "shelf-a1", "shipping-1")
    lot = Errand(order.id, order.pickup, order.dropoff, 2.0, yard.now_ns + 10**13)

    def needs_no_charger(soc, health):
        yard.bodies[name].soc, yard.bodies[name].health = soc, health
        agent.sense(yard.bodies[name].telemetry(yard.now_s), 0, yard.now_ns)
        offer = agent.price(lot, yard.now_ns)
        return not isinstance(offer, Refusal) and not agent._dealer._bidder.drive(offer.queue).charges

    enough = {}
    for health in (None, 0.5):
        low, high = 0.0, 1.0
        for _ in range(9):
            middle = (low + high) / 2
            low, high = (low, middle) if needs_no_charger(middle, health) else (middle, high)
        enough[health] = high
    reserve = yard.kind(name).battery.reserve_soc
    assert enough[0.5] - reserve == pytest.approx(2 * (enough[None] - reserve), abs=0.02)


# --- the age of a pack --------------------------------------------------------------------------------------------------


def worn(memory, share):
    """Book about so much wear: tasks as alike as twins."""
    quote = memory.quote(PLAN, TARIFF)
    many = replace(quote.wear.battery, share=share / 20)
    for _ in range(20):
        memory.settled(
            PLAN,
            replace(quote, wear=replace(quote.wear, battery=many)),
            measured_j=energy_j(PLAN, CARRIER),
            executed_s=duration_s(PLAN, CARRIER),
            elapsed_s=0.0,
        )


def battery_uc(memory):
    return float(memory.quote(PLAN, TARIFF).wear.battery.uc)


def health_at(share):
    """The state of health at which `share_at` gives this share, by its inverse."""
    low, high = CARRIER.battery.end_capacity - 0.2, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if share_at(CARRIER.battery, middle) > share else (low, middle)
    return low


def test_a_pack_that_loses_capacity_faster_than_booked_makes_its_tasks_dearer():
    memory = Memory(CARRIER)
    new_uc = battery_uc(memory)
    memory.observe_age(health_at(0.1), 100)
    worn(memory, 0.2)
    assert battery_uc(memory) == pytest.approx(new_uc, rel=0.1), "the gauge has shown no loss, and one reading is no proof"
    memory.observe_age(health_at(0.5), 300)
    # By hand: p = 0.2, m = 0.4, s_f = 0.5, s_m^2 = 2 (0.01 / 0.2)^2: f = (0.02 + 0.005) / (0.01 + 0.005).
    assert battery_uc(memory) == pytest.approx(5 / 3 * new_uc, rel=0.03)
    assert memory.components.battery.damage == pytest.approx(0.5, abs=0.01)


def test_the_noise_of_a_gauge_moves_no_price_while_little_is_worn():
    memory = Memory(CARRIER)
    memory.observe_age(0.93, 100)
    worn(memory, 0.01)
    before_uc = battery_uc(memory)
    for health in (0.92, 0.94, 0.93, 0.92):
        memory.observe_age(health, 101)
    assert battery_uc(memory) == pytest.approx(before_uc, rel=0.1)


def test_another_pack_is_a_new_part():
    memory = Memory(CARRIER)
    memory.observe_age(0.85, 900)
    assert memory.components.battery.damage > 0.3
    memory.observe_age(1.01, 2)
    assert memory.components.battery.replacements == 1
    assert memory.components.battery.damage == 0.0
    assert memory.capacity_j == CARRIER.battery.capacity_wh * 3600.0
    memory.observe_age(1.0, 4)
    assert memory.components.battery.replacements == 1


def test_cycles_alone_tell_how_old_a_pack_is_that_is_seen_first():
    life = planned_life(CARRIER.battery)
    memory = Memory(CARRIER)
    memory.observe_age(None, CARRIER.battery.planned_efc_per_day * life.days / 4)
    assert memory.components.battery.damage == pytest.approx(0.25)
    assert memory.battery_factor == 1.0
    assert cycles_share(CARRIER.battery, 0.0) == 0.0


def test_the_age_is_kept_and_memories_without_it_are_read():
    memory = Memory(CARRIER)
    memory.observe_age(0.9, 321)
    worn(memory, 0.1)
    kept = json.loads(json.dumps(memory.export()))
    again = Memory(CARRIER)
    again.restore(kept, "m.json")
    assert again.export() == memory.export()
    assert again.age == memory.age
    del kept["age"]
    again.restore(kept, "m.json")
    assert again.age == PackAge()
    for wrong in ([], {}, {**memory.export()["age"], "health": -1}, {**memory.export()["age"], "booked": None}):
        with pytest.raises(InputError, match="age"):
            again.restore({**kept, "age": wrong}, "m.json")


readings = st.lists(
    st.tuples(st.none() | st.floats(0, 1.5), st.none() | st.floats(0, 65_000), st.floats(0, 0.2)), max_size=12
)


@given(readings)
def test_whatever_a_gauge_says_prices_and_capacity_stay_in_their_range(told):
    memory = Memory(CARRIER)
    plain_uc = battery_uc(memory)
    for health, cycles, share in told:
        memory.observe_age(health, cycles)
        memory.age = memory.age.after(share)
        assert 0 < memory.capacity_j <= CARRIER.battery.capacity_wh * 3600.0
        assert 0 <= memory.components.battery.damage < 1
        assert plain_uc * 0.25 <= battery_uc(memory) + 1e-6
        assert battery_uc(memory) <= plain_uc * 4 + 1e-6
        assert math.isfinite(memory.battery_factor)


@given(st.floats(0.1, 1.1), st.floats(0.1, 1.1))
def test_a_pack_with_less_health_is_nearer_to_its_end(a, b):
    battery = CARRIER.battery
    assert (share_at(battery, max(a, b)) <= share_at(battery, min(a, b))) or a == b
    assert share_at(battery, battery.end_capacity) == pytest.approx(1.0, abs=1e-6)
