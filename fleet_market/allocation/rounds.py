"""Bundle re-auctions: related contracts go back on sale, robots bid, the result is kept if the sum falls.

Ruin and recreate (Schrimpf et al. 2000) seen as a market. Bundles are strings of neighbouring queues (slack induction by
string removals: Christiaens and Vanden Berghe 2020), related tasks (Shaw 1998), or a whole queue; bids overlook some places
("blinks", same source); acceptance is annealed (Kirkpatrick et al. 1983). To do with fewer robots, the allocation whose
unsold tasks were left over least often is preferred (absences, same source).
"""

from __future__ import annotations

import math

from numpy.random import Generator

from fleet_market.allocation.bids import settle
from fleet_market.allocation.compiled import kernel
from fleet_market.allocation.queues import best_offer, forget, peak, put_in, restore, save, take_out, total
from fleet_market.allocation.tables import (
    BEST,
    COST,
    EARLY,
    EPS,
    FINISH,
    FIXED,
    KIND,
    LATE,
    LOAD,
    MAKESPAN,
    NEXT,
    NOW,
    PREV,
    TIMED,
    State,
    Tables,
    Work,
)
from fleet_market.allocation.trade import tails

STRING = 10
"""Longest string of stops taken from one queue (Christiaens and Vanden Berghe 2020, L max)."""
LEFT_OVER = 40
"""Unsold tasks offered again in one round, at most."""


@kernel
def _mark(tb: Tables, st: State, wk: Work, t: int, count: int, saved: int, used: int) -> tuple[int, int, int]:
    """Put a task on sale."""
    saved, used = save(st, tb, wk, st.own[t], saved, used)
    take_out(tb, st, t)
    wk.on_sale[t] = 1
    wk.lots[count] = t
    return count + 1, saved, used


@kernel
def _task_of(n: int, stop: int) -> int:
    return stop if stop < n else stop - n


@kernel
def _string(
    tb: Tables,
    st: State,
    wk: Work,
    t: int,
    length: int,
    gaps: bool,  # noqa: FBT001  (kernels take no keywords)
    count: int,
    saved: int,
    used: int,
    rng: Generator,
) -> tuple[int, int, int]:
    """Put the tasks of a string of stops around task `t` on sale."""
    n, r = tb.task.shape[0], st.own[t]
    head, tail = 2 * n + r, 2 * n + tb.fleet.shape[0] + r
    a = t if rng.random() < 0.5 else n + t
    for _ in range(int(rng.random() * length)):
        if st.link[a, PREV] == head:
            break
        a = st.link[a, PREV]
    left = length
    while a != tail and left > 0:
        u = _task_of(n, a)
        if tb.task[u, FIXED] == 0 and (u == t or not gaps or rng.random() < 0.6):
            a = st.link[a, NEXT]
            if a == n + u:
                a = st.link[a, NEXT]
            count, saved, used = _mark(tb, st, wk, u, count, saved, used)
        else:
            a = st.link[a, NEXT]
        left -= 1
    return count, saved, used


@kernel
def _strings(tb: Tables, st: State, wk: Work, size: int, rng: Generator) -> tuple[int, int, int]:
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    count, saved, used = 0, 0, 0
    seed = int(rng.random() * n)
    length = 2 + int(rng.random() * (STRING - 1))
    strings = 1 + int(rng.random() * max(1.0, 2.0 * size / length))
    gaps = rng.random() < 0.5
    for x in range(-1, tb.near.shape[1]):
        t = seed if x < 0 else tb.near[seed, x]
        r = st.own[t]
        if r < 0 or wk.saved[r, 0] != 0 or tb.task[t, FIXED] != 0:
            continue
        count, saved, used = _string(tb, st, wk, t, length, gaps, count, saved, used, rng)
        strings -= 1
        if strings == 0 or saved == m:
            break
    return count, saved, used


@kernel
def _related(tb: Tables, st: State, wk: Work, size: int, rng: Generator) -> tuple[int, int, int]:
    n = tb.task.shape[0]
    count, saved, used = 0, 0, 0
    k = min(n, 1 + int(rng.random() * size * 1.5))
    t = int(rng.random() * n)
    for _ in range(4 * k):
        if wk.on_sale[t] == 0 and st.own[t] >= 0 and tb.task[t, FIXED] == 0:
            count, saved, used = _mark(tb, st, wk, t, count, saved, used)
            if count == k:
                break
        base = t if count == 0 else wk.lots[int(rng.random() * count)]
        if tb.near.shape[1] == 0 or rng.random() < 0.05:
            t = int(rng.random() * n)
        else:
            t = tb.near[base, int(tb.near.shape[1] * rng.random() ** 3)]
    return count, saved, used


@kernel
def _whole(tb: Tables, st: State, wk: Work, size: int, rng: Generator) -> tuple[int, int, int]:
    """Put a short queue on sale as a whole."""
    n = tb.task.shape[0]
    t = int(rng.random() * n)
    if st.own[t] < 0 or tb.task[t, FIXED] != 0:
        return 0, 0, 0
    return _string(tb, st, wk, t, 4 * size, False, 0, 0, 0, rng)


@kernel
def _order(tb: Tables, wk: Work, count: int, rng: Generator) -> None:
    """Bring the lots into the order of sale: by chance, longest first, heaviest first, or by their windows."""
    n = tb.task.shape[0]
    how = int(rng.random() * (8 if tb.rules[TIMED] > 0.0 else 5))
    for x in range(count):
        t = wk.lots[x]
        if how < 2:
            key = rng.random()
        elif how == 2:
            key = -tb.cost[tb.place[t], tb.place[n + t]]
        elif how == 3:
            key = -tb.cost[tb.place[t], tb.place[n + t]] * rng.random()
        elif how == 4:
            key = -tb.node[t, LOAD] * rng.random()
        elif how == 5:
            key = tb.node[t, LATE] - tb.node[t, EARLY]
        elif how == 6:
            key = tb.node[t, EARLY]
        else:
            key = -tb.node[n + t, LATE]
        y = x
        while y > 0 and wk.key[y - 1] > key:
            wk.key[y], wk.lots[y] = wk.key[y - 1], wk.lots[y - 1]
            y -= 1
        wk.key[y], wk.lots[y] = key, t


@kernel
def sell(
    tb: Tables, st: State, wk: Work, count: int, saved: int, used: int, blink: float, rng: Generator
) -> tuple[int, int, int]:
    """Sell the first `count` of `wk.lots` one by one to the least ask below its reserve; return saved, used, unsold."""
    peak_s = peak(tb, st)
    unsold = 0
    for x in range(count):
        t = wk.lots[x]
        wk.on_sale[t] = 0
        _, r, after_p, after_d = best_offer(tb, st, wk, t, tb.reserve[t], peak_s, blink, rng)
        if r < 0:
            unsold += 1
            wk.absent[t] += 1
            continue
        saved, used = save(st, tb, wk, r, saved, used)
        put_in(tb, st, r, t, after_p, after_d)
        settle(tb, st, wk, r)
        peak_s = max(peak_s, st.robot[r, FINISH])
    return saved, used, unsold


@kernel
def _gain(tb: Tables, st: State, wk: Work, count: int, saved: int, before: float) -> float:
    """Return the change of the total by what is saved; `before`: cost of the makespan and of the lots unsold before."""
    delta: float = tb.rules[MAKESPAN] * peak(tb, st) - before
    for x in range(saved):
        r = wk.touched[x]
        delta += st.robot[r, COST] - wk.saved_robot[r, COST]
    for x in range(count):
        if st.own[wk.lots[x]] < 0:
            delta += tb.reserve[wk.lots[x]]
    return delta


@kernel
def keep(st: State) -> None:
    """Remember the present allocation as the best."""
    link, best_link, own, best_own = st.link, st.best_link, st.own, st.best_own
    for v in range(link.shape[0]):
        best_link[v, NEXT], best_link[v, PREV] = link[v, NEXT], link[v, PREV]
    for t in range(own.shape[0]):
        best_own[t] = own[t]
    st.sums[BEST] = st.sums[NOW]


@kernel
def _leftovers(tb: Tables, st: State, wk: Work, count: int, rng: Generator) -> tuple[int, float, int]:
    """Add unsold tasks to the lots; return count, their reserves, and how often they were left over."""
    n = tb.task.shape[0]
    reserves, absences, extra = 0.0, 0, 0
    first = int(rng.random() * n)
    for x in range(n):
        t = (first + x) % n
        if st.own[t] < 0 and wk.on_sale[t] == 0:
            wk.on_sale[t] = 1
            wk.lots[count] = t
            count += 1
            reserves += tb.reserve[t]
            absences += wk.absent[t]
            extra += 1
            if extra == LEFT_OVER:
                break
    return count, reserves, absences


@kernel
def _tail_round(tb: Tables, st: State, wk: Work, temperature: float, rng: Generator) -> int:
    """Exchange the tails of two queues at related tasks; return 1 if it was kept."""
    t = int(rng.random() * tb.task.shape[0])
    if tb.follow.shape[1] == 0:
        return 0
    u = tb.follow[t, int(tb.follow.shape[1] * rng.random() ** 2)]
    delta, saved = tails(tb, st, wk, u, t)
    if saved == 0:
        return 0
    taken = delta < -temperature * math.log(1.0 - rng.random())
    if taken:
        st.sums[NOW] += delta
        if st.sums[NOW] < st.sums[BEST] - EPS:
            keep(st)
    else:
        restore(tb, st, wk, 0, saved)
    forget(wk, saved)
    return 1 if taken else 0


@kernel
def reauction(
    tb: Tables,
    st: State,
    wk: Work,
    rounds: int,
    temperature: float,
    size: int,
    blink: float,
    share: float,
    fewer: bool,  # noqa: FBT001  (kernels take no keywords)
    rng: Generator,
) -> tuple[int, int]:
    """Run rounds of bundle re-auctions; return how many were run, and how many kept.

    Parameters
    ----------
    rounds : int
    temperature : float
        In units of cost.
    size : int
        Bundles have about so many tasks.
    blink : float
        Share of places overlooked by bidders.
    share : float
        Share of rounds in which the tails of two queues are exchanged instead.
    fewer : bool
        Prefer fewer unsold tasks (and those left over less often) to lower cost; stop when nothing is unsold.
    rng : numpy.random.Generator
    """
    unsold = 0
    for t in range(tb.task.shape[0]):
        if st.own[t] < 0:
            unsold += 1
    kept = done = 0
    for _ in range(rounds):
        if fewer and unsold == 0:
            break
        done += 1
        if share > 0.0 and rng.random() < share:
            kept += _tail_round(tb, st, wk, temperature, rng)
            continue
        before = tb.rules[MAKESPAN] * peak(tb, st)
        how = rng.random()
        if how < 0.85:
            count, saved, used = _strings(tb, st, wk, size, rng)
        elif how < 0.97:
            count, saved, used = _related(tb, st, wk, size, rng)
        else:
            count, saved, used = _whole(tb, st, wk, size, rng)
        absences, left = 0, unsold
        if unsold > 0:
            count, reserves, absences = _leftovers(tb, st, wk, count, rng)
            before += reserves
            left = min(unsold, LEFT_OVER)
        for x in range(saved):
            settle(tb, st, wk, wk.touched[x])
        _order(tb, wk, count, rng)
        saved, used, still = sell(tb, st, wk, count, saved, used, blink, rng)
        delta = _gain(tb, st, wk, count, saved, before)
        take = delta < -temperature * math.log(1.0 - rng.random())
        if fewer and (still > 0 or left > 0):
            absent = 0
            for x in range(count):
                if st.own[wk.lots[x]] < 0:
                    absent += wk.absent[wk.lots[x]] - 1
            take = still < left or absent < absences or (still == left and absent == absences and take)
        if take:
            kept += 1
            unsold += still - left
            st.sums[NOW] += delta
            if st.sums[NOW] < st.sums[BEST] - EPS and not (fewer and unsold > 0):
                keep(st)
        else:
            restore(tb, st, wk, count, saved)
        forget(wk, saved)
    return done, kept


@kernel
def begin(tb: Tables, st: State, wk: Work) -> None:
    """Compute all queues of a given allocation anew and take it as the best."""
    for r in range(tb.fleet.shape[0]):
        settle(tb, st, wk, r)
    st.sums[NOW] = total(tb, st)
    keep(st)


@kernel
def close_robot(tb: Tables, st: State, wk: Work) -> int:
    """Put the queue on sale whose tasks were left over least often, and let its robot bid no more; return it or -1."""
    n, m = tb.task.shape[0], tb.fleet.shape[0]
    least, closed = -1.0, -1
    for r in range(m):
        tail, a = 2 * n + m + r, st.link[2 * n + r, NEXT]
        if a == tail:
            continue
        absences, movable = 0.0, True
        while a != tail:
            if a < n:
                absences += wk.absent[a] + 1.0
                movable = movable and tb.task[a, FIXED] == 0
            a = st.link[a, NEXT]
        if movable and (closed < 0 or absences < least):
            least, closed = absences, r
    if closed >= 0:
        for t in range(n):
            if st.own[t] == closed:
                take_out(tb, st, t)
        settle(tb, st, wk, closed)
    for r in range(m):
        if st.link[2 * n + r, NEXT] == 2 * n + m + r:
            tb.robot[r, KIND] = -1
    st.sums[NOW] = total(tb, st)
    return closed
