"""The command line against a running market, as a user types it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.memory_files import save_memory
from fleet_market.pricing import PlanLeg, Tariff, TaskPlan, energy_j
from fleet_market.protocol.messages import AnyBody
from fleet_market.robot.memory import Memory

FLEET = """\
map: hall.yaml
customers: {demo: 100}
market: {batch_s: 0.3}
places: {dock: 1.5;1.5, shelf: 6;3}
robots: [{id: r1, type: carrier}]
"""
MAP = "image: hall.pgm\nresolution: 0.05\norigin: [0, 0, 0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"
ORDER = ("--pickup", "dock", "--dropoff", "shelf", "--max-price", "7.5")


def run(*arguments, code=0, cwd=None):
    done = subprocess.run(
        [Path(sys.executable).with_name("fleet-market"), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture
def hall(tmp_path):
    """A hall of 8 m by 5 m with walls, and a fleet file."""
    pixels = np.full((100, 160), 254, dtype=np.uint8)
    pixels[[0, -1], :] = pixels[:, [0, -1]] = 0
    Image.fromarray(pixels).save(tmp_path / "hall.pgm")
    (tmp_path / "hall.yaml").write_text(MAP)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path


@pytest.fixture
def market(mqtt_broker, hall):
    """A market daemon as a process of its own; gives the address of its MQTT broker."""
    address = f"{mqtt_broker.host}:{mqtt_broker.port}"
    command = ["broker", "--fleet", hall / "fleet.yaml", "--database", hall / "market.db", "--mqtt", address]
    with subprocess.Popen(
        [Path(sys.executable).with_name("fleet-market"), *map(str, command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as daemon:  # fmt: skip
        assert "READY market main" in daemon.stdout.readline()
        yield address
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=60)
        assert daemon.returncode == 0, errors
        assert "Traceback" not in errors


@pytest.mark.real
def test_a_customer_posts_asks_and_cancels(market):
    at = ("--mqtt", market)
    assert "o1 accepted" in run("order", "post", "o1", *ORDER, *at)
    assert "is taken by another order" in run("order", "post", "o1", *ORDER[:-1], "7", *at, code=3)
    told = run("why", "o1", *at)
    assert "o1 is" in told
    status = json.loads(run("robots", "--json", *at))
    assert status["escrow_left_uc"] == 7_500_000
    assert "o1 cancelled" in run("order", "cancel", "o1", *at)
    assert "o1 cancelled" in run("order", "watch", "o1", *at, code=5)
    assert json.loads(run("robots", "--json", *at))["escrow_left_uc"] == 0


@pytest.mark.real
def test_refusals_name_field_value_and_mend(market):
    at = ("--mqtt", market)
    refused = run("order", "post", "o2", "--pickup", "moon", "--dropoff", "0.01;0.01", "--max-price", "7", *at, code=3)
    assert "pickup was 'moon'" in refused
    assert "known names: dock, shelf" in refused
    assert "dropoff was '0.01;0.01': occupied" in refused
    poor = run("order", "post", "o3", *ORDER[:-1], "100.5", *at, code=3)
    assert "max_price was '100.5': more than the account holds: use at most 100 credits" in poor
    assert "no order nix" in run("why", "nix", *at, code=3)
    assert "no such order" in run("order", "watch", "nix", *at, code=2)
    assert "unknown customer" in run("order", "post", "o4", *ORDER, "--as", "stranger", *at, code=3)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("why", "o1", "--mqtt", "nowhere"), 2, "use HOST:PORT"),
        (("why", "o 1"), 2, "letters, digits"),
        (("order", "post", "o1", *ORDER[:-1], "free"), 2, "decimal number"),
        (("order", "post", "o1", *ORDER, "--as", "Ann"), 2, "lower-case"),
        (("why", "o1", "--mqtt", "127.0.0.1:1", "--timeout", "1"), 4, "no MQTT broker answers at 127.0.0.1:1"),
        (
            ("broker", "--fleet", "none.yaml", "--database", "x.db"),
            2,
            "none.yaml: cannot be read: No such file or directory: name a file",
        ),
    ],
)
def test_bad_input_ends_with_one_line_and_its_exit_code(arguments, code, says, tmp_path):
    shown = run(*arguments, code=code, cwd=tmp_path)
    assert says in shown
    assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_of_the_fleet_file_that_robots_cannot_reach_stops_the_start(hall):
    (hall / "fleet.yaml").write_text(FLEET.replace("dock: 1.5;1.5", "dock: 0.1;0.1"))
    shown = run("broker", "--fleet", hall / "fleet.yaml", "--database", hall / "m.db", code=2)
    assert "places.dock" in shown
    assert not (hall / "m.db").exists()


def test_a_silent_market_is_reported(mqtt_broker):
    shown = run("why", "o1", "--mqtt", f"{mqtt_broker.host}:{mqtt_broker.port}", "--timeout", "1", code=4)
    assert "did not answer within 1 s" in shown


def test_what_a_robot_has_learned_is_shown_and_exported(hall):
    kind, plan = load_fleet(hall / "fleet.yaml").types["carrier"], TaskPlan((PlanLeg(20.0, 3.0, 2, 5.0),), 8.0)
    memory = Memory(kind)
    for _ in range(3):
        quote = memory.quote(plan, Tariff(25_000_000))
        memory.settled(plan, quote, measured_j=1.5 * energy_j(plan, kind), executed_s=60.0, elapsed_s=60.0)
    file = hall / "r1.json"
    save_memory(file, memory.export())
    shown = run("robot", "calibration", file, "--fleet", hall / "fleet.yaml")
    assert "after 3 tasks" in shown
    assert "tread" in shown
    assert json.loads(run("robot", "calibration", file, "--fleet", hall / "fleet.yaml", "--json")) == memory.export()
    file.write_text(file.read_text().replace('"robot_type": "carrier"', '"robot_type": "tank"'))
    told = run("robot", "calibration", file, "--fleet", hall / "fleet.yaml", code=2)
    assert "calibration.robot_type was 'tank'" in told
    assert "no such file" in run("robot", "calibration", hall / "none.json", code=2)


def test_the_schema_of_every_message_is_printed():
    schema = json.loads(run("schema"))
    kinds = {name for name, definition in schema["$defs"].items() if "type" in definition.get("properties", {})}
    assert {kind.__name__ for kind in AnyBody.__args__[0].__args__} == kinds


@pytest.mark.real
def test_mosquitto_is_found_and_run_on_the_loopback_interface(mosquitto, tmp_path):
    from fleet_market.adapters.mosquitto import free_port

    port = free_port()
    command = ["mosquitto", "--folder", tmp_path, "--run", port]
    with subprocess.Popen(
        [Path(sys.executable).with_name("fleet-market"), *map(str, command)], stdout=subprocess.PIPE, text=True
    ) as broker:
        assert broker.stdout.readline().startswith("Mosquitto 2.")
        shown = run("why", "o1", "--mqtt", f"127.0.0.1:{port}", "--timeout", "3", code=4)
        assert "did not answer within 3 s" in shown, "the broker answers, there is no market"
        broker.terminate()
