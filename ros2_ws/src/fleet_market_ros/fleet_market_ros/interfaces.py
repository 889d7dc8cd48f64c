"""Between the market's messages and those of `fleet_market_msgs`, which is imported here only and only when it is needed.

Without a compiler that package cannot be built. A robot then trades as ever and says nothing of it in ROS.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped
from pydantic import ValidationError

from fleet_market.errors import FleetMarketError, InputError
from fleet_market.protocol.messages import (
    ASK_PARTS,
    Band,
    DeclineReason,
    FairReply,
    FairRequest,
    FieldError,
    Phase,
    Place,
    PostOrder,
    StepEvidence,
    WirePose,
)
from fleet_market.robot.bidding import Offer, Refusal
from fleet_market.robot.situation import Doing
from fleet_market.robot.tasks import Task

log = logging.getLogger("interfaces")

NS_PER_S = 10**9
MEND = "build it with `make ros`, or build and source the workspace ros2_ws with colcon"
DOINGS = (Doing.IDLE, Doing.HOMING, Doing.WORKING, Doing.CHARGING, Doing.WAITING, Doing.FAULT)
DEADLINE_S, CONFIDENCE = 600.0, 0.8
"""Of a band that is asked for without them."""
ORACLE = "oracle"
"""Whose band, where none is named: as `fleet-market oracle` calls itself."""
QUOTES = {"quoted": "QUOTED", "preview": "PREVIEW", "no_quote": "NO_QUOTE", "refused": "REFUSED"}
"""Results of QuoteBand."""
MARKETS = ("", "open", "halted", "closed")
"""In the order of MarketState.MARKET_*."""


class Interfaces(NamedTuple):
    """The generated modules."""

    msg: Any
    srv: Any

    @property
    def action(self) -> Any:
        """The actions: 3 MB that a robot's node does without."""
        return importlib.import_module("fleet_market_msgs.action")


class InterfacesMissingError(FleetMarketError, ImportError):
    """The package `fleet_market_msgs` is not built: without a compiler it cannot be."""


def load() -> Interfaces:
    """Return the modules of `fleet_market_msgs`.

    Raises
    ------
    InterfacesMissingError
        If it is not there.
    InputError
        If it cannot be used with the rclpy that runs, as one that was built for another ROS distribution.
    """
    try:
        package = importlib.import_module("fleet_market_msgs")
    except ModuleNotFoundError as error:
        raise InterfacesMissingError(f"fleet_market_msgs cannot be used ({error}): {MEND}") from error
    where = str(next(iter(package.__path__)))
    try:
        found = Interfaces(*(importlib.import_module(f"fleet_market_msgs.{kind}") for kind in ("msg", "srv")))
        found.msg.MarketState.__class__.__import_type_support__()
    except Exception as error:
        raise InputError(where, "build", str(error), MEND) from error
    if found.msg.MarketState.__class__._TYPE_SUPPORT is None:  # noqa: SLF001 - how the generated classes tell it
        raise InputError(where, "build", "for another ROS distribution", MEND)
    return found


def time_of(now_ns: int) -> Time:
    """Return nanoseconds as ROS has them."""
    return Time(sec=now_ns // NS_PER_S, nanosec=now_ns % NS_PER_S)


def seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    return float(duration.sec) + float(duration.nanosec) / NS_PER_S


def order_of(task: Any) -> PostOrder:
    """Return a ``Task`` as a customer's order.

    Raises
    ------
    ValidationError
        If a field of it is wrong.
    """
    return PostOrder.model_validate(
        {
            "order": task.id,
            "pickup": task.pickup,
            "dropoff": task.dropoff,
            "payload_kg": float(task.payload_kg),
            "release_s": seconds(task.release),
            "deadline_s": seconds(task.deadline),
            "max_price_uc": int(task.max_price_uc),
            "priority": int(task.priority),
            "lateness_uc_per_h": int(task.lateness_uc_per_h),
            "after": task.after or None,
        },
        strict=False,
    )


def errors_of(ros: Interfaces, errors: Iterable[FieldError | InputError] | ValidationError) -> list[Any]:
    """Return what is wrong, field by field."""
    if isinstance(errors, ValidationError):
        rows = [(".".join(map(str, e["loc"])), str(e["input"])[:160], e["msg"]) for e in errors.errors()]
    else:
        rows = [(e.field, str(e.value), e.mend) for e in errors]
    return [ros.msg.FieldError(field=field, value=value, mend=mend) for field, value, mend in rows]


def place_of(ros: Interfaces, place: Place) -> Any:
    """Return a place."""
    yaw = math.nan if place.yaw is None else place.yaw
    return ros.msg.Place(
        name=place.name, x=place.x, y=place.y, has_yaw=place.yaw is not None, yaw=yaw, radius_m=place.radius_m
    )


def known(value: float | None) -> float:
    """Return a figure as messages of ROS carry it: NaN where it is not known."""
    return math.nan if value is None else float(value)


def pose_of(pose: WirePose, now_ns: int) -> Any:
    """Return a pose in the map's frame."""
    stamped = PoseStamped()
    stamped.header.frame_id, stamped.header.stamp = "map", time_of(now_ns)
    stamped.pose.position.x, stamped.pose.position.y = pose.x, pose.y
    stamped.pose.orientation.z, stamped.pose.orientation.w = math.sin(pose.yaw / 2), math.cos(pose.yaw / 2)
    return stamped


def evidence_of(ros: Interfaces, step: StepEvidence) -> Any:
    """Return what proves a step."""
    kind = ros.msg.Evidence
    return kind(
        kind=kind.PICKUP if step.kind == "pickup" else kind.DROPOFF,
        pose=pose_of(step.pose, step.at_ns),
        weighed=step.payload_before_kg is not None and step.payload_kg is not None,
        payload_before_kg=known(step.payload_before_kg),
        payload_after_kg=known(step.payload_kg),
    )


def contract_of(ros: Interfaces, task: Task, energy_so_far_j: float | None) -> Any:
    """Return a contract as its robot has it."""
    award = task.award
    return ros.msg.Contract(
        id=award.contract,
        task=task.order,
        pickup=place_of(ros, award.pickup),
        dropoff=place_of(ros, award.dropoff),
        payload_kg=award.payload_kg,
        price_uc=award.price_uc,
        ask_uc=award.ask_uc,
        energy_j=award.energy_j,
        energy_so_far_j=known(energy_so_far_j),
        deadline=time_of(award.deadline_ns),
        phase=list(Phase).index(task.phase),
        aboard=task.aboard,
    )


def ask_of(ros: Interfaces, answer: Offer | Refusal, **more: Any) -> Any:
    """Return an answer to a lot, with `more` fields of ``Ask``."""
    if isinstance(answer, Refusal):
        return declined(ros, answer.reason, answer.detail, **more)
    return asked(
        ros, answer.ask_uc, answer.parts_uc, answer.energy_j, answer.energy_sd_j, answer.finish_ns, **more
    )  # fmt: skip


def declined(ros: Interfaces, reason: DeclineReason, detail: str, **more: Any) -> Any:
    """Return an answer that asks for nothing."""
    return ros.msg.Ask(declined=True, reason=1 + list(DeclineReason).index(reason), detail=detail, **more)


def asked(
    ros: Interfaces,
    ask_uc: int,
    parts_uc: Iterable[int],
    energy_j: float,
    energy_sd_j: float,
    finish_ns: int,
    **more: Any,
) -> Any:
    """Return an answer with a price."""
    parts = {f"{name}_uc": part for name, part in zip(ASK_PARTS, parts_uc, strict=True)}
    return ros.msg.Ask(
        ask_uc=ask_uc,
        parts=ros.msg.PriceParts(**parts),
        energy_j=float(energy_j),
        energy_sd_j=float(energy_sd_j),
        finish=time_of(finish_ns),
        **more,
    )


def band_of(ros: Interfaces, band: Band, now_ns: int) -> Any:
    """Return a band of the oracle."""
    return ros.msg.FairBand(
        stamp=time_of(now_ns),
        call=band.call,
        task=band.order,
        low_uc=band.low_uc,
        high_uc=band.high_uc,
        has_second_best=band.second_best_ask_uc is not None,
        second_best_ask_uc=band.second_best_ask_uc or 0,
        optimum_uc=band.optimum_uc,
        sold=band.price_uc is not None,
        price_uc=band.price_uc or 0,
        inside=bool(band.inside),
    )


def fair_request_of(request: Any) -> FairRequest:
    """Return a request of the service ``QuoteBand`` as the market takes it.

    Raises
    ------
    ValidationError
        If a field of it is wrong.
    """
    return FairRequest.model_validate(
        {
            "quote": request.id,
            "oracle": request.oracle or ORACLE,
            "order": request.order or None,
            "pickup": request.pickup or None,
            "dropoff": request.dropoff or None,
            "payload_kg": float(request.payload_kg),
            "deadline_s": seconds(request.deadline) or DEADLINE_S,
            "later_s": seconds(request.later),
            "confidence": float(request.confidence) or CONFIDENCE,
            "preview": bool(request.preview),
            "max_fee_uc": int(request.max_fee_uc),
        },
        strict=False,
    )


def fair_reply_into(ros: Interfaces, reply: FairReply, response: Any) -> Any:
    """Return a response of the service ``QuoteBand``, filled in from the market's answer."""
    response.result = getattr(response, QUOTES[reply.result])
    response.oracle, response.note, response.errors = reply.oracle, reply.note, errors_of(ros, reply.errors)
    response.fee_uc, response.robots_uc = reply.fee_uc, reply.robots_uc
    response.expires = time_of(reply.valid_until_ns or 0)
    response.coverage = response.age_s = response.evidence_age_s = math.nan
    if (band := reply.band) is not None:
        response.low_uc, response.high_uc, response.confidence = band.low_uc, band.high_uc, float(band.confidence)
        response.thin, response.root = band.thin, band.root or ""
        response.reasons, response.unknown = list(band.reasons), list(band.unknown)
        response.coverage, response.age_s = known(band.coverage), known(band.age_s)
        response.evidence_records, response.evidence_age_s = band.evidence_records, known(band.evidence_age_s)
    return response
