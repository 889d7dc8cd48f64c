"""The control law of a differential-drive robot that follows a path and stops where its release ends.

Pure pursuit (Coulter 1992) along the path, farther ahead the faster the robot may drive: on a straight, with look-ahead L
at speed v, it weaves more and more if commands take effect later than 0.52 L / v (where the linear loop
s^2 + 2 (v/L) (s + v/L) e^(-s t) is on the border of stability). From standstill and at sharp corners the robot turns in
place first, so that it never cuts them. Speed falls to zero at the end of what is released by v = sqrt(2 a s).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from fleet_market.body import Point, Pose

LOOKAHEAD_M = 0.35
"""Least look-ahead, near bends and at low speed."""
LOOKAHEAD_S = 0.6
"""Look-ahead on a straight, as time at the speed that is permitted there: steady with commands up to 0.52 * 0.6 s late."""
ENTERED_M = 0.35
"""A robot this near to the path's first point is on the path."""
SLOW_AFTER_BEND_M = 0.35
"""A bend's speed holds so far beyond it."""
SHARP_CORNER_RAD = math.radians(60)
"""Corners from here on are turned in place."""
BEND_RAD = math.radians(10)
BEND_SPEED_RAD_MPS = 0.5
"""A bend is driven at this over its angle: 45 degrees at 0.64 m/s keeps a robot with one sample of delay on its path."""
TURN_FROM_RAD, TURN_UNTIL_RAD = 0.8, 0.06
"""A heading error beyond the first is turned away in place, down to the second."""
TURN_GAIN_PER_S = 2.0
REACHED_M = 0.03
"""A robot this near to a point, along the path, is at it."""
WINDOW_M = 1.0
"""How far ahead of the last progress the robot is looked for on its path."""
BRAKING_SHARE = 0.7
"""Share of the braking that the robot can do; the rest makes up for delay."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the robot can do, SI units."""

    speed_mps: float
    accel_mps2: float
    yaw_rate_radps: float


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, and how far the robot is."""

    vx: float
    wz: float
    passed: int
    """Points of the path that lie behind the robot or under it."""
    arrived: bool
    """At the last point, and at the final heading if there is one."""
    waiting: bool
    """At the end of the release, with more path to come."""
    off_path_m: float


class PathTracker:
    """Follows one path; call `step` with every new pose.

    Parameters
    ----------
    path : sequence of (x, y)
        At least one point, metres.
    limits : Limits
    final_yaw : float, optional
        Heading at the end, radians.
    """

    def __init__(self, path: Sequence[Point], limits: Limits, *, final_yaw: float | None = None) -> None:
        if not path:
            raise ValueError("path must have at least one point")
        self._path, self._limits, self._final_yaw = tuple(path), limits, final_yaw
        self._at = [0.0, *accumulate(math.dist(a, b) for a, b in pairwise(path))]
        self._corners, self._bends = self._find_turns()
        self._progress_m = 0.0
        self._turning = True
        self._entered = False

    def step(self, pose: Pose, released: int) -> Step:
        """Return the command for this pose when the first `released` points may be driven."""
        released = max(1, min(released, len(self._path)))
        from_start_m = math.dist(self._path[0], (pose.x, pose.y))
        if not self._entered and from_start_m > ENTERED_M:
            vx, wz = self._pursue(pose, self._path[0], self._speed(from_start_m))
            return Step(vx, wz, 0, arrived=False, waiting=False, off_path_m=from_start_m)
        self._entered = True
        off_path = self._locate(pose)
        end_m, is_corner = self._next_halt(released)
        left_m = end_m - self._progress_m
        if left_m <= REACHED_M:
            if is_corner:
                return self._turn_at_corner(pose, end_m, off_path)
            return self._at_end(pose, released, off_path)
        speed = self._speed(left_m)
        vx, wz = self._pursue(pose, self._ahead(end_m, self._lookahead_m(speed)), speed)
        return Step(vx, wz, self._passed(), arrived=False, waiting=False, off_path_m=off_path)

    def _passed(self) -> int:
        return bisect_right(self._at, self._progress_m + REACHED_M + 1e-9)

    def _find_turns(self) -> tuple[list[float], list[tuple[float, float]]]:
        """Return where the path has sharp corners, and where it bends, with the speed for each bend."""
        corners: list[float] = []
        bends: list[tuple[float, float]] = []
        heading = None
        for i, (a, b) in enumerate(pairwise(self._path)):
            if math.dist(a, b) < 1e-9:
                continue
            following = math.atan2(b[1] - a[1], b[0] - a[0])
            turn = 0.0 if heading is None else abs(_wrapped(following - heading))
            if turn >= SHARP_CORNER_RAD:
                corners.append(self._at[i])
            elif turn > BEND_RAD:
                bends.append((self._at[i], BEND_SPEED_RAD_MPS / turn))
            heading = following
        return corners, bends

    def _next_halt(self, released: int) -> tuple[float, bool]:
        end = self._at[released - 1]
        corner = next((c for c in self._corners if c > self._progress_m - REACHED_M and c < end - REACHED_M), None)
        return (end, False) if corner is None else (corner, True)

    def _turn_at_corner(self, pose: Pose, corner_m: float, off_path: float) -> Step:
        x, y = self._point(corner_m)
        ahead = self._point(corner_m + 0.1)
        error = _wrapped(math.atan2(ahead[1] - y, ahead[0] - x) - pose.yaw)
        if abs(error) <= TURN_UNTIL_RAD:
            self._corners.remove(corner_m)
            self._progress_m = max(self._progress_m, corner_m)
        return Step(0.0, self._turn(error), self._passed(), arrived=False, waiting=False, off_path_m=off_path)

    def _at_end(self, pose: Pose, released: int, off_path: float) -> Step:
        whole, self._turning = released == len(self._path), True
        error = 0.0 if self._final_yaw is None or not whole else _wrapped(self._final_yaw - pose.yaw)
        arrived = whole and abs(error) <= TURN_UNTIL_RAD
        wz = 0.0 if arrived else self._turn(error)
        return Step(0.0, wz, self._passed(), arrived=arrived, waiting=not whole, off_path_m=off_path)

    def _turn(self, error: float) -> float:
        limit = self._limits.yaw_rate_radps
        return max(-limit, min(limit, TURN_GAIN_PER_S * error))

    def _speed(self, left_m: float) -> float:
        """Return how fast to drive where the robot has to stand after `left_m`, slower before bends."""
        hardest = 2 * BRAKING_SHARE * self._limits.accel_mps2
        speed = min(self._limits.speed_mps, math.sqrt(hardest * max(left_m, 0.0)))
        for at_m, bend_mps in self._bends:
            to_bend_m = at_m - self._progress_m
            if to_bend_m > -SLOW_AFTER_BEND_M:
                speed = min(speed, math.sqrt(bend_mps**2 + hardest * max(0.0, to_bend_m)))
        return max(speed, 0.02)

    def _lookahead_m(self, speed: float) -> float:
        """Return how far ahead to steer for: farther at speed, but not beyond a bend until it is near, lest it be cut."""
        to_bend_m = min((at_m - self._progress_m for at_m, _ in self._bends if at_m > self._progress_m), default=math.inf)
        return max(LOOKAHEAD_M, min(LOOKAHEAD_S * speed, to_bend_m))

    def _pursue(self, pose: Pose, target: Point, speed: float) -> tuple[float, float]:
        error = _wrapped(math.atan2(target[1] - pose.y, target[0] - pose.x) - pose.yaw)
        self._turning = abs(error) > (TURN_UNTIL_RAD if self._turning else TURN_FROM_RAD)
        if self._turning:
            return 0.0, self._turn(error)
        curvature = 2 * math.sin(error) / max(0.1, math.dist(target, (pose.x, pose.y)))
        if abs(curvature) * speed > self._limits.yaw_rate_radps:
            speed = self._limits.yaw_rate_radps / abs(curvature)
        return speed, speed * curvature

    def _ahead(self, end_m: float, lookahead_m: float) -> Point:
        """Return the point to steer for; near a halt it lies beyond, on the line of the last piece."""
        wanted = self._progress_m + lookahead_m
        if wanted <= end_m:
            return self._point(wanted)
        (x, y), before = self._point(end_m), self._point(max(0.0, end_m - 0.05))
        length = math.dist((x, y), before)
        if length < 1e-9:
            return x, y
        over = (wanted - end_m) / length
        return x + over * (x - before[0]), y + over * (y - before[1])

    def _point(self, s: float) -> Point:
        i = max(0, min(bisect_right(self._at, s) - 1, len(self._path) - 2))
        if len(self._path) == 1:
            return self._path[0]
        (ax, ay), (bx, by) = self._path[i], self._path[i + 1]
        length = self._at[i + 1] - self._at[i]
        t = 0.0 if length < 1e-9 else min(1.0, (s - self._at[i]) / length)
        return ax + t * (bx - ax), ay + t * (by - ay)

    def _locate(self, pose: Pose) -> float:
        """Move the progress to the nearest point of the path a little way ahead; return the distance from it."""
        best_s, best_d = self._progress_m, math.dist(self._point(self._progress_m), (pose.x, pose.y))
        stop = min(
            [self._at[-1], self._progress_m + WINDOW_M, *(c for c in self._corners if c >= self._progress_m - REACHED_M)]
        )
        first = max(0, bisect_right(self._at, self._progress_m) - 1)
        for i in range(first, len(self._path) - 1):
            if self._at[i] > stop:
                break
            (ax, ay), (bx, by) = self._path[i], self._path[i + 1]
            length = self._at[i + 1] - self._at[i]
            if length < 1e-9:
                continue
            t = ((pose.x - ax) * (bx - ax) + (pose.y - ay) * (by - ay)) / length**2
            s = min(max(self._at[i] + min(1.0, max(0.0, t)) * length, self._progress_m), max(stop, self._progress_m))
            d = math.dist(self._point(s), (pose.x, pose.y))
            if d < best_d - 1e-9:
                best_s, best_d = s, d
        self._progress_m = best_s
        return best_d


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
