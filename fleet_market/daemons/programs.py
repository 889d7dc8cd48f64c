"""What runs a fleet: the programs, their arguments, and who needs whom.

The demo, ``fleet-market up`` and the launch files start what is described here, so that a fleet is the same whichever way
it is started.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.fleet_files import load_fleet, write_fleet
from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.errors import FleetMarketError, InputError
from fleet_market.ids import RobotId, ZoneId
from fleet_market.robot.fleet import Fleet
from fleet_market.robot.floor import TRACKING_MARGIN_M, Floor, lay_out

READY = "READY"
"""What a program of the market says when it serves."""
MARKET_STAGE, FLEET_STAGE = 1, 2
LOOPBACK = "127.0.0.1"
ROS_PACKAGE = "fleet_market_ros"
FIRST_RESTART_S, MAX_RESTART_S = 1.0, 30.0
OLD_S = 60.0
"""A program that has lived so long did not die young."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process to be run.

    Parameters
    ----------
    name : str
        Unique; names its log file too.
    arguments : sequence of str
    environment : mapping, optional
        On top of the environment of the supervisor.
    ready : str
        It is ready when its log contains this; empty: at once.
    critical : bool
        Whether its death ends everything.
    stage : int
        Programs of a higher stage need those of lower ones, and are ended before them.
    restart : bool
        Whether it is started again when it dies.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] | None = None
    ready: str = ""
    critical: bool = True
    stage: int = 0
    restart: bool = False


@dataclass(slots=True)
class BackOff:
    """How long a program that has died is left alone: twice as long each time that it dies young."""

    begun_s: float
    """When it was started last."""
    next_s: float = 0.0

    def died(self, now_s: float) -> float:
        """Return after how many seconds it is to be started again."""
        wait_s = FIRST_RESTART_S if now_s - self.begun_s >= OLD_S else max(self.next_s, FIRST_RESTART_S)
        self.next_s = min(2 * wait_s, MAX_RESTART_S)
        return wait_s


@dataclass(frozen=True, slots=True)
class RosNode:
    """A node of `fleet_market_ros` as launch files know it."""

    executable: str
    namespace: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    arguments: Sequence[str] = ()

    def command(self, folder: Path) -> list[str]:
        """Return how to start it without ROS's launch tool; its parameters are written into `folder`."""
        command = [sys.executable, "-m", f"{ROS_PACKAGE}.{self.executable}", *self.arguments]
        if not self.parameters:
            return command
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.namespace or self.executable}.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(self.parameters)}}))
        return [*command, "--ros-args", "-r", f"__ns:=/{self.namespace}", "--params-file", str(file)]


@dataclass(frozen=True, slots=True)
class Site:
    """One fleet on its floor, and where its programs find each other.

    Parameters
    ----------
    fleet : Fleet
    file : Path
        Its file, with a parking place for every robot and all chargers.
    map : Path
    mqtt : str
        MQTT broker, HOST:PORT.
    out : Path
        Folder for what the programs write.
    simulated : bool
        Whether the robots are PyBullet's, and the market's time is theirs.
    """

    fleet: Fleet
    file: Path
    map: Path
    mqtt: str
    out: Path
    simulated: bool = True
    seed: int = 0
    speed: float = 1.0
    keys: Path | None = None
    driver: str = ""
    """Of every robot's node; empty: what the fleet file says of each."""

    @classmethod
    def of(cls, file: Path, out: Path, *, mqtt: str, map_file: Path | None = None, **more: Any) -> Site:
        """Read a fleet file, give every robot a parking place, and write the complete file into `out`.

        Raises
        ------
        InputError
            If a file is wrong, or no map is named.
        """
        fleet = load_fleet(file)
        if (chosen := map_file or fleet.map) is None:
            raise InputError(str(file), "map", None, "name a map there, or give one beside it")
        floor: Floor = lay_out(fleet, load_map(chosen), source=str(file))
        out = out.resolve()
        out.mkdir(parents=True, exist_ok=True)
        complete = out / "fleet.yaml"
        write_fleet(file, complete, floor.homes, floor.chargers, chosen)
        return cls(fleet, complete, chosen.resolve(), mqtt, out, **more)

    def chosen(self, names: str) -> list[RobotId]:
        """Return robots of the fleet by their ids, with commas between; all of them if there are none.

        Raises
        ------
        InputError
            If one is not in the fleet file.
        """
        known = [robot.id for robot in self.fleet.robots]
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        for name in wanted:
            if name not in known:
                raise InputError(str(self.file), "robots", name, f"use ids of the file: {', '.join(known)}")
        return [robot for robot in known if not wanted or robot in wanted]

    @property
    def keyed(self) -> dict[str, str]:
        """The environment that names the keys, whatever the user's own names."""
        return {KEYS_VARIABLE: "" if self.keys is None else str(self.keys.resolve())}


def ros_discovery() -> Any:
    """Return the module that knows how ROS nodes find each other; imported by name, since the market knows no ROS.

    Raises
    ------
    FleetMarketError
        If ROS 2 or the robots' nodes are not installed.
    """
    try:
        importlib.import_module("rclpy")
        return importlib.import_module(f"{ROS_PACKAGE}.discovery")
    except ImportError as error:
        mend = "run `make setup`, or install the extra ros-kilted and ros2_ws/src/fleet_market_ros"
        raise FleetMarketError(f"robots need ROS 2 and their nodes ({error}): {mend}") from None


def mosquitto(site: Site, folder: Path, say: Callable[[str], None]) -> Program:
    """Return the site's MQTT broker, on the loopback interface, with TLS where the site has keys.

    It writes below the site's own folder alone: the folder of keys may serve another broker at the same time.

    Parameters
    ----------
    folder : Path
        Where it is unpacked if the machine has none.
    say : callable
        Takes lines for the user.

    Raises
    ------
    InputError
        If the folder of keys has none of a broker.
    """
    own, tls = site.out / "mosquitto", None
    if site.keys is not None:
        from fleet_market.adapters.key_folder import broker_tls  # noqa: PLC0415 - see guard_for

        tls = replace(broker_tls(site.keys, LOOPBACK), pid=own / "mosquitto.pid")
        if not tls.certificate.exists():
            mend = "use the operator's folder, or a broker that runs, with mqtt"
            raise InputError(str(site.keys), "keys of the MQTT broker", "not there", mend)
    found = mosquitto_adapter.install(folder, say=say)
    _, port = parse_endpoint(site.mqtt)
    config = mosquitto_adapter.write_config(own, port, tls=tls)
    return Program("mosquitto", [str(found.path), "-c", str(config)], found.environment())


def market(site: Site) -> Program:
    """Return the market daemon of the site's zone."""
    command = [sys.executable, "-m", "fleet_market", "broker", "--fleet", str(site.file), "--seed", str(site.seed)]
    command += ["--database", str(site.out / "market.db"), "--mqtt", site.mqtt]
    command += ["--simulated"] if site.simulated else []
    return Program("market", command, site.keyed, ready=READY, stage=MARKET_STAGE)


def oracle(zone: ZoneId, site: Site) -> Program:
    """Return the oracle of a zone."""
    command = [sys.executable, "-m", "fleet_market", "oracle", "--mqtt", site.mqtt, "--zone", zone]
    command += ["--evidence", str(site.out / "evidence.db"), "--chargers", str(len(load_fleet(site.file).chargers))]
    clearance_m = site.fleet.footprint_radius_m + TRACKING_MARGIN_M
    command += ["--map", str(site.map), "--clearance", f"{clearance_m:.3f}"]
    return Program("oracle", command, site.keyed, ready=READY, stage=MARKET_STAGE)


def simulator(site: Site) -> RosNode:
    """Return the PyBullet world with all robots of the fleet in it; whom Nav2 drives, a stand-in of it drives there."""
    arguments = ["--fleet", str(site.file), "--map", str(site.map), "--mqtt", site.mqtt, "--out", str(site.out)]
    arguments += ["--speed", str(site.speed), "--seed", str(site.seed)]
    by_nav2 = [robot.id for robot in site.fleet.robots if (site.driver or robot.driver) == "nav2"]
    return RosNode("simulator", arguments=[*arguments, "--nav2", ",".join(by_nav2)] if by_nav2 else arguments)


def robot_agent(site: Site, robot: RobotId) -> RosNode:
    """Return the node of one robot."""
    (own,) = (entry for entry in site.fleet.robots if entry.id == robot)
    parameters = {
        **own.parameters,
        "robot": str(robot),
        "fleet": str(site.file),
        "map": str(site.map),
        "mqtt": site.mqtt,
        "memory": str(site.out / "memory" / f"{robot}.json"),
        "keys": site.keyed[KEYS_VARIABLE],
        "driver": site.driver or own.driver,
    }
    return RosNode("robot_agent", robot.ros_namespace, parameters)


def recorder(file: Path) -> RosNode:
    """Return the node that records every topic of its ROS domain to a new MCAP file."""
    return RosNode("recorder", parameters={"out": str(file.resolve()), "topics": "/*"})


def market_programs(site: Site) -> list[Program]:
    """Return the programs that do not need ROS: market and oracle."""
    return [market(site), oracle(site.fleet.zone, site)]


def fleet_programs(site: Site, environment: Mapping[str, str], *, restart: bool) -> list[Program]:
    """Return the programs of the fleet: the simulated floor where there is one, and a node per robot.

    Parameters
    ----------
    environment : mapping
        Of nodes, see `fleet_market_ros.discovery`.
    restart : bool
        Whether a robot's node that dies is started again.
    """
    folder = site.out / "parameters"
    environment = {**site.keyed, **environment}
    programs = []
    if site.simulated:
        command = simulator(site).command(folder)
        programs.append(Program("simulator", command, environment, ready=READY, stage=MARKET_STAGE))
    for robot in site.fleet.robots:
        node = robot_agent(site, robot.id).command(folder)
        programs.append(
            Program(str(robot.id), node, environment, READY, critical=False, stage=FLEET_STAGE, restart=restart)
        )
    return programs
