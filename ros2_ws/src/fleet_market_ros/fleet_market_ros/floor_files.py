"""What a robot's node reads from files; the robots of one process read a file once."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.errors import InputError
from fleet_market.ids import OwnerId, RobotId, ZoneId
from fleet_market.maps.places import Places
from fleet_market.maps.surfaces import Surfaces
from fleet_market.robot.agent import AgentConfig
from fleet_market.robot.fleet import Fleet
from fleet_market.robot.floor import Floor, lay_out
from fleet_market_ros.memory import give_back

_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Ground:
    """What the files say to one robot."""

    agent: AgentConfig
    owner: OwnerId
    zone: ZoneId
    places: Places


def ground_of(fleet_file: Path, map_file: Path, robot: RobotId) -> Ground:
    """Return what the agent of a robot must know, whose it is, and where it trades.

    Raises
    ------
    InputError
        If a file is not there or wrong, or the fleet has no such robot.
    """
    with _reading:  # else all robots of a process read the same file at once
        fleet, floor, surfaces, places = _read(fleet_file, map_file, _changed_ns(fleet_file), _changed_ns(map_file))
    found = next((one for one in fleet.robots if one.id == robot), None)
    if found is None:
        known = ", ".join(one.id for one in fleet.robots[:10])
        raise InputError(str(fleet_file), "robots", str(robot), f"no such robot: use one of {known}")
    agent = AgentConfig(
        found.id, found.type, floor.homes[found.id], floor.chargers, fleet.tariff, floor.roadmap, 0, surfaces, fleet.consult
    )
    return Ground(agent, found.owner, fleet.zone, places)


@lru_cache(maxsize=2)
def _read(fleet_file: Path, map_file: Path, *_changed: int) -> tuple[Fleet, Floor, Surfaces, Places]:
    fleet = load_fleet(fleet_file)
    grid = load_map(map_file)
    floor = lay_out(fleet, grid, source=str(fleet_file))
    places = Places(grid, floor.roadmap, fleet.places)
    give_back()
    return fleet, floor, Surfaces(fleet.surfaces), places


def _changed_ns(file: Path) -> int:
    """Return when a file was changed; 0 where there is none, which whoever reads it says."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
