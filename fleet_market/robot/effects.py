"""What a robot's agent wants done; the daemon around it does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleet_market.body import Job
from fleet_market.ids import MessageId
from fleet_market.protocol.messages import AnyBody


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message on the robot's topic `kind`."""

    kind: str
    body: AnyBody
    id: MessageId


@dataclass(frozen=True, slots=True)
class RunJob:
    """Run a job on the driver and report its result."""

    job: Job
    deadline_s: float


@dataclass(frozen=True, slots=True)
class ReleaseJob:
    """Let the running job drive on through its first `points` points."""

    job_id: str
    points: int


@dataclass(frozen=True, slots=True)
class StopJob:
    """End the running job; its result will say CANCELLED."""

    reason: str


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep what the robot has learned, beyond its process."""

    memory: dict[str, Any]


Effect = Say | RunJob | ReleaseJob | StopJob | Remember
