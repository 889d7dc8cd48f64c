import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gamma, gammainc

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.pricing import PlanLeg, Tariff, TaskPlan, duration_s, energy_j, price
from fleet_market.pricing.duty import Duty, duty_of, rated_current_a
from fleet_market.pricing.life import calendar_rent_uc_per_h
from fleet_market.pricing.renewal import AgeReplacement
from fleet_market.pricing.wear import PARTS, arm_rated_h, drive_replacement, wear

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = next(r.type for r in FLEET.robots if r.type.name == "carrier")
EUR_UC = 100_000_000


def with_wear(**more):
    return CARRIER.model_copy(update={"wear": CARRIER.wear.model_copy(update=more)})


TOOLED = with_wear(brush_set_uc=40 * EUR_UC, arm_set_uc=1500 * EUR_UC)
SKID = TOOLED.model_copy(update={"drive": "skid", "wheelbase_m": 0.5})
FIELDS = list(Duty.__dataclass_fields__)
numbers = st.floats(0.0, 1e6)
duties = st.builds(Duty, **dict.fromkeys(FIELDS, numbers) | {"c_rate": st.floats(0, 5), "current_ratio": st.floats(0, 5)})
robots = st.sampled_from([CARRIER, TOOLED, SKID])
legs = st.builds(PlanLeg, st.floats(0, 500), st.floats(0, 50), st.integers(1, 20), st.floats(0, 20))


def zero(**more):
    return Duty(**dict.fromkeys(FIELDS, 0.0) | more)


def duty(plan, robot):
    return duty_of(plan, robot, energy_j(plan, robot), duration_s(plan, robot))


@given(duties, robots)
def test_no_wear_is_negative_or_endless_and_the_parts_add_up(given_duty, robot):
    cost = wear(given_duty, robot)
    terms = cost.terms()
    assert tuple(terms) == PARTS
    assert all(0 <= float(x) < math.inf for t in terms.values() for x in (t.uc, t.share))
    assert float(cost.total_uc) == sum(float(t.uc) for t in terms.values())


@given(st.lists(duties, min_size=1, max_size=5), robots)
def test_an_array_of_duties_costs_what_each_costs_alone(each, robot):
    arrays = Duty(**{name: np.array([getattr(d, name) for d in each]) for name in FIELDS})
    together = wear(arrays, robot)
    for part in PARTS:
        for name in ("uc", "share"):
            alone = [float(getattr(getattr(wear(d, robot), part), name)) for d in each]
            assert np.shape(getattr(getattr(together, part), name)) == (len(each),)
            assert getattr(getattr(together, part), name).tolist() == pytest.approx(alone)


@given(duties, st.sampled_from(FIELDS), st.floats(0.1, 10.0), robots)
def test_more_duty_never_wears_less(less, field, more, robot):
    grown = Duty(**{name: getattr(less, name) + (more if name == field else 0.0) for name in FIELDS})
    for part in PARTS:
        assert getattr(wear(grown, robot), part).share >= getattr(wear(less, robot), part).share


@given(st.lists(legs, min_size=1, max_size=3), legs, robots)
def test_a_task_more_never_lowers_throughput_tread_or_drive_hours(plan, leg, robot):
    less, grown = duty(TaskPlan(tuple(plan)), robot), duty(TaskPlan((*plan, leg)), robot)
    assert grown.energy_out_j >= less.energy_out_j
    assert grown.drive_h >= less.drive_h
    assert wear(grown, robot).tread.uc >= wear(less, robot).tread.uc
    assert wear(grown, robot).drive.uc >= wear(less, robot).drive.uc


def test_time_alone_is_no_price_of_a_task_but_rent():
    waits = TaskPlan((PlanLeg(10.0, 1.0, 1, 0.0),), dwell_s=10_000.0)
    goes = TaskPlan((PlanLeg(10.0, 1.0, 1, 0.0),))
    slow = duty_of(waits, CARRIER, 5000.0, duration_s(waits, CARRIER))
    fast = duty_of(goes, CARRIER, 5000.0, duration_s(goes, CARRIER))
    assert slow.drive_h == pytest.approx(fast.drive_h)
    assert wear(slow, CARRIER).battery.uc <= wear(fast, CARRIER).battery.uc
    assert wear(zero(), CARRIER).total_uc == 0
    assert calendar_rent_uc_per_h(CARRIER.battery) > 0


def test_the_ask_holds_the_wear_of_its_plan():
    plan = TaskPlan((PlanLeg(30.0, 2.0, 2, 5.0),), 8.0)
    quote, terms = price(plan, CARRIER, Tariff(25)), wear(duty(plan, CARRIER), CARRIER).terms()
    assert {name: quote.part_uc(name) for name in terms} == {name: math.ceil(term.uc) for name, term in terms.items()}
    assert quote.part_uc("battery") > 0


def test_what_a_plan_asks_of_the_parts_by_hand():
    plan = TaskPlan((PlanLeg(10.0, 1.0, 1, 0.0), PlanLeg(20.0, 3.0, 1, 19.0)), 8.0)
    found = duty_of(plan, CARRIER, 4800.0, 100.0)
    assert CARRIER.mass_kg == 38.0
    assert (found.travel_m, found.load_m, found.scrub_rad) == (30.0, pytest.approx(40.0), pytest.approx(5.5))
    assert found.drive_h == pytest.approx(92 / 3600)
    assert found.c_rate == pytest.approx(4800 / 3600 / 480 / (100 / 3600))
    assert duty_of(plan, CARRIER, 0.0, 0.0).c_rate == 0


def test_the_current_of_a_plan_by_hand():
    motor, plan = CARRIER.motor, TaskPlan((PlanLeg(10.0, 0.0, 1, 0.0),))
    share = 2.0 / 12.0  # 2 of 12 s speed up, at 1 m/s and 0.5 m/s2
    force = 38.0 * (0.015 * 9.80665 + share * 0.5)
    geared = motor.gear_ratio * motor.gear_efficiency * motor.torque_constant_nm_a
    current = force * 0.1 / 2 / geared + motor.no_load_current_a
    assert rated_current_a(CARRIER) == pytest.approx(5.0 / geared + motor.no_load_current_a)
    assert duty(plan, with_wear(rated_current_a=2.0)).current_ratio == pytest.approx(current / 2.0)


def test_a_life_of_duty_costs_each_part_once():
    spec = TOOLED.wear
    gears = drive_replacement(TOOLED)
    life = zero(load_m=spec.tread_life_m)
    assert wear(life, TOOLED).tread.uc == pytest.approx(spec.tread_set_uc)
    assert wear(zero(drive_h=gears.mean_life_h), TOOLED).drive.uc == pytest.approx(gears.renewal_uc)
    assert wear(zero(drive_h=spec.brush_life_h, current_ratio=1.0), TOOLED).brushes.uc == pytest.approx(spec.brush_set_uc)
    assert wear(zero(arm_rated_h=35_000.0), TOOLED).arm.uc == pytest.approx(spec.arm_set_uc)


def test_slip_turns_load_current_and_torque_wear_by_their_laws():
    straight, slippery = wear(zero(load_m=100.0), CARRIER), wear(zero(load_m=100.0), with_wear(tread_slip=0.03))
    assert slippery.tread.share == pytest.approx(3 * straight.tread.share)
    turning, skidding = wear(zero(scrub_rad=1.0), TOOLED).tread.share, wear(zero(scrub_rad=1.0), SKID).tread.share
    per_sliding = 0.01 * CARRIER.wear.tread_life_m
    assert turning == pytest.approx((0.01 * 0.18 + 2 / 3 * 0.004) / per_sliding)
    assert skidding - turning == pytest.approx(0.25 / per_sliding)
    twice = wear(zero(drive_h=1.0, current_ratio=2.0), TOOLED).brushes.share
    assert twice == pytest.approx(2**1.5 * wear(zero(drive_h=1.0, current_ratio=1.0), TOOLED).brushes.share)
    assert arm_rated_h(10.0, 0.5, 0.5) == pytest.approx(10 * 0.5 * 0.125)


def test_what_was_learnt_of_the_battery_scales_its_price():
    work = zero(energy_out_j=1e5, c_rate=0.2)
    assert wear(work, CARRIER, battery_factor=1.2).battery.uc == pytest.approx(1.2 * wear(work, CARRIER).battery.uc)


# gear motors


def test_the_long_run_rate_of_the_reference_example():
    gears = AgeReplacement(250 * EUR_UC, 800 * EUR_UC, 10_500.0, 15_000.0, 2.0)
    mean_life = 15_000 * math.sqrt(math.pi) / 2 * math.erf(0.7)
    assert gears.mean_life_h == pytest.approx(mean_life, rel=1e-9)
    assert gears.rate_uc_per_h / EUR_UC == pytest.approx(0.0514, abs=1e-4)
    for interval in (9_500.0, 11_500.0):
        other = AgeReplacement(250 * EUR_UC, 800 * EUR_UC, interval, 15_000.0, 2.0)
        assert other.rate_uc_per_h > gears.rate_uc_per_h


@pytest.mark.parametrize("shape", [1.0, 1.3, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("interval_h", [10.0, 1000.0, 3000.0])
def test_the_mean_life_is_the_incomplete_gamma_functions(shape, interval_h):
    whole = 1000.0 / shape * gamma(1 / shape)
    expected = whole * gammainc(1 / shape, (interval_h / 1000.0) ** shape)
    assert AgeReplacement(1, 2, interval_h, 1000.0, shape).mean_life_h == pytest.approx(expected, rel=1e-9)


def test_a_part_that_never_fails_costs_its_price_over_its_interval():
    gears = AgeReplacement(100, 900, 50.0)
    assert (gears.survival, gears.mean_life_h, gears.renewal_uc) == (1.0, pytest.approx(50.0), 100)
    assert gears.marginal_uc(49.0, 1.0) == pytest.approx(2.0)


@given(st.floats(1.0, 5.0), st.floats(0.2, 3.0), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_hazard_collects_over_lives_what_they_cost(shape, scale, planned_uc, failure_uc):
    gears = AgeReplacement(planned_uc, failure_uc, 1000.0, 1000.0 * scale, shape)
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    lives = np.minimum(1000.0 * scale * (-np.log(quantiles)) ** (1 / shape), 1000.0)
    collected = np.mean(gears.marginal_uc(np.zeros(len(lives)), lives))
    assert collected == pytest.approx(gears.renewal_uc, rel=5e-3, abs=1e-3)
    assert gears.rate_uc_per_h * lives.mean() == pytest.approx(gears.renewal_uc, rel=5e-3, abs=1e-3)


def test_old_gear_motors_are_dearer_by_the_hazard():
    work = zero(drive_h=1.0)
    young, old = (wear(work, CARRIER, drive_age_h=age).drive.uc for age in (100.0, 9000.0))
    assert young < wear(work, CARRIER).drive.uc < old


def test_a_robots_node_needs_neither_scipy_nor_numba_to_price_wear():
    modules = "fleet_market.pricing.components, fleet_market.pricing.soc_trace"
    code = f"import sys, {modules}; print({{'scipy', 'numba'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
