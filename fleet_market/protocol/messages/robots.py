"""Who is there: robots, their positions, and who runs a zone's market."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import OwnerId, RouteId, ZoneId
from fleet_market.protocol.messages.fields import Body, Count, Kilograms, ShortText, TimeNs, WirePose


class Presence(Body):
    """Whether a robot is there. ``lost`` comes from the broker as the last will and carries the session it belongs to."""

    type: Literal["presence"] = "presence"
    status: Literal["online", "offline", "lost"]
    zone: ZoneId


class Announce(Body):
    """What a robot is."""

    type: Literal["announce"] = "announce"
    zone: ZoneId
    owner: OwnerId
    robot_type: ShortText
    max_payload_kg: Kilograms
    max_speed_mps: Annotated[float, Field(gt=0.0, le=100.0)]
    battery_wh: Annotated[float, Field(gt=0.0, le=1e6)]
    home: WirePose | None = None
    """Where it parks: until it has answered a call, lots near to this are offered to it first."""


class Auctioneer(Body):
    """Who runs a zone's market; robots ignore awards of an older epoch."""

    type: Literal["auctioneer"] = "auctioneer"
    status: Literal["open", "halted", "closed"]
    """``halted``: the operator lets nothing be sold; tasks under way go on."""
    epoch: Count
    batch_s: Annotated[float, Field(gt=0.0, le=3600.0)]


class Position(Body):
    """Where the robot is: `passed` points of `route` lie behind it, and it is done at the first `stops_done` stops."""

    type: Literal["position"] = "position"
    pose: WirePose
    soc: Annotated[float, Field(ge=0.0, le=1.0)] | None
    route: RouteId | None
    passed: Count
    stops_done: Count = 0
    moving: bool
    doing: ShortText
    queue: Count = 0


class ClockTick(Body):
    """Simulation time."""

    type: Literal["clock"] = "clock"
    now_ns: TimeNs
