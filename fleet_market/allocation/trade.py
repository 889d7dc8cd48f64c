"""Trades between two robots, each kept only if the sum of both costs falls: money can then make both better off.

The four kinds of contract of Sandholm (1998) without their multi-party form: O, one task sold; C, a cluster sold; S, one
task swapped for another; and the tails of two queues exchanged (2-opt*, Potvin and Rousseau 1995).
"""

from __future__ import annotations

from numpy.random import Generator

from fleet_market.allocation.bids import bid, settle
from fleet_market.allocation.compiled import kernel
from fleet_market.allocation.queues import best_offer, forget, peak, put_in, restore, save, take_out
from fleet_market.allocation.tables import (
    ABOARD,
    AT,
    COST,
    EPS,
    FIXED,
    GENERAL,
    INFINITE,
    LATEST,
    LOAD,
    MAKESPAN,
    NEXT,
    NOW,
    PREV,
    SERVICE,
    TIMED,
    IntArray,
    State,
    Tables,
    Work,
)

SINGLE, CLUSTER, SWAP, TAIL = range(4)
"""Kinds of trade, as `trade` counts them."""
CLUSTER_TASKS = 4
PARTNERS = 12
"""Related tasks with which a swap or an exchange of tails is tried."""


@kernel
def exchange_tails(tb: Tables, st: State, u: int, t: int) -> bool:
    """Let the robot of `u` go on, after dropping it off, with `t` and all behind it, and the robot of `t` with the rest.

    Queues must be saved before; they are not settled. Return whether it was possible: both robots must be empty there.
    """
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    link, own = st.link, st.own
    r, q = own[u], own[t]
    if r < 0 or q < 0 or r == q:
        return False
    a, b, load = n + u, link[t, PREV], tb.node[2 * n + q, LOAD]
    c, last_r, last_q = link[a, NEXT], link[2 * n + m + r, PREV], link[2 * n + m + q, PREV]
    if tb.rules[GENERAL] > 0.0:
        v = link[2 * n + q, NEXT]
        while v != t:
            load += tb.node[v, LOAD]
            v = link[v, NEXT]
        if load > EPS:
            return False
        load, v = tb.node[2 * n + r, LOAD], 2 * n + r
        while v != a:
            v = link[v, NEXT]
            load += tb.node[v, LOAD]
        if load > EPS:
            return False
    elif st.when[a, ABOARD] > EPS or st.when[b, ABOARD] > EPS:
        return False
    elif tb.rules[TIMED] > 0.0:
        late = st.when[a, AT] + tb.node[a, SERVICE] + tb.time[tb.place[a], tb.place[t]] > st.when[t, LATEST] + EPS
        if late or (
            c < 2 * n
            and st.when[b, AT] + tb.node[b, SERVICE] + tb.time[tb.place[b], tb.place[c]] > st.when[c, LATEST] + EPS
        ):
            return False
    if not (_may_move(tb, st, t, r) and _may_move(tb, st, c, q)):
        return False
    link[a, NEXT], link[t, PREV] = t, a
    link[last_q, NEXT], link[2 * n + m + r, PREV] = 2 * n + m + r, last_q
    if c == 2 * n + m + r:
        link[b, NEXT], link[2 * n + m + q, PREV] = 2 * n + m + q, b
    else:
        link[b, NEXT], link[c, PREV] = c, b
        link[last_r, NEXT], link[2 * n + m + q, PREV] = 2 * n + m + q, last_r
    for robot in (r, q):
        v = link[2 * n + robot, NEXT]
        while v < 2 * n:
            if v < n:
                own[v] = robot
            v = link[v, NEXT]
    return True


@kernel
def _may_move(tb: Tables, st: State, v: int, robot: int) -> bool:
    """Return whether all tasks from stop `v` on may go to a robot."""
    n = tb.task.shape[0]
    while v < 2 * n:
        if v < n and (
            tb.task[v, FIXED] != 0
            or tb.task[v, 0] & ~tb.robot[robot, 0] != 0
            or tb.node[v, LOAD] > tb.fleet[robot, 0] + EPS
        ):
            return False
        if v >= n and v == tb.gate[st.own[v - n]]:
            return False
        v = st.link[v, NEXT]
    return True


@kernel
def tails(tb: Tables, st: State, wk: Work, u: int, t: int) -> tuple[float, int]:
    """Exchange tails; return the change of the sum (`INFINITE`: impossible, nothing changed) and how many are saved."""
    r, q = st.own[u], st.own[t]
    if r < 0 or q < 0 or r == q:
        return INFINITE, 0
    n = tb.task.shape[0]
    if tb.rules[GENERAL] == 0.0:
        a, b = n + u, st.link[t, PREV]
        if st.when[a, ABOARD] > EPS or st.when[b, ABOARD] > EPS:
            return INFINITE, 0
    peak_s = peak(tb, st)
    before = st.robot[r, COST] + st.robot[q, COST] + tb.rules[MAKESPAN] * peak_s
    saved, used = save(st, tb, wk, r, 0, 0)
    saved, used = save(st, tb, wk, q, saved, used)
    if not exchange_tails(tb, st, u, t):
        forget(wk, saved)
        return INFINITE, 0
    settle(tb, st, wk, r)
    settle(tb, st, wk, q)
    return st.robot[r, COST] + st.robot[q, COST] + tb.rules[MAKESPAN] * peak(tb, st) - before, saved


@kernel
def _single(tb: Tables, st: State, wk: Work, t: int, rng: Generator) -> tuple[float, int]:
    r, before = st.own[t], st.robot[st.own[t], COST] + tb.rules[MAKESPAN] * peak(tb, st)
    saved, used = save(st, tb, wk, r, 0, 0)
    take_out(tb, st, t)
    settle(tb, st, wk, r)
    after = st.robot[r, COST] + tb.rules[MAKESPAN] * peak(tb, st)
    ask, q, i, j = best_offer(tb, st, wk, t, before - after - EPS, peak(tb, st), 0.0, rng)
    if q < 0:
        return INFINITE, saved
    saved, used = save(st, tb, wk, q, saved, used)
    put_in(tb, st, q, t, i, j)
    settle(tb, st, wk, q)
    return ask + after - before, saved


@kernel
def _swap(tb: Tables, st: State, wk: Work, t: int, u: int, rng: Generator) -> tuple[float, int]:
    r, q = st.own[t], st.own[u]
    before = st.robot[r, COST] + st.robot[q, COST] + tb.rules[MAKESPAN] * peak(tb, st)
    saved, used = save(st, tb, wk, r, 0, 0)
    saved, used = save(st, tb, wk, q, saved, used)
    take_out(tb, st, t)
    take_out(tb, st, u)
    settle(tb, st, wk, r)
    settle(tb, st, wk, q)
    left = before - st.robot[r, COST] - st.robot[q, COST] - tb.rules[MAKESPAN] * peak(tb, st)
    for robot, task in ((r, u), (q, t)):
        ask, i, j = bid(tb, st, wk, robot, task, left, peak(tb, st), 0.0, rng)
        if i < 0:
            return INFINITE, saved
        put_in(tb, st, robot, task, i, j)
        settle(tb, st, wk, robot)
        left -= ask
    return st.robot[r, COST] + st.robot[q, COST] + tb.rules[MAKESPAN] * peak(tb, st) - before, saved


@kernel
def _cluster(tb: Tables, st: State, wk: Work, t: int, q: int, count: int, rng: Generator) -> tuple[float, int, int]:
    """Sell up to `count` tasks picked up one after another from `t` on to robot `q`; return also how many were moved."""
    n, r = tb.task.shape[0], st.own[t]
    before = st.robot[r, COST] + st.robot[q, COST] + tb.rules[MAKESPAN] * peak(tb, st)
    saved, used = save(st, tb, wk, r, 0, 0)
    saved, used = save(st, tb, wk, q, saved, used)
    moved, v = 0, t
    while v < 2 * n and moved < count:
        nx = st.link[v, NEXT]
        if v < n and tb.task[v, FIXED] == 0:
            if nx == n + v:
                nx = st.link[nx, NEXT]
            take_out(tb, st, v)
            wk.lots[moved] = v
            moved += 1
        v = nx
    settle(tb, st, wk, r)
    left = before - st.robot[r, COST] - st.robot[q, COST] - tb.rules[MAKESPAN] * peak(tb, st)
    for x in range(moved):
        ask, i, j = bid(tb, st, wk, q, wk.lots[x], left, peak(tb, st), 0.0, rng)
        if i < 0:
            return INFINITE, saved, moved
        put_in(tb, st, q, wk.lots[x], i, j)
        settle(tb, st, wk, q)
        left -= ask
    return st.robot[r, COST] + st.robot[q, COST] + tb.rules[MAKESPAN] * peak(tb, st) - before, saved, moved


@kernel
def _attempt(tb: Tables, st: State, wk: Work, kind: int, t: int, u: int, rng: Generator) -> bool:
    """Try one trade and keep it if the sum falls."""
    moved = 1
    wk.lots[0] = t
    if kind == SINGLE:
        delta, saved = _single(tb, st, wk, t, rng)
    elif kind == SWAP:
        delta, saved = _swap(tb, st, wk, t, u, rng)
        wk.lots[1] = u
        moved = 2
    elif kind == CLUSTER:
        delta, saved, moved = _cluster(tb, st, wk, t, st.own[u], CLUSTER_TASKS, rng)
    else:
        delta, saved = tails(tb, st, wk, u, t)
        moved = 0
    won = delta < -EPS
    if won:
        st.sums[NOW] += delta
    elif saved > 0:
        restore(tb, st, wk, moved, saved)
    forget(wk, saved)
    return won


@kernel
def trade(tb: Tables, st: State, wk: Work, order: IntArray, deals: IntArray, rng: Generator) -> int:
    """Let every task in `order` be offered once in every way; count the deals by kind and return their number."""
    won = 0
    for x in range(order.shape[0]):
        t = order[x]
        if st.own[t] < 0 or tb.task[t, FIXED] != 0:
            continue
        if _attempt(tb, st, wk, SINGLE, t, t, rng):
            deals[SINGLE] += 1
            won += 1
        for y in range(min(PARTNERS, tb.near.shape[1])):
            u = tb.near[t, y]
            for kind in (TAIL, SWAP, CLUSTER):
                if st.own[u] < 0 or st.own[u] == st.own[t] or (kind == SWAP and tb.task[u, FIXED] != 0):
                    break
                if _attempt(tb, st, wk, kind, t, u, rng):
                    deals[kind] += 1
                    won += 1
    return won
