"""Bidding software as cheap as can be: a robot that does every lot after all that it has, one parcel after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fleet_market.body import Pose
from fleet_market.errors import UnreachableError
from fleet_market.ids import OrderId
from fleet_market.pricing import PlanLeg, PriceQuote, TaskPlan, energy_j
from fleet_market.pricing.life import J_PER_WH
from fleet_market.protocol.messages import DeclineReason, Place
from fleet_market.robot.bidding import Bidder, Offer, Refusal
from fleet_market.robot.legs import USUAL_TURN_RAD
from fleet_market.robot.memory import Memory
from fleet_market.robot.planning import DEADLINE_SD, RESERVE_SD
from fleet_market.robot.queue import Errand, Queue
from fleet_market.robot.situation import AgentConfig
from fleet_market.units import ns


@dataclass(frozen=True, slots=True)
class Job:
    """An errand as it is done from where the one before it ends."""

    quote: PriceQuote
    end: Pose
    home_j: float
    """Energy of the way from its end to a charger."""


Key: TypeAlias = tuple[Pose, tuple[float, float] | None, tuple[float, float], float]
Jobs: TypeAlias = dict[Key, Job | UnreachableError]
"""By start, pickup, dropoff and payload."""


class AppendingBidder(Bidder):
    """Prices every lot as if it were done last, and never charges in between.

    Parameters
    ----------
    config : AgentConfig
    jobs : dict
        What robots of this type on this floor have worked out; it grows. A robot prices by its data sheet: what it learns
        changes nothing here.
    """

    def __init__(self, config: AgentConfig, jobs: Jobs) -> None:
        memory = Memory(config.type)
        super().__init__(config.type, config.roadmap, config.chargers, config.tariff, memory, config.surfaces)
        self._type, self._jobs = config.type, jobs

    def asks(self, lots: Sequence[Errand], given: Queue, without: Collection[OrderId] = ()) -> list[Offer | Refusal]:
        """Return what the robot asks for each of some lots alone, or why it does not."""
        queue = given.without(without)
        lasts_s = sd_s = drawn_j = 0.0
        at = queue.pose
        for errand in queue.errands:
            job = self._job(at, errand)
            lasts_s, sd_s = lasts_s + job.quote.lasts.mean, sd_s + job.quote.lasts.sd
            drawn_j, at = drawn_j + job.quote.energy.mean, job.end
        return [self._answer(lot, queue, at, (lasts_s, sd_s, drawn_j)) for lot in lots]

    def taken(self, lot: Errand, queue: Queue) -> Queue:
        """Return the queue with a lot at its end."""
        return queue.appended(lot)

    def _answer(self, lot: Errand, queue: Queue, at: Pose, before: tuple[float, float, float]) -> Offer | Refusal:
        if lot.payload_kg > self._type.max_payload_kg:
            return Refusal(DeclineReason.PAYLOAD, f"carries {self._type.max_payload_kg:g} kg at most")
        try:
            job = self._job(at, lot)
        except UnreachableError as error:
            return Refusal(DeclineReason.UNREACHABLE, str(error))
        quote, (lasts_s, sd_s, drawn_j) = job.quote, before
        needed_j = drawn_j + quote.energy.mean + RESERVE_SD * quote.energy.sd + job.home_j
        needed = self._type.battery.reserve_soc + needed_j / (self._type.battery.capacity_wh * J_PER_WH)
        if queue.soc < needed:
            return Refusal(DeclineReason.BATTERY, f"has {queue.soc:.1%}, needs {needed:.1%}")
        done_s = lasts_s + quote.lasts.mean
        late_s = done_s + DEADLINE_SD * (sd_s + quote.lasts.sd) - (lot.deadline_ns - queue.now_ns) / 1e9
        if late_s > 0 and not lot.lateness_uc_per_h:
            return Refusal(DeclineReason.DEADLINE, f"would be {late_s:.0f} s late")
        return Offer(
            queue=queue,
            ask_uc=quote.ask_uc,
            parts_uc=quote.parts_uc,
            energy_j=quote.energy.mean,
            energy_sd_j=quote.energy.sd,
            finish_ns=queue.now_ns + ns(done_s),
        )

    def _home_j(self, end: Pose) -> float:
        if not self.legs.chargers:
            return 0.0
        return energy_j(TaskPlan((PlanLeg(self.legs.to_charger_m(end), USUAL_TURN_RAD, 2, 0.0),)), self._type)

    def _job(self, start: Pose, errand: Errand) -> Job:
        """Return an errand as it is done from `start`; raises `UnreachableError` if it cannot be."""
        pickup, dropoff = errand.pickup, errand.dropoff
        key = (start, None if pickup is None else (pickup.x, pickup.y), (dropoff.x, dropoff.y), errand.payload_kg)
        if (job := self._jobs.get(key)) is None:
            try:
                job = self._worked_out(start, errand)
            except UnreachableError as error:
                job = error
            self._jobs[key] = job
        if isinstance(job, UnreachableError):
            raise job
        return job

    def _worked_out(self, start: Pose, errand: Errand) -> Job:
        stops: list[tuple[Place, float]] = [(errand.dropoff, errand.payload_kg)]
        if errand.pickup is not None:
            stops.insert(0, (errand.pickup, 0.0))
        at, legs = start, list[PlanLeg]()
        for place, aboard_kg in stops:
            way = self.legs.way(at, place)
            legs += way.plan(at.yaw, aboard_kg)
            at = way.end
        return Job(self.quote(TaskPlan(tuple(legs), len(stops) * self._type.handling_s)), at, self._home_j(at))
