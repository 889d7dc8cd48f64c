"""Starts from a snapshot, on both stores: quick, exact, and never from one that is not sound."""

import asyncio
import contextlib
import logging
import zlib

import pytest

from fleet_market.adapters.auditing import NoPlaces, audit_store
from fleet_market.adapters.exports import write_log
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.daemons import engine as engine_module
from fleet_market.daemons.engine import Engine
from fleet_market.errors import LedgerMismatchError
from fleet_market.ledger.heads import NS_PER_DAY
from fleet_market.market import Market, replay
from fleet_market.market import market as market_module
from fleet_market.market.snapshot import write_snapshot
from fleet_market.testing.crashes import Silence
from fleet_market.testing.market_load import MarketLoad, Yard

EVERY = 100


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def address(request, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "SNAPSHOT_INPUTS", EVERY)
    if request.param == "sqlite":
        return str(tmp_path / "market.db")
    return request.getfixturevalue("postgres_address")


@contextlib.asynccontextmanager
async def running(address, signer=None):
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            engine = Engine(Market(Yard()), store, writer, signer)
            engine.recover()
            engine.epoch += 1
            async with asyncio.TaskGroup() as tasks:
                effects = tasks.create_task(engine.publish_effects(Silence()))
                yield engine
                await engine.settled()
                effects.cancel()


async def trade(engine, rounds=30, name="a"):
    load = MarketLoad(engine.market, name=name, now_ns=engine.now_ns)
    commands = []
    for command in load.opening(engine.epoch):
        await engine.take(command)
    for _ in range(rounds):
        for command in load.round():
            commands.append(command)
            await engine.take(command)
    return commands


def change(address, statement, *parameters):
    if address.startswith("postgresql"):
        import psycopg

        with psycopg.connect(address, options="-c search_path=fleet_market") as db:
            db.execute("SET session_replication_role = replica")
            db.execute(statement.replace("?", "%s"), parameters)
    else:
        import sqlite3

        with sqlite3.connect(address) as db:
            db.execute("DROP TRIGGER IF EXISTS event_is_append_only_update")
            db.execute(statement, parameters)


def whole_log(address):
    market = Market(NoPlaces())
    with open_reader(address) as reader:
        at = replay(market, reader.events())
    assert at.diverged == []
    return at, market


async def test_a_start_replays_what_came_since_the_snapshot_and_is_where_a_whole_replay_is(address):
    for number in range(4):
        async with running(address) as engine:
            assert engine.inputs - engine._snapshot_seq <= EVERY
            assert number == 0 or engine._snapshot_seq > 0
            if number:
                at, market = whole_log(address)
                assert (at.seq, at.hash, at.now_ns) == (engine.inputs, engine._hash, engine.now_ns)
                assert write_snapshot(market.state) == write_snapshot(engine.market.state)
            await trade(engine, name=f"n{number}")
    with open_reader(address) as reader:
        assert audit_store(reader).faults == []
        assert len(list(reader.snapshots())) == 2, "older ones are not kept"


async def test_an_input_from_before_the_snapshot_gets_its_answer_again(address):
    async with running(address) as engine:
        commands = await trade(engine)
    first = next(c for c in commands if type(c.body).__name__ == "PostOrder")
    async with running(address) as engine:
        before = engine.inputs
        assert (first.source, first.message_id) not in engine._replies
        await engine.take(first)
        assert engine.inputs == before


def spoil_the_content(address, seq, content):
    change(address, "UPDATE snapshot SET content = ? WHERE seq = ?", content[:-9], seq)


def change_the_state(address, seq, content):
    other = zlib.decompress(content).replace(b'"paused":false', b'"paused":true')
    change(address, "UPDATE snapshot SET content = ? WHERE seq = ?", zlib.compress(other), seq)


@pytest.mark.parametrize("spoil", [spoil_the_content, change_the_state])
async def test_a_snapshot_that_is_not_sound_is_passed_over(address, spoil, caplog):
    async with running(address) as engine:
        await trade(engine)
    _, market = whole_log(address)
    with open_reader(address) as reader:
        stored = list(reader.rows("snapshot"))
    for spoiled, (seq, content) in enumerate(stored, start=1):
        spoil(address, seq, content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            async with running(address) as engine:
                assert write_snapshot(engine.market.state) == write_snapshot(market.state)
                assert engine._snapshot_seq == (stored[1][0] if spoiled == 1 else 0)
        assert len([r for r in caplog.records if f"snapshot at event {seq}" in r.getMessage()]) == 1


async def test_a_checkpoint_that_was_changed_is_a_safe_stop(address):
    async with running(address) as engine:
        await trade(engine)
        seq = engine._snapshot_seq
    change(address, "UPDATE event SET effects = 'x' WHERE seq = ?", seq + 1)
    with pytest.raises(LedgerMismatchError, match=f"event {seq + 1}: it is not the one that was written"):
        async with running(address):
            pass


async def test_balances_that_only_the_snapshots_have_are_not_believed(address, monkeypatch):
    """The forger mends the log's checkpoint too: the books then differ from those stored."""
    mine, more = b'"customer:c0":{"debits_posted":', b"1"
    monkeypatch.setattr(market_module, "write_snapshot", lambda state: write_snapshot(state).replace(mine, mine + more))
    async with running(address) as engine:
        await trade(engine)
        honest = engine.market.ledger.balances()
    monkeypatch.setattr(market_module, "write_snapshot", write_snapshot)
    async with running(address) as engine:
        assert engine._snapshot_seq == 0
        assert engine.market.ledger.balances() == honest


async def test_heads_are_signed_across_snapshots(address, make_key):
    signer = Ed25519Signer.load(make_key())
    async with running(address, signer) as engine:
        for day in range(3):
            engine.now_ns = day * NS_PER_DAY + 1
            await trade(engine, rounds=8, name=f"d{day}")
    async with running(address, signer) as engine:
        assert engine._snapshot_seq > 0
        engine.now_ns = 3 * NS_PER_DAY
        await trade(engine, rounds=2, name="z")
    with open_reader(address) as reader:
        assert [head.day for head in reader.heads()] == [0, 1, 2]
        assert audit_store(reader, key_id=signer.key_id).faults == []


async def test_the_exported_log_of_a_market_with_snapshots_gives_the_same_decisions(address, tmp_path):
    from fleet_market.adapters.exports import read_log

    async with running(address) as engine:
        await trade(engine)
    with open_reader(address) as reader, (tmp_path / "log").open("w") as file:
        write_log(reader, file)
    at = replay(Market(NoPlaces()), read_log(tmp_path / "log"))
    assert (at.seq, at.diverged) == (engine.inputs, [])


async def test_missing_events_behind_the_snapshot_are_a_safe_stop(address):
    async with running(address) as engine:
        await trade(engine)
        last = engine._snapshot_seq
    change(address, "UPDATE event SET seq = -seq WHERE seq = ?", last + 2)
    with pytest.raises(LedgerMismatchError, match=f"event {last + 2}: "):
        async with running(address):
            pass
