"""The driver `nav2`: a robot that Nav2 drives.

Beside the topics of `fleet_market_ros.base`, in the robot's namespace::

    navigate_to_pose       nav2_msgs/NavigateToPose              action   drives
    compute_path_to_pose   nav2_msgs/ComputePathToPose           action   says how far a way is (where there is one)
    amcl_pose              geometry_msgs/PoseWithCovarianceStamped  in    the pose in the map frame, with its covariance
    request_nomotion_update  std_srvs/Empty                      service  has AMCL say it anew, where it is not known
    tf                     tf2_msgs/TFMessage                    in       instead of both, with `pose_source: tf`

**Rights of way.** A job's path has points, of which the first few are released. The path is cut where it bends, and Nav2
gets one goal at a time: the last released point of the straight piece ahead. When more is released, the goal is replaced
by one further ahead, which Nav2 takes over without stopping. So Nav2 never has a goal behind the release; between two goals
it plans its own way, and one that leaves the path by more than `corridor_m` ends the job. `passed()` counts points by the
robot's own pose beside the path. What it cannot do: a dead driver's robot drives on to its goal, which is the end of its
release at most (`DriverSpec.lacks` has ``dead_man``), and a goal takes no speed limit (``speed_limit``).

A goal that Nav2 calls reached is no evidence: the step is done when telemetry newer than that shows the robot at rest
within the step's own tolerance of the goal. Set Nav2's ``xy_goal_tolerance`` below that tolerance (0.1 m).
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from std_srvs.srv import Empty

from fleet_market.body import DriverSpec, End, Go, Link, Point, Pose, Telemetry
from fleet_market.errors import InputError
from fleet_market.robot.tracking import Limits, PathTracker
from fleet_market_hardware.drivers import DriverMissingError, DriverSetup, settings_of
from fleet_market_hardware.frames import wrapped
from fleet_market_hardware.runner import JobError, JobRunner
from fleet_market_ros import qos
from fleet_market_ros.base import SETTINGS, RosVelocityBase
from fleet_market_ros.localisation import Localisation, Trust, planar, spread_m
from fleet_market_ros.nav2_goal import GoalState, NavigationGoal, stamped

DEFAULTS: dict[str, Any] = {
    "navigate_to_pose": "navigate_to_pose",
    "compute_path_to_pose": "compute_path_to_pose",
    "pose_topic": "amcl_pose",
    "pose_source": "amcl_pose",
    "localise": "request_nomotion_update",
    "tf_topic": "tf",
    "map_frame": "map",
    "odom_frame": "odom",
    "planner_id": "",
    "behavior_tree": "",
    "corridor_m": 0.5,
    "stuck_s": 60.0,
    "max_sd_m": 0.3,
    "max_drift_m": 2.0,
    "stations": True,
    **SETTINGS,
}
POSITIVE = ("corridor_m", "stuck_s", "max_sd_m", "max_drift_m", "battery_timeout_s")
GONE_S = 2.0
"""An action server that has not been seen, or has not answered, for this long (wall time) is gone."""
FIRST_POSE_S, POLL_S = 6.0, 0.05
"""How long opening waits for a first pose (wall time)."""
ASK_S = 1.0
"""The localisation is asked so often (wall time) where the robot is, until it has said so once.

No more than that: asking makes a particle filter surer that has learned nothing."""
STRAIGHT_M = 0.05
"""Points of a path this near to the line between two others are on it."""
MOVED_M = 0.1
PLAN_S = 0.5
"""Longest wait for a planner (wall time): calls for asks wait behind it."""


class Nav2Body:
    """Topics of the base, with the pose of the localisation instead of that of odometry; the link is that to Nav2 too."""

    def __init__(self, base: RosVelocityBase, settings: dict[str, Any], actions: tuple[Any, Any]) -> None:
        self.base, self._settings, self._actions = base, settings, actions
        self._localisation = Localisation(Trust(settings["max_sd_m"], settings["max_drift_m"]))
        self._node: Any = None
        self.navigate: Any = None
        self.plan: Any = None
        self._cancel: Any = None
        self._cancelling: Any = None
        """The future of the last answer to `cancel_all`."""
        self._localise: Any = None
        self._seen = self._asked = -math.inf
        base.on_odometry = self._on_odometry

    async def open(self, *, timeout_s: float) -> None:
        """Subscribe; returns once there is odometry and an action server, else raises `TimeoutError`.

        A robot that has not been localised by then is open all the same: it has no pose, and does not bid.
        """
        begun = time.monotonic()
        await self.base.open(timeout_s=timeout_s)
        ros, names = self.base.ros, self._settings
        if self._node is not ros.node:
            self._node, self._cancelling = ros.node, None
            if names["pose_source"] == "tf":
                ros.subscribe(_tf_message(), names["tf_topic"], self._on_tf)
            else:  # also matches who keeps its last word for late comers, as AMCL does: that word is not believed anyway
                ros.subscribe(PoseWithCovarianceStamped, names["pose_topic"], self._on_pose, qos.SENSOR_IN)
                self._localise = ros.client(Empty, names["localise"])
            self.navigate = ros.action_client(self._actions[0], names["navigate_to_pose"])
            self._cancel = ros.client(CancelGoal, f"{names['navigate_to_pose']}/_action/cancel_goal")
            self.plan = ros.action_client(self._actions[1], names["compute_path_to_pose"])
        while not (self.is_served and self._cancel.service_is_ready()):
            if time.monotonic() - begun > timeout_s:
                where = ros.node.resolve_topic_name(names["navigate_to_pose"])
                raise TimeoutError(f"no action server {where} within {timeout_s:g} s: is Nav2 active in this namespace?")
            await asyncio.sleep(POLL_S)
        for _ in range(round(FIRST_POSE_S / POLL_S)):
            if self._localisation.pose is not None:
                break
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """Disconnect."""
        await self.base.close()

    def cancel_all(self) -> None:
        """Cancel all goals of the navigation server, whoever has sent them: what a request without goal and time means."""
        if self._cancel is not None and self.base.is_open and self._cancel.service_is_ready():
            self._cancelling = self._cancel.call_async(CancelGoal.Request())

    async def cancelled_all(self) -> None:
        """Wait until what `cancel_all` has asked for is answered: it must not meet a goal that is sent after it.

        Raises
        ------
        TimeoutError
            If the navigation server does not answer.
        """
        if self._cancelling is None:
            return
        try:
            async with asyncio.timeout(GONE_S):
                await self.base.ros.result(self._cancelling)
        except TimeoutError:
            self._cancelling = None
            raise
        self._cancelling = None

    @property
    def is_served(self) -> bool:
        """Whether the action server has been seen lately."""
        if self.navigate is not None and self.base.is_open and self.navigate.server_is_ready():
            self._seen = time.monotonic()
        return time.monotonic() - self._seen < GONE_S

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        telemetry, silent = self.base.telemetry(), []
        if self._localisation.doubt:
            silent.append(str(self._settings["tf_topic" if self._settings["pose_source"] == "tf" else "pose_topic"]))
        link = telemetry.link
        if not self.is_served:
            silent.append(str(self._settings["navigate_to_pose"]))
            link = Link.STALE if link is Link.UP else link
        return replace(telemetry, pose=self._localisation.pose, link=link, silent=(*telemetry.silent, *silent))

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Wait for a snapshot with `seq` greater than `after`; raises `TimeoutError`."""
        await self.base.next_telemetry(after, timeout_s=timeout_s)
        return self.telemetry()

    async def act(self, kind: str, *, parcel: str, mass_kg: float) -> None:
        """Ask the station at which the robot stands for an action."""
        await self.base.act(kind, parcel=parcel, mass_kg=mass_kg)

    def _on_odometry(self, message: Odometry, odometer_m: float) -> None:
        self._localisation.odometry(_stamp_ns(message.header.stamp), planar(message.pose.pose), odometer_m)
        due = not self._localisation.is_begun and time.monotonic() - self._asked > ASK_S
        if due and self._localise is not None and self._localise.service_is_ready():
            self._asked = time.monotonic()
            self._localise.call_async(Empty.Request())

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        pose = message.pose
        self._localisation.localised(_stamp_ns(message.header.stamp), planar(pose.pose), spread_m(pose.covariance))

    def _on_tf(self, message: Any) -> None:
        for one in message.transforms:
            frames = (one.header.frame_id.lstrip("/"), one.child_frame_id.lstrip("/"))
            if frames == (self._settings["map_frame"], self._settings["odom_frame"]):
                self._localisation.transformed(planar(one.transform))


class Nav2Driver(JobRunner):
    """Runs jobs on a robot that Nav2 drives. Implements `fleet_market.ports.RobotDriver`.

    Parameters
    ----------
    body : Nav2Body
    spec : DriverSpec
    actions : (NavigateToPose, ComputePathToPose)
        The action types of ``nav2_msgs``.
    settings : dict
        As `DEFAULTS`.
    """

    def __init__(self, body: Nav2Body, spec: DriverSpec, actions: tuple[Any, Any], settings: dict[str, Any]) -> None:
        super().__init__(spec, body)
        self._nav2, self._actions, self._settings = body, actions, settings
        self._goal: NavigationGoal | None = None
        self._superseded: list[NavigationGoal] = []
        self._braked = 0

    async def open(self, *, timeout_s: float) -> None:
        """Connect; a goal that a driver before this one has left behind is cancelled."""
        await super().open(timeout_s=timeout_s)
        self._nav2.cancel_all()

    async def close(self) -> None:
        """Stop, and disconnect."""
        await super().close()
        for goal in (*self._superseded, *([self._goal] if self._goal else [])):
            goal.forget()
        self._goal, self._superseded = None, []

    async def path_length_m(self, start: Pose, goal: Pose) -> float | None:
        """Return how long Nav2's planner finds the way; None where it has no planner, no way or no time to say so."""
        client = self._nav2.plan
        if client is None or not self._nav2.base.is_open or not client.server_is_ready():
            return None
        wish = self._actions[1].Goal()
        frame = self._settings["map_frame"]
        wish.start, wish.goal, wish.use_start = stamped(start, frame), stamped(goal, frame), True
        wish.planner_id = self._settings["planner_id"]
        ros = self._nav2.base.ros
        try:
            async with asyncio.timeout(PLAN_S):
                handle: Any = await ros.result(client.send_goal_async(wish))
                if not handle.accepted:
                    return None
                answer: Any = await ros.result(handle.get_result_async())
        except TimeoutError:
            return None
        points = [(p.pose.position.x, p.pose.position.y) for p in answer.result.path.poses]
        if answer.status != GoalStatus.STATUS_SUCCEEDED or not points:
            return None
        return sum(math.dist(a, b) for a, b in pairwise(points))

    async def _go(self, go: Go, end_ns: int) -> None:
        path = go.path or ((go.pose.x, go.pose.y),)
        self._passed, self._released = 0, go.released if go.path else 1
        tracker = PathTracker(path, Limits(self.spec.max_speed_mps, 1.0, 1.0))
        telemetry = self._body.telemetry()
        moved_ns, moved_at = telemetry.stamp_ns, telemetry.pose
        self._put_aside()
        try:
            await self._nav2.cancelled_all()
        except TimeoutError:
            raise JobError(End.LOST, "the navigation server does not answer") from None
        aim, at_goal = -1, -1
        while True:
            telemetry = await self._next(telemetry, end_ns)
            pose = telemetry.pose
            if pose is None:
                raise JobError(End.LOST, "no pose")
            seen = tracker.step(pose, self._released)
            self._passed = max(self._passed, seen.passed, at_goal + 1)
            if seen.off_path_m > self._settings["corridor_m"] and (self._passed or aim > 0):
                raise JobError(End.FAILED, f"{seen.off_path_m:.2f} m off the path")
            if at_goal == len(path) - 1 and not telemetry.moving:
                return self._prove(go, pose)
            at_goal = max(at_goal, self._check(aim, path, pose))
            further = _ahead(path, max(self._passed - 1, at_goal, 0), self._released, begun=self._passed > 0)
            if further > aim:
                aim = further
                self._send(path, aim, go)
            if moved_at is None or pose.distance_to(moved_at.x, moved_at.y) > MOVED_M or at_goal >= self._released - 1:
                moved_ns, moved_at = telemetry.stamp_ns, pose
            elif telemetry.stamp_ns - moved_ns > self._settings["stuck_s"] * 1e9:
                raise JobError(End.FAILED, f"blocked: not {MOVED_M:g} m in {self._settings['stuck_s']:g} s")

    def _check(self, aim: int, path: tuple[Point, ...], pose: Pose) -> int:
        """Return the index of the point at which Nav2 says that the robot is; -1 while it drives."""
        goal = self._goal
        if goal is None or not goal.ended:
            return -1
        if goal.state is not GoalState.SUCCEEDED:
            raise JobError(End.FAILED, f"Nav2 {goal.state} the goal{': ' if goal.reason else ''}{goal.reason}")
        off_m = pose.distance_to(*path[aim])
        if off_m > self._settings["corridor_m"]:
            raise JobError(End.FAILED, f"Nav2 says that it is there, {off_m:.2f} m from the goal")
        return aim

    def _prove(self, go: Go, pose: Pose) -> None:
        off_m = pose.distance_to(go.pose.x, go.pose.y)
        if off_m > go.tol_m:
            raise JobError(End.FAILED, f"ended {off_m:.2f} m from the goal")
        if go.tol_rad is not None and abs(turned := wrapped(pose.yaw - go.pose.yaw)) > go.tol_rad:
            raise JobError(End.FAILED, f"ended {abs(turned):.2f} rad from the heading of the goal")

    def _send(self, path: tuple[Point, ...], aim: int, go: Go) -> None:
        """Have Nav2 drive to a point of the path, instead of where it was to drive before."""
        last = aim == len(path) - 1
        heading = _heading(path, aim)
        yaw = go.pose.yaw if (last and go.tol_rad is not None) or heading is None else heading
        goal = self._actions[0].Goal()
        goal.pose = stamped(Pose(*path[aim], yaw), self._settings["map_frame"])
        goal.behavior_tree = self._settings["behavior_tree"]
        self._put_aside()
        if self._nav2.navigate is None:
            raise JobError(End.LOST, "the driver is not open")
        self._goal = NavigationGoal(self._nav2.base.ros, self._nav2.navigate, goal)

    def _put_aside(self) -> None:
        """Keep the present goal only until it has ended."""
        self._superseded = [old for old in (*self._superseded, self._goal) if old is not None and not old.ended]
        self._goal = None

    async def _brake(self) -> bool:
        """Cancel every goal, and where the robot drives without one of ours, those of whoever else has sent it."""
        if self._braked % 20 == 0 and self._goal is None and not self._superseded and self._nav2.telemetry().moving:
            self._nav2.cancel_all()
        self._braked += 1
        goals = [goal for goal in (*self._superseded, self._goal) if goal is not None and not goal.ended]
        for goal in goals:
            goal.cancel()
            if self._braked % 20 == 0:
                goal.cancel_again()
        if not goals:
            self._goal, self._superseded = None, []
        return not goals


def _ahead(path: tuple[Point, ...], at: int, released: int, *, begun: bool) -> int:
    """Return the index of the furthest released point to which the path runs straight from its point `at`."""
    if not begun:
        return 0
    best = at
    for aim in range(at + 1, min(released, len(path))):
        if any(_off_line(path[i], path[at], path[aim]) > STRAIGHT_M for i in range(at + 1, aim)):
            break
        best = aim
    return best


def _off_line(p: Point, a: Point, b: Point) -> float:
    length = math.dist(a, b)
    if length < STRAIGHT_M:
        return math.dist(p, a)
    t = ((p[0] - a[0]) * (b[0] - a[0]) + (p[1] - a[1]) * (b[1] - a[1])) / length**2
    t = min(1.0, max(0.0, t))
    return math.dist(p, (a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))


def _heading(path: tuple[Point, ...], at: int) -> float | None:
    """Return the heading in which the path comes to its point `at`; at its first one, that in which it leaves."""
    pairs = [(a, b) for a, b in pairwise(path[: max(at, 1) + 1]) if math.dist(a, b) > STRAIGHT_M / 5]
    if not pairs:
        return None
    (ax, ay), (bx, by) = pairs[-1]
    return math.atan2(by - ay, bx - ax)


def _stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def interfaces() -> tuple[Any, Any]:
    """Return the action types NavigateToPose and ComputePathToPose.

    Raises
    ------
    DriverMissingError
        If the message package of Nav2 is not installed.
    """
    try:
        from nav2_msgs.action import ComputePathToPose, NavigateToPose  # noqa: PLC0415 - not on PyPI
    except ImportError as error:
        raise DriverMissingError(
            "the driver nav2 needs the message package nav2_msgs, which is not on PyPI: apt install "
            "ros-$ROS_DISTRO-nav2-msgs, or source the workspace that holds Nav2, before the node is started"
        ) from error
    return NavigateToPose, ComputePathToPose


def _tf_message() -> Any:
    try:
        from tf2_msgs.msg import TFMessage  # noqa: PLC0415 - not on PyPI
    except ImportError as error:
        raise DriverMissingError(
            "pose_source tf needs the message package tf2_msgs, which is not on PyPI: apt install "
            "ros-$ROS_DISTRO-tf2-msgs, or use pose_source amcl_pose"
        ) from error
    return TFMessage


def driver(setup: DriverSetup) -> Nav2Driver:
    """Return the driver `nav2`; its settings are `DEFAULTS`."""
    settings = settings_of(setup, DEFAULTS, POSITIVE)
    if settings["pose_source"] not in {"amcl_pose", "tf"}:
        raise InputError("driver settings", "pose_source", settings["pose_source"], "use amcl_pose or tf")
    actions, stations = interfaces(), frozenset({"load", "unload", "charge"})
    base = RosVelocityBase(
        setup.ros,
        setup.robot,
        setup.type,
        actions=stations if settings["stations"] else frozenset(),
        drives=False,
        **{name: settings[name] for name in SETTINGS},
    )
    spec = replace(base.spec, lacks=frozenset({"speed_limit", "dead_man"}))
    return Nav2Driver(Nav2Body(base, settings, actions), spec, actions, settings)
