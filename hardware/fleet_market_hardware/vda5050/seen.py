"""What vehicles say, read leniently: what is missing, null or of the wrong kind is `None`, what cannot be true is doubted.

Peers disagree on names, on nulls and on which optional fields there are; a message is refused only where it is no JSON
object at all. A value out of its range becomes ``None``, with the reason in `doubts`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_market.errors import ProtocolError

MAX_BYTES = 1_000_000
MAX_ITEMS = 5_000
"""Entries of one array that are read."""
MAX_TEXT = 300
MAX_METRES = 1e6
MAX_LOAD_KG = 1e6
MAX_SPEED_MPS = 100.0


@dataclass(frozen=True, slots=True)
class SeenError:
    """An entry of ``errors``."""

    type: str
    level: str
    text: str
    references: tuple[tuple[str, str], ...]

    def names(self, value: str) -> bool:
        """Return whether one of its references is `value`."""
        return any(found == value for _, found in self.references)

    def reference(self, key: str) -> str | None:
        """Return the value of the reference `key`."""
        return next((value for name, value in self.references if name == key), None)

    def __str__(self) -> str:
        details = "; ".join(value for key, value in self.references if key == "errorDescriptionDetail")
        return ": ".join(part for part in (self.type, self.text, details) if part)


@dataclass(frozen=True, slots=True)
class SeenAction:
    """An entry of ``actionStates`` or ``instantActionStates``."""

    id: str
    status: str
    text: str


@dataclass(frozen=True, slots=True)
class SeenPosition:
    """Where the vehicle says that it is, in its own map."""

    x: float
    y: float
    theta: float
    map_id: str
    initialized: bool


@dataclass(frozen=True, slots=True)
class SeenState:
    """A ``state`` message."""

    version: str | None
    order_id: str
    update_id: int
    last_node: str
    last_sequence: int
    nodes: tuple[tuple[str, int], ...]
    """Id and sequence of the nodes still to be traversed."""
    edges: tuple[tuple[str, int], ...]
    actions: Mapping[str, SeenAction]
    driving: bool | None
    paused: bool | None
    mode: str | None
    emergency_stop: str | None
    position: SeenPosition | None
    speed_mps: float | None
    yaw_rate_radps: float | None
    soc: float | None
    voltage_v: float | None
    current_a: float | None
    charging: bool | None
    health: float | None
    """Of the battery, share of its capacity when new."""
    load_kg: float | None
    """Sum of the weights of all loads; None where there are no loads said or one has no weight."""
    errors: tuple[SeenError, ...]
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeenPlace:
    """A ``visualization`` message."""

    version: str | None
    position: SeenPosition | None
    speed_mps: float | None
    yaw_rate_radps: float | None


@dataclass(frozen=True, slots=True)
class SeenFactsheet:
    """What of a ``factsheet`` matters to the market."""

    version: str | None
    speed_max_mps: float | None
    max_load_kg: float | None
    actions: frozenset[str] | None
    max_nodes: int | None
    """Of one order, as ``protocolLimits`` says."""


def read_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in `payload`.

    Raises
    ------
    ProtocolError
        If there is none, or it is larger than `MAX_BYTES`.
    """
    if len(payload) > MAX_BYTES:
        raise ProtocolError("oversized", f"{len(payload)} bytes, at most {MAX_BYTES} are read")
    try:
        found = json.loads(payload, parse_constant=lambda _name: None)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("malformed", f"not JSON: {str(error)[:80]}") from None
    if not isinstance(found, dict):
        raise ProtocolError("malformed", f"must be a JSON object, was {type(found).__name__}")
    return found


class Reader:
    """Takes values out of JSON objects, and keeps what it doubts."""

    def __init__(self) -> None:
        self.doubts: list[str] = []

    def number(self, where: Mapping[str, Any], key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
        """Return a finite number between `low` and `high`, else None."""
        value = where.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number) and low <= number <= high:
            return number
        self.doubts.append(f"{key} was {number:g}: use {low:g} to {high:g}")
        return None

    def whole(self, where: Mapping[str, Any], key: str) -> int:
        """Return a whole number of 32 bits, 0 where there is none."""
        number = self.number(where, key, 0, 2**32 - 1)
        return 0 if number is None else int(number)


def text(where: Mapping[str, Any], key: str) -> str:
    """Return a text, empty where there is none."""
    value = where.get(key)
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def flag(where: Mapping[str, Any], key: str) -> bool | None:
    """Return a truth value, None where there is none."""
    value = where.get(key)
    return value if isinstance(value, bool) else None


def part(where: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the object under the first of `keys` that has one, else an empty one."""
    return next((value for key in keys if isinstance(value := where.get(key), dict)), {})


def parts(where: Mapping[str, Any], *keys: str) -> list[Mapping[str, Any]]:
    """Return the objects in the arrays under `keys`."""
    arrays = [value for key in keys if isinstance(value := where.get(key), list)]
    return [item for array in arrays for item in array[:MAX_ITEMS] if isinstance(item, dict)]


def read_state(payload: bytes) -> SeenState:
    """Return what a ``state`` of any version says; raises `ProtocolError` where it is no JSON object."""
    said, reader = read_object(payload), Reader()
    battery = part(said, "batteryState", "powerSupply")
    charge = reader.number(battery, "stateOfCharge" if "stateOfCharge" in battery else "batteryCharge", 0, 100)
    safety, velocity = part(said, "safetyState"), part(said, "velocity")
    return SeenState(
        version=text(said, "version") or None,
        order_id=text(said, "orderId"),
        update_id=reader.whole(said, "orderUpdateId"),
        last_node=text(said, "lastNodeId"),
        last_sequence=reader.whole(said, "lastNodeSequenceId"),
        nodes=tuple((text(n, "nodeId"), reader.whole(n, "sequenceId")) for n in parts(said, "nodeStates")),
        edges=tuple((text(e, "edgeId"), reader.whole(e, "sequenceId")) for e in parts(said, "edgeStates")),
        actions={
            text(a, "actionId"): SeenAction(text(a, "actionId"), text(a, "actionStatus"), _words(a, "result"))
            for a in parts(said, "actionStates", "instantActionStates")
        },
        driving=flag(said, "driving"),
        paused=flag(said, "paused"),
        mode=text(said, "operatingMode") or None,
        emergency_stop=text(safety, "eStop") or text(safety, "activeEmergencyStop") or None,
        position=_position(said, reader),
        speed_mps=_speed(velocity, reader),
        yaw_rate_radps=reader.number(velocity, "omega", -MAX_SPEED_MPS, MAX_SPEED_MPS),
        soc=None if charge is None else charge / 100,
        voltage_v=reader.number(battery, "batteryVoltage", 0, 2000),
        current_a=reader.number(battery, "batteryCurrent", -1e5, 1e5),
        charging=flag(battery, "charging"),
        health=None if (health := reader.number(battery, "batteryHealth", 1, 100)) is None else health / 100,
        load_kg=_load(said, reader),
        errors=tuple(_error(e) for e in parts(said, "errors")),
        doubts=tuple(reader.doubts),
    )


def read_place(payload: bytes) -> SeenPlace:
    """Return what a ``visualization`` says; raises `ProtocolError` where it is no JSON object."""
    said, reader = read_object(payload), Reader()
    velocity = part(said, "velocity")
    return SeenPlace(
        text(said, "version") or None,
        _position(said, reader),
        _speed(velocity, reader),
        reader.number(velocity, "omega", -MAX_SPEED_MPS, MAX_SPEED_MPS),
    )


def read_connection(payload: bytes) -> tuple[str | None, bool | None]:
    """Return version and whether a ``connection`` says that the vehicle is there; None where it says nothing of this."""
    said = read_object(payload)
    there = {"ONLINE": True, "OFFLINE": False, "HIBERNATING": False, "CONNECTIONBROKEN": False, "CONNECTION_BROKEN": False}
    return text(said, "version") or None, there.get(text(said, "connectionState"))


def read_factsheet(payload: bytes) -> SeenFactsheet:
    """Return what a ``factsheet`` says; raises `ProtocolError` where it is no JSON object."""
    said, reader = read_object(payload), Reader()
    features, limits = (
        part(said, "protocolFeatures"),
        part(part(said, "protocolLimits"), "maxArrayLens", "maximumArrayLengths"),
    )
    kinds = frozenset(text(a, "actionType") for a in parts(features, "agvActions", "mobileRobotActions"))
    return SeenFactsheet(
        version=text(said, "version") or None,
        speed_max_mps=reader.number(part(said, "physicalParameters"), "speedMax", 1e-3, MAX_SPEED_MPS)
        or reader.number(part(said, "physicalParameters"), "maximumSpeed", 1e-3, MAX_SPEED_MPS),
        max_load_kg=reader.number(part(said, "typeSpecification"), "maxLoadMass", 0, MAX_LOAD_KG)
        or reader.number(part(said, "typeSpecification"), "maximumLoadMass", 0, MAX_LOAD_KG),
        actions=kinds or None,
        max_nodes=reader.whole(limits, "order.nodes") or None,
    )


def _words(where: Mapping[str, Any], what: str) -> str:
    return text(where, f"{what}Description") or text(where, f"{what}Descriptor")


def _position(said: Mapping[str, Any], reader: Reader) -> SeenPosition | None:
    place = part(said, "agvPosition", "mobileRobotPosition")
    x = reader.number(place, "x", -MAX_METRES, MAX_METRES)
    y = reader.number(place, "y", -MAX_METRES, MAX_METRES)
    theta = reader.number(place, "theta", -1e3, 1e3)
    if x is None or y is None or theta is None:
        return None
    known = flag(place, "localized" if "localized" in place else "positionInitialized")
    return SeenPosition(x, y, math.remainder(theta, math.tau), text(place, "mapId"), known is not False)


def _speed(velocity: Mapping[str, Any], reader: Reader) -> float | None:
    """Return the amount of the velocity: peers disagree on whether it is in the frame of the vehicle or of the map."""
    vx = reader.number(velocity, "vx", -MAX_SPEED_MPS, MAX_SPEED_MPS)
    vy = reader.number(velocity, "vy", -MAX_SPEED_MPS, MAX_SPEED_MPS)
    return None if vx is None and vy is None else math.hypot(vx or 0.0, vy or 0.0)


def _load(said: Mapping[str, Any], reader: Reader) -> float | None:
    if not isinstance(said.get("loads"), list):
        return None
    weights = [reader.number(load, "weight", 0, MAX_LOAD_KG) for load in parts(said, "loads")]
    known = [weight for weight in weights if weight is not None]
    return sum(known) if len(known) == len(weights) else None


def _error(said: Mapping[str, Any]) -> SeenError:
    references = tuple((text(r, "referenceKey"), text(r, "referenceValue")) for r in parts(said, "errorReferences"))
    return SeenError(text(said, "errorType"), text(said, "errorLevel"), _words(said, "error"), references)
