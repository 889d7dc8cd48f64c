"""One daemon with two zones in SQLite files, on the command line."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_market.ids import ZoneId
from fleet_market.testing.takeover import write_fleets

pytestmark = pytest.mark.real
PROGRAM = Path(sys.executable).with_name("fleet-market")
ORDER = ("--pickup", "dock", "--dropoff", "shelf", "--max-price", "7.5")


def run(*arguments, code=0):
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture
def command(mqtt_broker, tmp_path):
    """What starts the daemon."""
    fleets = write_fleets(tmp_path, [ZoneId("main"), ZoneId("north")])
    options = [part for fleet in fleets for part in ("--fleet", fleet)]
    return ("broker", *options, "--database", tmp_path / "m.db", "--mqtt", f"{mqtt_broker.host}:{mqtt_broker.port}")


def test_one_daemon_runs_two_zones_with_books_of_their_own_and_a_second_is_refused(command, tmp_path):
    mqtt = command[-2:]
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(subprocess.Popen([PROGRAM, *map(str, command)], stdout=subprocess.PIPE, text=True))
        stack.callback(daemon.kill)
        ready = sorted(daemon.stdout.readline().split()[2] for _ in range(2))
        assert ready == ["main", "north"]
        assert "o1 accepted" in run("order", "post", "o1", *ORDER, *mqtt, "--zone", "north")
        assert "o1 accepted" in run("order", "post", "o1", *ORDER[:-1], "2", *mqtt)
        escrow = [json.loads(run("robots", "--json", *mqtt, "--zone", z))["escrow_left_uc"] for z in ("main", "north")]
        assert escrow == [2_000_000, 7_500_000]
        refused = run(*command, "--control", tmp_path / "second.control", code=1)
        assert "another market daemon (process" in refused
        assert "Traceback" not in refused
        store = ("--store", tmp_path / "m.db", "--zone", "north", "--json")
        assert json.loads(run("ledger", "audit", *store))["escrow_left_uc"] == 7_500_000
        assert json.loads(run("ledger", "backup", tmp_path / "copy", *store))["sound"]
        daemon.terminate()
        assert daemon.wait(60) == 0
    assert (tmp_path / "m.north.db").is_file()
    again = ("--store", tmp_path / "again.db", "--zone", "north", "--json")
    assert json.loads(run("ledger", "restore", tmp_path / "copy", *again))["sound"]
    assert json.loads(run("replay", tmp_path / "again.db", *again[2:]))["identical"]
    (tmp_path / "m.north.db").rename(tmp_path / "m.db")
    assert "holds the market of zone north, not of main: name its own" in run(*command, code=1)


def test_a_zone_can_be_named_once(command, tmp_path):
    fleet = tmp_path / "north.yaml"
    shown = run("broker", "--fleet", fleet, "--fleet", fleet, "--database", tmp_path / "m.db", code=2)
    assert "--fleet was 'north': give at least one fleet file, each of another zone" in shown
    assert "--zone was 'No rth'" in run("ledger", "audit", "--store", tmp_path / "m.db", "--zone", "No rth", code=2)
