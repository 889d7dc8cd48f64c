"""Bytes of no sense for every parser of the hardware bridge: crashes, hangs, frames taken with a wrong checksum.

A full run feeds ten million inputs of a seeded mutator, a million of them to the readers of VDA 5050; a quick one 100,000;
``--nightly`` ten million to the readers of VDA 5050 alone, and as many to the others.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Iterable

from benchmarks.report import Options, Row, main
from fleet_market_hardware.testing_bytes import PARSERS, mutate

FULL, QUICK = 10_000_000, 100_000
JSON, JSON_SHARE = "vda5050", 0.1
"""The slow parser, and its share of a run that is not a nightly one."""
HANG_S = 1.0
"""An input that takes longer hangs a parser."""


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    total = QUICK if options.quick else 2 * FULL if options.more.nightly else FULL
    json_share = 0.5 if options.more.nightly else JSON_SHARE
    failures = fed = 0
    slowest, begun = 0.0, time.process_time()
    for name, parser in PARSERS.items():
        share = json_share if name == JSON else (1 - json_share) / (len(PARSERS) - 1)
        for seed in options.seeds:
            rng = random.Random(f"{name}/{seed}")
            for _ in range(math.ceil(total * share / len(options.seeds))):
                data = mutate(rng, parser.seeds, parser.pieces)
                start = time.process_time()
                try:
                    parser.check(data)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
                    failures += 1
                    print(f"{name}: {type(error).__name__}: {error}: {data.hex()}", file=sys.stderr)
                slowest = max(slowest, time.process_time() - start)
                fed += 1
    yield Row("inputs fed to parsers", float(fed), "", float(total), "higher", f"{', '.join(PARSERS)}")
    yield Row("crashes, and frames taken with a wrong checksum", float(failures), "", 0.0)
    yield Row("slowest input", slowest, "s", HANG_S, note="CPU")
    yield Row("CPU", time.process_time() - begun, "s")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nightly", action="store_true", help="ten million inputs to the readers of VDA 5050 alone")


if __name__ == "__main__":
    main("parsers", measure, about=__doc__ or "", arguments=_arguments)
