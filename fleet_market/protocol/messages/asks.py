"""Lots, the calls for them, and the robots' asks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fleet_market.ids import CallId, OrderId
from fleet_market.protocol.messages.fields import (
    MAX_ASKS,
    PRINTABLE,
    Body,
    Count,
    Joules,
    Kilograms,
    Parts,
    Place,
    Price,
    TimeNs,
    WirePose,
)


class Lot(Body):
    """One order on offer. The customer's budget is not told: asks are sealed on both sides."""

    order: OrderId
    pickup: Place
    dropoff: Place
    payload_kg: Kilograms
    deadline_ns: TimeNs
    lateness_uc_per_h: Price = 0
    """What an hour after the deadline costs the customer: it counts like money. 0: nobody may be late."""
    indicative: bool = False
    """A request for a quote: price it as ever, it will not be awarded."""


class Call(Body):
    """A sealed call for asks, one page of it; a robot prices only a complete call.

    The first round goes to all robots of the zone where all lots fit into one page, otherwise each robot gets the lots
    that are nearest to it on a topic of its own. Further rounds follow there, to those alone from whom something new is to
    be heard.
    """

    type: Literal["call"] = "call"
    call: CallId
    round: Annotated[int, Field(ge=1, le=10_000)] = 1
    won: tuple[OrderId, ...] = ()
    """Orders that this robot has won in earlier rounds of this call, oldest first: to be asked for on top of them. They are
    awarded when the call is over."""
    page: Count
    pages: Annotated[int, Field(ge=1, le=1000)]
    close_ns: TimeNs
    lots: tuple[Lot, ...]


class DeclineReason(StrEnum):
    """Why a robot does not ask for a lot."""

    PAYLOAD = "payload"
    UNREACHABLE = "unreachable"
    BATTERY = "battery"
    DEADLINE = "deadline"
    BUSY = "busy"
    CHARGING = "charging"
    SILENT = "silent"
    """A source of telemetry is silent; the detail names it."""
    FAULT = "fault"


class AskLine(Body):
    """One ask and its parts."""

    lot: Annotated[int, Field(ge=0, le=10**6)]
    """Position of the lot in the whole call, as this robot was sent it."""
    ask_uc: Price
    parts_uc: Parts
    """They add up to `ask_uc` exactly."""
    energy_j: Joules
    energy_sd_j: Joules = 0.0
    finish_ns: TimeNs

    @model_validator(mode="after")
    def _add_up(self) -> AskLine:
        if sum(self.parts_uc) != self.ask_uc:
            raise ValueError(f"parts_uc must add up to ask_uc ({self.ask_uc}), added up to {sum(self.parts_uc)}")
        return self


class DeclineLine(Body):
    """Why a lot is not asked for."""

    lot: Annotated[int, Field(ge=0, le=10**6)]
    reason: DeclineReason
    detail: Annotated[str, Field(max_length=40, pattern=PRINTABLE)] = ""


class Ask(Body):
    """A robot's sealed answer to one call: a sparse vector of asks."""

    type: Literal["ask"] = "ask"
    call: CallId
    round: Annotated[int, Field(ge=1, le=10_000)] = 1
    at: WirePose | None = None
    """Where the robot's schedule leaves it: lots near to this are offered to it first."""
    asks: Annotated[tuple[AskLine, ...], Field(max_length=MAX_ASKS)] = ()
    declines: Annotated[tuple[DeclineLine, ...], Field(max_length=MAX_ASKS)] = ()
