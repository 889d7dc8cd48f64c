"""What the inside asks of the outside: clock, transport, store, robot drivers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fleet_market.body import DriverSpec, Job, Pose, Result, Telemetry
from fleet_market.ids import ZoneId


class Clock(Protocol):
    """The market's time: the wall clock, or the one clock of a simulation."""

    def now_ns(self) -> int:
        """Return the market time, nanoseconds; never decreases."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that arrived, not yet acknowledged."""

    topic: str
    payload: bytes
    ack: Callable[[], None]
    """Tell the broker that the message has taken effect; until then it is delivered again after a reconnection."""


class Publisher(Protocol):
    """Publishes at least once, in the order of the calls: a second one may be made before the first has returned."""

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish; returns when the broker has taken the message, raises `BrokerError` if it has not."""


class Transport(Publisher, Protocol):
    """Publishes and receives, both at least once."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield messages of the subscribed topics as they arrive."""

    def waiting(self) -> int:
        """Return how many deliveries wait to be taken."""


class RobotDriver(Protocol):
    """What the robot's agent talks to: one robot that runs jobs."""

    spec: DriverSpec

    async def open(self, *, timeout_s: float) -> None:
        """Connect; returns once telemetry exists, else raises `TimeoutError`."""

    async def close(self) -> None:
        """Stop the robot and disconnect; may be called twice."""

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot; never blocks, never raises."""

    async def run(self, job: Job, *, deadline_s: float, on_step: Callable[[int, str], None] | None = None) -> Result:
        """Run `job`; never raises for trouble of the robot, and never says DONE without evidence for each step.

        One job at a time: a second is REJECTED. `on_step(index, text)` is called when a step is done.
        """

    def release(self, job_id: str, points: int) -> None:
        """Let the running `Go` of `job_id` drive through its first `points` path points."""

    def passed(self) -> int:
        """Return how many path points of the running `Go` lie behind the robot; 0 without one."""

    async def stop(self, *, timeout_s: float) -> bool:
        """End the running job; True only if telemetry shows standstill."""

    async def estop(self, *, engage: bool = True) -> None:
        """Latch or release an emergency stop; `run` is REJECTED while latched. Not a safety function."""


@runtime_checkable
class Surveyor(Protocol):
    """What a driver may offer beside: the robot has a planner of its own."""

    async def path_length_m(self, start: Pose, goal: Pose) -> float | None:
        """Return how long the robot's own planner finds a way, metres; None if it does not say."""


class VelocityBase(Protocol):
    """What a motor controller, or a simulated one, offers."""

    spec: DriverSpec

    async def open(self, *, timeout_s: float) -> None:
        """Connect; returns once telemetry exists, else raises `TimeoutError`."""

    async def close(self) -> None:
        """Stop and disconnect; may be called twice."""

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot; never blocks, never raises."""

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Wait for a snapshot with `seq` greater than `after`; raises `TimeoutError`."""

    async def drive(self, vx: float, wz: float, *, valid_s: float) -> None:
        """Drive at `vx` m/s and `wz` rad/s; the device itself stops `valid_s` after the last call."""

    async def act(self, kind: str, *, parcel: str, mass_kg: float) -> None:
        """Begin an action of the body or of the station (load, unload, charge); its effect shows in telemetry."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a zone's market, until it ends or is taken over."""

    zone: ZoneId
    epoch: int
    """Grows with every holder: a write under an older one is refused."""


@dataclass(frozen=True, slots=True)
class Member:
    """A market daemon that is there."""

    zones: frozenset[ZoneId]
    """Those that it would run."""
    held: int
    """How many it does run."""


@dataclass(frozen=True, slots=True)
class Roll:
    """How the zones lie among the daemons."""

    lost: frozenset[ZoneId]
    """Zones that have been taken over from this daemon."""
    others: tuple[Member, ...]
    free: tuple[ZoneId, ...]
    """Zones of this daemon that nobody runs."""


class Leases(Protocol):
    """Shares zones among daemons. Every method may block, and raises `StoreError` if the store cannot be had."""

    lease_s: float
    """How long a lease lives that is not renewed."""

    def roll(self, zones: Collection[ZoneId], held: Mapping[ZoneId, Lease]) -> Roll:
        """Say that this daemon is there, which zones it would run and which it does; renew the leases of these."""

    def claim(self, zone: ZoneId) -> Lease | None:
        """Take a free zone; None if it cannot be had."""

    def release(self, lease: Lease) -> None:
        """Give a zone back at once."""

    def close(self) -> None:
        """Leave, and give back every lease."""


class LedgerStore(Protocol):
    """Durable storage of the market: applies what the pure core decided, atomically. See `fleet_market.adapters.stores`."""

    def commit(self, records: Sequence[object]) -> None:
        """Apply all `records` in one transaction or none of them."""
