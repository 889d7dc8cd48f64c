"""kill -9 of a loaded market, power losses under its store, random histories: what is lost, minted or paid twice.

A full run kills 1,000 markets on SQLite and 100 on PostgreSQL at random instants, lets the power of a simulated disk fail
under 1,000 seeds, and runs 1,000 random histories of the ledger with crashes in between. The same disk without the syncs
shows that the simulation can lose something.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._pieces import Pieces, add_nightly, pieces_of
from benchmarks.report import Options, Row, main
from fleet_market.testing import postgres
from fleet_market.testing.crashes import Tally, run_kills

KILLS, SERVER_KILLS, POWER_SEEDS, HISTORIES = 1000, 100, 1000, 1000
QUICK_KILLS, QUICK_SERVER_KILLS, QUICK_SEEDS, QUICK_HISTORIES = 20, 4, 30, 20
LIVES, SERVER_LIVES = 100, 25
"""Kills on one database; then a new one."""
POWER_PIECE = HISTORY_PIECE = 100
SHORT_LOG, LONG_LOG = 6_000, 24_000
"""Inputs in the log: recovery must not take longer behind the second than behind the first."""
RECOVERY_GOAL_S = 2.0
HISTORY_STEPS = 30


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    quick, pieces = options.quick, pieces_of("crash", options)
    yield from _killed_on_sqlite(QUICK_KILLS if quick else KILLS, pieces)
    yield from _killed_on_postgres(QUICK_SERVER_KILLS if quick else SERVER_KILLS, pieces)
    yield from _powerless(QUICK_SEEDS if quick else POWER_SEEDS, pieces)
    yield from _histories(QUICK_HISTORIES if quick else HISTORIES, pieces)


def _killed_on_sqlite(kills: int, pieces: Pieces) -> Iterable[Row]:
    def group(first: int) -> Tally:
        tally = Tally()
        with tempfile.TemporaryDirectory() as folder:
            run_kills(Path(folder) / "market.db", min(LIVES, kills - first), first, tally)
        return tally

    yield from _rows("kill -9, SQLite", _in_groups("sqlite", kills, LIVES, group, pieces))


def _killed_on_postgres(kills: int, pieces: Pieces) -> Iterable[Row]:
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError:
        yield Row("kill -9, PostgreSQL", None, goal=0.0, note="psycopg is not installed")
        return

    def group(first: int) -> Tally:
        tally = Tally()
        with postgres.cluster() as server, psycopg.connect(server.address, autocommit=True):
            run_kills(server.address, min(SERVER_LIVES, kills - first), first, tally)
        return tally

    yield from _rows("kill -9, PostgreSQL", _in_groups("postgresql", kills, SERVER_LIVES, group, pieces))


def _in_groups(name: str, kills: int, lives: int, group: Callable[[int], Tally], pieces: Pieces) -> Tally:
    tally = Tally()
    for first in range(0, kills, lives):
        tally.add(Tally(**pieces.run(f"{name} {first}", partial(_as_dict, group, first))))
    return tally


def _as_dict(group: Callable[[int], Tally], first: int) -> dict[str, Any]:
    return asdict(group(first))


def _rows(what: str, tally: Tally) -> Iterable[Row]:
    for text in [*tally.lost, *tally.phantoms, *tally.awarded_twice, *tally.faults][:20]:
        print(f"{what}: {text}")
    load = (
        f"{tally.kills} kills, {tally.acknowledged} acknowledged inputs, {tally.announced} awards, {tally.orders} payments"
    )
    yield Row(f"{what}: acknowledged inputs lost", len(tally.lost), "", 0.0, note=load)
    yield Row(f"{what}: credits lost or minted", tally.minted_uc / 1e6, "credits", 0.0)
    yield Row(f"{what}: orders awarded or paid twice", len(tally.awarded_twice), "", 0.0)
    yield Row(f"{what}: awards announced and not in the books", len(tally.phantoms), "", 0.0)
    yield Row(
        f"{what}: faults in the audits", len(tally.faults), "", 0.0, note="an audit at every start and of every database"
    )
    note = f"median {median(tally.recovery_s):.2f} s; to the audited market, on up to {max(tally.events)} inputs"
    yield Row(f"{what}: recovery, worst", max(tally.recovery_s), "s", RECOVERY_GOAL_S, note=note)
    note = f"median {median(tally.recovery_cpu_s):.2f} s"
    yield Row(f"{what}: processor time of a recovery, worst", max(tally.recovery_cpu_s), "s", note=note)
    starts = list(zip(tally.recovery_cpu_s, tally.events, strict=True))
    short = [took for took, count in starts if SHORT_LOG / 2 <= count < SHORT_LOG]
    long = [took for took, count in starts if count >= LONG_LOG]
    if short and long:
        note = f"processor time; {len(long)} starts on at least {LONG_LOG} inputs, {len(short)} on up to {SHORT_LOG}"
        yield Row(f"{what}: recovery on long logs / on short ones", median(long) / median(short), "", note=note)


def _powerless(seeds: int, pieces: Pieces) -> Iterable[Row]:
    from fleet_market.testing.power_trials import Trial, run_trial  # noqa: PLC0415 - apsw is for developers

    full: list[Trial] = []
    for first in range(0, seeds, POWER_PIECE):
        span = range(first, min(first + POWER_PIECE, seeds))
        full += [Trial(**trial) for trial in pieces.run(f"power {first}", partial(_trials, span))["trials"]]
    cuts = f"{sum(t.cuts for t in full)} cuts, {sum(t.acknowledged for t in full)} acknowledged commands"
    yield Row("power loss, synchronous=FULL: acknowledged commands lost", sum(t.lost for t in full), "", 0.0, note=cuts)
    yield Row("power loss, synchronous=FULL: stores that are not sound", sum(bool(t.faults) for t in full), "", 0.0)
    weak = [run_trial(seed, synchronous="NORMAL") for seed in range(max(10, seeds // 10))]
    note = f"{sum(t.lost for t in weak)} commands; must not be 0, or the simulated disk loses nothing"
    lossy = 100 * sum(t.lost > 0 for t in weak) / len(weak)
    yield Row("power loss, synchronous=NORMAL: trials that lose", lossy, "%", 1.0, "higher", note)


def _trials(seeds: Iterable[int]) -> dict[str, Any]:
    from fleet_market.testing.power_trials import run_trial  # noqa: PLC0415 - apsw is for developers

    return {"trials": [asdict(run_trial(seed)) for seed in seeds]}


def _histories(count: int, pieces: Pieces) -> Iterable[Row]:
    begun, broken = time.monotonic(), 0
    for first in range(0, count, HISTORY_PIECE):
        many = min(HISTORY_PIECE, count - first)
        broken += pieces.run(f"histories {first}", partial(_run_histories, many, first))["broken"]
    note = f"{count} histories of up to {HISTORY_STEPS} steps against dictionaries, in {time.monotonic() - begun:.0f} s"
    yield Row("histories with crashes that break the ledger", broken, "", 0.0, note=note)


def _run_histories(count: int, first: int) -> dict[str, int]:
    from hypothesis import HealthCheck, seed, settings  # noqa: PLC0415 - for developers
    from hypothesis.stateful import run_state_machine_as_test  # noqa: PLC0415

    from fleet_market.testing.ledger_histories import LosingDisk, histories  # noqa: PLC0415

    wanted = settings(
        max_examples=count, stateful_step_count=HISTORY_STEPS, deadline=None, suppress_health_check=list(HealthCheck),
        database=None,
    )  # fmt: skip
    try:
        run_state_machine_as_test(seed(first)(histories(LosingDisk)), settings=wanted)
    except AssertionError as error:
        print(f"history: {error}")
        return {"broken": 1}
    return {"broken": 0}


if __name__ == "__main__":
    main("crash", measure, about=__doc__ or "", packages=("psycopg", "apsw", "hypothesis"), arguments=add_nightly)
