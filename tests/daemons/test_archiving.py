"""A market daemon that archives by itself while it trades, and one that is killed while it does."""

import asyncio
import json
import shutil

import pytest
from market_process import Daemon, cli, post, robot_and_customer, until

from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.daemons import archiving
from fleet_market.daemons.archiving import Archiving, Retention
from fleet_market.daemons.engine import Engine
from fleet_market.errors import StoreError
from fleet_market.ids import ZoneId
from fleet_market.market import Market
from fleet_market.testing.crashes import Silence
from fleet_market.testing.market_load import MarketLoad, Yard

pytestmark = pytest.mark.real
MAIN = ZoneId("main")
EVERY = 300
"""Inputs between two checkpoints: few, for archives are made with little priority, which on a busy machine takes long."""
TWO = 2 * EVERY + EVERY // 4
"""Inputs of a little more than two."""


def old_market(address, checkpoints):
    """Make a store with inputs of 1970 up to so many checkpoints."""

    async def business(store):
        async with StoreWriter(store) as writer:
            engine = Engine(Market(Yard()), store, writer)
            engine.snapshot_inputs = EVERY
            engine.recover()
            engine.epoch += 1
            async with asyncio.TaskGroup() as tasks:
                effects = tasks.create_task(engine.publish_effects(Silence()))
                load = MarketLoad(engine.market)
                for command in load.opening(1):
                    await engine.take(command)
                while engine.inputs <= checkpoints * EVERY:
                    for command in load.round():
                        await engine.take(command)
                    await asyncio.sleep(0)
                await engine.settled()
                effects.cancel()

    with open_store(address) as store:
        asyncio.run(business(store))


@pytest.fixture(scope="module")
def old_file(tmp_path_factory):
    """A store in a file with four checkpoints of 1970, of which tests take copies."""
    file = tmp_path_factory.mktemp("old") / "market.db"
    old_market(str(file), 4)
    return file


@pytest.fixture
def old_copy(old_file, tmp_path):
    return str(shutil.copy(old_file, tmp_path / "market.db"))


@pytest.fixture(params=["sqlite", "postgres"])
def address(request):
    """Where a store with four checkpoints of 1970 is."""
    if request.param == "sqlite":
        return request.getfixturevalue("old_copy")
    server = request.getfixturevalue("postgres_address")
    old_market(server, 4)
    return server


def anchor(address):
    with open_reader(address) as reader:
        return reader.anchor().event_seq


async def test_a_daemon_archives_what_is_old_while_it_trades(mqtt_broker, tmp_path, address):
    folder = tmp_path / "archives"
    settings = tmp_path / "market.toml"
    settings.write_text(f'[retention]\nfolder = "{folder}"\ndays = 30\n')
    with Daemon(tmp_path / "d", mqtt_broker, "--config", settings, database=address) as daemon:
        await asyncio.to_thread(daemon.wait_ready)
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await until(lambda: anchor(address) > 2 * EVERY, within_s=200)
            await until(lambda: robot.awards)
            await post(ann, "o2")
            await until(lambda: daemon.sees(open_orders=1) or len(robot.awards) == 2)
        assert daemon.stop() == 0
    log = daemon.log.read_text()
    assert "are archived in main.000000000001.archive.gz" in log
    assert "not archived" not in log
    for files in ((), ("--archive", folder)):
        assert json.loads(cli("ledger", "audit", "--store", address, *files, "--json"))["sound"]
    told = json.loads(cli("replay", address, *sorted(folder.iterdir()), "--json"))
    assert (told["identical"], told["first_event"]) == (True, 1)


async def archive_in(address, folder):
    with open_store(address) as store:
        async with StoreWriter(store) as writer:
            work = Archiving(Retention(folder, 0.0), address, MAIN, store, writer, Now(), TWO)
            return [await work.archive_one() for _ in range(3)]


class Now:
    def now_ns(self):
        return 10**18


async def test_what_a_killed_daemon_has_archived_and_not_deleted_is_not_archived_twice(tmp_path, address):
    job = {
        "database": address,
        "zone": "main",
        "folder": str(tmp_path / "archives"),
        "before_ns": 10**18,
        "max_inputs": EVERY,
    }
    cut = await asyncio.to_thread(archiving.next_archive, job)
    written = {path.name: path.read_bytes() for path in (tmp_path / "archives").iterdir()}
    assert anchor(address) == 0
    did = await archive_in(address, tmp_path / "archives")
    assert did == [True, True, False]
    for name, content in written.items():
        assert (tmp_path / "archives" / name).read_bytes() == content
    with open_reader(address) as reader:
        assert reader.archives()[0] == (cut.end, cut.file, cut.sha256)


async def test_a_folder_that_cannot_be_written_leaves_everything_in_the_store(tmp_path, old_copy):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/in: Not a directory: use a folder that can be written"):
        await archive_in(old_copy, tmp_path / "file" / "in")
    assert anchor(old_copy) == 0
