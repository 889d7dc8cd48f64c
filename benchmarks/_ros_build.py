"""``make ros`` where nothing has changed since the last one, for `ros_nodes`."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from benchmarks.report import ROOT, Row

BUILD_S = 10.0
LIMIT_S = 1800.0
"""For the first run, which may have to set up and compile."""
TIMES = 3


def build_rows(root: Path = ROOT, clock: Callable[[], float] = time.monotonic) -> Iterable[Row]:
    """Run ``make ros`` until there is nothing to build, then some times more; return the row of those.

    Parameters
    ----------
    root : Path
        Folder of the Makefile. Its first run sets up ``.venv`` there, if that is not done yet.
    clock : callable
        Seconds.
    """
    what = "second `make ros`"
    if shutil.which("make") is None:
        return [Row(what, None, "s", BUILD_S, note="make is not installed")]
    taken_s = []
    for _ in range(1 + TIMES):
        begun_s = clock()
        done = subprocess.run(["make", "ros"], cwd=root, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        taken_s.append(clock() - begun_s)
        if done.returncode != 0:
            return [Row(what, None, "s", BUILD_S, note=f"exit code {done.returncode}: {done.stderr.strip()[-160:]}")]
    first_s, *later_s = taken_s
    note = f"worst of {TIMES}, median {median(later_s):.1f} s; the one before them took {first_s:.1f} s"
    return [Row(what, max(later_s), "s", BUILD_S, note=note)]
