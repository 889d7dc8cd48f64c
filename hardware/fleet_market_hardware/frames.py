"""Poses in the plane as transforms between frames."""

from __future__ import annotations

import math

from fleet_market.body import Pose


def compose(a: Pose, b: Pose) -> Pose:
    """Return `b`, given in the frame whose pose is `a`, in the frame of `a`.

    Parameters
    ----------
    a, b : Pose
        Metres and radians.
    """
    c, s = math.cos(a.yaw), math.sin(a.yaw)
    return Pose(a.x + c * b.x - s * b.y, a.y + s * b.x + c * b.y, wrapped(a.yaw + b.yaw))


def inverse(a: Pose) -> Pose:
    """Return the pose of the outer frame in the frame whose pose is `a`."""
    c, s = math.cos(a.yaw), math.sin(a.yaw)
    return Pose(-c * a.x - s * a.y, s * a.x - c * a.y, wrapped(-a.yaw))


def between(a: Pose, b: Pose, share: float) -> Pose:
    """Return the pose at `share` of the way from `a` to `b`."""
    return Pose(a.x + share * (b.x - a.x), a.y + share * (b.y - a.y), a.yaw + share * wrapped(b.yaw - a.yaw))


def wrapped(angle: float) -> float:
    """Return the angle between -pi and pi, radians."""
    return (angle + math.pi) % math.tau - math.pi
