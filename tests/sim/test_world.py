"""Physics against closed form, in the world that stands in for real robots."""

import hashlib
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.pricing import PlanLeg, TaskPlan, duration_s, energy_j
from fleet_market_sim import SimRobotConfig, SimWorld, Truth
from fleet_market_sim.drivetrain import motor_power_w
from fleet_market_sim.walls import rectangles

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER = next(r.type for r in FLEET.robots if r.type.name == "carrier")
G, HZ = 9.80665, 240
A, B = RobotId("a"), RobotId("b")


def hall(width_m=20.0, depth_m=6.0):
    occupied = np.zeros((round(depth_m / 0.1), round(width_m / 0.1)), dtype=bool)
    occupied[[0, -1], :] = occupied[:, [0, -1]] = True
    return OccupancyGrid(occupied, ~occupied, 0.1, (0.0, 0.0))


def world(*poses, robot=CARRIER, soc=0.5, **more):
    configs = [SimRobotConfig(name, robot, pose, soc) for name, pose in zip((A, B), poses, strict=False)]
    return SimWorld(hall(), configs, **more)


def drive(sim, seconds, vx=0.0, wz=0.0, robot=A):
    """Keep commanding at 20 Hz."""
    for _ in range(round(seconds * 20)):
        sim.command(robot, vx, wz, valid_s=0.3)
        sim.step(HZ // 20)


def test_a_robot_stands_where_it_was_put_and_idles_at_its_hotel_power():
    with world(Pose(3, 2, 1.0)) as sim:
        drive(sim, 2.0)
        state = sim.state(A)
        assert (state.pose.x, state.pose.y, state.pose.yaw) == pytest.approx((3, 2, 1.0), abs=2e-3)
        assert state.energy_out_j == pytest.approx(2.0 * CARRIER.hotel_w, rel=1e-3)


@pytest.mark.parametrize("payload_kg", [0.0, 10.0])
def test_steady_driving_takes_the_torque_of_rolling_resistance(payload_kg):
    with world(Pose(2, 3)) as sim:
        if payload_kg:
            sim.load(A, "p", payload_kg)
        drive(sim, 6.0, vx=0.8)
        torque = 0.0
        for _ in range(HZ):
            sim.command(A, 0.8, 0.0, valid_s=0.3)
            sim.step()
            torque += sum(sim.state(A).wheel_torque_nm) / HZ
        on_wheels = 0.82 * (CARRIER.mass_kg + payload_kg)
        expected = CARRIER.rolling_resistance * on_wheels * G * CARRIER.wheel_radius_m
        assert torque == pytest.approx(expected, rel=0.03)
        assert sim.state(A).vx == pytest.approx(0.8, rel=2e-3)
        assert sim.state(A).pose.y == pytest.approx(3.0, abs=0.01)


def test_acceleration_puts_the_kinetic_energy_into_the_body_and_nothing_else():
    free = CARRIER.model_copy(update={"rolling_resistance": 0.0})
    with world(Pose(2, 3), robot=free) as sim:
        work = 0.0
        for step in range(3 * HZ):
            if step % 12 == 0:
                sim.command(A, 1.0, 0.0, valid_s=0.3)
            sim.step()
            state = sim.state(A)
            work += sum(t * w for t, w in zip(state.wheel_torque_nm, state.wheel_vel_rad_s, strict=True)) / HZ
        spin = 2 * 0.5 * (0.5 * 0.8 * CARRIER.wheel_radius_m**2) * (state.vx / CARRIER.wheel_radius_m) ** 2
        assert work == pytest.approx(0.5 * CARRIER.mass_kg * state.vx**2 + spin, rel=0.03)


def test_the_price_models_energy_is_near_the_physics_for_a_task_with_a_parcel():
    with world(Pose(2, 3)) as sim:
        sim.load(A, "p", 8.0)
        start = sim.state(A)
        ramp_m = CARRIER.max_speed_mps**2 / (2 * CARRIER.max_accel_mps2)
        while sim.state(A).pose.x < 14.0 - ramp_m / 2:
            drive(sim, 0.05, vx=1.0)
        while abs(sim.state(A).vx) > 1e-3:
            drive(sim, 0.05)
        end = sim.state(A)
        length = end.pose.x - start.pose.x
        plan = TaskPlan((PlanLeg(length, 0.0, 1, 8.0),))
        assert sim.time_ns / 1e9 == pytest.approx(duration_s(plan, CARRIER), rel=0.10)
        assert end.energy_out_j - start.energy_out_j == pytest.approx(energy_j(plan, CARRIER), rel=0.10)


def test_a_turn_in_place_turns_and_stays():
    with world(Pose(5, 3)) as sim:
        drive(sim, 3.0, wz=1.0)
        drive(sim, 1.0)
        state = sim.state(A)
        assert (state.pose.x, state.pose.y) == pytest.approx((5, 3), abs=0.02)
        assert abs(state.pose.yaw - 3.0) < 0.35


def test_true_robots_differ_from_their_spec_sheet_and_every_time_alike():
    with world(Pose(2, 3)) as same:
        drive(same, 4.0, vx=0.8)
        sheet = same.state(A).energy_out_j
    rough = SimRobotConfig(A, CARRIER, Pose(2, 3), 0.5, Truth(rolling_resistance=1.5, hotel_w=1.1))
    with SimWorld(hall(), [rough]) as sim:
        drive(sim, 4.0, vx=0.8)
        assert sim.state(A).energy_out_j > sheet + 0.09 * CARRIER.hotel_w * 4.0
    drawn = Truth.draw(7, "a", 0.05)
    assert drawn == Truth.draw(7, "a", 0.05) != Truth.draw(7, "b", 0.05)
    assert all(0.95 <= f <= 1.05 for f in (drawn.rolling_resistance, drawn.hotel_w, drawn.no_load_current))


def test_braking_returns_nothing_and_a_standing_motor_draws_nothing():
    assert motor_power_w(CARRIER.motor, 0.9, -5.0, 8.0) == 0.0
    assert motor_power_w(CARRIER.motor, 0.9, 0.0, 0.0) == 0.0


def test_the_base_stops_by_itself_when_commands_stop():
    with world(Pose(2, 3)) as sim:
        drive(sim, 4.0, vx=1.0)
        assert sim.state(A).vx == pytest.approx(1.0, rel=0.01)
        sim.step(round(HZ * (0.3 + 1.0 / (2 * CARRIER.max_accel_mps2) + 0.1)))
        assert abs(sim.state(A).vx) < 0.01


def test_driving_into_a_wall_or_another_robot_is_counted_once_and_driving_free_never():
    with world(Pose(17, 3)) as sim:
        drive(sim, 1.0, vx=0.5)
        assert (sim.contacts.robot_wall, sim.contacts.robot_robot) == (0, 0)
        drive(sim, 6.0, vx=0.5)
        assert sim.contacts.robot_wall == 1
        assert "a and wall at (19." in sim.contacts.first[0]
    with world(Pose(5, 3), Pose(8, 3, math.pi)) as sim:
        drive(sim, 6.0, vx=0.5)
        assert (sim.contacts.robot_robot, sim.contacts.robot_wall) == (1, 0)


def test_the_same_commands_give_the_same_trajectory():
    def digest():
        with world(Pose(5, 3), Pose(7, 3, 2.0)) as sim:
            sha = hashlib.sha256()
            for n in range(60):
                sim.command(A, 0.8, math.sin(n), valid_s=0.3)
                sim.command(B, 0.5, math.cos(n), valid_s=0.3)
                sim.step(12)
                sha.update(repr((sim.state(A), sim.state(B))).encode())
            return sha.hexdigest()

    assert digest() == digest()


def test_charging_works_at_a_charger_and_nowhere_else():
    with world(Pose(5, 3), Pose(9, 3), chargers=[Pose(5.1, 3.1)]) as sim:
        for robot in (A, B):
            sim.charge(robot, on=True)
        sim.step(HZ * 10)
        at, away = sim.state(A), sim.state(B)
        battery = CARRIER.battery
        gain = (battery.max_charge_w * battery.charge_efficiency - CARRIER.hotel_w) * 10 / (battery.capacity_wh * 3600)
        assert (at.charging, away.charging) == (True, False)
        assert at.soc - 0.5 == pytest.approx(gain, rel=0.05)
        assert (at.current_a > 0, away.current_a < 0) == (True, True)
        assert away.soc < 0.5
        sim.charge(A, on=False)
        assert not sim.state(A).charging


def test_an_empty_battery_stops_the_robot():
    with world(Pose(2, 3), soc=1e-5) as sim:
        drive(sim, 6.0, vx=0.5)
        assert sim.state(A).soc == 0.0
        assert abs(sim.state(A).vx) < 0.01


def test_parcels_are_accounted_for():
    with world(Pose(5, 3), Pose(6.2, 3)) as sim:
        sim.load(A, "p", 12.0)
        with pytest.raises(InputError, match="20 kg in all"):
            sim.load(A, "q", 9.0)
        with pytest.raises(InputError, match="that is aboard"):
            sim.unload(B, "p")
        sim.load(B, "p", 12.0)
        assert (sim.state(A).payload_kg, sim.state(B).payload_kg) == (0.0, 12.0)
        drive(sim, 8.0, vx=0.5, robot=B)
        with pytest.raises(InputError, match="stop before"):
            sim.unload(B, "p")
        drive(sim, 2.0, robot=B)
        with pytest.raises(InputError, match="within 4 m of b"):
            sim.load(A, "p", 12.0)
        sim.unload(B, "p")
        assert sim.state(B).payload_kg == 0.0


def test_walls_cover_every_occupied_cell_once():
    rng = np.random.default_rng(5)
    occupied = rng.random((30, 40)) < 0.4
    grid = OccupancyGrid(occupied, ~occupied, 0.5, (-3.0, 2.0))
    covered = np.zeros_like(occupied, dtype=int)
    for r in rectangles(grid):
        row, column = grid.cell(r.x_min + 0.1, r.y_min + 0.1)
        end_row, end_column = grid.cell(r.x_max - 0.1, r.y_max - 0.1)
        covered[row : end_row + 1, column : end_column + 1] += 1
    assert (covered == occupied).all()


def test_a_robot_that_does_not_fit_its_footprint_is_refused():
    wide = CARRIER.model_copy(update={"track_width_m": 0.6})
    with pytest.raises(ValueError, match="footprint"), world(Pose(5, 3), robot=wide):
        pass


@pytest.mark.skipif(not os.environ.get("FLEET_MARKET_DATA"), reason="FLEET_MARKET_DATA is not set: no foreign maps here")
def test_a_map_that_others_drew_can_be_built():
    grid = load_map(Path(os.environ["FLEET_MARKET_DATA"]) / "maps/depot.yaml")
    config = SimRobotConfig(A, CARRIER, Pose(3, 3), 0.5)
    with SimWorld(grid, [config, replace(config, robot_id=B, start=Pose(5, 3))]) as sim:
        drive(sim, 1.0, vx=0.5)
        assert sim.contacts.robot_wall == 0


def test_a_robot_can_be_held_let_go_and_set_down_elsewhere():
    with world(Pose(2.0, 2.0)) as floor:
        floor.command(A, 1.0, 0.0, valid_s=60.0)
        floor.step(floor.hz)
        floor.hold(A, held=True)
        floor.step(24)
        at = floor.state(A).pose
        floor.step(floor.hz)
        assert floor.state(A).pose.distance_to(at.x, at.y) < 0.01
        floor.hold(A, held=False)
        floor.step(floor.hz)
        free = floor.state(A).pose
        assert free.distance_to(at.x, at.y) > 0.3
        before_m = floor.state(A).odometer_m
        floor.teleport(A, Pose(at.x, at.y + 1.0, 1.0))
        state = floor.state(A)
        assert (state.pose.x, state.pose.y, state.pose.yaw) == pytest.approx((at.x, at.y + 1.0, 1.0), abs=0.01)
        assert state.vx == pytest.approx(0.0, abs=0.01)
        assert state.odometer_m == before_m
