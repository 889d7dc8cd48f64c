"""Where a robot is: localisation carried on by odometry, with doubt. No ROS is running here."""

import math
from types import SimpleNamespace as Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.body import Pose
from fleet_market_hardware.frames import between, compose, inverse, wrapped
from fleet_market_ros.localisation import Localisation, Trust, planar, spread_m

METRES, ANGLES = st.floats(-50, 50), st.floats(-3.1, 3.1)
POSES = st.builds(Pose, METRES, METRES, ANGLES)
MS = 10**6


def near(a, b):
    return a.distance_to(b.x, b.y) < 1e-6 and abs(wrapped(a.yaw - b.yaw)) < 1e-6


@given(POSES, POSES)
def test_a_frame_and_its_inverse_cancel(a, b):
    assert near(compose(inverse(a), compose(a, b)), b)
    assert near(compose(compose(a, b), inverse(b)), a)


@given(POSES, POSES, st.floats(0, 1))
def test_between_two_poses_turns_the_short_way(a, b, share):
    there = between(a, b, share)
    assert a.distance_to(there.x, there.y) <= a.distance_to(b.x, b.y) + 1e-9
    assert abs(there.yaw - a.yaw) <= math.pi + 1e-9
    assert near(between(a, b, 0.0), a)
    assert near(between(a, b, 1.0), b)


@given(POSES, st.lists(POSES, min_size=2, max_size=6))
def test_the_pose_is_right_whatever_frame_odometry_has(origin, track):
    place = Localisation(Trust())
    for i, true in enumerate(track):
        place.odometry(i * 50 * MS, compose(inverse(origin), true), 0.1 * i)
        if i == 0:
            place.localised(0, true, 0.05)
        assert near(place.pose, true)


def test_a_word_from_between_two_samples_is_taken_at_its_moment():
    place = Localisation(Trust())
    place.odometry(0, Pose(0.0, 0.0), 0.0)
    place.localised(25 * MS, Pose(10.5, 0.0), 0.05)
    assert place.pose is None  # the odometry of that moment has not come yet
    place.odometry(50 * MS, Pose(1.0, 0.0), 1.0)
    assert place.pose.x == pytest.approx(11.0)


def test_a_word_from_before_the_first_odometry_is_not_believed():
    place = Localisation(Trust())
    place.odometry(100 * MS, Pose(3.0, 0.0), 0.0)
    place.localised(99 * MS, Pose(10.0, 0.0), 0.05)  # who knows where the robot was then: a joystick may have moved it
    assert (place.pose, place.doubt) == (None, "the robot has not been localised")
    place.localised(100 * MS, Pose(13.0, 0.0), 0.05)
    assert place.pose == Pose(13.0, 0.0)


def test_doubt_takes_the_pose_away_and_a_better_word_brings_it_back():
    place = Localisation(Trust(max_sd_m=0.3, max_drift_m=2.0))
    place.odometry(0, Pose(0.0, 0.0), 0.0)
    assert (place.pose, place.doubt) == (None, "the robot has not been localised")
    place.localised(0, Pose(5.0, 5.0), 0.31)
    assert (place.pose, place.doubt) == (None, "localised to 0.31 m only")
    place.localised(0, Pose(5.0, 5.0), 0.3)
    assert place.pose == Pose(5.0, 5.0)
    place.odometry(10**9, Pose(2.1, 0.0), 2.1)
    assert (place.pose, place.doubt) == (None, "driven 2.1 m without being localised")
    place.localised(10**9, Pose(7.1, 5.0), 0.1)
    assert place.pose == Pose(7.1, 5.0)


def test_standing_still_makes_no_pose_old():
    place = Localisation(Trust())
    place.odometry(0, Pose(0.0, 0.0), 0.0)
    place.localised(0, Pose(1.0, 2.0), 0.05)
    place.odometry(3600 * 10**9, Pose(0.0, 0.0), 0.0)
    assert place.pose == Pose(1.0, 2.0)


@pytest.mark.parametrize("bad", [Pose(math.nan, 0.0), Pose(0.0, math.inf), Pose(0.0, 0.0, math.nan)])
def test_a_pose_that_is_no_number_changes_nothing(bad):
    place = Localisation(Trust())
    place.odometry(0, Pose(0.0, 0.0), 0.0)
    place.localised(0, Pose(1.0, 2.0), 0.05)
    place.localised(0, bad, 0.05)
    assert place.pose == Pose(1.0, 2.0)


def test_messages_are_read_in_the_plane():
    half = 0.35
    turned = Message(x=0.0, y=0.0, z=math.sin(half), w=math.cos(half))
    pose = Message(position=Message(x=1.0, y=2.0, z=9.0), orientation=turned)
    transform = Message(translation=Message(x=1.0, y=2.0, z=9.0), rotation=turned)
    for message in (pose, transform):
        assert near(planar(message), Pose(1.0, 2.0, 0.7))
    covariance = [0.0] * 36
    covariance[0], covariance[7], covariance[35] = 0.01, 0.04, 9.0
    assert spread_m(covariance) == pytest.approx(0.2)


def test_transforms_between_the_frames_of_map_and_odometry_are_taken_from_tf():
    pytest.importorskip("rclpy", reason="no ROS 2 here (rclpy): `make setup` installs it from wheels, or source one")
    from fleet_market_ros.nav2 import DEFAULTS, Nav2Body

    body = Nav2Body(Message(), DEFAULTS, (None, None))
    body._localisation.odometry(0, Pose(1.0, 0.0), 0.0)

    def transform(parent, child, x):
        level = Message(x=0.0, y=0.0, z=0.0, w=1.0)
        return Message(
            header=Message(frame_id=parent), child_frame_id=child,
            transform=Message(translation=Message(x=x, y=0.0, z=0.0), rotation=level),
        )  # fmt: skip

    body._on_tf(Message(transforms=[transform("odom", "base_link", 7.0), transform("map", "elsewhere", 8.0)]))
    assert body._localisation.pose is None
    body._on_tf(Message(transforms=[transform("/map", "/odom", 3.0)]))
    assert body._localisation.pose == Pose(4.0, 0.0)
