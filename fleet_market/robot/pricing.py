"""What a whole queue costs a robot, exactly as it would be driven: the payload on each leg as really carried.

The energy, wear, time and risk of the queue are those of one long plan (`fleet_market.pricing`), by what the robot has
learned of itself; many queues are priced at once. What the delay of the orders costs their customers is counted from
their deadlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet_market.body import Pose, RobotType
from fleet_market.ids import OrderId
from fleet_market.pricing import EnergyModel, Features, PlanArray, PlanLeg, QuoteArray, Tariff, TaskPlan, price_many
from fleet_market.pricing.plan import FloatArray
from fleet_market.protocol.messages import ASK_PARTS, Place
from fleet_market.robot.legs import Legs
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue
from fleet_market.units import ns

NS_PER_H = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Halt:
    """A stop of a queue as it is driven."""

    place: Place
    order: OrderId | None
    """None: it charges."""
    pickup: bool = False
    stays_s: float = 0.0
    """How long it charges; loading and unloading take what the type says."""
    until_soc: float | None = None
    """Up to which state of charge."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A queue as it is driven, charging stops included."""

    queue: Queue
    halts: Sequence[Halt]

    @property
    def charges(self) -> bool:
        """Whether the robot charges on the way."""
        return any(halt.order is None for halt in self.halts)


@dataclass(frozen=True, slots=True)
class QueuePrice:
    """What a queue costs.

    Parameters
    ----------
    parts_uc : tuple of int
        In the order of `ASK_PARTS`.
    energy_j, energy_sd_j : float
        From the battery.
    drop_s : dict of OrderId to float
        When each parcel is set down, seconds from now.
    sd_share : float
        Standard deviation of the durations, as a share of them.
    end : Pose
        Where the queue leaves the robot.
    lateness_uc : dict of OrderId to int
        What the lateness of each order costs its customer.
    """

    parts_uc: tuple[int, ...]
    energy_j: float
    energy_sd_j: float
    drop_s: dict[OrderId, float]
    sd_share: float
    end: Pose
    lateness_uc: dict[OrderId, int]

    @property
    def total_uc(self) -> int:
        """All parts, and the lateness of all orders."""
        return sum(self.parts_uc) + sum(self.lateness_uc.values())


NOTHING = (0,) * len(ASK_PARTS)


class QueuePricer:
    """Prices the queues of one robot.

    Parameters
    ----------
    robot : RobotType
    legs : Legs
    tariff : Tariff
    memory : Memory
        What the robot has learned; grows while it works.
    """

    def __init__(self, robot: RobotType, legs: Legs, tariff: Tariff, memory: Memory) -> None:
        self._robot, self._legs, self._tariff, self._memory = robot, legs, tariff, memory
        self._model = EnergyModel(robot)

    def prices(self, drives: Sequence[Drive]) -> list[QueuePrice]:
        """Return what some queues cost.

        Raises
        ------
        UnreachableError
            If no way leads to one of the places.
        """
        if not any(drive.halts for drive in drives):
            return [QueuePrice(NOTHING, 0.0, 0.0, {}, 0.0, drive.queue.pose, {}) for drive in drives]
        driven = [self._driven(drive) for drive in drives]
        ways = [legs for legs, _ in driven]
        plans, stay_s = self._plans(drives, ways)
        leg_s, quotes = self._quotes(plans, stay_s)
        done_s = np.cumsum(leg_s, axis=1).tolist()
        found = []
        for row, drive in enumerate(drives):
            queue, drop_s = drive.queue, _drops(drive, ways[row], done_s[row])
            lasts_s = float(quotes.lasts_s[row])
            found.append(
                QueuePrice(
                    parts_uc=tuple(int(part) for part in quotes.parts_uc[row]),
                    energy_j=float(quotes.energy_j[row]),
                    energy_sd_j=float(quotes.energy_sd_j[row]),
                    drop_s=drop_s,
                    sd_share=float(quotes.lasts_sd_s[row]) / lasts_s if lasts_s > 0 else 0.0,
                    end=driven[row][1],
                    lateness_uc={
                        order: lateness_uc(queue.errand(order), queue.now_ns + ns(at)) for order, at in drop_s.items()
                    },
                )
            )
        return found

    def _driven(self, drive: Drive) -> tuple[list[list[PlanLeg]], Pose]:
        """Return the legs to each stop, with what is aboard on them, and where they end."""
        queue = drive.queue
        load_kg = sum(errand.payload_kg for errand in queue.errands if errand.pickup is None)
        at, legs = queue.pose, []
        for halt in drive.halts:
            way = self._legs.way(at, halt.place)
            legs.append(way.plan(at.yaw, max(0.0, load_kg)))
            at = way.end
            if halt.order is not None:
                load_kg += queue.errand(halt.order).payload_kg * (1 if halt.pickup else -1)
        return legs, at

    def _plans(self, drives: Sequence[Drive], ways: Sequence[list[list[PlanLeg]]]) -> tuple[PlanArray, FloatArray]:
        """Return the plans, and (queues, legs) the time at standstill at the end of each leg."""
        flat = [TaskPlan(tuple(leg for legs in row for leg in legs)) for row in ways]
        plans = PlanArray.stack(flat)
        stay_s = np.zeros(plans.length_m.shape)
        for row, drive in enumerate(drives):
            column = -1
            for halt, legs in zip(drive.halts, ways[row], strict=True):
                column += len(legs)
                stay_s[row, column] = 0.0 if halt.order is None else self._robot.handling_s
        return replace(plans, dwell_s=stay_s.sum(axis=1)), stay_s

    def _quotes(self, plans: PlanArray, stay_s: FloatArray) -> tuple[FloatArray, QuoteArray]:
        """Return how long each leg lasts, its stop included, and what the plans cost."""
        each = replace(
            plans,
            dwell_s=stay_s,
            **{
                name: getattr(plans, name)[..., None]
                for name in ("length_m", "turn_rad", "halts", "payload_kg", "speed_mps", "grade", "surface", "zone")
            },
        )
        apart = self._model.features(each)
        memory = self._memory
        leg_s, _ = memory.durations.expect(apart)
        whole = Features(
            apart.surfaces,
            apart.joules.sum(axis=1),
            apart.zones,
            apart.drive_s.sum(axis=1),
            apart.drive_m.sum(axis=1),
            plans.dwell_s,
        )
        lasts = memory.durations.expect(whole)
        energy = memory.calibration.expect(whole, *lasts)
        factor = memory.battery_factor
        quotes = price_many(plans, whole, self._robot, self._tariff, energy_j=energy, lasts_s=lasts, battery_factor=factor)
        return leg_s, quotes


def _drops(drive: Drive, ways: Sequence[list[PlanLeg]], done_s: Sequence[float]) -> dict[OrderId, float]:
    """Return when each parcel is set down; `done_s` is when each leg is done if the robot never charged."""
    drops, charging_s, column = {}, 0.0, -1
    for halt, legs in zip(drive.halts, ways, strict=True):
        column += len(legs)
        charging_s += halt.stays_s
        if halt.order is not None and not halt.pickup:
            drops[halt.order] = done_s[column] + charging_s
    return drops


def halts_of(queue: Queue, charges: dict[int, Halt] | None = None) -> list[Halt]:
    """Return the stops of a queue as they are driven; `charges` are charging stops, by the visit before which they come."""
    halts = []
    for i, visit in enumerate(queue.visits):
        if charges and i in charges:
            halts.append(charges[i])
        halts.append(Halt(queue.place(visit), visit.order, visit.pickup))
    return halts


def lateness_uc(errand: Errand, done_ns: int) -> int:
    """Return what it costs the customer that an errand is done at `done_ns`, rounded up."""
    return -(-max(0, done_ns - errand.deadline_ns) * errand.lateness_uc_per_h // NS_PER_H)


def growth_uc(parts_uc: Sequence[int], before_uc: Sequence[int]) -> tuple[int, ...]:
    """Return by how much parts have grown, none below 0: what one part shrinks by is taken off the largest others.

    They add up to the growth of the whole, or to 0 where the whole shrinks: nobody asks for less than nothing.
    """
    grown = [after - before for after, before in zip(parts_uc, before_uc, strict=True)]
    owed = -sum(part for part in grown if part < 0)
    kept = [max(0, part) for part in grown]
    for i in sorted(range(len(kept)), key=lambda k: -kept[k]):
        taken = min(owed, kept[i])
        kept[i], owed = kept[i] - taken, owed - taken
    return tuple(kept)
