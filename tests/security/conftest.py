"""A market's folder of keys, and a real Mosquitto that asks for them."""

import subprocess
from pathlib import Path

import pytest

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.guard import Listener, guard_for
from fleet_market.adapters.key_folder import PID, BrokerAddress, KeyFolder, broker_tls
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.ids import OwnerId, PartyName, ZoneId
from fleet_market.protocol.registry import Role


class SecureBroker:
    """A Mosquitto with mutual TLS that runs from a folder of keys."""

    def __init__(self, mosquitto, keys, eventually):
        self.host, self.port, self.keys = "localhost", mosquitto_adapter.free_port(), keys
        folder = keys.folder / "broker"
        config = mosquitto_adapter.write_config(folder, self.port, tls=broker_tls(keys.folder, "127.0.0.1"))
        self.process = subprocess.Popen(
            [mosquitto.path, "-c", config],
            env=mosquitto.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: (folder / PID).exists() and self._listens())

    def _listens(self):
        import socket

        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def connect(self, role, name, *filters, client_id=None, will=None, unguarded=False):
        """Return a transport with the keys of a party; unguarded, its messages go as they are, over its TLS.

        A name like ``auc-main.2`` is that of a market's further session.
        """
        party, _, session = name.partition(".")
        guard = guard_for(self.keys.folder, Role(role), party, self.host)
        if session:
            guard = Listener(guard, guard.session_tls(int(session)))
        if unguarded:
            guard.seal = guard.seal_will = guard.open = lambda _topic, payload: payload
        config = MqttConfig(self.host, self.port, client_id or name, will)
        return MqttTransport(config, [(f, 1) for f in filters], guard=guard)


def make_keys(folder: Path) -> KeyFolder:
    keys = KeyFolder.found(folder, BrokerAddress(), [ZoneId("main")])
    for role, name in (("robot", "r1"), ("robot", "r2"), ("customer", "ann"), ("customer", "bob"), ("owner", "acme")):
        owner = OwnerId("acme") if role == "robot" else None
        keys.issue(Role(role), PartyName(name), owner=owner)
    return keys


@pytest.fixture(scope="session")
def standing_keys(tmp_path_factory):
    """Keys that no test changes."""
    return make_keys(tmp_path_factory.mktemp("standing") / "keys")


@pytest.fixture
def keys(tmp_path):
    """Keys that a test may change."""
    return make_keys(tmp_path / "keys")


@pytest.fixture
def secure_broker(mosquitto, keys, eventually):
    broker = SecureBroker(mosquitto, keys, eventually)
    yield broker
    broker.kill()
