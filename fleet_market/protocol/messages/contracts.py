"""From award to settlement."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import ContractId, MessageId, OrderId
from fleet_market.protocol.messages.fields import (
    MAX_STOPS,
    Body,
    Count,
    Joules,
    Kilograms,
    Place,
    Price,
    ShortText,
    Text,
    TimeNs,
    WirePose,
)


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
    energy_j: Joules | None = None
    """Measured battery energy of its ways so far, as in `Complete`; null: the robot's battery has no meter."""


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
    energy_j: Joules | None
    """Measured battery energy of the ways to its stops; that of a way with several parcels aboard is shared out in equal
    parts. Null: the robot's battery has no meter; what its state of charge tells is too coarse to be called measured."""


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
