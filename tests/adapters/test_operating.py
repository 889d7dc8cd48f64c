"""What a service says of itself: logs, metrics, the service manager, the clock it trusts."""

import json
import logging
import socket
import urllib.request

import pytest

from fleet_market.adapters import systemd
from fleet_market.adapters.clocks import WatchedClock
from fleet_market.adapters.control import ZoneStatus
from fleet_market.adapters.logs import JsonLines, set_up_logs
from fleet_market.adapters.measures import Histogram, Measures
from fleet_market.adapters.mosquitto import free_port
from fleet_market.errors import ClockError, InputError

S = 10**9


@pytest.fixture
def usual_logs():
    """Puts the root logger back."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield root
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_of_the_log_is_one_json_object_with_what_it_was_given(tmp_path, usual_logs):
    set_up_logs("json", "info", tmp_path / "deep/log")
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("a.b").exception("it %s", "broke\nhere", extra={"zone": "main", "path": tmp_path})
    logging.getLogger("a.b").debug("unheard")
    (line,) = (tmp_path / "deep/log").read_text().splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("error", "a.b", "it broke\nhere")
    assert (said["zone"], said["path"]) == ("main", str(tmp_path))
    assert "ValueError: invalid literal" in said["error"]
    assert said["ts"].endswith("Z")


def test_a_full_log_file_is_put_aside_and_only_so_many_are_kept(tmp_path, usual_logs):
    set_up_logs("json", "info", tmp_path / "log", file_bytes=10_000, files=2)
    for number in range(1000):
        logging.getLogger("a").info("number %d", number)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 10_000 for path in files)
    assert "number 999" in files[0].read_text().splitlines()[-1]


def test_a_log_file_that_cannot_be_written_is_told(tmp_path, usual_logs):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="name a file in a folder that can be written"):
        set_up_logs("text", "info", tmp_path / "file" / "log")


def test_the_formatter_copes_with_anything():
    record = logging.makeLogRecord({"msg": "%d", "args": (1,), "odd": {1, 2}})
    assert json.loads(JsonLines().format(record))["odd"] in ("{1, 2}", "{2, 1}")


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told_by_a_datagram(tmp_path, abstract):
    name = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        assert systemd.notify(systemd.READY, "STATUS=well", environment={"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1\nSTATUS=well"


def test_a_service_manager_that_reads_nothing_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(systemd, "TAKEN_WITHIN_S", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        while systemd.notify(systemd.ALIVE, environment=environment):
            pass  # until what the kernel keeps for it is full
        assert manager.recv(100) == systemd.ALIVE.encode()
        assert systemd.notify(systemd.STOPPING, environment=environment)


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all"])
def test_without_a_service_manager_nobody_is_told(name):
    assert not systemd.notify(systemd.READY, environment={"NOTIFY_SOCKET": name})


@pytest.mark.parametrize(
    ("environment", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(environment, period_s):
    assert systemd.watchdog_period_s(environment) == period_s


class Clocks:
    def __init__(self):
        self.wall, self.steady = 1_000 * S, 7 * S
        self.watched = WatchedClock(lambda: self.wall, lambda: self.steady)

    def step(self, wall_s, steady_s):
        self.wall, self.steady = self.wall + round(wall_s * S), self.steady + round(steady_s * S)
        return self.watched.now_ns()


def test_a_clock_that_is_corrected_a_little_is_followed_and_never_runs_back():
    clocks = Clocks()
    assert clocks.step(1.0, 1.0) == 1_001 * S
    assert clocks.step(-2.0, 0.1) == 1_001 * S
    assert clocks.step(5.0, 0.1) == 1_004 * S
    for _ in range(100):
        clocks.step(1.1, 1.0)
    assert clocks.watched.now_ns() == 1_114 * S


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 5.1, -5.1])
def test_a_clock_that_jumps_is_not_trusted_any_more(jump_s):
    clocks = Clocks()
    with pytest.raises(ClockError, match=r"has jumped (forward|back) by"):
        clocks.step(jump_s + 0.1, 0.1)
    with pytest.raises(ClockError):
        clocks.watched.now_ns()


def test_a_histogram_counts_at_its_bounds():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.add(value)
    assert (histogram.counts, histogram.count, histogram.sum) == ([2, 2, 1], 5, 8.0)


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def test_prometheus_reads_what_is_true_at_that_moment():
    pytest.importorskip("prometheus_client", reason="not installed: pip install 'fleet-market[metrics]'")
    from fleet_market.adapters.metrics import serve_metrics

    measures, port = Measures(), free_port()
    status = ZoneStatus(zone="main", phase="halted", connected=True, outbox=3, batches=9, rejected={"flood": 2})
    with serve_metrics(port, lambda: [(status, measures)]):
        measures.committed(5, 0.003)
        measures.committed(700, 60.0)
        found = scrape(port)
        with pytest.raises(InputError, match="name another with --metrics"), serve_metrics(port, list):
            pass
    assert found['fleet_market_outbox_depth{zone="main"}'] == 3.0
    assert found['fleet_market_batches_total{zone="main"}'] == 9.0
    assert found['fleet_market_halted{zone="main"}'] == found['fleet_market_up{zone="main"}'] == 1.0
    assert found['fleet_market_rejected_messages_total{reason="flood",zone="main"}'] == 2.0
    assert found['fleet_market_commits_total{zone="main"}'] == 2.0
    assert found['fleet_market_commit_seconds_bucket{le="0.005",zone="main"}'] == 1.0
    assert found['fleet_market_commit_seconds_count{zone="main"}'] == 2.0
    assert found['fleet_market_commit_seconds_sum{zone="main"}'] == pytest.approx(60.003)
    assert found['fleet_market_commit_records_bucket{le="500.0",zone="main"}'] == 1.0
