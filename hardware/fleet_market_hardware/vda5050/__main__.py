"""Serve a robot as a VDA 5050 vehicle: ``python -m fleet_market_hardware.vda5050 --help`` says how."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

from pydantic import ValidationError

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_yaml
from fleet_market.errors import FleetMarketError, InputError
from fleet_market_hardware import drivers
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.serving import VehicleServer
from fleet_market_hardware.vda5050.versions import VERSIONS


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fleet_market_hardware.vda5050", description="Serve a robot as a VDA 5050 vehicle."
    )
    parser.add_argument("--driver", required=True, help="as `fleet-market driver list` names it")
    parser.add_argument("--settings", type=Path, help="YAML file of settings that go before those of the fleet file")
    parser.add_argument("--fleet", type=Path, required=True, help="fleet file that holds the robot")
    parser.add_argument("--robot", required=True, help="its id there, and its serial number as a vehicle")
    parser.add_argument("--manufacturer", default="fleet-market")
    parser.add_argument("--version", default="2.0.0", choices=sorted(VERSIONS))
    parser.add_argument("--map", default="local", help="mapId that it takes and says")
    parser.add_argument("--host", default="127.0.0.1", help="broker; MQTT 5")
    parser.add_argument("--port", type=int, default=1883)
    return parser.parse_args()


def _server(options: argparse.Namespace) -> VehicleServer:
    fleet = load_fleet(options.fleet)
    robot = next((one for one in fleet.robots if one.id == options.robot), None)
    if robot is None:
        known = ", ".join(one.id for one in fleet.robots)
        raise InputError(str(options.fleet), "robot", options.robot, f"use one of {known}")
    settings = robot.driver_settings | (load_yaml(options.settings) if options.settings else {})
    driver = drivers.find(options.driver)(drivers.DriverSetup(robot.id, robot.type, settings))
    try:
        config = VehicleConfig(
            robot=robot.id,
            manufacturer=options.manufacturer,
            serial=robot.id,
            version=options.version,
            map_id=options.map,
            max_speed_mps=robot.type.max_speed_mps,
            max_payload_kg=robot.type.max_payload_kg,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError("options", ".".join(map(str, first["loc"])), first.get("input"), first["msg"]) from None
    return VehicleServer(config, driver, options.host, options.port, accel_mps2=robot.type.max_accel_mps2)


try:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_server(_options()).run())
except (FleetMarketError, TimeoutError, OSError) as problem:
    sys.exit(str(problem))
