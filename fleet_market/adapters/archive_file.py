"""Archives: the beginning of a zone's event log and journal in one compressed file that proves itself.

A gzip file of JSON lines: what its first rows follow, the snapshot with which it begins (but for the very first archive),
the events, the rows of the journal, the signed heads of the days, the snapshot with which the store goes on, and what its
last rows are. Every row is chained to the one before it, so that a changed, lost or foreign one is found. The rows of the
journal have the form of `fleet-market ledger export`, and ``docs/audit/audit.py`` reads them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet_market.adapters.exports import EVENT_FIELDS, TRANSFER_FIELDS, event_of, head_row, text_of
from fleet_market.adapters.signing import verify
from fleet_market.errors import StoreError
from fleet_market.ids import ZoneId
from fleet_market.ledger import START, Anchor, Cut, Entry, Event, Head, Snapshot, head_faults
from fleet_market.ledger.journal import chain

FORMAT, VERSION = "fleet-market archive", 1
MAGIC = b"\x1f\x8b"
"""With which a gzip file begins."""
LEVEL = 6
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """What is to be archived, in the order in which it is written."""

    zone: ZoneId
    start: Anchor
    opening: bytes
    """Snapshot with which the events begin; empty for the first archive."""
    events: Iterable[Event]
    entries: Iterable[Entry]
    heads: Iterable[Head]
    end: Anchor
    closing: bytes
    """Snapshot of the event that follows."""


def write_archive(path: Path, content: Content) -> None:
    """Write an archive into the file `path`, and have it on the disk; equal contents give equal bytes.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with path.open("wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=LEVEL, mtime=0) as file:
            for row in _rows(content):
                file.write((json.dumps(row, separators=(",", ":"), ensure_ascii=True) + "\n").encode())
        raw.flush()
        os.fsync(raw.fileno())


def _rows(content: Content) -> Iterator[Row]:
    yield {"format": FORMAT, "version": VERSION, "zone": content.zone, **asdict(content.start)}
    if content.opening:
        yield {"row": "opening", "content": _packed(content.opening)}
    for event in content.events:
        yield {"row": "event", **dict(zip(EVENT_FIELDS, map(text_of, event.fields()), strict=True))}
    for entry in content.entries:
        yield {"row": "transfer", **dict(zip(TRANSFER_FIELDS, entry.fields(), strict=True))}
    for head in content.heads:
        yield head_row(head)
    yield {"row": "closing", "content": _packed(content.closing)}
    yield {"row": "end", **asdict(content.end)}


class Archive:
    """A file that `write_archive` made; nothing is believed of it before `check`.

    Parameters
    ----------
    path : Path

    Raises
    ------
    StoreError
        If it is no archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            first = next(self._lines())
            ours = (first.get("format"), first.get("version")) == (FORMAT, VERSION)
            self.zone, self.start = ZoneId(first["zone"]), _anchor(first)
        except (StopIteration, AttributeError, KeyError, ValueError, TypeError):
            ours = False
        if not ours:
            raise StoreError(f"{path}: is no archive, or one of a newer program")

    def events(self) -> Iterator[Event]:
        """Yield the events; raises `StoreError` here as below if a row is damaged."""
        for row in self._of("event"):
            yield event_of(row)

    def entries(self) -> Iterator[Entry]:
        """Yield the rows of the journal."""
        for row in self._of("transfer"):
            yield _entry(row)

    def opening(self) -> Snapshot | None:
        """Return the snapshot with which it begins, None if it begins with the market."""
        packed = next(self._of("opening"), None)
        event = next(self.events(), None)
        if packed is None or event is None:
            return None
        return Snapshot(event, self.start.event_hash, _unpacked(packed["content"]))

    def check(self) -> Cut:
        """Read all of it; return what it covers.

        Raises
        ------
        StoreError
            If a row does not follow from the one before it, or anything is missing.
        """
        try:
            return self._checked()
        except (AttributeError, KeyError, ValueError, TypeError, zlib.error) as error:
            raise StoreError(f"{self.path}: is damaged ({str(error)[:100]}): take another copy") from None

    def _checked(self) -> Cut:
        at, closing, heads = self.start, b"", list[Head]()
        hashes, ended = {at.journal_seq: at.journal_hash}, False
        for row in self._lines():
            match row.get("row"):
                case "event":
                    event = event_of(row)
                    if event.seq != at.event_seq + 1 or event.after(at.event_hash) != event.hash:
                        raise ValueError(f"event {at.event_seq + 1} does not follow from those before it")
                    at = Anchor(event.seq, event.hash, at.journal_seq, at.journal_hash, at.journal_ns)
                case "transfer":
                    entry = _entry(row)
                    if entry != chain(at.journal_hash, at.journal_seq + 1, entry.timestamp_ns, entry.transfer):
                        raise ValueError(f"journal row {at.journal_seq + 1} does not follow from those before it")
                    at = Anchor(at.event_seq, at.event_hash, entry.seq, entry.hash, entry.timestamp_ns)
                    hashes[entry.seq] = entry.hash
                case "head":
                    heads.append(_head(row))
                case "opening":
                    _unpacked(row["content"])
                case "closing":
                    closing = _unpacked(row["content"])
                case "end":
                    ended = _anchor(row) == at
        if faults := head_faults(heads, hashes.get, verify):
            raise ValueError(faults[0])
        if not ended or not closing or at.event_seq == self.start.event_seq:
            raise ValueError("its end is missing")
        with self.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Cut(self.start, at, closing, self.path.name, sha256)

    def _of(self, kind: str) -> Iterator[Row]:
        return (row for row in self._lines() if row.get("row") == kind)

    def _lines(self) -> Iterator[Row]:
        try:
            with gzip.open(self.path, "rb") as file:
                yield from map(json.loads, file)
        except (OSError, EOFError, zlib.error) as error:
            text = getattr(error, "strerror", None) or str(error)
            raise StoreError(f"{self.path}: cannot be read ({text}): take another copy") from None


def is_archive(path: Path) -> bool:
    """Return whether the file may be an archive: it is compressed; raises `OSError`."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _anchor(row: Row) -> Anchor:
    return Anchor(**{name: type(value)(row[name]) for name, value in asdict(START).items()})


def _entry(row: Row) -> Entry:
    return Entry.of(row[name] for name in TRANSFER_FIELDS)


def _head(row: Row) -> Head:
    return Head(row["day"], row["seq"], row["hash"], row["key_id"], bytes.fromhex(row["signature"]))


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, level=LEVEL)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
