"""Two wheels that follow their commands with a lag."""

from __future__ import annotations

import math

from fleet_market.body import Pose

LAG_S = 0.04
"""Time constant of a velocity loop [assumption]."""


class Plant:
    """A differential drive on a flat floor, without slip.

    Parameters
    ----------
    wheel_radius_m, track_width_m : float
    """

    def __init__(self, wheel_radius_m: float, track_width_m: float) -> None:
        self._radius, self._track = wheel_radius_m, track_width_m
        self.pose = Pose(0.0, 0.0)
        self.target = [0.0, 0.0]
        """Rates commanded, rad/s, left and right, positive forward."""
        self.rate = [0.0, 0.0]
        self.angle = [0.0, 0.0]
        self.held = False

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        share = 1.0 - math.exp(-dt / LAG_S)
        for side in (0, 1):
            aim = 0.0 if self.held else self.target[side]
            self.rate[side] = 0.0 if self.held else self.rate[side] + share * (aim - self.rate[side])
            self.angle[side] += self.rate[side] * dt
        left, right = (rate * self._radius * dt for rate in self.rate)
        turned = (right - left) / self._track
        ahead, yaw = (left + right) / 2, self.pose.yaw + turned / 2
        self.pose = Pose(self.pose.x + ahead * math.cos(yaw), self.pose.y + ahead * math.sin(yaw), self.pose.yaw + turned)
