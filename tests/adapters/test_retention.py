"""Archives of the old, and stores that go on without it: one contract for SQLite and PostgreSQL."""

import asyncio
import base64
import dataclasses
import gzip
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from fleet_market.adapters import retention
from fleet_market.adapters.archive_file import Archive
from fleet_market.adapters.auditing import NoPlaces, audit_store, begin, verify_chains
from fleet_market.adapters.exports import write_books, write_log
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.adapters.whole_store import WholeStore, with_archives
from fleet_market.daemons.engine import Engine
from fleet_market.errors import StoreError
from fleet_market.ids import ZoneId
from fleet_market.ledger.heads import NS_PER_DAY
from fleet_market.market import Market, replay
from fleet_market.testing.crashes import Silence
from fleet_market.testing.market_load import MarketLoad, Yard

MAIN = ZoneId("main")
EVER = 10**20
EVERY = 150
"""Inputs from one checkpoint to the next."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def address(request, tmp_path):
    """Where a new store may be made."""
    if request.param == "sqlite":
        return str(tmp_path / "market.db")
    return request.getfixturevalue("postgres_address")


async def business(store, inputs, *, day=0, name="a", signer=None, whole=None):
    """Trade on a store, at a day of market time, until it has so many more inputs."""
    async with StoreWriter(store) as writer:
        engine = Engine(Market(Yard()), store, writer, signer, whole=whole)
        engine.snapshot_inputs = EVERY
        engine.recover()
        engine.epoch += 1
        end = engine.inputs + inputs
        async with asyncio.TaskGroup() as tasks:
            effects = tasks.create_task(engine.publish_effects(Silence()))
            load = MarketLoad(engine.market, name=name, now_ns=max(engine.now_ns, day * NS_PER_DAY))
            for command in load.opening(engine.epoch):
                await engine.take(command)
            while engine.inputs < end:
                for command in load.round():
                    await engine.take(command)
                await asyncio.sleep(0)
            await engine.settled()
            effects.cancel()


TRADED: dict[tuple[int, ...], bytes] = {}
"""New files after so many days: the same every time, and worked out once."""


def trade(address, *days, signer=None):
    file = None if signer or address.startswith("postgresql") or Path(address).exists() else Path(address)
    if file and days in TRADED:
        file.write_bytes(TRADED[days])
        return
    with open_store(address) as store:
        for day in days:
            asyncio.run(business(store, 4 * EVERY, day=day, name=f"d{day}", signer=signer))
    if file:
        TRADED[days] = file.read_bytes()


def everything(log):
    return list(log.events()), list(log.journal()), log.balances(), log.outbox(), log.heads()


def shorten(address, target, before_ns=EVER):
    with open_store(address) as store:
        cut = retention.archive(store, target, MAIN, before_ns)
        if cut is not None:
            store.forget(cut)
    return cut


def change(address, statement, *parameters):
    """Do what only a hand inside the database can."""
    if address.startswith("postgresql"):
        import psycopg

        with psycopg.connect(address, options="-c search_path=fleet_market") as db:
            db.execute("SET session_replication_role = replica")
            assert db.execute(statement.replace("?", "%s"), parameters).rowcount
    else:
        import sqlite3

        with sqlite3.connect(address) as db:
            for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                db.execute(f"DROP TRIGGER {trigger}")
            assert db.execute(statement, parameters).rowcount
        db.close()


def test_nothing_is_lost_and_both_halves_can_be_audited(address, tmp_path, make_key):
    signer = Ed25519Signer.load(make_key())
    trade(address, 1, 2, 3, signer=signer)
    with open_reader(address) as reader:
        before = everything(reader)
        sound = audit_store(reader, key_id=signer.key_id)
        assert sound.faults == []
    cut = shorten(address, tmp_path / "a.gz")
    assert cut.end.event_seq > 2 * EVERY
    with open_reader(address) as reader:
        kept = everything(reader)
        assert kept == (before[0][cut.end.event_seq :], before[1][cut.end.journal_seq :], *before[2:])
        assert reader.carried(), "no hold was open: the test shows too little"
        assert {e.seq for e in reader.carried()} <= set(range(1, cut.end.journal_seq + 1))
        for check in (audit_store, verify_chains):
            alone = check(reader, key_id=signer.key_id)
            assert (alone.faults, alone.archived_events) == ([], cut.end.event_seq)
            assert (alone.journal_hash, alone.log_hash) == (sound.journal_hash, sound.log_hash)
        whole = WholeStore([tmp_path / "a.gz"], reader)
        assert everything(whole) == before
        assert dataclasses.replace(audit_store(whole, key_id=signer.key_id), notes=[]) == sound
        market = Market(NoPlaces())
        at = begin(market, reader)
        assert replay(market, reader.events(at.seq), since=at).hash == sound.log_hash
        assert at.seq == cut.end.event_seq + 1 or not at.diverged


def test_it_goes_on_trading_and_is_archived_again(address, tmp_path):
    trade(address, 1, 2)
    first = shorten(address, tmp_path / "a.gz")
    trade(address, 3, 4)
    second = shorten(address, tmp_path / "b.gz")
    assert second.start == first.end
    trade(address, 5)
    with open_reader(address) as reader:
        assert audit_store(reader).faults == []
        assert [end for end, _, _ in reader.archives()] == [first.end, second.end]
        whole = audit_store(WholeStore([tmp_path / "b.gz", tmp_path / "a.gz"], reader))
        assert (whole.faults, whole.archived_events) == ([], 0)
        with pytest.raises(StoreError, match=rf"events {first.end.event_seq + 1} to .* are missing before the store"):
            WholeStore([tmp_path / "a.gz"], reader)
        with pytest.raises(StoreError, match=rf"events 1 to {first.end.event_seq} are missing before the first archive"):
            with_archives(reader, [tmp_path / "b.gz"])
    alone, market = WholeStore([tmp_path / "b.gz"]), Market(NoPlaces())
    at = begin(market, alone)
    assert at.seq == first.end.event_seq + 1
    at = replay(market, alone.events(at.seq), since=at)
    assert (at.hash, at.diverged) == (second.end.event_hash, [])
    trade(address, 6, 7)
    shorten(address, tmp_path / "c.gz")
    with pytest.raises(StoreError, match=r"are missing before c\.gz"):
        WholeStore([tmp_path / "a.gz", tmp_path / "c.gz"])


def test_only_what_is_old_and_before_the_newest_but_one_snapshot_leaves(address, tmp_path):
    trade(address, 1, 5)
    assert shorten(address, tmp_path / "a.gz", before_ns=NS_PER_DAY) is None
    assert not (tmp_path / "a.gz").exists()
    cut = shorten(address, tmp_path / "a.gz", before_ns=3 * NS_PER_DAY)
    assert 0 < max(event.now_ns for event in Archive(tmp_path / "a.gz").events()) < 3 * NS_PER_DAY
    with open_reader(address) as reader:
        newest = [snapshot.event.seq for snapshot in reader.snapshots()]
        assert len(newest) == 3
        assert cut.end.event_seq + 1 == newest[2] < newest[1]
    shorten(address, tmp_path / "b.gz")
    with open_reader(address) as reader:
        assert [snapshot.event.seq for snapshot in reader.snapshots()] == newest[:2]
    assert shorten(address, tmp_path / "c.gz") is None


def test_what_is_not_archived_cannot_be_deleted(address, tmp_path):
    trade(address, 1)
    shorten(address, tmp_path / "a.gz")
    with open_store(address) as store:
        kept = "DELETE FROM event WHERE seq = (SELECT max(event_seq) + 2 FROM archive)"
        statements = (kept, "DELETE FROM journal", "DELETE FROM archive", "UPDATE archive SET file = 'x'")
        for statement in statements:
            with pytest.raises(Exception, match="append-only"):
                store._db.execute(statement)
        assert audit_store(store).faults == []


def test_an_archive_of_another_store_deletes_nothing(address, tmp_path):
    trade(address, 1)
    other = str(tmp_path / "other.db")
    trade(other, 2)
    with open_store(other) as store:
        cut = retention.archive(store, tmp_path / "a.gz", MAIN, EVER)
    with open_store(address) as store:
        before = everything(store)
        with pytest.raises(StoreError, match="another market"):
            retention.archive(store, tmp_path / "a.gz", MAIN, EVER)
        with pytest.raises(StoreError, match="another market"):
            store.forget(cut)
        assert everything(store) == before
    with open_reader(address) as reader, pytest.raises(StoreError, match="another market"):
        WholeStore([tmp_path / "a.gz"], reader)


def test_a_snapshot_of_another_state_deletes_nothing(address, tmp_path):
    trade(address, 1)
    packed = base64.b64encode(zlib.compress(b"{}")).decode()
    with open_store(address) as store:
        before = everything(store)
        retention.archive(store, tmp_path / "a.gz", MAIN, EVER)
        rewrite(tmp_path / "a.gz", lambda rows: first(rows, "closing").update(content=packed))
        with pytest.raises(StoreError, match="its last snapshot does not belong to event"):
            retention.archive(store, tmp_path / "a.gz", MAIN, EVER)
        assert everything(store) == before


def rows_of(path):
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def rewrite(path, do):
    rows = rows_of(path)
    do(rows)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def first(rows, kind):
    return next(row for row in rows if row.get("row") == kind)


DAMAGES = {
    "an input": lambda rows: first(rows, "event").update(now_ns=7),
    "a body": lambda rows: first(rows, "event").update(body="{}"),
    "an amount": lambda rows: first(rows, "transfer").update(amount_uc=7),
    "no text": lambda rows: first(rows, "event").update(body=7),
    "a lost input": lambda rows: rows.remove(first(rows, "event")),
    "a lost transfer": lambda rows: rows.remove(first(rows, "transfer")),
    "a lost end": lambda rows: rows.pop(),
    "a lost snapshot": lambda rows: rows.remove(first(rows, "closing")),
    "a head": lambda rows: first(rows, "head").update(seq=1),
    "a signature": lambda rows: first(rows, "head").update(signature="00" * 64),
    "another beginning": lambda rows: rows[0].update(event_seq=1),
    "another end": lambda rows: rows[-1].update(journal_seq=1),
    "another program": lambda rows: rows[0].update(version=2),
}


@pytest.fixture(scope="module")
def archived_once(tmp_path_factory):
    """A signed store and its archive, of which tests take copies."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder, plain = tmp_path_factory.mktemp("archived"), serialization.NoEncryption()
    pem = Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(pem)
    (folder / "key.pem").chmod(0o600)
    address = str(folder / "market.db")
    trade(address, 1, 2, 3, signer=Ed25519Signer.load(folder / "key.pem"))
    with open_store(address) as store:
        retention.archive(store, folder / "a.gz", MAIN, EVER)
    return folder


@pytest.fixture
def archived(archived_once, tmp_path):
    return str(shutil.copy(archived_once / "market.db", tmp_path)), Path(shutil.copy(archived_once / "a.gz", tmp_path))


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_archive_is_found_and_deletes_nothing(archived, what):
    address, path = archived
    rewrite(path, DAMAGES[what])
    with open_store(address) as store:
        before = everything(store)
        with pytest.raises(StoreError, match=r"a\.gz"):
            retention.archive(store, path, MAIN, EVER)
        assert everything(store) == before


def test_a_flipped_bit_or_a_cut_end_of_the_file_is_found(archived):
    _, path = archived
    good, rng = path.read_bytes(), random.Random(1)
    for _ in range(20):
        at = rng.randrange(10, len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :])
        with pytest.raises(StoreError):
            Archive(path).check()
        path.write_bytes(good[:at])
        with pytest.raises(StoreError):
            Archive(path).check()


CLOSED = """UPDATE account SET credits_posted = 7, debits_posted = 7 WHERE id = (
    SELECT min(id) FROM account WHERE substr(id, 1, 7) = 'escrow:' AND debits_posted = credits_posted AND debits_posted > 7
)"""
CHANGES = [
    ("UPDATE account SET credits_posted = credits_posted + 1 WHERE id = 'customer:c1'", "customer:c1"),
    (CLOSED, "escrow of orders"),
    ("UPDATE journal SET amount_uc = amount_uc + 1 WHERE seq = (SELECT min(seq) FROM journal)", "snapshot"),
    ("UPDATE journal SET amount_uc = amount_uc + 1 WHERE seq = (SELECT max(seq) FROM journal)", "journal row"),
    ("UPDATE event SET now_ns = now_ns + 1 WHERE seq = (SELECT min(seq) FROM event)", "event"),
    ("UPDATE archive SET event_hash = 'x'", "event"),
    ("UPDATE archive SET journal_hash = 'x'", "journal row"),
    ("UPDATE snapshot SET content = ? WHERE seq = (SELECT min(seq) FROM snapshot)", "snapshot"),
    ("DELETE FROM event WHERE seq = (SELECT min(seq) FROM event)", "event"),
    ("DELETE FROM journal WHERE seq = (SELECT min(seq) FROM journal)", "snapshot"),
]


@pytest.mark.parametrize(("statement", "says"), CHANGES)
def test_the_audit_of_what_is_kept_finds_what_was_changed(address, tmp_path, statement, says):
    trade(address, 1)
    shorten(address, tmp_path / "a.gz")
    change(address, statement, *((b"x",) if "?" in statement else ()))
    with open_reader(address) as reader:
        assert any(says in fault for fault in audit_store(reader).faults), audit_store(reader).faults


def test_a_start_without_a_usable_snapshot_takes_the_archives(address, tmp_path):
    trade(address, 1, 2)
    shorten(address, tmp_path / "a.gz")
    change(address, "UPDATE snapshot SET content = ?", b"x")
    with open_store(address) as store:
        with pytest.raises(StoreError, match="no snapshot of this database can be used, and its events 1 to"):
            asyncio.run(business(store, 10, name="c"))
        asyncio.run(business(store, 10, name="c", whole=lambda: WholeStore([tmp_path / "a.gz"], store)))
    with open_reader(address) as reader:
        assert audit_store(WholeStore([tmp_path / "a.gz"], reader)).faults == []


def test_a_start_takes_the_snapshot_at_the_beginning_if_the_newer_ones_are_damaged(address, tmp_path):
    trade(address, 1, 2)
    shorten(address, tmp_path / "a.gz", before_ns=2 * NS_PER_DAY)
    change(address, "UPDATE snapshot SET content = ? WHERE seq > (SELECT min(seq) FROM snapshot)", b"x")
    with open_store(address) as store:
        asyncio.run(business(store, 10, name="c"))
        assert audit_store(store).faults == []


def test_a_backup_of_a_shortened_store_goes_back_into_a_new_one(address, tmp_path):
    from fleet_market.adapters.archive import back_up, restore

    trade(address, 1, 2)
    cut = shorten(address, tmp_path / "a.gz")
    assert back_up(address, tmp_path / "backup").faults == []
    restore(tmp_path / "backup", str(tmp_path / "again.db"))
    with open_reader(address) as old, open_reader(str(tmp_path / "again.db")) as new:
        assert everything(new) == everything(old)
        assert (new.anchor(), new.carried(), new.archives()) == (cut.end, old.carried(), old.archives())
        assert audit_store(new).faults == []


def auditor(*files):
    script = Path(__file__).parents[2] / "docs/audit/audit.py"
    done = subprocess.run([sys.executable, script, *files], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_stand_alone_auditor_reads_archives_and_what_follows_them(archived, tmp_path):
    address, path = archived
    shorten(address, path)
    books = tmp_path / "books.jsonl"
    with open_reader(address) as reader, books.open("w") as file:
        write_books(reader, file)
        with pytest.raises(StoreError, match="are archived: name the archives"):
            write_log(reader, io.StringIO())
        log = io.StringIO()
        assert write_log(WholeStore([path], reader), log) == reader.anchor().event_seq + len(list(reader.events()))
    for files in ((path,), (path, books), (books,)):
        code, told = auditor(*files)
        assert (code, told.splitlines()[-1]) == (0, "sound"), told
    assert "taken from the market's word" in told
    rewrite(path, lambda rows: first(rows, "transfer").update(amount_uc=7))
    assert auditor(path)[0] == auditor(path, books)[0] == 1
    lines = books.read_text().splitlines()
    index = next(i for i, line in enumerate(lines) if '"opened","id":"customer' in line)
    row = json.loads(lines[index])
    lines[index] = json.dumps(row | {"credits_posted": row["credits_posted"] + 1})
    books.write_text("\n".join(lines) + "\n")
    code, told = auditor(books)
    assert code == 1
    assert "issued and not burned" in told


KILLED = """
import os, signal, sys
from pathlib import Path
from fleet_market.adapters import postgres_store, retention, sqlite_store
from fleet_market.adapters.stores import open_store
from fleet_market.ids import ZoneId

address, target, when = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if when == "written":
    retention.os.link = die
if when == "linked":
    retention.sync_folder = die
with open_store(address) as store:
    starts = {"deleting": "DELETE FROM journal", "recording": "INSERT INTO archive", "committing": "COMMIT"}.get(when, "-")
    if address.startswith("postgresql"):
        insert, text = store._insert, postgres_store.sql
        if when == "recording":
            store._insert = lambda table, rows: die() if table == "archive" else insert(table, rows)
        postgres_store.sql = lambda query: die() if query.startswith(starts) else text(query)
    cut = retention.archive(store, Path(target), ZoneId("main"), 10**20)
    if not address.startswith("postgresql"):
        store._db.set_trace_callback(lambda statement: die() if statement.startswith(starts) else None)
    store.forget(cut)
    die()
"""


@pytest.mark.parametrize("when", ["written", "linked", "recording", "deleting", "committing", "committed"])
def test_kill_9_at_any_step_loses_nothing_and_keeps_nothing_twice(address, tmp_path, when):
    trade(address, 1, 2)
    with open_reader(address) as reader:
        before = everything(reader)
    target = tmp_path / "a.gz"
    done = subprocess.run([sys.executable, "-c", KILLED, address, target, when], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    finish_and_compare(address, target, before)


def finish_and_compare(address, target, before):
    """What a process that was killed has left is whole, with or without the archive; a second attempt ends it."""
    with open_again(address) as store:
        files = [target] if target.exists() else []
        found = WholeStore(files, store) if files else store
        assert everything(found) == before
        if store.anchor().event_seq == 0:
            store.forget(retention.archive(store, target, MAIN, EVER))
        assert retention.archive(store, target.with_name("next.gz"), MAIN, EVER) is None
        assert everything(WholeStore([target], store)) == before
        assert audit_store(store).faults == []
        assert audit_store(WholeStore([target], store)).faults == []


def open_again(address):
    """Open a store; PostgreSQL may take a moment to see that a process has died."""
    end = time.monotonic() + 60
    while True:
        try:
            return open_store(address)
        except StoreError as error:
            if "another market daemon" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)


def test_kill_9_at_random_instants(address, tmp_path):
    trade(address, 1, 2)
    with open_reader(address) as reader:
        before = everything(reader)
    target, rng = tmp_path / "a.gz", random.Random(7)
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED.replace("cut = ", "print('go', flush=True); cut = "), address, target, "never"],
            stdout=subprocess.PIPE,
        )
        assert child.stdout.readline() == b"go\n"
        time.sleep(rng.uniform(0.0, 0.6))
        child.kill()
        child.wait()
        child.stdout.close()
        if target.exists():
            break
    finish_and_compare(address, target, before)


async def test_the_writer_does_other_work_between_two_commits(tmp_path):
    trade_address = str(tmp_path / "market.db")
    with open_store(trade_address) as store:
        await business(store, 6 * EVERY)
        cut = retention.archive(store, tmp_path / "a.gz", MAIN, EVER)
        async with StoreWriter(store) as writer:
            await writer.between(lambda: store.forget(cut))
            with pytest.raises(StoreError, match="goes on behind event 0"):
                await writer.between(lambda: store.forget(cut))
            await writer.between(lambda: None)
        assert store.anchor() == cut.end
        await business(store, EVERY, name="b")
        assert audit_store(store).faults == []


def test_a_message_that_was_sent_before_the_cut_is_not_known_any_more(address, tmp_path):
    trade(address, 1)
    with open_reader(address) as reader:
        old = next(event for event in reader.events() if event.message_id is not None)
    shorten(address, tmp_path / "a.gz")
    with open_reader(address) as reader:
        assert reader.find_event(old.source, old.message_id) is None
