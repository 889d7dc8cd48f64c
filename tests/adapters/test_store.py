"""The contract of a ledger store, and what is special about the SQLite one."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_market.adapters.sqlite_store import SqliteStore, export_csv
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.errors import LedgerMismatchError, StoreError
from fleet_market.ids import TransferId
from fleet_market.ledger import (
    AccountKind,
    Balance,
    Event,
    Ledger,
    OutboxRow,
    StoreRecord,
    Transfer,
    TransferKind,
    account,
    first_break,
)

WORLD = account(AccountKind.WORLD, "mint")
ANN = account(AccountKind.CUSTOMER, "ann")


class Books:
    """Makes records the way the market does."""

    def __init__(self):
        self.ledger, self.seq = Ledger(), 0

    def record(self, amount=1, **more) -> StoreRecord:
        self.seq += 1
        opened = tuple(a for a in (WORLD, ANN) if self.ledger.open_account(a))
        applied = self.ledger.apply(
            [Transfer(TransferId(f"t{self.seq}"), TransferKind.POST, WORLD, ANN, amount, reference="gift")], self.seq
        )
        event = Event(self.seq, self.seq, "ann", f"m{self.seq}", 0, b"{}")
        fields = {"accounts": opened, "entries": applied.entries, "balances": applied.balances} | more
        return StoreRecord(event, **fields)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "market.db"


def test_what_was_committed_is_there_after_a_restart(path):
    books = Books()
    rows = (OutboxRow("a", "to/x", b"1"), OutboxRow("b", "to/y", b"2"))
    with SqliteStore.open(path) as store:
        store.commit([books.record(5, outbox=rows), books.record(7, reply=("out/ann", b"yes"), done=("a",))])
    with SqliteStore.open(path) as store:
        found = store.recover()
        assert found.journal == tuple(books.ledger.journal)
        assert found.balances == books.ledger.balances()
        assert [e.seq for e in found.events] == [1, 2]
        assert found.outbox == rows[1:]
        assert found.replies == {("ann", "m1"): None, ("ann", "m2"): ("out/ann", b"yes")}


def test_a_repeated_message_cannot_be_stored_twice(path):
    books = Books()
    with SqliteStore.open(path) as store:
        store.commit([books.record()])
        second = StoreRecord(Event(2, 2, "ann", "m1", 0, b"{}"))
        with pytest.raises(LedgerMismatchError):
            store.commit([second])


def test_a_balance_that_differs_from_the_ledgers_stores_nothing(path):
    books = Books()
    good, bad = books.record(5), books.record(5, balances=((ANN, Balance(credits_posted=11)),))
    with SqliteStore.open(path) as store:
        with pytest.raises(LedgerMismatchError, match="customer:ann"):
            store.commit([good, bad])
        assert store.recover().events == ()


def test_an_overdraft_that_the_ledger_let_pass_is_refused_by_the_database(path):
    books = Books()
    first = books.record(5)
    overdraft = Transfer(TransferId("x"), TransferKind.POST, ANN, WORLD, 6)
    entry = books.record(1).entries[0]
    entry = type(entry)(2, entry.timestamp_ns, overdraft, entry.hash)
    with SqliteStore.open(path) as store:
        store.commit([first])
        with pytest.raises(LedgerMismatchError, match="CHECK"):
            store.commit([StoreRecord(Event(2, 2, "ann", "m2", 0, b"{}"), entries=(entry,))])


def test_the_journal_cannot_be_rewritten(path):
    with SqliteStore.open(path) as store:
        store.commit([Books().record()])
    db = sqlite3.connect(path)
    for statement in ("UPDATE journal SET amount_uc = 9", "DELETE FROM journal"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def test_the_journal_is_exported_while_the_market_runs(path, tmp_path):
    books = Books()
    with SqliteStore.open(path) as store:
        store.commit([books.record(5), books.record(6)])
        assert export_csv(path, tmp_path / "ledger.csv") == 2
    lines = (tmp_path / "ledger.csv").read_text().splitlines()
    assert lines[0].startswith("seq,timestamp_ns,id,kind,debit,credit,amount_uc")
    assert lines[2].startswith("2,2,t2,post,world:mint,customer:ann,6,,gift,")


def test_a_second_daemon_is_refused_and_told_which_process_is_first(path):
    code = (
        "import sys; from pathlib import Path; from fleet_market.adapters.sqlite_store import SqliteStore;"
        "SqliteStore.open(Path(sys.argv[1]))"
    )
    with SqliteStore.open(path):
        other = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"another market daemon (process {os.getpid()})" in other.stderr
    with SqliteStore.open(path):
        pass


def test_a_schema_from_the_future_is_refused(path):
    SqliteStore.open(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="newer than this program"):
        SqliteStore.open(path)


def test_a_file_that_is_no_database_and_a_folder_that_is_a_file_are_refused(path, tmp_path):
    path.write_bytes(b"not a database, surely " * 100)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore.open(path)
    with pytest.raises(StoreError, match="can be written"):
        SqliteStore.open(path / "market.db")


async def test_the_writer_groups_what_is_queued_and_answers_after_the_commit(path):
    books = Books()
    with SqliteStore.open(path) as store:
        async with StoreWriter(store) as writer:
            await asyncio.gather(*(writer.submit(books.record()) for _ in range(400)))
            assert writer.records == 400
            assert writer.commits < 400
        assert len(store.recover().events) == 400


async def test_after_a_failed_commit_the_writer_takes_nothing_more(path):
    books = Books()
    with SqliteStore.open(path) as store:
        async with StoreWriter(store) as writer:
            await writer.submit(books.record())
            with pytest.raises(LedgerMismatchError):
                await writer.submit(books.record(balances=((ANN, Balance()),)))
            with pytest.raises(StoreError, match="restart to recover"):
                writer.submit(books.record())
        assert len(store.recover().events) == 1


KILLED = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import Books
from fleet_market.adapters.sqlite_store import SqliteStore
with SqliteStore.open(Path(sys.argv[1])) as store:
    found = store.recover()
    books = Books()
    for _ in found.events:
        books.record()
    while True:
        store.commit([books.record() for _ in range(3)])
        print(json.dumps(books.seq), flush=True)
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_acknowledged(path):
    acknowledged = 0
    for kill in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, path, Path(__file__).parent], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + 5 * kill):
            acknowledged = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        acknowledged = max([acknowledged, *(json.loads(line) for line in rest.splitlines() if line.strip().isdigit())])
        with SqliteStore.open(path) as store:
            found = store.recover()
        assert len(found.events) >= acknowledged
        assert len(found.journal) == len(found.events)
        assert first_break(found.journal) is None
        assert found.balances[ANN].credits_posted == len(found.events) == found.balances[WORLD].debits_posted
