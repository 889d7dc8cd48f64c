"""Contracts that are put on sale again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import CallId, ContractId, OrderId, OwnerId, RobotId
from fleet_market.protocol.messages.asks import AskLine, DeclineLine, Lot
from fleet_market.protocol.messages.fields import MAX_BUNDLE, Body, Price, ShortText, Text, TimeNs


class Reauction(Body):
    """Contracts that are only queued are on sale again, all at once; one round of it, for one robot.

    The answer prices the robot's schedule as if the contracts in `own` were not in it and the orders in `won` were. A robot
    that begins one of its contracts takes it off the market: it is frozen only once `Prepare` is agreed to.
    """

    type: Literal["reauction"] = "reauction"
    call: CallId
    round: Annotated[int, Field(ge=1, le=100)] = 1
    lots: Annotated[tuple[Lot, ...], Field(max_length=MAX_BUNDLE)]
    own: Annotated[tuple[ContractId, ...], Field(max_length=MAX_BUNDLE)] = ()
    """Contracts of this robot that are on sale."""
    won: Annotated[tuple[OrderId, ...], Field(max_length=MAX_BUNDLE)] = ()
    """Lots of this re-auction that this robot has won in earlier rounds, oldest first."""
    close_ns: TimeNs


class ResaleAsk(Body):
    """A robot's sealed answer to one round of a re-auction."""

    type: Literal["resale_ask"] = "resale_ask"
    call: CallId
    round: Annotated[int, Field(ge=1, le=100)] = 1
    saving_uc: Price | None = None
    """What the robot saves when it loses all of `own`; null: it gives none of them away."""
    asks: Annotated[tuple[AskLine, ...], Field(max_length=MAX_BUNDLE)] = ()
    declines: Annotated[tuple[DeclineLine, ...], Field(max_length=MAX_BUNDLE)] = ()


class Prepare(Body):
    """Somebody does these contracts for less: the robot is to let go of them.

    First phase of a two-phase commit (Gray 1978). A robot that agrees begins none of them until it is told `Cancel` (sold)
    or `Keep`; one that has begun any of them refuses.
    """

    type: Literal["prepare"] = "prepare"
    call: CallId
    contracts: Annotated[tuple[ContractId, ...], Field(min_length=1, max_length=MAX_BUNDLE)]


class Prepared(Body):
    """The answer to `Prepare`."""

    type: Literal["prepared"] = "prepared"
    call: CallId
    contracts: Annotated[tuple[ContractId, ...], Field(min_length=1, max_length=MAX_BUNDLE)]
    agreed: bool


class Keep(Body):
    """These contracts are not sold: they are the robot's to do as before."""

    type: Literal["keep"] = "keep"
    call: CallId
    contracts: Annotated[tuple[ContractId, ...], Field(max_length=MAX_BUNDLE)]


class Offer(Body):
    """A robot would rather have others do some of its queued contracts: they come first in the next re-auction."""

    type: Literal["offer"] = "offer"
    contracts: Annotated[tuple[ContractId, ...], Field(min_length=1, max_length=MAX_BUNDLE)]


class LevelView(Body):
    """One contract of an order: the customer's with the first robot, that one's with the next, and so on."""

    contract: ContractId
    robot: RobotId
    owner: OwnerId
    ask_uc: Price
    price_uc: Price
    """What the level above pays for it; the customer, for the first."""
    held_uc: Price = 0
    """What the level above has on hold beyond what it is paid itself."""
    paid_uc: Price | None = None
    """What was paid in the end."""


class MoveRecord(Body):
    """A contract that changed hands."""

    order: OrderId
    giver: RobotId
    taker: RobotId
    ask_uc: Price
    price_uc: Price
    """What the giver pays the taker when the order is done."""


class GainRecord(Body):
    """What a robot gains by a trade, by what it has said itself."""

    robot: RobotId
    saving_uc: Price
    """What it saves by losing all of its contracts that were on sale."""
    asks_uc: Annotated[int, Field(ge=0, le=2**62)]
    """Its asks for what it has taken, its own contracts included."""
    gain_uc: Annotated[int, Field(ge=-(2**62), le=2**62)]


class TradeRecord(Body):
    """What a re-auction has come to."""

    call: CallId
    kind: ShortText
    """How its contracts were chosen."""
    closed_ns: TimeNs
    orders: Annotated[tuple[OrderId, ...], Field(max_length=MAX_BUNDLE)]
    moves: Annotated[tuple[MoveRecord, ...], Field(max_length=MAX_BUNDLE)] = ()
    gains: Annotated[tuple[GainRecord, ...], Field(max_length=2 * MAX_BUNDLE)] = ()
    surplus_uc: Annotated[int, Field(ge=0, le=2**62)] = 0
    """By how much the sum of costs falls."""
    summary: Text


class Traded(Body):
    """A re-auction is over: what changed hands, or that nothing better was found."""

    type: Literal["traded"] = "traded"
    record: TradeRecord
