"""The right of way: routes, what is granted of them, what is given back."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import MessageId, RouteId
from fleet_market.protocol.messages.fields import MAX_STOPS, MAX_WAYPOINTS, Body, Count, Metres, Place, Text, WirePose


class Stop(Body):
    """A place on a route where the robot stays for a while."""

    place: Place | None
    """Null: any free charger, chosen by the traffic control."""
    dwell_s: Annotated[float, Field(ge=0.0, le=86400.0)]


class RouteRequest(Body):
    """A robot at standstill asks for the right of way through `stops` and home."""

    type: Literal["route_request"] = "route_request"
    request: MessageId
    pose: WirePose
    stops: Annotated[tuple[Stop, ...], Field(max_length=MAX_STOPS)] = ()


class Route(Body):
    """The route granted: points to drive through, the last one is home.

    `stops` are positions in `points`, one for each stop asked for. Where no route to the stops exists at the moment,
    `served` is false, `stops` is empty and the points lead home, or are empty where the robot may not move at all.
    """

    type: Literal["route"] = "route"
    request: MessageId
    route: RouteId
    served: bool
    points: Annotated[tuple[tuple[Metres, Metres], ...], Field(max_length=MAX_WAYPOINTS)]
    stops: tuple[Count, ...]
    released: Count
    """How many points may be driven now."""
    reason: Text = ""


class Release(Body):
    """More of a route may be driven."""

    type: Literal["release"] = "release"
    route: RouteId
    released: Count


class Reroute(Body):
    """The route can no longer be driven: stop, then ask again."""

    type: Literal["reroute"] = "reroute"
    route: RouteId
    reason: Text
