import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.pricing import EnergyModel, PlanArray, PlanLeg, Tariff, TaskPlan, duration_s, energy_j, price, price_many
from fleet_market.pricing.drivetrain import G_MPS2
from fleet_market.pricing.kalman import Estimate
from fleet_market.pricing.margin import curse_factor
from fleet_market.protocol.messages import ASK_PARTS

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = next(r.type for r in FLEET.robots if r.type.name == "carrier")
RUNNER = next(r.type for r in FLEET.robots if r.type.name == "runner")
TARIFF = Tariff(25_000_000)

legs = st.builds(
    PlanLeg,
    length_m=st.floats(0, 500),
    turn_rad=st.floats(0, 50),
    halts=st.integers(1, 20),
    payload_kg=st.floats(0, 20),
)
plans = st.builds(lambda ls, dwell: TaskPlan(tuple(ls), dwell), st.lists(legs, min_size=1, max_size=4), st.floats(0, 100))
robots = st.sampled_from([CARRIER, RUNNER])


def straight(length_m, **more):
    return TaskPlan((PlanLeg(**({"length_m": length_m, "turn_rad": 0.0, "halts": 1, "payload_kg": 0.0} | more)),))


@given(plans, robots, st.floats(0, 1), st.floats(0, 1))
def test_the_parts_add_up_exactly_and_are_sound(plan, robot, energy_doubt, time_doubt):
    sheet = price(plan, robot, TARIFF)
    energy = Estimate(sheet.energy.mean, energy_doubt * sheet.energy.mean)
    lasts = Estimate(sheet.lasts.mean, time_doubt * sheet.lasts.mean)
    quote = price(plan, robot, TARIFF, energy=energy, lasts=lasts)
    assert len(quote.parts_uc) == len(ASK_PARTS)
    assert sum(quote.parts_uc) == quote.ask_uc
    assert min(quote.parts_uc) >= 0
    assert math.isfinite(quote.energy.mean)
    assert quote.energy.mean >= robot.hotel_w * quote.lasts.mean * (1 - 1e-9)
    assert sheet.part_uc("risk") == 0
    assert quote.ask_uc - quote.part_uc("risk") == sheet.ask_uc


@given(st.lists(plans, min_size=1, max_size=4), robots, st.floats(0, 1), st.floats(0, 1))
def test_many_plans_at_once_cost_what_each_costs_alone(several, robot, energy_doubt, time_doubt):
    sheets = [price(plan, robot, TARIFF) for plan in several]
    energies = [Estimate(sheet.energy.mean, energy_doubt * sheet.energy.mean) for sheet in sheets]
    times = [Estimate(1.1 * sheet.lasts.mean, time_doubt * sheet.lasts.mean) for sheet in sheets]
    quotes = [
        price(plan, robot, TARIFF, energy=energy, lasts=lasts, battery_factor=1.3)
        for plan, energy, lasts in zip(several, energies, times, strict=True)
    ]
    array = PlanArray.stack(several)
    many = price_many(
        array,
        EnergyModel(robot).features(array),
        robot,
        TARIFF,
        energy_j=(np.array([e.mean for e in energies]), np.array([e.sd for e in energies])),
        lasts_s=(np.array([t.mean for t in times]), np.array([t.sd for t in times])),
        battery_factor=1.3,
    )
    for row, quote in zip(many.parts_uc.tolist(), quotes, strict=True):
        assert row == pytest.approx(quote.parts_uc, rel=1e-9, abs=1)
    assert many.lasts_sd_s.tolist() == [t.sd for t in times]


def test_doubt_is_paid_for_and_time_at_the_charger_too():
    plan = straight(100.0)
    sheet = price(plan, CARRIER, TARIFF)
    unsure = price(plan, CARRIER, TARIFF, energy=Estimate(sheet.energy.mean, 0.1 * sheet.energy.mean), bidders=5)
    by_energy = sum(sheet.part_uc(part) for part in ("energy", "battery", "opportunity"))
    assert unsure.part_uc("risk") == pytest.approx(curse_factor(5) * 0.1 * by_energy, rel=1e-4)
    slow = price(plan, CARRIER, TARIFF, lasts=Estimate(sheet.lasts.mean, 36.0), bidders=5)
    assert slow.part_uc("risk") == pytest.approx(curse_factor(5) * CARRIER.time_rent_uc_per_h / 100, rel=1e-4)
    charging_s = sheet.energy.mean / (480.0 * 0.9 - 45.0)
    assert sheet.part_uc("opportunity") == pytest.approx(charging_s / 3600 * CARRIER.time_rent_uc_per_h, abs=1)


@given(plans, robots)
def test_calendar_ageing_is_rent_of_time_and_in_no_part_that_is_wear(plan, robot):
    resting = replace(plan, dwell_s=plan.dwell_s + 3600.0)
    for part in ("drive", "brushes", "tread", "arm"):
        assert abs(price(resting, robot, TARIFF).part_uc(part) - price(plan, robot, TARIFF).part_uc(part)) <= 1


@given(plans, robots, st.sampled_from(["length_m", "turn_rad", "payload_kg"]), st.floats(1.0, 10.0))
def test_more_of_anything_costs_more(plan, robot, field, more):
    first = plan.legs[0]
    if field == "payload_kg" and first.length_m < 1:
        first = replace(first, length_m=1.0)
    less = replace(plan, legs=(first, *plan.legs[1:]))
    grown = replace(plan, legs=(replace(first, **{field: getattr(first, field) + more}), *plan.legs[1:]))
    assert energy_j(grown, robot) > energy_j(less, robot)
    assert price(grown, robot, TARIFF).ask_uc > price(less, robot, TARIFF).ask_uc


def test_cruising_takes_the_power_that_the_motor_equation_gives_by_hand():
    m = CARRIER.motor
    torque = CARRIER.rolling_resistance * CARRIER.mass_kg * G_MPS2 * CARRIER.wheel_radius_m / 2
    current = torque / (m.gear_ratio * m.gear_efficiency * m.torque_constant_nm_a) + m.no_load_current_a
    omega = CARRIER.max_speed_mps / CARRIER.wheel_radius_m * m.gear_ratio
    power = 2 * current * (current * m.resistance_ohm + m.torque_constant_nm_a * omega) / m.driver_efficiency
    per_metre = (energy_j(straight(200), CARRIER) - energy_j(straight(100), CARRIER)) / 100
    assert per_metre == pytest.approx((power + CARRIER.hotel_w) / CARRIER.max_speed_mps, rel=1e-9)


@pytest.mark.parametrize("robot", [CARRIER, RUNNER], ids=lambda r: r.name)
@pytest.mark.parametrize(("length_m", "halts", "payload_kg"), [(10.0, 1, 0.0), (10.0, 4, 8.0), (1.0, 1, 5.0)])
def test_the_closed_form_is_the_integral_of_the_motor_equation_over_the_speed_profile(robot, length_m, halts, payload_kg):
    m, mass, dt = robot.motor, robot.mass_kg + payload_kg, 1e-4
    top = min(robot.max_speed_mps, math.sqrt(robot.max_accel_mps2 * length_m / halts))
    ramp_s, cruise_s = top / robot.max_accel_mps2, length_m / halts / top - top / robot.max_accel_mps2
    total, t = 0.0, dt / 2
    while t < 2 * ramp_s + cruise_s:
        accel = robot.max_accel_mps2 * ((t < ramp_s) - (t > ramp_s + cruise_s))
        speed = robot.max_accel_mps2 * min(t, ramp_s, 2 * ramp_s + cruise_s - t)
        torque = (robot.rolling_resistance * mass * G_MPS2 + mass * accel) * robot.wheel_radius_m / 2
        efficiency = m.gear_efficiency if torque < 0 else 1 / m.gear_efficiency
        current = torque * efficiency / m.gear_ratio / m.torque_constant_nm_a + m.no_load_current_a
        back_emf = m.torque_constant_nm_a * speed / robot.wheel_radius_m * m.gear_ratio
        total += (2 * current * (current * m.resistance_ohm + back_emf) / m.driver_efficiency + robot.hotel_w) * dt
        t += dt
    assert energy_j(straight(length_m, halts=halts, payload_kg=payload_kg), robot) == pytest.approx(halts * total, rel=1e-3)


@pytest.mark.parametrize(
    ("length_m", "halts", "expected_s"), [(10.0, 1, 12.0), (10.0, 2, 14.0), (0.5, 1, 2.0), (0.0, 1, 0.0)]
)
def test_duration_follows_trapezoids_and_triangles(length_m, halts, expected_s):
    assert (CARRIER.max_speed_mps, CARRIER.max_accel_mps2) == (1.0, 0.5)
    assert duration_s(straight(length_m, halts=halts), CARRIER) == pytest.approx(expected_s)


@pytest.mark.parametrize("field", ["length_m", "turn_rad", "payload_kg"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_plan_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        straight(1.0, **{field: value}) if field != "length_m" else straight(value)
