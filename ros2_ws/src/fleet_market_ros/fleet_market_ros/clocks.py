"""Market time as a robot's node has it."""

from __future__ import annotations

from rclpy.node import Node

from fleet_market.ports import Clock, RobotDriver


class TelemetryClock:
    """Time as the robot's own sensors stamp it: the wall clock on a real robot, simulation time in a simulation."""

    def __init__(self, driver: RobotDriver) -> None:
        self._driver = driver

    def now_ns(self) -> int:
        """Return the stamp of the newest telemetry."""
        return self._driver.telemetry().stamp_ns


class RosClock:
    """The node's own clock, which follows ``/clock`` where `use_sim_time` is set; never goes back."""

    def __init__(self, node: Node) -> None:
        self._clock, self._latest_ns = node.get_clock(), 0

    def now_ns(self) -> int:
        """Return the time."""
        self._latest_ns = max(self._latest_ns, self._clock.now().nanoseconds)
        return self._latest_ns


def clock_of(node: Node, driver: RobotDriver) -> Clock:
    """Return the clock of a robot's agent: ROS time where `use_sim_time` is set, else that of its telemetry."""
    simulated = node.has_parameter("use_sim_time") and bool(node.get_parameter("use_sim_time").value)
    return RosClock(node) if simulated else TelemetryClock(driver)
