r"""The sealed message: a signature over the raw bytes that follow it, and over the topic.

Three lines of JSON, of which the last may hold line breaks::

    {"sig":"<86 characters: Ed25519 signature, base64url without padding>"}
    {"kid":"did:key:z6Mk...","conn":1767225600000,"seq":17,"exp":1767225660}
    {"v":"1.0","id":"...", ...}                                   the envelope, as without a seal

Signed is ``CONTEXT + topic + "\n" +`` everything behind the first line, byte for byte: nothing is parsed before it is known
to be genuine but the second line, and nothing is ever serialised again. With the topic under the signature, an award that a
forged broker moves to another robot's inbox is no award. `docs/decisions/0005-seals.md` says why it has this form.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from fleet_market.errors import ProtocolError
from fleet_market.ids import DidKey
from fleet_market.protocol.messages import Body

CONTEXT = b"fleet-market/1 message\n"
"""Separates these signatures from others made with the same key (domain separation, RFC 8032 section 8.3 in spirit)."""
BEGIN, END = b'{"sig":"', b'"}\n'
SIGNATURE_BYTES, SIGNATURE_CHARACTERS = 64, 86
MAX_SEAL_BYTES = 256
"""What a seal adds at most to the 4 KiB or 64 KiB of a message."""
LAST_SEQ = 2**53 - 1
"""Number of a last will: the broker sends it behind everything else of its connection."""

_REST = len(BEGIN) + SIGNATURE_CHARACTERS + len(END)


class Seal(Body):
    """Who signed a message, and its place in the order of all that this key has signed."""

    kid: DidKey
    conn: Annotated[int, Field(ge=0, le=2**53)]
    """The sender's connection: when it began, in milliseconds of Unix time; grows with every connection."""
    seq: Annotated[int, Field(ge=0, le=LAST_SEQ)]
    """Grows with every message of a connection."""
    exp: Annotated[int, Field(ge=0, le=2**40)]
    """Of no use after this Unix time, seconds; 0 for what is retained, which lasts until the next of its kind."""


_SEAL: TypeAdapter[Seal] = TypeAdapter(Seal)


class Sealed(NamedTuple):
    """A sealed message, taken apart but not yet verified."""

    seal: Seal
    signature: bytes
    signed: bytes
    """What the signature is over."""
    body: bytes


def write_signature(signature: bytes) -> bytes:
    """Return the first line for a signature of 64 bytes."""
    return BEGIN + base64.urlsafe_b64encode(signature).rstrip(b"=") + END


def read_signature(payload: bytes) -> tuple[bytes, bytes]:
    """Return the signature in the first line of `payload` and everything behind that line.

    There is one way only to write a signature, so that no message has two forms.

    Raises
    ------
    ProtocolError
        ``unsigned`` if the first line is not a signature.
    """
    text = payload[len(BEGIN) : len(BEGIN) + SIGNATURE_CHARACTERS]
    try:
        signature = base64.urlsafe_b64decode(text + b"==")
    except (binascii.Error, ValueError):
        signature = b""
    if len(signature) != SIGNATURE_BYTES or payload[:_REST] != write_signature(signature):
        raise ProtocolError("unsigned", "the first line is not a signature")
    return signature, payload[_REST:]


def to_sign(topic: str, rest: bytes) -> bytes:
    """Return what is signed for `rest`, the seal and the body, on `topic`."""
    return CONTEXT + topic.encode() + b"\n" + rest


def write_rest(seal: Seal, body: bytes) -> bytes:
    """Return the second and the third line."""
    return seal.model_dump_json().encode() + b"\n" + body


def read_sealed(topic: str, payload: bytes) -> Sealed:
    """Take a sealed message apart; verifies nothing.

    Raises
    ------
    ProtocolError
        ``unsigned`` without a signature, ``malformed`` if the second line is not a seal.
    """
    signature, rest = read_signature(payload)
    head, separator, body = rest.partition(b"\n")
    if not separator or len(head) > MAX_SEAL_BYTES:
        raise ProtocolError("malformed", "the second line is not a seal")
    try:
        seal = _SEAL.validate_json(head)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "seal"
        raise ProtocolError("malformed", f"seal: {where}: {first['msg']}") from None
    return Sealed(seal, signature, to_sign(topic, rest), body)
