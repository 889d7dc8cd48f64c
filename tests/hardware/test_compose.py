"""Robots of one YAML file, and `fleet-market robot check`."""

import asyncio
import json
import sys

import pytest
from typer.testing import CliRunner

pytest.importorskip("can")
pytest.importorskip("serial")

from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.body import Act, End, Go, Job, Pose
from fleet_market.cli.app import app
from fleet_market.errors import InputError
from fleet_market_hardware import drivers
from fleet_market_hardware.compose import load_robot
from fleet_market_hardware.emulators.vesc import VescEmulator


@pytest.fixture
def vesc():
    with VescEmulator() as emulator:
        yield emulator


def written(tmp_path, text):
    file = tmp_path / "robot.yaml"
    file.write_text(text)
    return file


@pytest.fixture
def supply(tmp_path, monkeypatch):
    folder = tmp_path / "class" / "BAT0"
    folder.mkdir(parents=True)
    for name, text in {"type": "Battery", "status": "Discharging", "capacity": "64"}.items():
        (folder / name).write_text(text)
    from fleet_market_hardware.batteries import sysfs

    monkeypatch.setattr(sysfs.SysfsBattery.__init__, "__kwdefaults__", {"root": folder.parent})


@pytest.fixture
def file(tmp_path, vesc, supply):
    python = json.dumps(sys.executable)
    return written(
        tmp_path,
        f"""
robot: amr1
type: carrier
base: {{type: vesc, port: {vesc.port}}}
battery: {{type: sysfs, supply: BAT0}}
limits: {{max_speed_mps: 0.8, fence: [[-2, -2], [4, -2], [4, 2], [-2, 2]]}}
actions:
  load: {{command: [{python}, -c, "import sys; sys.exit(0 if sys.argv[2] == '1.5' else 3)"]}}
  unload: {{command: [{python}, -c, "import sys; sys.exit(2)"]}}
""",
    )


async def test_a_composed_robot_drives_loads_and_says_what_failed(file):
    robot = load_robot(file, shipped_types())
    assert robot.spec.actions == {"load", "unload"}
    assert robot.spec.measures == {"motors", "battery", "energy"}
    await robot.open(timeout_s=60.0)
    there = Go(Pose(0.5, 0.0), ((0.0, 0.0), (0.5, 0.0)), 2)
    result = await robot.run(Job("j", (there, Act("load", "p1", 1.5))), deadline_s=30)
    assert (result.end, result.standstill) == (End.DONE, True)
    battery = robot.telemetry().battery
    assert (battery.soc, battery.voltage_v) == (0.64, 24.2), "the gauge's charge, the controllers' voltage"
    result = await robot.run(Job("j", (Act("load", "p1", 9.0),)), deadline_s=30)
    assert (result.end, result.steps_done) == (End.FAILED, 0)
    result = await robot.run(Job("j", (Act("unload", "p1", 1.5),)), deadline_s=30)
    assert result.end is End.FAILED
    assert result.reason.endswith("ended with 2")
    assert (await robot.run(Job("j", (Act("charge"),)), deadline_s=30)).end is End.REJECTED
    await robot.close()


def test_check_shows_telemetry_and_moves_nothing(file, vesc):
    told = CliRunner().invoke(app, ["robot", "check", str(file), "--seconds", "0.5", "--json"])
    assert told.exit_code == 0, told.output
    seen = json.loads(told.stdout)
    assert (seen["link"], seen["battery"]["soc"], seen["doubts"]) == ("UP", 0.64, [])
    assert vesc.plant.pose == Pose(0.0, 0.0)
    table = CliRunner().invoke(app, ["robot", "check", str(file), "--seconds", "0.3"])
    assert "voltage_v" in table.output
    assert "not measured" in table.output


def test_check_moves_when_asked_to(file, vesc):
    told = CliRunner().invoke(app, ["robot", "check", str(file), "--seconds", "1.8", "--move", "--json"])
    assert told.exit_code == 0, told.output
    assert 0.02 < vesc.plant.pose.x < 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "use a mapping with robot, type and base"),
        ("type: carrier", "robot was None: use the robot's id"),
        ("{robot: a, type: hovercraft}", "type was 'hovercraft': use one of"),
        ("{robot: a, type: carrier, base: {type: steam}}", r"base was .*steam"),
        ("{robot: a, type: carrier, base: {type: vesc, port: /dev/x, baude: 9}}", "base.vesc.baude was 9"),
        ("{robot: a, type: carrier, base: {type: cia402, channel: can0, counts_per_turn: -1}}", "counts_per_turn was -1"),
        (
            "{robot: a, type: carrier, base: {type: vesc, port: x}, battery: {type: ina226, bus: 1}}",
            "battery.ina226.shunt_ohm",
        ),
        ("{robot: a, type: carrier, base: {type: vesc, port: x}, limits: {fence: [[0, 0]]}}", "limits.fence was"),
        ("{robot: a", "use a YAML file that can be read"),
    ],
)
def test_a_wrong_file_names_field_value_and_mend(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_robot(written(tmp_path, text), shipped_types())


def test_check_without_the_device_says_so(tmp_path):
    file = written(tmp_path, "{robot: a, type: carrier, base: {type: vesc, port: /dev/nowhere}}")
    told = CliRunner().invoke(app, ["robot", "check", str(file)])
    assert told.exit_code != 0
    assert "plug it in" in str(told.exception or told.output)


@pytest.mark.parametrize("name", ["cia402", "create2", "odrive", "vesc"])
def test_every_base_is_a_driver_that_can_be_named(name):
    base = {"cia402": {"channel": "x", "counts_per_turn": 4096}, "odrive": {"channel": "x"}}.get(name, {"port": "/dev/x"})
    kind = shipped_types()["carrier"]
    robot = drivers.find(name)(drivers.DriverSetup("r1", kind, {"base": {"type": name, **base}}))
    assert robot.spec.max_speed_mps <= kind.max_speed_mps
    assert ("dead_man" in robot.spec.lacks) == (name == "create2")
    assert drivers.find_bench(name) is not None


def test_a_library_that_is_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    for name in list(sys.modules):
        if name.startswith("fleet_market_hardware.bases.") and ("vesc" in name or "serial" in name):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(drivers.DriverMissingError, match=r"install fleet-market\[hardware\]"):
        load_robot(written(tmp_path, "{robot: a, type: carrier, base: {type: vesc, port: x}}"), shipped_types())


async def test_closing_twice_and_opening_again(file):
    robot = load_robot(file, shipped_types())
    await robot.open(timeout_s=60.0)
    before = robot.telemetry().seq
    await robot.close()
    await robot.close()
    await robot.open(timeout_s=60.0)
    assert robot.telemetry().seq > before
    await robot.close()
    await asyncio.sleep(0)
