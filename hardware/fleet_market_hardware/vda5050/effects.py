"""What a state machine of VDA 5050 wants done; whoever runs it does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleet_market.body import Result


@dataclass(frozen=True, slots=True)
class Send:
    """Publish a message on one of the vehicle's topics; the header is added on the way out."""

    topic: str
    version: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step of the job is proven."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The job is over."""

    result: Result


Effect = Send | StepDone | JobEnded
