"""Part of `bridge`: the conformance suite that ships, on every driver that brings a bench.

A row that a bench cannot run is skipped, and counted as that; what a protocol lacks its driver declares, and the row checks
that it refuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.report import ROOT, Options, Row

DRIVERS = ("kinematic", "base", "nav2", "vda5050", "odrive", "vesc", "cia402", "create2")
QUICK_DRIVERS = ("kinematic",)
BESIDE = 3
"""Suites that run at once: they mostly wait."""
LIMIT_S = 1200
EXPECTED_BROKEN = {"create2": {"abandoned_robot_stops"}}
"""A Create 2 has no dead-man: the suite has to find that."""


def rows(options: Options) -> Iterator[Row]:
    """Return the rows."""
    names = QUICK_DRIVERS if options.quick else DRIVERS
    with ThreadPoolExecutor(BESIDE) as pool:
        yield from pool.map(_suite, names)


def _suite(name: str) -> Row:
    what = f"{name}: rows of the contract broken"
    command = [sys.executable, "-m", "fleet_market", "driver", "check", name, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT)
        outcomes = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Row(what, None, "", 0.0, note=f"not done within {LIMIT_S} s")
    except ValueError:
        return Row(what, None, note=f"not to be had here: {done.stderr.strip().splitlines()[-1:]}")
    verdicts = {outcome["row"]: outcome["verdict"] for outcome in outcomes}
    broken = {row for row, verdict in verdicts.items() if verdict == "broken"}
    known = EXPECTED_BROKEN.get(name, set())
    kept = sum(verdict == "kept" for verdict in verdicts.values())
    skipped = sorted(row for row, verdict in verdicts.items() if verdict == "skipped")
    note = f"{kept} of {len(verdicts)} kept"
    note += f"; no way to run {', '.join(skipped)}" if skipped else ""
    note += f"; broken as its maker built it: {', '.join(sorted(broken & known))}" if broken & known else ""
    note += f"; BROKEN: {', '.join(sorted(broken - known))}" if broken - known else ""
    return Row(what, float(len(broken - known)), "", 0.0, note=note)
