"""Files for systemd and Mosquitto."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from market_process import cli, make_hall

from fleet_market.adapters.deploy import BROKER, MARKET, SETTINGS, Deployment, contents
from fleet_market.adapters.mosquitto import Mosquitto
from fleet_market.adapters.service_config import ServiceConfig, make, read_file

DOCS = Path(__file__).parents[2] / "docs/deploy"
ETC = Path("/etc/fleet-market")
EXAMPLE = Deployment(
    Path("/opt/fleet-market/bin/fleet-market"), Mosquitto(Path("/usr/sbin/mosquitto")), (ETC / "fleet.yaml",),
    "fleet-market", 1883,
)  # fmt: skip


def test_the_examples_of_the_documentation_are_what_the_command_writes():
    for name, text in contents(ETC, EXAMPLE).items():
        assert (DOCS / name).read_text() == text, f"write docs/deploy/{name} again"


def test_what_is_written_is_complete_and_is_accepted(tmp_path, mosquitto):
    fleet = make_hall(tmp_path / "hall")
    said = cli("deploy", tmp_path / "etc", "--fleet", fleet, "--user", "nobody", "--port", "1999")
    assert [Path(line).name for line in said.split()] == [SETTINGS, MARKET, BROKER, "mosquitto.conf"]
    config = make(ServiceConfig, read_file(tmp_path / "etc" / SETTINGS))
    assert (config.fleet, config.mqtt, config.keys) == ((fleet,), "127.0.0.1:1999", None)
    assert "listener 1999 127.0.0.1" in (tmp_path / "etc/mosquitto/mosquitto.conf").read_text()
    assert "market.toml is there already" in cli("deploy", tmp_path / "etc", "--fleet", fleet, code=2)


def test_every_key_that_the_settings_leave_out_exists():
    text = contents(ETC, EXAMPLE)[SETTINGS]
    given = tomllib.loads("\n".join(line.removeprefix("# ") if " = " in line else "" for line in text.splitlines()))
    assert given.keys() <= ServiceConfig.model_fields.keys()


def test_with_keys_their_mosquitto_configuration_is_used(tmp_path, mosquitto):
    cli("keys", "init", "--keys", tmp_path / "keys", "--port", "8999")
    fleet = make_hall(tmp_path / "hall")
    cli("deploy", tmp_path / "etc", "--fleet", fleet, "--port", "8999", "--keys", tmp_path / "keys")
    assert f"-c {tmp_path}/keys/broker/mosquitto.conf" in (tmp_path / "etc" / BROKER).read_text()
    assert make(ServiceConfig, read_file(tmp_path / "etc" / SETTINGS)).keys == tmp_path / "keys"
    assert "fleet-market keys init" in cli("deploy", tmp_path / "b", "--fleet", fleet, "--keys", tmp_path / "no", code=2)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path):
    true, keys = Path(shutil.which("true")), Path("/etc/fleet market/100%")
    for name, text in contents(ETC, Deployment(true, Mosquitto(true), (ETC / "f.yaml",), "root", 1883, keys)).items():
        if name.endswith(".service"):
            (tmp_path / name).write_text(text)
    units = [str(tmp_path / name) for name in (MARKET, BROKER)]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "fleet-market" in line]
    assert complaints == []
