"""The configuration of a market daemon: where a value comes from, and what is said of a bad one."""

from pathlib import Path

import pytest
from market_process import cli, make_hall
from typer.testing import CliRunner

from fleet_market.adapters.service_config import ControlConfig, ServiceConfig, Setting, make, read_file, shown
from fleet_market.cli.app import app
from fleet_market.errors import InputError


@pytest.fixture
def file(tmp_path):
    make_hall(tmp_path / "hall")
    path = tmp_path / "market.toml"

    def write(text="", **more):
        lines = {"fleet": '["hall/fleet.yaml"]', "database": '"m.db"'} | more
        path.write_text(text + "".join(f"{key} = {value}\n" for key, value in lines.items()))
        return path

    return write


def check(path, *options, **env):
    """Check a configuration in this process; returns the table, raises what is wrong."""
    arguments = ["broker", "--config", str(path), "--check-config", *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", **env}, catch_exceptions=False).stdout


def row(text, key):
    """The cells of a row of the table."""
    (found,) = (line for line in text.splitlines() if line.split("│")[1:2] and line.split("│")[1].strip() == key)
    return [cell.strip() for cell in found.split("│")[2:4]]


def test_the_command_line_stands_above_the_environment_above_the_file_above_the_default(file):
    path = file(metrics="1001", seed='"file"', log_level='"debug"')
    shown = check(path, "--metrics", "1003", FLEET_MARKET_METRICS="1002", FLEET_MARKET_SEED="environment")
    assert row(shown, "metrics") == ["1003", "command line"]
    assert row(shown, "seed") == ["environment", "environment"]
    assert row(shown, "log_level") == ["debug", str(path)]
    assert row(shown, "log_format") == ["text", "default"]


def test_a_check_opens_nothing(file, tmp_path):
    check(file())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hall", "market.toml"]


def test_every_key_of_the_file_is_also_an_option_and_an_environment_variable():
    helped = cli("broker", "--help")
    for key in ServiceConfig.model_fields:
        assert f"--{key.replace('_', '-')}" in helped
        assert f"FLEET_MARKET_{key.upper()}" in helped


@pytest.mark.parametrize(
    ("options", "env", "lines", "says"),
    [
        (("--metrics", "many"), {}, {}, "command line: metrics was 'many': use a port from 1 to 65535"),
        ((), {"FLEET_MARKET_METRICS": "70000"}, {}, "environment: metrics was '70000': use a port from 1 to 65535"),
        ((), {}, {"metrics": '"x"'}, "market.toml: metrics was 'x': use a port from 1 to 65535"),
        ((), {}, {"drain_s": "nan"}, "market.toml: drain_s was nan: use seconds from 0 to 600"),
        ((), {}, {"mqtt": '"nowhere"'}, "market.toml: mqtt was 'nowhere': use HOST:PORT, e.g. 127.0.0.1:1883"),
        ((), {}, {"log_level": '"loud"'}, "market.toml: log_level was 'loud': use debug, info, warning or error"),
        ((), {}, {"metrix": "1"}, "market.toml: metrix was 1: there is no such key: use control, database, drain_s"),
        ((), {}, {"simulated": '"perhaps"'}, "market.toml: simulated was 'perhaps': use true or false"),
        ((), {}, {"fleet": "[]"}, "market.toml: fleet was (): use one fleet file for each zone"),
        ((), {}, {"fleet": "7"}, "market.toml: fleet was 7: use one fleet file for each zone"),
        ((), {}, {"keys": '"nokeys"'}, "nokeys"),
        ((), {}, {"ledger_key": '"nokey.pem"'}, "nokey.pem"),
        ((), {}, {"mqtt": '"broker.example:1883"'}, "broker.example"),
        ((), {}, {"retention": "7"}, "market.toml: retention was 7: write a table: [retention]"),
        ((), {}, {"retention_days": "-1"}, "market.toml: retention_days was -1: use days from 0 to 36500"),
        (("--retention-days", "soon"), {}, {}, "command line: retention_days was 'soon': use days from 0 to 36500"),
        ((), {}, {"metrics": ""}, "market.toml: file was 'Invalid value (at line 3"),
    ],
)
def test_a_bad_value_is_told_with_its_source_key_value_and_mend(options, env, lines, says, file):
    with pytest.raises(InputError) as told:
        check(file(**lines), *options, **env)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_what_is_missing_is_told_with_every_way_to_give_it():
    with pytest.raises(InputError, match=r"database was None: give .*--database, FLEET_MARKET_DATABASE or database in"):
        make(ServiceConfig, {"fleet": Setting(("f",), "x")})


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="name a TOML file"):
        read_file(tmp_path / "none.toml")


def test_paths_of_a_file_are_relative_to_it(file, tmp_path):
    config = make(ServiceConfig, read_file(file(control='"c"', log_file='"/abs/log"')))
    assert config.fleet == (tmp_path / "hall/fleet.yaml",)
    assert config.database == str(tmp_path / "m.db")
    assert (config.control_path, config.log_file) == (tmp_path / "c", Path("/abs/log"))


def test_retention_has_a_table_of_its_own_and_is_off_without_a_folder(file, tmp_path):
    assert make(ServiceConfig, read_file(file())).retention_folder is None
    path = file()
    path.write_text(f'{path.read_text()}[retention]\nfolder = "old"\ndays = 7\n')
    config = make(ServiceConfig, read_file(path))
    assert (config.retention_folder, config.retention_days) == (tmp_path / "old", 7.0)
    path.write_text(f"{path.read_text()}age = 7\n")
    with pytest.raises(InputError, match="retention_age was 7: there is no such key"):
        read_file(path)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"database": "a/m.db"}, "a/m.db.control"),
        ({"database": "a/m.db", "control": "c"}, "c"),
        ({"database": "postgresql://u@h/d"}, "fleet-market.control"),
        ({}, "fleet-market.control"),
    ],
)
def test_where_the_control_socket_is(given, path):
    config = make(ControlConfig, {key: Setting(value, "x") for key, value in given.items()})
    assert config.control_path == Path(path)


def test_a_password_is_not_shown():
    assert shown("postgresql://ann:secret@db/market") == "postgresql://ann:***@db/market"
    assert shown("postgresql://ann@db/market") == "postgresql://ann@db/market"
