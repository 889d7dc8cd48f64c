"""Moving tasks between linked queues, with the way back."""

from __future__ import annotations

from numpy.random import Generator

from fleet_market.allocation.bids import bid, collect, quick_bid, settle
from fleet_market.allocation.compiled import kernel
from fleet_market.allocation.nearby import nearby_offer
from fleet_market.allocation.tables import (
    CAPACITY,
    COST,
    EPS,
    FINISH,
    GENERAL,
    INFINITE,
    KIND,
    LOAD,
    MAKESPAN,
    NEED,
    NEXT,
    PREV,
    SKILL,
    STAMP,
    TIMED,
    State,
    Tables,
    Work,
)

ASK_ALL = 24
"""Fleets up to this size are asked as a whole; of larger ones those that are near or hold related tasks, and a few more."""
STRANGERS = 3
KNOWN = 24
"""Holders of so many related tasks are asked."""
CLOSEST = 6
"""So many robots that stand near are asked."""


@kernel
def save(st: State, tb: Tables, wk: Work, r: int, saved: int, used: int) -> tuple[int, int]:
    """Remember the queue of a robot, once; return how many queues and stops are saved."""
    if wk.saved[r, 0] != 0:
        return saved, used
    length = collect(tb, st, r, wk.arena[used:])
    wk.saved[r, 0], wk.saved[r, 1], wk.saved[r, 2] = 1, used, length
    wk.saved_robot[r, COST], wk.saved_robot[r, FINISH] = st.robot[r, COST], st.robot[r, FINISH]
    wk.touched[saved] = r
    return saved + 1, used + length


@kernel
def restore(tb: Tables, st: State, wk: Work, count: int, saved: int) -> None:
    """Put all saved queues back; the first `count` tasks of `wk.lots` were moved."""
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    for x in range(count):
        t = wk.lots[x]
        st.own[t] = -1
        for v in (t, n + t):
            st.link[v, NEXT] = st.link[v, PREV] = -1
    for x in range(saved):
        r = wk.touched[x]
        a = 2 * n + r
        for k in range(wk.saved[r, 2]):
            v = wk.arena[wk.saved[r, 1] + k]
            st.link[a, NEXT], st.link[v, PREV] = v, a
            if v < n:
                st.own[v] = r
            a = v
        st.link[a, NEXT], st.link[2 * n + m + r, PREV] = 2 * n + m + r, a
        if tb.rules[GENERAL] > 0.0:
            st.robot[r, COST], st.robot[r, FINISH] = wk.saved_robot[r, COST], wk.saved_robot[r, FINISH]
        else:
            settle(tb, st, wk, r)


@kernel
def forget(wk: Work, saved: int) -> None:
    """Forget what was saved."""
    for x in range(saved):
        wk.saved[wk.touched[x], 0] = 0


@kernel
def take_out(tb: Tables, st: State, t: int) -> None:
    """Take a task out of its queue."""
    n = tb.task.shape[0]
    for v in (t, n + t):
        a, b = st.link[v, PREV], st.link[v, NEXT]
        st.link[a, NEXT], st.link[b, PREV] = b, a
        st.link[v, NEXT] = st.link[v, PREV] = -1
    st.own[t] = -1


@kernel
def put_in(tb: Tables, st: State, r: int, t: int, after_p: int, after_d: int) -> None:
    """Put a task into the queue of a robot."""
    n = tb.task.shape[0]
    for v, a in ((t, after_p), (n + t, after_d)):
        b = st.link[a, NEXT]
        st.link[a, NEXT], st.link[v, PREV] = v, a
        st.link[v, NEXT], st.link[b, PREV] = b, v
    st.own[t] = r


@kernel
def bidders(tb: Tables, st: State, wk: Work, t: int, known: int, close: int, rng: Generator) -> int:
    """Write the robots that are asked for task `t` into `wk.askers`; return how many.

    First come the holders of `known` related tasks, then the `close` nearest robots, then all or some others; of idle
    robots that are alike only one.
    """
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    st.sums[STAMP] += 1.0
    stamp, count = int(st.sums[STAMP]), 0
    near, nearest, robot, own, link = tb.near, tb.close, tb.robot, st.own, st.link
    seen, seen_kind, askers = wk.seen, wk.seen_kind, wk.askers
    known, close = min(known, near.shape[1]), min(close, nearest.shape[1])
    for x in range(known + close + (m if m <= ASK_ALL else STRANGERS)):
        if x < known:
            r = own[near[t, x]]
        elif x < known + close:
            r = nearest[t, x - known]
        elif m <= ASK_ALL:
            r = x - known - close
        else:
            r = int(rng.random() * m)
        if r < 0 or seen[r] == stamp:
            continue
        seen[r] = stamp
        if link[2 * n + r, NEXT] == 2 * n + m + r:
            kind = robot[r, KIND]
            if kind < 0 or seen_kind[kind] == stamp:
                continue
            seen_kind[kind] = stamp
        askers[count] = r
        count += 1
    return count


@kernel
def best_offer(
    tb: Tables, st: State, wk: Work, t: int, cutoff: float, peak_s: float, blink: float, rng: Generator
) -> tuple[float, int, int, int]:
    """Ask robots for a task; return the least ask, the robot (-1: none below `cutoff`) and where it would put it."""
    if tb.beside.shape[1] > 0:
        return nearby_offer(tb, st, t, cutoff, blink, rng)
    best, winner, after_p, after_d = cutoff, -1, -1, -1
    count = bidders(tb, st, wk, t, KNOWN, CLOSEST, rng)
    askers = wk.askers
    if tb.rules[GENERAL] > 0.0:
        for x in range(count):
            ask, i, j = bid(tb, st, wk, askers[x], t, best, peak_s, blink, rng)
            if ask < best:
                best, winner, after_p, after_d = ask, askers[x], i, j
    else:
        cost, cost_to, time, time_to, node, place = tb.cost, tb.cost_to, tb.time, tb.time_to, tb.node, tb.place
        gate, robot, fleet = tb.gate, tb.robot, tb.fleet
        link, when, sums = st.link, st.when, st.sums
        need, load, timed = tb.task[t, NEED], tb.node[t, LOAD], tb.rules[TIMED] > 0.0
        d, first_tail = tb.task.shape[0] + t, 2 * tb.task.shape[0] + tb.fleet.shape[0]
        for x in range(count):
            r = askers[x]
            room = fleet[r, CAPACITY] + EPS - load
            if need & ~robot[r, SKILL] != 0 or room < 0.0:
                continue
            ask, i, j = quick_bid(
                cost, cost_to, time, time_to, node, place, link, when, sums,
                gate[r], first_tail + r, t, d, room, timed, best, blink, rng,
            )  # fmt: skip
            if ask < best:
                best, winner, after_p, after_d = ask, r, i, j
    if winner < 0:
        return INFINITE, -1, -1, -1
    return best, winner, after_p, after_d


@kernel
def peak(tb: Tables, st: State) -> float:
    """Return when the last robot is done; 0 where that costs nothing."""
    latest = 0.0
    if tb.rules[MAKESPAN] > 0.0:
        for r in range(tb.fleet.shape[0]):
            latest = max(latest, st.robot[r, FINISH])
    return latest


@kernel
def total(tb: Tables, st: State) -> float:
    """Return the cost of the whole allocation, unsold tasks at their reserve."""
    cost: float = tb.rules[MAKESPAN] * peak(tb, st)
    for r in range(tb.fleet.shape[0]):
        cost += st.robot[r, COST]
    for t in range(tb.task.shape[0]):
        if st.own[t] < 0:
            cost += tb.reserve[t]
    return cost
