"""How long the zones of a dead market daemon stand still.

Three daemons, processes of their own, share twelve zones over PostgreSQL and Mosquitto; a robot and a customer trade in
each zone. One daemon is killed with kill -9; in a second run it is frozen (SIGSTOP) until its zones clear elsewhere, and
then woken up. Measured is the time from the signal to the first batch that is cleared under the next auctioneer, in each of
its zones. At the end every order must be over and every zone's books closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.report import Options, Row, main
from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.ids import ZoneId
from fleet_market.testing import postgres
from fleet_market.testing.takeover import Books, Town, read_books

ROOT = Path(__file__).parents[1]
HOST, DAEMONS, ZONES, QUICK_ZONES = "127.0.0.1", 3, 12, 6
GOAL_S, PATIENCE_S = 15.0, 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one death showed."""

    still_s: list[float]
    """Of each zone of the dead daemon: from the signal to the next cleared batch."""
    others_s: float
    """Longest time between two batches in a zone of another daemon."""
    books: list[Books]
    posted: int
    stale: int
    cpu_s: float


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    zones = QUICK_ZONES if options.quick else ZONES
    with postgres.cluster() as server:
        for what, how in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
            if options.quick and how is signal.SIGSTOP:
                continue
            runs = []
            for seed in options.seeds:
                _empty(server.address)
                runs.append(asyncio.run(_run(server.address, zones, how, seed)))
            yield from _rows(what, zones, runs)


def _rows(what: str, zones: int, runs: list[Run]) -> Iterable[Row]:
    still = [s for run in runs for s in run.still_s]
    books = [b for run in runs for b in run.books]
    note = (
        f"{DAEMONS} daemons, {zones} zones; {len(still)} zones of {len(runs)} {what} daemons; median {median(still):.1f} s"
    )
    yield Row(f"daemon {what}: its zones clear again within, worst", max(still), "s", GOAL_S, note=note)
    yield Row(
        f"daemon {what}: longest pause in a zone of another", max(run.others_s for run in runs), "s",
        note="also zones that were given away to even out",
    )  # fmt: skip
    closed = f"{sum(run.posted for run in runs)} orders posted, {sum(b.settled for b in books)} paid"
    yield Row(f"daemon {what}: zones whose books are not closed", sum(not b.closed for b in books), "", 0.0, note=closed)
    yield Row(f"daemon {what}: orders that are not over", sum(len(b.open_orders) for b in books), "", 0.0)
    yield Row(f"daemon {what}: orders paid twice", sum(len(b.paid_twice) for b in books), "", 0.0)
    yield Row(f"daemon {what}: credits left in escrow", sum(b.escrow_uc for b in books) / 1e6, "credits", 0.0)
    yield Row(
        f"daemon {what}: awards of a former auctioneer", sum(run.stale for run in runs), "", note="robots ignore them"
    )
    yield Row(f"daemon {what}: processor time of all processes", sum(run.cpu_s for run in runs) / len(runs), "s")


async def _run(database: str, count: int, how: signal.Signals, seed: int) -> Run:
    zones = [ZoneId(f"z{n + 1}") for n in range(count)]
    cpu = _cpu_s()
    with tempfile.TemporaryDirectory() as text, _mqtt(Path(text)) as port:
        town = Town(Path(text), zones, database, HOST, port)
        async with town.trading(DAEMONS):
            shops = town.business.shops
            await town.until(town.even, PATIENCE_S, "every zone is open, shared evenly")
            await town.until(lambda: all(shop.settled for shop in shops.values()), PATIENCE_S, "every zone has settled")
            victim = town.daemons[seed % DAEMONS]
            orphans = town.zones_of(victim)
            at = victim.signal(how)
            again = lambda: all(shops[ZoneId(zone)].first_clear_after(at) for zone in orphans)  # noqa: E731
            await town.until(again, PATIENCE_S, "the zones of the dead daemon clear again")
            still = [(shops[ZoneId(zone)].first_clear_after(at) or at) - at for zone in orphans]
            if how is signal.SIGSTOP:
                victim.signal(signal.SIGCONT)
                await town.until(town.even, PATIENCE_S, "the daemon that was frozen has its share again")
            await town.settle(PATIENCE_S)
            pauses = [_longest(shops[zone].cleared, at) for zone in zones if zone not in orphans]
            posted = sum(shop.posted for shop in shops.values())
        books = [read_books(database, zone) for zone in zones]
        for zone, left in zip(zones, books, strict=True):
            if not left.closed:
                print(zone, left)
        return Run(still, max(pauses), books, posted, town.business.stale_awards, _cpu_s() - cpu)


def _longest(cleared: list[tuple[float, int]], since: float) -> float:
    times = [at for at, _ in cleared if at >= since]
    return max((b - a for a, b in pairwise(times)), default=0.0)


def _cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _empty(address: str) -> None:
    import psycopg  # noqa: PLC0415 - an extra

    with psycopg.connect(address, autocommit=True) as db:
        for (schema,) in db.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'fleet_market%'").fetchall():
            db.execute(psycopg.sql.SQL("DROP SCHEMA {} CASCADE").format(psycopg.sql.Identifier(schema)))


@contextlib.contextmanager
def _mqtt(folder: Path) -> Iterator[int]:
    """Run a Mosquitto; yield its port."""
    mosquitto, port = mosquitto_adapter.install(ROOT / ".cache/mosquitto", say=print), mosquitto_adapter.free_port()
    config = mosquitto_adapter.write_config(folder / "mosquitto", port)
    process = subprocess.Popen([mosquitto.path, "-c", config], env=mosquitto.environment(), stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main("takeover", measure, about=__doc__ or "", seeds=3, packages=("aiomqtt", "psycopg"))
