"""What the fields of bodies are made of: limits, types with bounds, places and poses."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fleet_market.body import Pose

MAX_ASKS = 24
"""Answers in one message, asks and declines together; those that do not fit into the 4 KiB that a robot may send are left
out."""


ASK_PARTS = ("energy", "battery", "drive", "brushes", "tread", "arm", "time", "risk", "opportunity")
"""What an ask is made of: energy; wear of battery, gear motors, brushes, tyres and arm; rent of the robot's time; margin
for what is uncertain; what the robot cannot earn while it charges afterwards, and what the orders that it holds lose by
being later."""


MAX_GROUP = 100
"""Orders of one all-or-nothing group."""


MAX_PRIORITY = 9


MAX_STOPS = 4


MAX_BUNDLE = 8
"""Contracts in one re-auction."""


MAX_LEVELS = 5
"""Contracts on top of each other for one order, the customer's own included."""


MAX_TRADES_TOLD = 8
"""Trades that an order remembers, the newest ones."""


MAX_PRICE_UC = 10**12
"""A million credits: with it, sums over a thousand robots stay exact in the float64 of the assignment solver."""


MAX_WAYPOINTS = 1500


MAX_TEXT = 160


PRINTABLE = "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]*$"
"""No control characters and no turning of the writing direction: texts of strangers end up on terminals and in logs.

Source: Unicode Technical Report 36, "Unicode Security Considerations", on bidirectional text; ECMA-48 for the controls.
"""


Text = Annotated[str, Field(max_length=MAX_TEXT, pattern=PRINTABLE)]


ShortText = Annotated[str, Field(max_length=64, pattern=PRINTABLE)]


def printable(text: str, length: int = MAX_TEXT) -> str:
    """Return `text` as a message may carry it: control characters become blanks, the end is cut off."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:length])


Metres = Annotated[float, Field(ge=-1e5, le=1e5)]


Radians = Annotated[float, Field(ge=-1e3, le=1e3)]


TimeNs = Annotated[int, Field(ge=0, le=2**62)]


Price = Annotated[int, Field(ge=0, le=MAX_PRICE_UC)]


Parts = Annotated[tuple[Price, ...], Field(min_length=len(ASK_PARTS), max_length=len(ASK_PARTS))]
"""The parts of an ask in the order of `ASK_PARTS`, micro-credits."""


Joules = Annotated[float, Field(ge=0.0, le=1e12)]


Kilograms = Annotated[float, Field(ge=0.0, le=1e5)]


Count = Annotated[int, Field(ge=0, le=10**9)]


class Body(BaseModel):
    """Base of all bodies.

    Only names of fields are kept as strings between two messages: by default pydantic keeps 16,384 others, and ids never
    come again.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, cache_strings="keys")


class WirePose(Body):
    """A pose in the map frame."""

    x: Metres
    y: Metres
    yaw: Radians = 0.0

    @classmethod
    def of(cls, pose: Pose) -> WirePose:
        """Return `pose` for the wire, to the millimetre and milliradian."""
        return cls(x=round(pose.x, 3), y=round(pose.y, 3), yaw=round(pose.yaw, 3))

    def pose(self) -> Pose:
        """Return the pose."""
        return Pose(self.x, self.y, self.yaw)


class Place(Body):
    """Where to pick up or drop off: a point, perhaps a heading, and how near is near enough."""

    x: Metres
    y: Metres
    yaw: Radians | None = None
    radius_m: Annotated[float, Field(gt=0.0, le=5.0)] = 0.3
    keep_off_m: Annotated[float, Field(ge=0.0, le=5.0)] = 0.0
    """Nearest distance to the point itself, where something stands on it (a broken-down robot)."""
    name: ShortText = ""
