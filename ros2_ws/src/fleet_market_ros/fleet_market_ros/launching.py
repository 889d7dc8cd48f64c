"""What the launch files of a fleet are made of: its programs as actions of ROS's launch tool.

`launch` and `launch_ros` come with an installed ROS, not as wheels: only launch files import this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch import LaunchContext
from launch.actions import EmitEvent, ExecuteProcess, LogInfo, RegisterEventHandler, TimerAction
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import Shutdown
from launch_ros.actions import Node

from fleet_market.daemons.programs import READY, ROS_PACKAGE, BackOff, Program, RosNode

Action = Any
"""The tool's own base class has no types."""


def process(program: Program) -> Action:
    """Return the action that runs a program."""
    return ExecuteProcess(
        cmd=list(program.arguments),
        name=program.name,
        additional_env=dict(program.environment or {}),
        output="both",
    )


def node(spec: RosNode, environment: Mapping[str, str] | None = None) -> Action:
    """Return the action that runs a node."""
    return Node(
        package=ROS_PACKAGE,
        executable=spec.executable,
        namespace=spec.namespace or None,
        parameters=[dict(spec.parameters)] if spec.parameters else None,
        arguments=list(spec.arguments),
        additional_env=dict(environment or {}),
        output="both",
    )


def essential(action: Action, name: str) -> list[Action]:
    """Return an action together with the handler that ends the launch when its process ends."""
    end = EmitEvent(event=Shutdown(reason=f"{name} has ended, and nothing goes on without it"))
    return [action, RegisterEventHandler(OnProcessExit(target_action=action, on_exit=[end]))]


def restarted(make: Callable[[], Action], name: str, back_off: BackOff | None = None) -> list[Action]:
    """Return an action together with the handler that starts it again when its process dies, later each time.

    Parameters
    ----------
    make : callable
        Makes the action, anew for each start.
    """
    action, starts = make(), back_off or BackOff(time.monotonic())

    def again(_event: Any, context: LaunchContext) -> Sequence[Action]:
        if context.is_shutdown:
            return []
        wait_s = starts.died(time.monotonic())
        starts.begun_s = time.monotonic() + wait_s
        told = LogInfo(msg=f"{name} has died; it is started again in {wait_s:g} s")
        return [told, TimerAction(period=wait_s, actions=restarted(make, name, starts))]

    return [action, RegisterEventHandler(OnProcessExit(target_action=action, on_exit=again))]


def when_ready(action: Action, then: Sequence[Action]) -> Action:
    """Return the handler that does `then` once the process of an action has said that it is ready."""
    done = False

    def said(event: Any) -> Sequence[Action]:
        nonlocal done
        if done or READY.encode() not in event.text:
            return []
        done = True
        return then

    return RegisterEventHandler(OnProcessIO(target_action=action, on_stdout=said, on_stderr=said))


def path_of(context: LaunchContext, name: str) -> Path | None:
    """Return a launch argument that names a file; None if it is empty."""
    text = context.launch_configurations[name]
    return Path(text) if text else None
