"""The floor of a fleet: its map with everything that stands on it, laid out and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet_market.body import Point, Pose
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.parking import check_parking, out_of_bounds, separation_m, spread
from fleet_market.maps.places import Places
from fleet_market.maps.roadmap import Roadmap
from fleet_market.robot.fleet import Fleet

if TYPE_CHECKING:
    from fleet_market.commons.traffic import TrafficControl

TRACKING_MARGIN_M = 0.08
"""A robot keeps this far from walls on top of its radius."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A map, the ways on it, and where robots park, charge and stop."""

    grid: OccupancyGrid
    roadmap: Roadmap
    homes: dict[RobotId, Pose]
    chargers: tuple[Pose, ...]
    places: Places
    footprint_radius_m: float

    def traffic(self) -> TrafficControl:
        """Return a traffic control for this floor, all robots at home."""
        from fleet_market.commons.traffic import TrafficControl  # noqa: PLC0415 - robots, which are small, need none

        return TrafficControl(self.roadmap, self.homes, self.chargers, footprint_radius_m=self.footprint_radius_m)


def build_roadmap(fleet: Fleet, grid: OccupancyGrid) -> Roadmap:
    """Return the roadmap for the largest robot of the fleet."""
    return Roadmap.build(grid, clearance_m=fleet.footprint_radius_m + TRACKING_MARGIN_M)


def lay_out(fleet: Fleet, grid: OccupancyGrid, *, source: str, keep_clear: Sequence[Point] = ()) -> Floor:
    """Return the floor of `fleet`: parking places and chargers found where its file says ``auto``, all others checked.

    Parameters
    ----------
    source : str
        The fleet file, for error messages.
    keep_clear : sequence of (x, y)
        More places where robots will have to stop, beside those that the fleet file names.

    Raises
    ------
    InputError
        If something stands where it cannot, or the map has not enough room.
    """
    roadmap = build_roadmap(fleet, grid)
    separation = separation_m(fleet.footprint_radius_m)
    unchecked = Places(grid, roadmap, fleet.places)
    for name in fleet.places:
        unchecked.resolve(name, source=source, field=f"places.{name}")
    named = {name: (place.x, place.y) for name, place in fleet.places.items()}
    parked = {f"robots[{i}].start": r.start for i, r in enumerate(fleet.robots) if r.start is not None}
    parked |= {f"chargers[{i}]": pose for i, pose in enumerate(fleet.chargers)}
    check_parking(roadmap, parked, keep_clear=named, separation_m=separation)
    clear = [*named.values(), *keep_clear]
    chargers = fleet.chargers
    if fleet.auto_chargers:
        chargers = tuple(
            spread(
                roadmap,
                fleet.auto_chargers,
                taken=parked,
                keep_clear=clear,
                separation_m=separation,
                names="chargers",
            )
        )
        parked |= {f"chargers[{i}]": pose for i, pose in enumerate(chargers)}
    searching = sum(robot.start is None for robot in fleet.robots)
    found = iter(spread(roadmap, searching, taken=parked, keep_clear=clear, separation_m=separation, names="robots"))
    homes = {robot.id: robot.start or next(found) for robot in fleet.robots}
    blamed = {f"the parking place of {robot}": pose for robot, pose in homes.items()}
    blamed |= {f"charger {i}": pose for i, pose in enumerate(chargers)}
    blocked = out_of_bounds(roadmap, blamed, separation)
    return Floor(grid, roadmap, homes, chargers, Places(grid, roadmap, fleet.places, blocked), fleet.footprint_radius_m)
