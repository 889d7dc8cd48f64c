"""The whole product on real parts: Mosquitto, rclpy nodes, PyBullet, SQLite; started as a user starts it."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fleet_market.adapters.sqlite_store import SqliteStore

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("fleet-market"))
HEADER = "id,pickup,dropoff,payload_kg,release_s,deadline_s,max_price\n"
pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.slow]


class Demo:
    """A demo under way; its output line by line."""

    def __init__(self, folder, orders, *options):
        (folder / "orders.csv").write_text(HEADER + orders)
        self.out = folder / "out"
        # A shell that starts tests in the background has them ignore Ctrl-C, and all that they start.
        heeding = ["env", "--default-signal=INT"]
        arguments = [
            *heeding,
            COMMAND,
            "demo",
            "--orders",
            folder / "orders.csv",
            "--out",
            self.out,
            "--speed",
            "3",
            *options,
        ]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        self.lines = []

    def until(self, pattern):
        """Read on until a line matches."""
        for line in self.process.stdout:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no line matches {pattern!r}:\n{''.join(self.lines)}")

    def end(self):
        """Read on to the end; return exit code and summary."""
        self.lines += self.process.stdout
        code = self.process.wait()
        summary = self.out / "summary.json"
        return code, json.loads(summary.read_text()) if summary.exists() else None

    def child(self, name):
        """The process that writes the log of that name."""
        log = (self.out / "logs" / f"{name}.log").resolve()
        children = psutil.Process(self.process.pid).children()
        return next(c for c in children if Path(f"/proc/{c.pid}/fd/1").resolve() == log)


@pytest.fixture
def demo(tmp_path):
    started = []

    def start(orders, *options):
        started.append(Demo(tmp_path, orders, *options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def looking(demo, address, phase):
    """Ask the market until a robot is in that phase of a task; return its name and order."""
    while demo.process.poll() is None:
        done = subprocess.run([COMMAND, "robots", "--json", "--mqtt", address], capture_output=True, text=True, check=True)
        for robot in json.loads(done.stdout)["robots"]:
            if robot["doing"] == phase:
                return robot["robot"], robot["contracts"][0]
    raise AssertionError("".join(demo.lines))


def test_a_robot_is_killed_with_a_parcel_and_the_round_still_ends_with_closed_books(demo):
    running = demo(
        "o1,receiving-1,shelf-a1,3,0,400,18\n"
        "o2,shelf-c2,shipping-1,12,0,400,18\n"
        "o3,shelf-b3,shelf-d4,2,0,400,18\n"
        "wall,7;4,shipping-1,1,0,400,18\n"
        "poor,receiving-3,shipping-3,2,0,60,0.1\n"
    )
    address = running.until(r"market at MQTT (\S+)")[1]
    assert "'7;4'" in running.until(r"order wall \(line 5\) was refused: (.*)")[1]
    robot, order = looking(running, address, "to_dropoff")
    pids = [child.pid for child in psutil.Process(running.process.pid).children()]
    running.child(robot).kill()
    running.until(f"{robot} died with exit code -9")
    running.until(f"{order}: on sale again, {robot} gave no sign of life")
    code, summary = running.end()
    assert code == 0, "".join(running.lines)
    counts = summary["orders"]
    assert (counts["posted"], counts["refused"], counts["completed"], counts["expired"]) == (4, 1, 3, 1)
    assert counts["awarded_again"] >= 1
    taken_over = next(o for o in summary["settled"] if o["order"] == order)
    assert taken_over["attempts"] >= 2
    assert taken_over["robot"] != robot
    assert all(0 < o["ask"] <= o["price"] <= 18 for o in summary["settled"])
    assert "nobody took it by its deadline" in summary["not_settled"][0]["note"]
    assert summary["ledger"]["escrow_left"] == 0
    assert summary["ledger"]["sum_debits"] == summary["ledger"]["sum_credits"] > 0
    assert (summary["contacts"]["robot_robot"], summary["contacts"]["robot_wall"]) == (0, 0)
    assert summary["energy_error"]["median_abs"] < 0.5
    with (running.out / "ledger.csv").open() as file:
        assert sum(1 for _ in csv.DictReader(file)) >= 9
    with SqliteStore.open(running.out / "market.db") as store:
        assert store.recover().events
    assert (running.out / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_robot_carries_several_parcels_at_once_and_each_is_proved_and_paid(demo):
    orders = "o1,shelf-c1,shipping-1,3,0,400,18\no2,shelf-c2,shipping-1,4,6,400,18\no3,shelf-d1,shipping-2,2,9,400,18\n"
    running = demo(orders, "--fleet", "launch/fleets/milkrun.yaml")
    code, summary = running.end()
    assert code == 0, "".join(running.lines)
    assert summary["orders"]["completed"] == 3
    assert all(o["attempts"] == 1 for o in summary["settled"])
    with (running.out / "trace.csv").open() as file:
        loads_kg = [float(row["payload_kg"]) for row in csv.DictReader(file)]
    assert max(loads_kg) > 5.5, "two parcels aboard at once: the heaviest weighs 4 kg"
    assert abs(summary["energy_error"]["total"]) < 0.3
    assert (summary["contacts"]["robot_robot"], summary["contacts"]["robot_wall"]) == (0, 0)
    assert summary["ledger"]["escrow_left"] == 0


@pytest.mark.skipif(
    "FLEET_MARKET_DATA" not in os.environ, reason="FLEET_MARKET_DATA does not name the folder of foreign data"
)
def test_a_fleet_works_on_a_map_that_nobody_here_drew(demo):
    depot = Path(os.environ["FLEET_MARKET_DATA"]) / "maps/depot.yaml"
    orders = [
        "d1,7.2;8.4,11.2;9.3,1,0,400,18",
        "d2,19.3;2.3,19.2;8.3,6,0,400,18",
        "wall,0.1;0.1,7.2;8.4,1,0,400,18",
        "far,90;9,7.2;8.4,1,0,400,18",
    ]
    running = demo("\n".join(orders), "--map", depot, "--fleet", "launch/fleets/auto.yaml")
    code, summary = running.end()
    assert code == 0, "".join(running.lines)
    assert {o["order"] for o in summary["settled"]} == {"d1", "d2"}
    assert [r["order"] for r in summary["refused"]] == ["wall", "far"]
    assert (summary["contacts"]["robot_robot"], summary["contacts"]["robot_wall"]) == (0, 0)
    assert summary["ledger"]["escrow_left"] == 0


@pytest.mark.parametrize("victim", ["mosquitto", "simulator"])
def test_the_death_of_what_everything_depends_on_ends_the_demo_with_an_error_and_leaves_nothing(demo, victim):
    running = demo("o1,receiving-1,shelf-a1,3,0,400,18\n")
    running.until(r"market at MQTT")
    children = psutil.Process(running.process.pid).children()
    running.child(victim).kill()
    code, summary = running.end()
    assert code == 1
    assert summary is None
    assert f"error: {victim} died with exit code -9" in "".join(running.lines)
    assert not any(psutil.pid_exists(child.pid) for child in children)


def test_ctrl_c_ends_all_processes(demo):
    running = demo("o1,receiving-1,shelf-a1,3,0,400,18\n")
    running.until(r"market at MQTT")
    children = psutil.Process(running.process.pid).children()
    assert len(children) == 10
    running.process.send_signal(signal.SIGINT)
    code, _ = running.end()
    assert code == 130
    assert "Traceback" not in "".join(running.lines)
    assert not any(psutil.pid_exists(child.pid) for child in children)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--orders", "pyproject.toml"], "pyproject.toml: line 1"),
        (["--fleet", "missing.yaml"], "missing.yaml"),
        (["--map", "README.md"], "README.md"),
        (["--speed", "9"], "--speed"),
    ],
)
def test_bad_input_starts_nothing_and_says_what_to_mend(tmp_path, options, complaint):
    done = subprocess.run(
        [COMMAND, "demo", "--out", tmp_path / "out", *options], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert not (tmp_path / "out").exists()
