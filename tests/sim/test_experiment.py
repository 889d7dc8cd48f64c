"""The experiment harness: plans that say beforehand what is driven, and chances that only the scenario knows."""

import math
import random
from dataclasses import replace

import pytest

from fleet_market.pricing import EnergyModel
from fleet_market_sim.bots import BOTS, DELIVERY, SKID
from fleet_market_sim.experiment import CLEAN, DRIFT, REALISTIC, Leg, Route, Track, draw_route, run


@pytest.mark.parametrize("bot", BOTS, ids=lambda bot: bot.name)
def test_a_clean_task_lasts_and_takes_what_the_true_robots_plan_says(bot):
    (task,) = run(bot, CLEAN, 3, 1)
    features = EnergyModel(bot.true).features(task.plan)
    assert task.duration_s == pytest.approx(float(features.duration_s), rel=0.01)
    # The caster carries 18 % of the weight without rolling resistance, which no spec sheet says.
    assert task.energy_j == pytest.approx(float(features.energy_j), rel=0.08)
    sheet_j = float(EnergyModel(bot.sheet).features(task.plan).energy_j)
    assert abs(sheet_j / task.energy_j - 1) > 0.02


def test_the_same_seed_drives_the_same_tasks_to_the_last_bit():
    assert list(run(DELIVERY, REALISTIC, 5, 2)) == list(run(DELIVERY, REALISTIC, 5, 2))
    assert next(run(DELIVERY, REALISTIC, 5, 1)) != next(run(DELIVERY, REALISTIC, 6, 1))


def test_scenarios_change_what_happens_and_not_what_is_planned():
    clean, real = next(run(DELIVERY, CLEAN, 1, 1)), next(run(DELIVERY, REALISTIC, 1, 1))
    assert clean.plan == real.plan
    assert clean.energy_j != real.energy_j
    assert clean.duration_s != real.duration_s


def test_the_drift_makes_tasks_dearer_and_the_step_is_in_the_hotel_power():
    stepped = replace(CLEAN, step_w=10.0, step_task=1)
    (_, before), (_, after) = (list(run(DELIVERY, s, 2, 2)) for s in (CLEAN, stepped))
    assert after.energy_j - before.energy_j == pytest.approx(10.0 * after.duration_s, rel=0.01)
    worn = replace(CLEAN, drift_rolling=DRIFT.drift_rolling, drift_gear=DRIFT.drift_gear)
    (_, drifted) = list(run(DELIVERY, worn, 2, 2, drift_over=2))
    assert drifted.energy_j > 1.02 * before.energy_j


def test_unplanned_stops_come_once_in_forty_metres():
    (planned,) = run(SKID, CLEAN, 4, 1)
    busy = replace(CLEAN, stops_per_m=1.0, stop_s=(5.0, 5.0))
    (stopped,) = run(SKID, busy, 4, 1)
    assert stopped.duration_s - planned.duration_s == pytest.approx(5.8 * planned.plan.length_m, rel=0.35)
    assert REALISTIC.stops_per_m == 1 / 40


def test_the_plan_knows_the_slope_of_every_leg():
    route = Route((Leg(0.0, 5.0, 0.8),), (Leg(math.pi / 2, 4.0, 0.8), Leg(-math.pi, 3.0, 0.6)), 7.0, 10.0, 0.04)
    plan = route.plan(math.pi)
    assert [leg.grade for leg in plan.legs] == pytest.approx([-0.04, 0.0, 0.0], abs=1e-12)
    assert [(leg.payload_kg, leg.turn_rad) for leg in plan.legs] == [(0.0, 0.0), (7.0, math.pi / 2), (7.0, math.pi)]
    assert plan.dwell_s == 20.0


def test_routes_stay_within_what_the_robot_can_do():
    chance = random.Random(1)
    for bot in BOTS:
        routes = [draw_route(chance, bot) for _ in range(200)]
        legs = [leg for route in routes for leg in (*route.empty, *route.loaded)]
        assert all(route.empty and route.loaded for route in routes)
        assert all(bot.speeds_mps[0] <= leg.speed_mps <= bot.speeds_mps[1] for leg in legs)
        assert 0.2 < sum(route.grade != 0 for route in routes) / len(routes) < 0.45
        assert max(abs(route.grade) for route in routes) <= bot.max_grade


def test_a_robot_that_is_stuck_is_told():
    weak = DELIVERY.true.model_copy(update={"motor": DELIVERY.true.motor.model_copy(update={"peak_wheel_torque_nm": 0.01})})
    with Track(weak) as track, pytest.raises(RuntimeError, match="does not get on"):
        track.straight(1.0, 0.5)
