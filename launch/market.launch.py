"""The market of a fleet: Mosquitto, the market daemon and the oracle. The end of any of them ends the launch.

ros2 launch launch/market.launch.py fleet:=launch/fleets/warehouse.yaml
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from fleet_market.daemons.programs import Site, market, mosquitto, oracle
from fleet_market_ros.launching import Action, essential, path_of, process

ARGUMENTS = (
    DeclareLaunchArgument("fleet", description="Fleet file: zone, terms, customers, places, robots."),
    DeclareLaunchArgument("map", default_value="", description="Map; empty: the one that the fleet file names."),
    DeclareLaunchArgument("mqtt", default_value="127.0.0.1:1883", description="MQTT broker, HOST:PORT."),
    DeclareLaunchArgument("mosquitto", default_value="true", choices=["true", "false"],
                          description="Start Mosquitto at that port of the loopback interface, with keys by TLS."),
    DeclareLaunchArgument("simulated", default_value="false", choices=["true", "false"],
                          description="Take the time from a simulator's clock on MQTT."),
    DeclareLaunchArgument("seed", default_value="0", description="Draws the ties."),
    DeclareLaunchArgument("keys", default_value="", description="Folder of keys; empty: unsigned, loopback only."),
    DeclareLaunchArgument("out", default_value="out/fleet", description="Folder for database, logs and parameters."),
)  # fmt: skip


def programs(context: LaunchContext) -> list[Action]:
    """Return what is started, by the launch arguments."""
    given = context.launch_configurations
    site = Site.of(
        Path(given["fleet"]),
        Path(given["out"]),
        mqtt=given["mqtt"],
        map_file=path_of(context, "map"),
        simulated=given["simulated"] == "true",
        seed=int(given["seed"]),
        keys=path_of(context, "keys"),
    )
    started = [market(site), oracle(site.fleet.zone, site)]
    if given["mosquitto"] == "true":
        started.insert(0, mosquitto(site, Path(".cache/mosquitto"), print))
    return [action for program in started for action in essential(process(program), program.name)]


def generate_launch_description() -> LaunchDescription:
    """Return the description."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=programs)])
