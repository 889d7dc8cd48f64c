"""Geometry, fence and dead reckoning, whatever wheels tell."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.body import Pose
from fleet_market_hardware.bases import Fence, Geometry, Wheel, WheelsReading
from fleet_market_hardware.bases.odometry import AVERAGED, SLACK_RAD, Odometry

GEOMETRY = Geometry(0.1, 0.4)
SOME = st.floats(-50, 50)


def reading(left, right, rates=(None, None)):
    return WheelsReading(Wheel(left, rates[0]), Wheel(right, rates[1]))


@given(vx=SOME, wz=SOME)
def test_wheel_rates_and_twist_are_inverse(vx, wz):
    assert GEOMETRY.twist(*GEOMETRY.wheel_rates(vx, wz)) == pytest.approx((vx, wz), abs=1e-9)


@given(angles=st.lists(st.tuples(SOME, SOME), min_size=2, max_size=30))
def test_the_odometer_never_falls_and_never_leaps(angles):
    odometry = Odometry(GEOMETRY, Pose(0, 0), 10.0)
    before, now = 0.0, 0.0
    for left, right in angles:
        now += 0.05
        odometry.take(reading(left, right), now)
        assert before <= odometry.odometer_m <= before + 0.1 * (10.0 * 0.05 + SLACK_RAD) + 1e-9
        before = odometry.odometer_m
        assert all(map(math.isfinite, (odometry.pose.x, odometry.pose.y, odometry.pose.yaw)))


def test_a_circle_ends_where_it_began():
    odometry = Odometry(GEOMETRY, Pose(1, 2, 0.3), 20.0)
    left, right = GEOMETRY.wheel_rates(0.5, 0.5)
    steps = 1000
    dt = math.tau / 0.5 / steps
    for i in range(steps + 1):
        odometry.take(reading(left * i * dt, right * i * dt), i * dt)
    assert (odometry.pose.x, odometry.pose.y) == pytest.approx((1, 2), abs=1e-4)
    assert odometry.odometer_m == pytest.approx(0.5 * math.tau / 0.5)


def test_a_restart_is_a_new_zero_and_no_way_back():
    odometry = Odometry(GEOMETRY, Pose(0, 0), 10.0)
    for i in range(100):
        odometry.take(reading(i * 0.4, i * 0.4), i * 0.05)
    gone = odometry.pose.x
    odometry.take(reading(0.0, 0.0), 5.0)
    assert (odometry.pose.x, odometry.rebased) == (gone, 1)
    odometry.take(reading(0.4, 0.4), 5.05)
    assert odometry.pose.x == pytest.approx(gone + 0.04)


def test_a_speed_that_no_counter_confirms_is_none():
    odometry = Odometry(GEOMETRY, Pose(0, 0), 10.0)
    speeds = [odometry.take(reading(1.0, 1.0, (5.0, 5.0)), 0.05 * i)[0] for i in range(AVERAGED + 1)]
    assert speeds[0] == pytest.approx(0.5)
    assert speeds[-1] == 0.0
    assert odometry.frozen
    odometry.take(reading(1.3, 1.3, (5.0, 5.0)), 1.0)
    assert not odometry.frozen


@given(x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_a_square_holds_what_is_inside(x, y):
    square = Fence([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if abs(abs(x) - 1) > 1e-9 and abs(abs(y) - 1) > 1e-9:
        assert square.holds(x, y) == (abs(x) < 1 and abs(y) < 1)


@given(x=st.floats(-0.9, 0.9), yaw=st.floats(-math.pi, math.pi), vx=st.floats(-2, 2), stopping=st.floats(0, 3))
def test_what_the_fence_allows_ends_inside(x, yaw, vx, stopping):
    square = Fence([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if vx and square.allows(Pose(x, 0.0, yaw), vx, stopping):
        ahead = math.copysign(stopping, vx)
        assert max(abs(x + ahead * math.cos(yaw)), abs(ahead * math.sin(yaw))) <= 1 + 1e-9


def test_a_fence_has_three_corners_at_least():
    with pytest.raises(ValueError, match="at least 3 corners, had 2"):
        Fence([(0, 0), (1, 1)])
