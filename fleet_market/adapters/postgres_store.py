"""The market's database in PostgreSQL through psycopg 3: the same tables, the same promises, on another machine.

Every zone has a schema of its own. A daemon writes under a lease, which each transaction checks and holds on to: after a
take-over, nothing that the former holder still sends is stored. A tool writes without a lease, and then holds the zone
alone, by an advisory lock of its session: give it a direct connection, not a pooler that shares sessions.

A group of records is a handful of statements over arrays, sent in one pipeline.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from typing import Any, LiteralString, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

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
from fleet_market.errors import InputError, LeaseLostError, LedgerMismatchError, StoreError
from fleet_market.ids import MAIN_ZONE, ZoneId
from fleet_market.ledger import Balance, Cut, Event
from fleet_market.ports import Lease

SCHEMA = "fleet_market"
OLDEST_SERVER = 130000
LEASES = f"{SCHEMA}__leases"
"""Schema of the leases; no zone has an underscore in its name."""
MAX_ZONE = 63 - len(f"{SCHEMA}_")
"""Longer names of schemas are cut off by PostgreSQL."""
LOCK = 0x464D4B54
""""FMKT": the first number of our advisory locks; the second is that of the zone."""
LOCK_WAIT = "2s"
"""The server notices a moment later that a daemon was killed; one that is started again at once waits for that."""

_SETTINGS = {
    "application_name": "fleet-market", "connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 2,
    "keepalives_count": 3, "tcp_user_timeout": 10_000,
}  # fmt: skip
"""A server that is out of reach is noticed within some ten seconds."""
FETCH_ROWS = 2000

_COLUMNS = {
    "event": ("bigint", "bigint", "text", "text", "bigint", "bytea", "bytea", "text", "bytea", "text", "text"),
    "journal": ("bigint", "bigint", "text", "text", "text", "text", "bigint", "text", "text", "bigint", "text"),
    "archive": ("bigint", "text", "bigint", "text", "bigint", "text", "text"),
    "head": ("bigint", "bigint", "text", "text", "bytea"),
    "outbox (id, topic, payload, digest)": ("text", "text", "bytea", "text"),
    "account (id)": ("text",),
    "snapshot": ("bigint", "bytea"),
}
_MOVE = MOVE.format(first="%s", last="%s")
_FENCE = f"SELECT 1 FROM {LEASES}.lease WHERE zone = %s AND epoch = %s FOR SHARE"  # noqa: S608 - our own table

_LOAD = {"outbox": "outbox (id, topic, payload, digest)"}

Db = psycopg.Connection[Row]


class PostgresReader(Reads):
    """Reads a database, while a market may be writing to it; use as a context manager. Sees one state of it."""

    def __init__(self, connection: Db, name: str) -> None:
        self._db, self.name = connection, name

    @classmethod
    def open(cls, address: str, zone: ZoneId = MAIN_ZONE) -> Self:
        """Open what the database holds of a zone, read-only.

        Raises
        ------
        StoreError
            If it cannot be reached or read, holds no market, or its schema is not the one of this program.
        """
        db, name = connect(address, schema_of(zone))
        try:
            with told(name):
                db.execute("SET default_transaction_read_only = on")
                insist_on_present(name, _version(db), migrations("postgres"))
                db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except BaseException:
            db.close()
            raise
        return cls(db, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; may be called twice."""
        self._db.close()

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> Iterator[Row]:
        with told(self.name), self._db.transaction(), self._db.cursor(name="rows") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(sql(query.replace("?", "%s")), parameters)
            yield from cursor

    def faults(self) -> list[str]:
        """Return what the database engine itself finds wrong; PostgreSQL offers no such check to everyone."""
        return []

    def size_bytes(self) -> int:
        """Return what the tables and their indexes occupy."""
        with told(self.name):
            row = self._db.execute(
                "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = to_regnamespace(current_schema())",
            ).fetchone()
        return int(row[0]) if row else 0


class PostgresStore(PostgresReader):
    """The market's only writer; use as a context manager. Implements `fleet_market.ports.LedgerStore`."""

    def __init__(self, connection: Db, name: str, beside: Db, lease: Lease | None = None) -> None:
        super().__init__(connection, name)
        self._lease = lease
        self._beside = beside
        """Reads while the other one writes: one session has one transaction, and a question would wait for its commit."""

    @classmethod
    def open(cls, address: str, zone: ZoneId = MAIN_ZONE, lease: Lease | None = None) -> Self:
        """Open what the database holds of a zone and bring its schema up to date.

        Parameters
        ----------
        address : str
            ``postgresql://user@host:port/database``; a password is best left to PGPASSWORD or ``~/.pgpass``.
        lease : Lease, optional
            That of the zone; without one nobody else may have the zone open.

        Raises
        ------
        StoreError
            If it cannot be reached, another daemon has it open, it does not sync to the disk, or its schema is newer
            than this program.
        LeaseLostError
            If the lease is not the present one.
        """
        db, name = connect(address, schema_of(zone))
        beside: Db | None = None
        try:
            with told(name):
                _take_lock(db, name, zone, shared=lease is not None)
                _insist_on_durability(db, name)
                beside, _ = connect(address, schema_of(zone))
                store = cls(db, name, beside, lease)
                with db.transaction():
                    store._insist_on_lease(store._ask_lease())
                    migrate(db, name)
        except BaseException:
            db.close()
            if beside is not None:
                beside.close()
            raise
        return store

    def close(self) -> None:
        """Close; may be called twice."""
        self._beside.close()
        super().close()

    def commit(self, records: Sequence[object]) -> None:
        """Store all `records` (`StoreRecord`) in one transaction; on disk when this returns.

        Raises
        ------
        LedgerMismatchError
            If the database refuses a balance or arrives at another one than the ledger; nothing is stored.
        LeaseLostError
            If another daemon has taken over the zone; nothing is stored.
        StoreError
            If the database cannot be written; nothing is stored, or it is not known whether it was.
        """
        group = Group.of(records)
        try:
            with told(self.name), self._db.transaction(), self._db.pipeline():
                self._write(group)
        except psycopg.IntegrityError as error:
            with told(self.name):
                self._insist_on_lease(self._ask_lease())
            raise LedgerMismatchError(f"the database refuses what the ledger decided: {error}") from error

    def find_event(self, source: str, message_id: str) -> Event | None:
        """Return the input that `source` sent under `message_id`, None if there is none; does not wait for a commit."""
        with told(self.name):
            found = self._beside.execute(sql(EVENT.replace("?", "%s")), (source, message_id)).fetchone()
        return None if found is None else Event.of(found)

    def load(self, source: Reads) -> None:
        """Fill this empty database with all that `source` holds, in one transaction.

        Raises
        ------
        StoreError
            If it is not empty, or cannot be written; nothing is stored.
        """
        with told(self.name), self._db.transaction(), self._db.cursor() as cursor:
            found = cursor.execute("SELECT EXISTS (SELECT 1 FROM event)").fetchone()
            if found is None or found[0]:
                raise StoreError(f"{self.name}: holds a market: restore into a new database")
            for table in TABLES:
                with cursor.copy(sql(f"COPY {_LOAD.get(table, table)} FROM STDIN")) as copy:
                    for row in source.rows(table):
                        copy.write_row(row)

    def forget(self, cut: Cut) -> None:
        """Delete what lies in an archive, and record where the chains go on, in one transaction.

        Raises
        ------
        LeaseLostError
            If another daemon has taken over the zone; nothing is deleted.
        StoreError
            If the archive is not that of the beginning of this store, or the database cannot be written; nothing is
            deleted, or it is not known whether it was.
        """
        end = cut.end
        try:
            with told(self.name), self._db.transaction():
                self._insist_on_lease(self._ask_lease())
                insist_on_cut(self, cut)
                self._insert("archive", [(*end.fields(), cut.file, cut.sha256)])
                self._db.execute(
                    "INSERT INTO snapshot VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (end.event_seq + 1, zlib.compress(cut.snapshot, level=1)),
                )
                self._db.execute(sql(OLD_SNAPSHOTS))
                self._db.execute(sql(OLD_EVENTS.replace("?", "%s")), (end.event_seq,))
                self._db.execute(sql(OLD_JOURNAL.replace("?", "%s")), (end.journal_seq, end.journal_seq))
        except psycopg.IntegrityError as error:
            raise StoreError(f"{self.name}: nothing was archived: {error}") from error

    def _write(self, group: Group) -> None:
        held = self._ask_lease()
        self._insert("event", group.events)
        self._insert("account (id)", [(a,) for a in group.accounts])
        self._insert("journal", group.journal)
        if group.done:
            self._db.execute("DELETE FROM outbox WHERE id = ANY(%s)", (group.done,))
        self._insert("outbox (id, topic, payload, digest)", list(group.outbox.values()))
        self._insert("head", group.heads)
        if group.snapshots:
            self._insert("snapshot", group.snapshots)
            self._db.execute(sql(OLD_SNAPSHOTS))
        if group.journal:
            moved = self._db.execute(sql(_MOVE), (group.journal[0][0], group.journal[-1][0])).fetchall()
            group.check({row[0]: Balance(*row[1:]) for row in moved})
        self._insist_on_lease(held)

    def _ask_lease(self) -> psycopg.Cursor[Row] | None:
        """Ask for the lease, and have it stay as it is to the end of the transaction."""
        return None if self._lease is None else self._db.execute(sql(_FENCE), (self._lease.zone, self._lease.epoch))

    def _insist_on_lease(self, answer: psycopg.Cursor[Row] | None) -> None:
        if self._lease is not None and answer is not None and answer.fetchone() is None:
            zone, epoch = self._lease.zone, self._lease.epoch
            raise LeaseLostError(f"zone {zone}: another daemon has taken it over (lease {epoch} is over)")

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            arrays = ", ".join(f"%s::{kind}[]" for kind in _COLUMNS[table])
            self._db.execute(
                sql(f"INSERT INTO {table} SELECT * FROM unnest({arrays})"),  # noqa: S608 - names of our own tables
                [list(column) for column in zip(*rows, strict=True)],
            )


def schema_of(zone: ZoneId) -> str:
    """Return where a zone's tables are.

    Raises
    ------
    InputError
        If the zone's name is too long to be that of a schema.
    """
    if len(zone) > MAX_ZONE:
        raise InputError("fleet file", "zone", zone, f"use at most {MAX_ZONE} characters with PostgreSQL")
    return SCHEMA if zone == MAIN_ZONE else f"{SCHEMA}_{zone}"


def migrate(db: Db, name: str, scripts: Sequence[Traversable] | None = None) -> None:
    """Bring the schema up to date, one transaction per script; raises `StoreError` if it is newer than this program."""
    for number, script in pending_migrations(name, _version(db), scripts or migrations("postgres")):
        with db.transaction():
            db.execute(sql(script))
            db.execute("UPDATE schema_version SET version = %s", (number,))


def _version(db: Db) -> int:
    row = db.execute("SELECT to_regclass('schema_version')").fetchone()
    if row is not None and row[0] is not None:
        version = db.execute("SELECT version FROM schema_version").fetchone()
        return int(version[0]) if version else 0
    read_only = db.execute("SHOW default_transaction_read_only").fetchone()
    if read_only is not None and read_only[0] == "off":
        with db.transaction():
            (path,) = db.execute("SHOW search_path").fetchone() or (SCHEMA,)
            db.execute(sql(f"CREATE SCHEMA IF NOT EXISTS {path}"))
            db.execute("CREATE TABLE schema_version (version integer NOT NULL)")
            db.execute("INSERT INTO schema_version VALUES (0)")
    return 0


def connect(address: str, schema: str) -> tuple[Db, str]:
    """Return a connection on which `schema` is searched for tables, and what to call the database in messages."""
    try:
        parts = conninfo_to_dict(address)
    except psycopg.Error as error:
        raise StoreError(
            f"the address of the database is wrong ({error}): use postgresql://user@host:port/database"
        ) from None
    name = f"PostgreSQL {parts.get('dbname', '')} on {parts.get('host', 'this machine')}"
    settings: dict[str, Any] = _SETTINGS | parts
    try:
        db = psycopg.connect(**settings, autocommit=True)
    except psycopg.OperationalError as error:
        text = " ".join(str(error).split())
        mend = "check the user and its password (PGPASSWORD, ~/.pgpass)" if "password" in text else "is it running?"
        raise StoreError(f"{name}: {text}: {mend}") from None
    if db.info.server_version < OLDEST_SERVER:
        db.close()
        raise StoreError(f"{name}: server {db.info.server_version} is too old: use PostgreSQL 13 or newer")
    db.execute(sql(f'SET search_path TO "{schema}"'))
    return db, name


def lock_of(zone: ZoneId) -> tuple[int, int]:
    """Return the advisory lock that every session holds which writes to a zone: shared under a lease, else alone."""
    return LOCK, zlib.crc32(zone.encode()) >> 1


def _take_lock(db: Db, name: str, zone: ZoneId, *, shared: bool) -> None:
    lock = lock_of(zone)
    if shared:
        row = db.execute("SELECT pg_try_advisory_lock_shared(%s, %s)", lock).fetchone()
        if row is None or row[0]:
            return
    elif _wait_for_lock(db, lock):
        return
    holder = db.execute(
        "SELECT a.pid, coalesce(host(a.client_addr), 'a local socket') FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = %s"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        lock,
    ).fetchone()
    who = "unknown" if holder is None else f"server process {holder[0]}, from {holder[1]}"
    raise StoreError(f"{name}: another market daemon ({who}) has this database open: stop it first")


def _wait_for_lock(db: Db, lock: tuple[int, int]) -> bool:
    """Take a lock alone; return whether it was to be had within `LOCK_WAIT`."""
    db.execute("SELECT set_config('lock_timeout', %s, false)", (LOCK_WAIT,))
    try:
        db.execute("SELECT pg_advisory_lock(%s, %s)", lock)
    except psycopg.errors.LockNotAvailable:
        return False
    finally:
        db.execute("SELECT set_config('lock_timeout', '0', false)")
    return True


def _insist_on_durability(db: Db, name: str) -> None:
    settings = {
        key: row[0] for key in ("fsync", "synchronous_commit") if (row := db.execute(sql(f"SHOW {key}")).fetchone())
    }
    if settings.get("fsync") == "off":
        raise StoreError(f"{name}: the server runs with fsync = off and would lose paid money with its power: turn it on")
    if settings.get("synchronous_commit") == "off":
        db.execute("SET synchronous_commit = on")


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn errors of the database into ours, but for a refusal of what the ledger decided."""
    try:
        yield
    except psycopg.IntegrityError:
        raise
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        raise StoreError(f"{name}: {text}: mend the database, then restart") from error


def sql(text: str) -> LiteralString:
    """Say that `text` is made of constants: psycopg wants literals, and these come from files and tables of our own."""
    return text
