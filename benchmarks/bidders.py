"""Does better bidding software pay too well? The same bodies with cheap and with expensive software, 1,000 batches.

Two robots, one of each type of the warehouse, have software that does every lot after all that it has
(`benchmarks._appending`); two like them have software that plans the whole queue anew for every lot
(`benchmarks._reoptimising`), with up to 10 CPU seconds a batch: it stops before when it finds nothing better. All carry up
to three parcels at once, each has an owner of its own, and they meet on the real market core: sealed batches in rounds,
Clarke payments, payment against evidence. Time is simulated, and everything takes as long as expected.

Profit is what a robot was paid less what driving cost it: energy, wear and the rent of its time, as the product prices
them.
The goal bounds what software alone brings in: where it is dear, small owners are to live as well.

The same is run with the product's own software, which every robot comes with, in place of the cheap one; and with it in
place of both, where only chance makes one half earn more.

A quick run takes some 40 CPU seconds, a full one 15 to 30 CPU minutes; no search takes longer than its budget allows.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable

from benchmarks._bidders_run import BiddersRun, Fleet, Software, Tally
from benchmarks.report import Options, Row, main

BATCHES, QUICK_BATCHES = 1000, 60
RATIO_GOAL = 1.10
UC = 1e6


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    batches, budget_s = QUICK_BATCHES if options.quick else BATCHES, options.more.batch_seconds
    begun = time.process_time()

    def run(first: Software, second: Software) -> list[BiddersRun]:
        return [Fleet(batches, budget_s, seed, (first, second)).run() for seed in options.seeds]

    runs = run("cheap", "expensive")
    note = f"{batches} batches, {sum(one.posted for one in runs)} orders, {sum(one.unsold for one in runs)} not sold"
    yield Row("profit of expensive software, times that of cheap", _ratio(runs), "", RATIO_GOAL, note=note)
    yield from _rows("cheap", _of(runs, first=True), runs, batches)
    yield from _rows("expensive", _of(runs, first=False), runs, batches)
    runs = run("usual", "expensive")
    yield Row("profit of expensive software, times that of the product's own", _ratio(runs), "")
    yield from _rows("the product's own", _of(runs, first=True), runs, batches)
    note = "the product's own software in both: what chance does"
    yield Row("profit of one half, times that of a half like it", _ratio(run("usual", "usual")), "", note=note)
    yield Row("CPU of the whole run", time.process_time() - begun, "s")


def _of(runs: list[BiddersRun], *, first: bool) -> list[Tally]:
    return [tally for run in runs for tally in run.tallies if tally.first is first]


def _ratio(runs: list[BiddersRun]) -> float:
    """Return the profit of the second half of the fleet divided by that of the first."""
    first_uc, second_uc = (sum(tally.profit_uc for tally in _of(runs, first=half)) for half in (True, False))
    return second_uc / first_uc if first_uc > 0 else math.inf


def _rows(name: str, tallies: list[Tally], runs: list[BiddersRun], batches: int) -> Iterable[Row]:
    done = sum(t.done for t in tallies)
    yield Row(f"{name}: profit of a robot", _mean([t.profit_uc for t in tallies]) / UC, "credits")
    yield Row(f"{name}: orders of a robot", done / len(tallies), "")
    yield Row(f"{name}: paid for an order", sum(t.paid_uc for t in tallies) / max(1, done) / UC, "credits")
    yield Row(f"{name}: cost of an order", sum(t.cost_uc for t in tallies) / max(1, done) / UC, "credits")
    busy = sum(t.driven_s for t in tallies) / len(tallies) * len(runs) / sum(run.simulated_s for run in runs)
    yield Row(f"{name}: time at work", 100 * busy, "%")
    longest, cut_off = max(t.longest_s for t in tallies), sum(t.cut_off for t in tallies)
    per_batch_s = sum(t.pricing_s for t in tallies) / len(tallies) / batches
    yield Row(f"{name}: CPU for a batch", per_batch_s, "s", note=f"most {longest:.2f} s, {cut_off} searches cut off")


def _mean(values: list[int]) -> float:
    return sum(values) / len(values)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-seconds", type=float, default=10.0, help="CPU seconds of expensive software for a batch")


if __name__ == "__main__":
    main("bidders", measure, about=__doc__, arguments=_arguments)
