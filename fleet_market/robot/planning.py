"""Where in its queue a robot would put a lot, and when it has to charge: its queue as a `robot.schedule.Schedule`.

The places that matter (where it is, the stops of its queue, those of the lots, the chargers) become a matrix: the length
of the shortest way between each two, times what a metre takes this robot by what it has learned. That chooses the stops;
what they cost is priced exactly afterwards (`robot.pricing`). Energy is counted on the safe side: with a full load, and
twice the standard deviation on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet_market.allocation import BatteryRules, RobotSpec, Stop, TaskSpec
from fleet_market.allocation.tables import FloatArray
from fleet_market.body import RobotType
from fleet_market.pricing import PlanLeg, Tariff, TaskPlan
from fleet_market.protocol.messages import Place
from fleet_market.robot.legs import USUAL_TURN_RAD, Legs
from fleet_market.robot.memory import Memory
from fleet_market.robot.pricing import Drive, Halt, halts_of
from fleet_market.robot.queue import Errand, Queue, Visit
from fleet_market.robot.schedule import MOST_QUEUED, Schedule, Ways

S_PER_H, NS_PER_S = 3600.0, 1e9
RESERVE_SD = 2.0
"""The reserve is kept unless a queue takes more energy than this many standard deviations above what is expected."""
DEADLINE_SD = 1.3
"""A deadline is promised when it is met with a probability of 90 % (normal distribution)."""
AGEING_S = 300.0
"""An order as late as this counts twice when places in the queue are chosen, so that it is not overtaken for ever."""
SHORT_M, LONG_M = 5.0, 25.0
"""Ways by which a robot's law of the metre is found."""
LEAST_KG = 1e-6
"""Stands for a parcel without weight."""
SLACK_S, SLACK_SOC = 1e-3, 1e-5
"""Beyond the tolerances of `fleet_market.allocation`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What ways take a robot: a part for each stop and a part for each metre, by what it has learned."""

    stop_s: float
    s_per_m: float
    stop_uc: float
    uc_per_m: float
    stop_soc: float
    soc_per_m: float
    sd_share: float
    """Standard deviation of durations, as a share of them."""
    capacity_j: float
    """Of the full battery."""

    @classmethod
    def learned(cls, robot: RobotType, memory: Memory, tariff: Tariff) -> Rates:
        """Return the rates of a robot as it knows itself now."""
        capacity_j = memory.capacity_j
        numbers = []
        for length_m in (SHORT_M, LONG_M):
            quotes = [
                memory.quote(TaskPlan((PlanLeg(length_m, USUAL_TURN_RAD / 2, 1, load_kg),)), tariff)
                for load_kg in (robot.max_payload_kg / 2, robot.max_payload_kg)
            ]
            usual, full = quotes
            safe_j = full.energy.mean + RESERVE_SD * full.energy.sd
            numbers.append((usual.lasts.mean, float(usual.ask_uc), safe_j / capacity_j, usual.lasts.sd))
        short, long = numbers
        slopes = [(b - a) / (LONG_M - SHORT_M) for a, b in zip(short, long, strict=True)]
        bases = [max(0.0, a - slope * SHORT_M) for a, slope in zip(short, slopes, strict=True)]
        shares = (bases[0], slopes[0], bases[1], slopes[1], bases[2], slopes[2])
        return cls(*shares, sd_share=long[3] / long[0], capacity_j=capacity_j)


class Planner:
    """Plans the queue of one robot.

    Parameters
    ----------
    robot : RobotType
    legs : Legs
    """

    def __init__(self, robot: RobotType, legs: Legs) -> None:
        self._robot, self._legs = robot, legs

    def insertions(self, queue: Queue, lots: Sequence[Errand], rates: Rates) -> list[Drive | None]:
        """Return for each lot the queue with it at its best place; None where the schedule knows none.

        Parameters
        ----------
        queue : Queue
        lots : sequence of Errand
        rates : Rates
        """
        if not lots or len(queue.errands) >= MOST_QUEUED:
            return [None] * len(lots)
        model = _Model(self._robot, self._legs, queue, lots, rates)
        schedule = model.schedule()
        if not math.isfinite(schedule.cost):
            return [None] * len(lots)
        found: list[Drive | None] = []
        for i, (lot, one) in enumerate(zip(lots, schedule.asks(model.lots), strict=True)):
            if one is None:
                found.append(None)
                continue
            grown = queue.with_errand(lot, model.visits(one.queue, lot))
            enough = queue.soc >= model.needed_soc(one.queue, (*model.tasks, model.lots[i]))
            found.append(Drive(grown, halts_of(grown)) if enough else self.drive(grown, rates))
        return found

    def drive(self, queue: Queue, rates: Rates) -> Drive:
        """Return a queue with the charging stops that it needs; with none where no charging can help it."""
        model = _Model(self._robot, self._legs, queue, (), rates)
        if not model.stops or queue.soc >= model.needed_soc(model.stops, model.tasks):
            return Drive(queue, halts_of(queue))
        charges: dict[int, Halt] = {}
        at = queue.locked - model.held
        for event in model.schedule(timed=False).timetable():
            if event.kind == "charge":
                stays_s, place = float(event.end_s - event.begin_s), model.places[event.place - 1]
                charges[max(at, queue.locked)] = Halt(place, None, stays_s=stays_s, until_soc=float(event.soc))
            elif event.kind != "end":
                at += 1
        return Drive(queue, halts_of(queue, charges))


class _Model:
    """A queue and some lots as places and tasks of a `Schedule` that begins when the locked visits are done."""

    def __init__(self, robot: RobotType, legs: Legs, queue: Queue, lots: Sequence[Errand], rates: Rates) -> None:
        self._robot, self._queue, self._rates, self._lots = robot, queue, rates, lots
        head, rest = queue.visits[: queue.locked], queue.visits[queue.locked :]
        self._start = queue.pose
        self._head_m = 0.0
        for visit in head:
            way = legs.way(self._start, queue.place(visit))
            self._head_m += way.length_m
            self._start = way.end
        self._head = len(head)
        left = {visit.order for visit in rest}
        self.errands = [errand for errand in queue.errands if errand.order in left]
        picked = {visit.order for visit in rest if visit.pickup}
        self._aboard = [errand.order not in picked for errand in self.errands]
        self.held = sum(self._aboard)
        """Parcels aboard when the schedule begins."""
        self._number = {errand.order: i for i, errand in enumerate(self.errands)}
        self.stops = tuple(Stop(i, pickup=True) for i, aboard in enumerate(self._aboard) if aboard) + tuple(
            Stop(self._number[visit.order], visit.pickup) for visit in rest
        )
        self.places: list[Place] = []
        self._at: dict[Place, int] = {}
        ends = [(self._place(errand), self._index(errand.dropoff)) for errand in self.errands]
        lot_ends = [(self._place(lot), self._index(lot.dropoff)) for lot in lots]
        self._chargers = tuple(self._index(place) for place in legs.chargers)
        self._ways_m = legs.distances_m(self._start, self.places)
        self._soc = self._leg_soc()
        self._soc_list: list[list[float]] = self._soc.tolist()
        home = self._soc[:, list(self._chargers)].min(axis=1, initial=math.inf)
        self._home: list[float] = np.where(np.isfinite(home), home, 0.0).tolist()
        self._free_s = self._head * (rates.stop_s + robot.handling_s) + rates.s_per_m * self._head_m
        self.tasks = [
            self._task(errand, *end, aboard=aboard)
            for errand, end, aboard in zip(self.errands, ends, self._aboard, strict=True)
        ]
        self.lots = [self._task(lot, *end, aboard=False) for lot, end in zip(lots, lot_ends, strict=True)]

    def _place(self, errand: Errand) -> int:
        """Return the place of a pickup: the start for a parcel that is aboard."""
        aboard = errand.order in self._number and self._aboard[self._number[errand.order]]
        return 0 if errand.pickup is None or aboard else self._index(errand.pickup)

    def _index(self, place: Place) -> int:
        if place not in self._at:
            self.places.append(place)
            self._at[place] = len(self.places)
        return self._at[place]

    def _task(self, errand: Errand, pickup: int, dropoff: int, *, aboard: bool) -> TaskSpec:
        handling_s = self._robot.handling_s
        due_s = (errand.deadline_ns - self._queue.now_ns) / NS_PER_S
        latest_s = math.inf
        if errand.lateness_uc_per_h == 0:
            latest_s = due_s / (1 + DEADLINE_SD * self._rates.sd_share) - handling_s
        return TaskSpec(
            pickup,
            dropoff,
            load=max(LEAST_KG, errand.payload_kg),
            dropoff_window_s=(-math.inf, latest_s),
            pickup_service_s=0.0 if aboard else handling_s,
            dropoff_service_s=handling_s,
            due_s=due_s,
            late_rate=errand.lateness_uc_per_h / S_PER_H,
            robot=0 if aboard else None,
        )

    def schedule(self, *, timed: bool = True) -> Schedule:
        """Return the schedule; orders that may not be late keep their deadlines, or are not made later than they are.

        Parameters
        ----------
        timed : bool
            Whether deadlines count.
        """
        robot, rates = self._robot, self._rates
        away = (self._ways_m > 0) & np.isfinite(self._ways_m)
        travel_s = np.where(away, rates.stop_s + rates.s_per_m * self._ways_m, self._ways_m)
        cost = np.where(away, rates.stop_uc + rates.uc_per_m * self._ways_m, self._ways_m)
        battery = robot.battery
        gain_w = battery.max_charge_w * battery.charge_efficiency - robot.hotel_w
        soc = min(1.0, max(0.0, self._queue.soc - self._head_soc()))
        floor_soc = battery.reserve_soc
        if not timed and self.held:
            # A parcel aboard counts as loaded at the start: one who has broken into the reserve may still go from there.
            floor_soc = min(floor_soc, max(0.0, soc - self._home[0] - SLACK_SOC))
        rules = BatteryRules(
            floor_soc,
            battery.target_soc,
            max(gain_w, 1.0) / rates.capacity_j,
            charge_loaded=True,
        )
        ways = Ways(travel_s, cost, None, self._soc, rules)
        spec = RobotSpec(
            0,
            self._free_s,
            robot.max_payload_kg + LEAST_KG * MOST_QUEUED,
            soc=soc,
            chargers=self._chargers,
        )
        tasks = tuple(self._relaxed(travel_s) if timed else map(_untimed, self.tasks))
        return Schedule(spec, ways, tasks, self.stops, ageing_s=AGEING_S, parcels=robot.parcels)

    def _leg_soc(self) -> FloatArray:
        rates, away = self._rates, (self._ways_m > 0) & np.isfinite(self._ways_m)
        standing = self._robot.hotel_w * self._robot.handling_s / rates.capacity_j
        way = np.where(away, rates.stop_soc + rates.soc_per_m * self._ways_m, self._ways_m) + standing
        way[:, list(self._chargers)] -= standing
        np.fill_diagonal(way, 0.0)
        return way

    def _head_soc(self) -> float:
        return self._head * self._rates.stop_soc + self._rates.soc_per_m * self._head_m

    def _relaxed(self, travel_s: FloatArray) -> list[TaskSpec]:
        """Return the tasks; a window that the queue misses already ends when it does the task now."""
        at, now_s, tasks = 0, self._free_s, list(self.tasks)
        for stop in self.stops:
            task = tasks[stop.task]
            place = task.pickup if stop.pickup else task.dropoff
            now_s += float(travel_s[at, place])
            at = place
            if not stop.pickup and now_s > task.dropoff_window_s[1]:
                tasks[stop.task] = _until(task, now_s + SLACK_S)
            now_s += task.pickup_service_s if stop.pickup else task.dropoff_service_s
        return tasks

    def needed_soc(self, stops: Sequence[Stop], tasks: Sequence[TaskSpec]) -> float:
        """Return the state of charge that some stops need without charging, reserve and way to a charger included."""
        used, at = self._head_soc(), 0
        need = used + self._home[0]
        for stop in stops:
            place = tasks[stop.task].pickup if stop.pickup else tasks[stop.task].dropoff
            used += self._soc_list[at][place]
            need, at = max(need, used + self._home[place]), place
        return need + self._robot.battery.reserve_soc

    def visits(self, stops: Sequence[Stop], lot: Errand) -> tuple[Visit, ...]:
        """Return the visits of a queue of the schedule with a lot in it."""
        orders = [*(errand.order for errand in self.errands), lot.order]
        rest = tuple(Visit(orders[stop.task], stop.pickup) for stop in stops[self.held :])
        return (*self._queue.visits[: self._queue.locked], *rest)


def _until(task: TaskSpec, latest_s: float) -> TaskSpec:
    return replace(task, dropoff_window_s=(-math.inf, latest_s))


def _untimed(task: TaskSpec) -> TaskSpec:
    return _until(task, math.inf)
