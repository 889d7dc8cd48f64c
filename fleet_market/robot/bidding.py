"""What a robot asks for a lot: the cost of adding it to the end of the schedule it already has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fleet_market.body import Pose, RobotType
from fleet_market.errors import UnreachableError
from fleet_market.ids import CallId
from fleet_market.maps.roadmap import Leg, Roadmap, leg, turn_between
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import PlanLeg, PriceQuote, Tariff, TaskPlan, energy_j
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES
from fleet_market.protocol.messages import MAX_ASKS, Ask, AskLine, DeclineLine, DeclineReason, Lot, Place, WirePose
from fleet_market.robot.memory import Memory
from fleet_market.robot.tracking import SHARP_CORNER_RAD
from fleet_market.units import ns

J_PER_WH = 3600.0
DEADLINE_SD = 1.3
"""A deadline is promised when the task ends before it with a probability of 90 % (normal distribution)."""
MAX_ASK_BYTES = MAX_INBOUND_BYTES - 512
"""Of the body of an answer; the rest is left for its envelope."""
RESERVE_SD = 2.0
"""The reserve is kept unless a task takes more energy than this many standard deviations above what is expected."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where a robot's present schedule leaves it."""

    pose: Pose
    free_ns: int
    energy_j: float
    """What the schedule still takes from the battery."""
    sd_s: float = 0.0
    """How unsure `free_ns` is; tasks err together, for what holds up one holds up all that follow."""

    def then(self, task: Appraisal) -> Outlook:
        """Return the outlook with one more task at the end of the schedule."""
        quote = task.quote
        free_ns = self.free_ns + ns(quote.lasts.mean)
        return Outlook(task.end, free_ns, self.energy_j + quote.energy.mean, self.sd_s + quote.lasts.sd)


@dataclass(frozen=True, slots=True)
class Appraisal:
    """A task priced for one robot, from where its schedule ends."""

    plan: TaskPlan
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
    memory : Memory
        What the robot has learned; grows while it works.
    surfaces : Surfaces
    """

    def __init__(
        self,
        robot: RobotType,
        roadmap: Roadmap,
        chargers: Sequence[Pose],
        tariff: Tariff,
        memory: Memory,
        surfaces: Surfaces,
    ) -> None:
        self._robot, self._roadmap, self._tariff = robot, roadmap, tariff
        self._memory, self._surfaces = memory, surfaces
        nodes = (roadmap.nearest(c.x, c.y) for c in chargers)
        self._charger_nodes = tuple(sorted({n for n in nodes if n is not None}))

    def appraise(self, start: Pose, pickup: Place | None, dropoff: Place, payload_kg: float) -> Appraisal:
        """Return the price of a task; without `pickup` the parcel is aboard already.

        Raises
        ------
        UnreachableError
            If no way leads to one of the places.
        """
        stops = [(dropoff, payload_kg)] if pickup is None else [(pickup, 0.0), (dropoff, payload_kg)]
        legs: list[PlanLeg] = []
        at = start
        for place, aboard_kg in stops:
            way = leg(self._roadmap, at, place)
            legs += _plan_legs(way, aboard_kg, self._surfaces)
            at = _end(way)
        plan = TaskPlan(tuple(legs), len(stops) * self._robot.handling_s)
        return Appraisal(plan, self._memory.quote(plan, self._tariff), at, self._to_charger_j(at))

    def answer(self, number: int, lot: Lot, outlook: Outlook, soc: float) -> AskLine | DeclineLine:
        """Return the marginal ask for lot `number` of a call given the schedule, or why there is none."""
        robot = self._robot
        if lot.payload_kg > robot.max_payload_kg:
            return _decline(number, DeclineReason.PAYLOAD, f"carries {robot.max_payload_kg:g} kg at most")
        try:
            task = self.appraise(outlook.pose, lot.pickup, lot.dropoff, lot.payload_kg)
        except UnreachableError as error:
            return _decline(number, DeclineReason.UNREACHABLE, str(error))
        quote = task.quote
        capacity_j = robot.battery.capacity_wh * J_PER_WH
        drawn_j = outlook.energy_j + quote.energy.mean + RESERVE_SD * quote.energy.sd + task.to_charger_j
        needed = robot.battery.reserve_soc + drawn_j / capacity_j
        if soc < needed:
            return _decline(number, DeclineReason.BATTERY, f"has {soc:.1%}, needs {needed:.1%}")
        finish_ns = outlook.free_ns + ns(quote.lasts.mean)
        late_s = (finish_ns + ns(DEADLINE_SD * (outlook.sd_s + quote.lasts.sd)) - lot.deadline_ns) / 1e9
        if late_s > 0 and lot.lateness_uc_per_h == 0:
            return _decline(number, DeclineReason.DEADLINE, f"would be {late_s:.0f} s late")
        return AskLine(
            lot=number,
            ask_uc=quote.ask_uc,
            parts_uc=quote.parts_uc,
            energy_j=round(quote.energy.mean, 1),
            energy_sd_j=round(quote.energy.sd, 1),
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


def sealed(call: CallId, number: int, at: WirePose | None, asks: Sequence[AskLine], declines: Sequence[DeclineLine]) -> Ask:
    """Return the answer to a round of a call: the cheapest asks first, and as much as a robot's message may hold."""
    by_price = sorted(asks, key=lambda line: (line.ask_uc, line.lot))[:MAX_ASKS]
    kept = list(declines[: MAX_ASKS - len(by_price)])
    while True:
        ask = Ask(call=call, round=number, at=at, asks=tuple(by_price), declines=tuple(kept))
        if len(ask.model_dump_json()) <= MAX_ASK_BYTES:
            return ask
        (kept or by_price).pop()


def _decline(number: int, reason: DeclineReason, detail: str) -> DeclineLine:
    return DeclineLine(lot=number, reason=reason, detail=detail[:40])


def _plan_legs(way: Leg, payload_kg: float, surfaces: Surfaces) -> list[PlanLeg]:
    """Return what the way costs, by class of floor: it is driven in one go but for the corners that are turned in place."""
    headings = [math.atan2(b[1] - a[1], b[0] - a[0]) for a, b in pairwise(way.points)]
    corners = sum(turn_between(a, b) >= SHARP_CORNER_RAD for a, b in pairwise(headings))
    pieces = surfaces.along(way.points)
    driven_m = sum(pieces.values())
    if not driven_m:
        return [PlanLeg(way.length_m, way.turn_rad, 1 + corners, payload_kg)]
    return [
        PlanLeg(
            way.length_m * share,
            way.turn_rad * share,
            (1 + corners) * share,
            payload_kg,
            grade=grade,
            surface=surface,
        )
        for (surface, grade), share in ((key, length / driven_m) for key, length in pieces.items())
    ]


def _end(way: Leg) -> Pose:
    (x, y), yaw = way.points[-1], 0.0
    if len(way.points) > 1:
        before = way.points[-2]
        yaw = math.atan2(y - before[1], x - before[0])
    return Pose(x, y, yaw)
