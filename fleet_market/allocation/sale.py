"""Sequential single-item auctions: the first sale of many lots (Lagoudakis et al. 2005; Tovey et al. 2005).

In every round one lot is sold to its least ask, and the winner asks anew for all lots that are left. Which lot is sold
first is the rule: the one with the least ask (MiniSum), or the one whose second ask is furthest above the first (regret:
Koenig et al. 2008).
"""

from __future__ import annotations

from numpy.random import Generator

from fleet_market.allocation.bids import bid, settle
from fleet_market.allocation.compiled import kernel
from fleet_market.allocation.queues import bidders, peak, put_in
from fleet_market.allocation.tables import FINISH, INFINITE, FloatArray, IntArray, State, Tables, Work

CHEAPEST, REGRET = range(2)
"""Rules."""
FIRST, SECOND = range(2)
ALL_LOTS = 2000
"""With more lots than this the winner asks anew only for those related to what it won."""


@kernel
def _two_offers(
    tb: Tables, st: State, wk: Work, t: int, peak_s: float, asks: FloatArray, robots: IntArray, rng: Generator
) -> None:
    """Find the two least asks for a lot."""
    asks[t, FIRST] = asks[t, SECOND] = tb.reserve[t]
    robots[t, FIRST] = robots[t, SECOND] = -1
    for x in range(bidders(tb, st, wk, t, tb.near.shape[1], tb.close.shape[1], rng)):
        _consider(tb, st, wk, t, wk.askers[x], peak_s, asks, robots, rng)


@kernel
def _consider(
    tb: Tables, st: State, wk: Work, t: int, r: int, peak_s: float, asks: FloatArray, robots: IntArray, rng: Generator
) -> None:
    """Take the ask of a robot that is not among the two least ones."""
    ask, i, _ = bid(tb, st, wk, r, t, asks[t, SECOND], peak_s, 0.0, rng)
    if i < 0:
        return
    if ask < asks[t, FIRST]:
        asks[t, SECOND], robots[t, SECOND] = asks[t, FIRST], robots[t, FIRST]
        asks[t, FIRST], robots[t, FIRST] = ask, r
    else:
        asks[t, SECOND], robots[t, SECOND] = ask, r


@kernel
def _pick(count: int, rule: int, lots: IntArray, asks: FloatArray, robots: IntArray) -> int:
    """Return the position of the lot to be sold next, -1 if nobody asks for any."""
    chosen, least = -1, 2 * INFINITE
    for x in range(count):
        t = lots[x]
        if robots[t, FIRST] < 0:
            continue
        key = asks[t, FIRST]
        if rule == REGRET:
            key -= asks[t, SECOND]
        if key < least:
            chosen, least = x, key
    return chosen


@kernel
def sequential_sale(
    tb: Tables, st: State, wk: Work, count: int, rule: int, asks: FloatArray, robots: IntArray, rng: Generator
) -> int:
    """Sell the first `count` of `wk.lots`; return how many are sold.

    Parameters
    ----------
    rule : int
        `CHEAPEST` or `REGRET`.
    asks : (n, 2) float64 array
        Overwritten: the two least asks; in the end for lots that are sold what they were sold for, and the second ask.
    robots : (n, 2) int64 array
        Overwritten: whose asks these are.
    """
    peak_s = peak(tb, st)
    for x in range(count):
        _two_offers(tb, st, wk, wk.lots[x], peak_s, asks, robots, rng)
    sold = 0
    while count > 0:
        x = _pick(count, rule, wk.lots, asks, robots)
        if x < 0:
            break
        t = wk.lots[x]
        r = robots[t, FIRST]
        _, after_p, after_d = bid(tb, st, wk, r, t, tb.reserve[t], peak_s, 0.0, rng)
        wk.lots[x] = wk.lots[count - 1]
        count -= 1
        if after_p < 0:
            continue
        put_in(tb, st, r, t, after_p, after_d)
        settle(tb, st, wk, r)
        peak_s = max(peak_s, st.robot[r, FINISH])
        sold += 1
        for k in range(tb.near.shape[1]):
            wk.key[tb.near[t, k]] = t + 1
        for y in range(count):
            u = wk.lots[y]
            if robots[u, FIRST] == r or robots[u, SECOND] == r:
                _two_offers(tb, st, wk, u, peak_s, asks, robots, rng)
            elif tb.task.shape[0] <= ALL_LOTS or wk.key[u] == t + 1:
                _consider(tb, st, wk, u, r, peak_s, asks, robots, rng)
    return sold
