"""Open-RMF's fleet configuration and its maps, as parts of a fleet file of ours.

Written against Open-RMF's public formats: `FleetConfiguration::from_config_files` of rmf_fleet_adapter, the navigation
graphs that `building_map_generator nav` of rmf_building_map_tools writes, and the building maps of its traffic editor.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fleet_market.adapters.fleet_files import load_fleet, shipped_types
from fleet_market.adapters.foreign import Fields, Note
from fleet_market.adapters.map_files import load_yaml
from fleet_market.body import Point
from fleet_market.errors import InputError
from fleet_market.ids import RobotId

MAX_NAME = 64
UC_PER_CREDIT = 10**6
RESUME_MARGIN = 0.05
"""Charged so far above the reserve, a robot may work again [assumption]."""
_R = "rmf_fleet."
REASONS = {
    "fleet_manager": "how the adapter reaches the robots: here a driver does (docs/drivers.md)",
    "reference_coordinates": "give every robot's localisation the frame of the map: poses are not transformed",
    _R + "transforms": "give every robot's localisation the frame of the map: poses are not transformed",
    _R + "profile.vicinity": "the distance between robots follows from the footprint",
    _R + "reversible": "robots turn on the spot",
    _R + "mechanical_system.moment_of_inertia": "turning is priced by the motors' losses",
    _R + "mechanical_system.friction_coefficient": "lumps what is modelled apart here (rolling resistance, motors): "
    "the values of the type are kept, and robots learn from what they measure",
    _R + "tool_system": "an order's handling has no power of its own: it is measured",
    _R + "account_for_battery_drain": "always accounted for",
    _R + "publish_fleet_state": "robots publish their own state",
    _R + "actions": "an order is a delivery: other actions are not traded",
    _R + "responsive_wait": "traffic control reserves ways",
    _R + "reassign_task_interval": "contracts are re-traded when it pays (docs/retrading.md)",
}


@dataclass(frozen=True, slots=True)
class Graph:
    """The waypoints of one level."""

    source: str
    points: tuple[Point, ...]
    """By index, metres, map frame."""
    names: dict[str, int]
    chargers: tuple[int, ...]
    notes: tuple[Note, ...]

    def find(self, name: str, source: str, where: str) -> int:
        """Return the index of a waypoint.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        if name not in self.names:
            known = ", ".join(sorted(self.names)[:12]) or "none"
            raise InputError(source, where, name, f"use a waypoint of {self.source}: {known}")
        return self.names[name]


def load_graph(path: Path, level: str | None = None) -> Graph:
    """Return the waypoints of a level in a navigation graph or a building map.

    Parameters
    ----------
    level : str, optional
        Needed where the file has several.

    Raises
    ------
    InputError
        At the first thing that is wrong.
    """
    root = Fields(load_yaml(path), str(path))
    levels = root.fields("levels")
    names = list(levels)
    if level is None and len(names) != 1:
        raise InputError(str(path), "levels", names, "choose one with --level: a market zone is one floor")
    chosen = names[0] if level is None else level
    if chosen not in names:
        raise InputError(str(path), "levels", chosen, f"use one of {', '.join(map(str, names)) or 'none: add one'}")
    floor = levels.fields(chosen)
    rows = floor.get("vertices")
    if not isinstance(rows, list):
        raise floor.wrong("vertices", "use a list of waypoints")
    building = "coordinate_system" in root or any(isinstance(row, list) and len(row) > 3 for row in rows)
    parsed = [_vertex(floor, i, row, building=building) for i, row in enumerate(rows)]
    scale = _scale(root, floor, [point for point, _, _ in parsed]) if building else (1.0, 1.0)
    found: dict[str, int] = {}
    for i, (_, name, _) in enumerate(parsed):
        if not name:
            continue
        if name in found or ";" in name or len(name) > MAX_NAME:
            mend = f"use a name of its own, of at most {MAX_NAME} characters without ';'"
            raise InputError(str(path), floor.path(f"vertices[{i}]"), name, mend)
        found[name] = i
    for other in names:
        if other != chosen:
            levels.tell(other, "another floor is another zone: import it into a fleet file of its own")
    floor.tell(
        "vertices", "of waypoints, names, positions and chargers are taken over; docks, holding points, mutexes are not"
    )
    floor.tell("lanes", "robots find their ways on the occupancy map, not on lanes, with their rules")
    return Graph(
        str(path),
        tuple((x * scale[0], y * scale[1]) for (x, y), _, _ in parsed),
        found,
        tuple(i for i, (_, _, charger) in enumerate(parsed) if charger),
        tuple(root.notes()),
    )


def _vertex(floor: Fields, i: int, row: Any, *, building: bool) -> tuple[Point, str, bool]:
    """Return position, name and whether a charger stands there."""
    where = f"vertices[{i}]"
    if not isinstance(row, list) or len(row) < 2:
        mend = "use [x, y, elevation, name, {parameters}]" if building else "use [x, y, {parameters}]"
        raise InputError(floor.source, floor.path(where), row, mend)
    x, y = (floor.limited(f"{where}[{k}]", row[k], -1e5, 1e5) for k in (0, 1))
    last = row[-1] if isinstance(row[-1], dict) else {}
    name = (row[3] if len(row) > 3 else "") if building else last.get("name", "")
    if not isinstance(name, str):
        raise InputError(floor.source, floor.path(f"{where}.name"), name, "use a text")
    flag = last.get("is_charger", False)
    if building and isinstance(flag, list):
        flag = flag[-1] if flag else False
    return (x, y), name, flag is True


def _scale(root: Fields, floor: Fields, points: list[Point]) -> tuple[float, float]:
    """Return metres per unit of the map along x and y; y points down in an image.

    As rmf_building_map_tools: the mean over all measurements of metres by drawn length.
    """
    system = root.text("coordinate_system") or "reference_image"
    if system == "cartesian_meters":
        return 1.0, 1.0
    if system != "reference_image":
        mend = "use reference_image or cartesian_meters, or give the graph that `building_map_generator nav` writes"
        raise root.wrong("coordinate_system", mend)
    found = []
    for i, row in enumerate(floor.get("measurements") or []):
        where = f"measurements[{i}]"
        try:
            a, b, metres = points[row[0]], points[row[1]], row[2]["distance"][1]
        except (IndexError, KeyError, TypeError):
            mend = "use [from, to, {distance: [3, metres]}]"
            raise InputError(floor.source, floor.path(where), row, mend) from None
        if (drawn := math.dist(a, b)) == 0:
            raise InputError(floor.source, floor.path(where), row, "measure between two different points")
        found.append(floor.limited(f"{where}.distance", metres, 1e-3) / drawn)
    if not found:
        raise floor.wrong("measurements", "measure a distance in the traffic editor: without it a pixel has no size")
    return (scale := sum(found) / len(found)), -scale


@dataclass(slots=True)
class ImportedFleet:
    """A fleet file's content, and what became of the rest."""

    data: dict[str, Any]
    notes: list[Note] = field(default_factory=list)


def import_fleet(
    config: Path, graph: Graph | None = None, *, like: str = "carrier", map_file: Path | None = None, credits_: str = "5000"
) -> ImportedFleet:
    """Return our fleet file for a fleet adapter's configuration.

    Parameters
    ----------
    like : str
        Known robot type whose values stand where Open-RMF has none (motors, wear, wheels, payload).
    map_file : Path, optional
        Occupancy map of the floor.
    credits_ : str
        What the customer `demo` gets to spend.

    Raises
    ------
    InputError
        At the first thing that is wrong.
    """
    root = Fields(load_yaml(config), str(config), reasons=REASONS)
    if "rmf_fleet" not in root:
        raise root.wrong("rmf_fleet", "name the configuration file of a fleet adapter")
    fleet = root.fields("rmf_fleet")
    name = fleet.text("name")
    if name is None:
        raise fleet.wrong("name", "name the fleet")
    types = shipped_types()
    if like not in types:
        raise InputError("--like", "type", like, f"use one of {', '.join(sorted(types))}")
    parks, robots = _robots(fleet, name, graph)
    chargers = _chargers(fleet, graph)
    data: dict[str, Any] = {} if map_file is None else {"map": str(map_file)}
    data["customers"] = {"demo": credits_}
    if graph is not None:
        taken = {*chargers, *parks}
        data["places"] = {n: _written(graph.points[i]) for n, i in graph.names.items() if i not in taken}
        data["chargers"] = [_written(graph.points[i]) for i in chargers]
    data["types"] = {name: {"like": like, **_type(fleet, like)}}
    data["robots"] = robots
    notes = root.notes()
    notes += [Note(str(config), "customers", f"`demo` gets {credits_} credits: Open-RMF has no money; set what yours have")]
    notes += [
        Note(str(config), f"types.{name}", f"motors, wheels, wear, payload as of {like!r}: put your data sheet's there")
    ]
    if map_file is None:
        notes += [
            Note(str(config), "map", "name an occupancy map in the written file, or give --map: lanes alone do not do")
        ]
    return ImportedFleet(data, notes + list(graph.notes if graph else ()))


def _type(fleet: Fields, like: str) -> dict[str, Any]:
    """Return the fields of our robot type that Open-RMF knows."""
    limits, battery = fleet.fields("limits"), fleet.fields("battery_system")
    linear = limits.numbers("linear", 2, 1e-3) or (None, None)
    angular = limits.numbers("angular", 2, 1e-3) or (None, None)
    values: dict[str, float | None] = {
        "max_speed_mps": linear[0],
        "max_accel_mps2": linear[1],
        "max_yaw_rate_radps": angular[0],
        "max_yaw_accel_radps2": angular[1],
        "footprint_radius_m": fleet.fields("profile").number("footprint", 0.01, 100),
        "mass_kg": fleet.fields("mechanical_system").number("mass", 0.1),
        "hotel_w": fleet.fields("ambient_system").number("power", 0),
    }
    cells = _battery(fleet, battery, like)
    known: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    return known | ({"battery": cells} if cells else {})


def _battery(fleet: Fields, battery: Fields, like: str) -> dict[str, Any]:
    volts, ah = battery.number("voltage", 0.1, 1e4), battery.number("capacity", 1e-3, 1e6)
    amps = battery.number("charging_current", 1e-3, 1e5)
    cells: dict[str, Any] = {}
    if volts is not None and ah is not None:
        known = shipped_types()[like].battery
        price_uc = round(known.replacement_uc * volts * ah / known.capacity_wh)
        price = f"{price_uc // UC_PER_CREDIT}.{price_uc % UC_PER_CREDIT:06d}"
        cells |= {"voltage_v": volts, "capacity_wh": volts * ah, "replacement": price}
        battery.tell("capacity", f"a new battery is taken to cost as much per Wh as that of {like!r}")
    if volts is not None and amps is not None:
        cells["max_charge_w"] = volts * amps
    threshold, target = fleet.number("recharge_threshold", 0, 0.95), fleet.number("recharge_soc", 0, 1)
    if threshold is None and target is None:
        return cells
    low = shipped_types()[like].battery.reserve_soc if threshold is None else threshold
    high = 1.0 if target is None else target
    if high <= low:
        raise fleet.wrong("recharge_soc", f"use a number above recharge_threshold ({low:g}), at most 1")
    return cells | {"reserve_soc": low, "resume_soc": min(low + RESUME_MARGIN, (low + high) / 2), "target_soc": high}


def _chargers(fleet: Fields, graph: Graph | None) -> list[int]:
    """Return the chargers of the graph and those that robots are given."""
    found = list(graph.chargers) if graph else []
    robots = fleet.fields("robots")
    for name in robots:
        entry = robots.fields(name)
        rmf = entry.fields("rmf_config")
        older = rmf.fields("charger")
        charger = older.text("waypoint") if "waypoint" in older else entry.text("charger")
        if charger is None:
            continue
        entry.tell("charger", "robots share all chargers")
        if graph is not None:
            found.append(graph.find(charger, fleet.source, entry.path("charger")))
    return list(dict.fromkeys(found))


def _robots(fleet: Fields, kind: str, graph: Graph | None) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the waypoints where robots park, and the robots."""
    robots, parks = fleet.fields("robots"), list[int]()
    names: dict[str, str] = {}
    if not list(robots):
        raise fleet.wrong("robots", "name at least one robot")
    entries: list[dict[str, Any]] = []
    for foreign in robots:
        name = re.sub(r"[^a-z0-9_-]", "-", str(foreign).lower())
        try:
            robot = RobotId(name)
        except ValueError:
            raise InputError(fleet.source, robots.where, foreign, f"use {RobotId.RULE}") from None
        if other := names.get(robot.ros_namespace):
            raise InputError(fleet.source, robots.path(foreign), name, f"{other} becomes the same id: use another name")
        names[robot.ros_namespace] = foreign
        if name != foreign:
            robots.tell(foreign, f"is called {name} here")
        entry: dict[str, Any] = {"id": name, "type": kind}
        finish = robots.fields(foreign).get("finishing_request")
        spot = finish.get("parking_spot") if isinstance(finish, dict) else None
        if spot is not None and graph is not None:
            parks.append(graph.find(spot, fleet.source, robots.path(f"{foreign}.finishing_request.parking_spot")))
            entry["start"] = _written(graph.points[parks[-1]])
        entries.append(entry)
    fleet.tell("finishing_request", "an idle robot goes to its parking place: `start` of the robot")
    return parks, entries


def _written(point: Point) -> str:
    return f"{point[0]:.4f};{point[1]:.4f}"


def write_imported(fleet: ImportedFleet, target: Path) -> None:
    """Write a fleet file, and check that it can be read.

    Raises
    ------
    InputError
        If a value of the foreign file is one that ours cannot have.
    """
    target.write_text(yaml.safe_dump(fleet.data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    load_fleet(target)
