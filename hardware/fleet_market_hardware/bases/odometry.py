"""From wheel angles, as devices count them, to a pose and an odometer that never falls."""

from __future__ import annotations

import math
from collections import deque

from fleet_market.body import Pose
from fleet_market_hardware.bases.geometry import Geometry
from fleet_market_hardware.bases.wheels import WheelsReading

SLACK_RAD = 1.0
"""A wheel may have turned this much more than its speed limit says between two readings: late readings, one slip."""
USUAL_S = 0.05
FROZEN_MPS = 0.1
"""At this speed a wheel with 40 steps to the turn counts at least one within `AVERAGED` readings."""
AVERAGED = 5
"""A speed that the device does not tell is the average over this many readings: packets come unevenly."""


class Odometry:
    """Dead reckoning.

    A wheel that seems to have turned faster than it can has begun to count anew: its reading is the new zero, and what it
    turned in between is not known.

    Parameters
    ----------
    geometry : Geometry
    start : Pose
    max_rate_radps : float
        No wheel turns faster than this.
    """

    def __init__(self, geometry: Geometry, start: Pose, max_rate_radps: float) -> None:
        self.pose, self.odometer_m = start, 0.0
        self.turns = (0.0, 0.0)
        """Turns of the left and right wheel, signed, since the beginning."""
        self.frozen = False
        """The device tells a speed, and its counters stand."""
        self.rebased = 0
        """How often a device has begun to count anew."""
        self._geometry, self._max_rate = geometry, max_rate_radps
        self._last: tuple[float, float, float] | None = None
        self._path: deque[tuple[float, float, float]] = deque(maxlen=AVERAGED)

    def forget(self) -> None:
        """Take the next reading as a new zero."""
        self._last = None

    def take(self, reading: WheelsReading, now_s: float) -> tuple[float, float]:
        """Take a reading at `now_s` and return the speed, m/s and rad/s."""
        angles = reading.left.angle_rad, reading.right.angle_rad
        left = right = 0.0
        dt = USUAL_S
        if self._last is not None:
            dt = max(1e-3, now_s - self._last[2])
            left, right = angles[0] - self._last[0], angles[1] - self._last[1]
            if max(abs(left), abs(right)) > self._max_rate * dt + SLACK_RAD:
                self.rebased += 1
                left = right = 0.0
        self._last = (*angles, now_s)
        ahead, _ = self._geometry.twist(left, right)
        self.pose = self._geometry.moved(self.pose, left, right)
        self.odometer_m += abs(ahead)
        self.turns = self.turns[0] + left / math.tau, self.turns[1] + right / math.tau
        self._path.append((*self.turns, now_s))
        rates = reading.left.velocity_rad_s, reading.right.velocity_rad_s
        if rates[0] is None or rates[1] is None:
            return self._average()
        told = self._geometry.twist(rates[0], rates[1])
        stands = len(self._path) == AVERAGED and self._path[0][:2] == self._path[-1][:2]
        self.frozen = stands and abs(told[0]) > FROZEN_MPS
        return (0.0, 0.0) if self.frozen else told

    def _average(self) -> tuple[float, float]:
        (left, right, at_s), now_s = self._path[0], self._path[-1][2]
        dt = max(1e-3, now_s - at_s) / math.tau
        return self._geometry.twist((self.turns[0] - left) / dt, (self.turns[1] - right) / dt)
