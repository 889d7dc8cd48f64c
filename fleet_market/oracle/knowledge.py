"""All that the oracle knows, as a state machine: it hears observations and gives fair bands. It sets no price.

A closed batch is heard beside what is known, which goes on answering until all of it counts at once (`Hearing`).

What is public (orders on sale, closed batches) counts at once. What is private (where robots are, their calibration, single
settlements) counts only after a delay, and no number that comes from fewer robots than a threshold is told. An answer
depends on what was heard and on the task alone: there is no place in a question for who asks or what he hopes for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import replace

from fleet_market.errors import InputError
from fleet_market.ids import Identifier, OrderId, ZoneId
from fleet_market.oracle.bands import FairBand
from fleet_market.oracle.conformal import checked_confidence
from fleet_market.oracle.quoting import NOW_NS, Privacy, quote_later, quote_now
from fleet_market.oracle.terms import (
    CalibrationDrift,
    ClosedBatch,
    FairQuote,
    Observation,
    OrderGone,
    OrderSeen,
    Question,
    ResourceLoad,
    RobotState,
    Settlement,
)
from fleet_market.oracle.zone_view import ZoneView

MAX_PRIVATE = 100_000
"""Private observations that wait for their delay; beyond, the oldest are forgotten."""
MAX_ORDERS = 50_000
"""Orders that a question may name; beyond, the oldest are forgotten."""
FARTHEST_NS = 7 * 86_400 * 10**9
"""No forecast goes further ahead than a week."""


HEARING = "a batch that has closed and is being heard"


class Hearing:
    """What a closed batch or the passing of time makes of zones, worked out beside the views that answer meanwhile.

    `run` takes long (seconds for thousands of lots) and touches nothing but its own copies: it may run in another thread.
    """

    def __init__(self, views: dict[ZoneId, ZoneView], batch: ClosedBatch | None, now_ns: int) -> None:
        self.views, self.batch = views, batch
        self.bands: list[FairBand] = []
        """Of all lots that the optimum of the batch would sell; when it has run."""
        self._now_ns = now_ns

    def run(self) -> None:
        """Do the work."""
        for zone, view in self.views.items():
            if self.batch is not None and self.batch.zone == zone:
                self.bands = view.batch_closed(self.batch, self._now_ns)
            else:
                view.renew(self._now_ns)


class Knowledge:
    """What is known of all zones.

    Parameters
    ----------
    privacy : Privacy, optional
        Delay and threshold of what is private.
    """

    def __init__(self, privacy: Privacy | None = None) -> None:
        self.privacy = privacy or Privacy()
        self.resources: dict[tuple[ZoneId, Identifier], ResourceLoad] = {}
        self._views: dict[ZoneId, ZoneView] = {}
        self._private: deque[RobotState | Settlement | CalibrationDrift] = deque(maxlen=MAX_PRIVATE)
        self._orders: OrderedDict[OrderId, Question | None] = OrderedDict()
        self._hearing: Hearing | None = None

    def hear(self, observation: Observation, now_ns: int) -> None:
        """Take in one observation.

        Parameters
        ----------
        observation : Observation
        now_ns : int
            Time at which it is heard.

        Raises
        ------
        InputError
            If it is from the future: a batch that has not closed yet least of all. If another one is being heard.
        """
        if (hearing := self.begin(observation, now_ns)) is not None:
            hearing.run()
            self.take(hearing)

    def begin(self, observation: Observation, now_ns: int) -> Hearing | None:
        """Begin to hear an observation; return the work that is left, None if that was all.

        Until the work is done and taken (`take`) nothing else can be heard, and all answers are what they were before.

        Raises
        ------
        InputError
            As `hear`.
        """
        kind = type(observation).__name__
        if self._hearing is not None:
            raise InputError("oracle", "observation", kind, "hear it when the one before has been taken or dropped")
        if (from_ns := _time_ns(observation)) > now_ns:
            raise InputError("oracle", f"time of {kind}", from_ns, f"use at most the time at which it is heard ({now_ns})")
        self._reveal(now_ns)
        batch = observation if isinstance(observation, ClosedBatch) else None
        self._note(observation, now_ns)
        due = {zone for zone, view in self._views.items() if view.is_due(now_ns)} | ({batch.zone} if batch else set())
        if not due:
            return None
        self._hearing = Hearing({zone: self._view(zone).copy() for zone in sorted(due)}, batch, now_ns)
        return self._hearing

    def take(self, hearing: Hearing) -> None:
        """Let what has been worked out count, all at once."""
        self._views.update(hearing.views)
        self._hearing = None
        for lot in hearing.batch.lots if hearing.batch else ():
            if lot.winner is not None:
                self._remember(lot.order, None)

    def drop(self) -> None:
        """Give up what is being heard: it counts as never heard."""
        self._hearing = None

    def _note(self, observation: Observation, now_ns: int) -> None:
        """Take in what takes no time."""
        match observation:
            case RobotState() | Settlement() | CalibrationDrift():
                self._private.append(observation)
                self._reveal(now_ns)
            case OrderSeen():
                self._remember(observation.order, observation.task)
                self._view(observation.task.zone).order_seen(observation)
            case OrderGone():
                if (task := self._orders.get(observation.order)) is not None:
                    self._view(task.zone).order_gone(observation)
                self._remember(observation.order, None)
            case ResourceLoad():
                self.resources[observation.zone, observation.name] = observation
            case ClosedBatch():
                pass

    def task_of(self, order: OrderId) -> Question:
        """Return the task of an order that is on sale.

        Raises
        ------
        InputError
            If the order is not known, or no longer on sale.
        """
        if order not in self._orders:
            raise InputError("quote", "order", str(order), "name an order that is on sale: this one is not known")
        task = self._orders[order]
        if task is None:
            raise InputError("quote", "order", str(order), "name an order that is on sale: this one is closed")
        return task

    def band(self, question: Question, now_ns: int, at_ns: int | None = None, confidence: float = 0.8) -> FairQuote:
        """Return the fair band of a task that comes on sale now, or at a later time.

        Parameters
        ----------
        question : Question
        now_ns : int
        at_ns : int, optional
            When it is to be posted, from now to a week ahead.
        confidence : float
            Share of such bands that are to hold the full-information price, 0.5 to 0.95.

        Raises
        ------
        InputError
            If the time or the confidence is out of range, or nothing is known of the zone yet.
        """
        checked_confidence(confidence)
        at_ns = now_ns if at_ns is None else at_ns
        if not now_ns <= at_ns <= now_ns + FARTHEST_NS:
            raise InputError("quote", "at_ns", at_ns, f"use a time from now ({now_ns}) to a week ahead")
        view = self.view(question.zone, now_ns)
        if at_ns - now_ns < NOW_NS:
            quote = quote_now(view, question, now_ns, confidence, self.privacy)
        else:
            quote = quote_later(view, question, now_ns, at_ns, confidence, self.privacy)
        batch = None if self._hearing is None else self._hearing.batch
        if batch is not None and batch.zone == question.zone:
            quote = replace(quote, unknown=(*quote.unknown, HEARING))
        return quote

    def view(self, zone: ZoneId, now_ns: int) -> ZoneView:
        """Return what is known of a zone.

        Raises
        ------
        InputError
            If nothing is.
        """
        self._reveal(now_ns)
        if zone not in self._views:
            raise InputError("quote", "zone", str(zone), "ask for a zone in which something was seen")
        return self._views[zone]

    def _view(self, zone: ZoneId) -> ZoneView:
        return self._views.setdefault(zone, ZoneView())

    def _reveal(self, now_ns: int) -> None:
        """Let the private observations count that are old enough, in the order in which they came."""
        if self._hearing is not None:  # its copies would not see them
            return
        while self._private and _time_ns(self._private[0]) + self.privacy.delay_ns <= now_ns:
            observation = self._private.popleft()
            view = self._view(observation.zone)
            match observation:
                case RobotState():
                    view.robot_seen(observation)
                case Settlement():
                    view.settlement(observation)
                case CalibrationDrift():
                    view.fleet.drift[observation.robot] = observation.factor

    def _remember(self, order: OrderId, task: Question | None) -> None:
        self._orders[order] = task
        self._orders.move_to_end(order)
        if len(self._orders) > MAX_ORDERS:
            self._orders.popitem(last=False)


def _time_ns(observation: Observation) -> int:
    match observation:
        case ClosedBatch():
            return observation.closed_ns
        case Settlement():
            return observation.settled_ns
        case _:
            return observation.seen_ns
