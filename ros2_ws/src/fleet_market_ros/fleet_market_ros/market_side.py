"""What a robot's node says about its trade, in the messages of `fleet_market_msgs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_market.daemons.robot import RobotDaemon
from fleet_market.ports import Clock
from fleet_market_ros.ros import Ros

if TYPE_CHECKING:
    from fleet_market_ros.robot_agent import RobotNode


class MarketSide:
    """The robot's side of `fleet_market_msgs`."""

    def __init__(self, ros: Ros, robot: RobotNode) -> None:
        self._ros, self._robot = ros, robot

    def watch(self, daemon: RobotDaemon, clock: Clock) -> None:
        """Tell what a daemon hears and says."""
