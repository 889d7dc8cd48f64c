"""Named places, and places that users write as coordinates, checked against the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fleet_market.errors import PlaceError
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.maps.roadmap import Roadmap
from fleet_market.protocol.messages import Place

SNAP_RADIUS_M = 0.3


class Places:
    """The places of one floor.

    Parameters
    ----------
    grid, roadmap
        The floor; the roadmap's main component is what counts as reachable.
    named : mapping of name to Place
        Places of the fleet file.
    out_of_bounds : mapping of node to text
        Nodes where nobody may stop, with the reason (another robot's parking place, a charger).
    """

    def __init__(
        self,
        grid: OccupancyGrid,
        roadmap: Roadmap,
        named: Mapping[str, Place],
        out_of_bounds: Mapping[int, str] | None = None,
    ) -> None:
        self._grid, self._roadmap, self._named = grid, roadmap, dict(named)
        self._out_of_bounds = dict(out_of_bounds or {})

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Return the place that `text` means: a name, ``x;y`` or ``x;y;yaw`` in metres and radians.

        Raises
        ------
        PlaceError
            If the text is malformed or the name unknown, or the place is outside of the map, occupied, too narrow, cut
            off from the rest of the floor, or kept free.
        """
        place = self._named.get(text)
        if place is None:
            place = self._parse(text, source, field)
        self._check(place, text, source, field)
        return place

    def _parse(self, text: str, source: str, field: str) -> Place:
        parts = text.split(";")
        mend = "use x;y or x;y;yaw in metres and radians"
        if len(parts) == 1:
            known = ", ".join(sorted(self._named)[:12]) or "none"
            raise PlaceError(source, field, text, f"{mend}, or a named place; known names: {known}")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            raise PlaceError(source, field, text, mend) from None
        if len(numbers) not in (2, 3) or not all(math.isfinite(n) and abs(n) < 1e5 for n in numbers):
            raise PlaceError(source, field, text, mend)
        return Place(x=numbers[0], y=numbers[1], yaw=numbers[2] if len(numbers) == 3 else None, name=text[:64])

    def _check(self, place: Place, text: str, source: str, field: str) -> None:
        cell = self._grid.cell(place.x, place.y)
        if cell is None:
            (x, y), (width, height) = self._grid.origin, self._grid.size_m
            mend = f"use a place within x {x:g} to {x + width:g}, y {y:g} to {y + height:g}"
            raise PlaceError(source, field, text, f"outside of the map: {mend}")
        if self._grid.occupied[cell]:
            raise PlaceError(source, field, text, "occupied by an obstacle: use a free place")
        goals = self._roadmap.goals(place)
        if not goals:
            mend = f"use a place with {self._roadmap.clearance_m:.2f} m of free floor around it"
            raise PlaceError(source, field, text, f"too near to an obstacle or unknown floor: {mend}")
        if self._roadmap.component[goals[0]] != self._roadmap.main_component:
            raise PlaceError(source, field, text, "not reachable: no way leads there; use a place that robots can reach")
        if reason := self._out_of_bounds.get(goals[0]):
            raise PlaceError(source, field, text, f"not reachable: kept free for {reason}; use a place further away")
