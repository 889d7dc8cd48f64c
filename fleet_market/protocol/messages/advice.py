"""Paid quotes of oracles: requests, questions, answers, and how the answers did.

The market stands between buyer and oracle: it holds the fee, passes the question on without saying who asks or what he
hopes for, and pays when the answer is there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import OrderId, PartyName, QuoteId, RobotId
from fleet_market.protocol.messages.fields import Body, Kilograms, Metres, Price, ShortText, Text, TimeNs
from fleet_market.protocol.messages.oracles import Confidence, WireBand
from fleet_market.protocol.messages.orders import FieldError

MAX_USED = 64
"""Robots that an answer names; it has to fit into the 4 KiB that an oracle may send."""


class FairRequest(Body):
    """A customer or a robot buys an oracle's band for an order, or for a task that nobody has posted.

    The same `quote` again, from the same buyer, is answered again and not paid again.
    """

    type: Literal["fair_request"] = "fair_request"
    quote: QuoteId
    """The buyer's own name for it."""
    oracle: PartyName
    order: OrderId | None = None
    pickup: ShortText | None = None
    """Without an order: as in `PostOrder`."""
    dropoff: ShortText | None = None
    payload_kg: Kilograms = 0.0
    deadline_s: Annotated[float, Field(gt=0.0, le=1e7)] = 600.0
    later_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = 0.0
    """For how much later than now the band is wanted."""
    confidence: Confidence = 0.8
    preview: bool = False
    """Only the coarse band, which is free."""
    max_fee_uc: Price = 0
    """Refused if the oracle charges more."""


class FairQuestion(Body):
    """What the market asks an oracle: the task in numbers. No names, no texts, no budget."""

    type: Literal["fair_question"] = "fair_question"
    quote: QuoteId
    """The market's name for it, not the buyer's."""
    pickup: tuple[Metres, Metres]
    dropoff: tuple[Metres, Metres]
    payload_kg: Kilograms
    deadline_ns: TimeNs
    at_ns: TimeNs
    later: bool
    confidence: Confidence
    preview: bool
    answer_by_ns: TimeNs


class FairAnswer(Body):
    """What an oracle says to a `FairQuestion`; a preview has a band of its ends alone."""

    type: Literal["fair_answer"] = "fair_answer"
    quote: QuoteId
    band: WireBand | None = None
    """None: it cannot tell, and is not paid."""
    used: Annotated[tuple[tuple[RobotId, Annotated[int, Field(ge=1, le=10**6)]], ...], Field(max_length=MAX_USED)] = ()
    """Records of each robot's telemetry that it rests on: those robots share in the fee."""


class FairReply(Body):
    """The answer to a `FairRequest`."""

    type: Literal["fair_reply"] = "fair_reply"
    quote: QuoteId
    result: Literal["quoted", "preview", "no_quote", "refused"]
    """``no_quote``: the oracle could not tell or did not answer in time; nothing was paid."""
    oracle: PartyName
    order: OrderId | None = None
    band: WireBand | None = None
    valid_until_ns: TimeNs | None = None
    fee_uc: Price = 0
    robots_uc: Price = 0
    """What of the fee has gone to the robots' owners."""
    note: Text = ""
    errors: tuple[FieldError, ...] = ()


class Scored(Body):
    """How a paid band did, said when the order that it was about is settled. Who bought it is not said."""

    type: Literal["scored"] = "scored"
    oracle: PartyName
    order: OrderId
    low_uc: Price
    high_uc: Price
    confidence: Confidence
    price_uc: Price
    """What was paid."""
    reference_uc: Price
    """What it is judged by: see `fleet_market.oracle.scoring.reference_price_uc`."""
    inside: bool
    score: float
