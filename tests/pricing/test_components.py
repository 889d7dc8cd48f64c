import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.errors import InputError
from fleet_market.pricing.components import FACTOR_RANGE, Component, Components, Tally, from_json
from fleet_market.pricing.duty import Duty
from fleet_market.pricing.life import calendar_share_per_h
from fleet_market.pricing.wear import wear

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = FLEET.robots[0].type


def about(part, *expected):
    return [part.damage, part.hours, part.metres, part.replacements] == pytest.approx(expected)


WORK = Duty(energy_out_j=5000.0, c_rate=0.2, travel_m=50.0, load_m=55.0, scrub_rad=6.0, drive_h=0.02, current_ratio=0.3)


def test_a_task_is_booked_on_every_part():
    cost = wear(WORK, CARRIER)
    after = Components().after_task(cost, WORK).after_task(cost, WORK)
    assert after.battery.damage == pytest.approx(2 * cost.battery.share)
    assert about(after.tread, 2 * cost.tread.share, 0.0, 100.0, 0)
    assert about(after.drive, 2 * cost.drive.share, 0.04, 0.0, 0)
    assert after.arm == Component()


def test_a_part_is_replaced_at_the_end_of_its_life_and_the_rest_wears_the_new_one():
    old = Component(damage=0.9, hours=900.0, metres=50.0, replacements=2)
    assert about(old.used(0.05, 10.0, 1.0), 0.95, 910.0, 51.0, 2)
    assert about(old.used(0.4, 8.0, 4.0), 0.3, 6.0, 3.0, 3)
    assert old.used(2.3).replacements == 5


@given(st.lists(st.floats(0, 3), max_size=30))
def test_no_wear_is_lost_at_replacements(shares):
    part = Component()
    for share in shares:
        part = part.used(share)
    assert 0 <= part.damage < 1
    assert part.damage + part.replacements == pytest.approx(sum(shares), abs=1e-9)


def test_a_part_that_failed_is_new_and_counted():
    worn = Components(drive=Component(0.5, 5000.0))
    assert worn.with_replaced("drive").drive == Component(replacements=1)
    with pytest.raises(InputError, match="use one of battery, drive"):
        worn.with_replaced("wheel")


def test_time_ages_the_battery_alone():
    after = Components().after_time(7200.0, CARRIER)
    assert about(after.battery, 2 * calendar_share_per_h(CARRIER.battery), 2.0, 0.0, 0)
    assert replace(after, battery=Component()) == Components()
    with pytest.raises(ValueError, match="seconds"):
        Components().after_time(-1.0, CARRIER)


def test_measured_days_correct_the_factor_and_the_damage():
    assert Tally().factor == 1
    parts = Components(battery=Component(damage=0.1))
    after = parts.after_day(Tally(0.001, 0.0013), Tally(0.0002, 0.0001))
    assert after.battery.damage == pytest.approx(0.1 + 0.0003 - 0.0001)
    assert after.cycles.factor == pytest.approx(0.0063 / 0.006)
    again = after.after_day(Tally(0.001, 0.0013), Tally(0.0, 0.0))
    assert again.battery.damage == pytest.approx(after.battery.damage + 0.0013 - 0.001 * 0.0063 / 0.006)
    for _ in range(1000):
        after = after.after_day(Tally(0.001, 0.0013), Tally(0.0002, 0.0001))
    assert after.cycles.factor == pytest.approx(1.3, abs=0.01)
    assert after.calendar.factor == pytest.approx(0.5, abs=0.02)
    assert Tally(1.0, 100.0).factor == FACTOR_RANGE[1]


numbers = st.floats(0, 1e9)
components = st.builds(Component, numbers, numbers, numbers, st.integers(0, 10**6))
states = st.builds(
    Components, components, components, components, components, components, st.builds(Tally, numbers, numbers)
)


@given(states)
def test_the_state_survives_json(state):
    assert from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("version", 2, "version"),
        ("drive", None, "drive"),
        ("drive", {"damage": 0.0}, "drive"),
        ("drive", {"damage": -0.1, "hours": 0.0, "metres": 0.0, "replacements": 0}, "drive.damage"),
        ("drive", {"damage": float("nan"), "hours": 0.0, "metres": 0.0, "replacements": 0}, "drive.damage"),
        ("drive", {"damage": 0.1, "hours": 0.0, "metres": 0.0, "replacements": 0.5}, "drive.replacements"),
        ("drive", {"damage": 0.1, "hours": "1", "metres": 0.0, "replacements": 0}, "drive.hours"),
        ("cycles", {"planned": 0.0, "measured": True}, "cycles.measured"),
    ],
)
def test_a_broken_state_names_its_field(field, value, named):
    with pytest.raises(InputError) as caught:
        from_json(Components().to_json() | {field: value}, "amr-1.json")
    assert (caught.value.source, caught.value.field) == ("amr-1.json", named)


def test_a_part_cannot_have_impossible_numbers():
    for bad in ({"damage": -1.0}, {"hours": float("inf")}, {"replacements": -1}):
        with pytest.raises(ValueError, match="at least 0"):
            Component(**bad)
    with pytest.raises(ValueError, match="measured"):
        Tally(0.0, -1.0)
