"""Allocate given instances: cost, makespan, travel, charging stops, what cannot be done and why.

Without files it makes instances of its own, with split graphs and low batteries among them. A file is JSON: `robots` [{id,
start, charger, soc}], `tasks` [{id, pickup, dropoff, earliest_start_s}], `config` {threshold_soc, recharge_soc,
charge_rate_soc_per_s}, `travel_s` and `travel_dsoc`, square matrices over waypoint numbers with null where there is no way.
Loading begins at `earliest_start_s` or later; `start` in the schedule is its begin. The schedule goes to NAME.schedule.json
in the folder of results, and an independent checker drives it through.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from benchmarks._replay import Instance, problem, read, schedule, sort_out
from benchmarks._replay_check import check
from benchmarks._replay_make import make_all
from benchmarks.report import Options, Row, main
from fleet_market.allocation import Outcome, allocate
from fleet_market.errors import InputError

CPU_S = 10.0
QUICK_CPU_S = 1.0
WARM_UP_ROUNDS = 20


def measure(options: Options, failures: list[str]) -> Iterable[Row]:
    """Return the rows; files that cannot be read go to `failures`."""
    files = options.more.files
    if options.more.make is not None:
        files = [*files, *make_all(options.more.make, quick=options.quick)]
    elif not files:
        files = make_all(options.out / "replay", quick=options.quick)
    cpu_s = options.more.cpu_seconds or (QUICK_CPU_S if options.quick else CPU_S)
    warm = False
    for path in files:
        try:
            instance = read(path)
        except InputError as error:
            failures.append(str(error))
            print(f"error: {error}", file=sys.stderr)
            yield Row(f"{path.stem}: cost", None, "s", note=str(error))
            continue
        if not warm:
            begun = time.process_time()
            able, _ = sort_out(instance)
            allocate(problem(instance, able), rounds=WARM_UP_ROUNDS)
            yield Row("first call, kernels compiled or loaded", time.process_time() - begun, "CPU s")
            warm = True
        yield from _run(path, instance, cpu_s, options)


def _run(path: Path, instance: Instance, cpu_s: float, options: Options) -> Iterable[Row]:
    begun, wall = time.process_time(), time.monotonic()
    able, unable = sort_out(instance)
    given = problem(instance, able)
    outcome = allocate(given, spent=lambda: (time.process_time() - begun) / cpu_s, seed=options.seeds[-1])
    used_s, wall_s = time.process_time() - begun, time.monotonic() - wall
    out = options.out / f"{path.stem}.schedule.json"
    for t in outcome.unsold:
        unable[able[t].id] = "can be done alone, but by no robot beside what it has to do before"
    rows = schedule(instance, able, given.tables(), outcome)
    unassigned = [{"task": name, "reason": reason} for name, reason in unable.items()]
    out.write_text(json.dumps({"instance": path.name, "schedule": rows, "unassigned": unassigned}, indent=1) + "\n")
    verdict = check(path, out)
    name = path.stem
    for row in unassigned:
        print(f"{name}: task {row['task']} is not assigned: {row['reason']}", file=sys.stderr)
    for fault in verdict.faults:
        print(f"{name}: {fault}", file=sys.stderr)
    yield Row(f"{name}: cost", verdict.cost_s, "s", note=_note(instance, outcome))
    yield Row(f"{name}: makespan", verdict.makespan_s, "s")
    yield Row(f"{name}: total travel", verdict.travel_s, "s")
    yield Row(f"{name}: charging stops", verdict.charges)
    yield Row(f"{name}: faults found by the checker", len(verdict.faults), "", 0.0)
    share = 100.0 * verdict.assigned / len(able) if able else 100.0
    yield Row(f"{name}: feasible tasks assigned", share, "%", 100.0, "higher", note=_reasons(unassigned))
    yield Row(f"{name}: CPU", used_s, "s", note=f"{wall_s:.1f} s wall")
    yield Row(f"{name}: peak RSS of the process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB", 500.0)


def _note(instance: Instance, outcome: Outcome) -> str:
    if not instance.tasks:
        return "no tasks"
    first = f"first sale {outcome.given_cost:.0f}" if outcome.given_cost < 1e9 else "the first sale left tasks unsold"
    found = "" if outcome.better else ", no better found"
    return f"{len(instance.robots)} robots, {len(instance.tasks)} tasks, {first}{found}, {outcome.rounds} rounds"


def _reasons(unassigned: list[dict[str, str]]) -> str:
    if not unassigned:
        return ""
    shown = "; ".join(f"{row['task']}: {row['reason']}" for row in unassigned[:3])
    more = f"; and {len(unassigned) - 3} more, see the schedule" if len(unassigned) > 3 else ""
    return f"not assigned {shown}{more}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="instances; own ones are made if none is given")
    parser.add_argument("--cpu-seconds", type=_seconds, metavar="S", help=f"for each file (default {CPU_S:g})")
    parser.add_argument("--make", type=Path, metavar="DIR", help="write own instances there, and allocate them too")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"was {text}: use a number of seconds above 0")
    return value


if __name__ == "__main__":
    unread: list[str] = []
    main("replay", partial(measure, failures=unread), about=__doc__ or "", packages=("numba",), arguments=_arguments)
    sys.exit(2 if unread else 0)
