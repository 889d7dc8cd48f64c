"""Run all benchmarks and write the page that others quote from: ``python -m benchmarks.page [--quick] [NAME[:PART] ...]``.

Results go to ``out/bench/NAME.json``; those of full runs replace their sections of ``docs/benchmarks.md``, the others stay.
``ros_nodes:ten`` runs one part of a benchmark that has `--parts`, and gives it a section of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.report import ROOT

PAGE = ROOT / report.PAGE
NOT_BENCHMARKS = {"__init__", "report", "page", "nightly", "metered_tasks", "wear_cells", "qemu_lane"}
"""The last one is a part of `make nightly` alone: not every computer can run it."""
TITLE = "## "
HEAD = """\
# Benchmarks

Written by `make bench`; each section comes from one command, which prints its figures again. Figures are medians over the
seeds unless the row says otherwise. These machines are shared: ratios say more than times.
"""


def names() -> list[str]:
    """Return all benchmarks, by name."""
    return sorted(
        path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in NOT_BENCHMARKS and path.stem[0] != "_"
    )


def run(name: str, *, quick: bool) -> bool:
    """Run one benchmark, or a part of it, and store its result; return whether it succeeded."""
    begun = time.monotonic()
    module, _, part = name.partition(":")
    options = [*(["--parts", part] if part else []), *(["--quick"] if quick else [])]
    command = [sys.executable, "-m", f"benchmarks.{module}", "--json", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    print(f"{name}: exit code {done.returncode} after {time.monotonic() - begun:.0f} s", flush=True)
    if done.returncode == 0:
        folder = ROOT / report.OUT
        folder.mkdir(parents=True, exist_ok=True)
        result = json.loads(done.stdout) | ({"part": part} if part else {})
        (folder / f"{name.replace(':', '.')}.json").write_text(json.dumps(result, indent=2) + "\n")
    return done.returncode == 0


def write_page() -> None:
    """Replace the sections of which there is a stored result of a full run."""
    results = [json.loads(path.read_text()) for path in sorted((ROOT / report.OUT).glob("*.json"))]
    written = PAGE.read_text().split(TITLE)[1:] if PAGE.exists() else []
    sections = {section.partition("\n")[0]: TITLE + section.rstrip("\n") + "\n" for section in written}
    sections |= {_title(result): _section(result) for result in results if not result["quick"]}
    PAGE.write_text("\n".join([HEAD, *(sections[title] for title in sorted(sections))]))


def _title(result: dict[str, Any]) -> str:
    return f"{result['benchmark']}, part {result['part']}" if "part" in result else result["benchmark"]


def _section(result: dict[str, Any]) -> str:
    command, machine = result["benchmark"], result["machine"]
    if "part" in result:
        command += f" --parts {result['part']}"
    versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    where = f"{len(result['seeds'])} seeds, {machine['cores']} cores of {machine['cpu']}, {versions}"
    if result.get("commit"):
        where += f", commit {result['commit']}"
    lines = [
        f"{TITLE}{_title(result)}",
        "",
        f"`python -m benchmarks.{command}`: {where}.",
        "",
        "| what | value | goal | | note |",
        "|---|---:|---:|---|---|",
    ]
    for row in result["rows"]:
        cells = (row["what"], report.value_text(row), report.goal_text(row), report.verdict(row), row["note"])
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run what is asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME[:PART]", help=f"of {', '.join(names())}")
    options = parser.parse_args()
    if unknown := {name.partition(":")[0] for name in options.names} - set(names()):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    succeeded = [run(name, quick=options.quick) for name in options.names or names()]
    write_page()
    sys.exit(0 if all(succeeded) else 1)


if __name__ == "__main__":
    main()
