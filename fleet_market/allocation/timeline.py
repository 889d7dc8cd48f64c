"""Simulate one queue: times, lateness, battery, and charging stops where they are needed and no longer than needed.

Charging is decided by dynamic programming over the gaps of the queue in which the robot may charge. From every charge (and
from the start) the queue is driven on as far as a full battery allows; a charge lasts exactly until the battery holds what
the stops up to the next charge take, the way to a charger included. Of two ways to arrive at the same charger the one is
kept that costs less when every second costs what the stops ahead lose by it; with waiting times or ageing this is a
heuristic.
"""

from __future__ import annotations

from fleet_market.allocation.compiled import kernel
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

# columns of a label: the state of arrival at a charger before a stop
L_COST, L_TIME, L_SOC, L_CHARGER, L_FROM, L_AHEAD = range(6)
START = -1
"""Marks the start in column `L_FROM`, instead of the charge before some stop."""


@kernel
def lateness_cost(tb: Tables, stop: int, end_s: float) -> float:
    """Return the cost of ending the service at a stop at `end_s`."""
    rate: float = tb.node[stop, RATE]
    late_s: float = end_s - tb.node[stop, DUE]
    if rate <= 0.0 or late_s <= 0.0:
        return 0.0
    ageing_s: float = tb.rules[AGEING_S]
    if ageing_s > 0.0:
        return rate * late_s * (1.0 + 0.5 * late_s / ageing_s)
    return rate * late_s


@kernel
def soc_home(tb: Tables, r: int, place: int) -> float:
    """Return what the way to the nearest charger takes from the battery; 0 for a robot without a charger."""
    least, any_charger = INFINITE, False
    for c in range(tb.charger.shape[1]):
        if tb.charger[r, c] >= 0:
            any_charger = True
            least = min(least, tb.soc[place, tb.charger[r, c]])
    return least if any_charger else 0.0


@kernel
def drive(
    tb: Tables, queue: IntArray, first: int, last: int, place: int, time_s: float, cost: float, cutoff: float
) -> tuple[float, float]:
    """Drive from `place` to the stops `first` to `last - 1` of a queue; return cost and time, or no bid."""
    for k in range(first, last):
        v = queue[k]
        pv = tb.place[v]
        time_s = max(time_s + tb.time[place, pv], tb.node[v, EARLY])
        if time_s > tb.node[v, LATE] + EPS:
            return INFINITE, time_s
        time_s += tb.node[v, SERVICE]
        cost += tb.cost[place, pv] + lateness_cost(tb, v, time_s)
        if cost >= cutoff:
            return INFINITE, time_s
        place = pv
    return cost, time_s


@kernel
def walk(tb: Tables, r: int, queue: IntArray, length: int, label: FloatArray, cutoff: float) -> tuple[float, float, int]:
    """Simulate a queue.

    Parameters
    ----------
    tb : Tables
    r : int
        The robot.
    queue : (>= length + 1,) int64 array
        Stops in their order, without start; the entry behind them is overwritten.
    length : int
    label : (>= length + 2, 6) float64 array
        Overwritten; holds the charging stops afterwards, to be read from the last one backwards.
    cutoff : float
        A cost from which on the result does not matter.

    Returns
    -------
    cost : float
        `INFINITE` if the queue is not feasible or costs at least `cutoff`.
    finish_s : float
    last : int
        The stop before which the robot charges last, `START` if it need not charge.
    """
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    head, tail = 2 * n + r, 2 * n + m + r
    anywhere = tb.place[tail] == tb.time.shape[0] - 1
    stops = length
    if not anywhere:
        queue[length] = tail
        stops = length + 1
    battery = tb.soc.shape[0] > 1
    loaded_too = tb.rules[CHARGE_LOADED] > 0.0
    floor = tb.rules[FLOOR] + SOC_MARGIN
    time_s, soc, load, cost = tb.node[head, EARLY], tb.fleet[r, SOC], tb.node[head, LOAD], 0.0
    place = tb.place[head]
    short = False
    for k in range(stops):
        v = queue[k]
        pv = tb.place[v]
        time_s = max(time_s + tb.time[place, pv], tb.node[v, EARLY])
        load += tb.node[v, LOAD]
        if time_s > tb.node[v, LATE] + EPS or load > tb.fleet[r, CAPACITY] + EPS:
            return INFINITE, time_s, START
        time_s += tb.node[v, SERVICE]
        cost += tb.cost[place, pv] + lateness_cost(tb, v, time_s)
        if cost >= cutoff:
            return INFINITE, time_s, START
        if battery:
            soc -= tb.soc[place, pv]
            if (loaded_too or load <= EPS) and soc - soc_home(tb, r, pv) < floor:
                short = True
        place = pv
    if not short:
        return cost, time_s, START
    return _with_charging(tb, r, queue, stops, label, cutoff)


@kernel
def _with_charging(
    tb: Tables, r: int, queue: IntArray, stops: int, label: FloatArray, cutoff: float
) -> tuple[float, float, int]:
    head = 2 * tb.task.shape[0] + r
    ahead = tb.rules[MAKESPAN] + EPS
    for k in range(stops, -1, -1):
        if k < stops:
            ahead += tb.node[queue[k], RATE]
        label[k, L_COST], label[k, L_AHEAD] = INFINITE, ahead
    best, finish_s, last = cutoff, 0.0, START
    found = False
    load = tb.node[head, LOAD]
    if load <= EPS or tb.rules[CHARGE_LOADED] > 0.0:
        _arrive(tb, r, label, 0, START, tb.place[head], tb.node[head, EARLY], tb.fleet[r, SOC], 0.0, 0.0)
    cost, end_s, reached = _stretch(tb, r, queue, stops, label, START, load, best)
    if reached and cost < best:
        best, finish_s, last, found = cost, end_s, START, True
    for g in range(stops):
        if g > 0:
            load += tb.node[queue[g - 1], LOAD]
        if label[g, L_COST] < best:
            cost, end_s, reached = _stretch(tb, r, queue, stops, label, g, load, best)
            if reached and cost < best:
                best, finish_s, last, found = cost, end_s, g, True
    if found:
        return best, finish_s, last
    return INFINITE, finish_s, START


@kernel
def _stretch(
    tb: Tables, r: int, queue: IntArray, stops: int, label: FloatArray, g: int, load: float, cutoff: float
) -> tuple[float, float, bool]:
    """Drive on from the charge before stop `g` (or the start), and set the labels of the next charges."""
    n = tb.task.shape[0]
    floor, full, rate = tb.rules[FLOOR] + SOC_MARGIN, tb.rules[FULL], tb.rules[CHARGE_RATE]
    loaded_too = tb.rules[CHARGE_LOADED] > 0.0
    if g == START:
        first, source, begin_s = 0, tb.place[2 * n + r], tb.node[2 * n + r, EARLY]
        soc, cost0 = tb.fleet[r, SOC], 0.0
        full = soc
    else:
        c = int(label[g, L_CHARGER])
        first, source, soc, cost0 = g, tb.charger[r, c], label[g, L_SOC], label[g, L_COST]
        begin_s = max(label[g, L_TIME], tb.charger_free[r, c])
    used, need, place = 0.0, floor, source
    cost, time_s = cost0, begin_s
    for k in range(first, stops):
        v = queue[k]
        pv = tb.place[v]
        used += tb.soc[place, pv]
        place = pv
        load += tb.node[v, LOAD]
        may_charge = loaded_too or load <= EPS
        if may_charge:
            need = max(need, floor + used + soc_home(tb, r, pv))
        if need > full:
            return INFINITE, time_s, False
        if not may_charge and k + 1 < stops:
            continue
        leave_s, leave_soc = begin_s, soc
        if g != START:
            leave_soc = max(soc, need)
            leave_s = begin_s + (leave_soc - soc) / rate
            slack_s = tb.node[queue[first], EARLY] - leave_s - tb.time[source, tb.place[queue[first]]]
            if slack_s > 0.0:
                more = min(slack_s * rate, max(full - leave_soc, 0.0))
                leave_soc += more
                leave_s += more / rate
        cost, time_s = drive(tb, queue, first, k + 1, source, leave_s, cost0, cutoff)
        if cost >= cutoff:
            return INFINITE, time_s, False
        if k + 1 < stops:
            _arrive(tb, r, label, k + 1, g, pv, time_s, leave_soc - used, cost, floor)
    return cost, time_s, True


@kernel
def _arrive(
    tb: Tables,
    r: int,
    label: FloatArray,
    h: int,
    g: int,
    place: int,
    time_s: float,
    soc: float,
    cost: float,
    least_soc: float,
) -> None:
    """Let the robot go from `place` to a charger before stop `h`, if that is better than what is known."""
    for c in range(tb.charger.shape[1]):
        charger = tb.charger[r, c]
        if charger < 0:
            continue
        at_soc = soc - tb.soc[place, charger]
        if at_soc < least_soc - SOC_MARGIN or at_soc > tb.rules[FULL]:
            continue
        at_s = max(time_s + tb.time[place, charger], tb.charger_free[r, c])
        at_cost = cost + tb.cost[place, charger]
        if at_cost + at_s * label[h, L_AHEAD] < label[h, L_COST] + label[h, L_TIME] * label[h, L_AHEAD]:
            label[h, L_COST], label[h, L_TIME], label[h, L_SOC] = at_cost, at_s, at_soc
            label[h, L_CHARGER], label[h, L_FROM] = c, g
