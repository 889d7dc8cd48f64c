"""The inputs of the market, and their form in the event log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from fleet_market.contracts import MarketTerms
from fleet_market.ids import CustomerId, MessageId, ZoneId
from fleet_market.protocol.messages import AnyBody, Body, Count, Text
from fleet_market.units import MAX_CREDITS_UC

SELF = "market"
"""Source of the daemon's own inputs: opening, halting, and the passing of time."""


class OpenMarket(Body):
    """A daemon starts: who may buy and with how much, under which terms."""

    type: Literal["open_market"] = "open_market"
    zone: ZoneId
    epoch: Count
    seed: Annotated[str, Field(max_length=64)]
    terms: MarketTerms
    customers: dict[CustomerId, Annotated[int, Field(ge=0, le=MAX_CREDITS_UC)]]
    """Endowment of each customer, micro-credits; issued once, when the account is opened."""


class Pace(Body):
    """The daemon has more to do than it can, or no more: whether new batches wait."""

    type: Literal["pace"] = "pace"
    paused: bool


class Checkpoint(Body):
    """The market forgets what it needs no more, and a snapshot of the rest is kept, from which a start may go on."""

    type: Literal["checkpoint"] = "checkpoint"
    form: Annotated[str, Field(max_length=64)]
    """Of the snapshot: another program may keep another one, see `fleet_market.market.snapshot`."""


class Halt(Body):
    """The operator lets nothing be sold, or lets the market go on; holds over restarts."""

    type: Literal["halt"] = "halt"
    halted: bool
    reason: Text = ""


_LOGGED: TypeAdapter[AnyBody | OpenMarket | Pace | Halt | Checkpoint] = TypeAdapter(
    Annotated[AnyBody | OpenMarket | Pace | Halt | Checkpoint, Field(discriminator="type")]
)


@dataclass(frozen=True, slots=True)
class Command:
    """One input: who says what, when it takes effect (market time), and under which id he repeats it."""

    source: str
    body: Body
    now_ns: int
    message_id: MessageId | None = None
    sid: int = 0
    lookups: bytes | None = None
    """In a replay: what the map answered then, see `fleet_market.market.lookups`."""

    def logged(self) -> bytes:
        """Return the body as the event log keeps it."""
        return self.body.model_dump_json().encode()


def read_logged(body: bytes) -> Body:
    """Return the body that `Command.logged` wrote.

    Raises
    ------
    ValueError
        If the bytes are not such a body.
    """
    return _LOGGED.validate_json(body)
