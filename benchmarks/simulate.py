"""Whole markets in virtual time, each on a seed: what breaks when machines die, networks lie and clocks jump.

Every seed is a fleet of three to six robots, two customers and one market, all of them the product's own programs, under
faults that the seed draws (`docs/simulation.md`). A full run is 300 seeds, a nightly one 10,000 and goes on where it was
stopped. ``--seed S`` runs one alone; ``--trace`` with it writes everything that happened to a file.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from typing import Any

from benchmarks._pieces import Pieces, add_nightly, pieces_of
from benchmarks.report import Options, Row, main
from fleet_market.testing.simulation import Report, simulate

SEEDS, QUICK_SEEDS, NIGHTLY_SEEDS = 300, 20, 10_000
PIECE = 100
"""Seeds that a resumed run does not do again."""
REPLAYS = 5
SPEED_GOAL = 5_000.0
SUMS = ("simulated_s", "starts", "messages", "lost", "repeated", "cpu_s")


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    if options.more.seed is not None:
        return _one(options, options.more.seed)
    wanted = options.more.seeds or (NIGHTLY_SEEDS if options.more.nightly else QUICK_SEEDS if options.quick else SEEDS)
    return _many(wanted, pieces_of("simulate", options))


def _one(options: Options, seed: int) -> Iterable[Row]:
    path = options.out / f"simulate-{seed}.txt"
    if options.more.trace:
        with path.open("w") as out:
            report = simulate(seed, out=out)
        print(f"trace: {path}")
    else:
        report = simulate(seed)
    _tell(asdict(report))
    yield Row("invariants broken", len(report.faults), "", 0.0, note=f"seed {seed}, trace {report.digest}")
    yield Row("replays that differ", simulate(seed).digest != report.digest, "", 0.0)
    yield Row("simulated time", report.simulated_s, "s", note=_ends(report.orders))


def _many(count: int, pieces: Pieces) -> Iterable[Row]:
    begun = time.monotonic()
    broken: list[dict[str, Any]] = []
    sums, ends = dict.fromkeys(SUMS, 0.0), Counter[str]()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        for first in range(0, count, PIECE):
            done = pieces.run(f"seeds {first}", partial(_piece, pool, range(first, min(first + PIECE, count))))
            for report in done["broken"]:
                _tell(report)
            broken += done["broken"]
            ends.update(done["orders"])
            sums = {name: sums[name] + done[name] for name in SUMS}
            print(f"{min(first + PIECE, count)} of {count} seeds, {len(broken)} broken", file=sys.stderr)
    cpu_s = sums["cpu_s"]
    seeds = ", ".join(str(report["seed"]) for report in broken)
    yield Row("seeds with a broken invariant", len(broken), "", 0.0, note=seeds or _ends(ends))
    differ = sum(simulate(seed).digest != simulate(seed).digest for seed in range(REPLAYS))
    yield Row("replays that differ", differ, "", 0.0, note=f"of {REPLAYS}")
    yield Row("seeds", count, "", note=f"{time.monotonic() - begun:.0f} s in this run, {cpu_s:.0f} s of processor in all")
    yield Row("seeds per second of one core", count / cpu_s, "1/s")
    note = f"{sums['simulated_s']:.0f} s simulated, {sums['messages']:.0f} messages, {sums['lost']:.0f} lost, "
    note += f"{sums['repeated']:.0f} repeated, {sums['starts']:.0f} starts of the market"
    yield Row("real time on one core", sums["simulated_s"] / cpu_s, "x", SPEED_GOAL, "higher", note)


def _piece(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> dict[str, Any]:
    reports = list(pool.map(_timed, seeds))
    ends: Counter[str] = Counter()
    for report, _ in reports:
        ends.update(report.orders)
    rows = [asdict(report) | {"cpu_s": cpu_s} for report, cpu_s in reports]
    sums = {name: sum(row[name] for row in rows) for name in SUMS}
    return sums | {"orders": dict(ends), "broken": [row for row in rows if row["faults"]]}


def _timed(seed: int) -> tuple[Report, float]:
    begun = time.process_time()
    return simulate(seed), time.process_time() - begun


def _tell(report: dict[str, Any]) -> None:
    for fault in report["faults"]:
        print(f"seed {report['seed']}: {fault}")


def _ends(orders: dict[str, int]) -> str:
    return ", ".join(f"{count} {end}" for end, count in sorted(orders.items()))


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_nightly(parser)
    parser.add_argument("--seed", type=int, metavar="S", help="this seed alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: write everything that happens to a file")


if __name__ == "__main__":
    main("simulate", measure, about=__doc__ or "", seeds=SEEDS, packages=("apsw", "aiomqtt"), arguments=_arguments)
