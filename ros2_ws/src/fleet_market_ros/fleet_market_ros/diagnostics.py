"""The robot's node on /diagnostics: state, battery, link, broker, what it does, and its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from fleet_market.body import Link
from fleet_market.robot.situation import Doing
from fleet_market_ros import qos
from fleet_market_ros.ros import Ros

if TYPE_CHECKING:
    from fleet_market_ros.robot_agent import RobotNode

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
TOPIC = "/diagnostics"
"""Absolute, as ROS's own tools expect it (REP 107)."""


class Diagnostics:
    """Publishes how one robot's node is.

    Parameters
    ----------
    ros : Ros
    robot : RobotNode
    """

    def __init__(self, ros: Ros, robot: RobotNode) -> None:
        self._ros, self._robot = ros, robot
        self._publisher = ros.publisher(DiagnosticArray, TOPIC, qos.DIAGNOSTICS)

    async def run(self, parameter: Callable[[str], Any]) -> None:
        """Publish every `diagnostics_period_s` until cancelled."""
        while True:
            message = DiagnosticArray(status=[self.status()])
            message.header.stamp = self._ros.node.get_clock().now().to_msg()
            self._publisher.publish(message)
            await asyncio.sleep(parameter("diagnostics_period_s"))

    def status(self) -> DiagnosticStatus:
        """Return how it is now; the worst finding gives level and text."""
        node, daemon = self._robot.node, self._robot.daemon
        findings: list[tuple[bytes, str]] = []
        values: dict[str, str] = {"state": node.label}
        if node.trouble is not None:
            findings.append((ERROR, str(node.trouble) or type(node.trouble).__name__))
        if node.label != "active":
            findings.append((WARN, node.label))
        elif daemon is not None:
            now, telemetry = daemon.agent.situation, daemon.agent.situation.telemetry
            battery, kind = None if telemetry is None else telemetry.battery.soc, now.config.type
            link = Link.LOST if telemetry is None else telemetry.link
            values |= {
                "robot": str(now.config.robot),
                "battery": "not measured" if battery is None else f"{battery:.3f}",
                "link": str(link),
                "silent": ", ".join(telemetry.silent) if telemetry is not None else "all",
                "broker": "connected" if daemon.online else "not connected",
                "doing": str(daemon.agent.doing),
                "bidding": "yes" if now.bidding else "no",
                "queue": " ".join(task.order for task in daemon.agent.tasks),
            }
            findings += [
                finding
                for holds, finding in (
                    (now.doing is Doing.FAULT, (ERROR, "does not get on with its task")),
                    (link is Link.LOST, (ERROR, "no telemetry")),
                    (link is Link.STALE, (WARN, "telemetry is old")),
                    (not daemon.online, (WARN, "the MQTT broker cannot be reached")),
                    (telemetry is not None and telemetry.silent, (WARN, f"silent: {values['silent']}: it does not bid")),
                    (battery is None, (WARN, "the battery is not measured: it does not bid")),
                    (battery is not None and battery < kind.battery.reserve_soc, (WARN, "battery below its reserve")),
                )
                if holds
            ]
        level, text = max(findings, key=lambda one: one[0], default=(OK, str(values.get("doing", "active"))))
        name = f"{node.get_namespace().rstrip('/')}/{node.get_name()}: market"
        robot = values.get("robot", "")
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=name, message=text, hardware_id=robot, values=pairs)
