"""`fleet-market ledger archive`, and the commands that read archives, as they are typed."""

import asyncio
import json

import pytest
from market_process import cli

from fleet_market.adapters.store_writer import StoreWriter
from fleet_market.adapters.stores import open_store
from fleet_market.daemons.engine import Engine
from fleet_market.market import Market
from fleet_market.testing.crashes import Silence
from fleet_market.testing.market_load import MarketLoad, Yard


@pytest.fixture
def market(tmp_path):
    """The database of a market that traded in 1970."""

    async def business(store):
        async with StoreWriter(store) as writer:
            engine = Engine(Market(Yard()), store, writer)
            engine.snapshot_inputs = 200
            engine.recover()
            engine.epoch += 1
            async with asyncio.TaskGroup() as tasks:
                effects = tasks.create_task(engine.publish_effects(Silence()))
                load = MarketLoad(engine.market)
                for command in load.opening(1):
                    await engine.take(command)
                while engine.inputs < 900:
                    for command in load.round():
                        await engine.take(command)
                await engine.settled()
                effects.cancel()

    with open_store(tmp_path / "market.db") as store:
        asyncio.run(business(store))
    return tmp_path / "market.db"


def test_what_is_older_than_90_days_goes_into_a_file_that_all_commands_read(market, tmp_path):
    archive, books = tmp_path / "main.000000000001.archive.gz", tmp_path / "books.jsonl"
    whole = json.loads(cli("ledger", "audit", "--store", market, "--json"))
    told = json.loads(cli("ledger", "archive", "--store", market, "--to", archive, "--json"))
    assert told["events"] > 400
    for given in (archive, tmp_path):
        again = json.loads(cli("ledger", "audit", "--store", market, "--archive", given, "--json"))
        assert again == whole
    alone = json.loads(cli("ledger", "verify-chain", "--store", market, "--json"))
    assert (alone["sound"], alone["archived_events"]) == (True, told["events"])
    assert alone["log_hash"] == whole["log_hash"]
    replays = [json.loads(cli("replay", *logs, "--json")) for logs in ((market,), (archive, market), (archive,))]
    assert [r["identical"] for r in replays] == [True] * 3
    assert [r["first_event"] for r in replays] == [told["events"] + 2, 1, 1]
    assert replays[1]["events"] == whole["events"] == replays[2]["events"] + replays[0]["events"] + 1
    assert "are archived: name the archives by --archive" in cli(
        "ledger", "export", "--log", books, "--store", market, code=1
    )
    cli("ledger", "export", books, "--store", market, "--archive", archive)
    assert json.loads(books.read_text().splitlines()[0])["version"] == 1
    assert "nothing archived" in cli("ledger", "archive", "--store", market, "--to", tmp_path / "b.gz")
    assert "goes on behind event 0" in cli("ledger", "archive", "--store", market, "--to", archive, code=1)


def test_nothing_leaves_that_is_younger_than_the_date(market, tmp_path):
    said = cli("ledger", "archive", "--store", market, "--to", tmp_path / "a.gz", "--before", "1970-01-01")
    assert "nothing is old enough" in said
    assert not (tmp_path / "a.gz").exists()


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    missing = tmp_path / "nosuch.db"
    assert "name the database of a market" in cli(
        "ledger", "archive", "--store", missing, "--to", tmp_path / "a.gz", code=1
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("ledger", "archive", "--store", "{market}", "--to", "a.gz", "--before", "yesterday"), "use a date", 2),
        (("ledger", "archive", "--store", "{market}", "--to", "{none}/a.gz"), "use a folder with room", 1),
        (("ledger", "audit", "--store", "{market}", "--archive", "{market}"), "cannot be read", 1),
        (("ledger", "audit", "--store", "{market}", "--archive", "{empty}"), "no archive of zone main is in it", 2),
        (("replay", "{market}", "{market}"), "one store and archives", 2),
    ],
)
def test_bad_input_is_told(market, tmp_path, arguments, says, code):
    (tmp_path / "empty").mkdir()
    places = {"market": market, "none": tmp_path / "none", "empty": tmp_path / "empty"}
    assert says in " ".join(cli(*(a.format(**places) for a in arguments), code=code, cwd=tmp_path).split())


def test_a_market_that_runs_is_left_alone(market, tmp_path):
    with open_store(market):
        said = cli("ledger", "archive", "--store", market, "--to", tmp_path / "a.gz", code=1)
    assert "another market daemon" in said
    assert not (tmp_path / "a.gz").exists()
