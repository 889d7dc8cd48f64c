"""The oracle's evidence on disk: what comes back after a crash, and what is refused."""

import shutil
import sqlite3

import pytest

from fleet_market.adapters import evidence_file
from fleet_market.adapters.evidence_file import EvidenceFile
from fleet_market.adapters.keyring import Verifier
from fleet_market.errors import InputError, ProtocolError, StoreError
from fleet_market.ids import PartyName, RobotId, ZoneId
from fleet_market.oracle import evidence
from fleet_market.oracle.evidence import EvidenceLog, check
from fleet_market.testing.telemetry import Scribe, directory_of

ZONE, SIB = ZoneId("main"), PartyName("sib")
VERIFY = Verifier()


@pytest.fixture
def scribes():
    return Scribe(RobotId("r1")), Scribe(RobotId("r2"))


@pytest.fixture
def directory(scribes):
    return directory_of(*scribes)


def file_of(folder, zone=ZONE, name=SIB):
    return EvidenceFile(folder / "evidence.db", zone, name)


def keep(file, log, *records):
    for record in records:
        file.append(log, log.hear(record, record.fixes[-1].at_ns, 1000.0))


def again(file, directory):
    return EvidenceLog.resumed(file.load(), directory, VERIFY)


def crashed(folder, other):
    """What a kill leaves: the files as they are, while the oracle still has them open."""
    shutil.copytree(folder, other)
    return other


def test_a_new_file_holds_nothing(tmp_path):
    assert file_of(tmp_path).load() is None


def test_a_log_goes_on_after_a_crash_under_the_same_root_and_opens_what_was_sold(tmp_path, scribes, directory):
    one, two = scribes
    file, log = file_of(tmp_path / "a"), EvidenceLog(directory, VERIFY)
    keep(file, log, one.write(), two.write(), one.write())
    root = log.root()
    revived = file_of(crashed(tmp_path / "a", tmp_path / "b"))
    back = again(revived, directory)
    assert back.root() == root
    for leaf in range(3):
        assert check(back.open(leaf, 3), root.hash, 3, directory, VERIFY) is None
    taken = one.write()
    keep(revived, back, taken)
    keep(file, log, taken)
    assert back.root() == log.root()
    assert back.consistency(3) == log.consistency(3)
    with pytest.raises(ProtocolError, match="taken before"):
        back.hear(taken, one.now_ns, 1000.0)


def test_the_file_is_bounded_and_the_root_goes_on(tmp_path, scribes, directory, monkeypatch):
    for module in (evidence, evidence_file):
        monkeypatch.setattr(module, "KEPT", 5)
    monkeypatch.setattr(evidence_file, "SLACK", 3)
    one, two = scribes
    file, log, whole = file_of(tmp_path / "a"), EvidenceLog(directory, VERIFY), []
    for number in range(60):
        whole.append((one if number % 3 else two).write())
        keep(file, log, whole[-1])
        if number % 7 == 6:
            file.close()
            file = file_of(tmp_path / "a")
            log = again(file, directory)
    rows = sqlite3.connect(crashed(tmp_path / "a", tmp_path / "b") / "evidence.db").execute("SELECT count(*) FROM record")
    assert rows.fetchone()[0] <= 13
    straight = EvidenceLog(directory, VERIFY)
    for record in whole:
        straight.hear(record, record.fixes[-1].at_ns, 1000.0)
    assert log.root() == straight.root()
    assert all(log.open(leaf) == straight.open(leaf) for leaf in range(50, 60))


def test_a_torn_last_write_is_as_if_it_had_not_begun(tmp_path, scribes, directory):
    file, log = file_of(tmp_path / "a"), EvidenceLog(directory, VERIFY)
    keep(file, log, scribes[0].write())
    before = log.root()
    wal = (tmp_path / "a" / "evidence.db-wal").stat().st_size
    keep(file, log, scribes[0].write())
    folder = crashed(tmp_path / "a", tmp_path / "b")
    with (folder / "evidence.db-wal").open("r+b") as torn:
        end = torn.seek(0, 2)
        assert end > wal
        torn.truncate(end - 100)
    assert again(file_of(folder), directory).root() == before


@pytest.mark.parametrize("field", ["zone", "oracle"])
def test_anothers_file_is_refused(tmp_path, field):
    file_of(tmp_path).close()
    other = {"zone": {"zone": ZoneId("yard")}, "oracle": {"name": PartyName("eve")}}[field]
    with pytest.raises(InputError, match=f"{field}.*use a file of {field}"):
        file_of(tmp_path, **other)


def test_a_file_in_use_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence_file, "BUSY_S", 0.01)
    first = file_of(tmp_path)
    with pytest.raises(InputError, match="locked"):
        file_of(tmp_path)
    first.close()


def test_rubbish_is_refused(tmp_path):
    (tmp_path / "evidence.db").write_bytes(b"no database, but long enough for a header" * 100)
    with pytest.raises(InputError, match="not a database"):
        file_of(tmp_path)


SPOILED = {
    "a record that its robot has not signed": (
        "UPDATE record SET body = replace(body, '4000.0', '4001.0')",
        "bad_signature",
    ),
    "a record less at the end": ("DELETE FROM record WHERE leaf = 2", "root"),
    "a record less before it": ("DELETE FROM record WHERE leaf = 1", "leaf"),
    "no record": ("UPDATE record SET body = '{}' WHERE leaf = 1", "record"),
    "a record of no chain": ("DELETE FROM chain", "belongs to no chain"),
    "another root": ("UPDATE about SET value = replace(value, 'robots', 'rob') WHERE key = 'root'", "file"),
    "another size of the forgotten": ("INSERT OR REPLACE INTO about VALUES ('first', '1')", "hashes"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_file_that_was_changed_is_refused(tmp_path, scribes, directory, what):
    file, log = file_of(tmp_path), EvidenceLog(directory, VERIFY)
    keep(file, log, *(scribes[0].write() for _ in range(3)))
    file.close()
    change, told = SPOILED[what]
    with sqlite3.connect(tmp_path / "evidence.db") as spoiled:
        spoiled.execute(change)
    spoiled.close()
    with pytest.raises(InputError, match=told):
        again(file_of(tmp_path), directory)


def test_a_disk_that_takes_nothing_is_told(tmp_path, scribes, directory):
    file, log = file_of(tmp_path), EvidenceLog(directory, VERIFY)
    file.close()
    with pytest.raises(StoreError, match="does not take evidence"):
        keep(file, log, scribes[0].write())
