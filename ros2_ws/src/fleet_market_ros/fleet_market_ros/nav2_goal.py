"""One goal of Nav2's NavigateToPose action, as asyncio sees it."""

from __future__ import annotations

import asyncio
import math
from enum import StrEnum
from typing import Any

from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from geometry_msgs.msg import PoseStamped

from fleet_market.body import Pose
from fleet_market_ros.ros import Ros


class GoalState(StrEnum):
    """How far a goal is."""

    SENT = "sent"
    ACTIVE = "active"
    REJECTED = "rejected"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    CANCELED = "canceled"


ENDED = frozenset({GoalState.REJECTED, GoalState.SUCCEEDED, GoalState.ABORTED, GoalState.CANCELED})
_OF_STATUS = {
    GoalStatus.STATUS_SUCCEEDED: GoalState.SUCCEEDED,
    GoalStatus.STATUS_ABORTED: GoalState.ABORTED,
    GoalStatus.STATUS_CANCELED: GoalState.CANCELED,
}


class NavigationGoal:
    """Sends a goal at once; `state` follows what the server says, until it has `ended`.

    Parameters
    ----------
    ros : Ros
    client : rclpy.action.ActionClient
    goal : NavigateToPose.Goal
    """

    def __init__(self, ros: Ros, client: Any, goal: Any) -> None:
        self._ros, self._handle, self._canceling = ros, None, False
        self._asking: asyncio.Task[None] | None = None
        self.state, self.reason = GoalState.SENT, ""
        self._task = asyncio.create_task(self._follow(client, goal), name="navigation goal")
        self._task.add_done_callback(self._broken)

    @property
    def ended(self) -> bool:
        """Whether the server has nothing to do with it any more."""
        return self.state in ENDED

    async def _follow(self, client: Any, goal: Any) -> None:
        handle: Any = await self._ros.result(client.send_goal_async(goal))
        if not handle.accepted:
            self.state, self.reason = GoalState.REJECTED, "the navigation server rejected the goal"
            return
        self._handle, self.state = handle, GoalState.ACTIVE
        if self._canceling:
            self._cancel()
        answer: Any = await self._ros.result(handle.get_result_async())
        result = answer.result
        code, text = getattr(result, "error_code", 0), getattr(result, "error_msg", "")
        self.reason = f"error {code}{': ' if text else ''}{text}" if code or text else ""
        self.state = _OF_STATUS.get(answer.status, GoalState.ABORTED)

    def _broken(self, task: asyncio.Task[None]) -> None:
        """Take note that a goal can no longer be followed, e.g. because the node is gone."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.state, self.reason = GoalState.ABORTED, f"lost sight of the goal: {error}"

    def cancel(self) -> None:
        """Ask the server to cancel; a goal that it has not yet answered is cancelled when it has."""
        if self._canceling or self.ended:
            return
        self._canceling = True
        if self._handle is not None:
            self._cancel()

    def cancel_again(self) -> None:
        """Ask once more: a server that was busy may have refused."""
        self._canceling = False
        self.cancel()

    def _cancel(self) -> None:
        self._asking = asyncio.create_task(self._ask_to_cancel(), name="cancel")

    async def _ask_to_cancel(self) -> None:
        handle: Any = self._handle
        answer: Any = await self._ros.result(handle.cancel_goal_async())
        if answer.return_code == CancelGoal.Response.ERROR_UNKNOWN_GOAL_ID and not self.ended:
            self.state, self.reason = GoalState.ABORTED, "the navigation server has been restarted"

    def forget(self) -> None:
        """Stop following it."""
        self._task.cancel()
        if self._asking is not None:
            self._asking.cancel()


def stamped(pose: Pose, frame: str) -> PoseStamped:
    """Return a pose as a message; without stamp, which means *the newest transform*."""
    message = PoseStamped()
    message.header.frame_id = frame
    message.pose.position.x, message.pose.position.y = float(pose.x), float(pose.y)
    message.pose.orientation.z, message.pose.orientation.w = math.sin(pose.yaw / 2), math.cos(pose.yaw / 2)
    return message
