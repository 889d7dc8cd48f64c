"""Does better bidding software pay too well? The same bodies with cheap and with expensive software, 1,000 batches.

Two robots, one of each type of the warehouse, have software that does every lot after all that it has
(`benchmarks._appending`); two like them have software that plans the whole queue anew for every lot
(`benchmarks._reoptimising`), with up to 10 CPU seconds a batch: it stops before when it finds nothing better. All carry up
to three parcels at once, each has an owner of its own, and they meet on the real market core: sealed batches in rounds,
Clarke payments, payment against evidence. Time is simulated, and everything takes as long as expected.

Profit is what a robot was paid less what driving cost it: energy, wear and the rent of its time, as the product prices
them.
The goal bounds what software alone brings in: where it is dear, small owners are to live as well.

The same is run once more with the product's own software, which every robot comes with, in place of the cheap one: the
profit that is left to those who buy something dearer.

A full run took about ten CPU minutes; it is bounded by the budget, `--batch-seconds`, for each of 4,000 plannings.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable

from benchmarks._bidders_run import BiddersRun, Fleet, Tally
from benchmarks.report import Options, Row, main

BATCHES, QUICK_BATCHES = 1000, 60
RATIO_GOAL = 1.10
UC = 1e6


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    batches, budget_s = QUICK_BATCHES if options.quick else BATCHES, options.more.batch_seconds
    begun = time.process_time()
    runs = [Fleet(batches, budget_s, seed).run() for seed in options.seeds]
    cheap, dear = (_of(runs, expensive=kind) for kind in (False, True))
    note = f"{batches} batches, {sum(run.posted for run in runs)} orders, {sum(run.unsold for run in runs)} not sold"
    yield Row("profit of expensive software, times that of cheap", _ratio(runs), "", RATIO_GOAL, note=note)
    for name, tallies in (("cheap", cheap), ("expensive", dear)):
        yield from _rows(name, tallies, runs, batches)
    against = [Fleet(batches, budget_s, seed, usual=True).run() for seed in options.seeds]
    yield Row("profit of expensive software, times that of the product's own", _ratio(against), "")
    yield from _rows("the product's own", _of(against, expensive=False), against, batches)
    yield Row("CPU of the whole run", time.process_time() - begun, "s")


def _of(runs: list[BiddersRun], *, expensive: bool) -> list[Tally]:
    return [tally for run in runs for tally in run.tallies if tally.expensive is expensive]


def _ratio(runs: list[BiddersRun]) -> float:
    """Return the profit of all robots with expensive software divided by that of the others."""
    dear_uc, cheap_uc = (sum(t.profit_uc for t in _of(runs, expensive=kind)) for kind in (True, False))
    return dear_uc / cheap_uc if cheap_uc > 0 else math.inf


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
