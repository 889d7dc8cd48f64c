"""Records that contradict the map, the clock, or themselves: places out of reach, ways too short, counters that disagree.

Each rule is one-sided with a margin that an honest robot keeps; what is found is a sentence with its numbers. The rules
are of mechanics and of book-keeping, not of statistics: a road distance over the top speed is the least time between two
places; a cumulative counter does not fall; the parts that are billed are not more than the whole that was drawn; and a
battery that has given off an energy is emptier by that share of its capacity.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from fleet_market.ids import RobotId
from fleet_market.protocol.messages.telemetry import Fix, TelemetryRecord

Point = tuple[float, float]
Distance = Callable[[Point, Point], float]
"""Length of the shortest way between two points, metres; infinite where there is none."""

KEPT_FIXES = 64
MARGIN_M, MARGIN_S = 1.0, 1.0
"""A fix is within a metre of where the robot was, and a second of when. [assumption]"""
ROAD_STRETCH = 1.1
"""A roadmap of eight directions finds ways up to 8.2 % longer than the shortest (1 / cos(pi / 8))."""
LONGEST_STRETCH = 1.5
"""A way of more than half as long again as the road is not the way to these places. [assumption: detours of traffic]"""
COUNTER_SHARE, COUNTER_J = 0.02, 100.0
"""How far the parts may be above the counter's difference: rounding and 1 % for each of two readings [assumption]."""
SOC_SHARE, SOC_ERROR = 0.25, 0.05
"""Capacity may have faded to 80 % (end of life in most data sheets), and a gauge errs by 5 % of full scale [assumption]."""
CHARGED_SOC = 0.002
"""A gauge that has risen by more between two records means that the robot was charged; the sums begin anew."""


class Rule(StrEnum):
    """What was broken."""

    UNREACHABLE = "unreachable"
    """Two places lie further apart than the robot can drive in the time between."""
    TOO_FAST = "too_fast"
    """The way is longer than its top speed allows in the time that it was at work."""
    TOO_SHORT = "too_short"
    """The way is shorter than the road between its stops."""
    TOO_LONG = "too_long"
    """The way is much longer than the road between its stops."""
    COUNTER_FELL = "counter_fell"
    """The battery's counter of energy went down within a record."""
    OVERBILLED = "overbilled"
    """More energy is said to be drawn for contracts than the counter shows in all."""
    SOC_DISAGREES = "soc_disagrees"
    """The state of charge does not fall with the energy that was drawn."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One rule that a record breaks."""

    robot: RobotId
    rule: Rule
    detail: str


@dataclass(slots=True)
class _Known:
    fixes: list[tuple[int, float, float]] = field(default_factory=list)
    anchor: Fix | None = None
    """The fix since which energy is summed."""
    newest: Fix | None = None
    billed_j: float = 0.0


def straight(start: Point, goal: Point) -> float:
    """Return the straight-line distance: no way is shorter, so it never wrongs a robot."""
    return math.dist(start, goal)


class PlausibilityWatch:
    """Watches what records say of places, times and batteries.

    Parameters
    ----------
    distance : Distance
        Of the roadmap, or `straight`; then ways are not found too long.
    """

    def __init__(self, distance: Distance = straight) -> None:
        self._distance, self._roads = distance, distance is not straight
        self._known: dict[RobotId, _Known] = {}

    def hear(self, record: TelemetryRecord, *, max_speed_mps: float, capacity_j: float) -> tuple[Contradiction, ...]:
        """Take a verified record; return what it contradicts.

        Parameters
        ----------
        max_speed_mps, capacity_j : float
            As the robot has announced; above 0.
        """
        known = self._known.setdefault(record.robot, _Known())
        found = [
            *self._places(known, record, max_speed_mps),
            *self._way(record, max_speed_mps),
            *_battery(known, record, capacity_j),
        ]
        return tuple(Contradiction(record.robot, rule, detail) for rule, detail in found)

    def _road_m(self, start: Point, goal: Point) -> float:
        """Return the least that the road can measure between two points."""
        shortest = self._distance(start, goal)
        return max(straight(start, goal), shortest / ROAD_STRETCH if math.isfinite(shortest) else 0.0)

    def _places(self, known: _Known, record: TelemetryRecord, max_speed_mps: float) -> list[tuple[Rule, str]]:
        found: list[tuple[Rule, str]] = []
        new = {(fix.at_ns, fix.x, fix.y) for fix in record.fixes}
        for place in new - set(known.fixes):
            insort(known.fixes, place)
        for (t0, x0, y0), (t1, x1, y1) in pairwise(known.fixes):
            if (t0, x0, y0) not in new and (t1, x1, y1) not in new:
                continue
            road_m, reach_m = self._road_m((x0, y0), (x1, y1)), max_speed_mps * ((t1 - t0) / 1e9 + MARGIN_S) + MARGIN_M
            if road_m > reach_m:
                found.append((Rule.UNREACHABLE, f"{road_m:.1f} m apart, {reach_m:.1f} m within reach"))
        del known.fixes[:-KEPT_FIXES]
        return found

    def _way(self, record: TelemetryRecord, max_speed_mps: float) -> list[tuple[Rule, str]]:
        way_m = sum(leg.length_m for leg in record.legs)
        found: list[tuple[Rule, str]] = []
        if way_m > max_speed_mps * (record.executed_s + MARGIN_S) + MARGIN_M:
            found.append((Rule.TOO_FAST, f"{way_m:.1f} m in {record.executed_s:.1f} s"))
        if record.shared or record.charged:  # the ways to chargers belong to no contract
            return found
        stops = [(fix.x, fix.y) for fix in record.fixes]
        road_m = sum(self._road_m(a, b) for a, b in pairwise(stops))
        margin_m = MARGIN_M * len(stops)
        if way_m < road_m - margin_m:
            found.append((Rule.TOO_SHORT, f"{way_m:.1f} m driven, {road_m:.1f} m of road"))
        usual_m = sum(self._distance(a, b) for a, b in pairwise(stops))
        if self._roads and math.isfinite(usual_m) and way_m > LONGEST_STRETCH * usual_m + 2 * margin_m:
            found.append((Rule.TOO_LONG, f"{way_m:.1f} m driven, {usual_m:.1f} m of road"))
        return found


def _battery(known: _Known, record: TelemetryRecord, capacity_j: float) -> list[tuple[Rule, str]]:
    first, last = record.fixes[0], record.fixes[-1]
    if first.energy_out_j is None or last.energy_out_j is None:
        known.anchor = known.newest = None
        return []
    if any(b.energy_out_j < a.energy_out_j for a, b in pairwise(record.fixes) if _both(a, b)):  # type: ignore[operator]
        known.anchor = known.newest = None
        return [(Rule.COUNTER_FELL, f"from {first.energy_out_j:.0f} to {last.energy_out_j:.0f} J")]
    anchor, found = _anchor(known, record), []
    known.billed_j += record.energy_j or 0.0
    drawn_j = last.energy_out_j - (anchor.energy_out_j or 0.0)
    if known.billed_j > drawn_j * (1 + COUNTER_SHARE) + COUNTER_J:
        found.append((Rule.OVERBILLED, f"{known.billed_j:.0f} J for contracts, {drawn_j:.0f} J by the counter"))
    if anchor.soc is not None and last.soc is not None and not record.charged:
        by_energy, by_gauge = drawn_j / capacity_j, anchor.soc - last.soc
        if abs(by_energy - by_gauge) > SOC_ERROR + SOC_SHARE * max(by_energy, by_gauge):
            found.append((Rule.SOC_DISAGREES, f"{by_gauge:.1%} of charge gone, {by_energy:.1%} by the counter"))
    known.newest, known.anchor = last, None if found or record.charged else anchor
    return found


def _anchor(known: _Known, record: TelemetryRecord) -> Fix:
    """Return the fix from which energy is summed: a new one where the battery was charged or its counter began anew."""
    first, newest, anchor = record.fixes[0], known.newest, known.anchor
    if anchor is not None and newest is not None and not record.charged:
        if first.at_ns < newest.at_ns:  # several parcels were aboard: the records overlap
            return first if first.at_ns < anchor.at_ns else anchor
        restarted = (first.energy_out_j or 0.0) < (newest.energy_out_j or 0.0)
        if not restarted and (first.soc or 0.0) <= (newest.soc or 0.0) + CHARGED_SOC:
            return anchor
    known.billed_j = 0.0
    return first


def _both(a: Fix, b: Fix) -> bool:
    return a.energy_out_j is not None and b.energy_out_j is not None
