"""The market's database in SQLite: one file, one writer, every commit on the disk before it counts.

WAL with ``synchronous=FULL``. One connection writes, and the process that holds it is alone: a lock on a side file
dies with the process. Besides keeping order, that avoids the rare WAL-reset corruption of SQLite before 3.51.3, which
needs two connections that write at the same instant. Readers open the file read-only.
"""

from __future__ import annotations

import csv
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Self

from fleet_market.errors import LedgerMismatchError, StoreError
from fleet_market.ids import AccountId, TransferId
from fleet_market.ledger import Balance, Entry, Event, OutboxRow, StoreRecord, Transfer, TransferKind
from fleet_market.ledger.ledger import move

log = logging.getLogger(__name__)

WAL_RESET_FIXED = (3, 51, 3)
BUSY_MS = 5000
MAX_REPLIES = 100_000
CSV_HEADER = ("seq", "timestamp_ns", "id", "kind", "debit", "credit", "amount_uc", "pending", "reference", "hash")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start finds in the database."""

    events: tuple[Event, ...]
    outbox: tuple[OutboxRow, ...]
    journal: tuple[Entry, ...]
    balances: dict[AccountId, Balance]
    replies: dict[tuple[str, str], tuple[str, bytes] | None]
    """Answers given, by sender and message id; the newest `MAX_REPLIES`."""


class SqliteStore:
    """The market's only writer; use as a context manager. Implements `fleet_market.ports.LedgerStore`."""

    def __init__(self, connection: sqlite3.Connection, lock: IO[str], path: Path) -> None:
        self._db, self._lock, self.path = connection, lock, path

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
            db = _connect(path)
        except sqlite3.DatabaseError as error:
            lock.close()
            raise StoreError(f"{path}: {error}: use a writable folder and a database of this program") from None
        except StoreError:
            lock.close()
            raise
        if sqlite3.sqlite_version_info < WAL_RESET_FIXED:
            log.info("SQLite %s is older than 3.51.3: kept safe by writing from one connection", sqlite3.sqlite_version)
        return cls(db, lock, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and give up the lock; may be called twice."""
        self._db.close()
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
            self._db.execute("BEGIN IMMEDIATE")
            for record in records:
                if isinstance(record, StoreRecord):
                    self._write(record)
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.IntegrityError):
                raise LedgerMismatchError(f"the database refuses what the ledger decided: {error}") from error
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{self.path}: {error}") from error
            raise

    def _write(self, record: StoreRecord) -> None:
        event, (topic, payload) = record.event, record.reply or (None, None)
        self._db.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (event.seq, event.now_ns, event.source, event.message_id, event.sid, event.body, topic, payload),
        )
        self._db.executemany("INSERT INTO account (id) VALUES (?)", [(a,) for a in record.accounts])
        for entry in record.entries:
            self._post(entry)
        for account_id, balance in record.balances:
            if (stored := self._balance(account_id)) != balance:
                raise LedgerMismatchError(f"{account_id}: the ledger says {balance}, the database {stored}")
        self._db.executemany(
            "INSERT INTO outbox (id, topic, payload) VALUES (?, ?, ?)", [(o.id, o.topic, o.payload) for o in record.outbox]
        )
        self._db.executemany("DELETE FROM outbox WHERE id = ?", [(i,) for i in record.done])

    def _post(self, entry: Entry) -> None:
        t, held = entry.transfer, 0
        if t.pending is not None:
            row = self._db.execute("SELECT amount_uc FROM journal WHERE id = ?", (t.pending,)).fetchone()
            held = row[0] if row else 0
        self._db.execute(
            "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (entry.seq, entry.timestamp_ns, t.id, t.kind, t.debit, t.credit, t.amount_uc, t.pending, t.reference,
             t.expires_ns, entry.hash),
        )  # fmt: skip
        touched = {t.debit: self._balance(t.debit), t.credit: self._balance(t.credit)}
        move(touched, t, held)
        for account_id, b in touched.items():
            self._db.execute(
                "UPDATE account SET debits_posted=?, credits_posted=?, debits_pending=?, credits_pending=? WHERE id=?",
                (b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending, account_id),
            )

    def _balance(self, account_id: AccountId) -> Balance:
        row = self._db.execute(
            "SELECT debits_posted, credits_posted, debits_pending, credits_pending FROM account WHERE id = ?", (account_id,)
        ).fetchone()
        if row is None:
            raise LedgerMismatchError(f"{account_id}: the database has no such account")
        return Balance(*row)

    def recover(self) -> Recovered:
        """Return everything a start needs."""
        return Recovered(
            tuple(
                Event(*row)
                for row in self._db.execute("SELECT seq, now_ns, source, message_id, sid, body FROM event ORDER BY seq")
            ),
            tuple(OutboxRow(*row) for row in self._db.execute("SELECT id, topic, payload FROM outbox ORDER BY position")),
            tuple(read_journal(self._db)),
            {
                AccountId(row[0]): Balance(*row[1:])
                for row in self._db.execute(
                    "SELECT id, debits_posted, credits_posted, debits_pending, credits_pending FROM account ORDER BY id"
                )
            },
            {
                (row[0], row[1]): None if row[2] is None else (row[2], row[3])
                for row in self._db.execute(
                    "SELECT source, message_id, reply_topic, reply_payload FROM"
                    " (SELECT * FROM event WHERE message_id IS NOT NULL ORDER BY seq DESC LIMIT ?) ORDER BY seq",
                    (MAX_REPLIES,),
                )
            },
        )


def read_journal(db: sqlite3.Connection) -> Iterator[Entry]:
    """Yield the rows of the journal, oldest first."""
    for row in db.execute("SELECT * FROM journal ORDER BY seq"):
        seq, stamp, id_, kind, debit, credit, amount, pending, reference, expires, digest = row
        transfer = Transfer(
            TransferId(id_), TransferKind(kind), AccountId(debit), AccountId(credit), amount,
            None if pending is None else TransferId(pending), reference, expires,
        )  # fmt: skip
        yield Entry(seq, stamp, transfer, digest)


def export_csv(database: Path, target: Path) -> int:
    """Write the journal to a CSV file while the market may be running; return the number of rows."""
    db = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    try:
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(CSV_HEADER)
            count = 0
            for count, e in enumerate(read_journal(db), start=1):  # noqa: B007 - the count is the result
                t = e.transfer
                row = (
                    e.seq,
                    e.timestamp_ns,
                    t.id,
                    t.kind,
                    t.debit,
                    t.credit,
                    t.amount_uc,
                    t.pending or "",
                    t.reference,
                    e.hash,
                )
                writer.writerow(row)
            return count
    finally:
        db.close()


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
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        db.execute(f"PRAGMA {pragma}")
    (sound,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise StoreError(f"{path}: the database is damaged ({sound}): restore the last backup")
    _migrate(db, path)
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    scripts = sorted(
        (f for f in resources.files("fleet_market.adapters").joinpath("sql/sqlite").iterdir() if f.name.endswith(".sql")),
        key=lambda f: f.name,
    )
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(scripts):
        raise StoreError(f"{path}: schema {version} is newer than this program ({len(scripts)}): update fleet-market")
    for number, script in enumerate(scripts[version:], start=version + 1):
        db.executescript(f"BEGIN IMMEDIATE;\n{script.read_text()}\nPRAGMA user_version={number};\nCOMMIT;")
