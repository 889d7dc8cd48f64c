"""A store together with the archives of its beginning: one log and one journal, from the first row on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from fleet_market.adapters.archive_file import Archive
from fleet_market.adapters.store_base import Reads, Row
from fleet_market.errors import StoreError
from fleet_market.ids import ZoneId
from fleet_market.ledger import Anchor, Entry, Event, Snapshot

SUFFIX, DIGITS = ".archive.gz", 12
"""Of the name of an archive: zone, number of the first event, ending."""


class _Numbered(Protocol):
    @property
    def seq(self) -> int: ...


_Kept = TypeVar("_Kept", bound=_Numbered)


class WholeStore(Reads):
    """Archives that follow on each other, and the store that follows on them; each archive is read from end to end first.

    Parameters
    ----------
    archives : iterable of Path
        At least one, in any order; what is in two of them counts once.
    store : Reads, optional

    Raises
    ------
    StoreError
        If one is damaged or of another market, or one is missing in between.
    """

    def __init__(self, archives: Iterable[Path], store: Reads | None = None) -> None:
        opened = sorted(((a, a.check().end) for a in map(Archive, archives)), key=lambda pair: pair[0].start.event_seq)
        self._archives: list[Archive] = []
        self._store, end = store, opened[0][0].start
        for archive, its_end in opened:
            if archive.start.event_seq > end.event_seq:
                _missing(end, archive.start, archive.path.name)
            if its_end.event_seq > end.event_seq:
                self._archives.append(archive)
                end = its_end
        if store is not None and (at := store.anchor()) != end:
            if at.event_seq > end.event_seq:
                _missing(end, at, "the store")
            self._insist_that_it_overlaps(store, end)

    def _insist_that_it_overlaps(self, store: Reads, end: Anchor) -> None:
        """Compare what is in both: an archive may have been written, and the store not have been shortened yet."""
        event = store.event_at(end.event_seq)
        if event is None or event.hash != end.event_hash:
            raise StoreError(f"{self._archives[-1].path}: is an archive of another market, or of another zone")

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Row]:
        return iter(()) if self._store is None else self._store._rows(query, parameters)  # noqa: SLF001 - passes it on

    def faults(self) -> list[str]:
        """Return what the store finds wrong with itself."""
        return [] if self._store is None else self._store.faults()

    def anchor(self) -> Anchor:
        """Return what the first archive follows: nothing, if none is missing before it."""
        return self._archives[0].start

    def opening(self) -> Snapshot | None:
        """Return the snapshot with which the first archive begins, None if it begins with the market."""
        return self._archives[0].opening()

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield those of the store."""
        return iter(()) if self._store is None else self._store.snapshots()

    def carried(self) -> tuple[Entry, ...]:
        """Return nothing: nothing is kept twice."""
        return ()

    def events(self, after: int = 0) -> Generator[Event]:
        """Yield the inputs in their order, those behind number `after`."""
        yield from self._joined(after, Archive.events, None if self._store is None else self._store.events)

    def journal(self, after: int = 0) -> Generator[Entry]:
        """Yield the rows of the journal, oldest first, those behind number `after`."""
        yield from self._joined(after, Archive.entries, None if self._store is None else self._store.journal)

    def _joined(
        self, after: int, rows: Callable[[Archive], Iterator[_Kept]], kept: Callable[[int], Iterator[_Kept]] | None
    ) -> Iterator[_Kept]:
        for archive in self._archives:
            for row in rows(archive):
                if row.seq > after:
                    after = row.seq
                    yield row
        if kept is not None:
            yield from kept(after)


def _missing(end: Anchor, start: Anchor, name: str) -> None:
    first, last = end.event_seq + 1, start.event_seq
    raise StoreError(f"events {first} to {last} are missing before {name}: name the archives that hold them")


def archives_in(folder: Path, zone: ZoneId) -> list[Path]:
    """Return the archives of a zone in a folder, oldest first."""
    return sorted(folder.glob(f"{zone}.{'[0-9]' * DIGITS}{SUFFIX}"))


def with_archives(store: Reads, archives: Sequence[Path]) -> Reads:
    """Return the store with the archives of all its beginning, the store itself if there are none.

    Raises
    ------
    StoreError
        As `WholeStore`, or if the first archive is missing.
    """
    if not archives:
        return store
    whole = WholeStore(archives, store)
    if missing := whole.anchor().event_seq:
        raise StoreError(f"events 1 to {missing} are missing before the first archive: name the archives that hold them")
    return whole
