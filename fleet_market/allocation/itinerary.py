"""What a robot does when: the timetable of one queue, charging stops included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fleet_market.allocation.tables import EARLY, FLOOR, FULL, INFINITE, LOAD, SERVICE, SOC, SOC_MARGIN, Tables
from fleet_market.allocation.timeline import L_CHARGER, L_FROM, START, soc_home, walk


@dataclass(frozen=True, slots=True)
class Event:
    """One stop of a timetable.

    Attributes
    ----------
    kind : "pickup", "dropoff", "charge" or "end"
    task : int
        Number of the task, -1 for a charge or the end.
    place : int
    arrive_s, begin_s, end_s : float
        Arrival; begin of loading, unloading or charging (later, if it must wait); its end.
    soc : float
        State of charge at the end; 1 where batteries do not matter.
    """

    kind: Literal["pickup", "dropoff", "charge", "end"]
    task: int
    place: int
    arrive_s: float
    begin_s: float
    end_s: float
    soc: float


def itinerary(tables: Tables, robot: int, queue: Sequence[int]) -> tuple[float, list[Event]]:
    """Return cost and timetable of a queue.

    Parameters
    ----------
    tables : Tables
    robot : int
    queue : sequence of int
        Stop numbers, see `fleet_market.allocation.tables`.

    Returns
    -------
    cost : float
        `INFINITE` if it is not feasible; the timetable is empty then.
    events : list of Event
    """
    n = tables.task.shape[0]
    stops = np.zeros(len(queue) + 2, dtype=np.int64)
    stops[: len(queue)] = queue
    label = np.zeros((len(queue) + 3, 6))
    cost, _, last = walk(tables, robot, stops, len(queue), label, INFINITE)
    if cost >= INFINITE:
        return INFINITE, []
    length = len(queue) + (tables.place[2 * n + tables.fleet.shape[0] + robot] < tables.time.shape[0] - 1)
    charges: dict[int, int] = {}
    while last != START:
        charges[last] = int(tables.charger[robot, int(label[last, L_CHARGER])])
        last = int(label[last, L_FROM])
    return cost, _Drive(tables, robot, [int(v) for v in stops[:length]], charges).events()


class _Drive:
    """Follows a queue with its charging stops given by the positions before which they come."""

    def __init__(self, tables: Tables, robot: int, queue: list[int], charges: dict[int, int]) -> None:
        head = 2 * tables.task.shape[0] + robot
        self._tb, self._r, self._queue, self._charges = tables, robot, queue, charges
        self._at, self._time_s = int(tables.place[head]), float(tables.node[head, EARLY])
        self._soc, self._load = float(tables.fleet[robot, SOC]), float(tables.node[head, LOAD])
        self._battery = tables.soc.shape[0] > 1

    def events(self) -> list[Event]:
        events = []
        for k, stop in enumerate(self._queue):
            if k in self._charges:
                events.append(self._charge(k))
            events.append(self._visit(stop))
        return events

    def _go(self, place: int) -> None:
        self._time_s += float(self._tb.time[self._at, place])
        if self._battery:
            self._soc -= float(self._tb.soc[self._at, place])
        self._at = place

    def _visit(self, stop: int) -> Event:
        n = self._tb.task.shape[0]
        self._go(int(self._tb.place[stop]))
        arrive_s = self._time_s
        begin_s = max(arrive_s, float(self._tb.node[stop, EARLY]))
        self._time_s = begin_s + float(self._tb.node[stop, SERVICE])
        self._load += float(self._tb.node[stop, LOAD])
        soc = self._soc if self._battery else 1.0
        if stop >= 2 * n:
            return Event("end", -1, self._at, arrive_s, begin_s, self._time_s, soc)
        kind: Literal["pickup", "dropoff"] = "pickup" if stop < n else "dropoff"
        return Event(kind, stop % n, self._at, arrive_s, begin_s, self._time_s, soc)

    def _charge(self, k: int) -> Event:
        charger = self._charges[k]
        self._go(charger)
        arrive_s = self._time_s
        column = int(np.flatnonzero(self._tb.charger[self._r] == charger)[0])
        begin_s = max(arrive_s, float(self._tb.charger_free[self._r, column]))
        rate, full = float(self._tb.rules[2]), float(self._tb.rules[FULL])
        leave_soc = max(self._soc, self._need(k, charger))
        end_s = begin_s + (leave_soc - self._soc) / rate
        first = self._queue[k]
        slack_s = float(self._tb.node[first, EARLY]) - end_s - float(self._tb.time[charger, self._tb.place[first]])
        if slack_s > 0:
            more = min(slack_s * rate, max(full - leave_soc, 0.0))
            leave_soc, end_s = leave_soc + more, end_s + more / rate
        self._soc, self._time_s = leave_soc, end_s
        return Event("charge", -1, charger, arrive_s, begin_s, end_s, leave_soc)

    def _need(self, k: int, place: int) -> float:
        """Return with what charge the robot must leave, to come as far as the next charge."""
        floor, load, used = float(self._tb.rules[FLOOR]) + SOC_MARGIN, self._load, 0.0
        need = floor
        for i in range(k, len(self._queue)):
            if i > k and i in self._charges:
                break
            stop = self._queue[i]
            there = int(self._tb.place[stop])
            used += float(self._tb.soc[place, there])
            load += float(self._tb.node[stop, LOAD])
            if load <= 1e-9 or self._tb.rules[7] > 0:
                need = max(need, floor + used + soc_home(self._tb, self._r, there))
            place = there
        return need
