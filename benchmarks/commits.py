"""Commands committed per second, alone and with 100 in flight, on SQLite and PostgreSQL; what an order costs on the disk.

A command is one transfer with its event, its reply and an outbox row, decided by the ledger, chained and durable. The
orders are those of a busy market of the product, replayed from its own log.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import Options, Row, main
from fleet_market.adapters.auditing import NoPlaces
from fleet_market.adapters.postgres_store import PostgresReader
from fleet_market.adapters.sqlite_store import SqliteReader
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.daemons.engine import Engine
from fleet_market.ledger import OutboxRow, StoreRecord
from fleet_market.market import Market, replay
from fleet_market.testing import postgres
from fleet_market.testing.books import Books
from fleet_market.testing.crashes import Silence
from fleet_market.testing.market_load import MarketLoad, Yard

IN_FLIGHT = 100
RATIO_GOAL, RATE_GOAL = 20.0, 8000.0
FAST_SYNC_S = 0.001
"""Where a sync takes less, the goal is the rate, else the ratio."""
ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 3.0, 1.0
ORDERS, QUICK_ORDERS = 2000, 150
SYNCS = 100
PAYLOAD = b"x" * 300
"""About the size of an award."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Commands per second and how long each waited."""

    per_s: float
    median_ms: float
    p99_ms: float


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if options.quick else (ROUNDS, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        sync_s = _sync_s(Path(folder))
        yield Row(
            "fdatasync of one page, median",
            1e3 * sync_s,
            "ms",
            note=f"on the disk of the temporary folder; SQLite {sqlite3.sqlite_version}",
        )
        yield from _sqlite(Path(folder), rounds, seconds, sync_s)
        yield from _orders("SQLite", Path(folder) / "orders.db", QUICK_ORDERS if options.quick else ORDERS)
    with postgres.cluster() as server:
        yield from _rates("PostgreSQL", [_round(server.address, seconds, server) for _ in range(rounds)])
        _empty(server)
        yield from _orders("PostgreSQL", server.address, QUICK_ORDERS if options.quick else ORDERS)


def _sync_s(folder: Path) -> float:
    took = []
    descriptor = os.open(folder / "sync", os.O_CREAT | os.O_WRONLY)
    for number in range(SYNCS):
        os.pwrite(descriptor, bytes(4096), 4096 * number)
        begun = time.perf_counter()
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - begun)
    os.close(descriptor)
    return median(took)


def _sqlite(folder: Path, rounds: int, seconds: float, sync_s: float) -> Iterable[Row]:
    pairs = [_round(folder / f"{number}.db", seconds) for number in range(rounds)]
    yield from _rates("SQLite", pairs)
    ratio = median(many.per_s / one.per_s for one, many in pairs)
    fast = sync_s < FAST_SYNC_S
    note = "100 in flight against one by one, the same disk, in turns"
    yield Row("SQLite: group commit gains", ratio, "x", None if fast else RATIO_GOAL, "higher", note)
    rate = median(many.per_s for _, many in pairs)
    note = f"the goal where a sync takes under {1e3 * FAST_SYNC_S:g} ms; else the gain is it"
    yield Row("SQLite: commands with 100 in flight", rate, "1/s", RATE_GOAL if fast else None, "higher", note)


def _rates(name: str, pairs: list[tuple[Rate, Rate]]) -> Iterable[Row]:
    for what, rates in (("one by one", [one for one, _ in pairs]), ("100 in flight", [many for _, many in pairs])):
        per_s = sorted(rate.per_s for rate in rates)
        wait = f"latency {median(r.median_ms for r in rates):.1f} ms, p99 {median(r.p99_ms for r in rates):.1f} ms"
        note = f"{per_s[0]:.0f} to {per_s[-1]:.0f}; {wait}"
        yield Row(f"{name}, {what}: commands committed", median(per_s), "1/s", better="higher", note=note)


def _round(address: str | Path, seconds: float, server: postgres.Cluster | None = None) -> tuple[Rate, Rate]:
    if server is not None:
        _empty(server)
    books = Books()
    with open_store(address) as store:
        one = asyncio.run(_rate(StoreWriter(store), books, 1, seconds))
        many = asyncio.run(_rate(StoreWriter(store), books, IN_FLIGHT, seconds))
        if (there := sum(1 for _ in store.events())) != books.seq:
            raise RuntimeError(f"{books.seq} commands were acknowledged, {there} are there")
    return one, many


def _record(books: Books) -> StoreRecord:
    number = books.seq + 1
    row = OutboxRow(f"award:{number}", "mkt/1/to/r1/award", PAYLOAD)
    return books.gift(5, reply=("mkt/1/out/ann/order", PAYLOAD), outbox=(row,), done=(f"award:{number - 200}",))


async def _rate(writer: StoreWriter, books: Books, in_flight: int, seconds: float) -> Rate:
    waits: list[float] = []
    async with writer:
        begun = time.perf_counter()
        end = begun + seconds

        async def keep_one_in_flight() -> None:
            while (asked := time.perf_counter()) < end:
                await writer.submit(_record(books))
                waits.append(time.perf_counter() - asked)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(keep_one_in_flight())
        took = time.perf_counter() - begun
    waits.sort()
    return Rate(len(waits) / took, 1e3 * median(waits), 1e3 * waits[int(0.99 * len(waits))])


def _orders(name: str, address: str | Path, orders: int) -> Iterable[Row]:
    begun = time.perf_counter()
    inputs = asyncio.run(_trade(address, orders))
    took = time.perf_counter() - begun
    with open_reader(address) as reader:
        size = _size(reader)
        begun = time.perf_counter()
        at = replay(Market(NoPlaces()), reader.events())
        again = time.perf_counter() - begun
    each = f"{orders} orders, {inputs / orders:.1f} stored inputs each"
    yield Row(f"{name}: bytes kept per order", size / orders, "B", note=f"{each}; tables and indexes")
    yield Row(
        f"{name}: whole engine, stored inputs",
        inputs / took,
        "1/s",
        better="higher",
        note="market, log and load in one process",
    )
    yield Row(
        f"{name}: replay of the log",
        at.seq / again,
        "1/s",
        better="higher",
        note="every decision compared; a start does it",
    )


async def _trade(address: str | Path, orders: int) -> int:
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            engine = Engine(Market(Yard()), store, writer)
            engine.recover()
            engine.epoch += 1
            async with asyncio.TaskGroup() as tasks:
                effects = tasks.create_task(engine.publish_effects(Silence()))
                load = MarketLoad(engine.market)
                for command in load.opening(1):
                    await engine.take(command)
                while len(engine.market.state.orders) < orders:
                    for command in load.round():
                        await engine.take(command)
                    await asyncio.sleep(0)
                await engine.settled()
                effects.cancel()
            return engine.inputs


def _size(reader: SqliteReader | PostgresReader) -> int:
    if isinstance(reader, PostgresReader):
        return reader.size_bytes()
    with _packed(reader) as path:
        return path.stat().st_size


@contextmanager
def _packed(reader: SqliteReader) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        reader.backup(Path(folder) / "copy")
        yield Path(folder) / "copy"


def _empty(server: postgres.Cluster) -> None:
    import psycopg  # noqa: PLC0415 - an extra

    with psycopg.connect(server.address, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS fleet_market CASCADE")


if __name__ == "__main__":
    main("commits", measure, about=__doc__ or "", packages=("psycopg",))
