"""A market daemon where something around it is wrong: it says so in one line, or stops, and nothing is lost."""

import asyncio
import itertools
import json
import os
import random
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from market_process import Daemon, cli, post, robot_and_customer, until

from fleet_market.adapters.stores import open_reader

pytestmark = pytest.mark.real


def ends(daemon, code):
    """Wait for the end of a daemon; returns its only line of error."""
    assert daemon.process.wait(60) == code, daemon.log.read_text()
    log = daemon.log.read_text()
    assert "Traceback" not in log
    (line,) = [line for line in log.splitlines() if line.startswith("error:")]
    return line


def test_a_wrong_password_is_told_and_not_repeated(mqtt_broker, tmp_path, postgres_address):
    wrong = postgres_address.replace(":demo@", ":sesame@")
    with Daemon(tmp_path / "d", mqtt_broker, database=wrong) as daemon:
        said = ends(daemon, 1)
    assert "password authentication failed" in said
    assert "check the user and its password (PGPASSWORD, ~/.pgpass)" in said
    assert "sesame" not in daemon.log.read_text() + daemon.out.read_text()


@pytest.mark.parametrize("known", [False, True])
def test_a_folder_that_cannot_be_written_is_told_and_the_market_in_it_is_unharmed(mqtt_broker, tmp_path, known):
    folder = tmp_path / "store"
    folder.mkdir()
    if known:
        with Daemon(tmp_path / "d", mqtt_broker, database=folder / "m.db") as daemon:
            daemon.wait_ready()
            assert daemon.stop() == 0
    daemon = Daemon(tmp_path / "e", mqtt_broker, database=folder / "m.db", prefix=without_privilege())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o400)
    folder.chmod(0o500)
    try:
        with daemon:
            said = ends(daemon, 1)
        assert f"{folder / 'm.db'}: Permission denied: use a folder that can be written" in said
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    finally:
        folder.chmod(0o700)
        for path in folder.iterdir():
            path.chmod(0o600)
    if known:
        assert "every decision is the same to the byte" in cli("replay", folder / "m.db")


def without_privilege():
    """What makes even root obey the permissions of files."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv, which changes that, is not installed")
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-dac_override,-dac_read_search")


def market_with_an_order(mqtt_broker, folder, *, settle=True):
    """Run a daemon until ann's order is settled, and kill it; returns it, with what its store holds in ``-wal`` too."""

    async def business(daemon):
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1")
            await until(lambda: robot.awards)
            if settle:
                await robot.complete(robot.awards[0], time.time_ns())
                await until(lambda: robot.settled == ["o1"] and daemon.sees(contracts=0))

    with Daemon(folder, mqtt_broker) as daemon:
        daemon.wait_ready()
        asyncio.run(business(daemon))
        daemon.process.kill()
    return daemon


def files_of(database):
    return {
        path.name: path.read_bytes()
        for path in database.parent.glob(f"{database.name}*")
        if path.suffix not in (".lock", ".seen") and "-shm" not in path.name
    }


def refused(daemon, *, says):
    """The daemon does not start, says why in one line, and leaves what it has found as it was."""
    before = files_of(daemon.database)
    daemon.log.write_text("")
    with daemon:
        assert says in ends(daemon, 1)
    return before


@pytest.mark.parametrize("what", ["pages", "header", "no database", "row", "balance"])
def test_a_damaged_database_is_refused_and_its_backup_goes_on(mqtt_broker, tmp_path, what):
    daemon = market_with_an_order(mqtt_broker, tmp_path / "d")
    backup = tmp_path / "backup.db"
    cli("ledger", "backup", backup, "--store", daemon.database)
    with sqlite3.connect(daemon.database) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if what in ("row", "balance"):
            for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                db.execute(f"DROP TRIGGER {name}")
            change = (
                "event SET now_ns = now_ns + 1 WHERE seq = 3"
                if what == "row"
                else "account SET credits_posted = credits_posted + 1"
            )
            db.execute(f"UPDATE {change}{'' if what == 'row' else CUSTOMER}")
    db.close()
    content = bytearray(daemon.database.read_bytes())
    match what:
        case "pages":
            content[8192 : len(content) - 4096] = random.Random(1).randbytes(len(content) - 12288)
        case "header":
            content[16:64] = bytes(48)
        case "no database":
            content = bytearray(b"# notes\n" * 2000)
    daemon.database.write_bytes(content)
    before = refused(daemon, says=SAYS[what])
    assert files_of(daemon.database)[daemon.database.name] == before[daemon.database.name]
    again = Daemon(tmp_path / "again", mqtt_broker)
    cli("ledger", "restore", backup, "--store", again.database)
    with again:
        again.wait_ready()
        assert again.ask("status").epoch == 2
        assert again.stop() == 0


CUSTOMER = " WHERE id = 'customer:ann'"
SAYS = {
    "pages": "is damaged", "header": "market.db: ", "no database": "file is not a database: use a writable folder",
    "row": "event 3: it is not the one that was written: the log is damaged here",
    "balance": "the stored inputs lead to other books than those stored: do not trade, audit first",
}  # fmt: skip


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_write_ahead_log_that_was_cut_starts_as_a_sound_prefix(mqtt_broker, tmp_path, share):
    daemon = market_with_an_order(mqtt_broker, tmp_path / "d", settle=False)
    wal = daemon.database.with_name(f"{daemon.database.name}-wal")
    content = wal.read_bytes()
    assert len(content) > 50_000
    wal.write_bytes(content[: int(share * len(content))])
    with daemon:
        daemon.out.write_text("")
        daemon.wait_ready()
        assert daemon.stop() == 0
    assert json.loads(cli("ledger", "audit", "--store", daemon.database, "--json"))["sound"]
    assert "every decision is the same to the byte" in cli("replay", daemon.database)


@pytest.mark.parametrize("server", [False, True])
def test_a_schema_from_the_future_is_refused_and_left_alone(mqtt_broker, tmp_path, request, server):
    database = request.getfixturevalue("postgres_address") if server else tmp_path / "d/market.db"
    with Daemon(tmp_path / "d", mqtt_broker, database=database) as daemon:
        daemon.wait_ready()
        assert daemon.stop() == 0
    if server:
        import psycopg

        with psycopg.connect(database, options="-c search_path=fleet_market") as db:
            db.execute("UPDATE schema_version SET version = 99")
    else:
        with sqlite3.connect(database) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        before = files_of(database)
    with daemon:
        assert "schema 99 is newer than this program" in ends(daemon, 1)
    if not server:
        assert files_of(database) == before


def test_a_full_disk_stops_the_market_and_loses_nothing_that_was_acknowledged(mqtt_broker, tmp_path):
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit, which bounds the size of files, is not installed")
    full = Daemon(tmp_path / "d", mqtt_broker, prefix=("prlimit", f"--fsize={400 * 1024}"))

    async def business():
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            numbers = itertools.count()
            await post(ann, f"o{next(numbers)}")
            await until(lambda: robot.awards)
            while full.process.poll() is None:
                await post(ann, f"o{next(numbers)}")
                await asyncio.sleep(0.02)
            return [award.contract for award in robot.awards]

    with full:
        full.wait_ready()
        contracts = asyncio.run(business())
        assert "free the disk or mend the folder, then restart" in ends(full, 1)
    assert contracts
    freed = Daemon(tmp_path / "d", mqtt_broker)
    freed.out.write_text("")
    with freed:
        freed.wait_ready()
        assert freed.stop() == 0
    with open_reader(freed.database) as reader:
        stored = b"".join(row.payload for row in reader.outbox()) + b"".join(event.body for event in reader.events())
    assert [contract for contract in contracts if contract.encode() not in stored] == []
    assert json.loads(cli("ledger", "audit", "--store", freed.database, "--json"))["sound"]


CLOCK = """
import os, sys, time
wall_ns = time.time_ns
time.time_ns = lambda: wall_ns() + round(1e9 * (float(open({file!r}).read() or 0) if os.path.exists({file!r}) else 0))
"""


@pytest.mark.parametrize(("jump_s", "way"), [(7200.0, "forward"), (-7200.0, "back")])
async def test_a_clock_that_jumps_stops_the_market_before_anything_is_decided_by_it(mqtt_broker, tmp_path, jump_s, way):
    site = tmp_path / "site"
    site.mkdir()
    ahead = site / "ahead"
    (site / "sitecustomize.py").write_text(CLOCK.format(file=str(ahead)))
    env = {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}:{Path.cwd()}"}
    with Daemon(tmp_path / "d", mqtt_broker, env=env) as daemon:
        daemon.wait_ready()
        async with robot_and_customer(mqtt_broker) as (robot, ann):
            await post(ann, "o1", deadline_s=600.0)
            await until(lambda: robot.awards and daemon.sees(contracts=1))
            (site / "new").write_text(str(jump_s))
            (site / "new").rename(ahead)
            said = await asyncio.to_thread(ends, daemon, 6)
            assert f"has jumped {way} by 7200" in said
            ahead.unlink()
            with daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await until(lambda: daemon.sees(contracts=1, epoch=2))
                await robot.complete(robot.awards[0], time.time_ns())
                await until(lambda: robot.settled == ["o1"])
                assert daemon.stop() == 0
    assert "every decision is the same to the byte" in cli("replay", daemon.database)
