import math
from collections import deque
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import Pose
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits, PathTracker
from fleet_market_sim import SimRobotConfig, SimWorld

LIMITS = Limits(1.2, 0.6, 1.5)
DT = 0.05


class Unicycle:
    """A robot that obeys acceleration limits and acts on each command some samples late."""

    def __init__(self, pose, samples_late):
        self.pose, self.v, self.w = pose, 0.0, 0.0
        self.late = deque([(0.0, 0.0)] * samples_late)

    def move(self, vx, wz):
        self.late.append((vx, wz))
        to_v, to_w = self.late.popleft()
        harder = 2.0 if abs(to_v) < abs(self.v) else 1.0
        most_v, most_w = harder * LIMITS.accel_mps2 * DT, 3.0 * DT
        self.v += max(-most_v, min(most_v, to_v - self.v))
        self.w += max(-most_w, min(most_w, to_w - self.w))
        p = self.pose
        yaw = p.yaw + self.w * DT / 2
        self.pose = Pose(p.x + self.v * DT * math.cos(yaw), p.y + self.v * DT * math.sin(yaw), p.yaw + self.w * DT)


def follow(path, start, *, yaw=None, released=None, seconds=120.0, samples_late=1):
    """Drive until arrived or out of time; returns (tracker's last step, robot, largest distance from the path, passed)."""
    tracker, robot, worst, seen = PathTracker(path, LIMITS, final_yaw=yaw), Unicycle(start, samples_late), 0.0, []
    for n in range(round(seconds / DT)):
        step = tracker.step(robot.pose, len(path) if released is None else released(n * DT))
        seen.append(step.passed)
        worst = max(worst, distance_to(path, robot.pose))
        robot.move(step.vx, step.wz)
        if step.arrived and abs(robot.v) < 1e-3 and abs(robot.w) < 1e-2:
            break
    return step, robot, worst, seen


def distance_to(path, pose):
    if len(path) == 1:
        return math.dist(path[0], (pose.x, pose.y))
    best = math.inf
    for (ax, ay), (bx, by) in pairwise(path):
        length2 = (bx - ax) ** 2 + (by - ay) ** 2
        t = 0.0 if length2 == 0 else max(0.0, min(1.0, ((pose.x - ax) * (bx - ax) + (pose.y - ay) * (by - ay)) / length2))
        best = min(best, math.dist((ax + t * (bx - ax), ay + t * (by - ay)), (pose.x, pose.y)))
    return best


STEPS = [(0.25, 0.0), (0.25, 0.25), (0.0, 0.25), (-0.25, 0.25), (-0.25, 0.0), (-0.25, -0.25), (0.0, -0.25), (0.25, -0.25)]


@st.composite
def lattice_paths(draw):
    """Paths on an 8-connected lattice of 0.25 m with corners of 45 and 90 degrees."""
    direction, path = draw(st.integers(0, 7)), [(0.0, 0.0)]
    for turn, cells in draw(
        st.lists(st.tuples(st.sampled_from([-2, -1, 0, 1, 2]), st.integers(2, 12)), min_size=1, max_size=6)
    ):
        direction = (direction + turn) % 8
        for _ in range(cells):
            path.append((path[-1][0] + STEPS[direction][0], path[-1][1] + STEPS[direction][1]))
    return path


@settings(max_examples=100, deadline=None)
@given(lattice_paths(), st.floats(-math.pi, math.pi), st.floats(-math.pi, math.pi), st.integers(0, 2))
def test_every_lattice_path_is_followed_within_ten_centimetres_to_its_end_and_heading(path, yaw, final_yaw, late):
    step, robot, worst, seen = follow(path, Pose(*path[0], yaw), yaw=final_yaw, samples_late=late)
    assert step.arrived
    assert worst < 0.10
    assert math.dist(path[-1], (robot.pose.x, robot.pose.y)) < 0.06
    assert abs((robot.pose.yaw - final_yaw + math.pi) % (2 * math.pi) - math.pi) < 0.12
    assert seen == sorted(seen)
    assert seen[-1] == len(path)


@settings(max_examples=60, deadline=None)
@given(lattice_paths(), st.data())
def test_the_robot_never_drives_beyond_what_is_released(path, data):
    limit = data.draw(st.integers(1, len(path)))
    step, robot, _, seen = follow(path, Pose(*path[0], 0.0), released=lambda t: limit, seconds=60)
    assert step.waiting == (limit < len(path))
    assert math.dist(path[limit - 1], (robot.pose.x, robot.pose.y)) < 0.06
    assert max(seen) == limit


def test_a_release_that_grows_in_time_is_driven_without_a_stop():
    path = [(0.25 * i, 0.0) for i in range(41)]
    step, robot, _, _ = follow(path, Pose(0, 0), released=lambda t: 12 + int(6 * t), seconds=14)
    assert step.arrived, (robot.pose, step)


@pytest.mark.parametrize("late_s", [0.0, 0.1, 0.2, 0.25])
def test_a_fast_robot_whose_commands_come_late_does_not_weave(late_s):
    path = [(0.25 * i, 0.0) for i in range(61)]
    tracker, robot, beside = PathTracker(path, LIMITS), Unicycle(Pose(0, 0.03), round(late_s / DT)), []
    while robot.pose.x < 12.0:
        step = tracker.step(robot.pose, len(path))
        robot.move(step.vx, step.wz)
        beside.append((robot.pose.x, abs(robot.pose.y)))
    assert robot.v == pytest.approx(LIMITS.speed_mps)
    assert max(y for x, y in beside if x > 5.0) < 0.005


def test_odd_paths_end_well():
    for path in ([(0.0, 0.0)], [(1.0, 0.0)], [(0.0, 0.0), (0.0, 0.0), (1.0, 0.0)], [(-0.1, 0.0), (1.0, 0.0)]):
        step, robot, _, _ = follow(path, Pose(0, 0))
        assert step.arrived, path
        assert math.dist(path[-1], (robot.pose.x, robot.pose.y)) < 0.08 + (len(path) == 1) * 0.35
    with pytest.raises(ValueError, match="at least one point"):
        PathTracker([], LIMITS)


def test_in_the_physics_the_robot_stays_on_its_path_and_touches_nothing():
    import numpy as np

    from fleet_market.maps.grid import OccupancyGrid

    fleet = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
    kind, robot = fleet.robots[0].type, RobotId("a")
    free = np.ones((100, 100), dtype=bool)
    path = [(2 + 0.25 * i, 2.0) for i in range(17)] + [(6.0, 2.25 + 0.25 * i) for i in range(8)]
    path += [(6.0 - 0.25 * i, 4.0 + 0.25 * i) for i in range(1, 9)]
    limits = Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps)
    tracker, worst = PathTracker(path, limits, final_yaw=0.0), 0.0
    with SimWorld(OccupancyGrid(~free, free, 0.1, (0.0, 0.0)), [SimRobotConfig(robot, kind, Pose(2, 2), 0.9)]) as sim:
        for _ in range(20 * 60):
            pose = sim.state(robot).pose
            step = tracker.step(pose, len(path))
            worst = max(worst, distance_to(path, pose))
            sim.command(robot, step.vx, step.wz, valid_s=0.3)
            sim.step(12)
            if step.arrived:
                break
        assert step.arrived
        assert worst < 0.10
        assert math.dist(path[-1], (pose.x, pose.y)) < 0.06


def test_a_robot_that_is_set_down_at_the_far_end_begins_the_path_at_its_beginning():
    path = [(0.25 * i, 0.0) for i in range(15)]
    tracker = PathTracker(path, LIMITS)
    for x in (3.5, 3.5, 3.5, 3.0, 2.0, 1.0, 0.5):
        assert tracker.step(Pose(x, 0.0, math.pi), 15).passed == 0
    entered = tracker.step(Pose(0.1, 0.0, math.pi), 15)
    assert (entered.passed, entered.off_path_m) == (1, pytest.approx(0.0))
