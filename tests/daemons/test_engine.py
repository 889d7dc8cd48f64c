"""The engine over a real store: recovery, replay, repeated inputs; a load stands in for robots and customers."""

import asyncio
import contextlib
import dataclasses
import json
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet_market.adapters.auditing import NoPlaces, audit_store
from fleet_market.adapters.clocks import WallClock
from fleet_market.adapters.exports import read_log, write_books, write_log
from fleet_market.adapters.guard import Guard
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.daemons import engine as engine_module
from fleet_market.daemons.engine import Engine
from fleet_market.daemons.zone import Zone, ZoneConfig
from fleet_market.errors import ClockError, InputError, LedgerMismatchError, PlaceError, StoreError
from fleet_market.ids import MAIN_ZONE, MessageId, RobotId, RouteId
from fleet_market.ledger.heads import NS_PER_DAY
from fleet_market.market import Market, ReplayError, Send, order_faults, replay
from fleet_market.market.outcome import Outcome
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import Envelope, encode
from fleet_market.protocol.gate import Gate, Limits
from fleet_market.protocol.messages import Receipt, Reroute, Route, RouteRequest, WirePose
from fleet_market.testing.market_load import MarketLoad, Yard

ROOT = Path(__file__).parents[2]


class Wire:
    """Keeps what was published."""

    def __init__(self):
        self.sent, self.used = [], asyncio.Event()

    async def publish(self, topic, payload, *, qos=1, retain=False):
        self.sent.append((topic, payload))
        self.used.set()


class SlowDisk:
    """A writer that says of no record that it is stored until `done` is set."""

    def __init__(self, writer):
        self.writer, self.done = writer, asyncio.Event()

    def submit(self, record):
        return asyncio.ensure_future(self.stored(self.writer.submit(record)))

    async def stored(self, record):
        await self.done.wait()
        await record


@contextlib.asynccontextmanager
async def running(address, places=None, signer=None, wrap=lambda writer: writer):
    """An engine that has recovered, and its wire."""
    wire = Wire()
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            engine = Engine(Market(places or Yard()), store, wrap(writer), signer)
            engine.recover()
            engine.epoch += 1
            async with asyncio.TaskGroup() as tasks:
                effects = tasks.create_task(engine.publish_effects(wire))
                yield engine, wire
                await engine.settled()
                effects.cancel()


async def trade(engine, rounds=40, name="a", **more):
    """Let the load run for some rounds."""
    load = MarketLoad(engine.market, name=name, now_ns=engine.now_ns, **more)
    for command in load.opening(engine.epoch):
        await engine.take(command)
    for _ in range(rounds):
        for command in load.round():
            await engine.take(command)
    return load


@pytest.fixture(scope="module")
def traded(tmp_path_factory):
    """The database of a market that has traded for a while and died."""
    path = tmp_path_factory.mktemp("traded") / "market.db"

    async def run():
        async with running(path) as (engine, _):
            await trade(engine, rounds=60)

    asyncio.run(run())
    return path


@pytest.fixture
def database(traded, tmp_path):
    """A copy that may be spoiled."""
    path = tmp_path / "market.db"
    with open_reader(traded) as reader:
        reader.backup(path)
    return path


def spoil(path, statement):
    db = sqlite3.connect(path)
    for table in ("event", "journal"):
        db.execute(f"DROP TRIGGER {table}_is_append_only_update")
        db.execute(f"DROP TRIGGER {table}_is_append_only_delete")
    db.execute(statement)
    db.commit()
    db.close()


def test_a_busy_market_leaves_books_that_are_sound(traded):
    with open_reader(traded) as reader:
        report = audit_store(reader)
        assert (report.faults, report.notes) == ([], [])
        assert report.transfers > 100
        assert report.metrics.escrow_left_uc > 0
        assert len(reader.outbox()) > 0


async def test_a_restart_is_a_replay_and_goes_on_where_it_stopped(database):
    async with running(database) as (engine, _):
        before = engine.inputs
        state = engine.market.state
        await trade(engine, name="b")
        assert engine.inputs > before + 100
        assert order_faults(state) == []
    with open_reader(database) as reader:
        assert audit_store(reader).faults == []


async def test_a_map_that_was_changed_since_changes_nothing_of_the_past(database):
    class NothingIsThere:
        def resolve(self, text, *, source, field):
            raise PlaceError(source, field, text, "the hall was rebuilt")

    with open_reader(database) as reader:
        journal = tuple(reader.journal())
    async with running(database, NothingIsThere()) as (engine, _):
        assert tuple(engine.market.ledger.journal) == journal


def test_the_log_gives_the_same_decisions_to_the_byte_from_its_export_alone(traded, tmp_path):
    with open_reader(traded) as reader, (tmp_path / "log.jsonl").open("w") as file:
        count = write_log(reader, file)
        events = tuple(reader.events())
    assert tuple(read_log(tmp_path / "log.jsonl")) == events
    at = replay(Market(NoPlaces()), read_log(tmp_path / "log.jsonl"))
    assert (at.seq, at.hash, at.diverged) == (count, events[-1].hash, [])


def test_a_market_that_decides_otherwise_is_told_at_which_event(traded, monkeypatch):
    with open_reader(traded) as reader:
        events = tuple(reader.events())
    chosen = next(e.seq for e in events if b'"type":"complete"' in e.body)
    real = Outcome.digest

    def digest(self):
        sends = [dataclasses.replace(s, topic=s.topic.replace("/settle", "/settled")) for s in self.sends]
        return real(dataclasses.replace(self, sends=sends))

    monkeypatch.setattr(Outcome, "digest", digest)
    assert replay(Market(NoPlaces()), events).diverged[0] == chosen


@pytest.mark.parametrize("column", ["now_ns", "body", "lookups", "effects", "hash", "message_id"])
def test_a_changed_event_is_located_by_the_replay(database, column):
    blob = column in ("body", "lookups")
    value = f"{column} + 1" if column == "now_ns" else "CAST('{}' AS BLOB)" if blob else "'x'"
    spoil(database, f"UPDATE event SET {column} = {value} WHERE seq = 77")  # noqa: S608 - constants of this file
    with open_reader(database) as reader, pytest.raises(ReplayError, match=r"^event 77: ") as error:
        replay(Market(NoPlaces()), reader.events())
    assert error.value.seq == 77


def test_any_flipped_bit_of_the_file_is_found_or_lies_where_nothing_is(traded, tmp_path):
    rng = random.Random(5)
    with open_reader(traded) as reader:
        whole = reader.recover()
        reader.backup(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    found = 0
    for _ in range(25):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (tmp_path / "flipped").write_bytes(flipped)
        try:
            with open_reader(tmp_path / "flipped") as reader:
                faults = audit_store(reader).faults
                same = not faults and reader.recover() == whole
        except StoreError as error:
            same, faults = False, [str(error)]
        assert same or faults
        found += bool(faults)
    assert found > 10


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM outbox WHERE position = (SELECT min(position) FROM outbox)", "should wait in the outbox"),
        ("UPDATE outbox SET id = 'award:0123' WHERE position = (SELECT min(position) FROM outbox)", "outbox is damaged"),
        ("UPDATE account SET credits_posted = credits_posted + 1 WHERE id = 'owner:o1'", "other books"),
        ("DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)", "other books"),
        ("DELETE FROM event WHERE seq > (SELECT max(seq) - 40 FROM event)", "other books"),
        ("DELETE FROM event WHERE seq = 5", "event 5: "),
    ],
)
async def test_a_start_on_spoiled_books_is_refused(database, statement, says):
    spoil(database, statement)
    with pytest.raises((LedgerMismatchError, StoreError), match=says):
        async with running(database):
            pass


async def test_a_receipt_for_what_was_sent_to_another_changes_nothing(tmp_path):
    async with running(tmp_path / "m.db") as (engine, _):
        load = await trade(engine)
        message, send = next(iter(engine.market.state.unconfirmed.items()))
        other = next(f"r{i}" for i in range(load.robots) if f"/r{i}/" not in send.topic)
        before = engine.inputs
        await engine.take(load._from(other, Receipt(of=message)))
        assert engine.inputs == before
        assert message in engine._outbox
    async with running(tmp_path / "m.db") as (engine, _):
        assert message in engine._outbox


async def test_what_follows_from_nothing_stored_waits_for_no_commit_and_is_acknowledged_in_its_turn(tmp_path):
    disks, acknowledged = [], []

    def wrap(writer):
        disks.append(SlowDisk(writer))
        return disks[0]

    async with running(tmp_path / "market.db", wrap=wrap) as (engine, wire):
        for command in MarketLoad(engine.market, name="a", now_ns=0).opening(engine.epoch):
            await engine.take(command, lambda: acknowledged.append("stored"))
        turned_away = Send(topics.to_robot(RobotId("r1"), "reroute"), Reroute(route=RouteId("w1"), reason="a wreck"))
        await engine.tell(wire, [turned_away], lambda: acknowledged.append("told"))
        await wire.used.wait()
        assert ([topic for topic, _ in wire.sent], acknowledged) == ([turned_away.topic], [])
        disks[0].done.set()
        await engine.settled()
        assert len(wire.sent) > 1
        assert set(acknowledged[:-1]) == {"stored"}
        assert acknowledged[-1] == "told"


class Floor:
    """Stands for a traffic control that grants at once."""

    def request(self, robot, body, now_ns):
        route = Route(request=body.request, route=RouteId("w1"), served=True, points=(), stops=(), released=0, reason="")
        return [(robot, route)]


class Line(Wire):
    """Delivers a robot's request for a way as soon as somebody listens."""

    def waiting(self):
        return 0

    async def deliveries(self):
        body = RouteRequest(request=MessageId("q1"), pose=WirePose(x=0.0, y=0.0, yaw=0.0), stops=())
        asked = Envelope(id=MessageId("m1"), ts=0, src=RobotId("r1"), body=body)
        yield Delivery(topics.from_robot(RobotId("r1"), MAIN_ZONE, "route"), encode(asked), lambda: None)
        await asyncio.Event().wait()


async def test_after_a_start_no_way_is_granted_before_robots_hear_that_the_old_ones_are_void(tmp_path):
    line, opened, granted = Line(), topics.zone(MAIN_ZONE, "auctioneer"), topics.to_robot(RobotId("r1"), "route")
    with open_store(tmp_path / "m.db") as store:
        async with StoreWriter(store) as writer:
            disk = SlowDisk(writer)
            config = ZoneConfig(Yard(), zone=MAIN_ZONE, traffic=Floor())
            zone = Zone(config, store, disk, WallClock(), Guard(Gate(Limits())))
            zone.recover()
            running = asyncio.create_task(zone.run(line))
            for _ in range(50):
                await asyncio.sleep(0)  # whatever would be sent before the commit has left by now
            assert line.sent == []
            disk.done.set()
            async with asyncio.timeout(60):
                while granted not in (told := [topic for topic, _ in line.sent]):
                    line.used.clear()
                    await line.used.wait()
            running.cancel()
            await asyncio.wait([running])
    assert told.index(opened) < told.index(granted)


async def test_a_repeated_input_gets_its_answer_again_even_when_memory_has_forgotten_it(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_REPLIES", 5)
    async with running(tmp_path / "m.db") as (engine, wire):
        load = MarketLoad(engine.market)
        commands = [*load.opening(1), *load.round(), *load.round()]
        for command in commands:
            await engine.take(command)
        first = next(c for c in commands if type(c.body).__name__ == "PostOrder")
        assert len(engine._replies) == 5
        assert (first.source, first.message_id) not in engine._replies
        await engine.settled()
        before, inputs = len(wire.sent), engine.inputs
        await engine.take(first)
        await engine.settled()
        assert len(wire.sent) == before + 1
        assert engine.inputs == inputs
        assert json.loads(wire.sent[-1][1])["corr"] == first.message_id


async def test_each_day_gets_a_signed_head_also_when_the_key_comes_later(tmp_path, make_key):
    signer = Ed25519Signer.load(make_key())
    async with running(tmp_path / "m.db") as (engine, _):
        load = await trade(engine, rounds=4)
        load.now_ns = NS_PER_DAY + 10**9
        for command in [c for _ in range(4) for c in load.round()]:
            await engine.take(command)
    async with running(tmp_path / "m.db", signer=signer) as (engine, _):
        load = await trade(engine, rounds=2, name="b")
        load.now_ns = 3 * NS_PER_DAY + 10**9
        for _ in range(4):
            for command in load.round():
                await engine.take(command)
    with open_reader(tmp_path / "m.db") as reader:
        assert [head.day for head in reader.heads()] == [0, 1]
        assert audit_store(reader, key_id=signer.key_id).faults == []


@pytest.mark.parametrize(("ahead_s", "refused"), [(3600, True), (30, False)])
async def test_a_clock_far_behind_the_stored_market_is_a_safe_stop(tmp_path, ahead_s, refused):
    async with running(tmp_path / "m.db") as (engine, _):
        engine.now_ns = time.time_ns() + ahead_s * 10**9
        await trade(engine, rounds=1)
    with open_store(tmp_path / "m.db") as store:
        zone = Zone(ZoneConfig(Yard()), store, StoreWriter(store), WallClock(), Guard(Gate(Limits())))
        if refused:
            with pytest.raises(ClockError, match=r"is 3\d\d\d s behind the market's last input: set the clock"):
                zone.recover()
        else:
            zone.recover()
            assert zone._now_ns() == zone.engine.now_ns, "market time stands still until the clock has caught up"


# --- the auditor's script, which imports nothing of ours ---


def audit_script(path, *arguments):
    return subprocess.run(
        [sys.executable, "-I", ROOT / "docs/audit/audit.py", path, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def books(traded, tmp_path):
    path = tmp_path / "books.jsonl"
    with open_reader(traded) as reader, path.open("w") as file:
        write_books(reader, file)
    return path


def test_the_auditors_script_derives_every_balance_and_metric_from_the_export(books):
    done = audit_script(books)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "sound"
    published = json.loads(books.read_text().splitlines()[-1])
    for name in ("sum_debits_uc", "escrow_left_uc", "supply_uc", "journal_hash"):
        assert f"{name} {published[name]}" in done.stdout


def rehashed(rows):
    """Rows with a fresh chain, as a forger would make it."""
    import hashlib

    last = "0" * 64
    for row in rows:
        if row.get("row") == "transfer":
            values = [v for k, v in row.items() if k not in ("row", "hash")]
            canonical = json.dumps(values, separators=(",", ":"), ensure_ascii=True)
            last = row["hash"] = hashlib.sha256((last + canonical).encode()).hexdigest()
    rows[-1]["journal_hash"] = last
    return rows


def first(rows, **fields):
    return next(r for r in rows if all(r.get(k) == v for k, v in fields.items()))


def twice_paid(rows):
    capture = first(rows, kind="capture")
    rows[rows.index(first(rows, kind="void"))].update(
        {k: capture[k] for k in ("kind", "debit", "credit", "amount_uc", "pending")}
    )


def pay_one_more(rows):
    next(r for r in rows if r.get("kind") == "post" and r["debit"].startswith("escrow:"))["amount_uc"] += 1


FORGERIES = [
    (pay_one_more, "overdraws escrow:"),
    (lambda rows: first(rows, kind="capture").update(amount_uc=10**12), "out of a hold of"),
    (twice_paid, "no open hold"),
    (lambda rows: first(rows, row="account", id="owner:o1").update(credits_posted=1), "owner:o1 holds"),
    (lambda rows: rows[-1].update(escrow_left_uc=0), "published escrow_left_uc is 0"),
    (lambda rows: rows[-1].update(supply_uc=1), "published supply_uc is 1"),
    (lambda rows: rows.remove(first(rows, kind="post", reference="endowment")), "overdraws customer"),
    (lambda rows: first(rows, kind="hold").update(debit="sink:x"), "what no transfer may"),
]


@pytest.mark.parametrize("forge", range(len(FORGERIES)))
def test_the_auditors_script_finds_a_forgery_even_with_a_fresh_chain(books, forge):
    spoil_rows, says = FORGERIES[forge]
    rows = [json.loads(line) for line in books.read_text().splitlines()]
    spoil_rows(rows)
    for fresh in (False, True):
        content = rehashed([dict(r) for r in rows]) if fresh else rows
        books.write_text("".join(json.dumps(r) + "\n" for r in content))
        done = audit_script(books)
        assert done.returncode == 1
        assert "NOT SOUND" in done.stdout
    assert says in done.stdout


def test_the_auditors_script_says_when_a_file_cannot_be_read(tmp_path):
    (tmp_path / "x").write_text("{}\n")
    assert audit_script(tmp_path / "x").returncode == 2
    assert audit_script(tmp_path / "none").returncode == 2


def test_an_event_log_with_a_damaged_line_is_refused_by_its_number(traded, tmp_path):
    path = tmp_path / "log.jsonl"
    with open_reader(traded) as reader, path.open("w") as file:
        write_log(reader, file)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:7], lines[7][:50], *lines[8:]]))
    with pytest.raises(InputError, match="line 8 was"):
        list(read_log(path))
