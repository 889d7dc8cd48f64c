"""What Nav2 offers, over a simulated robot: NavigateToPose, ComputePathToPose and AMCL's pose, field by field.

For tests and for simulations without Nav2. It drives with the market's own control law, aborts when the
robot is blocked, lets a new goal replace the old one without a stop, and honours a cancel. What it does not model:
costmaps, recoveries, behaviour trees, a localisation that errs; it drives straight to its goal. It needs the message
package ``nav2_msgs``, real or the tests' own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from std_srvs.srv import Empty

from fleet_market.body import Point, Pose
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits, PathTracker
from fleet_market_ros import qos
from fleet_market_ros.localisation import planar
from fleet_market_ros.nav2 import interfaces
from fleet_market_ros.nav2_goal import stamped
from fleet_market_ros.ros import Ros
from fleet_market_sim import SimWorld

Planner = Callable[[Pose, Pose], Sequence[Point] | None]
"""Returns points from a start to a goal; None if no way leads there."""

BLOCKED_S = 3.0
"""As Nav2's progress checker, but impatient: told to drive and not moving for this long aborts (simulation time)."""
VALID_S = 0.3
STANDS_MPS, STANDS_RADPS = 0.01, 0.02
SETTLE_S = 0.2
UPDATE_M, UPDATE_RAD = 0.25, 0.2
"""AMCL speaks when the robot has moved this far: its defaults of update_min_d and update_min_a."""
SD_M, SD_RAD = 0.03, 0.02
FAILED_TO_MAKE_PROGRESS, NO_VALID_PATH = 105, 208
"""Error codes of Nav2's FollowPath and ComputePathToPose [assumption: not checked against a running Nav2]."""


class Nav2StandIn:
    """One robot's Nav2.

    Parameters
    ----------
    ros : Ros
        The simulator's node.
    world : SimWorld
    robot : RobotId
    limits : Limits
    planner : callable, optional
        `Planner` behind ComputePathToPose; without one ways are straight.
    with_planner : bool
        Whether ComputePathToPose is offered.
    """

    def __init__(
        self,
        ros: Ros,
        world: SimWorld,
        robot: RobotId,
        limits: Limits,
        planner: Planner | None = None,
        *,
        with_planner: bool = True,
    ) -> None:
        self._ros, self._world, self._robot, self._limits = ros, world, robot, limits
        self._planner: Planner = planner or (lambda start, goal: ((start.x, start.y), (goal.x, goal.y)))
        self._types = interfaces()
        self._loop = asyncio.get_running_loop()
        self._goal: Any = None
        self._tracker: PathTracker | None = None
        self._blocked_ns = self._since_ns = 0
        self._arrived_ns: int | None = None
        self._said: Pose | None = None
        self.accepts, self.sd_m, self.speaks = True, SD_M, True
        space = f"/{robot.ros_namespace}"
        self._pose = ros.publisher(PoseWithCovarianceStamped, f"{space}/amcl_pose", qos.STATE)
        ros.serve(Empty, f"{space}/request_nomotion_update", self._say_again)
        self._navigate = ActionServer(
            ros.node,
            self._types[0],
            f"{space}/navigate_to_pose",
            execute_callback=lambda handle: handle,
            goal_callback=lambda _: GoalResponse.ACCEPT if self.accepts else GoalResponse.REJECT,
            handle_accepted_callback=lambda handle: self._on_loop(self._begin, handle),
            cancel_callback=lambda _: CancelResponse.ACCEPT if self.accepts else CancelResponse.REJECT,
        )
        self._plan = (
            ActionServer(ros.node, self._types[1], f"{space}/compute_path_to_pose", execute_callback=self._compute)
            if with_planner
            else None
        )

    def destroy(self) -> None:
        """Take the navigation server down, as if it had crashed; the robot gets no command any more."""
        self._goal = self._tracker = None
        self._navigate.destroy()

    def tick(self) -> None:
        """Drive, and say where the robot is; to be called with every sample of the simulation."""
        pose = self._world.state(self._robot).pose
        self._localise(pose)
        if self._goal is None or self._tracker is None:
            return
        state = self._world.sensed(self._robot)
        stands = abs(state.vx) < STANDS_MPS and abs(state.wz) < STANDS_RADPS
        if self._goal.is_cancel_requested:
            self._world.command(self._robot, 0.0, 0.0, valid_s=VALID_S)
            if stands:
                self._end("canceled")
            return
        step = self._tracker.step(pose, len(self._path))
        self._world.command(self._robot, step.vx, step.wz, valid_s=VALID_S)
        now_ns = self._world.time_ns
        if not stands or (step.vx == 0.0 and step.wz == 0.0):
            self._blocked_ns = now_ns
        if step.arrived and stands:
            self._arrived_ns = self._arrived_ns or now_ns
            if now_ns - self._arrived_ns >= SETTLE_S * 1e9:
                self._end("succeed")
        elif now_ns - self._blocked_ns > BLOCKED_S * 1e9:
            self._end("abort", FAILED_TO_MAKE_PROGRESS, "Failed to make progress")
        else:
            self._feed_back(pose)

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _begin(self, handle: Any) -> None:
        """Take a goal; one that is being driven gives way."""
        if self._goal is not None:
            self._end("abort", text="preempted")
        pose, goal = self._world.state(self._robot).pose, planar(handle.request.pose.pose)
        self._goal = handle
        self._path = ((pose.x, pose.y), (goal.x, goal.y))
        self._tracker = PathTracker(self._path, self._limits, final_yaw=goal.yaw)
        self._since_ns = self._blocked_ns = self._world.time_ns
        self._arrived_ns = None
        if self._world.state(self._robot).charging:
            self._world.charge(self._robot, on=False)

    def _end(self, verdict: str, code: int = 0, text: str = "") -> None:
        handle, self._goal, self._tracker = self._goal, None, None
        if verdict != "abort" or text != "preempted":
            self._world.command(self._robot, 0.0, 0.0, valid_s=VALID_S)
        result = self._types[0].Result()
        result.error_code, result.error_msg = code, text

        def finish(goal: Any) -> Any:
            getattr(goal, verdict)()
            return result

        handle.execute(finish)

    def _feed_back(self, pose: Pose) -> None:
        told = self._types[0].Feedback()
        told.current_pose = stamped(pose, "map")
        driven_s = (self._world.time_ns - self._since_ns) / 1e9
        told.navigation_time = Duration(sec=int(driven_s), nanosec=int(driven_s % 1 * 1e9))
        told.distance_remaining = float(pose.distance_to(*self._path[-1]))
        self._goal.publish_feedback(told)

    async def _say_again(self, _request: Any, response: Any) -> Any:
        self._said = None
        return response

    def _localise(self, pose: Pose) -> None:
        said = self._said
        turned = 0.0 if said is None else abs((pose.yaw - said.yaw + math.pi) % math.tau - math.pi)
        if not self.speaks or (said is not None and pose.distance_to(said.x, said.y) < UPDATE_M and turned < UPDATE_RAD):
            return
        self._said = pose
        message = PoseWithCovarianceStamped()
        message.pose.pose = stamped(pose, "map").pose
        message.header.frame_id = "map"
        now_ns = self._world.time_ns
        message.header.stamp.sec, message.header.stamp.nanosec = now_ns // 10**9, now_ns % 10**9
        covariance = [0.0] * 36
        covariance[0] = covariance[7] = self.sd_m**2
        covariance[35] = SD_RAD**2
        message.pose.covariance = covariance
        self._pose.publish(message)

    def _compute(self, handle: Any) -> Any:
        """Answer ComputePathToPose; runs on the executor's thread and reads nothing that the loop writes."""
        result, wish = self._types[1].Result(), handle.request
        start = planar(wish.start.pose) if wish.use_start else self._said
        path = None if start is None else self._planner(start, planar(wish.goal.pose))
        if path is None:
            result.error_code, result.error_msg = NO_VALID_PATH, "No valid path found"
            handle.abort()
            return result
        result.path = Path()
        result.path.header.frame_id = "map"
        result.path.poses = [stamped(Pose(x, y), "map") for x, y in path]
        handle.succeed()
        return result
