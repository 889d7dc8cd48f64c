"""Message bodies: what robots, market, customers and oracle say to each other.

Each body is frozen and strict, refuses unknown fields and non-finite numbers, and carries its `type`. Times are market
times in nanoseconds; money is in micro-credits (``_uc``); places are metres and radians of the map frame.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleet_market.body import Pose
from fleet_market.ids import CallId, ContractId, CustomerId, MessageId, OrderId, OwnerId, RobotId, RouteId, ZoneId

MAX_ASKS = 24
"""Answers in one message, asks and declines together; those that do not fit into the 4 KiB that a robot may send are left
out."""
ASK_PARTS = ("energy", "battery", "drive", "brushes", "tread", "arm", "time", "risk", "opportunity")
"""What an ask is made of: energy; wear of battery, gear motors, brushes, tyres and arm; rent of the robot's time; margin
for what is uncertain; what the robot cannot earn while it charges afterwards, and what the orders that it holds lose by
being later."""
MAX_GROUP = 100
"""Orders of one all-or-nothing group."""
MAX_PRIORITY = 9
MAX_STOPS = 4
MAX_BUNDLE = 8
"""Contracts in one re-auction."""
MAX_LEVELS = 5
"""Contracts on top of each other for one order, the customer's own included."""
MAX_TRADES_TOLD = 8
"""Trades that an order remembers, the newest ones."""
MAX_PRICE_UC = 10**12
"""A million credits: with it, sums over a thousand robots stay exact in the float64 of the assignment solver."""
MAX_WAYPOINTS = 1500

MAX_TEXT = 160
PRINTABLE = "^[^\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]*$"
"""No control characters and no turning of the writing direction: texts of strangers end up on terminals and in logs.

Source: Unicode Technical Report 36, "Unicode Security Considerations", on bidirectional text; ECMA-48 for the controls.
"""
Text = Annotated[str, Field(max_length=MAX_TEXT, pattern=PRINTABLE)]
ShortText = Annotated[str, Field(max_length=64, pattern=PRINTABLE)]


def printable(text: str, length: int = MAX_TEXT) -> str:
    """Return `text` as a message may carry it: control characters become blanks, the end is cut off."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:length])


Metres = Annotated[float, Field(ge=-1e5, le=1e5)]
Radians = Annotated[float, Field(ge=-1e3, le=1e3)]
TimeNs = Annotated[int, Field(ge=0, le=2**62)]
Price = Annotated[int, Field(ge=0, le=MAX_PRICE_UC)]
Parts = Annotated[tuple[Price, ...], Field(min_length=len(ASK_PARTS), max_length=len(ASK_PARTS))]
"""The parts of an ask in the order of `ASK_PARTS`, micro-credits."""
Joules = Annotated[float, Field(ge=0.0, le=1e12)]
Kilograms = Annotated[float, Field(ge=0.0, le=1e5)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class WirePose(Body):
    """A pose in the map frame."""

    x: Metres
    y: Metres
    yaw: Radians = 0.0

    @classmethod
    def of(cls, pose: Pose) -> WirePose:
        """Return `pose` for the wire, to the millimetre and milliradian."""
        return cls(x=round(pose.x, 3), y=round(pose.y, 3), yaw=round(pose.yaw, 3))

    def pose(self) -> Pose:
        """Return the pose."""
        return Pose(self.x, self.y, self.yaw)


class Place(Body):
    """Where to pick up or drop off: a point, perhaps a heading, and how near is near enough."""

    x: Metres
    y: Metres
    yaw: Radians | None = None
    radius_m: Annotated[float, Field(gt=0.0, le=5.0)] = 0.3
    keep_off_m: Annotated[float, Field(ge=0.0, le=5.0)] = 0.0
    """Nearest distance to the point itself, where something stands on it (a broken-down robot)."""
    name: ShortText = ""


# --- robots: presence and trade ---------------------------------------------------------------------------------------


class Presence(Body):
    """Whether a robot is there. ``lost`` comes from the broker as the last will and carries the session it belongs to."""

    type: Literal["presence"] = "presence"
    status: Literal["online", "offline", "lost"]
    zone: ZoneId


class Announce(Body):
    """What a robot is."""

    type: Literal["announce"] = "announce"
    zone: ZoneId
    owner: OwnerId
    robot_type: ShortText
    max_payload_kg: Kilograms
    max_speed_mps: Annotated[float, Field(gt=0.0, le=100.0)]
    battery_wh: Annotated[float, Field(gt=0.0, le=1e6)]
    home: WirePose | None = None
    """Where it parks: until it has answered a call, lots near to this are offered to it first."""


class Auctioneer(Body):
    """Who runs a zone's market; robots ignore awards of an older epoch."""

    type: Literal["auctioneer"] = "auctioneer"
    status: Literal["open", "halted", "closed"]
    """``halted``: the operator lets nothing be sold; tasks under way go on."""
    epoch: Count
    batch_s: Annotated[float, Field(gt=0.0, le=3600.0)]


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


class Award(Body):
    """The market gives an order to a robot at a price."""

    type: Literal["award"] = "award"
    contract: ContractId
    epoch: Count
    order: OrderId
    pickup: Place
    dropoff: Place
    payload_kg: Kilograms
    price_uc: Price
    ask_uc: Price
    energy_j: Joules
    deadline_ns: TimeNs
    lateness_uc_per_h: Price = 0
    """Lateness beyond deadline and promise is taken from the price at this rate ..."""
    due_ns: TimeNs | None = None
    """... from here on; null: from the deadline."""
    answer_by_ns: TimeNs
    """Accept before this or the order goes back on sale."""
    lease_s: Annotated[float, Field(gt=0.0, le=86400.0)]
    """The contract is lost when no `Progress` arrives for this long."""


class Accept(Body):
    """The robot takes the contract."""

    type: Literal["accept"] = "accept"
    contract: ContractId


class Decline(Body):
    """The robot does not take the contract."""

    type: Literal["decline"] = "decline"
    contract: ContractId
    reason: Text


class Phase(StrEnum):
    """How far the execution of a contract is."""

    QUEUED = "queued"
    TO_PICKUP = "to_pickup"
    LOADING = "loading"
    TO_DROPOFF = "to_dropoff"
    UNLOADING = "unloading"


class Progress(Body):
    """Sign of life of a contract: renews its lease and says how far it is and where the parcel is."""

    type: Literal["progress"] = "progress"
    contract: ContractId
    phase: Phase
    pose: WirePose
    aboard: bool
    """Whether the parcel is on the robot."""


class StepEvidence(Body):
    """What the robot measured when it did a step."""

    kind: Literal["pickup", "dropoff"]
    pose: WirePose
    at_ns: TimeNs
    payload_before_kg: Kilograms | None = None
    """Payload on the robot's own scale before the step; null where it has none."""
    payload_kg: Kilograms | None = None
    """The same after the step: what counts is the change, for other parcels may be aboard."""


class Complete(Body):
    """The robot says it is done, with evidence for both steps."""

    type: Literal["complete"] = "complete"
    contract: ContractId
    steps: Annotated[tuple[StepEvidence, ...], Field(max_length=MAX_STOPS)]
    energy_j: Joules
    """Measured battery energy of the ways to its stops; that of a way with several parcels aboard is shared out in equal
    parts."""


class Abort(Body):
    """The robot gives the contract up."""

    type: Literal["abort"] = "abort"
    contract: ContractId
    reason: Text
    pose: WirePose
    aboard: bool


class Cancel(Body):
    """The market takes the contract away: cancelled by its customer, or the lease has run out."""

    type: Literal["cancel"] = "cancel"
    contract: ContractId
    reason: Text
    bring_back: bool = False
    """The parcel is aboard: the contract stays, the parcel goes back to where it was picked up, and is paid for there."""


class Settle(Body):
    """The contract is over and paid."""

    type: Literal["settle"] = "settle"
    contract: ContractId
    order: OrderId
    price_uc: Price


class Receipt(Body):
    """The receiver has durably taken the message `of`: the sender need not send it again."""

    type: Literal["receipt"] = "receipt"
    of: MessageId
    result: ShortText = "ok"


# --- robots: re-trading --------------------------------------------------------------------------------------------------


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


# --- robots: right of way ----------------------------------------------------------------------------------------------


class Stop(Body):
    """A place on a route where the robot stays for a while."""

    place: Place | None
    """Null: any free charger, chosen by the traffic control."""
    dwell_s: Annotated[float, Field(ge=0.0, le=86400.0)]


class RouteRequest(Body):
    """A robot at standstill asks for the right of way through `stops` and home."""

    type: Literal["route_request"] = "route_request"
    request: MessageId
    pose: WirePose
    stops: Annotated[tuple[Stop, ...], Field(max_length=MAX_STOPS)] = ()


class Route(Body):
    """The route granted: points to drive through, the last one is home.

    `stops` are positions in `points`, one for each stop asked for. Where no route to the stops exists at the moment,
    `served` is false, `stops` is empty and the points lead home, or are empty where the robot may not move at all.
    """

    type: Literal["route"] = "route"
    request: MessageId
    route: RouteId
    served: bool
    points: Annotated[tuple[tuple[Metres, Metres], ...], Field(max_length=MAX_WAYPOINTS)]
    stops: tuple[Count, ...]
    released: Count
    """How many points may be driven now."""
    reason: Text = ""


class Release(Body):
    """More of a route may be driven."""

    type: Literal["release"] = "release"
    route: RouteId
    released: Count


class Reroute(Body):
    """The route can no longer be driven: stop, then ask again."""

    type: Literal["reroute"] = "reroute"
    route: RouteId
    reason: Text


class Position(Body):
    """Where the robot is: `passed` points of `route` lie behind it, and it is done at the first `stops_done` stops."""

    type: Literal["position"] = "position"
    pose: WirePose
    soc: Annotated[float, Field(ge=0.0, le=1.0)] | None
    route: RouteId | None
    passed: Count
    stops_done: Count = 0
    moving: bool
    doing: ShortText
    queue: Count = 0


# --- customers ---------------------------------------------------------------------------------------------------------


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
    """The zone's orders, its robots, or its books; with `order`, one order."""

    type: Literal["status_request"] = "status_request"
    what: Literal["robots", "orders", "ledger"]
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
    measured_energy_j: Joules | None = None
    awarded_ns: TimeNs | None = None
    settled_ns: TimeNs | None = None
    note: Text = ""
    priority: Count = 0
    lateness_uc_per_h: Price = 0
    after: OrderId | None = None
    group: OrderId | None = None
    refund_uc: Price = 0
    """Returned by those who had promised it for less and did not do it."""


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


class StatusReply(Body):
    """The answer to `StatusRequest`, as much of it as one message holds: orders by age, robots by name.

    The sums are those of the books, and zero on all pages but the first.
    """

    type: Literal["status_reply"] = "status_reply"
    now_ns: TimeNs
    robots: tuple[RobotView, ...] = ()
    orders: tuple[OrderView, ...] = ()
    more: bool = False
    """Whether another page follows: ask again with `after_id`."""
    sum_debits_uc: int = 0
    sum_credits_uc: int = 0
    escrow_left_uc: int = 0


# --- for all to see ------------------------------------------------------------------------------------------------------


class OrderEvent(Body):
    """An order has changed its state."""

    type: Literal["order_event"] = "order_event"
    view: OrderView


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


class Traded(Body):
    """A re-auction is over: what changed hands, or that nothing better was found."""

    type: Literal["traded"] = "traded"
    record: TradeRecord


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


class ClockTick(Body):
    """Simulation time."""

    type: Literal["clock"] = "clock"
    now_ns: TimeNs


AnyBody = Annotated[
    Presence
    | Announce
    | Auctioneer
    | Call
    | Ask
    | Award
    | Accept
    | Decline
    | Progress
    | Complete
    | Abort
    | Cancel
    | Settle
    | Receipt
    | Reauction
    | ResaleAsk
    | Prepare
    | Prepared
    | Keep
    | Offer
    | RouteRequest
    | Route
    | Release
    | Reroute
    | Position
    | PostOrder
    | QuoteRequest
    | CancelOrder
    | WhyRequest
    | StatusRequest
    | OrderReply
    | QuoteReply
    | WhyReply
    | StatusReply
    | OrderEvent
    | Cleared
    | Traded
    | Band
    | ClockTick,
    Field(discriminator="type"),
]
