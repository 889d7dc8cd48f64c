"""A buyer has leaves of the evidence under a quote opened: demand, openings, verdict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import PartyName, QuoteId
from fleet_market.protocol.messages.fields import Body, Count, Price, ShortText, TimeNs
from fleet_market.protocol.messages.orders import FieldError
from fleet_market.protocol.messages.telemetry import TelemetryRecord

MAX_OPENED = 100
"""Leaves of one demand."""


class OpenRequest(Body):
    """The buyer of a quote draws leaves of what it rests on, by a seed that he has kept to himself until now."""

    type: Literal["open_request"] = "open_request"
    quote: QuoteId
    seed: Annotated[str, Field(pattern="^(?:[0-9a-f]{2}){16,64}$")]
    """Random bytes, hexadecimal."""
    count: Annotated[int, Field(ge=1, le=MAX_OPENED)] = 59
    """59 find 5 % of false records with probability 0.95."""


class OpenDemand(Body):
    """What the market asks the oracle to open."""

    type: Literal["open_demand"] = "open_demand"
    quote: QuoteId
    """The market's name for it."""
    size: Count
    leaves: Annotated[tuple[Count, ...], Field(max_length=MAX_OPENED)]
    answer_by_ns: TimeNs


class LeafOpening(Body):
    """One leaf, and the proof that it is under the root of the quote."""

    type: Literal["leaf_opening"] = "leaf_opening"
    quote: QuoteId
    index: Count
    size: Count
    record: TelemetryRecord
    proof: Annotated[str, Field(pattern="^[A-Za-z0-9_-]*$", max_length=3000)]
    """Hashes of the siblings from the leaf to the root, 32 bytes each in a row, base64url without padding."""


class OpenReply(Body):
    """The verdict."""

    type: Literal["open_reply"] = "open_reply"
    quote: QuoteId
    result: Literal["sound", "breach", "refused"]
    oracle: PartyName | None = None
    leaves: Count = 0
    breach: ShortText = ""
    """Why the bond is lost; see `fleet_market.oracle.bond.Breach`."""
    leaf: Count | None = None
    forfeit_uc: Price = 0
    """Taken from the oracle's bond."""
    refund_uc: Price = 0
    """Of it, what the buyer gets back of his fee; the rest is burned."""
    errors: tuple[FieldError, ...] = ()
