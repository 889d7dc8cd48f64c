"""PyBullet stands in for physical robots: one world, true drives and batteries. Knows no ROS, no MQTT and no market."""

from fleet_market_sim.drivetrain import Truth
from fleet_market_sim.world import Contacts, SimRobotConfig, SimRobotState, SimWorld

__all__ = ["Contacts", "SimRobotConfig", "SimRobotState", "SimWorld", "Truth"]
