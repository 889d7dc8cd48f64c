"""What a robot measured on a contract, signed, and bound to all that it has said before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fleet_market.ids import ContractId, DidKey, RobotId
from fleet_market.protocol.messages.fields import (
    MAX_STOPS,
    Body,
    Count,
    Joules,
    Kilograms,
    Metres,
    Radians,
    ShortText,
    TimeNs,
)

MAX_RECORD_LEGS = 16
"""Pieces of way in one record; with it a record fits into the 4 KiB that a robot may send."""
Seconds = Annotated[float, Field(ge=0.0, le=1e7)]
Length = Annotated[float, Field(ge=0.0, le=1e6)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class RecordLeg(Body):
    """A piece of the way that was driven for a contract, as `fleet_market.pricing.PlanLeg` has it."""

    length_m: Length
    turn_rad: Annotated[Radians, Field(ge=0.0)]
    halts: Annotated[float, Field(gt=0.0, le=1e6)]
    payload_kg: Kilograms
    grade: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.0
    surface: ShortText


class Fix(Body):
    """Where the robot was, and what its battery said; None is not measured."""

    x: Metres
    y: Metres
    at_ns: TimeNs
    soc: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    energy_out_j: Joules | None = None
    """Cumulative energy drawn from the battery."""


class TelemetryRecord(Body):
    """One executed contract. `fleet_market.protocol.telemetry` says what of it is hashed and signed."""

    type: Literal["telemetry"] = "telemetry"
    robot: RobotId
    chain: Count
    """Session in which this chain of records began; larger than that of every chain before."""
    seq: Count
    """0, 1, 2 ... without gaps."""
    previous: Sha256
    """Hash of the record before this one; of the first: zeros."""
    contract: ContractId
    legs: Annotated[tuple[RecordLeg, ...], Field(max_length=MAX_RECORD_LEGS)]
    dwell_s: Seconds
    executed_s: Seconds
    """How long it was at work for this contract, waiting on the way included."""
    energy_j: Joules | None
    """Energy drawn from the battery for this contract; None where nothing measures it finely enough."""
    fixes: Annotated[tuple[Fix, ...], Field(min_length=2, max_length=MAX_STOPS + 1)]
    """Where it set out, and every stop of the contract, in the order of time."""
    charged: bool = False
    """Whether it charged between the first fix and the last."""
    shared: bool = False
    """Whether other parcels were aboard: legs, times and energy are then this contract's share."""
    key: DidKey | None = None
    signature: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{86}$")] | None = None
    """Ed25519, base64url without padding; None where the robot has no keys."""
