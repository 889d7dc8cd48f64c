"""What a robot asks for a lot: by how much its whole queue grows dearer with it.

    ask = cost(queue with the lot) - cost(queue as it is)

The `planning` chooses where in the queue the lot's stops go, charging stops included; `pricing` says what both queues cost,
leg by leg as they would be driven. To the robot's own cost is added what the orders that it holds already lose by being
later; what the lot itself loses by lateness is not in the ask: the market counts it from `finish_ns`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fleet_market.body import Pose, RobotType
from fleet_market.errors import UnreachableError
from fleet_market.ids import CallId, OrderId
from fleet_market.maps.roadmap import Roadmap
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import PlanLeg, PriceQuote, Tariff, TaskPlan, energy_j
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES
from fleet_market.protocol.messages import ASK_PARTS, MAX_ASKS, Ask, AskLine, DeclineLine, DeclineReason, WirePose
from fleet_market.robot.legs import USUAL_TURN_RAD, Legs
from fleet_market.robot.memory import Memory
from fleet_market.robot.planning import DEADLINE_SD, RESERVE_SD, Planner, Rates
from fleet_market.robot.pricing import Drive, QueuePrice, QueuePricer, growth_uc
from fleet_market.robot.queue import Errand, Queue
from fleet_market.units import ns

MAX_ASK_BYTES = MAX_INBOUND_BYTES - 512
"""Of the body of an answer; the rest is left for its envelope."""
SAME_S = 0.01
"""An order is not made later by less than this."""
OPPORTUNITY = ASK_PARTS.index("opportunity")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a robot asks for a lot, and how it would do it."""

    queue: Queue
    """The queue with the lot."""
    ask_uc: int
    parts_uc: tuple[int, ...]
    energy_j: float
    energy_sd_j: float
    finish_ns: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a robot does not ask for a lot."""

    reason: DeclineReason
    detail: str


class Bidder:
    """Prices lots for one robot.

    Parameters
    ----------
    robot : RobotType
    roadmap : Roadmap
    chargers : sequence of Pose
        The way to the nearest one counts against the battery.
    tariff : Tariff
    memory : Memory
        What the robot has learned; grows while it works.
    surfaces : Surfaces
    """

    def __init__(
        self,
        robot: RobotType,
        roadmap: Roadmap,
        chargers: Sequence[Pose],
        tariff: Tariff,
        memory: Memory,
        surfaces: Surfaces,
    ) -> None:
        self._robot, self._tariff, self._memory = robot, tariff, memory
        self.legs = Legs(roadmap, chargers, surfaces)
        self._planner = Planner(robot, self.legs)
        self._pricer = QueuePricer(robot, self.legs, tariff, memory)

    def quote(self, plan: TaskPlan) -> PriceQuote:
        """Return the price of a plan as the robot knows itself now."""
        return self._memory.quote(plan, self._tariff)

    def cost(self, queue: Queue) -> QueuePrice:
        """Return what a queue costs; `total_uc` is the sum.

        Raises
        ------
        UnreachableError
            If no way leads to one of its places.
        """
        return self._pricer.prices([self.drive(queue)])[0]

    def drive(self, queue: Queue) -> Drive:
        """Return a queue as it is driven, with the charging stops that it needs."""
        return self._planner.drive(queue, self._rates())

    def ask(self, lot: Errand, given: Queue, without: Collection[OrderId] = ()) -> Offer | Refusal:
        """Return what the robot asks for a lot; see `asks`."""
        return self.asks([lot], given, without)[0]

    def asks(self, lots: Sequence[Errand], given: Queue, without: Collection[OrderId] = ()) -> list[Offer | Refusal]:
        """Return what the robot asks for each of some lots alone, or why it does not.

        Parameters
        ----------
        lots : sequence of Errand
        given : Queue
            What it is going to do anyway.
        without : collection of OrderId
            Orders of it that it would give away first; must be only queued.

        Raises
        ------
        InputError
            If an order of `without` is not in the queue, or is being executed.
        """
        queue = given.without(without)
        rates = self._rates()
        answers: dict[int, Offer | Refusal] = {}
        for i, lot in enumerate(lots):
            if (refusal := self._unfit(lot, queue)) is not None:
                answers[i] = refusal
        able = [i for i in range(len(lots)) if i not in answers]
        try:
            base = self._pricer.prices([self._planner.drive(queue, rates)])[0]
        except UnreachableError as error:
            return [Refusal(DeclineReason.UNREACHABLE, str(error))] * len(lots)
        found = self._planner.insertions(queue, [lots[i] for i in able], rates)
        drives = [one or self._planner.drive(queue.appended(lots[i]), rates) for i, one in zip(able, found, strict=True)]
        for i, drive, price in zip(able, drives, self._pricer.prices(drives), strict=True):
            answers[i] = self._judged(lots[i], base, drive, price)
        return [answers[i] for i in range(len(lots))]

    def taken(self, lot: Errand, queue: Queue) -> Queue:
        """Return the queue with a lot that the robot has won, at the place that it asked for; at the end if there is none.

        Raises
        ------
        UnreachableError
            If no way leads to it.
        """
        if (refusal := self._unfit(lot, queue)) is not None and refusal.reason is DeclineReason.UNREACHABLE:
            raise UnreachableError(refusal.detail)
        found = self._planner.insertions(queue, [lot], self._rates())[0]
        return queue.appended(lot) if found is None else found.queue

    def _rates(self) -> Rates:
        return Rates.learned(self._robot, self._memory, self._tariff)

    def _unfit(self, lot: Errand, queue: Queue) -> Refusal | None:
        """Return why the robot cannot have the lot, wherever in its queue."""
        if any(errand.order == lot.order for errand in queue.errands):
            return Refusal(DeclineReason.BUSY, "has it under a contract that is over")
        if lot.payload_kg > self._robot.max_payload_kg:
            return Refusal(DeclineReason.PAYLOAD, f"carries {self._robot.max_payload_kg:g} kg at most")
        if any(errand.order == lot.order for errand in queue.errands):
            return Refusal(DeclineReason.BUSY, "has it already")
        try:
            at = queue.pose if lot.pickup is None else self.legs.way(queue.pose, lot.pickup).end
            self.legs.way(at, lot.dropoff)
        except UnreachableError as error:
            return Refusal(DeclineReason.UNREACHABLE, str(error))
        return None

    def _judged(self, lot: Errand, base: QueuePrice, drive: Drive, price: QueuePrice) -> Offer | Refusal:
        """Return the offer to take a lot by driving like this, or what that breaks."""
        queue = drive.queue
        if (refusal := self._empty(drive, price)) is not None:
            return refusal
        if (refusal := self._late(lot, base, queue, price)) is not None:
            return refusal
        held_uc = sum(uc for order, uc in price.lateness_uc.items() if order != lot.order)
        parts_uc = list(price.parts_uc)
        parts_uc[OPPORTUNITY] += held_uc
        before_uc = list(base.parts_uc)
        before_uc[OPPORTUNITY] += sum(base.lateness_uc.values())
        grown_uc = growth_uc(parts_uc, before_uc)
        return Offer(
            queue=queue,
            ask_uc=sum(grown_uc),
            parts_uc=grown_uc,
            energy_j=max(0.0, price.energy_j - base.energy_j),
            energy_sd_j=max(0.0, price.energy_sd_j - base.energy_sd_j),
            finish_ns=queue.now_ns + ns(price.drop_s[lot.order]),
        )

    @staticmethod
    def _late(lot: Errand, base: QueuePrice, queue: Queue, price: QueuePrice) -> Refusal | None:
        """Return which order that may not be late would be: the lot, or one that is made later by it."""
        for errand in queue.errands:
            drop_s = price.drop_s[errand.order]
            late_s = drop_s * (1 + DEADLINE_SD * price.sd_share) - (errand.deadline_ns - queue.now_ns) / 1e9
            if late_s <= 0 or errand.lateness_uc_per_h:
                continue
            if errand.order == lot.order:
                return Refusal(DeclineReason.DEADLINE, f"would be {late_s:.0f} s late")
            if drop_s > base.drop_s[errand.order] + SAME_S:
                return Refusal(DeclineReason.DEADLINE, f"would make {errand.order} late")
        return None

    def _empty(self, drive: Drive, price: QueuePrice) -> Refusal | None:
        """Return by how much the battery falls short of a queue that has no charging stop."""
        queue, battery = drive.queue, self._robot.battery
        if drive.charges:
            return None
        home_j = energy_j(TaskPlan((PlanLeg(self.legs.to_charger_m(price.end), USUAL_TURN_RAD, 2, 0.0),)), self._robot)
        drawn_j = price.energy_j + RESERVE_SD * price.energy_sd_j + (home_j if self.legs.chargers else 0.0)
        needed = battery.reserve_soc + drawn_j / self._memory.capacity_j
        if queue.soc < needed:
            return Refusal(DeclineReason.BATTERY, f"has {queue.soc:.1%}, needs {needed:.1%}")
        return None


def line_of(number: int, answer: Offer | Refusal) -> AskLine | DeclineLine:
    """Return an answer as it goes over the wire, for lot `number` of a call."""
    if isinstance(answer, Refusal):
        return DeclineLine(lot=number, reason=answer.reason, detail=answer.detail[:40])
    return AskLine(
        lot=number,
        ask_uc=answer.ask_uc,
        parts_uc=answer.parts_uc,
        energy_j=round(answer.energy_j, 1),
        energy_sd_j=round(answer.energy_sd_j, 1),
        finish_ns=answer.finish_ns,
    )


def sealed(call: CallId, number: int, at: WirePose | None, asks: Sequence[AskLine], declines: Sequence[DeclineLine]) -> Ask:
    """Return the answer to a round of a call: the cheapest asks first, and as much as a robot's message may hold."""
    by_price = sorted(asks, key=lambda line: (line.ask_uc, line.lot))[:MAX_ASKS]
    kept = list(declines[: MAX_ASKS - len(by_price)])
    while True:
        ask = Ask(call=call, round=number, at=at, asks=tuple(by_price), declines=tuple(kept))
        if len(ask.model_dump_json()) <= MAX_ASK_BYTES:
            return ask
        (kept or by_price).pop()
