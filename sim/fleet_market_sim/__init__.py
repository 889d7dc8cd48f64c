"""PyBullet stands in for physical robots: one world, true drives and batteries. Knows no ROS, no MQTT and no market."""

from fleet_market_sim.books import EnergyBooks
from fleet_market_sim.drivetrain import Truth
from fleet_market_sim.sensors import SensorNoise
from fleet_market_sim.state import SimRobotConfig, SimRobotState
from fleet_market_sim.surfaces import Region, Surface, SurfaceMap
from fleet_market_sim.world import Contacts, SimWorld

__all__ = [
    "Contacts",
    "EnergyBooks",
    "Region",
    "SensorNoise",
    "SimRobotConfig",
    "SimRobotState",
    "SimWorld",
    "Surface",
    "SurfaceMap",
    "Truth",
]
