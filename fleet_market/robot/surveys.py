"""Which ways a robot asks its own planner about before it prices a call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleet_market.body import Pose
from fleet_market.errors import UnreachableError
from fleet_market.protocol.messages import Lot, Place
from fleet_market.robot.legs import Legs

MAX_LOTS = 4
"""Lots of a call about which the planner is asked: two ways each, and asks must not wait for it."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A way whose length the planner is asked for."""

    start: Pose
    place: Place
    goal: Pose


def wanted(legs: Legs, pose: Pose, lots: Iterable[Lot]) -> list[Survey]:
    """Return the ways to the first few lots, and from their pickups to their drop-offs, as far as there are any."""
    surveys: list[Survey] = []
    for lot in list(lots)[:MAX_LOTS]:
        try:
            pickup = legs.way(pose, lot.pickup).end
            dropoff = legs.way(pickup, lot.dropoff).end
        except UnreachableError:
            continue
        surveys += [Survey(pose, lot.pickup, pickup), Survey(pickup, lot.dropoff, dropoff)]
    return surveys
