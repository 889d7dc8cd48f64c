"""Where the battery's energy goes: motors, floors, slopes, payload, skid steering."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market_sim import Region, SensorNoise, SimRobotConfig, SimWorld, Surface, SurfaceMap, Truth
from fleet_market_sim.bots import BOTS, DELIVERY, LEAN, SKID
from fleet_market_sim.drivetrain import drifted, motor_flow, true_motor

G, HZ = 9.80665, 240
A = RobotId("a")
FREE = OccupancyGrid(np.zeros((1, 1), bool), np.ones((1, 1), bool), 1.0, (0.0, 0.0))


def world(robot, yaw=0.0, truth=None, **more):
    return SimWorld(FREE, [SimRobotConfig(A, robot, Pose(0, 0, yaw), 0.5, truth or Truth())], **more)


def drive(sim, seconds, vx=0.0, wz=0.0):
    """Keep commanding at 20 Hz; return what was booked meanwhile."""
    before = sim.books(A)
    for _ in range(round(seconds * 20)):
        sim.command(A, vx, wz, valid_s=0.3)
        sim.step(HZ // 20)
    return sim.books(A) - before


@pytest.mark.parametrize("bot", BOTS, ids=lambda bot: bot.name)
@pytest.mark.parametrize("grade", [0.0, 0.05])
def test_the_books_close_over_every_kind_of_motion(bot, grade):
    truth = Truth(1.3, 1.1, 0.8, 1.4)
    with world(bot.true, yaw=0.4, truth=truth) as sim:
        sim.tilt(grade, 0.0)
        sim.load(A, "p", 12.0)
        for vx, wz, seconds in ((0.8, 0.0, 4), (0.0, 0.0, 2), (0.0, 0.7, 4), (0.0, 0.0, 1), (0.5, 0.4, 4), (0.0, 0.0, 2)):
            books = drive(sim, seconds, vx, wz)
            assert abs(books.gap_j) < 0.005 * books.battery_out_j, asdict(books)
        whole = sim.books(A)
        assert abs(whole.gap_j) < 0.002 * whole.battery_out_j
        assert abs(whole.gap_j) < 0.01 * whole.wheel_work_j
        assert min(whole.hotel_j, whole.copper_j, whole.no_load_j, whole.gear_j, whole.driver_j, whole.rolling_j) > 0
        assert whole.battery_out_j == pytest.approx(sim.state(A).energy_out_j)


@pytest.mark.parametrize("degrees", [0, 10, 20, 45, 70, 137])
def test_rolling_resistance_is_the_same_in_every_direction(degrees):
    with world(DELIVERY.true, yaw=math.radians(degrees)) as sim:
        drive(sim, 4.0, vx=1.0)
        begun = sim.state(A).odometer_m
        books = drive(sim, 2.0, vx=1.0)
        force_n = books.wheel_work_j / (sim.state(A).odometer_m - begun)
        assert force_n == pytest.approx(0.82 * DELIVERY.true.rolling_resistance * DELIVERY.true.mass_kg * G, rel=0.02)


def test_a_slope_takes_its_height_and_a_parcel_makes_it_dearer():
    with world(LEAN.true) as sim:
        sim.tilt(0.05, 0.0)
        empty = drive(sim, 6.0, vx=0.5), drive(sim, 2.0), sim.state(A).pose.x
        rise_m = empty[2] * math.sin(math.atan(0.05))
        assert sum(b.potential_j for b in empty[:2]) == pytest.approx(LEAN.true.mass_kg * G * rise_m, rel=0.01)
        sim.load(A, "p", 19.0)
        loaded = drive(sim, 6.0, vx=0.5)
        assert loaded.potential_j == pytest.approx(empty[0].potential_j * 57 / 38, rel=0.01)


def test_a_sloping_region_costs_what_a_tilted_floor_costs():
    ramp = SurfaceMap([Region(-1, -1, 50, 1, grade_x=0.05)])
    with world(LEAN.true) as tilted, world(LEAN.true, surfaces=ramp) as region:
        tilted.tilt(0.05, 0.0)
        for sim in (tilted, region):
            drive(sim, 1.0)
        a, b = drive(tilted, 6.0, vx=0.8), drive(region, 6.0, vx=0.8)
        assert b.potential_j == pytest.approx(a.potential_j, rel=0.01)
        assert b.wheel_work_j == pytest.approx(a.wheel_work_j, rel=0.01)
        assert abs(b.gap_j) < 0.005 * b.battery_out_j


def test_the_class_of_the_floor_under_a_robot_counts():
    carpet = Surface("carpet", rolling=2.0)
    with world(DELIVERY.true, surfaces=SurfaceMap([Region(2, -1, 50, 1, carpet)])) as sim:
        drive(sim, 2.5, vx=0.6)
        smooth = drive(sim, 0.5, vx=0.6)
        assert sim.state(A).surface == "floor"
        drive(sim, 2.0, vx=0.6)
        rough = drive(sim, 0.5, vx=0.6)
        assert sim.state(A).surface == "carpet"
        assert rough.rolling_j == pytest.approx(2 * smooth.rolling_j, rel=0.02)
        assert rough.wheel_work_j == pytest.approx(2 * smooth.wheel_work_j, rel=0.05)


def test_a_layer_of_cells_names_the_floor_and_later_regions_cover_earlier_ones():
    oil, mat = Surface("oil", friction=0.3), Surface("mat")
    cells = np.array([[0, 1], [1, 0]])
    floor = SurfaceMap(
        [Region(0, 0, 1, 1, mat), Region(0, 0, 0.5, 1, oil, grade_y=0.1)],
        cells=cells, classes=(Surface(), oil), resolution_m=2.0, origin=(0.0, 0.0),
    )  # fmt: skip
    assert floor.at(0.2, 0.5) == (oil, 0.0, 0.1)
    assert floor.at(0.7, 0.5) == (mat, 0.0, 0.0)
    assert [floor.at(x, y)[0].name for x, y in ((1.5, 1.5), (3, 1), (1, 3), (3, 3), (9, 9))] == [
        "floor", "oil", "oil", "floor", "floor",
    ]  # fmt: skip
    with pytest.raises(InputError, match="0 to 1"):
        SurfaceMap(cells=cells + 1, classes=(Surface(), oil))
    with pytest.raises(InputError, match="rolling was -1"):
        Surface("x", rolling=-1)
    with pytest.raises(InputError, match="lower left"):
        Region(1, 0, 0, 1)
    with pytest.raises(InputError, match="slopes of at most"):
        Region(0, 0, 1, 1, grade_x=math.nan)


@pytest.mark.parametrize("friction", [1.0, 0.5])
def test_a_skid_steered_robot_turns_as_told_and_pays_for_sliding(friction):
    robot = SKID.true
    with world(robot, truth=Truth(sliding_friction=friction)) as sim:
        drive(sim, 1.0, wz=0.7)
        begun = sim.state(A).pose.yaw
        books = drive(sim, 2.0, wz=0.7)
        turned = (sim.state(A).pose.yaw - begun) % math.tau
        assert turned == pytest.approx(1.4, rel=0.03)
        # Four equal loads, each sliding against its own friction force: see robot_model.build.
        base, track = robot.wheelbase_m, robot.track_width_m
        lever_m = base * math.hypot(base, track) / (2 * track)
        expected_j = friction * robot.sliding_friction * robot.mass_kg * G * lever_m * turned
        assert books.slip_j == pytest.approx(expected_j, rel=0.05)
        drive(sim, 1.0)
        drive(sim, 3.0, vx=0.6)
        assert drive(sim, 1.0, vx=0.6).slip_j < 0.01


def test_inertia_of_the_payload_counts_in_a_turn_and_its_height_on_the_wheels():
    with world(DELIVERY.true) as sim:
        drive(sim, 0.5)
        empty = drive(sim, 0.4, wz=1.0).kinetic_j
        drive(sim, 1.0)
        sim.load(A, "p", 20.0)
        assert drive(sim, 0.4, wz=1.0).kinetic_j > 1.1 * empty
    loads = []
    for height_m in (0.0, 0.5):
        with world(DELIVERY.true) as sim:
            sim.load(A, "p", 20.0, height_m=height_m)
            sim.tilt(0.1, 0.0)
            drive(sim, 1.0)
            loads.append(sum(sim._robots[A]._loads_n))
    assert loads[1] - loads[0] == pytest.approx(20 * G * 0.1 * 0.5 / 0.2, rel=0.1)
    with world(DELIVERY.true) as sim, pytest.raises(InputError, match=r"use 0 to 0.5 m"):
        sim.load(A, "p", 1.0, height_m=2.0)


def test_a_parked_robot_is_held_by_brakes_and_time_can_be_skipped():
    with world(LEAN.true) as sim:
        sim.tilt(0.06, 0.0)
        books = drive(sim, 2.0)
        assert books.battery_out_j == pytest.approx(2.0 * LEAN.true.hotel_w, rel=1e-3)
        before = sim.state(A)
        sim.skip(100.0)
        after = sim.state(A)
        assert after.energy_out_j - before.energy_out_j == pytest.approx(100 * LEAN.true.hotel_w)
        assert (after.pose, sim.time_ns) == (before.pose, 102 * 10**9)
        assert after.soc < before.soc
        sim.command(A, 0.5, 0.0, valid_s=1.0)
        with pytest.raises(InputError, match="stop before time is skipped"):
            sim.skip(1.0)


def test_hotel_power_and_truth_can_change_on_the_way():
    with world(DELIVERY.true, truth=Truth(hotel_w=1.1)) as sim:
        sim.set_hotel_w(A, 80.0)
        assert drive(sim, 1.0).hotel_j == pytest.approx(88.0)
        sim.set_hotel_w(A, None)
        sim.set_truth(A, Truth(rolling_resistance=2.0))
        assert drive(sim, 1.0).hotel_j == pytest.approx(DELIVERY.true.hotel_w)
        drive(sim, 3.0, vx=0.8)
        worn = drive(sim, 1.0, vx=0.8).rolling_j
        sim.set_truth(A, Truth())
        assert worn == pytest.approx(2 * drive(sim, 1.0, vx=0.8).rolling_j, rel=0.02)
        with pytest.raises(InputError, match="0 W or more"):
            sim.set_hotel_w(A, -1.0)
        with pytest.raises(InputError, match=r"at most 0\.5"):
            sim.tilt(math.nan, 0.0)


MOTOR = DELIVERY.true.motor


@given(st.floats(-15, 15), st.floats(-12, 12), st.floats(0, 1))
def test_a_motors_power_is_the_sum_of_its_parts_and_no_loss_is_negative(torque, speed, regeneration):
    motor = MOTOR.model_copy(update={"regeneration_efficiency": regeneration})
    flow = motor_flow(motor, torque, speed)
    parts = flow.copper_w + flow.no_load_w + flow.gear_w + flow.driver_w + flow.shaft_w
    assert flow.drawn_w == pytest.approx(parts, abs=1e-9)
    assert min(flow.copper_w, flow.no_load_w, flow.gear_w, flow.driver_w) > -1e-9
    assert flow.drawn_w >= min(0.0, torque * speed) - 1e-9
    if regeneration == 0:
        assert flow.drawn_w >= 0


def test_braking_downhill_gives_back_what_the_driver_recovers():
    downhill = {"regeneration_efficiency": 0.6}
    recovers = LEAN.true.model_copy(update={"motor": LEAN.true.motor.model_copy(update=downhill)})
    drawn = []
    for robot in (LEAN.true, recovers):
        with world(robot) as sim:
            sim.tilt(-0.15, 0.0)
            books = drive(sim, 6.0, vx=0.8)
            assert abs(books.gap_j) < 0.01 * abs(books.wheel_work_j)
            drawn.append(books.battery_out_j)
    assert drawn[1] < drawn[0]


def test_truth_changes_the_motor_by_its_losses():
    worn = true_motor(MOTOR, Truth(no_load_current=1.5, gear_loss=2.0))
    assert worn.no_load_current_a == pytest.approx(1.5 * MOTOR.no_load_current_a)
    assert 1 / worn.gear_efficiency - 1 == pytest.approx(2 * (1 / MOTOR.gear_efficiency - 1))
    assert drifted(Truth(hotel_w=2.0), hotel_w=1.5, gear_loss=1.1) == Truth(hotel_w=3.0, gear_loss=1.1)


@pytest.mark.parametrize("changes", [{"wheelbase_m": 0.0}, {"wheelbase_m": 2.0}])
def test_a_skid_steered_robot_that_cannot_stand_is_refused(changes):
    with pytest.raises(ValueError, match=r"wheelbase|footprint"), world(SKID.true.model_copy(update=changes)):
        pass


def test_sensors_are_perfect_unless_told_otherwise_and_never_change_the_truth():
    with world(DELIVERY.true) as exact, world(DELIVERY.true, noise=SensorNoise.usual(), seed=3) as noisy:
        for sim in (exact, noisy):
            drive(sim, 2.0, vx=0.5)
        assert exact.sensed(A) == exact.state(A) == noisy.state(A)
        assert noisy.sensed(A).energy_out_j != noisy.state(A).energy_out_j
