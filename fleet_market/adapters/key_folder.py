"""The folder of keys of a whole market, as its operator keeps it: found it, issue, rotate, revoke.

::

    ca.pem ca.did registry.json      for everyone
    ca/                              the authority's own keys: needed by these commands only, keep them offline if you can
    broker/                          server certificate, access file, revocation list and configuration of Mosquitto
    ROLE/NAME/                       keys of one party, to be copied to its machine; of a market also its sessions/
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_market.adapters.access import access_file
from fleet_market.adapters.certificates import Authority, today
from fleet_market.adapters.keyring import (
    CA_CERTIFICATE,
    CA_DID,
    MESSAGE_KEY,
    REGISTER,
    SESSION_CERTIFICATES,
    TLS_CERTIFICATE,
    TLS_KEY,
    SigningKey,
    read_register,
    write_register,
)
from fleet_market.adapters.mosquitto import BrokerTls, write_config
from fleet_market.adapters.private_files import PRIVATE, read_private, write_file
from fleet_market.errors import InputError
from fleet_market.ids import DidKey, OwnerId, PartyName, ZoneId
from fleet_market.protocol.registry import (
    SESSIONS,
    Entry,
    Register,
    Role,
    enrol,
    market_name,
    revoke,
    rotate,
    session_name,
    zone_of,
)

AUTHORITY, BROKER = "ca", "broker"
CA_KEY, REGISTER_KEY = "ca.key", "registry.key"
SERVER_CERTIFICATE, SERVER_KEY, ACCESS, REVOKED, CONFIG, PID = (
    "server.pem", "server.key", "acl", "revoked.pem", "mosquitto.conf", "mosquitto.pid",
)  # fmt: skip
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
TLS_PORT = 8883
"""Registered with IANA for MQTT over TLS."""
CLIENT_DAYS = 30
"""A stolen certificate is of no use for long: rotate monthly."""
OVERLAP_S = 3600


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the MQTT broker listens, and under which names it is reached."""

    port: int = TLS_PORT
    bind: str = "127.0.0.1"
    hosts: tuple[str, ...] = LOOPBACK_HOSTS


class KeyFolder:
    """An operator's folder of keys.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If there is no authority in it, or its register cannot be believed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / AUTHORITY).is_dir():
            raise InputError(
                "command line", "--keys", str(folder), "no authority there: make one with `fleet-market keys init`"
            )
        self.anchor = DidKey((folder / CA_DID).read_text().strip())
        self.register = read_register(folder / REGISTER, self.anchor)

    @classmethod
    def found(cls, folder: Path, address: BrokerAddress, zones: Sequence[ZoneId], *, days: int = CLIENT_DAYS) -> KeyFolder:
        """Make a new authority, the broker's certificate and configuration, and keys for the markets and an oracle.

        Raises
        ------
        InputError
            If the folder is there and not empty: nothing is ever overwritten.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError("command line", "--keys", str(folder), "it is there and not empty: use a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / AUTHORITY).mkdir(mode=0o700)
        authority, own = Authority.found(today())
        register_key = SigningKey.generate()
        write_file(folder / AUTHORITY / CA_KEY, own.key, PRIVATE)
        write_file(folder / AUTHORITY / REGISTER_KEY, register_key.pem(), PRIVATE)
        write_file(folder / CA_CERTIFICATE, own.certificate)
        write_file(folder / CA_DID, f"{register_key.did}\n".encode())
        write_register(folder / REGISTER, Register(serial=0), register_key)
        server, broker = authority.issue_server(address.hosts, today()), folder / BROKER
        write_file(broker / SERVER_CERTIFICATE, server.certificate)
        write_file(broker / SERVER_KEY, server.key, PRIVATE)
        write_file(broker / REVOKED, authority.revocation_list((), today()))
        write_file(broker / ACCESS, access_file(Register(serial=0), time.time()).encode(), PRIVATE)
        write_config(broker, address.port, tls=broker_tls(folder, address.bind))
        made = cls(folder)
        for zone in zones:
            made.issue(Role.MARKET, market_name(zone), days=days)
        made.issue(Role.ORACLE, PartyName("oracle"), days=days)
        return made

    def issue(self, role: Role, name: PartyName, *, days: int = CLIENT_DAYS, owner: OwnerId | None = None) -> Entry:
        """Make keys for a party that has none.

        Raises
        ------
        InputError
            If the party has a valid key, or its name is taken.
        """
        with self._locked():
            return self._make(role, name, days, owner, overlap_s=None)

    def rotate(self, role: Role, name: PartyName, *, days: int = CLIENT_DAYS, overlap_s: int = OVERLAP_S) -> Entry:
        """Make new keys for a party; the present ones count for `overlap_s` longer, the certificate until it runs out.

        Raises
        ------
        InputError
            If the party has no valid key.
        """
        with self._locked():
            known = self.register.of(role, name)
            return self._make(role, name, days, known[-1].owner if known else None, overlap_s=overlap_s)

    def revoke(self, role: Role, name: PartyName) -> None:
        """Let no key and no certificate of a party count any more.

        Raises
        ------
        InputError
            If it has none.
        """
        with self._locked():
            self._write(revoke(self.register, role, name, int(time.time()), source=str(self.folder / REGISTER)))

    def _make(self, role: Role, name: PartyName, days: int, owner: OwnerId | None, *, overlap_s: int | None) -> Entry:
        folder, key, now_s = self.folder / role / name, SigningKey.generate(), int(time.time())
        names = tuple(session_name(zone_of(name), n) for n in range(SESSIONS)) if role is Role.MARKET else ()
        client = self._authority().issue_client(name, days, today(), names) if role.connects else None
        entry = Entry(
            role=role,
            name=name,
            key=key.did,
            owner=owner,
            from_s=now_s,
            certificate=None if client is None else client.serial,
        )
        source = str(self.folder / REGISTER)
        if overlap_s is None:
            register = enrol(self.register, entry, now_s, source=source)
        else:
            register = rotate(self.register, entry, now_s, overlap_s=overlap_s, source=source)
        write_file(folder / MESSAGE_KEY, key.pem(), PRIVATE)
        if client is not None:
            write_file(folder / TLS_KEY, client.key, PRIVATE)
            write_file(folder / TLS_CERTIFICATE, client.certificate)
            for n, certificate in enumerate(client.sessions):
                write_file(folder / SESSION_CERTIFICATES / f"{n}.pem", certificate)
        self._write(register)
        return entry

    def _authority(self) -> Authority:
        key = read_private(self.folder / AUTHORITY / CA_KEY)
        return Authority.load((self.folder / CA_CERTIFICATE).read_bytes(), key, str(self.folder / AUTHORITY))

    def _write(self, register: Register) -> None:
        """Write the register, and what Mosquitto makes of it; tell Mosquitto if it runs from this folder."""
        broker, now_s = self.folder / BROKER, time.time()
        write_register(self.folder / REGISTER, register, SigningKey.load(self.folder / AUTHORITY / REGISTER_KEY))
        gone = (e for e in register.entries if e.revoked_s is not None or (e.until_s is not None and e.until_s <= now_s))
        serials = [serial for entry in gone for serial in _serials(entry)]
        write_file(broker / REVOKED, self._authority().revocation_list(serials, today()))
        write_file(broker / ACCESS, access_file(register, now_s).encode(), PRIVATE)
        self.register = register
        reload_broker(broker / PID)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep a second command of another process out until this one has written."""
        lock = self.folder / AUTHORITY / "lock"
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, PRIVATE))
        except FileExistsError:
            mend = f"another command is at work; if none is, remove {lock}"
            raise InputError(str(lock), "lock", "there", mend) from None
        try:
            self.register = read_register(self.folder / REGISTER, self.anchor)
            yield
        finally:
            lock.unlink()


def _serials(entry: Entry) -> list[str]:
    """Return the serial numbers of the certificates that were issued with a key."""
    if entry.certificate is None:
        return []
    first, more = int(entry.certificate, 16), SESSIONS if entry.role is Role.MARKET else 0
    return [f"{serial:x}" for serial in range(first, first + 1 + more)]


def broker_tls(folder: Path, bind: str) -> BrokerTls:
    """Return what Mosquitto needs of a folder of keys."""
    broker = folder.resolve() / BROKER
    return BrokerTls(
        ca=folder.resolve() / CA_CERTIFICATE,
        certificate=broker / SERVER_CERTIFICATE,
        key=broker / SERVER_KEY,
        revoked=broker / REVOKED,
        access=broker / ACCESS,
        pid=broker / PID,
        bind=bind,
    )


def reload_broker(pid_file: Path) -> bool:
    """Let a Mosquitto that runs from this folder read its access file again; return whether one runs."""
    try:
        pid = int(pid_file.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() != "mosquitto":
            return False
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError):
        return False
    return True
