"""Paid quotes of oracles, bands and other advice: requests, questions, answers, and how the bands did.

The market stands between buyer and oracle: it holds the fee, passes the question on without saying who asks or what he
hopes for, and pays when the answer is there.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet_market.ids import OrderId, PartyName, QuoteId, RobotId
from fleet_market.protocol.messages.advised import Advised, Probability, What
from fleet_market.protocol.messages.fields import Body, Kilograms, Metres, Price, ShortText, Text, TimeNs
from fleet_market.protocol.messages.oracles import Confidence, WireBand
from fleet_market.protocol.messages.orders import FieldError

MAX_USED = 64
"""Robots that an answer names; it has to fit into the 4 KiB that an oracle may send."""
TASK = frozenset({"order", "pickup", "dropoff", "payload_kg", "deadline_s"})
TAKES: dict[What, frozenset[str]] = {
    "band": TASK | {"later_s", "confidence", "preview"},
    "budget": TASK | {"probability"},
    "best_time": TASK | {"later_s"},
    "make_or_buy": TASK | {"cost_uc", "later_s"},
    "judge": TASK | {"price_uc"},
    "congestion": frozenset({"later_s"}),
}
"""Fields of a request that belong to each advice; those of another one may not be given."""


class FairRequest(Body):
    """A customer or a robot buys an oracle's advice on an order, on a task that nobody has posted, or on the zone.

    Which fields belong to which advice: `TAKES`; the market refuses any other, and says so.

    The same `quote` again, from the same buyer, is answered again and not paid again.
    """

    type: Literal["fair_request"] = "fair_request"
    quote: QuoteId
    """The buyer's own name for it."""
    oracle: PartyName
    what: What = "band"
    order: OrderId | None = None
    pickup: ShortText | None = None
    """Without an order: as in `PostOrder`."""
    dropoff: ShortText | None = None
    payload_kg: Kilograms = 0.0
    deadline_s: Annotated[float, Field(gt=0.0, le=1e7)] = 600.0
    later_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = 0.0
    """For how much later than now a band or the congestion is wanted; until when the best time is looked for; when a
    contract could still be resold."""
    confidence: Confidence = 0.8
    preview: bool = False
    """Only the coarse band, which is free."""
    probability: Probability | None = None
    """Of a budget: with which it is to be sold, and done by its deadline."""
    price_uc: Price | None = None
    """To be judged: an ask, or a price that was paid. Not needed for an order that is settled."""
    cost_uc: Price | None = None
    """Make or buy: what doing it costs the one who asks, less what it costs him to sell it on."""
    max_fee_uc: Price = 0
    """Refused if the oracle charges more."""


class FairQuestion(Body):
    """What the market asks an oracle: the task in numbers. No names, no texts, no budget.

    Of the one who asks it tells what the advice is about and nothing else: a price to be judged, his own cost of a
    contract, a probability.
    """

    type: Literal["fair_question"] = "fair_question"
    quote: QuoteId
    """The market's name for it, not the buyer's."""
    what: What = "band"
    pickup: tuple[Metres, Metres] | None
    dropoff: tuple[Metres, Metres] | None
    """None where the advice is on the zone."""
    payload_kg: Kilograms
    deadline_ns: TimeNs
    at_ns: TimeNs
    later: bool
    confidence: Confidence
    preview: bool
    probability: Probability | None = None
    price_uc: Price | None = None
    cost_uc: Price | None = None
    answer_by_ns: TimeNs

    @model_validator(mode="after")
    def _is_about_one_thing(self) -> Self:
        for field in ("probability", "price_uc", "cost_uc"):
            if (getattr(self, field) is None) == (field in TAKES[self.what]):
                raise ValueError(f"{field} must {'' if field in TAKES[self.what] else 'not '}be given for {self.what}")
        on_zone = self.what == "congestion"
        if (self.pickup is None) != on_zone or (self.dropoff is None) != on_zone:
            raise ValueError(f"both places must {'not ' if on_zone else ''}be given for {self.what}")
        if self.preview and self.what != "band":
            raise ValueError("a preview is of a band")
        return self


class FairAnswer(Body):
    """What an oracle says to a `FairQuestion`; a preview has a band of its ends alone.

    With neither band nor advice it cannot tell, and is not paid. All advice but that on the zone comes with the band that
    it follows from.
    """

    type: Literal["fair_answer"] = "fair_answer"
    quote: QuoteId
    band: WireBand | None = None
    advice: Advised | None = None
    used: Annotated[tuple[tuple[RobotId, Annotated[int, Field(ge=1, le=10**6)]], ...], Field(max_length=MAX_USED)] = ()
    """Records of each robot's telemetry that it rests on: those robots share in the fee."""


class FairReply(Body):
    """The answer to a `FairRequest`."""

    type: Literal["fair_reply"] = "fair_reply"
    quote: QuoteId
    result: Literal["quoted", "preview", "no_quote", "refused"]
    """``no_quote``: the oracle could not tell or did not answer in time; nothing was paid."""
    oracle: PartyName
    what: What = "band"
    order: OrderId | None = None
    band: WireBand | None = None
    advice: Advised | None = None
    valid_until_ns: TimeNs | None = None
    fee_uc: Price = 0
    robots_uc: Price = 0
    """What of the fee has gone to the robots' owners."""
    note: Text = ""
    errors: tuple[FieldError, ...] = ()


class Scored(Body):
    """How a band did, sold or sealed, said when the order that it was about is settled. Who bought which is not said."""

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
