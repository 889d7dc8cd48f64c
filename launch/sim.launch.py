"""A whole fleet in PyBullet: market, simulated floor, and a node per robot once the floor is there.

ros2 launch launch/sim.launch.py fleet:=launch/fleets/warehouse.yaml speed:=3.0
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource

from fleet_market.daemons.programs import Site, simulator
from fleet_market_ros.launching import Action, essential, node, path_of, when_ready

HERE = Path(__file__).parent
ARGUMENTS = (
    DeclareLaunchArgument("fleet", description="Fleet file: zone, terms, customers, places, robots."),
    DeclareLaunchArgument("map", default_value="", description="Map; empty: the one that the fleet file names."),
    DeclareLaunchArgument("mqtt", default_value="127.0.0.1:1883", description="MQTT broker, HOST:PORT."),
    DeclareLaunchArgument("speed", default_value="1.0", description="How many times real time, 1 to 5."),
    DeclareLaunchArgument("seed", default_value="0", description="Fixes ties and how robots differ from data sheets."),
    DeclareLaunchArgument("keys", default_value="", description="Folder of keys; empty: unsigned, loopback only."),
    DeclareLaunchArgument("out", default_value="out/fleet", description="Folder for what comes out."),
)


def floor(context: LaunchContext) -> list[Action]:
    """Return what is started, by the launch arguments."""
    given = context.launch_configurations
    site = Site.of(
        Path(given["fleet"]),
        Path(given["out"]),
        mqtt=given["mqtt"],
        map_file=path_of(context, "map"),
        speed=float(given["speed"]),
        seed=int(given["seed"]),
        keys=path_of(context, "keys"),
    )
    shared = {name: given[name] for name in ("fleet", "map", "mqtt", "keys", "out")}
    world = node(simulator(site), site.keyed)
    return [
        _included("market", {**shared, "simulated": "true", "seed": given["seed"]}),
        *essential(world, "simulator"),
        when_ready(world, [_included("fleet", shared)]),
    ]


def _included(name: str, arguments: dict[str, str]) -> Action:
    source = PythonLaunchDescriptionSource(str(HERE / f"{name}.launch.py"))
    return IncludeLaunchDescription(source, launch_arguments=list(arguments.items()))


def generate_launch_description() -> LaunchDescription:
    """Return the description."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=floor)])
