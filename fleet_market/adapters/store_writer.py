"""One thread that writes: it commits whatever is queued in one transaction, so that one disk sync serves all of it."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import Self

from fleet_market.errors import StoreError
from fleet_market.ledger import StoreRecord
from fleet_market.ports import LedgerStore

MAX_GROUP = 500
"""Records in one transaction."""
MAX_QUEUED = 10_000

_Work = Callable[[], None]
_Job = tuple[StoreRecord | _Work, asyncio.Future[None]]


class StoreWriter:
    """Adaptive group commit: latency stays at a few disk syncs, throughput grows with the load. An async context manager.

    A failed commit is raised to everyone who waits and to everyone who comes: the caller must stop and recover, for the
    state in memory is ahead of the disk.

    Parameters
    ----------
    store : LedgerStore
    observe : callable
        Is told after every commit, in the event loop, how many records it had and how many seconds it took.
    """

    def __init__(self, store: LedgerStore, observe: Callable[[int, float], None] = lambda _records, _seconds: None) -> None:
        self._store, self._observe = store, observe
        self._jobs: queue.Queue[list[_Job] | None] = queue.Queue()
        self._gathered: list[_Job] = []
        self._queued = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer")
        self.commits = 0
        self.records = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._hand_over()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def submit(self, record: StoreRecord) -> asyncio.Future[None]:
        """Queue `record`; the future is done when it is on the disk.

        All that is queued before the event loop comes round goes to the writer at once: handed over one by one, the first
        would get a sync of its own while the others wait.

        Raises
        ------
        StoreError
            If the queue is full, or an earlier commit has failed.
        """
        if self._failure is not None:
            raise StoreError("an earlier commit has failed: restart to recover") from self._failure
        if self._queued >= MAX_QUEUED:
            raise StoreError(f"{MAX_QUEUED} records wait for the disk: the store is too slow for the load")
        return self._queue(record)

    def between(self, work: _Work) -> asyncio.Future[None]:
        """Have `work` done by the writing thread between two commits; the future is done, or fails, as it does.

        What is queued behind it waits, so it should be short. If it fails, the writer goes on.
        """
        return self._queue(work)

    def _queue(self, what: StoreRecord | _Work) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append((what, future))
        self._queued += 1
        return future

    def _hand_over(self) -> None:
        if self._gathered:
            self._jobs.put(self._gathered)
            self._gathered = []

    def _run(self) -> None:
        running = True
        while running:
            waiting = [self._jobs.get()]
            while not self._jobs.empty():
                waiting.append(self._jobs.get())
            running = None not in waiting
            jobs = [job for handed in waiting if handed is not None for job in handed]
            for are_records, group in groupby(jobs, key=lambda job: isinstance(job[0], StoreRecord)):
                same = list(group)
                for start in range(0, len(same), MAX_GROUP):
                    (self._commit if are_records else self._do)(same[start : start + MAX_GROUP])

    def _do(self, jobs: list[_Job]) -> None:
        for work, future in jobs:
            error: BaseException | None = None
            try:
                if not isinstance(work, StoreRecord):
                    work()
            except BaseException as failure:  # noqa: BLE001 - who waits must hear of it
                error = failure
            self._loop.call_soon_threadsafe(self._resolve, [future], error)

    def _commit(self, jobs: list[_Job]) -> None:
        error = self._failure
        if error is None:
            try:
                begun = time.perf_counter()
                self._store.commit([record for record, _ in jobs])
                seconds = time.perf_counter() - begun
                self.commits += 1
                self.records += len(jobs)
                self._loop.call_soon_threadsafe(self._observe, len(jobs), seconds)
            except BaseException as failure:  # noqa: BLE001 - whatever it was, every waiter must hear of it
                error = self._failure = failure
        self._loop.call_soon_threadsafe(self._resolve, [future for _, future in jobs], error)

    def _resolve(self, futures: list[asyncio.Future[None]], error: BaseException | None) -> None:
        self._queued -= len(futures)
        for future in futures:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # seen: asyncio would print a traceback for each record that nobody waits for
