"""A market daemon where something around it is wrong: it says so in one line, or stops, and nothing is lost."""

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest
from market_process import Daemon, cli, post, robot_and_customer, until

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
