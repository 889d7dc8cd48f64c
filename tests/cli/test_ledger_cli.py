"""The auditor's and operator's commands, as they are typed."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_market.adapters.stores import open_store
from fleet_market.testing.books import Books
from fleet_market.testing.crashes import Tally, run_kills


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """The database of a market that has traded."""
    path = tmp_path_factory.mktemp("market") / "market.db"
    tally = Tally()
    run_kills(path, 2, 1, tally, acknowledged=200)
    assert tally.clean
    return path


def run(*arguments, code=0, **more):
    done = subprocess.run(
        [Path(sys.executable).with_name("fleet-market"), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, **more,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.fixture
def spoiled(market, tmp_path):
    """A copy in which one transfer was changed by hand."""
    run("ledger", "backup", tmp_path / "spoiled.db", "--store", market)
    with sqlite3.connect(tmp_path / "spoiled.db") as db:
        db.execute("DROP TRIGGER journal_is_append_only_update")
        db.execute("UPDATE journal SET amount_uc = amount_uc + 1 WHERE seq = 9")
    db.close()
    return tmp_path / "spoiled.db"


def test_audit_and_verify_chain_say_sound(market):
    assert run("ledger", "audit", "--store", market).rstrip().endswith("sound")
    told = json.loads(run("ledger", "audit", "--database", market, "--json"))
    assert (told["sound"], told["faults"]) == (True, [])
    assert told["issued_uc"] - told["burned_uc"] == told["circulating_uc"]
    assert json.loads(run("ledger", "verify-chain", "--store", market, "--json"))["journal_hash"] == told["journal_hash"]


def test_a_changed_row_gives_exit_code_1_and_its_number(spoiled):
    for command in ("audit", "verify-chain"):
        assert "journal row 9 does not follow" in run("ledger", command, "--store", spoiled, code=1)
    told = json.loads(run("ledger", "audit", "--store", spoiled, "--json", code=1))
    assert not told["sound"]
    assert "is not sound" in run("ledger", "restore", spoiled, "--store", spoiled.with_name("new.db"), code=1)


def test_show_tells_balance_and_transfers(market):
    told = json.loads(run("ledger", "show", "customer:c0", "--store", market, "--json", "--rows", "3"))
    assert told["kind"] == "customer"
    assert told["available_uc"] == told["credits_posted"] - told["debits_posted"] - told["debits_pending"]
    assert len(told["transfers"]) == 3
    assert "cr free" in run("ledger", "show", "customer:c0", "--store", market)
    wrong = run("ledger", "show", "customer:zoe", "--store", market, code=2)
    assert "ACCOUNT was 'customer:zoe': no such account; there are customer:c0" in " ".join(wrong.split())


def test_export_replay_and_backup_work_while_a_market_runs(market, tmp_path):
    with open_store(market):
        run("ledger", "export", tmp_path / "books.jsonl", "--store", market)
        run("ledger", "export", tmp_path / "ledger.csv", "--store", market)
        run("ledger", "export", tmp_path / "log.jsonl", "--log", "--store", market)
        run("ledger", "backup", tmp_path / "backup.db", "--store", market)
        standard = run("ledger", "export", "-", "--store", market)
    assert standard == (tmp_path / "books.jsonl").read_text()
    answers = [
        json.loads(run("replay", source, "--json")) for source in (market, tmp_path / "log.jsonl", tmp_path / "backup.db")
    ]
    assert answers[0]["identical"]
    assert answers[0] == answers[1] == answers[2]
    run("ledger", "restore", tmp_path / "backup.db", "--store", tmp_path / "again.db")
    assert json.loads(run("replay", tmp_path / "again.db", "--json")) == answers[0]
    assert "exists: name a new file" in run("ledger", "backup", tmp_path / "backup.db", "--store", market, code=1)


def test_a_log_with_a_flipped_bit_is_located_by_replay(market, tmp_path):
    log = tmp_path / "log.jsonl"
    run("ledger", "export", log, "--log", "--store", market)
    lines = log.read_text().splitlines(keepends=True)
    lines[50] = lines[50].replace('"sid":0', '"sid":1')
    log.write_text("".join(lines))
    assert "event 50: it is not the one that was written" in " ".join(run("replay", log, code=1).split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ledger", "audit", "--store", "none.db"), "no such file"),
        (("ledger", "audit", "--store", "mysql://x/y"), "use a path, or postgresql://"),
        (("replay", "none.db"), "name a database or a file of"),
        (("replay", "text"), "use a database, or a file of"),
        (("ledger", "export", "none/x", "--store", "market.db"), "use a file that can be written"),
    ],
)
def test_bad_input_is_told_in_one_line_with_its_mend(tmp_path, arguments, says):
    (tmp_path / "text").write_text("hello\n")
    with open_store(tmp_path / "market.db") as store:
        store.commit([Books().gift()])
    code = 1 if "no such file" in says else 2
    told = run(*arguments, code=code, cwd=tmp_path)
    assert says in " ".join(told.split())
    assert "Traceback" not in told


@pytest.mark.real
def test_the_same_commands_work_on_postgresql(postgres_address, tmp_path):
    tally = Tally()
    run_kills(postgres_address, 2, 2, tally)
    assert tally.clean
    environment = {"env": {**__import__("os").environ, "FLEET_MARKET_STORE": postgres_address}}
    assert json.loads(run("ledger", "audit", "--json", **environment))["sound"]
    run("ledger", "backup", tmp_path / "backup.db", **environment)
    same = [json.loads(run("replay", source, "--json")) for source in (postgres_address, tmp_path / "backup.db")]
    assert same[0] == same[1]
    assert same[0]["identical"]
