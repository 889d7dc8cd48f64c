"""A job under way, as the master keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from fleet_market.body import Act, End, Go, Job
from fleet_market_hardware.vda5050.messages import Order
from fleet_market_hardware.vda5050.route import Route
from fleet_market_hardware.vda5050.seen import SeenError


class Phase(Enum):
    """How far a job is."""

    PREPARING = auto()
    """The charger is being left."""
    ORDERED = auto()
    """Sent, not yet taken."""
    RUNNING = auto()
    CHARGING = auto()
    """Order done, on the charger."""
    ENDING = auto()
    """Cancelled, or told to leave the charger: waits for what shows it."""


@dataclass(slots=True)
class Work:
    """The running job."""

    job: Job
    route: Route
    deadline_ns: int
    phase: Phase
    since_ns: int
    """When this phase began."""
    order: Order | None = None
    """The newest update, as it was sent."""
    sent_ns: int = 0
    known: tuple[SeenError, ...] = ()
    """Errors that were there before the newest update was sent."""
    accepted_update: int = -1
    steps_done: int = 0
    end: End = End.DONE
    reason: str = ""
    asked: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Instant actions on their way: kind to id and time of the latest sending."""


def shape_fault(job: Job) -> str:
    """Return why a job cannot be one order, empty if it can."""
    if not job.steps:
        return "a job has at least one step"
    for number, step in enumerate(job.steps):
        if isinstance(step, Act) and step.kind == "charge" and number + 1 < len(job.steps):
            return "charging must be the last step of a job"
        behind_act = number > 0 and isinstance(job.steps[number - 1], Act)
        if isinstance(step, Go) and behind_act and step.path and step.released < min(2, len(step.path)):
            return "the way after an action must be released by two points at least"
    return ""
