"""How drivers are found, and what they are told."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import Act, Job
from fleet_market.cli.app import app
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market_hardware import drivers
from fleet_market_hardware.counters import Rising
from fleet_market_hardware.drivers import DriverMissingError, DriverSetup

FLEET = "launch/fleets/warehouse.yaml"


@pytest.fixture
def kind(request):
    return next(iter(load_fleet(request.config.rootpath / FLEET).types.values()))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package that brings a driver."""

    def install(name, target, group=drivers.DRIVERS):
        folder = tmp_path / "third_party-1.0.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
        with (folder / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {target}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    return install


def test_listing_imports_no_driver():
    program = (
        "import sys; from fleet_market_hardware.drivers import listed; names = [d.name for d in listed()];"
        "assert {'base', 'kinematic', 'nav2'} <= set(names), names;"
        "sys.exit(any(m in sys.modules for m in ('rclpy', 'fleet_market_ros', 'fleet_market.testing')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_package_adds_a_driver_by_entry_point(installed, kind):
    folder = installed("mine", "their_driver:make")
    (folder / "their_driver.py").write_text("def make(setup):\n    return ('driver of', setup.robot)\n")
    found = next(one for one in drivers.listed() if one.name == "mine")
    assert (found.target, found.package) == ("their_driver:make", "third-party")
    assert drivers.find("mine")(DriverSetup(RobotId("r1"), kind)) == ("driver of", "r1")


def test_a_package_cannot_take_the_place_of_a_built_in_driver(installed):
    installed("base", "their_driver:make")
    assert next(one for one in drivers.listed() if one.name == "base").target == drivers.BUILT_IN["base"]


def test_an_unknown_driver_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match=r"name was 'warp': use one of base, .*kinematic, .*nav2"):
        drivers.find("warp")


def test_a_driver_whose_library_is_missing_says_so(installed):
    installed("mine", "no_such_module:make")
    with pytest.raises(DriverMissingError, match="driver mine cannot be used: No module named 'no_such_module'"):
        drivers.find("mine")


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"speed": 1.0}, "no such setting: use none at all"), ({"": 1}, "no such setting")],
)
def test_a_setting_that_a_driver_does_not_know_is_refused(kind, settings, text):
    with pytest.raises(InputError, match=text):
        drivers.find("kinematic")(DriverSetup(RobotId("r1"), kind, settings))


def test_a_setting_of_another_kind_is_refused(kind):
    usual = {"timeout_s": 1.0, "frame": "map"}
    assert drivers.settings_of(DriverSetup(RobotId("r1"), kind, {"timeout_s": 2}), usual) == {
        "timeout_s": 2,
        "frame": "map",
    }
    for bad in ({"timeout_s": "2"}, {"timeout_s": True}, {"frame": 3}):
        with pytest.raises(InputError, match="driver settings"):
            drivers.settings_of(DriverSetup(RobotId("r1"), kind, bad), usual)


async def test_the_kinematic_driver_runs_a_job(kind):
    driver = drivers.find("kinematic")(DriverSetup(RobotId("r1"), kind))
    assert (await driver.run(Job("j", (Act("load", "p", 1.0, 1.0),)), deadline_s=10)).end == "DONE"


def test_a_counter_goes_on_where_its_device_begins_anew():
    counter = Rising()
    assert [counter.read(v) for v in (5.0, 7.0, 0.5, 2.0, 0.0, 1.0)] == [5.0, 7.0, 7.5, 9.0, 9.0, 10.0]


def test_the_command_lists_and_checks():
    listing = json.loads(CliRunner().invoke(app, ["driver", "list", "--json"]).stdout)
    assert {"base", "kinematic", "nav2"} <= {one["name"] for one in listing}
    checked = CliRunner().invoke(app, ["driver", "check", "kinematic", "--json"])
    assert checked.exit_code == 0, checked.output
    rows = json.loads(checked.stdout)
    assert {row["verdict"] for row in rows} == {"kept", "skipped"}
    one = CliRunner().invoke(app, ["driver", "check", "kinematic", "--row", "deadline_stops"])
    assert one.exit_code == 0
    assert "deadline_stops" in one.stdout
    assert "done_means_there" not in one.stdout


def test_the_command_fails_for_a_driver_that_breaks_the_contract(installed):
    folder = installed("faulty", "faulty_driver:driver")
    installed("faulty", "faulty_driver:Bench", drivers.BENCHES)
    (folder / "faulty_driver.py").write_text(
        "from fleet_market_hardware.kinematic import KinematicBench, driver\n"
        "class Bench(KinematicBench):\n"
        "    def true_pose(self):\n"
        "        return type(super().true_pose())(9.0, 9.0)\n"
    )
    checked = CliRunner().invoke(app, ["driver", "check", "faulty", "--row", "done_means_there"])
    assert checked.exit_code == 1
    assert "DONE at" in checked.stdout.replace("\n", " ")


def test_an_unknown_row_is_refused():
    result = CliRunner().invoke(app, ["driver", "check", "kinematic", "--row", "nonsense"])
    assert isinstance(result.exception, InputError)
    assert "nonsense" in str(result.exception)


def test_the_fleet_file_names_the_settings_of_a_robots_driver_and_a_file_of_its_own_goes_before_it(installed, tmp_path):
    folder = installed("told", "told_driver:driver")
    (folder / "told_driver.py").write_text(
        "def driver(setup):\n    raise SystemExit(repr(sorted(setup.settings.items())))\n"
    )
    fleet, own = tmp_path / "fleet.yaml", tmp_path / "own.yaml"
    fleet.write_text("robots: [{id: r1, type: carrier, parameters: {max_tasks: 1, driver_settings: {a: 1, b: 2}}}]\n")
    own.write_text("b: 3\n")
    command = [
        "driver",
        "check",
        "told",
        "--fleet",
        str(fleet),
        "--robot",
        "r1",
        "--clear-m",
        "3",
        "--row",
        "done_means_there",
    ]
    assert "[('a', 1), ('b', 2)]" in str(CliRunner().invoke(app, command).exception)
    assert "[('a', 1), ('b', 3)]" in str(CliRunner().invoke(app, [*command, "--settings", str(own)]).exception)
    missing = CliRunner().invoke(app, [*command, "--settings", str(tmp_path / "none.yaml")])
    assert "none.yaml: cannot be read" in str(missing.exception)


def test_a_robot_of_ones_own_is_checked_on_the_floor_in_front_of_it(request, tmp_path):
    fleet = str(request.config.rootpath / FLEET)
    own = [
        "driver",
        "check",
        "kinematic",
        "--fleet",
        fleet,
        "--robot",
        load_fleet(request.config.rootpath / FLEET).robots[0].id,
    ]
    rows = ["--row", "done_means_there", "--row", "undeclared_is_refused", "--row", "silence_is_lost"]
    done = CliRunner().invoke(app, [*own, "--clear-m", "3", *rows, "--json"])
    assert done.exit_code == 0, done.output
    assert [row["verdict"] for row in json.loads(done.stdout)] == ["kept", "kept", "skipped"]
    for more, text in ((["--clear-m", "1"], "--clear-m"), (["--clear-m", "3", "--robot", "nobody"], "no such robot")):
        refused = CliRunner().invoke(app, [*own, *more])
        assert isinstance(refused.exception, InputError)
        assert text in str(refused.exception)
