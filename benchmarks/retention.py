"""What a market's database grows by per order, with everything kept and with what is old archived, and what that costs.

The orders are those of a busy market of the product. They come in cycles: trade, then archive all that may be. The first
cycles fill the space that is used again afterwards; what the database still grows by is measured over the later ones.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.report import Options, Row, main
from fleet_market.adapters import retention
from fleet_market.adapters.auditing import audit_store
from fleet_market.adapters.postgres_store import PostgresStore
from fleet_market.adapters.sqlite_store import SqliteStore
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_store
from fleet_market.adapters.whole_store import WholeStore, archives_in
from fleet_market.daemons.archiving import MAX_INPUTS
from fleet_market.daemons.engine import Engine
from fleet_market.ids import ZoneId
from fleet_market.market import Market
from fleet_market.testing import postgres
from fleet_market.testing.crashes import Silence
from fleet_market.testing.market_load import MarketLoad, Yard

MAIN = ZoneId("main")
EVER_NS = 10**20
CYCLES, WARM, ORDERS = 15, 6, 700
QUICK_CYCLES, QUICK_WARM, QUICK_ORDERS = 4, 2, 500
DELAY_GOAL_S = 0.1
"""So long a commit may wait for a deletion: a twentieth of the usual batch period of 2 s. [assumption]"""


@dataclass(slots=True)
class Seen:
    """What the cycles of one store have shown."""

    kept: list[int] = field(default_factory=list)
    """Bytes of the database at the end of each cycle, before anything is archived."""
    left: list[int] = field(default_factory=list)
    """And after."""
    inputs: int = 0
    archived: int = 0
    archive_bytes: int = 0
    making_cpu_s: float = 0.0
    deleting_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _rows("SQLite", str(Path(folder) / "market.db"), Path(folder), quick=options.quick)
    with tempfile.TemporaryDirectory() as folder, postgres.cluster() as server:
        yield from _rows("PostgreSQL", server.address, Path(folder), quick=options.quick)


def _rows(name: str, address: str, folder: Path, *, quick: bool) -> Iterable[Row]:
    cycles, warm, orders = (QUICK_CYCLES, QUICK_WARM, QUICK_ORDERS) if quick else (CYCLES, WARM, ORDERS)
    seen = _cycles(address, folder, cycles, orders)
    if seen.faults:
        raise RuntimeError(f"{name}: {seen.faults[0]}")
    per_order = seen.inputs / (cycles * orders)
    grown = (seen.left[-1] - seen.left[warm - 1]) / (orders * (cycles - warm))
    yield Row(f"{name}: database per order, nothing archived", seen.kept[0] / orders, "B",
              note=f"{orders} orders, {per_order:.1f} stored inputs each; tables, indexes, snapshots")  # fmt: skip
    yield Row(f"{name}: database grows per order, old ones archived", grown, "B",
              note=f"over cycles {warm + 1} to {cycles} of {orders} orders; the account of each order stays")  # fmt: skip
    yield Row(f"{name}: archive per order", seen.archive_bytes / (seen.archived / per_order), "B",
              note="compressed, with two snapshots an archive")  # fmt: skip
    yield Row(f"{name}: an archive is deleted in", median(seen.deleting_s), "s",
              note=f"median of {len(seen.deleting_s)}; at most {MAX_INPUTS} inputs or to the next checkpoint")  # fmt: skip
    yield Row(f"{name}: longest deletion", max(seen.deleting_s), "s", DELAY_GOAL_S,
              note="commits wait for it; the goal is a twentieth of a batch period")  # fmt: skip
    yield Row(f"{name}: CPU time to replay, write and read back", 1e3 * seen.making_cpu_s / seen.archived, "ms/input",
              note="in a process of its own, at low priority")  # fmt: skip


def _cycles(address: str, folder: Path, cycles: int, orders: int) -> Seen:
    seen = Seen()
    with open_store(address) as store:
        for cycle in range(cycles):
            seen.inputs = asyncio.run(_trade(store, orders, cycle))
            seen.kept.append(_size(store))
            _archive(store, folder, seen)
            seen.left.append(_size(store))
        for log in (store, WholeStore(archives_in(folder, MAIN), store)):
            seen.faults += audit_store(log).faults
    return seen


def _archive(store: SqliteStore | PostgresStore, folder: Path, seen: Seen) -> None:
    while True:
        target = folder / retention.archive_name(MAIN, store.anchor())
        begun = time.process_time()
        cut = retention.archive(store, target, MAIN, EVER_NS, max_inputs=MAX_INPUTS)
        seen.making_cpu_s += time.process_time() - begun
        if cut is None:
            return
        begun = time.perf_counter()
        store.forget(cut)
        seen.deleting_s.append(time.perf_counter() - begun)
        seen.archived += cut.end.event_seq - cut.start.event_seq
        seen.archive_bytes += target.stat().st_size


async def _trade(store: SqliteStore | PostgresStore, orders: int, cycle: int) -> int:
    """Trade until there are so many more orders; returns how many inputs were stored ever."""
    async with StoreWriter(store) as writer:
        engine = Engine(Market(Yard()), store, writer)
        engine.recover()
        engine.epoch += 1
        state = engine.market.state
        end = len(state.orders) + state.forgotten + orders
        async with asyncio.TaskGroup() as tasks:
            effects = tasks.create_task(engine.publish_effects(Silence()))
            load = MarketLoad(engine.market, name=f"l{cycle}", now_ns=engine.now_ns)
            for command in load.opening(engine.epoch):
                await engine.take(command)
            while len(state.orders) + state.forgotten < end:
                for command in load.round():
                    await engine.take(command)
                await asyncio.sleep(0)
            await engine.settled()
            effects.cancel()
        return engine.inputs


def _size(store: SqliteStore | PostgresStore) -> int:
    """Return what the database occupies: the file, free pages included; with PostgreSQL after what autovacuum does."""
    if isinstance(store, PostgresStore):
        store._db.execute("VACUUM")  # noqa: SLF001 - stands for autovacuum, which comes by the minute
        return store.size_bytes()
    (pages,), (page_bytes,) = (store._db.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))  # noqa: SLF001 - as above
    return int(pages * page_bytes)


if __name__ == "__main__":
    main("retention", measure, about=__doc__ or "", packages=("psycopg",))
