"""`fleet-market up` with real processes: who is started again, whose death ends everything, and that nothing is left."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from mcap.reader import make_reader

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.real


class Up:
    """A fleet of two that was started from its file."""

    def __init__(self, folder, *more):
        fleet = yaml.safe_load((ROOT / "launch/fleets/warehouse.yaml").read_text())
        fleet["map"], fleet["robots"] = str(ROOT / "launch/maps/warehouse.yaml"), fleet["robots"][:2]
        (folder / "two.yaml").write_text(yaml.safe_dump(fleet))
        self.told = folder / "told.txt"
        command = [sys.executable, "-m", "fleet_market", "up", str(folder / "two.yaml"), "--out", str(folder / "out")]
        command += more
        with self.told.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
        self.folder = folder

    def text(self):
        assert self.process.poll() is None, self.told.read_text()
        return self.told.read_text()

    def pid(self, words):
        """Return the one process of this fleet whose command line has some words."""
        (pid,) = (p.pid for p in psutil.Process(self.process.pid).children() if words in " ".join(p.cmdline()))
        return pid


@pytest.fixture
def up(tmp_path, eventually):
    up = Up(tmp_path)
    try:
        eventually(lambda: "Ctrl-C ends everything" in up.text(), within_s=120)
        yield up
    finally:
        up.process.kill()
        up.process.wait()


def test_a_robot_that_dies_is_started_again_and_ctrl_c_leaves_nothing(up, eventually):
    assert re.findall("ready: (.*)", up.text()) == ["mosquitto", "market, oracle, simulator", "carrier-1, carrier-2"]
    os.kill(up.pid("__ns:=/carrier_1"), signal.SIGKILL)
    eventually(lambda: "carrier-1 died with exit code -9" in up.text())
    eventually(lambda: "carrier-1 is started again" in up.text())
    log = up.folder / "out/logs/carrier-1.log"
    eventually(lambda: log.read_text().count("READY carrier-1") == 2, within_s=60)
    children = psutil.Process(up.process.pid).children(recursive=True)
    assert len(children) == 6
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_the_death_of_the_market_ends_everything_with_its_last_words(up):
    children = psutil.Process(up.process.pid).children(recursive=True)
    os.kill(up.pid("fleet_market broker"), signal.SIGKILL)
    assert up.process.wait(60) == 1
    assert "market died with exit code -9" in up.told.read_text()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_what_a_fleet_tells_in_ros_is_recorded_until_it_has_ended(tmp_path, eventually):
    file, log = tmp_path / "run.mcap", tmp_path / "out/logs/recorder.log"
    wanted = ("/clock", "/carrier_1/odom", "/carrier_2/odom", "/carrier_1/market/state")
    up = Up(tmp_path, "--record", str(file))
    try:
        eventually(lambda: "Ctrl-C ends everything" in up.text(), within_s=120)
        eventually(lambda: all(f"recording {topic} " in log.read_text() for topic in wanted), within_s=120)
        known = file.stat().st_size
        eventually(lambda: file.stat().st_size > known + 4096, within_s=120)  # a chunk of what it hears since
        children = psutil.Process(up.process.pid).children(recursive=True)
        up.process.send_signal(signal.SIGTERM)  # as a service manager ends it
        assert up.process.wait(60) == 0
        assert psutil.wait_procs(children, timeout=60)[1] == []
        assert len(children) == 7
    finally:
        up.process.kill()
        up.process.wait()
    with file.open("rb") as recorded:
        summary = make_reader(recorded).get_summary()
    messages = summary.statistics.channel_message_counts
    counts = {channel.topic: messages.get(number, 0) for number, channel in summary.channels.items()}
    assert min(counts[topic] for topic in wanted) > 0


def test_a_recording_is_not_written_over(tmp_path):
    (tmp_path / "run.mcap").touch()
    up = Up(tmp_path, "--record", str(tmp_path / "run.mcap"))
    assert up.process.wait(120) == 2
    assert "record" in up.told.read_text()
    assert "name a file that does not exist yet" in up.told.read_text()


def test_a_wrong_file_starts_nothing(tmp_path):
    file = tmp_path / "fleet.yaml"
    file.write_text("zone: main\nrobots: []\n")
    done = subprocess.run(
        [sys.executable, "-m", "fleet_market", "up", str(file), "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{file}: robots" in done.stderr
    assert not (tmp_path / "out/logs").exists()
