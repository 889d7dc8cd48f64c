"""What is special about SQLite: the file, the disk under it, its schema."""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys

import pytest

from fleet_market.adapters import sqlite_store
from fleet_market.adapters.auditing import verify_chains
from fleet_market.adapters.sqlite_store import SqliteReader, SqliteStore, prepare
from fleet_market.errors import StoreError
from fleet_market.ledger import audit, first_broken_event
from fleet_market.testing.books import ANN, Books


@pytest.fixture
def path(tmp_path):
    return tmp_path / "market.db"


@contextlib.contextmanager
def as_nobody():
    """Without root's right to write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_is_no_database_and_a_folder_that_is_a_file_are_refused(path):
    path.write_bytes(b"not a database, surely " * 100)
    for opening in (SqliteStore.open, SqliteReader.open):
        with pytest.raises(StoreError, match="not a database"):
            opening(path)
    with pytest.raises(StoreError, match="can be written"):
        SqliteStore.open(path / "market.db")
    with pytest.raises(StoreError, match="no such file: name the database of a market"):
        SqliteReader.open(path.with_name("none.db"))


def test_a_database_of_another_program_is_refused_and_left_alone(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE event (what TEXT)")
    with pytest.raises(StoreError, match="of another program"):
        SqliteStore.open(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    with SqliteStore.open(folder / "market.db") as store:
        store.commit([Books().gift()])
    for file in (folder / "market.db", folder / "market.db.lock"):
        file.chmod(0o444)
    folder.chmod(0o555)
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)
    with as_nobody():
        for name in ("market.db", "new.db"):
            with pytest.raises(StoreError, match="use a folder that can be written"):
                SqliteStore.open(folder / name)
    folder.chmod(0o755)


def test_a_damaged_page_is_found_at_the_start_and_by_the_audit(path):
    books = Books()
    with SqliteStore.open(path) as store:
        store.commit([books.gift() for _ in range(2000)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged .*: restore the last backup"):
        SqliteStore.open(path)
    with SqliteReader.open(path) as reader:
        assert reader.faults()
        assert verify_chains(reader).faults


def left_behind(path, folder):
    """The files of a writer that was killed, before anything was copied from the log into the database."""
    books = Books()
    with SqliteStore.open(path) as store:
        for _ in range(12):
            store.commit([books.gift() for _ in range(3)])
        folder.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", folder / f"market.db{suffix}")
    return books


@pytest.mark.parametrize("seed", range(12))
def test_a_write_ahead_log_that_is_cut_or_damaged_opens_as_a_sound_prefix(path, tmp_path, seed):
    books = left_behind(path, tmp_path / "left")
    rng, wal = random.Random(seed), tmp_path / "left/market.db-wal"
    content = bytearray(wal.read_bytes())
    assert len(content) > 50_000
    if seed % 2:
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    wal.write_bytes(content)
    with SqliteStore.open(tmp_path / "left/market.db") as store:
        found = store.recover()
    assert len(found.events) % 3 == 0
    assert len(found.journal) == len(found.events) <= 36
    assert found.journal == tuple(books.ledger.journal[: len(found.journal)])
    assert audit(found.balances, found.journal) == []
    assert first_broken_event(found.events) is None


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from fleet_market.adapters.sqlite_store import SqliteStore
from fleet_market.errors import StoreError
from fleet_market.testing.books import Books
books = Books()
with SqliteStore.open(Path(sys.argv[1])) as store:
    store.commit([books.gift()])
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    done = 1
    try:
        while True:
            store.commit([books.gift() for _ in range(20)])
            done += 20
    except StoreError as error:
        print(json.dumps([done, str(error)]))
"""


def test_a_full_disk_stops_the_market_and_loses_nothing(path):
    run = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True, timeout=60)
    done, says = json.loads(run.stdout)
    assert "free the disk or mend the folder, then restart" in says
    assert done > 20
    with SqliteStore.open(path) as store:
        found = store.recover()
        assert len(found.events) == done
        assert audit(found.balances, found.journal) == []
        again = Books.restored(found.events, list(found.balances), found.journal)
        store.commit([again.gift()])
        assert store.balances()[ANN].credits_posted == done + 1


class Script:
    def __init__(self, text, name="9999_more.sql"):
        self.text, self.name = text, name

    def read_text(self):
        return self.text


def test_an_older_schema_is_brought_up_to_date_step_by_step(path, monkeypatch):
    books = Books()
    with SqliteStore.open(path) as store:
        store.commit([books.gift()])
    more = [*sqlite_store.migrations("sqlite"), Script("ALTER TABLE outbox ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;\n")]
    monkeypatch.setattr(sqlite_store, "migrations", lambda dialect: more)
    with pytest.raises(StoreError, match=f"schema {len(more) - 1} is older than this program"):
        SqliteReader.open(path)
    with SqliteStore.open(path) as store:
        assert len(list(store.events())) == 1
        assert store._db.execute("PRAGMA user_version").fetchone() == (len(more),)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(path):
    SqliteStore.open(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        broken = [*sqlite_store.migrations("sqlite"), Script("CREATE TABLE a (x);\nCREATE TABLE a (x);\n")]
        with pytest.raises(StoreError, match="already exists"):
            prepare(db, path, broken)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(broken) - 1,)
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'a'").fetchone() == (0,)
