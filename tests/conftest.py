"""A real Mosquitto and a real PostgreSQL for the tests that need one, and keys to sign with."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.mosquitto import Mosquitto
from fleet_market.testing import postgres
from fleet_market.testing.postgres import Cluster

ROOT = Path(__file__).parents[1]

# The same examples each time, so that a red test is about the change at hand; `make nightly` looks for new ones. To explain
# a failure, hypothesis traces every line: of a simulated market that takes longer than the test may. How fast examples are
# made is no matter of the code at hand, but of what else the machine does.
settings.register_profile(
    "new_examples",
    deadline=None,
    print_blob=True,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("repeatable", settings.get_profile("new_examples"), derandomize=True, database=None)
settings.load_profile("repeatable")


def wait_until(condition: Callable[[], object], within_s: float = 60.0) -> None:
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


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A PostgreSQL of our own; `make test` installs the server where it is missing."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'fleet-market[postgres]'")
    if postgres.find() is None:
        pytest.skip("PostgreSQL is not installed: make postgres")
    with postgres.cluster() as cluster:
        yield cluster


@pytest.fixture
def postgres_address(postgres_cluster: Cluster) -> str:
    """Address of a database without any market in it."""
    import psycopg

    with psycopg.connect(postgres_cluster.address, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS fleet_market CASCADE")
    return postgres_cluster.address


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., Path]:
    """Makes private keys in files."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    def make(name: str = "key.pem", *, kind: str = "key") -> Path:
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else Ed25519PrivateKey.generate()
        none = serialization.NoEncryption()
        path = tmp_path / name
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none))
        path.chmod(0o600)
        return path

    return make
