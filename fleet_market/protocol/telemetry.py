"""The canonical form of telemetry records: what is hashed, what is signed, what an oracle keeps.

Canonical is JSON with sorted keys, without spaces, in ASCII, numbers as Python's ``repr`` writes them (the shortest text
that reads back as the same double): in the spirit of RFC 8785, and easy to compute anywhere.

* ``content``: the record without `key` and `signature`. Its SHA-256 is the `previous` of the next record, and it is what
  the robot signs; a robot may change its key, its chain goes on.
* ``statement``: the whole record. It is the leaf of an oracle's Merkle tree: nobody can put another signature there later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable

from fleet_market.errors import ProtocolError
from fleet_market.ids import DidKey
from fleet_market.protocol.messages.telemetry import TelemetryRecord

CONTEXT = b"fleet-market/1 telemetry\n"
"""Separates these signatures and hashes from all others made with the same key (domain separation)."""
GENESIS = "0" * 64
"""What the first record of a chain follows."""

Sign = Callable[[bytes], tuple[DidKey, bytes] | None]
"""Returns the name of the key and the signature of 64 bytes; None where there is no key."""

_ENCODE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode
_NOT_SIGNED = {"key", "signature"}


def content(record: TelemetryRecord) -> bytes:
    """Return what is hashed and signed of a record.

    Raises
    ------
    ProtocolError
        ``malformed`` if a number is not finite, which no record from the wire can hold.
    """
    return CONTEXT + _canonical(record, _NOT_SIGNED)


def statement(record: TelemetryRecord) -> bytes:
    """Return the whole record in canonical form, signature included; raises as `content`."""
    return _canonical(record, set())


def record_hash(record: TelemetryRecord) -> str:
    """Return what the next record of the chain calls `previous`; raises as `content`."""
    return hashlib.sha256(content(record)).hexdigest()


def signed(record: TelemetryRecord, sign: Sign) -> TelemetryRecord:
    """Return the record with key and signature, as it is where there is no key."""
    made = sign(content(record))
    if made is None:
        return record
    key, signature = made
    text = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    return record.model_copy(update={"key": key, "signature": text})


def signature_of(record: TelemetryRecord) -> tuple[DidKey, bytes]:
    """Return key and signature of a record; verifies nothing.

    Raises
    ------
    ProtocolError
        ``unsigned`` if it has none.
    """
    if record.key is None or record.signature is None:
        raise ProtocolError("unsigned", f"record {record.seq} of {record.robot} carries no signature")
    try:
        signature = base64.urlsafe_b64decode(record.signature + "==")
    except (binascii.Error, ValueError):
        signature = b""
    if base64.urlsafe_b64encode(signature).rstrip(b"=").decode() != record.signature:
        raise ProtocolError("bad_signature", "there is one way only to write a signature")
    return record.key, signature


def _canonical(record: TelemetryRecord, without: set[str]) -> bytes:
    try:
        return _ENCODE(record.model_dump(mode="json", exclude=without)).encode()
    except ValueError as error:
        raise ProtocolError("malformed", f"record {record.seq} of {record.robot}: {error}") from None
