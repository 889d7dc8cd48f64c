"""Message bodies: what robots, market, customers and oracle say to each other.

Each body is frozen and strict, refuses unknown fields and non-finite numbers, and carries its `type`. Times are market
times in nanoseconds; money is in micro-credits (``_uc``); places are metres and radians of the map frame.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet_market.protocol.messages.advice import (
    MAX_USED,
    TAKES,
    FairAnswer,
    FairQuestion,
    FairReply,
    FairRequest,
    Scored,
)
from fleet_market.protocol.messages.advised import (
    Advised,
    BestTimeAdvice,
    BudgetAdvice,
    CongestionAdvice,
    Judgement,
    MakeOrBuyAdvice,
    What,
)
from fleet_market.protocol.messages.asks import Ask, AskLine, Call, DeclineLine, DeclineReason, Lot
from fleet_market.protocol.messages.books import JournalHead
from fleet_market.protocol.messages.cleared import Band, Cleared
from fleet_market.protocol.messages.contracts import (
    Abort,
    Accept,
    Award,
    Cancel,
    Complete,
    Decline,
    Phase,
    Progress,
    Receipt,
    Settle,
    StepEvidence,
)
from fleet_market.protocol.messages.fields import (
    ASK_PARTS,
    MAX_ASKS,
    MAX_BUNDLE,
    MAX_GROUP,
    MAX_LEVELS,
    MAX_PRICE_UC,
    MAX_PRIORITY,
    MAX_STOPS,
    MAX_TEXT,
    MAX_TRADES_TOLD,
    MAX_WAYPOINTS,
    PRINTABLE,
    Body,
    Count,
    Joules,
    Kilograms,
    Metres,
    Parts,
    Place,
    Price,
    Radians,
    ShortText,
    Text,
    TimeNs,
    WirePose,
    printable,
)
from fleet_market.protocol.messages.openings import MAX_OPENED, LeafOpening, OpenDemand, OpenReply, OpenRequest
from fleet_market.protocol.messages.oracles import MAX_REASONS, AdviceFees, OracleTerms, OracleView, WireBand
from fleet_market.protocol.messages.orders import (
    AskRecord,
    CancelOrder,
    FieldError,
    LotRecord,
    OrderEvent,
    OrderReply,
    OrderState,
    OrderView,
    PostOrder,
    QuoteReply,
    QuoteRequest,
    RobotView,
    StatusReply,
    StatusRequest,
    WhyReply,
    WhyRequest,
)
from fleet_market.protocol.messages.resales import (
    GainRecord,
    Keep,
    LevelView,
    MoveRecord,
    Offer,
    Prepare,
    Prepared,
    Reauction,
    ResaleAsk,
    Traded,
    TradeRecord,
)
from fleet_market.protocol.messages.robots import Announce, Auctioneer, ClockTick, Position, Presence
from fleet_market.protocol.messages.telemetry import MAX_RECORD_LEGS, Fix, RecordLeg, TelemetryRecord
from fleet_market.protocol.messages.ways import Release, Reroute, Route, RouteRequest, Stop

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
    | TelemetryRecord
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
    | OracleTerms
    | FairRequest
    | FairQuestion
    | FairAnswer
    | FairReply
    | Scored
    | OpenRequest
    | OpenDemand
    | LeafOpening
    | OpenReply
    | JournalHead
    | ClockTick,
    Field(discriminator="type"),
]

__all__ = [
    "ASK_PARTS",
    "MAX_ASKS",
    "MAX_BUNDLE",
    "MAX_GROUP",
    "MAX_LEVELS",
    "MAX_OPENED",
    "MAX_PRICE_UC",
    "MAX_PRIORITY",
    "MAX_REASONS",
    "MAX_RECORD_LEGS",
    "MAX_STOPS",
    "MAX_TEXT",
    "MAX_TRADES_TOLD",
    "MAX_USED",
    "MAX_WAYPOINTS",
    "PRINTABLE",
    "TAKES",
    "Abort",
    "Accept",
    "AdviceFees",
    "Advised",
    "Announce",
    "AnyBody",
    "Ask",
    "AskLine",
    "AskRecord",
    "Auctioneer",
    "Award",
    "Band",
    "BestTimeAdvice",
    "Body",
    "BudgetAdvice",
    "Call",
    "Cancel",
    "CancelOrder",
    "Cleared",
    "ClockTick",
    "Complete",
    "CongestionAdvice",
    "Count",
    "Decline",
    "DeclineLine",
    "DeclineReason",
    "FairAnswer",
    "FairQuestion",
    "FairReply",
    "FairRequest",
    "FieldError",
    "Fix",
    "GainRecord",
    "Joules",
    "JournalHead",
    "Judgement",
    "Keep",
    "Kilograms",
    "LeafOpening",
    "LevelView",
    "Lot",
    "LotRecord",
    "MakeOrBuyAdvice",
    "Metres",
    "MoveRecord",
    "Offer",
    "OpenDemand",
    "OpenReply",
    "OpenRequest",
    "OracleTerms",
    "OracleView",
    "OrderEvent",
    "OrderReply",
    "OrderState",
    "OrderView",
    "Parts",
    "Phase",
    "Place",
    "Position",
    "PostOrder",
    "Prepare",
    "Prepared",
    "Presence",
    "Price",
    "Progress",
    "QuoteReply",
    "QuoteRequest",
    "Radians",
    "Reauction",
    "Receipt",
    "RecordLeg",
    "Release",
    "Reroute",
    "ResaleAsk",
    "RobotView",
    "Route",
    "RouteRequest",
    "Scored",
    "Settle",
    "ShortText",
    "StatusReply",
    "StatusRequest",
    "StepEvidence",
    "Stop",
    "TelemetryRecord",
    "Text",
    "TimeNs",
    "TradeRecord",
    "Traded",
    "What",
    "WhyReply",
    "WhyRequest",
    "WireBand",
    "WirePose",
    "printable",
]
