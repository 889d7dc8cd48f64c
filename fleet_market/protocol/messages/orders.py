"""Customers: orders, quotes, questions and their answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import CallId, ContractId, CustomerId, OrderId, OwnerId, RobotId
from fleet_market.protocol.messages.asks import DeclineReason
from fleet_market.protocol.messages.contracts import Phase, StepEvidence
from fleet_market.protocol.messages.fields import (
    MAX_GROUP,
    MAX_LEVELS,
    MAX_PRICE_UC,
    MAX_PRIORITY,
    MAX_STOPS,
    MAX_TRADES_TOLD,
    Body,
    Count,
    Joules,
    Kilograms,
    Parts,
    Place,
    Price,
    ShortText,
    Text,
    TimeNs,
    WirePose,
)
from fleet_market.protocol.messages.oracles import OracleView
from fleet_market.protocol.messages.resales import LevelView, TradeRecord


class PostOrder(Body):
    """A customer posts an order. Times are seconds after `from_ns`, or after the arrival of the message."""

    type: Literal["post_order"] = "post_order"
    order: OrderId
    pickup: ShortText
    """A place of the fleet file by name, or ``x;y`` or ``x;y;yaw``."""
    dropoff: ShortText
    payload_kg: Kilograms
    release_s: Annotated[float, Field(ge=0.0, le=1e7)] = 0.0
    deadline_s: Annotated[float, Field(gt=0.0, le=1e7)]
    max_price_uc: Annotated[int, Field(gt=0, le=MAX_PRICE_UC)]
    from_ns: TimeNs | None = None
    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] = 0
    """Orders of a higher priority are offered in earlier rounds."""
    lateness_uc_per_h: Price = 0
    """What an hour after the deadline costs; with it the deadline may be missed where that costs less than others ask."""
    value_uc: Price = 0
    """Value of the goods: robots that have failed more often must be cheaper to win it."""
    after: OrderId | None = None
    """An order of the same customer that must be settled before this one is on sale."""
    group: OrderId | None = None
    """Orders with the same word here are awarded all in one batch, or none of them."""
    group_size: Annotated[int, Field(ge=1, le=MAX_GROUP)] = 1


class QuoteRequest(Body):
    """What would this order cost now? Robots price it with the next batch; nothing is awarded."""

    type: Literal["quote_request"] = "quote_request"
    pickup: ShortText
    dropoff: ShortText
    payload_kg: Kilograms
    deadline_s: Annotated[float, Field(gt=0.0, le=1e7)]


class CancelOrder(Body):
    """A customer takes an order back."""

    type: Literal["cancel_order"] = "cancel_order"
    order: OrderId


class WhyRequest(Body):
    """Who asked what for an order, and why it went where it went."""

    type: Literal["why_request"] = "why_request"
    order: OrderId


class StatusRequest(Body):
    """The zone's orders, its robots, its books or its oracles; with `order`, one order."""

    type: Literal["status_request"] = "status_request"
    what: Literal["robots", "orders", "ledger", "oracles"]
    order: OrderId | None = None
    after_id: OrderId | RobotId | None = None
    """Where to go on: the last order or robot of the page before. Without, a list begins at its beginning."""


class FieldError(Body):
    """One thing wrong with a request."""

    field: ShortText
    value: Text
    mend: Annotated[str, Field(max_length=300)]


class OrderState(StrEnum):
    """State of an order; the last four are final."""

    SCHEDULED = "scheduled"
    OPEN = "open"
    AWARDED = "awarded"
    EXECUTING = "executing"
    SETTLED = "settled"
    EXPIRED = "expired"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing can happen to the order any more."""
        return self in (OrderState.SETTLED, OrderState.EXPIRED, OrderState.FAILED, OrderState.CANCELLED)


class OrderView(Body):
    """An order as its customer sees it."""

    order: OrderId
    customer: CustomerId
    state: OrderState
    pickup: Place
    dropoff: Place
    payload_kg: Kilograms
    release_ns: TimeNs
    deadline_ns: TimeNs
    max_price_uc: Price
    attempts: Count = 0
    """Awards so far."""
    robot: RobotId | None = None
    contract: ContractId | None = None
    ask_uc: Price | None = None
    price_uc: Price | None = None
    predicted_energy_j: Joules | None = None
    energy_so_far_j: Joules | None = None
    """What the robot at work has measured so far, as it last said; null: nothing yet, or its battery has no meter."""
    phase: Phase | None = None
    """How far the robot at work is, as it last said; null: no robot has confirmed it."""
    measured_energy_j: Joules | None = None
    """What it took in all; null: not done, or not measured."""
    awarded_ns: TimeNs | None = None
    settled_ns: TimeNs | None = None
    note: Text = ""
    priority: Count = 0
    lateness_uc_per_h: Price = 0
    after: OrderId | None = None
    group: OrderId | None = None
    refund_uc: Price = 0
    """Returned by those who had promised it for less and did not do it."""
    evidence: Annotated[tuple[StepEvidence, ...], Field(max_length=MAX_STOPS)] = ()
    """Of an order that was paid: what proved it, as the robot measured it and the market verified it."""


class OrderReply(Body):
    """The answer to `PostOrder` and `CancelOrder`."""

    type: Literal["order_reply"] = "order_reply"
    order: OrderId
    result: Literal["accepted", "exists", "refused", "cancelled"]
    errors: tuple[FieldError, ...] = ()
    view: OrderView | None = None


class QuoteReply(Body):
    """The answer to `QuoteRequest`: what the robots ask now, and what a buyer would pay without a limit."""

    type: Literal["quote_reply"] = "quote_reply"
    result: Literal["quoted", "no_ask", "refused"]
    robots: Count = 0
    """How many robots asked."""
    best_ask_uc: Price | None = None
    second_ask_uc: Price | None = None
    """What one order alone would be paid: the second-best ask (of another owner)."""
    best_finish_ns: TimeNs | None = None
    declines: tuple[tuple[RobotId, DeclineReason, str], ...] = ()
    errors: tuple[FieldError, ...] = ()


class AskRecord(Body):
    """One robot's answer for one lot, as the clearing record keeps it."""

    robot: RobotId
    owner: OwnerId
    ask_uc: Price | None = None
    parts_uc: Parts | None = None
    energy_j: Joules | None = None
    energy_sd_j: Joules | None = None
    handicap_uc: Price = 0
    """What the customer expects to lose by this robot beside the price: damage and lateness."""
    outcome: Text
    """``won``, or why not, in words and numbers."""


class LotRecord(Body):
    """What one batch did with one lot."""

    call: CallId
    round: Count = 1
    """Round in which it was sold, or the last one in which it was offered."""
    order: OrderId
    closed_ns: TimeNs
    budget_uc: Price
    winner: RobotId | None
    price_uc: Price | None
    welfare_uc: Annotated[int, Field(ge=0, le=2**62)] = 0
    """Welfare of the round, and what it would have been without the winner's owner."""
    welfare_without_uc: Annotated[int, Field(ge=0, le=2**62)] | None = None
    asks: tuple[AskRecord, ...]
    """The cheapest where there are very many."""
    not_asked: Count = 0
    """Robots to which other lots were nearer."""
    summary: Text


class WhyReply(Body):
    """The clearing records of one order, newest last."""

    type: Literal["why_reply"] = "why_reply"
    order: OrderId
    found: bool
    view: OrderView | None = None
    records: tuple[LotRecord, ...] = ()
    levels: Annotated[tuple[LevelView, ...], Field(max_length=MAX_LEVELS)] = ()
    """Who does it for whom, and for how much; the last one does the work."""
    trades: Annotated[tuple[TradeRecord, ...], Field(max_length=MAX_TRADES_TOLD)] = ()
    """Trades by which it changed hands, newest last."""


class RobotView(Body):
    """A robot as the market sees it."""

    robot: RobotId
    owner: OwnerId
    robot_type: ShortText
    online: bool
    pose: WirePose | None = None
    soc: float | None = None
    doing: ShortText = ""
    contracts: tuple[OrderId, ...] = ()
    settled: Count = 0
    earned_uc: int = 0
    max_payload_kg: Kilograms | None = None
    ends_at: WirePose | None = None
    """Where its schedule leaves it, as far as its asks have told."""


class StatusReply(Body):
    """The answer to `StatusRequest`, as much of it as one message holds: orders by age, robots by name.

    The sums are those of the books, and zero on all pages but the first.
    """

    type: Literal["status_reply"] = "status_reply"
    now_ns: TimeNs
    robots: tuple[RobotView, ...] = ()
    orders: tuple[OrderView, ...] = ()
    oracles: tuple[OracleView, ...] = ()
    more: bool = False
    """Whether another page follows: ask again with `after_id`."""
    sum_debits_uc: int = 0
    sum_credits_uc: int = 0
    escrow_left_uc: int = 0


class OrderEvent(Body):
    """An order has changed its state."""

    type: Literal["order_event"] = "order_event"
    view: OrderView
