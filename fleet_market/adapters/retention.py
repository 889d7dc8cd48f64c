"""What is old leaves the store: into an archive that is synced and verified first, whole checkpoints at a time."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fleet_market.adapters.archive_file import Archive, Content, write_archive
from fleet_market.adapters.auditing import NoPlaces, begin
from fleet_market.adapters.store_base import Reads, insist_on_cut
from fleet_market.adapters.whole_store import DIGITS, SUFFIX
from fleet_market.errors import StoreError
from fleet_market.ids import ZoneId
from fleet_market.ledger import Anchor, Cut, Entry, Event, Snapshot
from fleet_market.market import Market, Outcome, Replayed, SnapshotError, replay
from fleet_market.market.snapshot import read_snapshot

log = logging.getLogger(__name__)

NO_LIMIT = 2**62
PART, OLD_PART_S = ".part", 3600.0
"""Ending of an archive that is being written, and when nobody writes to it any more."""


@dataclass(slots=True)
class _Search:
    """Looks for the last checkpoint at which the log may be cut, while it is replayed up to there."""

    market: Market
    start: Anchor
    stored: dict[int, Snapshot]
    """Snapshots that the store has, by their event."""
    last_seq: int
    """The cut is at this event at the latest."""
    before_ns: int
    max_inputs: int
    found: tuple[Anchor, bytes] | None = None
    """Where the log may be cut, and the snapshot with which it then begins."""
    _previous: Event | None = field(default=None)

    def wanted(self, events: Generator[Event]) -> Iterator[Event]:
        """Yield the events to be looked at."""
        with closing(events):
            for event in events:
                over = event.seq - self.start.event_seq > self.max_inputs and self.found is not None
                if event.seq > self.last_seq or event.now_ns >= self.before_ns or over:
                    return
                yield event

    def look(self, event: Event, outcome: Outcome) -> None:
        """Look at an event that has been replayed."""
        previous, self._previous = self._previous, event
        if previous is None or event.seq <= self.start.event_seq + 1:
            return
        content = outcome.snapshot
        if event.seq in self.stored and not is_snapshot_of(content, event):
            content = self.stored[event.seq].content
        if not content or not is_snapshot_of(content, event):
            return
        ledger = self.market.ledger if content is outcome.snapshot else read_snapshot(content).ledger
        end = Anchor(previous.seq, previous.hash)
        if (last := ledger.last) is not None:
            end = Anchor(previous.seq, previous.hash, ledger.rows, last.hash, last.timestamp_ns)
        self.found = end, content


def is_snapshot_of(content: bytes, event: Event) -> bool:
    """Return whether `content` is the snapshot that was taken with `event`: its SHA-256 is in the chained log."""
    return bool(content) and Outcome(snapshot=content).digest() == event.effects


def find_cut(
    store: Reads, before_ns: int, *, max_inputs: int = NO_LIMIT, whole: Callable[[], Reads] | None = None
) -> tuple[Anchor, bytes] | None:
    """Return up to where the store may be archived, and the snapshot with which it then begins; None if nothing may.

    Cut is right before the last checkpoint that is older than `before_ns` (market time) and no newer than the
    newest-but-one snapshot, so that a start finds all that it needs. The inputs up to there are replayed.

    Parameters
    ----------
    max_inputs : int
        Stop at the first checkpoint after so many.
    whole : callable, optional
        Gives the store with its archives, for a store whose first snapshot is of another version of this program.

    Raises
    ------
    StoreError, ReplayError
        If the log is damaged: nothing is archived of such a store.
    """
    newest = list(store.snapshots())
    if len(newest) < 2:
        return None
    start, source, market = store.anchor(), store, Market(NoPlaces())
    try:
        since = begin(market, store)
    except SnapshotError as error:
        if whole is None:
            raise StoreError(f"{error}: name the archives of this store, its log is replayed with them") from None
        source, since = whole(), Replayed()
        market.reset()
    search = _Search(market, start, {s.event.seq: s for s in newest}, newest[1].event.seq, before_ns, max_inputs)
    replay(market, search.wanted(source.events(since.seq)), since=since, each=search.look)
    return search.found


def archive(
    store: Reads,
    target: Path,
    zone: ZoneId,
    before_ns: int,
    *,
    max_inputs: int = NO_LIMIT,
    whole: Callable[[], Reads] | None = None,
) -> Cut | None:
    """Write the beginning of `store` to the new file `target`, on the disk and read back; the store is not changed.

    If `target` is there already, and is an archive of just this beginning, it is verified and used: something came between
    when it was written and the store was to be shortened.

    Returns
    -------
    Cut or None
        For the store's `forget`; None if nothing is old enough.

    Raises
    ------
    StoreError
        If it cannot be written, or `target` is something else.
    """
    try:
        if not target.exists():
            found = find_cut(store, before_ns, max_inputs=max_inputs, whole=whole)
            if found is None:
                return None
            _write(store, target, zone, *found)
        cut = Archive(target).check()
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}: use a folder with room that can be written") from None
    insist_on_cut(store, cut)
    event = store.event_at(cut.end.event_seq + 1)
    if event is None or not is_snapshot_of(cut.snapshot, event):
        raise StoreError(f"{target}: its last snapshot does not belong to event {cut.end.event_seq + 1} of the store")
    return cut


def _write(store: Reads, target: Path, zone: ZoneId, end: Anchor, closing: bytes) -> None:
    start, opening = store.anchor(), store.opening()
    content = Content(
        zone=zone,
        start=start,
        opening=b"" if opening is None else opening.content,
        events=_events(store, end.event_seq),
        entries=_entries(store, end.journal_seq),
        heads=[head for head in store.heads() if start.journal_seq < head.seq <= end.journal_seq],
        end=end,
        closing=closing,
    )
    _clear(target)
    part = target.with_name(f"{target.name}.{os.getpid()}{PART}")
    try:
        write_archive(part, content)
        Archive(part).check()
        os.link(part, target)  # where another process was faster, its archive is never replaced
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _clear(target: Path) -> None:
    """Remove what killed processes have left of this archive."""
    for part in target.parent.glob(f"{target.name}.*{PART}"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > OLD_PART_S:
                part.unlink()


def _events(store: Reads, last: int) -> Iterator[Event]:
    with closing(store.events()) as events:
        for event in events:
            if event.seq > last:
                return
            yield event


def _entries(store: Reads, last: int) -> Iterator[Entry]:
    with closing(store.journal()) as entries:
        for entry in entries:
            if entry.seq > last:
                return
            yield entry


def archive_name(zone: ZoneId, start: Anchor) -> str:
    """Return the name of the archive that begins behind `start`: a second attempt finds what the first one wrote."""
    return f"{zone}.{start.event_seq + 1:0{DIGITS}d}{SUFFIX}"


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
