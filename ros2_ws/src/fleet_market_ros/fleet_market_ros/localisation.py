"""Where a robot is on the map: what its localisation last said, carried on by wheel odometry, with doubt.

AMCL speaks only when the robot has moved (``update_min_d``, 0.25 m by default), so that the age of its last word says
nothing; how far the robot has driven since does. That is known from the first odometry on: a word from before it, as AMCL's
topic keeps one for whoever comes late, is not believed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import Any

from fleet_market.body import Pose
from fleet_market_hardware.frames import between, compose, inverse

KEPT = 200
"""Odometry poses that are kept to find the one of a localisation's moment: 4 s at 50 a second."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How far a pose is believed."""

    max_sd_m: float = 0.3
    """Standard deviation beyond which the robot does not know where it is [assumption: half of a narrow aisle's play]."""
    max_drift_m: float = 2.0
    """Longest way by wheel odometry alone; 2 % of it is 4 cm [assumption]."""


class Localisation:
    """The transform from odometry to the map, and whether it is believed."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._odometry: deque[tuple[int, Pose, float]] = deque(maxlen=KEPT)
        self._waiting: tuple[int, Pose, float] | None = None
        self._correction: Pose | None = None
        self._sd_m, self._at_m = math.inf, 0.0

    def odometry(self, stamp_ns: int, pose: Pose, odometer_m: float) -> None:
        """Take a pose in the frame of odometry."""
        self._odometry.append((stamp_ns, pose, odometer_m))
        if self._waiting is not None and stamp_ns >= self._waiting[0]:
            waiting, self._waiting = self._waiting, None
            self.localised(*waiting)

    def localised(self, stamp_ns: int, pose: Pose, sd_m: float) -> None:
        """Take a pose in the map frame, with its standard deviation in metres.

        Passed over is one with NaN, and one from before all odometry that is kept: where the robot was then is not known.
        """
        if not all(math.isfinite(value) for value in (pose.x, pose.y, pose.yaw, sd_m)):
            return
        stamps = [stamp for stamp, _, _ in self._odometry]
        at = bisect_left(stamps, stamp_ns)
        if at == len(stamps):
            self._waiting = (stamp_ns, pose, sd_m)
            return
        after_ns, odom, odometer_m = self._odometry[at]
        if at == 0 and stamp_ns < after_ns:
            return
        if at > 0:
            before_ns, before, _ = self._odometry[at - 1]
            odom = between(before, odom, (stamp_ns - before_ns) / (after_ns - before_ns))
        self._correction, self._sd_m, self._at_m = compose(pose, inverse(odom)), sd_m, odometer_m

    def transformed(self, correction: Pose) -> None:
        """Take the transform from map to odometry as it is published on /tf; it says nothing of its own doubt."""
        self._correction = correction
        self._at_m = self._odometry[-1][2] if self._odometry else 0.0
        self._sd_m = 0.0 if math.isinf(self._sd_m) else self._sd_m

    @property
    def is_begun(self) -> bool:
        """Whether the localisation has said at all where the robot is."""
        return self._correction is not None

    @property
    def pose(self) -> Pose | None:
        """The pose in the map frame; None if it is not known, or not believed."""
        if self._correction is None or not self._odometry or self.doubt:
            return None
        return compose(self._correction, self._odometry[-1][1])

    @property
    def doubt(self) -> str:
        """Why there is no pose; empty if there is one."""
        if self._correction is None or not self._odometry:
            return "the robot has not been localised"
        if self._sd_m > self._trust.max_sd_m:
            return f"localised to {self._sd_m:.2f} m only"
        drift_m = self._odometry[-1][2] - self._at_m
        if drift_m > self._trust.max_drift_m:
            return f"driven {drift_m:.1f} m without being localised"
        return ""


def planar(pose: Any) -> Pose:
    """Return a ``geometry_msgs/Pose`` or ``Transform`` in the plane."""
    at = pose.position if hasattr(pose, "position") else pose.translation
    q = pose.orientation if hasattr(pose, "orientation") else pose.rotation
    yaw = math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y**2 + q.z**2))
    return Pose(at.x, at.y, yaw)


def spread_m(covariance: Any) -> float:
    """Return the larger standard deviation along x and y, metres, of a 6 x 6 covariance of ``PoseWithCovariance``."""
    return math.sqrt(max(float(covariance[0]), float(covariance[7]), 0.0))
