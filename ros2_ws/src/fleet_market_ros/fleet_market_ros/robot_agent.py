"""The robot's node: drives its base by ROS topics, trades on MQTT.

Parameters (from the parameter file): `robot`, `fleet` and `map` (files), `mqtt` (HOST:PORT), and perhaps `memory`, the file
that keeps what the robot learns, and `keys`, a folder of keys (default: the environment's FLEET_MARKET_KEYS). The node runs
in the robot's namespace.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.daemons.robot import RobotConfig, RobotDaemon, new_session
from fleet_market.daemons.serving import run_until_signal
from fleet_market.errors import FleetMarketError, InputError
from fleet_market.maps.surfaces import Surfaces
from fleet_market.robot.agent import AgentConfig
from fleet_market.robot.floor import lay_out
from fleet_market.robot.tracking import Limits
from fleet_market_hardware.follower import Follower
from fleet_market_ros.base import RosVelocityBase
from fleet_market_ros.ros import Ros

log = logging.getLogger("robot_agent")


class TelemetryClock:
    """Market time as the robot's own sensors stamp it: simulation time in a simulation."""

    def __init__(self, base: RosVelocityBase) -> None:
        self._base = base

    def now_ns(self) -> int:
        """Return the stamp of the newest telemetry."""
        return self._base.telemetry().stamp_ns


def _config(ros: Ros) -> tuple[RobotConfig, str]:
    """Return the configuration that the node's parameters name."""
    values = {name: str(ros.parameter(name, "")) for name in ("robot", "fleet", "map", "mqtt")}
    for name, value in values.items():
        if not value:
            raise InputError("parameters", name, value, "set it in the parameter file")
    fleet = load_fleet(Path(values["fleet"]))
    robot = next((r for r in fleet.robots if r.id == values["robot"]), None)
    if robot is None:
        raise InputError(values["fleet"], "robots", values["robot"], "no such robot: use an id of the file")
    floor = lay_out(fleet, load_map(Path(values["map"])), source=values["fleet"])
    host, port = parse_endpoint(values["mqtt"])
    agent = AgentConfig(
        robot.id,
        robot.type,
        floor.homes[robot.id],
        floor.chargers,
        fleet.tariff,
        floor.roadmap,
        new_session(),
        Surfaces(fleet.surfaces),
    )
    memory = str(ros.parameter("memory", ""))
    keys = str(ros.parameter("keys", os.environ.get(KEYS_VARIABLE, "")))
    config = RobotConfig(
        agent,
        robot.owner,
        host,
        port,
        fleet.zone,
        memory=Path(memory) if memory else None,
        keys=Path(keys) if keys else None,
    )
    return config, values["robot"]


async def serve() -> None:
    """Run the node until it is cancelled."""
    async with Ros("robot_agent", sys.argv) as ros:
        config, name = _config(ros)
        kind = config.agent.type
        base = RosVelocityBase(ros, config.agent.robot, kind)
        driver = Follower(base, Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps))
        daemon = RobotDaemon(config, driver, TelemetryClock(base))
        await daemon.run(ready=lambda: log.info("READY %s", name))


def main() -> None:
    """Run the node until SIGINT or SIGTERM."""
    try:
        run_until_signal(serve())
    except FleetMarketError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is for a user, who mends his files
        sys.exit(2)


if __name__ == "__main__":
    main()
