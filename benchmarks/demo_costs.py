"""What the demo costs and yields: set-up, wall time, CPU and memory per process, award latency, error of energy.

A full run sets the project up in a fresh clone and runs the demo of the README once per seed; a quick one runs four orders
on what is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Options, Row, main

ROOT = Path(__file__).parents[1]
SETUP_GOAL_S = 300.0
"""A demo from a clean machine is to run within five minutes."""
SETTLED_GOAL = 28
QUICK_ORDERS = 4
QUICK_SPEED, SPEED = 5.0, 3.0
INFRASTRUCTURE = ("mosquitto", "market", "oracle", "simulator")


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    with tempfile.TemporaryDirectory() as folder:
        yield _setup(Path(folder), quick=options.quick)
        runs = [_demo(Path(folder) / str(seed), seed, quick=options.quick) for seed in options.seeds]
    yield from _rows(runs, quick=options.quick)


def _setup(folder: Path, *, quick: bool) -> Row:
    what = "set-up in a fresh clone"
    if quick:
        return Row(what, None, "s", note="only in a full run")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True)
    begun = time.monotonic()
    subprocess.run(
        ["make", f"PYTHON={sys.executable}", "setup", "mosquitto"], cwd=folder / "clone", check=True, stdout=sys.stderr
    )
    note = "make setup mosquitto: virtual environment, packages, Mosquitto; packages may come from a cache"
    return Row(what, time.monotonic() - begun, "s", SETUP_GOAL_S, note=note)


def _demo(out: Path, seed: int, *, quick: bool) -> dict[str, Any]:
    orders = ROOT / "launch/orders/warehouse.csv"
    if quick:
        out.mkdir()
        rows = orders.read_text().splitlines()[: 1 + QUICK_ORDERS]
        orders = out / "orders.csv"
        orders.write_text("\n".join(rows) + "\n")
    command: list[str | Path] = [
        Path(sys.executable).with_name("fleet-market"),
        "demo",
        "--orders",
        orders,
        "--out",
        out / "demo",
    ]
    speed = QUICK_SPEED if quick else SPEED
    subprocess.run([*command, "--seed", str(seed), "--speed", f"{speed:g}"], cwd=ROOT, check=True, stdout=sys.stderr)
    summary: dict[str, Any] = json.loads((out / "demo/summary.json").read_text())
    return summary


def _rows(runs: Sequence[Mapping[str, Any]], *, quick: bool) -> Iterable[Row]:
    def middle(*path: str) -> float | None:
        found = [_at(run, path) for run in runs]
        known = [float(value) for value in found if value is not None]
        return median(known) if known else None

    def worst(*path: str) -> float:
        return max(float(_at(run, path)) for run in runs)

    yield Row("demo, start to end", middle("wall_s"), "s", note=f"{runs[0]['sim_s']:.0f} s simulated")
    yield Row("until all processes are ready", middle("start_s"), "s")
    yield Row("until the first order is settled", middle("first_settled_s"), "s", 60.0)
    posted, settled = runs[0]["orders"]["posted"], min(run["orders"]["completed"] for run in runs)
    yield Row("orders settled, fewest of all seeds", settled, f"of {posted}", None if quick else SETTLED_GOAL, "higher")
    yield Row("left in escrow", worst("ledger", "escrow_left"), "credits", 0.0)
    unbalanced = max(abs(run["ledger"]["sum_debits"] - run["ledger"]["sum_credits"]) for run in runs)
    yield Row("debits less credits", unbalanced, "credits", 0.0)
    yield Row("robots touching robots", worst("contacts", "robot_robot"), "times", 0.0)
    yield Row("robots touching walls", worst("contacts", "robot_wall"), "times", 0.0)
    yield Row("release to award, median", middle("award_wait_sim_s", "median"), "s simulated", note="a batch lasts 2 s")
    yield Row("release to award, 90 % quantile", middle("award_wait_sim_s", "p90"), "s simulated")
    yield Row("energy, predicted against measured, median error", _percent(middle("energy_error", "median_abs")), "%")
    yield Row("energy, 90 % quantile of the error", _percent(middle("energy_error", "p90_abs")), "%")
    coverage = median(run["oracle"]["inside"] / max(1, run["oracle"]["sold"]) for run in runs)
    yield Row("prices inside the oracle's band", 100 * coverage, "%", better="higher")
    for name in INFRASTRUCTURE:
        yield Row(f"{name}: CPU", _percent(middle("processes", name, "cpu_share")), "% of a core")
        yield Row(f"{name}: peak memory", middle("processes", name, "peak_rss_mib"), "MiB")
    robots = [use for run in runs for name, use in run["processes"].items() if name not in INFRASTRUCTURE]
    yield Row("robot's node: CPU, median", 100 * median(use["cpu_share"] for use in robots), "% of a core")
    yield Row("robot's node: CPU, worst", 100 * max(use["cpu_share"] for use in robots), "% of a core")
    yield Row("robot's node: peak memory, worst", max(use["peak_rss_mib"] for use in robots), "MiB")


def _at(run: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = run
    for key in path:
        value = value[key]
    return value


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


if __name__ == "__main__":
    main("demo_costs", measure, about=__doc__ or "", packages=("pybullet", "ros-rclpy", "aiomqtt"))
