"""Read fleet files (YAML) and order files (CSV); errors name file, field or line, value and mend."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from fleet_market.adapters.map_files import load_yaml
from fleet_market.body import Pose, RobotType
from fleet_market.contracts import MarketTerms
from fleet_market.errors import InputError, UnreadableError
from fleet_market.ids import CustomerId, Identifier, OrderId, OwnerId, PartyName, RobotId, ZoneId
from fleet_market.maps.surfaces import Area
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import MAX_GROUP, MAX_PRICE_UC, MAX_PRIORITY, Place
from fleet_market.robot.advice import Consult
from fleet_market.robot.fleet import Fleet, FleetRobot, OrderRow
from fleet_market.units import Credits

ORDER_COLUMNS = ("id", "pickup", "dropoff", "payload_kg", "release_s", "deadline_s", "max_price")
FLEET_FIELDS = {
    "zone",
    "map",
    "market",
    "tariff",
    "customers",
    "places",
    "chargers",
    "surfaces",
    "types",
    "robots",
    "oracle",
}
SURFACE_FIELDS = {"class", "corners", "grade", "rolling", "friction"}
MORE_ORDER_COLUMNS = ("priority", "lateness_per_h", "value", "after", "group")
"""May be left out; an empty field stands for none."""
ROBOT_FIELDS = {"id", "type", "owner", "start", "soc", "driver", "parameters"}
SET_ELSEWHERE = {"robot", "fleet", "map", "mqtt", "memory", "keys", "driver"}
"""Parameters of a robot's node that whoever starts it sets."""
T = TypeVar("T", bound=Identifier)

MAX_ROBOTS, MAX_PLACES, MAX_ROWS = 1000, 10_000, 100_000
DEFAULT_ENERGY_CREDITS_PER_KWH = 25
"""25 euro cents: grid electricity, rounded."""
DEFAULT_MAX_FEE = "0.2"
"""Credits that robots pay for a quote at most [assumption: twice the usual fee]."""
_IN_CREDITS = {
    ("battery", "replacement"): "replacement_uc",
    ("wear", "tread_set"): "tread_set_uc",
    ("wear", "drive_set"): "drive_set_uc",
    ("wear", "drive_failure"): "drive_failure_uc",
    ("wear", "brush_set"): "brush_set_uc",
    ("wear", "arm_set"): "arm_set_uc",
    ("time_rent_per_h",): "time_rent_uc_per_h",
}


def load_fleet(path: Path) -> Fleet:
    """Return the fleet in a YAML file; `docs/fleet_file.md` describes its fields.

    Raises
    ------
    InputError
        At the first thing that is wrong.
    """
    data, source = load_yaml(path), str(path)
    _only(data, FLEET_FIELDS, source, "")
    types = _types(_mapping(data, "types", source), source)
    chargers = data.get("chargers", [])
    auto = isinstance(chargers, dict)
    if auto:
        _only(chargers, {"auto"}, source, "chargers.")
    tariff = _mapping(data, "tariff", source)
    _only(tariff, {"energy_credits_per_kwh"}, source, "tariff.")
    energy = tariff.get("energy_credits_per_kwh", DEFAULT_ENERGY_CREDITS_PER_KWH)
    map_name = data.get("map")
    if map_name is not None and not isinstance(map_name, str):
        raise InputError(source, "map", map_name, "name a map file, relative to this file")
    surfaces = _list(data.get("surfaces", []), source, "surfaces")
    return Fleet(
        zone=_id(ZoneId, data.get("zone", "main"), source, "zone"),
        map=None if map_name is None else path.parent / map_name,
        terms=_terms(_mapping(data, "market", source), source),
        tariff=Tariff(_credits(energy, source, "tariff.energy_credits_per_kwh")),
        customers={
            _id(CustomerId, name, source, "customers"): _credits(value, source, f"customers.{name}")
            for name, value in _mapping(data, "customers", source).items()
        },
        places={name: _place(name, value, source) for name, value in _mapping(data, "places", source).items()},
        chargers=()
        if auto
        else tuple(_pose(c, source, f"chargers[{i}]") for i, c in enumerate(_list(chargers, source, "chargers"))),
        surfaces=tuple(_area(a, source, f"surfaces[{i}]") for i, a in enumerate(surfaces)),
        types=types,
        auto_chargers=int(_number(chargers.get("auto"), source, "chargers.auto", 1, 100)) if auto else 0,
        robots=_robots(_list(data.get("robots"), source, "robots"), types, source),
        consult=None if data.get("oracle") is None else _consult(_mapping(data, "oracle", source), source),
    )


def load_orders(path: Path) -> list[OrderRow]:
    """Return the orders in a CSV file with the columns of `ORDER_COLUMNS` and `MORE_ORDER_COLUMNS`, in any order.

    Raises
    ------
    InputError
        At the first thing that is wrong, with its line.
    """
    source = str(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if not set(ORDER_COLUMNS) <= set(header) <= {*ORDER_COLUMNS, *MORE_ORDER_COLUMNS} or len(set(header)) < len(
                header
            ):
                mend = f"use the header {','.join(ORDER_COLUMNS)}, and perhaps {', '.join(MORE_ORDER_COLUMNS)}"
                raise InputError(source, "line 1", ",".join(header), mend)
            rows = [_order(row, source, reader.line_num) for row in reader]
    except OSError as error:
        raise UnreadableError(source, error) from None
    except UnicodeDecodeError as error:
        raise InputError(source, f"byte {error.start}", "not UTF-8", "save the file as UTF-8") from None
    except csv.Error as error:
        raise InputError(source, "file", str(error), "write it as comma-separated values") from None
    if not rows or len(rows) > MAX_ROWS:
        raise InputError(source, "file", f"{len(rows)} orders", f"give 1 to {MAX_ROWS} orders")
    return _linked(rows, source)


def _linked(rows: list[OrderRow], source: str) -> list[OrderRow]:
    """Return the orders with the sizes of their groups, checked against each other."""
    seen: dict[str, OrderRow] = {}
    for row in rows:
        if (first := seen.setdefault(row.id, row)) is not row:
            raise InputError(source, f"line {row.line}, id", row.id, f"line {first.line} has it already: use a new id")
        if row.after is not None and (row.after == row.id or row.after not in seen):
            raise InputError(source, f"line {row.line}, after", row.after, "name the order of an earlier line")
        if row.after is not None and row.group is not None and seen[row.after].group == row.group:
            mend = "orders of one group are awarded together: use another group"
            raise InputError(source, f"line {row.line}, after", row.after, mend)
    sizes = Counter(row.group for row in rows if row.group is not None)
    for group, size in sizes.items():
        if size > MAX_GROUP:
            raise InputError(source, "group", group, f"it has {size} orders: use groups of at most {MAX_GROUP}")
    return [row if row.group is None else replace(row, group_size=sizes[row.group]) for row in rows]


def _order(row: dict[str | None, Any], source: str, line: int) -> OrderRow:
    def where(field: str) -> str:
        return f"line {line}, {field}"

    if None in row or None in row.values():
        raise InputError(source, f"line {line}", "too many or too few fields", f"give {len(row.keys() - {None})} fields")

    def number(field: str, low: float, high: float) -> float:
        try:
            value: Any = float(row[field])
        except ValueError:
            value = row[field]
        return _number(value, source, where(field), low, high)

    def more(field: str) -> str:
        return str(row.get(field, "")).strip()

    def price(field: str) -> int:
        amount_uc = _credits(more(field) or 0, source, where(field))
        if amount_uc > MAX_PRICE_UC:
            raise InputError(source, where(field), more(field), "use at most 1000000 credits")
        return amount_uc

    def linked(field: str) -> OrderId | None:
        return _id(OrderId, more(field), source, where(field)) if more(field) else None

    release_s, deadline_s = number("release_s", 0, 1e7), number("deadline_s", 0, 1e7)
    if deadline_s <= release_s:
        raise InputError(source, where("deadline_s"), row["deadline_s"], f"use a time after release_s ({release_s:g})")
    price_uc = _credits(row["max_price"], source, where("max_price"))
    if not 0 < price_uc <= MAX_PRICE_UC:
        raise InputError(source, where("max_price"), row["max_price"], "use more than 0, at most 1000000 credits")
    for field in ("pickup", "dropoff"):
        if not row[field].strip():
            raise InputError(source, where(field), row[field], "name a place, or write x;y or x;y;yaw")
    return OrderRow(
        line=line,
        id=_id(OrderId, row["id"].strip(), source, where("id")),
        pickup=row["pickup"].strip(),
        dropoff=row["dropoff"].strip(),
        payload_kg=number("payload_kg", 0, 1e5),
        release_s=release_s,
        deadline_s=deadline_s,
        max_price_uc=price_uc,
        priority=_priority(more("priority"), source, where("priority")),
        lateness_uc_per_h=price("lateness_per_h"),
        value_uc=price("value"),
        after=linked("after"),
        group=linked("group"),
    )


def _priority(text: str, source: str, where: str) -> int:
    if text and (not text.isdecimal() or int(text) > MAX_PRIORITY):
        raise InputError(source, where, text, f"use a whole number of 0 to {MAX_PRIORITY}")
    return int(text or 0)


def _robots(entries: list[Any], types: Mapping[str, RobotType], source: str) -> tuple[FleetRobot, ...]:
    if not 1 <= len(entries) <= MAX_ROBOTS:
        raise InputError(source, "robots", f"{len(entries)} robots", f"give 1 to {MAX_ROBOTS}")
    robots: list[FleetRobot] = []
    names: dict[str, str] = {}
    for i, entry in enumerate(entries):
        where = f"robots[{i}]"
        if not isinstance(entry, dict):
            raise InputError(source, where, entry, "use a mapping with id and type")
        _only(entry, ROBOT_FIELDS, source, f"{where}.")
        robot = _id(RobotId, entry.get("id"), source, f"{where}.id")
        if other := names.get(robot.ros_namespace):
            raise InputError(source, f"{where}.id", robot, f"{other} has the same ROS namespace: use another id")
        names[robot.ros_namespace] = robot
        if entry.get("type") not in types:
            raise InputError(source, f"{where}.type", entry.get("type"), f"use one of {', '.join(sorted(types))}")
        start, driver = entry.get("start", "auto"), entry.get("driver", "base")
        if not isinstance(driver, str) or not driver:
            raise InputError(source, f"{where}.driver", driver, "name a driver, e.g. base or nav2")
        robots.append(
            FleetRobot(
                id=robot,
                type=types[entry["type"]],
                owner=_id(OwnerId, entry.get("owner", robot), source, f"{where}.owner"),
                start=None if start == "auto" else _pose(start, source, f"{where}.start"),
                soc=_number(entry.get("soc", 0.9), source, f"{where}.soc", 0, 1),
                driver=driver,
                parameters=_parameters(entry.get("parameters", {}), source, f"{where}.parameters"),
            )
        )
    return tuple(robots)


def _parameters(given: object, source: str, where: str) -> dict[str, Any]:
    """Return parameters of a node, those in mappings with dots in their names, as ROS has them."""
    found = _flat(given, source, where)
    for name in sorted(SET_ELSEWHERE & found.keys()):
        mend = "set it elsewhere in this file, or where the fleet is started"
        raise InputError(source, f"{where}.{name}", found[name], mend)
    return found


def _flat(given: object, source: str, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InputError(source, where, given, "use a mapping of parameter names and values")
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict):
            found |= {f"{name}.{rest}": one for rest, one in _flat(value, source, f"{where}.{name}").items()}
            continue
        several = value if isinstance(value, list) else [value]
        if len({type(one) for one in several}) != 1 or not isinstance(several[0], bool | int | float | str):
            mend = "use a truth value, a number, a text, or a list of one kind of them: ROS has no other parameters"
            raise InputError(source, f"{where}.{name}", value, mend)
        found[str(name)] = value
    return found


def _consult(fields: Mapping[str, Any], source: str) -> Consult:
    _only(fields, {"name", "max_fee"}, source, "oracle.")
    max_fee_uc = _credits(fields.get("max_fee", DEFAULT_MAX_FEE), source, "oracle.max_fee")
    if not 0 <= max_fee_uc <= MAX_PRICE_UC:
        raise InputError(source, "oracle.max_fee", fields.get("max_fee"), "use 0 to 1000000 credits")
    return Consult(_id(PartyName, fields.get("name", "oracle"), source, "oracle.name"), max_fee_uc)


def shipped_types() -> dict[str, RobotType]:
    """Return the robot types that come with the package, by name."""
    return _types({}, "robot_types.yaml")


def _types(own: Mapping[str, Any], source: str) -> dict[str, RobotType]:
    shipped = yaml.safe_load(resources.files("fleet_market.data").joinpath("robot_types.yaml").read_text("utf-8"))
    types = {name: _type(name, fields, "robot_types.yaml", "") for name, fields in shipped.items()}
    for name, fields in own.items():
        if not isinstance(fields, dict):
            raise InputError(source, f"types.{name}", fields, "use a mapping with the fields of a robot type")
        base = shipped.get(fields.get("like", name), {})
        merged = _merge(base, {k: v for k, v in fields.items() if k != "like"})
        types[name] = _type(name, merged, source, f"types.{name}.")
    return types


def _type(name: str, fields: Mapping[str, Any], source: str, where: str) -> RobotType:
    data = _merge(fields, {"name": name})
    for path, target in _IN_CREDITS.items():
        part = data if len(path) == 1 else data.get(path[0])
        if isinstance(part, dict) and path[-1] in part:
            part[target] = _credits(part.pop(path[-1]), source, where + ".".join(path))
    try:
        return RobotType.model_validate(data)
    except ValidationError as error:
        raise _from_pydantic(error, source, where, RobotType) from None


def _terms(fields: Mapping[str, Any], source: str) -> MarketTerms:
    try:
        return MarketTerms.model_validate(fields)
    except ValidationError as error:
        raise _from_pydantic(error, source, "market.") from None


def _from_pydantic(error: ValidationError, source: str, where: str, model: type[BaseModel] | None = None) -> InputError:
    first = error.errors(include_url=False)[0]
    field = where + ".".join(str(part) for part in first["loc"])
    value = "missing" if first["type"] == "missing" else first["input"]
    limits = "" if model is None else _limits(model, [str(part) for part in first["loc"]])
    message = first["msg"].removeprefix("Value error, ")
    said = f"mend it: {message[0].lower()}{message[1:]}"
    return InputError(source, field, value, f"{said} (allowed: {limits})" if limits else said)


def _limits(model: type[BaseModel], path: Sequence[str]) -> str:
    """Return the range of a number in a model, "greater than 0, at most 1"; nothing where there is none."""
    known = model.model_fields.get(path[0]) if path else None
    if known is None:
        return ""
    inner = known.annotation
    if len(path) > 1 and isinstance(inner, type) and issubclass(inner, BaseModel):
        return _limits(inner, path[1:])
    unions = [item for part in get_args(inner) for item in getattr(part, "__metadata__", ())]
    unions += [rule for item in unions for rule in getattr(item, "metadata", ())]
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    rules = [*known.metadata, *unions]
    return ", ".join(f"{word} {getattr(r, key):g}" for key, word in words.items() for r in rules if hasattr(r, key))


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = {k: dict(v) if isinstance(v, dict) else v for k, v in base.items()}
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _place(name: object, value: Any, source: str) -> Place:
    where = f"places.{name}"
    if not isinstance(name, str) or ";" in name or not 1 <= len(name) <= 64:
        raise InputError(source, "places", name, "use a name of 1 to 64 characters without ';'")
    radius = value.get("radius_m", 0.3) if isinstance(value, dict) else 0.3
    fields = {k: v for k, v in value.items() if k != "radius_m"} if isinstance(value, dict) else value
    pose = _pose(fields, source, where)
    has_yaw = "yaw" in fields if isinstance(fields, dict) else fields.count(";") == 2
    radius_m = _number(radius, source, f"{where}.radius_m", 0.05, 5)
    return Place(x=pose.x, y=pose.y, yaw=pose.yaw if has_yaw else None, radius_m=radius_m, name=name)


def _area(value: Any, source: str, where: str) -> Area:
    if not isinstance(value, dict) or not {"class", "corners"} <= set(value):
        raise InputError(source, where, value, "use a mapping with class and corners, perhaps grade, rolling, friction")
    _only(value, SURFACE_FIELDS, source, f"{where}.")
    name = value["class"]
    if not isinstance(name, str) or not 1 <= len(name) <= 64:
        raise InputError(source, f"{where}.class", name, "use a name of 1 to 64 characters")
    corners = _numbers(value["corners"], 4, source, f"{where}.corners", 1e5)
    if not (corners[0] < corners[2] and corners[1] < corners[3]):
        raise InputError(
            source, f"{where}.corners", value["corners"], "give the lower left corner, then the upper right one"
        )
    grade = _numbers(value.get("grade", "0;0"), 2, source, f"{where}.grade", 0.5)
    factors = [_number(value.get(k, 1.0), source, f"{where}.{k}", 0, 100) for k in ("rolling", "friction")]
    return Area(name, *corners, *grade, *factors)


def _numbers(value: Any, count: int, source: str, where: str, most: float) -> list[float]:
    parts = [_float(part) for part in value.split(";")] if isinstance(value, str) else []
    numbers = [p for p in parts if p is not None and abs(p) <= most]
    if len(parts) != count or len(numbers) != count:
        raise InputError(source, where, value, f"use {count} numbers of at most {most:g}, separated by ';'")
    return numbers


def _pose(value: Any, source: str, where: str) -> Pose:
    mend = "use x;y or x;y;yaw, or a mapping with x, y and perhaps yaw"
    if isinstance(value, str):
        parts: list[Any] = [_float(part) for part in value.split(";")]
    elif isinstance(value, dict) and {"x", "y"} <= set(value) <= {"x", "y", "yaw"}:
        parts = [value["x"], value["y"], value.get("yaw", 0.0)]
    else:
        raise InputError(source, where, value, mend)
    numbers = all(
        isinstance(p, int | float) and not isinstance(p, bool) and math.isfinite(p) and abs(p) <= 1e5 for p in parts
    )
    if len(parts) not in (2, 3) or not numbers:
        raise InputError(source, where, value, mend)
    return Pose(*(float(p) for p in parts))


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(value: Any, source: str, where: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(source, where, value, f"use a number of {low:g} to {high:g}")
    return float(value)


def _credits(value: Any, source: str, where: str) -> int:
    try:
        micro = Credits.parse(str(value)).micro if not isinstance(value, bool) else -1
    except ValueError as error:
        raise InputError(source, where, value, str(error)) from None
    if micro < 0:
        raise InputError(source, where, value, "use a number of credits of at least 0")
    return micro


def _id(kind: type[T], value: Any, source: str, where: str) -> T:
    try:
        return kind(value)
    except ValueError:
        raise InputError(source, where, value, f"use {kind.RULE}") from None


def _only(data: Mapping[Any, Any], known: set[str], source: str, where: str) -> None:
    for key in data:
        if key not in known:
            raise InputError(source, f"{where}{key}", data[key], f"no such field: use {', '.join(sorted(known))}")


def _mapping(data: Mapping[str, Any], field: str, source: str) -> dict[Any, Any]:
    value = data.get(field) or {}
    if not isinstance(value, dict) or len(value) > MAX_PLACES:
        raise InputError(source, field, value, f"use a mapping of at most {MAX_PLACES} entries")
    return value


def _list(value: Any, source: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(source, where, value, "use a list")
    return value


def write_fleet(
    source: Path, target: Path, homes: Mapping[RobotId, Pose], chargers: Sequence[Pose], map_file: Path
) -> None:
    """Write the fleet file `source` again with every start and charger at a pose and with this map.

    All processes of a fleet read the result, so that what was found by itself is found once.
    """
    data = load_yaml(source)
    data["map"] = str(map_file.resolve())
    data["chargers"] = [_written(pose) for pose in chargers]
    for entry in data["robots"]:
        entry["start"] = _written(homes[RobotId(entry["id"])])
    target.write_text(yaml.safe_dump(data, sort_keys=False))


def _written(pose: Pose) -> str:
    return f"{pose.x:.4f};{pose.y:.4f};{pose.yaw:.4f}"
