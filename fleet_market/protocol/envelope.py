"""The envelope around every body, and the only way in and out of bytes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from fleet_market.errors import ProtocolError
from fleet_market.ids import Identifier, MessageId
from fleet_market.protocol.messages import AnyBody, Body, Count, TimeNs

MINOR = "1.0"
MAX_INBOUND_BYTES = 4096
"""Largest message that a robot or a customer may send."""
MAX_OUTBOUND_BYTES = 65536
"""Largest message, or page of one, that the market sends."""


class Envelope(Body):
    """One message: who says it, when, in which session, in answer to what."""

    v: Annotated[str, Field(pattern=r"^1\.[0-9]{1,4}$")] = MINOR
    id: MessageId
    ts: TimeNs
    """Sender's market time; explains, never decides."""
    src: Identifier
    sid: Count = 0
    """Sender's session number, growing with each start."""
    corr: MessageId | None = None
    """The message this one answers."""
    deadline: TimeNs | None = None
    """Of no use after this market time."""
    body: AnyBody


_ENVELOPE: TypeAdapter[Envelope] = TypeAdapter(Envelope)


def encode(envelope: Envelope) -> bytes:
    """Return the JSON of `envelope`."""
    return envelope.model_dump_json(exclude_defaults=False).encode()


def decode(payload: bytes, *, limit: int = MAX_INBOUND_BYTES) -> Envelope:
    """Return the message in `payload`.

    Raises
    ------
    ProtocolError
        ``oversized`` above `limit` bytes, ``malformed`` if the JSON is not a valid message of this major version.
    """
    if len(payload) > limit:
        raise ProtocolError("oversized", f"{len(payload)} bytes, at most {limit} are read")
    try:
        return _ENVELOPE.validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        raise ProtocolError("malformed", f"{where}: {first['msg']}") from None
