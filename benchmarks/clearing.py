"""One clearing with payments at fleet scale: time, memory, welfare against the LP bound, and blindness to names.

A thousand robots on a square floor ask for the 20 of 5,000 open lots that are nearest to them: way to the pickup and from
there to the drop-off, at a rate of its own per robot. All robots spread over the floor, or crowded in a tenth of it;
owners of one robot to five hundred.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

from benchmarks.report import Options, Row, main
from fleet_market.auction import LotOffer, Mechanism, SealedAsk, clear
from fleet_market.ids import OrderId, OwnerId, RobotId

ROBOTS, LOTS, ASKS = 1000, 5000, 20
TIME_GOAL_S = 1.0
WELFARE_GOAL = 99.0
FLOOR_M, CREDIT = 500.0, 10**6
PERMUTATIONS = 1000
OWNERS = {"an owner per robot": 1, "owners of 2 or 3 robots": 2, "owners of 100": 100, "two owners": 500}


def draw(
    seed: int, *, crowded: bool, fleet: int, robots: int = ROBOTS, lots: int = LOTS
) -> tuple[list[LotOffer], list[SealedAsk]]:
    """Return one batch; `fleet` robots belong to each owner (2: two and three in turn)."""
    rng = np.random.default_rng(seed)
    pickup, dropoff = rng.uniform(0, FLOOR_M, (2, lots, 2))
    task_m = np.hypot(*(dropoff - pickup).T)
    offers = [LotOffer(OrderId(f"o{j}"), int(CREDIT * (5 + 0.06 * task_m[j]))) for j in range(lots)]
    stands = rng.uniform(0, FLOOR_M * (0.316 if crowded else 1.0), (robots, 2))
    rates = rng.uniform(0.02, 0.04, robots)
    owner = np.repeat(np.arange(robots), np.resize([2, 3] if fleet == 2 else [fleet], robots))[:robots]
    asks = []
    for i in range(robots):
        way_m = np.hypot(*(pickup - stands[i]).T)
        for j in np.argsort(way_m, kind="stable")[:ASKS]:
            ask_uc = int(CREDIT * rates[i] * (way_m[j] + task_m[j]))
            asks.append(SealedAsk(RobotId(f"r{i}"), OwnerId(f"w{owner[i]}"), OrderId(f"o{j}"), ask_uc))
    return offers, asks


def lp_bound(offers: Sequence[LotOffer], asks: Sequence[SealedAsk]) -> float:
    """Return the optimum of the linear relaxation of the assignment, by HiGHS: no assignment is worth more."""
    budget = {o.order: o.budget_uc for o in offers}
    rows: dict[str, int] = {}
    cells = [(a.robot, a.order, budget[a.order] - a.ask_uc) for a in asks if a.ask_uc <= budget[a.order]]
    ends = [rows.setdefault(name, len(rows)) for robot, order, _ in cells for name in (f"robot {robot}", f"lot {order}")]
    edges = np.repeat(np.arange(len(cells)), 2)
    matrix = csr_array((np.ones(len(ends)), (np.array(ends), edges)), shape=(len(rows), len(cells)))
    gain = np.array([g for _, _, g in cells], dtype=float)
    return float(-linprog(-gain, A_ub=matrix, b_ub=np.ones(len(rows)), bounds=(0, 1), method="highs").fun)


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    repeats = 1 if options.quick else 10
    times: list[float] = []
    shares: list[float] = []
    for crowded in (False, True):
        for name, fleet in OWNERS.items():
            mine = []
            for seed in range(repeats * len(options.seeds)):
                offers, asks = draw(seed, crowded=crowded, fleet=fleet)
                begun = time.process_time()
                cleared = clear(offers, asks, seed=str(seed))
                mine.append(time.process_time() - begun)
                if seed == 0 and fleet == 1:
                    shares.append(100 * cleared.welfare_uc / lp_bound(offers, asks))
            where = "robots crowded" if crowded else "robots spread"
            note = f"median {np.median(mine):.3f} s, worst of {len(mine)}; {len(cleared.awards)} of {ROBOTS} robots win"
            yield Row(f"{where}, {name}: one clearing with payments", max(mine), "s CPU", TIME_GOAL_S, note=note)
            times += mine
    note = f"{len(times)} clearings, {ROBOTS} robots, {LOTS} lots, {ASKS} asks each, one core"
    yield Row("one clearing with payments, p99", float(np.quantile(times, 0.99)), "s CPU", TIME_GOAL_S, note=note)
    yield Row("welfare of the LP bound, least", min(shares), "%", WELFARE_GOAL, "higher", note="100 is exact")
    yield _memory()
    yield from _mechanisms()
    yield _names(50 if options.quick else PERMUTATIONS)


def _memory() -> Row:
    offers, asks = draw(0, crowded=True, fleet=2)
    tracemalloc.start()
    clear(offers, asks, seed="0")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Row("one clearing, peak memory on top of its input", peak / 2**20, "MiB", 500.0)


def _mechanisms() -> Iterable[Row]:
    offers, asks = draw(0, crowded=True, fleet=2)
    best = clear(offers, asks, seed="0").welfare_uc
    for mechanism in Mechanism:
        begun = time.process_time()
        cleared = clear(offers, asks, seed="0", mechanism=mechanism)
        spent = time.process_time() - begun
        paid = sum(award.price_uc for award in cleared.awards) / CREDIT
        note = f"{spent:.3f} s CPU, {len(cleared.awards)} lots sold for {paid:.0f} credits, honest asks, crowded"
        yield Row(f"{mechanism}: welfare of the best", 100 * cleared.welfare_uc / best, "%", better="higher", note=note)


def _names(times: int) -> Row:
    """Give owners and robots each other's names: who does what, by what it costs, must stay the same."""
    changed = 0
    for seed in range(times):
        offers, asks = draw(seed, crowded=True, fleet=2, robots=40, lots=200)
        names = sorted({a.owner for a in asks})
        mixed = dict(zip(names, random.Random(seed).sample(names, len(names)), strict=True))
        renamed = [SealedAsk(a.robot, mixed[a.owner], a.order, a.ask_uc) for a in asks]
        one, other = clear(offers, asks, seed="s"), clear(offers, renamed, seed="s")
        same = [(a.order, a.robot, a.price_uc) for a in one.awards] == [
            (a.order, a.robot, a.price_uc) for a in other.awards
        ]
        changed += not same
    note = f"{times} batches of 40 robots, names of the owners permuted: orders, robots and prices compared"
    return Row("batches changed by other names", float(changed), "", 0.0, note=note)


if __name__ == "__main__":
    main("clearing", measure, about=__doc__ or "", seeds=3)
