"""The robots of a fleet: one lifecycle node per robot, in its namespace. A node that dies is started again.

ros2 launch launch/fleet.launch.py fleet:=launch/fleets/warehouse.yaml mqtt:=market.example:8883 keys:=keys driver:=nav2
"""

from functools import partial
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from fleet_market.daemons.programs import Site, robot_agent
from fleet_market_ros.launching import Action, node, path_of, restarted

ARGUMENTS = (
    DeclareLaunchArgument("fleet", description="Fleet file: zone, terms, customers, places, robots."),
    DeclareLaunchArgument("map", default_value="", description="Map; empty: the one that the fleet file names."),
    DeclareLaunchArgument("mqtt", default_value="127.0.0.1:1883", description="MQTT broker of the market, HOST:PORT."),
    DeclareLaunchArgument("driver", default_value="", description="Of all robots; empty: as the fleet file says of each."),
    DeclareLaunchArgument("robots", default_value="", description="Ids, with commas between; empty: all of the file."),
    DeclareLaunchArgument("keys", default_value="", description="Folder of keys; empty: unsigned, loopback only."),
    DeclareLaunchArgument("out", default_value="out/fleet", description="Folder for what robots learn."),
)


def robots(context: LaunchContext) -> list[Action]:
    """Return what is started, by the launch arguments."""
    given = context.launch_configurations
    site = Site.of(
        Path(given["fleet"]),
        Path(given["out"]),
        mqtt=given["mqtt"],
        map_file=path_of(context, "map"),
        driver=given["driver"],
        keys=path_of(context, "keys"),
    )
    chosen = site.chosen(given["robots"])
    return [action for robot in chosen for action in restarted(partial(node, robot_agent(site, robot)), str(robot))]


def generate_launch_description() -> LaunchDescription:
    """Return the description."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=robots)])
