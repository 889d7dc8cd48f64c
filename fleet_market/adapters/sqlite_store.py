"""The market's database in SQLite: one file, one writer, every commit on the disk before it counts.

WAL with ``synchronous=FULL``. One connection writes, and the process that holds it is alone: a lock on a side file
dies with the process. Besides keeping order, that avoids the rare WAL-reset corruption of SQLite before 3.51.3, which
needs two connections that write at the same instant. Readers open the file read-only.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any, Protocol, Self

from fleet_market.adapters.store_base import (
    EVENT,
    MOVE,
    OLD_EVENTS,
    OLD_JOURNAL,
    OLD_SNAPSHOTS,
    TABLES,
    Group,
    Reads,
    Row,
    insist_on_cut,
    insist_on_present,
    migrations,
    pending_migrations,
)
from fleet_market.errors import LedgerMismatchError, StoreError
from fleet_market.ledger import Balance, Cut, Event

log = logging.getLogger(__name__)

WAL_RESET_FIXED = (3, 51, 3)
BUSY_MS = 5000
CHECKED_BYTES = 64_000_000
"""Larger databases are not read from end to end at a start, which takes 2 s for a gigabyte: that is left to the audit."""
APPLICATION_ID = 0x464D4B54
""""FMKT": marks the file as ours, https://www.sqlite.org/pragma.html#pragma_application_id."""
HEADER = b"SQLite format 3\0"
_MOVE = MOVE.format(first="?", last="?")
_LOAD = {
    "event": "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "account": "INSERT INTO account VALUES (?, ?, ?, ?, ?)",
    "journal": "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "outbox": "INSERT INTO outbox (id, topic, payload, digest) VALUES (?, ?, ?, ?)",
    "archive": "INSERT INTO archive VALUES (?, ?, ?, ?, ?, ?, ?)",
    "head": "INSERT INTO head VALUES (?, ?, ?, ?, ?)",
    "snapshot": "INSERT INTO snapshot VALUES (?, ?)",
}


class Connection(Protocol):
    """What the store needs of a connection: `sqlite3.Connection` has it, and so has the disk that loses its power."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Any:
        """Run one statement; raises `sqlite3.Error`."""

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Run one statement once per row; raises `sqlite3.Error`."""

    def close(self) -> None:
        """Close."""


class SqliteReader(Reads):
    """Reads a database, while a market may be writing to it; use as a context manager. Sees one state of it."""

    def __init__(self, connection: Connection, path: Path) -> None:
        self._db, self.path = connection, path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the database at `path` read-only.

        Raises
        ------
        StoreError
            If it cannot be read, is none of ours, or its schema is not the one of this program.
        """
        if not path.is_file():
            raise StoreError(f"{path}: no such file: name the database of a market")
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            db.execute("PRAGMA query_only=ON")
            db.execute("BEGIN")
            insist_on_present(str(path), _version(db, path), migrations("sqlite"))
        except (sqlite3.DatabaseError, StoreError) as error:
            db.close()
            raise _told(path, error) from None
        return cls(db, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; may be called twice."""
        self._db.close()

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Row]:
        try:
            yield from self._db.execute(query, parameters)
        except sqlite3.Error as error:
            raise _told(self.path, error) from error

    def faults(self) -> list[str]:
        """Return what the database engine itself finds wrong: pages, indexes, constraints."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check(10)")]
            found += [f"{table} row {row} refers to nothing in {parent}" for table, row, parent, _
                      in self._db.execute("PRAGMA foreign_key_check")]  # fmt: skip
        except sqlite3.Error as error:
            return [str(error)]
        return [] if found == ["ok"] else [text for text in found if text != "ok"]

    def backup(self, target: Path) -> None:
        """Copy the whole database into the new file `target`, page by page, while a market may be writing.

        Raises
        ------
        StoreError
            If `target` exists or cannot be written.
        """
        if target.exists():
            raise StoreError(f"{target} exists: name a new file")
        if not isinstance(self._db, sqlite3.Connection):
            raise StoreError(f"{self.path} is not a file on a disk")
        self._db.execute("COMMIT")
        try:
            with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
                self._db.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")
            _sync(target)
        except (OSError, sqlite3.Error) as error:
            target.unlink(missing_ok=True)
            raise StoreError(f"{target}: {error}") from error
        finally:
            self._db.execute("BEGIN")


class SqliteStore(SqliteReader):
    """The market's only writer; use as a context manager. Implements `fleet_market.ports.LedgerStore`."""

    def __init__(
        self, connection: Connection, path: Path, lock: IO[str] | None = None, beside: Connection | None = None
    ) -> None:
        super().__init__(connection, path)
        self._lock = lock
        self._beside = beside or connection
        """Reads while the other one writes: on one connection a question would wait for the disk."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create the database at `path` and bring its schema up to date.

        Raises
        ------
        StoreError
            If another daemon has it open, the folder cannot be written, the file is no database or is damaged, or its
            schema is newer than this program.
        """
        lock = _lock(path)
        try:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.DatabaseError as error:
            lock.close()
            raise _told(path, error) from None
        try:
            prepare(db, path)
            uri = f"{path.resolve().as_uri()}?mode=ro"
            beside = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        except BaseException:
            db.close()
            lock.close()
            raise
        if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
            log.info("SQLite %s is older than 3.51.3: kept safe by writing from one connection", sqlite3.sqlite_version)
        return cls(db, path, lock, beside)

    def close(self) -> None:
        """Close the database and give up the lock; may be called twice."""
        self._beside.close()
        super().close()
        if self._lock is not None:
            self._lock.close()

    def commit(self, records: Sequence[object]) -> None:
        """Store all `records` (`StoreRecord`) in one transaction; on disk when this returns.

        Raises
        ------
        LedgerMismatchError
            If the database refuses a balance or arrives at another one than the ledger; nothing is stored.
        StoreError
            If the database cannot be written; nothing is stored.
        """
        try:
            with self._transaction():
                self._write(Group.of(records))
        except sqlite3.IntegrityError as error:
            raise LedgerMismatchError(f"the database refuses what the ledger decided: {error}") from error
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}: free the disk or mend the folder, then restart") from error

    def find_event(self, source: str, message_id: str) -> Event | None:
        """Return the input that `source` sent under `message_id`, None if there is none; does not wait for a commit."""
        try:
            found = self._beside.execute(EVENT, (source, message_id)).fetchone()
        except sqlite3.Error as error:
            raise _told(self.path, error) from error
        return None if found is None else Event.of(found)

    def load(self, source: Reads) -> None:
        """Fill this empty database with all that `source` holds, in one transaction.

        Raises
        ------
        StoreError
            If it is not empty, or cannot be written; nothing is stored.
        """
        try:
            if self._db.execute("SELECT EXISTS (SELECT 1 FROM event)").fetchone() != (0,):
                raise StoreError(f"{self.path}: holds a market: restore into a new database")
            with self._transaction():
                for table in TABLES:
                    self._db.executemany(_LOAD[table], source.rows(table))
        except sqlite3.Error as error:
            raise _told(self.path, error) from error

    def forget(self, cut: Cut) -> None:
        """Delete what lies in an archive, and record where the chains go on, in one transaction.

        The pages that become free are used again; the file becomes no smaller.

        Raises
        ------
        StoreError
            If the archive is not that of the beginning of this store, or the database cannot be written; nothing is
            deleted.
        """
        try:
            with self._transaction():
                insist_on_cut(self, cut)
                self._db.execute(_LOAD["archive"], (*cut.end.fields(), cut.file, cut.sha256))
                row = (cut.end.event_seq + 1, zlib.compress(cut.snapshot, level=1))
                self._db.execute(f"{_LOAD['snapshot']} ON CONFLICT DO NOTHING", row)
                self._db.execute(OLD_SNAPSHOTS)
                self._db.execute(OLD_EVENTS, (cut.end.event_seq,))
                self._db.execute(OLD_JOURNAL, (cut.end.journal_seq, cut.end.journal_seq))
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: nothing was archived: {error}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    def _write(self, group: Group) -> None:
        db = self._db
        db.executemany(_LOAD["event"], group.events)
        if group.accounts:
            db.executemany("INSERT INTO account (id) VALUES (?)", [(a,) for a in group.accounts])
        if group.journal:
            db.executemany(_LOAD["journal"], group.journal)
            moved = db.execute(_MOVE, (group.journal[0][0], group.journal[-1][0])).fetchall()
            group.check({row[0]: Balance(*row[1:]) for row in moved})
        if group.done:
            db.executemany("DELETE FROM outbox WHERE id = ?", [(i,) for i in group.done])
        if group.outbox:
            db.executemany(_LOAD["outbox"], group.outbox.values())
        if group.heads:
            db.executemany(_LOAD["head"], group.heads)
        if group.snapshots:
            db.executemany(_LOAD["snapshot"], group.snapshots)
            db.execute(OLD_SNAPSHOTS)


def prepare(db: Connection, path: Path, scripts: Sequence[Traversable] | None = None) -> None:
    """Set up a writing connection: durable, checked for damage, its schema up to date.

    Raises
    ------
    StoreError
        If the file is no database of ours, is damaged, cannot be written, or is newer than this program.
    """
    try:
        db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            db.execute(f"PRAGMA {pragma}")
        (pages,), (page_bytes,) = (db.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
        (sound,) = db.execute("PRAGMA quick_check(1)").fetchone() if pages * page_bytes <= CHECKED_BYTES else ("ok",)
        if sound != "ok":
            raise StoreError(f"{path}: the database is damaged ({' '.join(sound.split())}): restore the last backup")
        version = _version(db, path)
        for number, script in pending_migrations(str(path), version, scripts or migrations("sqlite")):
            db.execute("BEGIN IMMEDIATE")
            for statement in _statements(script):
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={number}")
            db.execute("COMMIT")
    except sqlite3.Error as error:
        raise _told(path, error) from error


def _version(db: Connection, path: Path) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (owner,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and owner != APPLICATION_ID:
        raise StoreError(f"{path}: this is a database of another program, or of an early version: use a new file")
    return int(version)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script, one at a time: `sqlite3.executescript` would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _told(path: Path, error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    text = str(error)
    if "malformed" in text or "corrupt" in text:
        return StoreError(f"{path}: the database is damaged ({text}): restore the last backup")
    return StoreError(f"{path}: {text}: use a writable folder with room and a database of this program")


def _sync(path: Path) -> None:
    for name, flags in ((path, os.O_RDWR), (path.parent, os.O_RDONLY)):
        descriptor = os.open(name, flags)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(path: Path) -> IO[str]:
    side = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = side.open("a+", encoding="ascii")
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: use a folder that can be written") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StoreError(
            f"{path}: another market daemon (process {holder}) has this database open: stop it first"
        ) from None
    try:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            lock.close()
        raise StoreError(f"{path}: {error.strerror}: use a folder that can be written and has room") from None
    return lock
