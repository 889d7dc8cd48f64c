"""Retention while a market runs: every day, what is old goes into archives, a few thousand inputs at a time.

Replaying, writing, syncing and reading back is the work of a process of its own, of low priority: it only reads the store,
and leaves a file. The daemon deletes what lies in that file, in one transaction between two commits, and so is the only one
that writes to the store, as ever. Whatever is killed in between, the next attempt finds the file and goes on with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fleet_market.adapters.retention import archive, archive_name
from fleet_market.adapters.store_base import Reads
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader
from fleet_market.adapters.whole_store import archives_in, with_archives
from fleet_market.errors import FleetMarketError, StoreError
from fleet_market.ids import ZoneId
from fleet_market.ledger import Anchor, Cut
from fleet_market.ports import Clock

log = logging.getLogger(__name__)

EVERY_S = 86_400.0
FIRST_S = 5.0
"""After a start there is other work to do."""
PAUSE_S = 2.0
"""Between one archive and the next."""
MAX_INPUTS = 4_500
"""In one archive: deleting them takes some 60 ms."""
NICE = 10
NS_PER_DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """What is archived, and where to."""

    folder: Path
    age_days: float
    """Of market time: what is younger stays."""


class Forgets(Protocol):
    """A store whose beginning may leave; those of `fleet_market.adapters.stores` are."""

    def forget(self, cut: Cut) -> None:
        """Delete what lies in an archive."""


class Archiving:
    """Archives what is old of one zone, now and every day.

    Parameters
    ----------
    retention : Retention
    database : Path or str
        What `store` was opened from.
    zone : ZoneId
    store : Forgets
        Of the daemon.
    writer : StoreWriter
        The only one that writes to `store`.
    clock : Clock
        Market time.
    max_inputs : int
        In one archive, or as many as there are up to the next checkpoint.
    """

    def __init__(
        self,
        retention: Retention,
        database: Path | str,
        zone: ZoneId,
        store: Forgets,
        writer: StoreWriter,
        clock: Clock,
        max_inputs: int = MAX_INPUTS,
    ) -> None:
        self._retention, self._database, self._zone, self._max_inputs = retention, database, zone, max_inputs
        self._store, self._writer, self._clock = store, writer, clock

    async def run(self) -> None:
        """Archive until cancelled; what goes wrong is logged, and tried again the next day."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                while await self.archive_one():  # noqa: ASYNC110 - there may be more
                    await asyncio.sleep(PAUSE_S)
            except FleetMarketError as error:
                log.error("zone %s: not archived: %s", self._zone, error)  # noqa: TRY400 - told
            await asyncio.sleep(EVERY_S)

    async def archive_one(self) -> bool:
        """Archive a few thousand inputs, if so many are old; return whether there were any.

        Raises
        ------
        StoreError
            If they cannot be written to an archive, or not be deleted; they are then still in the store.
        """
        before_ns = self._clock.now_ns() - round(self._retention.age_days * NS_PER_DAY)
        cut = await _in_a_process({
            "database": str(self._database), "zone": self._zone, "folder": str(self._retention.folder),
            "before_ns": before_ns, "max_inputs": self._max_inputs,
        })  # fmt: skip
        if cut is None:
            return False
        await asyncio.shield(self._writer.between(partial(self._store.forget, cut)))
        log.info("zone %s: events %d to %d are archived in %s", self._zone, cut.start.event_seq + 1, cut.end.event_seq,
                 cut.file, extra={"archived": cut.end.event_seq - cut.start.event_seq})  # fmt: skip
        return True


async def _in_a_process(job: dict[str, Any]) -> Cut | None:
    """Run `main` in a process of its own, which ends with this one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, told = await process.communicate(json.dumps(job).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise StoreError((told.decode(errors="replace").strip().splitlines() or ["the process that archives died"])[-1])
    return _read(json.loads(out)) if out.strip() else None


def main() -> None:
    """Make the next archive: the job comes on standard input, what may be deleted then goes to standard output."""
    os.nice(NICE)
    try:
        cut = next_archive(json.load(sys.stdin))
    except FleetMarketError as error:
        sys.exit(str(error))
    if cut is not None:
        sys.stdout.write(json.dumps(_written(cut)))


def next_archive(job: dict[str, Any]) -> Cut | None:
    """Write the next archive of a zone, or find the one that has been written; None if nothing is old enough.

    Raises
    ------
    FleetMarketError
        If the store cannot be read or the archive not be written.
    """
    folder, zone = Path(job["folder"]), ZoneId(job["zone"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}: use a folder that can be written") from None
    with open_reader(job["database"], zone) as store:
        target = folder / archive_name(zone, store.anchor())
        whole = partial(_whole, store, folder, zone)
        return archive(store, target, zone, job["before_ns"], max_inputs=job["max_inputs"], whole=whole)


def _whole(store: Reads, folder: Path, zone: ZoneId) -> Reads:
    return with_archives(store, archives_in(folder, zone))


def _written(cut: Cut) -> dict[str, Any]:
    snapshot = base64.b64encode(zlib.compress(cut.snapshot, level=1)).decode()
    return {"start": cut.start.fields(), "end": cut.end.fields(), "snapshot": snapshot, "file": cut.file,
            "sha256": cut.sha256}  # fmt: skip


def _read(row: dict[str, Any]) -> Cut:
    snapshot = zlib.decompress(base64.b64decode(row["snapshot"]))
    return Cut(Anchor(*row["start"]), Anchor(*row["end"]), snapshot, row["file"], row["sha256"])


if __name__ == "__main__":
    main()
