"""What a robot asks for a lot: the cost of adding it to the end of the schedule it already has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleet_market.body import Pose, RobotType
from fleet_market.errors import UnreachableError
from fleet_market.maps.roadmap import Leg, Roadmap, leg, turn_between
from fleet_market.pricing import PlanLeg, PriceQuote, Tariff, TaskPlan, energy_j, price
from fleet_market.protocol.messages import AskLine, DeclineLine, DeclineReason, Lot, Place
from fleet_market.robot.tracking import SHARP_CORNER_RAD
from fleet_market.units import ns

J_PER_WH = 3600.0
DELAY_SHARE = 0.5
"""Share of the time until a task is done that waiting for others may add; a deadline is promised with it."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a robot's present schedule leaves it."""

    pose: Pose
    free_ns: int
    energy_j: float
    """What the schedule still takes from the battery."""
    now_ns: int

    def then(self, task: Appraisal) -> Outlook:
        """Return the outlook with one more task at the end of the schedule."""
        free_ns = self.free_ns + ns(task.quote.duration_s)
        return Outlook(task.end, free_ns, self.energy_j + task.quote.energy_j, self.now_ns)


@dataclass(frozen=True, slots=True)
class Appraisal:
    """A task priced for one robot, from where its schedule ends."""

    quote: PriceQuote
    end: Pose
    to_charger_j: float


class Bidder:
    """Prices tasks for one robot.

    Parameters
    ----------
    robot : RobotType
    roadmap : Roadmap
    chargers : sequence of Pose
        The way to the nearest one counts against the battery.
    tariff : Tariff
    """

    def __init__(self, robot: RobotType, roadmap: Roadmap, chargers: Sequence[Pose], tariff: Tariff) -> None:
        self._robot, self._roadmap, self._tariff = robot, roadmap, tariff
        nodes = (roadmap.nearest(c.x, c.y) for c in chargers)
        self._charger_nodes = tuple(sorted({n for n in nodes if n is not None}))

    def appraise(self, start: Pose, pickup: Place | None, dropoff: Place, payload_kg: float) -> Appraisal:
        """Return the price of a task; without `pickup` the parcel is aboard already.

        Raises
        ------
        UnreachableError
            If no way leads to one of the places.
        """
        legs, at = [], start
        if pickup is not None:
            way = leg(self._roadmap, at, pickup)
            legs.append(_plan_leg(way, 0.0))
            at = _end(way)
        way = leg(self._roadmap, at, dropoff)
        legs.append(_plan_leg(way, payload_kg))
        plan = TaskPlan(tuple(legs), len(legs) * self._robot.handling_s)
        end = _end(way)
        return Appraisal(price(plan, self._robot, self._tariff), end, self._to_charger_j(end))

    def answer(self, number: int, lot: Lot, outlook: Outlook, soc: float) -> AskLine | DeclineLine:
        """Return the marginal ask for lot `number` of a call given the schedule, or why there is none."""
        robot = self._robot
        if lot.payload_kg > robot.max_payload_kg:
            return _decline(number, DeclineReason.PAYLOAD, f"carries {robot.max_payload_kg:g} kg at most")
        try:
            task = self.appraise(outlook.pose, lot.pickup, lot.dropoff, lot.payload_kg)
        except UnreachableError as error:
            return _decline(number, DeclineReason.UNREACHABLE, str(error))
        capacity_j = robot.battery.capacity_wh * J_PER_WH
        needed = robot.battery.reserve_soc + (outlook.energy_j + task.quote.energy_j + task.to_charger_j) / capacity_j
        if soc < needed:
            return _decline(number, DeclineReason.BATTERY, f"has {soc:.1%}, needs {needed:.1%}")
        finish_ns = outlook.free_ns + ns(task.quote.duration_s)
        late_s = (finish_ns + DELAY_SHARE * (finish_ns - outlook.now_ns) - lot.deadline_ns) / 1e9
        if late_s > 0 and lot.lateness_uc_per_h == 0:
            return _decline(number, DeclineReason.DEADLINE, f"would be {late_s:.0f} s late")
        quote = task.quote
        return AskLine(
            lot=number,
            ask_uc=quote.ask_uc,
            energy_uc=quote.energy_uc,
            wear_uc=quote.wear_uc,
            time_uc=quote.time_uc,
            energy_j=round(quote.energy_j, 1),
            finish_ns=finish_ns,
        )

    def _to_charger_j(self, at: Pose) -> float:
        """Return the energy of the way to the nearest charger, 0 where there is no charger on the map."""
        node = self._roadmap.nearest(at.x, at.y)
        if node is None or not self._charger_nodes:
            return 0.0
        length_m = self._roadmap.to(self._charger_nodes).distance_m[node]
        if math.isinf(length_m):
            return 0.0
        return energy_j(TaskPlan((PlanLeg(length_m, math.pi, 2, 0.0),)), self._robot)


def _decline(number: int, reason: DeclineReason, detail: str) -> DeclineLine:
    return DeclineLine(lot=number, reason=reason, detail=detail[:40])


def _plan_leg(way: Leg, payload_kg: float) -> PlanLeg:
    """Return what the way costs: it is driven in one go but for the corners that are turned in place."""
    headings = [math.atan2(b[1] - a[1], b[0] - a[0]) for a, b in pairwise(way.points)]
    corners = sum(turn_between(a, b) >= SHARP_CORNER_RAD for a, b in pairwise(headings))
    return PlanLeg(way.length_m, way.turn_rad, 1 + corners, payload_kg)


def _end(way: Leg) -> Pose:
    (x, y), yaw = way.points[-1], 0.0
    if len(way.points) > 1:
        before = way.points[-2]
        yaw = math.atan2(y - before[1], x - before[0])
    return Pose(x, y, yaw)
