"""kill -9 of a loaded market, power losses under its store, random histories: what is lost, minted or paid twice.

A full run kills 1,000 markets on SQLite and 100 on PostgreSQL at random instants, lets the power of a simulated disk fail
under 1,000 seeds, and runs 1,000 random histories of the ledger with crashes in between. The same disk without the syncs
shows that the simulation can lose something.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from benchmarks.report import Options, Row, main
from fleet_market.testing import postgres
from fleet_market.testing.crashes import Tally, run_kills

KILLS, SERVER_KILLS, POWER_SEEDS, HISTORIES = 1000, 100, 1000, 1000
QUICK_KILLS, QUICK_SERVER_KILLS, QUICK_SEEDS, QUICK_HISTORIES = 20, 4, 30, 20
LIVES = 20
"""Kills on one database; then a new one, for a start replays all that was ever put in."""
RECOVERY_GOAL_S = 2.0
HISTORY_STEPS = 30


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    quick = options.quick
    yield from _killed_on_sqlite(QUICK_KILLS if quick else KILLS)
    yield from _killed_on_postgres(QUICK_SERVER_KILLS if quick else SERVER_KILLS)
    yield from _powerless(QUICK_SEEDS if quick else POWER_SEEDS)
    yield from _histories(QUICK_HISTORIES if quick else HISTORIES)


def _killed_on_sqlite(kills: int) -> Iterable[Row]:
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for group in range(0, kills, LIVES):
            run_kills(Path(folder) / f"{group}.db", min(LIVES, kills - group), group, tally)
    yield from _rows("kill -9, SQLite", tally)


def _killed_on_postgres(kills: int) -> Iterable[Row]:
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError:
        yield Row("kill -9, PostgreSQL", None, goal=0.0, note="psycopg is not installed")
        return
    tally = Tally()
    with postgres.cluster() as server:
        for group in range(0, kills, LIVES):
            with psycopg.connect(server.address, autocommit=True) as db:
                db.execute("DROP SCHEMA IF EXISTS fleet_market CASCADE")
            run_kills(server.address, min(LIVES, kills - group), group, tally)
    yield from _rows("kill -9, PostgreSQL", tally)


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
    note = f"median {median(tally.recovery_s):.2f} s; replay of up to {max(tally.events)} inputs, audit included"
    yield Row(f"{what}: recovery, worst", max(tally.recovery_s), "s", RECOVERY_GOAL_S, note=note)
    each = [1e6 * took / count for took, count in zip(tally.recovery_s, tally.events, strict=True) if count > 500]
    yield Row(
        f"{what}: recovery per input replayed, median", median(each) if each else None, "us", note="starts on more than 500"
    )


def _powerless(seeds: int) -> Iterable[Row]:
    from fleet_market.testing.power_trials import run_trial  # noqa: PLC0415 - apsw is for developers

    full = [run_trial(seed) for seed in range(seeds)]
    cuts = f"{sum(t.cuts for t in full)} cuts, {sum(t.acknowledged for t in full)} acknowledged commands"
    yield Row("power loss, synchronous=FULL: acknowledged commands lost", sum(t.lost for t in full), "", 0.0, note=cuts)
    yield Row("power loss, synchronous=FULL: stores that are not sound", sum(bool(t.faults) for t in full), "", 0.0)
    weak = [run_trial(seed, synchronous="NORMAL") for seed in range(max(10, seeds // 10))]
    note = f"{sum(t.lost for t in weak)} commands; must not be 0, or the simulated disk loses nothing"
    lossy = 100 * sum(t.lost > 0 for t in weak) / len(weak)
    yield Row("power loss, synchronous=NORMAL: trials that lose", lossy, "%", 1.0, "higher", note)


def _histories(count: int) -> Iterable[Row]:
    from hypothesis import HealthCheck, settings  # noqa: PLC0415 - for developers
    from hypothesis.stateful import run_state_machine_as_test  # noqa: PLC0415

    from fleet_market.testing.ledger_histories import LosingDisk, histories  # noqa: PLC0415

    begun = time.monotonic()
    wanted = settings(
        max_examples=count, stateful_step_count=HISTORY_STEPS, deadline=None, suppress_health_check=list(HealthCheck),
        derandomize=True, database=None,
    )  # fmt: skip
    broken = 0
    try:
        run_state_machine_as_test(histories(LosingDisk), settings=wanted)
    except AssertionError as error:
        broken = 1
        print(f"history: {error}")
    note = f"{count} histories of up to {HISTORY_STEPS} steps against dictionaries, in {time.monotonic() - begun:.0f} s"
    yield Row("histories with crashes that break the ledger", broken, "", 0.0, note=note)


if __name__ == "__main__":
    main("crash", measure, about=__doc__ or "", packages=("psycopg", "apsw", "hypothesis"))
