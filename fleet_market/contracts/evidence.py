"""Payment needs evidence: what a robot reports must prove that the order was done."""

from __future__ import annotations

import math

from fleet_market.contracts.contract import Contract
from fleet_market.contracts.order import Order
from fleet_market.contracts.terms import MarketTerms
from fleet_market.protocol.messages import Complete, Place, StepEvidence

CLOCK_SLACK_NS = 1_000_000_000
"""The clocks of a robot and of the market may differ by this."""


def find_faults(complete: Complete, contract: Contract, order: Order, terms: MarketTerms, now_ns: int) -> list[str]:
    """Return what is missing or wrong in the evidence, one sentence each; an empty list means: pay.

    Asked for are both steps in their order, each with a pose inside its place, at a time between the award and now, and,
    where the robot has a scale, a change of load by the parcel's mass. Other parcels may be aboard meanwhile.
    """
    kinds = [step.kind for step in complete.steps]
    if kinds != ["pickup", "dropoff"]:
        return [f"evidence must be of a pickup and a dropoff, was of {kinds}"]
    pickup, dropoff = complete.steps
    faults = [
        *_pose_faults(pickup, order.pickup, terms),
        *_pose_faults(dropoff, order.dropoff, terms),
        *_load_faults(pickup, order.payload_kg, terms),
        *_load_faults(dropoff, -order.payload_kg, terms),
    ]
    if not contract.awarded_ns - CLOCK_SLACK_NS <= pickup.at_ns <= dropoff.at_ns <= now_ns + CLOCK_SLACK_NS:
        faults.append(
            f"times must run from the award ({contract.awarded_ns}) over pickup ({pickup.at_ns}) and dropoff"
            f" ({dropoff.at_ns}) to now ({now_ns})"
        )
    return faults


def _pose_faults(step: StepEvidence, place: Place, terms: MarketTerms) -> list[str]:
    distance = math.hypot(step.pose.x - place.x, step.pose.y - place.y)
    if distance <= place.radius_m + terms.pose_slack_m:
        return []
    return [f"the {step.kind} was {distance:.2f} m from its place, at most {place.radius_m:.2f} m is near enough"]


def _load_faults(step: StepEvidence, due_kg: float, terms: MarketTerms) -> list[str]:
    before_kg, after_kg = step.payload_before_kg, step.payload_kg
    if before_kg is None and after_kg is None:
        return []
    if before_kg is None or after_kg is None:
        return [f"the scale must be read before and after the {step.kind}, or not at all"]
    change_kg = after_kg - before_kg
    if abs(change_kg - due_kg) <= terms.scale_slack_kg:
        return []
    return [f"the load changed by {change_kg:.2f} kg at the {step.kind}, not by {due_kg:.2f} kg"]
