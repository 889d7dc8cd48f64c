"""A fleet as its file describes it: robots and their types, places, chargers, customers, terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_market.body import Pose, RobotType
from fleet_market.contracts import MarketTerms
from fleet_market.ids import CustomerId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.maps.surfaces import Area
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import Place
from fleet_market.robot.advice import Consult

DRIVER_SETTINGS = "driver_settings."
"""What the parameters of a robot's node begin with that are settings of its driver."""


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with dots in their names as mappings in mappings; a name that is both keeps its mapping."""
    found: dict[str, Any] = {}
    for name, value in sorted(flat.items()):
        *above, last = name.split(".")
        place = found
        for part in above:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        place[last] = value
    return found


@dataclass(frozen=True, slots=True)
class FleetRobot:
    """One robot of the fleet."""

    id: RobotId
    type: RobotType
    owner: OwnerId
    start: Pose | None
    """Where it starts and parks; None: a free place is found on the map."""
    soc: float
    driver: str = "base"
    """What moves it, by name; `fleet-market driver list` shows them."""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """More parameters of its ROS node, as ``driver_settings.scale``: truth values, numbers, texts and lists of them."""

    @property
    def driver_settings(self) -> dict[str, Any]:
        """The settings of its driver, by name."""
        found = {name for name in self.parameters if name.startswith(DRIVER_SETTINGS)}
        return nested({name.removeprefix(DRIVER_SETTINGS): self.parameters[name] for name in found})


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything in a fleet file."""

    zone: ZoneId
    map: Path | None
    terms: MarketTerms
    tariff: Tariff
    customers: dict[CustomerId, int]
    """Endowments, micro-credits."""
    places: dict[str, Place]
    chargers: tuple[Pose, ...]
    surfaces: tuple[Area, ...]
    types: dict[str, RobotType]
    """All types that a robot of this file may have, by name."""
    auto_chargers: int
    """How many chargers are to be placed on the map by themselves."""
    robots: tuple[FleetRobot, ...]
    consult: Consult | None = None
    """The oracle that the robots ask; None: they ask nobody."""

    @property
    def footprint_radius_m(self) -> float:
        """Radius of the largest robot."""
        return max(robot.type.footprint_radius_m for robot in self.robots)


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One line of an order file; times in seconds from the start."""

    line: int
    id: OrderId
    pickup: str
    dropoff: str
    payload_kg: float
    release_s: float
    deadline_s: float
    max_price_uc: int
    priority: int = 0
    lateness_uc_per_h: int = 0
    value_uc: int = 0
    after: OrderId | None = None
    group: OrderId | None = None
    group_size: int = 1
