"""The signed heads of the journal are published for everyone to keep."""

import asyncio

import pytest
from market_process import Daemon, Peer

from fleet_market.adapters.signing import Ed25519Signer, verify
from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.daemons.engine import Engine
from fleet_market.ledger import Head
from fleet_market.ledger.heads import NS_PER_DAY
from fleet_market.market import Market
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import decode
from fleet_market.testing.market_load import MarketLoad, Yard

TOPIC = topics.view("main", "head")


class Wire:
    """Keeps the heads that were published, with what the store held then."""

    def __init__(self, store):
        self.store, self.heads = store, []

    async def publish(self, topic, payload, *, qos=1, retain=False):
        if topic == TOPIC:
            assert retain
            said = decode(payload).body
            head = Head(said.day, said.seq, said.hash, said.key_id, bytes.fromhex(said.signature))
            with open_reader(self.store) as reader:
                assert head in reader.heads(), "published before it was stored"
            self.heads.append(head)


async def trade(address, signer, *days):
    """Trade on each of the days; returns the heads that were published."""
    wire = Wire(address)
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            engine = Engine(Market(Yard()), store, writer, signer)
            engine.recover()
            engine.epoch += 1
            async with asyncio.TaskGroup() as tasks:
                effects = tasks.create_task(engine.publish_effects(wire))
                load = MarketLoad(engine.market, name=f"d{days[0]}", now_ns=days[0] * NS_PER_DAY)
                for command in load.opening(engine.epoch):
                    await engine.take(command)
                for day in days:
                    load.now_ns = day * NS_PER_DAY
                    for _ in range(4):
                        for command in load.round():
                            await engine.take(command)
                await engine.settled()
                effects.cancel()
    return wire.heads


async def test_every_new_head_is_published_once_and_the_newest_again_after_a_start(tmp_path, make_key):
    address, signer = tmp_path / "m.db", Ed25519Signer.load(make_key())
    first = await trade(address, signer, 0, 1, 2)
    second = await trade(address, signer, 2, 5)
    with open_reader(address) as reader:
        heads = reader.heads()
    assert [head.day for head in heads] == [0, 1, 2]
    assert first == list(heads[:2])
    assert second == [heads[1], heads[2]]
    assert all(verify(signer.key_id, head.signature, head.signed_part()) for head in heads)


async def test_without_a_key_nothing_is_published(tmp_path):
    assert await trade(tmp_path / "m.db", None, 0, 1, 2) == []


@pytest.mark.real
async def test_whoever_comes_later_hears_the_newest_head(mqtt_broker, tmp_path, make_key):
    key, address = make_key(), tmp_path / "m.db"
    await trade(address, Ed25519Signer.load(key), 0, 1, 2)
    with Daemon(tmp_path / "d", mqtt_broker, "--ledger-key", key, database=address) as daemon:
        await asyncio.to_thread(daemon.wait_ready)
        await asyncio.to_thread(daemon.wait_for, lambda: daemon.sees(connected=True))
        late = Peer(mqtt_broker, "late", topics.view("main", "head"))
        async with late.transport, asyncio.timeout(60):
            heard = decode((await anext(aiter(late.transport.deliveries()))).payload).body
            assert heard.day in (1, 2)
        assert daemon.stop() == 0
    with open_reader(address) as reader:
        assert heard.hash in [head.hash for head in reader.heads()]
