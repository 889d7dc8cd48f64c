import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import SurfaceSpec
from fleet_market.errors import InputError
from fleet_market.pricing import EnergyModel, PlanArray, PlanLeg, Tariff, TaskPlan, duration_s, energy_j, price
from fleet_market.pricing.drivetrain import CONTACT_HALF_LENGTH_M, G_MPS2
from fleet_market.pricing.energy import HOTEL, NO_LOAD, TRACTION, TURNING, charger_j

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = next(r.type for r in FLEET.robots if r.type.name == "carrier").model_copy(
    update={
        "surfaces": {"carpet": SurfaceSpec(rolling_resistance=0.03, sliding_friction=0.9)},
        "compute_modes_w": {"mapping": 70.0},
    }
)
RUNNER = next(r.type for r in FLEET.robots if r.type.name == "runner")
SKID = CARRIER.model_copy(update={"name": "skid", "drive": "skid", "wheelbase_m": 0.30, "sliding_friction": 0.6})
GREEN = RUNNER.model_copy(
    update={
        "name": "green",
        "motor": RUNNER.motor.model_copy(update={"regeneration_efficiency": 0.6, "no_load_current_a": 0.1}),
    }
)
ROBOTS = [CARRIER, RUNNER, SKID, GREEN]
TARIFF = Tariff(25_000_000)


def some_legs(grades):
    return st.builds(
        PlanLeg,
        length_m=st.floats(0, 500),
        turn_rad=st.floats(0, 50),
        halts=st.integers(1, 20),
        payload_kg=st.floats(0, 20),
        speed_mps=st.none() | st.floats(0.05, 3.0),
        grade=grades,
        surface=st.sampled_from(["floor", "carpet"]),
        zone=st.sampled_from(["hall", "yard"]),
    )


def some_plans(grades):
    return st.builds(
        lambda legs, dwell: TaskPlan(tuple(legs), dwell),
        st.lists(some_legs(grades), min_size=1, max_size=4),
        st.floats(0, 99),
    )


plans = some_plans(st.floats(-0.3, 0.3))
level_plans = some_plans(st.floats(0, 0.1))
robots = st.sampled_from(ROBOTS)


def straight(length_m, **more):
    return TaskPlan((PlanLeg(**({"length_m": length_m, "turn_rad": 0.0, "halts": 1, "payload_kg": 0.0} | more)),))


@given(level_plans, robots, st.sampled_from(["length_m", "turn_rad", "payload_kg", "grade"]), st.floats(0.01, 1.0))
def test_energy_and_ask_rise_strictly_with_payload_distance_turns_and_uphill_slope(plan, robot, field, more):
    first = plan.legs[0]
    if field in {"payload_kg", "grade"}:
        first = replace(first, length_m=first.length_m + 1.0)
    step = {"length_m": 10.0, "turn_rad": 5.0, "payload_kg": 10.0, "grade": 0.1}[field] * more
    less = replace(plan, legs=(first, *plan.legs[1:]))
    grown = replace(plan, legs=(replace(first, **{field: getattr(first, field) + step}), *plan.legs[1:]))
    assert energy_j(grown, robot) > energy_j(less, robot)
    assert price(grown, robot, TARIFF).ask_uc > price(less, robot, TARIFF).ask_uc


@given(st.lists(plans, min_size=1, max_size=5))
def test_arrays_give_what_numbers_give(some):
    stacked = PlanArray.stack(some)
    for robot in ROBOTS:
        features = EnergyModel(robot).features(stacked)
        assert features.energy_j == pytest.approx([energy_j(p, robot) for p in some], rel=1e-9, abs=1e-9)
        assert features.duration_s == pytest.approx([duration_s(p, robot) for p in some], rel=1e-9)
        for plan, joules in zip(some, features.joules, strict=True):
            alone = EnergyModel(robot).features(plan)
            assert joules.sum(0) == pytest.approx(alone.joules.sum(0), rel=1e-9, abs=1e-6)
            for surface, row in zip(alone.surfaces, alone.joules, strict=True):
                assert joules[features.surfaces.index(surface), 1:] == pytest.approx(row[1:], rel=1e-9, abs=1e-6)


@given(st.lists(plans, min_size=1, max_size=4))
def test_one_call_prices_all_lots_for_all_robots(some):
    wide = PlanArray.stack(some)
    names = ("length_m", "turn_rad", "halts", "payload_kg", "speed_mps", "grade", "surface", "zone")
    wide = replace(wide, **{n: getattr(wide, n)[:, None] for n in names}, dwell_s=wide.dwell_s[:, None])
    features = EnergyModel(ROBOTS).features(wide)
    expected = [[energy_j(p, r) for r in ROBOTS] for p in some]
    assert features.energy_j == pytest.approx(np.array(expected), rel=1e-9, abs=1e-9)


def test_many_more_plans_than_fit_at_once_are_cut_and_put_together_rightly():
    lengths = np.linspace(1, 90, 30_000).reshape(10_000, 3)
    many = EnergyModel(CARRIER).features(PlanArray.of(lengths))
    for row in (0, 4095, 9999):
        legs = tuple(PlanLeg(float(x), 0.0, 1, 0.0) for x in lengths[row])
        assert many.energy_j[row] == pytest.approx(energy_j(TaskPlan(legs), CARRIER))
    ways = PlanArray.of([[5.0], [7.0]], payload_kg=[0.0, 3.0, 6.0])
    spread = EnergyModel(CARRIER).features(ways)
    same = [TaskPlan(tuple(PlanLeg(x, 0.0, 1, p) for p in (0.0, 3.0, 6.0))) for x in (5.0, 7.0)]
    assert spread.energy_j == pytest.approx([energy_j(p, CARRIER) for p in same])
    assert spread.duration_s == pytest.approx([duration_s(p, CARRIER) for p in same])
    assert spread.drive_m[:, 0] == pytest.approx([15.0, 21.0])


@given(plans, robots)
@example(TaskPlan((PlanLeg(0.0, 0.0, 1, 0.0),)), CARRIER)
@example(TaskPlan(()), RUNNER)
def test_nothing_is_negative_or_not_a_number(plan, robot):
    features = EnergyModel(robot).features(plan)
    assert np.isfinite(features.joules).all()
    assert energy_j(plan, robot) >= 0
    assert float(features.energy_j) == pytest.approx(energy_j(plan, robot), rel=1e-9)
    not_negative = features.joules if robot is not GREEN else features.joules[:, [HOTEL, NO_LOAD]]
    assert (not_negative >= -1e-9).all()
    quote = price(plan, robot, TARIFF)
    assert min(quote.parts_uc) >= 0


def integral_j(robot, force_n, accel, top, cruise_s, travel=1.0):
    """Integrate the motor equation over ramp, cruise, ramp; force and acceleration at the rims."""
    m, dt, total, t = robot.motor, 1e-4, 0.0, 5e-5
    ramp_s = top / accel
    while t < 2 * ramp_s + cruise_s:
        a = accel * ((t < ramp_s) - (t > ramp_s + cruise_s))
        speed = accel * min(t, ramp_s, 2 * ramp_s + cruise_s - t)
        torque = force_n(a) * robot.wheel_radius_m / 2
        efficiency = m.gear_efficiency if torque < 0 else 1 / m.gear_efficiency
        current = torque * efficiency / m.gear_ratio / m.torque_constant_nm_a + m.no_load_current_a
        motor_rad_s = speed * travel / robot.wheel_radius_m * m.gear_ratio
        power = current * (current * m.resistance_ohm + m.torque_constant_nm_a * motor_rad_s)
        battery = power / m.driver_efficiency if power > 0 else power * m.regeneration_efficiency
        total += (2 * battery + robot.hotel_w) * dt
        t += dt
    return total


@pytest.mark.parametrize(
    ("robot", "grade", "payload_kg", "speed"),
    [
        *product(ROBOTS, (0.0, 0.06, -0.06), (0.0, 8.0), (None,)),
        (GREEN, -0.15, 8.0, 0.7),
        (RUNNER, -0.02, 3.0, 0.3),
        (CARRIER, 0.1, 20.0, 0.2),
    ],
    ids=str.__call__,
)
def test_a_leg_costs_the_integral_of_the_motor_equation_on_any_slope(robot, grade, payload_kg, speed):
    length_m, mass = 6.0, robot.mass_kg + payload_kg
    angle = math.atan(grade)
    top = min(robot.max_speed_mps, speed or math.inf, math.sqrt(robot.max_accel_mps2 * length_m))
    steady = mass * G_MPS2 * (robot.rolling_resistance * math.cos(angle) + math.sin(angle))
    cruise_s = length_m / top - top / robot.max_accel_mps2
    expected = integral_j(robot, lambda a: steady + mass * a, robot.max_accel_mps2, top, cruise_s)
    plan = straight(length_m, grade=grade, payload_kg=payload_kg, speed_mps=speed)
    assert float(EnergyModel(robot).features(plan).joules.sum()) == pytest.approx(expected, rel=2e-3, abs=0.5)


@pytest.mark.parametrize("robot", ROBOTS, ids=lambda r: r.name)
@pytest.mark.parametrize("angle", [0.2, 3.0])
def test_a_turn_in_place_costs_the_integral_of_the_motor_equation(robot, angle):
    mass, b, base = robot.mass_kg, robot.track_width_m, robot.wheelbase_m
    rate = min(robot.max_yaw_rate_radps, math.sqrt(robot.max_yaw_accel_radps2 * angle))
    inertia = mass * robot.footprint_radius_m**2 / 2
    if robot.drive == "skid":
        travel = sliding_power_balance(b, base)
        friction = 0.6 * mass * G_MPS2 * sliding_mps(b, base, travel) / travel
    else:
        travel = b / 2
        friction = 2 / 3 * robot.sliding_friction * CONTACT_HALF_LENGTH_M * mass * G_MPS2 / travel
    steady = friction + robot.rolling_resistance * mass * G_MPS2
    accel = robot.max_yaw_accel_radps2
    cruise_s = angle / rate - rate / accel
    expected = integral_j(robot, lambda a: steady + inertia * a / travel, accel, rate, cruise_s, travel)
    plan = TaskPlan((PlanLeg(0.0, angle, 1, 0.0),))
    assert energy_j(plan, robot) == pytest.approx(expected, rel=2e-3, abs=0.05)


def sliding_mps(track, base, travel):
    """Mean sliding speed of four wheels at one radian per second, rims running `travel` metres per radian."""
    return math.hypot(base / 2, travel - track / 2)


def sliding_power_balance(track, base):
    """Find by bisection the rim speed at which Coulomb friction's moments about the middle add up to zero."""

    def moment(travel):
        along, across = travel - track / 2, base / 2
        slide = math.hypot(along, across)
        return along / slide * track / 2 - across / slide * base / 2

    low, high = track / 2, 100 * track
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if moment(middle) < 0 else (low, middle)
    return low


def test_regeneration_helps_downhill_and_never_on_the_level_beyond_what_driving_took():
    lossy = GREEN.model_copy(update={"motor": GREEN.motor.model_copy(update={"regeneration_efficiency": 0.0})})
    down, flat = straight(50.0, grade=-0.1, payload_kg=5.0), straight(50.0, payload_kg=5.0)
    assert energy_j(down, GREEN) < energy_j(down, lossy)
    assert energy_j(flat, GREEN) < energy_j(flat, lossy)
    assert energy_j(flat, GREEN) > GREEN.hotel_w * duration_s(flat, GREEN)


def test_the_floor_and_the_computing_are_what_the_spec_sheet_says():
    plain, carpet = straight(100.0), straight(100.0, surface="carpet")
    model = EnergyModel(CARRIER)
    ratio = model.features(carpet).joules[0, TRACTION] / model.features(plain).joules[0, TRACTION]
    assert 1.5 < ratio < 2.1
    assert energy_j(straight(100.0, surface="gravel"), CARRIER) == energy_j(plain, CARRIER)
    mapping = replace(plain, compute_mode="mapping")
    assert energy_j(mapping, CARRIER) - energy_j(plain, CARRIER) == pytest.approx(25.0 * duration_s(plain, CARRIER))
    with pytest.raises(InputError, match="compute_mode was 'dreaming': use one of usual, mapping"):
        energy_j(replace(plain, compute_mode="dreaming"), CARRIER)


def test_skidding_takes_far_more_than_turning_on_two_wheels_and_only_in_turns():
    turn = TaskPlan((PlanLeg(0.0, 6.0, 2, 0.0),))
    parts = {r.name: EnergyModel(r).features(turn).joules[0] for r in (CARRIER, SKID)}
    assert parts["skid"][TURNING] > 5 * parts["carrier"][TURNING]
    assert parts["skid"][TRACTION] == parts["carrier"][TRACTION] == 0.0
    assert energy_j(straight(9.0), SKID) == energy_j(straight(9.0), CARRIER)


def test_a_slower_way_takes_longer_but_moves_the_unloaded_motors_as_far():
    fast, slow = EnergyModel(CARRIER).features(straight(30.0)), EnergyModel(CARRIER).features(straight(30.0, speed_mps=0.4))
    assert slow.duration_s == pytest.approx(30.0 / 0.4 + 0.4 / 0.5)
    back_emf_j = 2 * 0.9 * 0.044 * 30.0 * 30.0 / 0.1 / 0.92
    for way in (fast, slow):
        copper_j = 2 * 0.9**2 * 0.46 * float(way.duration_s) / 0.92
        assert way.joules[0, NO_LOAD] == pytest.approx(back_emf_j + copper_j, rel=0.01)
    assert energy_j(straight(30.0, speed_mps=9.0), CARRIER) == energy_j(straight(30.0), CARRIER)


@given(plans, robots, st.floats(0, 1e4))
@example(TaskPlan((PlanLeg(5e-324, 0.0, 1, 0.0),)), CARRIER, 1.0)
def test_another_duration_changes_the_hotel_alone(plan, robot, seconds):
    features = EnergyModel(robot).features(plan)
    later = features.lasting(seconds)
    assert (later.joules[:, 1:] == features.joules[:, 1:]).all()
    if features.duration_s > 1e-3:
        assert later.joules[:, HOTEL].sum() == pytest.approx(robot.hotel_w * seconds, rel=1e-6)


def test_the_charger_takes_its_losses_on_top():
    assert charger_j(90.0, CARRIER) == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *product(["length_m", "turn_rad", "payload_kg", "dwell_s"], [-1.0, math.nan, math.inf]),
        ("halts", 0),
        ("speed_mps", 0.0),
        ("speed_mps", math.nan),
        ("grade", math.inf),
        ("surface", 1),
        ("zone", -1),
    ],
)
def test_plans_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        PlanArray.of(**({"length_m": [1.0, 2.0]} | {field: value if field == "dwell_s" else [value]}))
    if field in {"grade", "speed_mps"}:
        with pytest.raises(ValueError, match=field):
            straight(1.0, **{field: value})


def test_plans_of_several_modes_or_for_a_row_of_robots_are_refused_where_they_cannot_be():
    with pytest.raises(ValueError, match="one compute mode"):
        PlanArray.stack([straight(1.0), replace(straight(1.0), compute_mode="mapping")])
    with pytest.raises(ValueError, match="one robot"):
        EnergyModel(ROBOTS).features(straight(1.0))
