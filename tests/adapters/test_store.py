"""The contract of a ledger store, run on SQLite and on PostgreSQL."""

import asyncio
import dataclasses
import gc
import io
import json
import subprocess
import sys

import pytest

from fleet_market.adapters import archive
from fleet_market.adapters.auditing import audit_store, verify_chains
from fleet_market.adapters.exports import write_books, write_csv, write_log
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.errors import LedgerMismatchError, StoreError
from fleet_market.ids import TransferId
from fleet_market.ledger import (
    AccountKind,
    Balance,
    Head,
    OutboxRow,
    StoreRecord,
    Transfer,
    TransferKind,
    account,
    first_break,
    first_broken_event,
)
from fleet_market.ledger.heads import sign
from fleet_market.testing.books import ANN, BOB, WORLD, Books

SINK = account(AccountKind.SINK, "burned")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def address(request, tmp_path):
    """Where a new store may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "market.db")
    return request.getfixturevalue("postgres_address")


def change(address, statement, *parameters):
    """Do what only a hand inside the database can."""
    if address.startswith("postgresql"):
        import psycopg

        with psycopg.connect(address, options="-c search_path=fleet_market") as db:
            db.execute("SET session_replication_role = replica")
            db.execute(statement.replace("?", "%s"), parameters)
    else:
        import sqlite3

        with sqlite3.connect(address) as db:
            for table in ("event", "journal"):
                db.execute(f"DROP TRIGGER {table}_is_append_only_update")
            db.execute(statement, parameters)
        db.close()


def test_what_was_committed_is_there_after_a_restart(address):
    books = Books()
    rows = (OutboxRow("a", "to/x", b"1"), OutboxRow("b", "to/y", b"\xff\x00"))
    with open_store(address) as store:
        store.commit([books.gift(5, outbox=rows), books.gift(7, reply=("out/ann", b"yes"), done=("a",))])
        store.commit([books.record([Transfer(TransferId("x"), TransferKind.HOLD, ANN, BOB, 3, None, "r", 99)])])
        store.commit([books.record([Transfer(TransferId("y"), TransferKind.CAPTURE, ANN, BOB, 2, TransferId("x"))])])
    with open_store(address) as store:
        found = store.recover()
    assert found.journal == tuple(books.ledger.journal)
    assert found.balances == books.ledger.balances()
    assert [(e.seq, e.reply) for e in found.events] == [(1, None), (2, ("out/ann", b"yes")), (3, None), (4, None)]
    assert found.outbox == rows[1:]
    assert first_broken_event(found.events) is None
    assert first_break(found.journal) is None


def test_an_event_is_found_by_sender_and_message(address):
    books = Books()
    with open_store(address) as store:
        store.commit([books.gift(), books.gift(reply=("out/ann", b"2"))])
        assert store.find_event("ann", "m2").reply == ("out/ann", b"2")
        assert store.find_event("ann", "m3") is None
        assert store.find_event("eve", "m2") is None


def test_a_message_that_is_done_in_its_own_group_never_reaches_the_outbox(address):
    books = Books()
    row = OutboxRow("a", "to/x", b"1")
    with open_store(address) as store:
        store.commit([books.gift(outbox=(row,)), books.gift(done=("a",))])
        assert store.outbox() == ()
        store.commit([books.gift(outbox=(row,))])
        store.commit([books.gift(done=("a",)), books.gift(outbox=(dataclasses.replace(row, payload=b"2"),))])
        assert [o.payload for o in store.outbox()] == [b"2"]


def test_a_repeated_message_cannot_be_stored_twice(address):
    books = Books()
    with open_store(address) as store:
        first = books.gift()
        store.commit([first])
        with pytest.raises(LedgerMismatchError):
            store.commit([StoreRecord(dataclasses.replace(first.event, seq=2))])
        store.commit([books.gift()])
        assert len(list(store.events())) == 2


@pytest.mark.parametrize(
    ("balances", "says"),
    [
        (((ANN, Balance(credits_posted=11)),), "customer:ann: the ledger"),
        (((BOB, Balance(credits_posted=1)),), "owner:bob: the ledger"),
    ],
)
def test_a_balance_that_differs_from_the_ledgers_stores_nothing(address, balances, says):
    books = Books()
    good, bad = books.gift(5), books.gift(5)
    bad = dataclasses.replace(bad, balances=(*bad.balances, *balances))
    with open_store(address) as store:
        with pytest.raises(LedgerMismatchError, match=says):
            store.commit([good, bad])
        assert store.recover().events == ()


def test_money_that_moves_without_the_ledgers_word_stores_nothing(address):
    with open_store(address) as store:
        with pytest.raises(LedgerMismatchError, match="gives it no balance"):
            store.commit([Books().gift(5, balances=())])
        assert store.recover().journal == ()


@pytest.mark.parametrize(
    ("debit", "credit", "rule"),
    [(ANN, BOB, "only_the_world"), (BOB, WORLD, "the_world"), (SINK, BOB, "sink|only_the_world")],
)
def test_the_database_refuses_what_a_broken_ledger_lets_pass(address, debit, credit, rule):
    books = Books((WORLD, ANN, BOB, SINK))
    first, template = books.gift(5), books.gift(1)
    entry = dataclasses.replace(
        template.entries[0], transfer=Transfer(TransferId("x"), TransferKind.POST, debit, credit, 6)
    )
    with open_store(address) as store:
        store.commit([first])
        with pytest.raises(LedgerMismatchError, match=rule):
            store.commit([dataclasses.replace(template, entries=(entry,), balances=())])
        assert len(store.recover().journal) == 1


@pytest.mark.parametrize("second", [TransferKind.CAPTURE, TransferKind.VOID])
def test_the_database_ends_a_hold_once(address, second):
    books = Books()
    hold = Transfer(TransferId("h"), TransferKind.HOLD, ANN, BOB, 3)
    end = Transfer(TransferId("e"), TransferKind.VOID, ANN, BOB, 3, TransferId("h"))
    with open_store(address) as store:
        store.commit([books.gift(5), books.record([hold]), books.record([end])])
        again = books.gift(1)
        entry = dataclasses.replace(
            again.entries[0], transfer=Transfer(TransferId("again"), second, ANN, BOB, 3, TransferId("h"))
        )
        with pytest.raises(LedgerMismatchError):
            store.commit([dataclasses.replace(again, entries=(entry,), balances=())])


@pytest.mark.parametrize("statement", ["UPDATE journal SET amount_uc = 9", "DELETE FROM journal", "DELETE FROM event",
                                       "UPDATE event SET sid = 9"])  # fmt: skip
def test_journal_and_event_log_cannot_be_rewritten(address, statement):
    with open_store(address) as store:
        store.commit([Books().gift()])
    if address.startswith("postgresql"):
        import psycopg

        with psycopg.connect(address, options="-c search_path=fleet_market") as db:
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="append-only"):
                db.execute(statement)
            db.rollback()
    else:
        import sqlite3

        db = sqlite3.connect(address)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
        db.close()


def test_heads_are_kept(address, make_key):
    books = Books()
    record = books.gift()
    head = sign(Head(0, 1, record.entries[0].hash), Ed25519Signer.load(make_key()))
    with open_store(address) as store:
        store.commit([dataclasses.replace(record, heads=(head,))])
        assert store.heads() == (head,)
    with open_reader(address) as reader:
        report = verify_chains(reader, key_id=head.key_id)
        assert (report.faults, report.signed_days) == ([], 1)
        assert "signed by another key" in verify_chains(reader, key_id="00" * 32).faults[0]


def test_a_reader_sees_one_state_while_the_market_writes_on(address):
    books = Books()
    with open_store(address) as store:
        store.commit([books.gift(5)])
        with open_reader(address) as reader:
            assert len(list(reader.events())) == 1
            store.commit([books.gift(6)])
            assert len(list(reader.journal())) == 1
            assert reader.balances()[ANN].credits_posted == 5
        with open_reader(address) as reader:
            assert reader.balances()[ANN].credits_posted == 11


def test_a_reader_cannot_write(address):
    with open_store(address) as store:
        store.commit([Books().gift()])
    with open_reader(address) as reader, pytest.raises(Exception, match=r"read-?only"):
        reader._db.execute("DELETE FROM outbox")


def test_a_second_daemon_is_refused_and_told_who_is_first(address):
    code = "import sys; from fleet_market.adapters.stores import open_store; open_store(sys.argv[1])"
    with open_store(address):
        other = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "another market daemon (" in other.stderr
    assert "has this database open: stop it first" in other.stderr
    with open_store(address):
        pass


def test_a_schema_from_the_future_is_refused_and_left_alone(address):
    open_store(address).close()
    newer = "UPDATE schema_version SET version = 99" if address.startswith("postgresql") else "PRAGMA user_version=99"
    change(address, newer)
    for opening in (open_store, open_reader):
        with pytest.raises(StoreError, match=r"schema 99 is newer than this program \(\d+\): update fleet-market"):
            opening(address)


async def test_the_writer_groups_what_is_queued_and_answers_after_the_commit(address):
    books = Books()
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            await asyncio.gather(*(writer.submit(books.gift()) for _ in range(400)))
            assert (writer.records, writer.commits) == (400, 1)
        assert len(list(store.events())) == 400


async def test_an_event_is_found_while_the_writer_is_at_work(address):
    books = Books()
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            await writer.submit(books.gift(reply=("out/ann", b"1")))
            waiting = []
            for _ in range(60):
                waiting.append(writer.submit(books.gift()))
                await asyncio.sleep(0)
                assert store.find_event("ann", "m1").reply == ("out/ann", b"1")
            await asyncio.gather(*waiting)
        assert len(list(store.events())) == 61


async def test_after_a_failed_commit_the_writer_takes_nothing_more(address):
    books, unheard = Books(), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: unheard.append(about["message"]))
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            await writer.submit(books.gift())
            bad = [writer.submit(books.gift(balances=((ANN, Balance()),))) for _ in range(2)]
            with pytest.raises(LedgerMismatchError):
                await bad[0]  # nobody waits for the other
            with pytest.raises(StoreError, match="restart to recover"):
                writer.submit(books.gift())
        assert len(list(store.events())) == 1
    del writer, bad
    gc.collect()
    assert unheard == []


@pytest.mark.parametrize(
    ("statement", "parameter", "says"),
    [
        ("UPDATE event SET body = ? WHERE seq = 2", b"{ }", "event 2 "),
        ("UPDATE event SET now_ns = ? WHERE seq = 3", 4, "event 3 "),
        ("UPDATE event SET effects = ? WHERE seq = 1", "0" * 64, "event 1 "),
        ("UPDATE event SET hash = ? WHERE seq = 3", "0" * 64, "event 3 "),
        ("UPDATE journal SET reference = ? WHERE seq = 2", "gifd", "journal row 2 "),
        ("UPDATE journal SET amount_uc = ? WHERE seq = 2", 4, "journal row 2 "),
        ("UPDATE journal SET debit = ? WHERE seq = 1", "owner:bob", "journal row 1 "),
        ("UPDATE journal SET id = ? WHERE seq = 3", "!", "journal row 3 is damaged"),
        ("UPDATE account SET credits_posted = ? WHERE id = 'customer:ann'", 7, "customer:ann holds"),
        ("UPDATE outbox SET payload = ?", b"2", "outbox is damaged"),
        ("DELETE FROM outbox WHERE id = ?", "none", None),
    ],
)
def test_the_audit_finds_and_locates_what_was_changed(address, statement, parameter, says):
    books = Books()
    with open_store(address) as store:
        store.commit([books.gift(5), books.gift(5), books.gift(5, outbox=(OutboxRow("a", "t", b"1"),))])
    change(address, statement, parameter)
    with open_reader(address) as reader:
        faults = audit_store(reader).faults
        located = verify_chains(reader).faults
    about_the_made_up_log = [f for f in faults if "cannot handle it" in f]
    if says is None:
        assert faults == about_the_made_up_log
        assert located == []
    else:
        assert any(says in fault for fault in faults), faults
        if "event" in statement or "journal" in statement:
            assert any(says in fault for fault in located), located


def test_the_books_are_exported_while_the_market_runs(address):
    books = Books()
    with open_store(address) as store:
        store.commit([books.gift(5), books.gift(6)])
        with open_reader(address) as reader:
            table, lines, log = io.StringIO(), io.StringIO(), io.StringIO()
            assert write_csv(reader, table) == write_books(reader, lines) == write_log(reader, log) == 2
    rows = table.getvalue().splitlines()
    assert rows[0] == "seq,timestamp_ns,id,kind,debit,credit,amount_uc,pending,reference,expires_ns,hash"
    assert rows[2].startswith("2,2,t2,post,world:mint,customer:ann,6,,gift,,")
    last = json.loads(lines.getvalue().splitlines()[-1])
    assert (last["transfers"], last["supply_uc"], last["escrow_left_uc"]) == (2, 11, 0)
    assert json.loads(log.getvalue().splitlines()[2])["hash"] == books.hash


def test_a_backup_is_made_while_the_market_runs_and_goes_back_into_a_new_store(address, tmp_path, monkeypatch):
    books = Books()
    monkeypatch.setattr(archive, "audit_store", verify_chains)
    with open_store(address) as store:
        store.commit([books.gift(5, outbox=(OutboxRow("a", "t", b"\xff"),)), books.gift(6, reply=("o", b"y"))])
        report = archive.back_up(address, tmp_path / "backup")
        assert (report.transfers, report.faults) == (2, [])
        before = store.recover()
        store.commit([books.gift(7)])
        with pytest.raises(StoreError, match="exists: name a new file"):
            archive.back_up(address, tmp_path / "backup")
        target = address if address.startswith("postgresql") else str(tmp_path / "other.db")
        if target == address:
            with pytest.raises(StoreError, match="another market daemon"):
                archive.restore(tmp_path / "backup", target)
    if target == address:
        with pytest.raises(StoreError, match="holds a market: restore into a new database"):
            archive.restore(tmp_path / "backup", target)
        change(address, "DROP SCHEMA fleet_market CASCADE")
    archive.restore(tmp_path / "backup", target)
    with open_store(target) as store:
        assert store.recover() == before
        again = Books.restored(before.events, list(before.balances), before.journal)
        store.commit([again.gift(9, outbox=(OutboxRow("b", "t", b""),))])
        assert [row.id for row in store.outbox()] == ["a", "b"]
    assert sorted(p.name for p in tmp_path.glob("backup*")) == ["backup"]


def test_a_backup_of_one_kind_goes_into_the_other(address, tmp_path, monkeypatch, request):
    monkeypatch.setattr(archive, "audit_store", verify_chains)
    books = Books()
    with open_store(address) as store:
        store.commit([books.gift(5), books.gift(6)])
        before = store.recover()
    archive.back_up(address, tmp_path / "backup")
    there = address.startswith("postgresql")
    target = str(tmp_path / "other.db") if there else request.getfixturevalue("postgres_address")
    archive.restore(tmp_path / "backup", target)
    with open_reader(target) as reader:
        assert reader.recover() == before


def test_a_backup_that_is_not_sound_is_not_restored(address, tmp_path):
    books = Books()
    with open_store(address) as store:
        store.commit([books.gift(5)])
    archive.back_up(address, tmp_path / "backup")
    change(str(tmp_path / "backup"), "UPDATE journal SET amount_uc = 6")
    with pytest.raises(StoreError, match="is not sound"):
        archive.restore(tmp_path / "backup", str(tmp_path / "new.db"))
    assert not (tmp_path / "new.db").exists()
