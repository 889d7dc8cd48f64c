"""What a cleared batch says to everybody, and the oracle about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import CallId, OrderId
from fleet_market.protocol.messages.fields import Body, Count, Price, ShortText, TimeNs
from fleet_market.protocol.messages.orders import LotRecord


class Cleared(Body):
    """A closed batch with all its asks, published after the awards: what the oracle and a dashboard see."""

    type: Literal["cleared"] = "cleared"
    call: CallId
    page: Count
    pages: Annotated[int, Field(ge=1, le=1000)]
    opened_ns: TimeNs
    closed_ns: TimeNs
    welfare_uc: Annotated[int, Field(ge=0, le=2**62)]
    seed: ShortText
    lots: tuple[LotRecord, ...]


class Band(Body):
    """The oracle's fair band for one cleared lot."""

    type: Literal["band"] = "band"
    call: CallId
    order: OrderId
    low_uc: Price
    high_uc: Price
    second_best_ask_uc: Price | None
    optimum_uc: Annotated[int, Field(ge=0, le=2**62)]
    """Welfare of the closed batch with all asks known."""
    price_uc: Price | None
    inside: bool | None
