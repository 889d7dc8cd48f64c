"""Bytes of no sense for every parser of the hardware bridge: crashes, hangs, frames taken with a wrong checksum.

A full run feeds ten million inputs of a seeded mutator, a quick one 100,000. ``--nightly`` is the full run.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable

from benchmarks.report import Options, Row, main
from fleet_market_hardware.testing_bytes import PARSERS, mutate

FULL, QUICK = 10_000_000, 100_000
HANG_S = 1.0
"""An input that takes longer hangs a parser."""


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    total = QUICK if options.quick else FULL
    each = -(-total // (len(PARSERS) * len(options.seeds)))
    failures = fed = 0
    slowest, begun = 0.0, time.process_time()
    for name, parser in PARSERS.items():
        for seed in options.seeds:
            rng = random.Random(f"{name}/{seed}")
            for _ in range(each):
                data = mutate(rng, parser.seeds)
                start = time.process_time()
                try:
                    parser.check(data)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
                    failures += 1
                    print(f"{name}: {type(error).__name__}: {error}: {data.hex()}")
                slowest = max(slowest, time.process_time() - start)
                fed += 1
    yield Row("inputs fed to parsers", float(fed), "", float(total), "higher", f"{', '.join(PARSERS)}")
    yield Row("crashes, and frames taken with a wrong checksum", float(failures), "", 0.0)
    yield Row("slowest input", slowest, "s", HANG_S, note="CPU")
    yield Row("CPU", time.process_time() - begun, "s")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nightly", action="store_true", help="the full run, which is the usual one")


if __name__ == "__main__":
    main("parsers", measure, about=__doc__ or "", arguments=_arguments)
