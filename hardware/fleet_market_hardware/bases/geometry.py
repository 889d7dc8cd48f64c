"""A differential drive in numbers: wheel speeds, odometry, and the floor that it may not leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fleet_market.body import Point, Pose
from fleet_market_hardware.frames import wrapped


@dataclass(frozen=True, slots=True)
class Geometry:
    """Wheels of a differential drive, metres."""

    wheel_radius_m: float
    track_width_m: float

    def wheel_rates(self, vx: float, wz: float) -> tuple[float, float]:
        """Return the rates of the left and the right wheel, rad/s, for `vx` m/s and `wz` rad/s."""
        half = wz * self.track_width_m / 2
        return (vx - half) / self.wheel_radius_m, (vx + half) / self.wheel_radius_m

    def twist(self, left_rad: float, right_rad: float) -> tuple[float, float]:
        """Return metres forward and radians turned for turns of the wheels (or both per second)."""
        left, right = left_rad * self.wheel_radius_m, right_rad * self.wheel_radius_m
        return (left + right) / 2, (right - left) / self.track_width_m

    def moved(self, pose: Pose, left_rad: float, right_rad: float) -> Pose:
        """Return where the robot is after its wheels turned; dead reckoning at the heading half-way (second order)."""
        ahead, turned = self.twist(left_rad, right_rad)
        yaw = pose.yaw + turned / 2
        return Pose(pose.x + ahead * math.cos(yaw), pose.y + ahead * math.sin(yaw), wrapped(pose.yaw + turned))


class Fence:
    """A polygon that the middle of the robot may not leave.

    Parameters
    ----------
    corners : sequence of (x, y)
        At least three points in order, metres, map frame.
    """

    def __init__(self, corners: Sequence[Point]) -> None:
        if len(corners) < 3:
            raise ValueError(f"fence must have at least 3 corners, had {len(corners)}")
        self.corners = tuple(corners)

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point lies inside (ray casting, even-odd rule)."""
        inside = False
        for i, (bx, by) in enumerate(self.corners):
            ax, ay = self.corners[i - 1]
            if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
                inside = not inside
        return inside

    def allows(self, pose: Pose, vx: float, stopping_m: float) -> bool:
        """Return whether the robot, here and driving at `vx`, can still stop inside."""
        ahead = math.copysign(stopping_m, vx) if vx else 0.0
        return self.holds(pose.x + ahead * math.cos(pose.yaw), pose.y + ahead * math.sin(pose.yaw))
