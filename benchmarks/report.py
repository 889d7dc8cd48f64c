"""The one form of all benchmarks: options in, rows with goals out."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from fleet_market.errors import FleetMarketError

DATA_VARIABLE = "FLEET_MARKET_DATA"
ROOT = Path(__file__).parents[1]
OUT, PAGE = Path("out/bench"), "docs/benchmarks.md"
ALWAYS = ("fleet-market", "numpy", "scipy")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, with what it should be."""

    what: str
    value: float | None
    """None: not measured, `note` says why."""
    unit: str = ""
    goal: float | None = None
    better: Literal["lower", "higher"] = "lower"
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the goal is reached; a figure without a goal always is, a goal without a figure never."""
        if self.goal is None:
            return True
        if self.value is None:
            return False
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark is asked for."""

    quick: bool
    seeds: tuple[int, ...]
    data: Path | None
    """Folder of foreign data."""
    out: Path
    """Folder for pictures and files."""
    more: argparse.Namespace
    """Options of one benchmark alone."""


Measure = Callable[[Options], Iterable[Row]]


def main(
    name: str,
    measure: Measure,
    *,
    about: str,
    seeds: int = 1,
    packages: Sequence[str] = (),
    arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Run one benchmark from the command line.

    Parameters
    ----------
    name : str
        As in ``python -m benchmarks.NAME``.
    measure : callable
        Returns the rows; what it prints goes to standard error.
    about : str
        Docstring of the benchmark.
    seeds : int
        Default number of seeds of a full run; a quick run takes one.
    packages : sequence of str
        Distributions whose versions matter, beside the usual.
    arguments : callable, optional
        Adds options of this benchmark.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="in under 60 seconds; no figure to quote")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"seeds 0 to N-1 (default {seeds}, quick: 1)")
    parser.add_argument("--data", type=Path, default=_data_folder(), help=f"foreign data (default ${DATA_VARIABLE})")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder for pictures (default {OUT})")
    if arguments is not None:
        arguments(parser)
    given = parser.parse_args()
    count = given.seeds or (1 if given.quick else seeds)
    if count < 1:
        parser.error(f"--seeds was {count}: use 1 or more")
    given.out.mkdir(parents=True, exist_ok=True)
    options = Options(given.quick, tuple(range(count)), given.data, given.out, given)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            rows = list(measure(options))
    except FleetMarketError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    result = {
        "benchmark": name,
        "quick": options.quick,
        "commit": commit(),
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in (*ALWAYS, *packages)},
        "machine": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0))},
        "seeds": list(options.seeds),
        "rows": [asdict(row) | {"met": row.met} for row in rows],
    }
    if given.json:
        print(json.dumps(result))
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    quick = " (quick: not to be quoted)" if result["quick"] else ""
    table = Table("what", "value", "goal", "", "note", title=f"{result['benchmark']}{quick}")
    for row in result["rows"]:
        table.add_row(row["what"], value_text(row), goal_text(row), verdict(row), row["note"])
    Console(width=max(Console().width, 100)).print(table)
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    print(f"{len(result['seeds'])} seeds, {machine['cores']} cores of {machine['cpu']}, {versions}")


def value_text(row: dict[str, Any]) -> str:
    """Return value and unit of a row for people."""
    return "not measured" if row["value"] is None else f"{row['value']:.4g} {row['unit']}".strip()


def goal_text(row: dict[str, Any]) -> str:
    """Return the goal of a row for people."""
    if row["goal"] is None:
        return ""
    return f"{'at most' if row['better'] == 'lower' else 'at least'} {row['goal']:.4g}"


def verdict(row: dict[str, Any]) -> str:
    """Return whether the row reaches its goal, for people."""
    return "" if row["goal"] is None else "met" if row["met"] else "MISSED"


def need_data(options: Options, *parts: str) -> Path:
    """Return a path in the folder of foreign data.

    Raises
    ------
    FleetMarketError
        If it is not there.
    """
    if options.data is None:
        raise FleetMarketError(f"this benchmark needs foreign data: give --data DIR or set {DATA_VARIABLE}")
    path = options.data.joinpath(*parts)
    if not path.exists():
        raise FleetMarketError(f"{path} is not there: give --data the folder that holds {'/'.join(parts)}")
    return path


def _data_folder() -> Path | None:
    folder = os.environ.get(DATA_VARIABLE)
    return Path(folder) if folder else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """Return the commit that is checked out, with a ``+`` if files were changed since; empty outside of a repository."""
    called = [["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]]
    try:
        head, changed = (subprocess.run(c, capture_output=True, text=True, check=True, cwd=ROOT).stdout for c in called)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.strip() + ("+" if [line for line in changed.splitlines() if not line.endswith(PAGE)] else "")


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
