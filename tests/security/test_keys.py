"""The operator's commands, the folder that they make, and who is believed after them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.key_folder import BrokerAddress, KeyFolder
from fleet_market.adapters.keyring import RegisterFile, SigningKey, write_register
from fleet_market.cli.app import app
from fleet_market.errors import InputError, ProtocolError
from fleet_market.ids import PartyName
from fleet_market.protocol import topics
from fleet_market.protocol.registry import Entry, Register, Role, enrol

ROOT = Path(__file__).parents[2]
ASK = topics.from_robot("r1", "main", "ask")


def command(*arguments):
    """Run a command in this process; return what it prints, or the error that a user would be shown."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return str(done.exception) if isinstance(done.exception, InputError) else done.output


def talk(keys, monkeypatch):
    """A robot and its market, without a wire between them, and without waiting for the register to be looked at."""
    monkeypatch.setattr("fleet_market.adapters.keyring.WATCH_S", 0.0)
    robot = guard_for(keys.folder, Role.ROBOT, "r1", "localhost")
    market = guard_for(keys.folder, Role.MARKET, "auc-main", "localhost")
    robot.connect()
    market.connect()
    return robot, market


def refusal(market, payload):
    with pytest.raises(ProtocolError) as caught:
        market.open(ASK, payload)
    return caught.value.reason


# --- who is believed ---------------------------------------------------------------------------------------------------


def test_a_revoked_key_counts_no_more_from_the_next_message_on(keys, monkeypatch):
    robot, market = talk(keys, monkeypatch)
    assert market.open(ASK, robot.seal(ASK, b"1")) == b"1"
    signed_before = robot.seal(ASK, b"2")
    keys.revoke(Role.ROBOT, PartyName("r1"))
    assert refusal(market, signed_before) == "revoked"
    assert refusal(market, robot.seal(ASK, b"3")) == "revoked"
    with pytest.raises(InputError, match="does not know it, or no more"):
        guard_for(keys.folder, Role.ROBOT, "r1", "localhost")


def test_a_register_is_looked_at_more_than_once_in_a_batch():
    from fleet_market.adapters.keyring import WATCH_S
    from fleet_market.contracts import MarketTerms

    assert MarketTerms().batch_s / 2 >= WATCH_S


def test_a_rotated_key_counts_for_the_overlap_and_the_new_one_at_once(keys, monkeypatch):
    old, market = talk(keys, monkeypatch)
    keys.rotate(Role.ROBOT, PartyName("r1"), overlap_s=100)
    new = guard_for(keys.folder, Role.ROBOT, "r1", "localhost")
    new.connect()
    assert market.open(ASK, old.seal(ASK, b"old")) == b"old"
    assert market.open(ASK, new.seal(ASK, b"new")) == b"new"
    (former,) = [e for e in keys.register.of(Role.ROBOT, "r1") if e.until_s is not None]
    payload, later = old.seal(ASK, b"late"), former.until_s
    market.unix_s = lambda: float(later)
    assert refusal(market, payload) == "key_expired"


def test_after_revoking_a_rotated_robot_neither_key_counts(keys, monkeypatch):
    old, market = talk(keys, monkeypatch)
    keys.rotate(Role.ROBOT, PartyName("r1"))
    new = guard_for(keys.folder, Role.ROBOT, "r1", "localhost")
    new.connect()
    keys.revoke(Role.ROBOT, PartyName("r1"))
    assert [refusal(market, guard.seal(ASK, b"1")) for guard in (old, new)] == ["revoked", "revoked"]


def test_an_older_register_and_one_of_a_stranger_change_nothing(keys, monkeypatch):
    robot, market = talk(keys, monkeypatch)
    register, older = keys.folder / "registry.json", (keys.folder / "registry.json").read_bytes()
    keys.revoke(Role.ROBOT, PartyName("r1"))
    assert refusal(market, robot.seal(ASK, b"1")) == "revoked"
    register.write_bytes(older)
    assert refusal(market, robot.seal(ASK, b"1")) == "revoked", "rolled back"
    write_register(register, Register(serial=99), SigningKey.generate())
    assert refusal(market, robot.seal(ASK, b"1")) == "revoked", "signed by a stranger"
    register.unlink()
    assert refusal(market, robot.seal(ASK, b"1")) == "revoked", "gone"


def test_a_register_with_one_byte_changed_is_refused(keys):
    path = keys.folder / "registry.json"
    good = path.read_bytes()
    for at in range(0, len(good), 37):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(InputError, match=re.escape(str(path))):
            RegisterFile(keys.folder)


def test_a_key_is_enrolled_once_whatever_became_of_it(keys):
    keys.revoke(Role.ROBOT, PartyName("r1"))
    for known in keys.register.entries:
        for role, name in ((Role.ROBOT, "r9"), (known.role, known.name)):
            again = Entry(role=role, name=PartyName(name), key=known.key, from_s=0)
            with pytest.raises(InputError, match=f"it is enrolled as {known.role} {known.name}"):
                enrol(keys.register, again, int(time.time()))


def test_a_name_is_one_party_since_it_is_one_user_of_the_broker(keys):
    for role, name in ((Role.CUSTOMER, "r1"), (Role.ROBOT, "ann"), (Role.SIMULATOR, "oracle"), (Role.CUSTOMER, "auc-main")):
        with pytest.raises(InputError, match="of this name: use another one"):
            keys.issue(role, PartyName(name))
    keys.issue(Role.CUSTOMER, PartyName("acme"))
    with pytest.raises(InputError, match="`rotate` or `revoke`"):
        keys.issue(Role.ROBOT, PartyName("r1"))


def test_a_seal_survives_a_restart_of_the_market_only_once(keys, monkeypatch, tmp_path):
    robot, market = talk(keys, monkeypatch)
    payload = robot.seal(ASK, b"1")
    assert market.open(ASK, payload) == b"1"
    (tmp_path / "seen").write_bytes(market.remembered())
    _, again = talk(keys, monkeypatch)
    again.restore(tmp_path / "seen")
    assert refusal(again, payload) == "replayed"
    (tmp_path / "seen").write_bytes(b"[[1]]")
    with pytest.raises(InputError, match="it is damaged"):
        again.restore(tmp_path / "seen")


# --- files ---------------------------------------------------------------------------------------------------------------


def test_private_files_are_readable_by_nobody_else_and_unusable_otherwise(keys):
    for path in keys.folder.rglob("*"):
        if path.is_file() and path.suffix == ".key":
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert (keys.folder / "ca").stat().st_mode & 0o777 == 0o700
    key = keys.folder / "robot/r1/message.key"
    key.chmod(0o640)
    with pytest.raises(InputError, match=f"others can read it: chmod 600 {key}"):
        guard_for(keys.folder, Role.ROBOT, "r1", "localhost")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda k: (k / "robot/r1/message.key").unlink(), "make it with `fleet-market keys issue`"),
        (lambda k: (k / "robot/r1/message.key").write_text("no key"), "not an Ed25519 key in PEM"),
        (lambda k: (k / "ca.did").write_text("did:web:x"), "not a did:key"),
        (lambda k: (k / "ca.did").unlink(), "no keys there"),
        (lambda k: (k / "registry.json").unlink(), "copy the register there"),
        (lambda k: (k / "registry.json").write_text("{}"), "no signature"),
    ],
)
def test_what_is_missing_or_wrong_is_named(keys, spoil, says):
    spoil(keys.folder)
    with pytest.raises(InputError, match=says):
        guard_for(keys.folder, Role.ROBOT, "r1", "localhost")


def test_nothing_is_ever_overwritten(tmp_path):
    (tmp_path / "letter").write_text("mine")
    with pytest.raises(InputError, match="it is there and not empty"):
        KeyFolder.found(tmp_path, BrokerAddress(), [])
    assert [p.name for p in tmp_path.iterdir()] == ["letter"]


def test_a_second_command_at_the_same_time_is_kept_out(keys):
    (keys.folder / "ca/lock").touch()
    with pytest.raises(InputError, match="another command is at work"):
        keys.revoke(Role.ROBOT, PartyName("r1"))


def test_commands_check_what_they_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no authority there: make one" in command("keys", "issue", "robot", "r1")
    assert "authority did:key:z6Mk" in command("keys", "init")
    assert "not empty: use a new folder" in command("keys", "init")
    assert "lower-case" in command("keys", "issue", "robot", "R 1")
    assert "only a robot has an owner" in command("keys", "issue", "customer", "x", "--owner", "o")
    assert "starting with a letter" in command("keys", "issue", "robot", "1r")
    assert "there is no valid robot key" in command("keys", "rotate", "robot", "r1")
    assert "there is no robot key of this name" in command("keys", "revoke", "robot", "r1")
    assert "did:key:z6Mk" in command("keys", "show")
    shown = json.loads(command("keys", "show", "--json"))
    assert {(e["role"], e["name"]) for e in shown["entries"]} == {("market", "auc-main"), ("oracle", "oracle")}
    assert "give --keys DIR" in command("mosquitto", "--run", 8883, "--bind", "192.0.2.1")
    assert "give --keys DIR" in command("robots", "--mqtt", "192.0.2.1:8883")


# --- the page ------------------------------------------------------------------------------------------------------------

FLEET = """\
map: hall.yaml
customers: {demo: 100}
places: {dock: 1.5;1.5}
robots: [{id: r1, type: carrier}]
"""
MAP = "image: hall.pgm\nresolution: 0.05\norigin: [0, 0, 0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"


@pytest.mark.real
def test_the_commands_of_the_page_do_what_it_says(mosquitto, tmp_path):
    from fleet_market.adapters.mosquitto import free_port

    (text,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
    rows = [b"P5\n160 100\n255\n", b"\x00" * 160, (b"\x00" + b"\xfe" * 158 + b"\x00") * 98, b"\x00" * 160]
    (tmp_path / "hall.pgm").write_bytes(b"".join(rows))
    (tmp_path / "hall.yaml").write_text(MAP)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    text = text.replace("fleet-market robots\n", "fleet-market robots --timeout 120\n")  # the market is still starting
    script = text.replace("8883", str(free_port())) + "kill $(jobs -p)\nwait\n"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-e", "-c", script], cwd=tmp_path, env={**os.environ, "PATH": path}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            shown, _ = shell.communicate(timeout=500)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode in (0, 143), shown
    assert "READY market main on localhost:" in shown
    assert "authority did:key:z6Mk" in shown
    assert "robot r1 is revoked" in shown
    assert "READY" in shown
    assert "error:" not in shown, shown
    assert "Traceback" not in shown, shown
