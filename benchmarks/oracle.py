"""The oracle: whether its bands hold, are worth their fee, can be trusted, and it stays blind.

Made of parts, each with its own rows: bands (what it knows and says), sale (fees, demand, buyers, robots, a liar), proof
(signed telemetry, openings, residuals), herding (everybody looks at the same bands).
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Iterable

from benchmarks.report import Options, Row, main
from fleet_market.errors import InputError

PARTS = {
    "bands": "benchmarks._oracle_bands",
    "sale": "benchmarks._oracle_sale",
    "proof": "benchmarks._oracle_proof",
    "herding": "benchmarks._oracle_herding",
}
SEEDS = 20


def measure(options: Options) -> Iterable[Row]:
    """Yield the rows of the parts that were asked for, and what each of them took."""
    for name in chosen(options.more.parts):
        wall_s, cpu_s = time.monotonic(), time.process_time()
        yield from importlib.import_module(PARTS[name]).rows(options)
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        yield Row(f"part {name}: CPU", cpu_s, "s", note=f"{wall_s:.0f} s on the wall")


def chosen(text: str) -> list[str]:
    """Return the parts that are named, with commas between; all of them if there are none.

    Raises
    ------
    InputError
        If one is not known.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise InputError("command line", "--parts", name, f"use some of {', '.join(PARTS)}")
    return names or list(PARTS)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", default="", metavar="A,B", help=f"some of {', '.join(PARTS)} (default: all)")


if __name__ == "__main__":
    main("oracle", measure, about=__doc__ or "", seeds=SEEDS, arguments=_arguments)
