"""A real Mosquitto for the tests that need one."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.mosquitto import Mosquitto

ROOT = Path(__file__).parents[1]


def wait_until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until `condition` holds; fail after `within_s`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {condition}")
        time.sleep(0.01)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class RunningBroker:
    """A Mosquitto process on a free loopback port that can be killed and started again."""

    def __init__(self, mosquitto: Mosquitto, folder: Path) -> None:
        self.host, self.port = "127.0.0.1", mosquitto_adapter.free_port()
        self._mosquitto = mosquitto
        self._config = mosquitto_adapter.write_config(folder, self.port)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self._mosquitto.path, "-c", self._config],
            env=self._mosquitto.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: _listens(self.port))

    def allow_only_writing(self, topic: str) -> None:
        acl = self._config.with_name("acl")
        acl.write_text(f"topic write {topic}\n")
        self._config.write_text(f"{self._config.read_text()}acl_file {acl}\n")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def eventually() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def mosquitto() -> Mosquitto:
    return mosquitto_adapter.install(ROOT / ".cache" / "mosquitto", say=print)


@pytest.fixture(scope="session")
def running_broker() -> type[RunningBroker]:
    return RunningBroker


@pytest.fixture
def mqtt_broker(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[RunningBroker]:
    broker = RunningBroker(mosquitto, tmp_path / "mosquitto")
    broker.start()
    yield broker
    broker.kill()
