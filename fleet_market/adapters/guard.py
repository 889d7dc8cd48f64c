"""What stands between the wire and a daemon: seals what goes out, opens what comes in, counts what is refused."""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet_market.errors import InputError, ProtocolError
from fleet_market.ids import DidKey, OwnerId
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES
from fleet_market.protocol.gate import Gate, Limits
from fleet_market.protocol.messages import TelemetryRecord
from fleet_market.protocol.registry import Role

log = logging.getLogger(__name__)

KEYS_VARIABLE = "FLEET_MARKET_KEYS"
"""Environment variable that names the folder of keys."""
COMPLAINT_PERIOD_S = 60.0
MAX_COMPLAINED = 20_000
FROM_MARKET = Limits(rate_per_s=math.inf, burst=math.inf, refused_costs=0.0, max_bytes=MAX_OUTBOUND_BYTES)
"""Robots and customers take what the market sends as it comes."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a client needs for mutual TLS, PEM."""

    ca: Path
    certificate: Path
    key: Path


class Guard:
    """Guards a connection without keys: size and allowance only. `fleet_market.adapters.keyring.KeyGuard` has keys.

    Parameters
    ----------
    gate : Gate
    unix_s, now_s : callable
        Wall clock and monotonic clock, seconds.
    """

    tls: TlsFiles | None = None

    def __init__(
        self, gate: Gate, unix_s: Callable[[], float] = time.time, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.gate, self.unix_s, self.now_s = gate, unix_s, now_s
        self.rejected: Counter[str] = Counter()
        """Messages that were refused, by reason."""
        self._complained: dict[str, float] = {}

    def connect(self) -> None:
        """Take note that a new connection begins."""

    def seal(self, topic: str, payload: bytes) -> bytes:  # noqa: ARG002 - without keys there is no seal
        """Return what goes over the wire for `payload`."""
        return payload

    def seal_will(self, topic: str, payload: bytes) -> bytes:  # noqa: ARG002 - as above
        """Return the last will of the connection that begins."""
        return payload

    def open(self, topic: str, payload: bytes) -> bytes:
        """Return the message that came in.

        Raises
        ------
        ProtocolError
            See `fleet_market.protocol.gate.Gate.open`.
        """
        return self.gate.open(topic, payload, unix_s=self.unix_s(), now_s=self.now_s())

    def sign(self, content: bytes) -> tuple[DidKey, bytes] | None:  # noqa: ARG002 - as above
        """Return the name of the key and the signature of what begins with a context of its own; None without keys."""
        return None

    def record_fault(self, record: TelemetryRecord) -> str | None:  # noqa: ARG002 - as above
        """Return what is wrong with a record's signature, as one word; None if nothing is, or there are no keys."""
        return None

    def watch(self) -> None:
        """Take note of changes of the register."""

    def session_tls(self, number: int) -> TlsFiles | None:  # noqa: ARG002 - without keys nothing is encrypted
        """Return what a further session of the same party needs for TLS."""
        return None

    def owner_of(self, robot: str) -> OwnerId | None:  # noqa: ARG002 - without keys nobody knows
        """Return whom a robot may name as its owner, None if any."""
        return None

    def remembered(self) -> bytes:
        """Return what has been let in, for `restore`; empty if nothing needs to be remembered."""
        return b""

    def restore(self, path: Path) -> None:
        """Read what `remembered` returned in an earlier process."""

    def fine(self, topic: str) -> None:
        """Charge a sender for a message that was let in and turned out to be refused."""
        self.gate.fine(topic, self.now_s())

    def reject(self, topic: str, error: ProtocolError) -> None:
        """Count a refused message; complain once per sender and minute."""
        self.rejected[error.reason] += 1
        sender, now = "/".join(topic.split("/")[:4])[:200], self.now_s()
        if now - self._complained.get(sender, -COMPLAINT_PERIOD_S) >= COMPLAINT_PERIOD_S:
            if len(self._complained) >= MAX_COMPLAINED:
                self._complained.clear()
            self._complained[sender] = now
            log.warning("refused from %s: %s (%d of this kind so far)", sender, error, self.rejected[error.reason])


class Listener(Guard):
    """Guards a session that listens for another connection of the same process, and sends nothing.

    Parameters
    ----------
    guard : Guard
        Of the connection that sends.
    tls : TlsFiles or None
    gate : Gate, optional
        Lets in for this session alone; by default the messages of all sessions go through one gate.
    """

    def __init__(self, guard: Guard, tls: TlsFiles | None, gate: Gate | None = None) -> None:
        super().__init__(guard.gate if gate is None else gate, guard.unix_s, guard.now_s)
        self._guard, self.tls = guard, tls

    def open(self, topic: str, payload: bytes) -> bytes:
        """Return the message that came in; raises as `Guard.open`."""
        self._guard.watch()
        self.gate.directory = self._guard.gate.directory
        return super().open(topic, payload)

    def reject(self, topic: str, error: ProtocolError) -> None:
        """Count a refused message where all are counted; that a gate of its own is shown what is retained again is none."""
        if error.reason != "replayed" or self.gate is self._guard.gate:
            self._guard.reject(topic, error)


def guard_for(keys: Path | None, role: Role, name: str, host: str, limits: Limits = FROM_MARKET) -> Guard:
    """Return the guard of a connection to `host`: with keys if there is a folder of them, else for loopback only.

    Raises
    ------
    InputError
        If the keys cannot be used, or if `host` is another machine and there are none.
    """
    if keys is None:
        only_loopback(host)
        return Guard(Gate(limits))
    from fleet_market.adapters.keyring import KeyGuard  # noqa: PLC0415 - 7 MiB that a robot without keys need not have

    return KeyGuard(keys, role, name, limits)


def only_loopback(host: str, option: str = "--mqtt") -> None:
    """Refuse a host that is another machine: unsigned and unencrypted is for this machine alone.

    Raises
    ------
    InputError
        If `host` is not of the loopback interface.
    """
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        mend = "without keys only a broker on the loopback interface is used: give --keys DIR or set FLEET_MARKET_KEYS"
        raise InputError("command line", option, host, mend)
