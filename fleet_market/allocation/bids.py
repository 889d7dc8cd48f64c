"""What a robot asks for a lot: the least by which the cost of its queue grows, over all places of pickup and dropoff.

Where the cost is a sum over legs and the queue has at most hard time windows, one place is judged in constant time from the
earliest and latest times kept at each stop (Savelsbergh 1992, the forward time slack). Otherwise (lateness, battery,
makespan) each place is simulated.
"""

from __future__ import annotations

import math

from numpy.random import Generator

from fleet_market.allocation.compiled import kernel
from fleet_market.allocation.tables import (
    ABOARD,
    AT,
    BLINK,
    CAPACITY,
    COST,
    EARLY,
    EPS,
    FINISH,
    GENERAL,
    INFINITE,
    LATE,
    LATEST,
    LEG,
    LEG_S,
    LOAD,
    MAKESPAN,
    NEED,
    NEXT,
    PREV,
    SERVICE,
    SKILL,
    TIMED,
    FloatArray,
    IntArray,
    State,
    Tables,
    Work,
)
from fleet_market.allocation.timeline import walk


@kernel
def settle(tb: Tables, st: State, wk: Work, r: int) -> None:
    """Compute loads, times and cost of the queue of a robot anew."""
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    head, tail = 2 * n + r, 2 * n + m + r
    if tb.rules[GENERAL] > 0.0:
        length = collect(tb, st, r, wk.queue)
        if length == 0:
            st.robot[r, COST], st.robot[r, FINISH] = _idle_cost(tb, r), tb.node[head, EARLY]
        else:
            st.robot[r, COST], st.robot[r, FINISH], _ = walk(tb, r, wk.queue, length, wk.label, INFINITE)
        return
    timed = tb.rules[TIMED] > 0.0
    legs, time, node, place, link, when = tb.cost, tb.time, tb.node, tb.place, st.link, st.when
    a, cost, load, time_s = head, 0.0, node[head, LOAD], node[head, EARLY]
    when[head, AT], when[head, ABOARD] = time_s, load
    while a != tail:
        b = link[a, NEXT]
        pa, pb = place[a], place[b]
        when[a, LEG] = legs[pa, pb]
        cost += when[a, LEG]
        load += node[b, LOAD]
        if timed:
            when[a, LEG_S] = time[pa, pb]
            time_s = max(time_s + node[a, SERVICE] + when[a, LEG_S], node[b, EARLY])
        when[b, AT], when[b, ABOARD] = time_s, load
        a = b
    st.robot[r, COST], st.robot[r, FINISH] = cost, time_s
    if not timed:
        return
    when[tail, LATEST] = node[tail, LATE]
    b = tail
    while b != head:
        a = link[b, PREV]
        when[a, LATEST] = min(when[b, LATEST] - when[a, LEG_S] - node[a, SERVICE], node[a, LATE])
        b = a


@kernel
def _idle_cost(tb: Tables, r: int) -> float:
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    cost: float = tb.cost[tb.place[2 * n + r], tb.place[2 * n + m + r]]
    return cost


@kernel
def collect(tb: Tables, st: State, r: int, queue: IntArray) -> int:
    """Write the stops of a robot into `queue`; return how many."""
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    tail, length = 2 * n + m + r, 0
    a = st.link[2 * n + r, NEXT]
    while a != tail:
        queue[length] = a
        length += 1
        a = st.link[a, NEXT]
    return length


@kernel
def bid(
    tb: Tables, st: State, wk: Work, r: int, t: int, cutoff: float, peak_s: float, blink: float, rng: Generator
) -> tuple[float, int, int]:
    """Return the ask of robot `r` for task `t` and after which stops pickup and dropoff would go.

    Parameters
    ----------
    cutoff : float
        Asks from here on are not wanted.
    peak_s : float
        When the last robot is done at present.
    blink : float
        Share of places that the robot overlooks (Christiaens and Vanden Berghe 2020: insertion with blinks).

    Returns
    -------
    ask : float
        `INFINITE` if there is none below `cutoff`.
    after_pickup, after_dropoff : int
        The dropoff goes after the pickup itself when `after_dropoff == t`.
    """
    if tb.task[t, NEED] & ~tb.robot[r, SKILL] != 0 or tb.node[t, LOAD] > tb.fleet[r, CAPACITY] + EPS:
        return INFINITE, -1, -1
    if tb.rules[GENERAL] > 0.0:
        return _simulated_bid(tb, st, wk, r, t, cutoff, peak_s, blink, rng)
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    room, timed = tb.fleet[r, CAPACITY] + EPS - tb.node[t, LOAD], tb.rules[TIMED] > 0.0
    return quick_bid(
        tb.cost, tb.cost_to, tb.time, tb.time_to, tb.node, tb.place, st.link, st.when, st.sums,
        tb.gate[r], 2 * n + m + r, t, n + t, room, timed, cutoff, blink, rng,
    )  # fmt: skip


@kernel
def quick_bid(
    cost: FloatArray,
    cost_to: FloatArray,
    time: FloatArray,
    time_to: FloatArray,
    node: FloatArray,
    place: IntArray,
    link: IntArray,
    when: FloatArray,
    sums: FloatArray,
    a: int,
    tail: int,
    p: int,
    d: int,
    room: float,
    timed: bool,  # noqa: FBT001  (kernels take no keywords)
    cutoff: float,
    blink: float,
    rng: Generator,
) -> tuple[float, int, int]:
    """Return the ask where the cost is a sum over legs.

    Takes single arrays: this is called some million times a second, and a tuple of all of them costs more than the work.

    Parameters
    ----------
    cost, cost_to, time, time_to, node, place, link, when, sums
        See `Tables` and `State`.
    a, tail : int
        Stop after which the robot may take something in, and the end of its queue.
    p, d : int
        Pickup and dropoff.
    room : float
        Load that may be aboard when the parcel is taken in.
    timed : bool
        Whether there are windows.
    cutoff, blink, rng
        See `bid`.
    """
    pp, pd = place[p], place[d]
    direct = cost[pp, pd]
    best, after_p, after_d = cutoff, -1, -1
    at_p = at_d = at_b = 0.0
    while a != tail:
        nx = link[a, NEXT]
        pa, pn = place[a], place[nx]
        if timed:
            at_p = when[a, AT] + node[a, SERVICE] + time_to[pp, pa]
            if at_p > node[p, LATE] + EPS:
                break
            at_p = max(at_p, node[p, EARLY]) + node[p, SERVICE]
            at_d = max(at_p + time[pp, pd], node[d, EARLY])
        sums[BLINK] -= 1.0
        if sums[BLINK] < 0.0 and blink > 0.0:
            sums[BLINK] = math.floor(math.log(1.0 - rng.random()) / math.log(1.0 - blink))
            a = nx
            continue
        if when[a, ABOARD] > room:
            a = nx
            continue
        to_p = cost_to[pp, pa] - when[a, LEG]
        ask = to_p + direct + cost[pd, pn]
        if ask < best and (
            not timed or (at_d <= node[d, LATE] + EPS and at_d + node[d, SERVICE] + time[pd, pn] <= when[nx, LATEST] + EPS)
        ):
            best, after_p, after_d = ask, a, p
        to_p += cost[pp, pn]
        if timed:
            at_b = at_p + time[pp, pn]
        b = nx
        while b != tail and to_p < best:
            if timed:
                if at_b > when[b, LATEST] + EPS:
                    break
                at_b = max(at_b, node[b, EARLY]) + node[b, SERVICE]
            if when[b, ABOARD] > room:
                break
            c = link[b, NEXT]
            pb, pc = place[b], place[c]
            ask = to_p + cost_to[pd, pb] + cost[pd, pc] - when[b, LEG]
            if timed:
                at_d = at_b + time_to[pd, pb]
                if at_d > node[d, LATE] + EPS:
                    break
                if ask < best:
                    left = max(at_d, node[d, EARLY]) + node[d, SERVICE] + time[pd, pc]
                    if left <= when[c, LATEST] + EPS:
                        best, after_p, after_d = ask, a, b
                at_b += when[b, LEG_S]
            elif ask < best:
                best, after_p, after_d = ask, a, b
            b = c
        a = nx
    if after_p < 0:
        return INFINITE, -1, -1
    return best, after_p, after_d


@kernel
def _simulated_bid(
    tb: Tables, st: State, wk: Work, r: int, t: int, cutoff: float, peak_s: float, blink: float, rng: Generator
) -> tuple[float, int, int]:
    n = tb.task.shape[0]
    queue, trial = wk.queue, wk.trial
    length = collect(tb, st, r, queue)
    base, weight = st.robot[r, COST], tb.rules[MAKESPAN]
    room = tb.fleet[r, CAPACITY] + EPS - tb.node[t, LOAD]
    load = tb.node[2 * n + r, LOAD]
    best, after_p, after_d = cutoff, -1, -1
    locked = tb.gate[r] != 2 * n + r
    for i in range(length + 1):
        before = 2 * n + r
        if i > 0:
            before = queue[i - 1]
            trial[i - 1] = before
            load += tb.node[before, LOAD]
        if locked and before != tb.gate[r]:
            continue
        locked = False
        if load > room or (blink > 0.0 and rng.random() < blink):
            continue
        held = load
        trial[i] = t
        for j in range(i, length + 1):
            if j > i:
                trial[j] = queue[j - 1]
                held += tb.node[queue[j - 1], LOAD]
                if held > room:
                    break
            trial[j + 1] = n + t
            for k in range(j, length):
                trial[k + 2] = queue[k]
            cost, finish_s, _ = walk(tb, r, trial, length + 2, wk.label, base + best)
            ask = cost - base
            if weight > 0.0 and finish_s > peak_s:
                ask += weight * (finish_s - peak_s)
            if ask < best:
                best, after_p = ask, before
                after_d = t if j == i else queue[j - 1]
    if after_p < 0:
        return INFINITE, -1, -1
    return best, after_p, after_d
