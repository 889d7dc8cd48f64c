"""The one waypoint follower: makes a `RobotDriver` of any `VelocityBase`."""

from __future__ import annotations

from fleet_market.body import End, Go, Link
from fleet_market.ports import VelocityBase
from fleet_market.robot.tracking import Limits, PathTracker
from fleet_market_hardware.runner import JobError, JobRunner

VALID_S = 0.3
"""Dead-man: the base brakes by itself this long after the last command."""
BLOCKED_S = 5.0
"""A robot that is told to drive and does not move for this long (its own time) is blocked."""
OFF_PATH_M = 0.5


class Follower(JobRunner):
    """Runs jobs on a velocity base. Implements `fleet_market.ports.RobotDriver`.

    Parameters
    ----------
    base : VelocityBase
    limits : Limits
        What the base can do; a `Go.max_speed` below goes before it.
    """

    def __init__(self, base: VelocityBase, limits: Limits) -> None:
        super().__init__(base.spec, base)
        self._base, self._limits = base, limits

    async def _go(self, go: Go, end_ns: int) -> None:
        path = go.path or ((go.pose.x, go.pose.y),)
        self._passed, self._released = 0, go.released if go.path else 1
        speed = min(self._limits.speed_mps, go.max_speed or self._limits.speed_mps)
        limits = Limits(speed, self._limits.accel_mps2, self._limits.yaw_rate_radps)
        tracker = PathTracker(path, limits, final_yaw=go.pose.yaw if go.tol_rad is not None else None)
        telemetry = self._base.telemetry()
        if telemetry.link is not Link.UP or telemetry.pose is None:
            telemetry = await self._next(telemetry, end_ns)
        moved_ns = telemetry.stamp_ns
        while True:  # sets out by the newest snapshot, without waiting for another
            pose = telemetry.pose
            if pose is None:
                raise JobError(End.LOST, "no pose")
            step = tracker.step(pose, self._released)
            self._passed = max(self._passed, step.passed)
            if step.off_path_m > OFF_PATH_M and self._passed:
                raise JobError(End.FAILED, f"{step.off_path_m:.2f} m off the path")
            await self._base.drive(step.vx, step.wz, valid_s=VALID_S)
            if step.arrived and not telemetry.moving:
                if pose.distance_to(go.pose.x, go.pose.y) > go.tol_m:
                    raise JobError(End.FAILED, f"ended {pose.distance_to(go.pose.x, go.pose.y):.2f} m from the goal")
                return
            if telemetry.moving or (step.vx == 0.0 and step.wz == 0.0):
                moved_ns = telemetry.stamp_ns
            elif telemetry.stamp_ns - moved_ns > BLOCKED_S * 1e9:
                why = "" if telemetry.grave is None else f" ({telemetry.grave})"
                raise JobError(End.FAILED, f"blocked: told to drive, but does not move{why}")
            telemetry = await self._next(telemetry, end_ns)

    async def _brake(self) -> bool:
        await self._base.drive(0.0, 0.0, valid_s=VALID_S)
        return True
