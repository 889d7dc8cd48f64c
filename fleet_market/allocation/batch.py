"""Many queues of one robot at once, in numpy: the twin of `fleet_market.allocation.timeline.walk` without numba."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.allocation.compiled import compiled
from fleet_market.allocation.tables import (
    AGEING_S,
    CAPACITY,
    CHARGE_LOADED,
    CHARGE_RATE,
    DUE,
    EARLY,
    EPS,
    FLOOR,
    FULL,
    INFINITE,
    LATE,
    LOAD,
    MAKESPAN,
    RATE,
    SERVICE,
    SOC,
    SOC_MARGIN,
    FloatArray,
    IntArray,
    Tables,
)
from fleet_market.allocation.timeline import walk

BoolArray: TypeAlias = NDArray[np.bool_]


def walk_each(tables: Tables, robot: int, queues: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return cost and finish of many queues by the compiled kernel; arguments as of `walk_many`."""
    count, length = queues.shape
    cost, finish_s = np.empty(count), np.empty(count)
    stops, label = np.zeros(length + 2, dtype=np.int64), np.zeros((length + 3, 6))
    kernel = compiled(walk)
    for i in range(count):
        stops[:length] = queues[i]
        cost[i], finish_s[i], _ = kernel(tables, robot, stops, length, label, INFINITE)
    return cost, finish_s


def walk_many(tables: Tables, robot: int, queues: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return cost and finish of many queues.

    Parameters
    ----------
    tables : Tables
    robot : int
    queues : (C, L) int64 array
        Stop numbers in their order, without start and end.

    Returns
    -------
    cost : (C,) float64 array
        `INFINITE` where a queue is not feasible.
    finish_s : (C,) float64 array, seconds
        Undefined where a queue is not feasible.
    """
    return _Batch(tables, robot, queues).run()


class _Batch:
    """The stops of C queues, one column per stop."""

    def __init__(self, tables: Tables, robot: int, queues: IntArray) -> None:
        n, m = tables.task.shape[0], tables.fleet.shape[0]
        self.tb, self.r, self.head = tables, robot, 2 * n + robot
        tail = 2 * n + m + robot
        if tables.place[tail] != tables.time.shape[0] - 1:
            queues = np.column_stack([queues, np.full(len(queues), tail, dtype=np.int64)])
        self.queues, self.place = queues, tables.place[queues]
        self.load = tables.node[self.head, LOAD] + np.cumsum(tables.node[queues, LOAD], axis=1)
        self.may_charge = (self.load <= EPS) | (tables.rules[CHARGE_LOADED] > 0)

    def run(self) -> tuple[FloatArray, FloatArray]:
        count, stops = self.queues.shape
        start = np.full(count, self.tb.place[self.head])
        cost, time_s = self.drive(0, stops, start, np.full(count, self.tb.node[self.head, EARLY]), np.zeros(count))
        cost[(self.load > self.tb.fleet[self.r, CAPACITY] + EPS).any(axis=1)] = INFINITE
        if self.tb.soc.shape[0] > 1 and stops:
            before = np.column_stack([start, self.place[:, :-1]])
            left = self.tb.fleet[self.r, SOC] - np.cumsum(self.tb.soc[before, self.place], axis=1)
            short = self.may_charge & (left - self.home(self.place) < self.tb.rules[FLOOR] + SOC_MARGIN)
            some = np.flatnonzero(short.any(axis=1) & (cost < INFINITE))
            if some.size:
                cost[some], time_s[some] = self._part(some).with_charging()
        return cost, time_s

    def _part(self, some: IntArray) -> _Batch:
        part = object.__new__(_Batch)
        part.tb, part.r, part.head = self.tb, self.r, self.head
        part.queues, part.place, part.load = self.queues[some], self.place[some], self.load[some]
        part.may_charge = self.may_charge[some]
        return part

    def home(self, place: IntArray) -> FloatArray:
        """Return what the way to the nearest charger takes from the battery."""
        chargers = [c for c in self.tb.charger[self.r] if c >= 0]
        if not chargers:
            return np.zeros(place.shape)
        least: FloatArray = np.min([self.tb.soc[place, c] for c in chargers], axis=0)
        return np.minimum(least, INFINITE)

    def drive(
        self, first: int, last: int, place: IntArray, time_s: FloatArray, cost: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Drive to the stops `first` to `last - 1`."""
        tb, late = self.tb, np.zeros(len(cost), dtype=np.bool_)
        for k in range(first, last):
            stop, there = self.queues[:, k], self.place[:, k]
            time_s = np.maximum(time_s + tb.time[place, there], tb.node[stop, EARLY])
            late |= time_s > tb.node[stop, LATE] + EPS
            time_s = time_s + tb.node[stop, SERVICE]
            cost = cost + (tb.cost[place, there] + self._lateness(stop, time_s))
            place = there
        return np.where(late | (cost >= INFINITE), INFINITE, cost), time_s

    def _lateness(self, stop: IntArray, end_s: FloatArray) -> FloatArray:
        rate = self.tb.node[stop, RATE]
        late_s = np.where(rate > 0, np.maximum(end_s - self.tb.node[stop, DUE], 0.0), 0.0)
        cost = rate * late_s
        ageing_s = self.tb.rules[AGEING_S]
        return np.asarray(cost * (1.0 + 0.5 * late_s / ageing_s) if ageing_s > 0 else cost)

    def with_charging(self) -> tuple[FloatArray, FloatArray]:
        """Plan the charging stops: see `fleet_market.allocation.timeline`."""
        count, stops = self.queues.shape
        rates = self.tb.node[self.queues, RATE]
        self.ahead = np.zeros((count, stops + 1)) + self.tb.rules[MAKESPAN] + EPS
        for k in range(stops - 1, -1, -1):
            self.ahead[:, k] = self.ahead[:, k + 1] + rates[:, k]
        self.l_cost = np.full((count, stops + 1), INFINITE)
        self.l_time, self.l_soc = np.zeros((count, stops + 1)), np.zeros((count, stops + 1))
        self.l_charger = np.zeros((count, stops + 1), dtype=np.int64)
        best, finish_s = np.full(count, INFINITE), np.zeros(count)
        start = np.full(count, self.tb.place[self.head])
        begin_s, soc = np.full(count, self.tb.node[self.head, EARLY]), np.full(count, self.tb.fleet[self.r, SOC])
        if self.tb.node[self.head, LOAD] <= EPS or self.tb.rules[CHARGE_LOADED] > 0:
            self._arrive(np.ones(count, dtype=np.bool_), 0, start, begin_s, soc, np.zeros(count), 0.0)
        self._stretch(-1, start, begin_s, soc, np.zeros(count), best, finish_s)
        for g in range(stops):
            if (self.l_cost[:, g] < best).any():
                c = self.l_charger[:, g]
                begin_s = np.maximum(self.l_time[:, g], self.tb.charger_free[self.r, c])
                self._stretch(g, self.tb.charger[self.r, c], begin_s, self.l_soc[:, g], self.l_cost[:, g], best, finish_s)
        return best, finish_s

    def _stretch(
        self,
        g: int,
        source: IntArray,
        begin_s: FloatArray,
        soc: FloatArray,
        cost0: FloatArray,
        best: FloatArray,
        finish_s: FloatArray,
    ) -> None:
        """Drive on from the charge before stop `g` (-1: the start), set labels, improve `best` and `finish_s` in place."""
        count, stops = self.queues.shape
        floor, full, rate = self.tb.rules[FLOOR] + SOC_MARGIN, self.tb.rules[FULL], self.tb.rules[CHARGE_RATE]
        first = max(g, 0)
        alive = cost0 < best
        used, need, place = np.zeros(count), np.full(count, floor), source
        for k in range(first, stops):
            there = self.place[:, k]
            used = used + self.tb.soc[place, there]
            place = there
            may = self.may_charge[:, k]
            need = np.where(may, np.maximum(need, floor + used + self.home(there)), need)
            alive = alive & (need <= (soc if g < 0 else full))
            if not alive.any():
                return
            leave_s, leave_soc = begin_s, soc
            if g >= 0:
                leave_soc = np.maximum(soc, need)
                leave_s = begin_s + (leave_soc - soc) / rate
                ready_s = self.tb.node[self.queues[:, first], EARLY]
                slack_s = np.maximum(ready_s - leave_s - self.tb.time[source, self.place[:, first]], 0.0)
                more = np.minimum(slack_s * rate, np.maximum(full - leave_soc, 0.0))
                leave_soc, leave_s = leave_soc + more, leave_s + more / rate
            cost, time_s = self.drive(first, k + 1, source, leave_s, cost0)
            tried = alive & (may if k + 1 < stops else True)
            alive = alive & ~(tried & (cost >= best))
            if k + 1 < stops:
                with np.errstate(invalid="ignore"):
                    self._arrive(tried & alive, k + 1, there, time_s, leave_soc - used, cost, floor)
            else:
                better = alive & (cost < best)
                best[better], finish_s[better] = cost[better], time_s[better]

    def _arrive(
        self,
        some: BoolArray,
        h: int,
        place: IntArray,
        time_s: FloatArray,
        soc: FloatArray,
        cost: FloatArray,
        least_soc: float,
    ) -> None:
        """Let the robot go to a charger before stop `h`, where that is better than what is known."""
        for c, charger in enumerate(self.tb.charger[self.r]):
            if charger < 0:
                continue
            at_soc = soc - self.tb.soc[place, charger]
            at_s = np.maximum(time_s + self.tb.time[place, charger], self.tb.charger_free[self.r, c])
            at_cost, ahead = cost + self.tb.cost[place, charger], self.ahead[:, h]
            take = some & (at_soc >= least_soc - SOC_MARGIN) & (at_soc <= self.tb.rules[FULL])
            with np.errstate(invalid="ignore"):
                take &= at_cost + at_s * ahead < self.l_cost[:, h] + self.l_time[:, h] * ahead
            self.l_cost[take, h], self.l_time[take, h], self.l_soc[take, h] = at_cost[take], at_s[take], at_soc[take]
            self.l_charger[take, h] = c
