"""Asks in large problems without windows: a pickup is put only beside stops that lie near it.

Granular neighbourhoods (Toth and Vigo 2003); the ends of the queues of near robots are tried too.

"""

from __future__ import annotations

from numpy.random import Generator

from fleet_market.allocation.compiled import kernel
from fleet_market.allocation.tables import (
    ABOARD,
    CAPACITY,
    EPS,
    INFINITE,
    KIND,
    LEG,
    LOAD,
    NEED,
    NEXT,
    PREV,
    SKILL,
    FloatArray,
    IntArray,
    State,
    Tables,
)


@kernel
def nearby_offer(tb: Tables, st: State, t: int, cutoff: float, blink: float, rng: Generator) -> tuple[float, int, int, int]:
    """Return the least ask for a task, the robot (-1: none below `cutoff`) and after which stops it would put it."""
    cost, cost_to, node, place, own, link, when = tb.cost, tb.cost_to, tb.node, tb.place, st.own, st.link, st.when
    stops, close, fleet, robot, gate = tb.beside, tb.close, tb.fleet, tb.robot, tb.gate
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    need, load = tb.task[t, NEED], node[t, LOAD]
    best, winner, after_p, after_d = cutoff, -1, -1, -1
    beside = stops.shape[1]
    for x in range(2 * (beside + close.shape[1])):
        if x < 2 * beside:
            v = stops[t, x // 2]
            r = own[v if v < n else v - n]
            if r < 0:
                continue
            a = v if x % 2 == 0 else link[v, PREV]
        else:
            r = close[t, x // 2 - beside]
            a = 2 * n + r if x % 2 == 0 else link[2 * n + m + r, PREV]
            if robot[r, KIND] < 0 and link[2 * n + r, NEXT] == 2 * n + m + r:
                continue
        room = fleet[r, CAPACITY] + EPS - load
        if room < 0.0 or when[a, ABOARD] > room or need & ~robot[r, SKILL] != 0:
            continue
        if (blink > 0.0 and rng.random() < blink) or not _behind(link, gate[r], 2 * n + r, a):
            continue
        ask, b = _best_dropoff(cost, cost_to, place, link, when, a, 2 * n + m + r, t, n + t, room, best)
        if b >= 0:
            best, winner, after_p, after_d = ask, r, a, b
    if winner < 0:
        return INFINITE, -1, -1, -1
    return best, winner, after_p, after_d


@kernel
def _behind(link: IntArray, gate: int, head: int, a: int) -> bool:
    """Return whether stop `a` is the gate or comes after it."""
    v = head
    while v != gate:
        if v == a:
            return False
        v = link[v, NEXT]
    return True


@kernel
def _best_dropoff(
    cost: FloatArray,
    cost_to: FloatArray,
    place: IntArray,
    link: IntArray,
    when: FloatArray,
    a: int,
    tail: int,
    p: int,
    d: int,
    room: float,
    cutoff: float,
) -> tuple[float, int]:
    """Return the least ask with the pickup after stop `a`, and the stop before the dropoff (-1: none below `cutoff`)."""
    pp, pd, b = place[p], place[d], link[a, NEXT]
    best, after = cutoff, -1
    to_p = cost_to[pp, place[a]] - when[a, LEG]
    ask = to_p + cost[pp, pd] + cost[pd, place[b]]
    if ask < best:
        best, after = ask, p
    to_p += cost[pp, place[b]]
    while b != tail and to_p < best and when[b, ABOARD] <= room:
        c = link[b, NEXT]
        ask = to_p + cost_to[pd, place[b]] + cost[pd, place[c]] - when[b, LEG]
        if ask < best:
            best, after = ask, b
        b = c
    return best, after
