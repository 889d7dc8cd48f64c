"""A robot's dealings with the market: it answers calls and takes awards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet_market.body import Link
from fleet_market.errors import UnreachableError
from fleet_market.ids import CallId, OrderId
from fleet_market.protocol.messages import (
    Accept,
    AskLine,
    Award,
    Call,
    Decline,
    DeclineReason,
    WirePose,
    printable,
)
from fleet_market.robot.bidding import Bidder, Offer, Refusal, line_of, sealed
from fleet_market.robot.queue import Errand, Queue
from fleet_market.robot.situation import Doing, Situation
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import NS_PER_S

MAX_PAGES_KEPT = 4
LATE_NS = 4 * NS_PER_S
"""A call that has closed is answered all the same for so long: market or broker may have been held up with it, and what is
asked for late comes first in a re-auction."""
NOWHERE = Refusal(DeclineReason.SILENT, "no pose or state of charge")


class Dealer:
    """Deals for one agent.

    Parameters
    ----------
    situation : Situation
    voice : Voice
    bidder : Bidder
    replan : callable
        Has the robot's way planned anew, for the reason given.
    """

    def __init__(self, situation: Situation, voice: Voice, bidder: Bidder, replan: Callable[[str], None]) -> None:
        self._now, self._voice, self._bidder, self._replan = situation, voice, bidder, replan
        self._pages: dict[tuple[CallId, int], dict[int, Call]] = {}
        self._seen: tuple[CallId | None, dict[OrderId, Errand]] = (None, {})
        """The lots of the latest call that it was offered, in whatever round."""

    def take_page(self, page: Call, now_ns: int) -> None:
        """Take a page of a call, and answer when it is the last one missing."""
        pages = self._pages.setdefault((page.call, page.round), {})
        pages[page.page] = page
        if len(pages) == page.pages:
            del self._pages[page.call, page.round]
            if now_ns < page.close_ns + LATE_NS:
                self._bid(page, [Errand.of(lot) for n in sorted(pages) for lot in pages[n].lots], now_ns)
        while len(self._pages) > MAX_PAGES_KEPT:
            self._pages.pop(next(iter(self._pages)))

    def price(self, lot: Errand, now_ns: int) -> Offer | Refusal:
        """Return what the robot would ask for a lot now, or why it would not."""
        queue = self._now.queue(now_ns)
        if (refusal := self.unwilling() or self.unfit(now_ns)) is not None:
            return refusal
        return NOWHERE if queue is None else self._bidder.ask(lot, queue)

    def take_award(self, award: Award, now_ns: int) -> None:
        """Accept a contract, or say why not; a known one is accepted again."""
        if not any(task.award.contract == award.contract for task in self._now.tasks):
            reason = self._enqueue(award, now_ns)
            if reason is not None:
                decline = Decline(contract=award.contract, reason=printable(reason))
                self._voice.must_say("decline", decline, now_ns, award.contract)
                return
        self._voice.must_say("accept", Accept(contract=award.contract), now_ns, award.contract)

    def _enqueue(self, award: Award, now_ns: int) -> str | None:
        """Put a new contract in the queue, or return why not."""
        now = self._now
        refusal, queue = self.unfit(now_ns, won=-len(now.frozen)), now.queue(now_ns)
        if refusal is not None:
            return f"{refusal.reason}: {refusal.detail}"
        if queue is None:
            return NOWHERE.detail
        if now.task(award.order) is not None:
            return f"has order {award.order} already, under another contract"
        try:
            now.visits = self._bidder.taken(Errand.of(award), queue).visits
        except UnreachableError as error:
            return str(error)
        now.tasks.append(Task(award))
        if len(now.tasks) == 1:
            self._replan("a task has come")
        return None

    def _bid(self, call: Call, lots: Sequence[Errand], now_ns: int) -> None:
        """Answer one round; what earlier rounds of the same call have won is in the queue already."""
        if self._seen[0] != call.call:
            self._seen = (call.call, {})
        seen = self._seen[1]
        seen.update((lot.order, lot) for lot in lots)
        refusal, queue = self.unwilling() or self.unfit(now_ns, won=len(call.won)), self._with(call.won, now_ns)
        if refusal is not None or queue is None:
            lines = [line_of(number, refusal or NOWHERE) for number in range(len(lots))]
        else:
            answers = self._bidder.asks(lots, queue)
            lines = [line_of(number, answer) for number, answer in enumerate(answers)]
        asks = [line for line in lines if isinstance(line, AskLine)]
        declines = [line for line in lines if not isinstance(line, AskLine)]
        at = None if queue is None else WirePose.of(queue.end)
        self._voice.say("ask", sealed(call.call, call.round, at, asks, declines))

    def _with(self, won: Sequence[OrderId], now_ns: int) -> Queue | None:
        """Return the queue with lots that the robot has won but has no contracts for yet."""
        queue = self._now.queue(now_ns)
        for order in won:
            lot = self._seen[1].get(order)
            if queue is None or lot is None:
                return None
            if self._now.task(order) is not None:
                continue  # its award has come before the call of the next round
            try:
                queue = self._bidder.taken(lot, queue)
            except UnreachableError:
                return None
        return queue

    def unwilling(self) -> Refusal | None:
        """Return why the robot asks for nothing although it could; what it has asked for, it does."""
        return None if self._now.bidding else Refusal(DeclineReason.BUSY, "does not bid now")

    def unfit(self, now_ns: int, *, won: int = 0) -> Refusal | None:
        """Return why the robot takes no task at all now."""
        now = self._now
        telemetry, kind = now.telemetry, now.config.type
        if telemetry is None:
            return Refusal(DeclineReason.SILENT, "odom")
        if telemetry.silent or telemetry.link is not Link.UP:
            return Refusal(DeclineReason.SILENT, ", ".join(telemetry.silent) or "odom")
        if telemetry.grave is not None:
            return Refusal(DeclineReason.FAULT, printable(str(telemetry.grave)))
        if now.doing is Doing.FAULT or now_ns < now.wait_until_ns:
            return Refusal(DeclineReason.FAULT, "does not get on")
        if now.orphans or now.put_back is not None:
            return Refusal(DeclineReason.FAULT, "has a parcel of a lost contract")
        if len(now.tasks) + won >= now.most_tasks:
            return Refusal(DeclineReason.BUSY, f"has {len(now.tasks) + won} orders")
        soc = telemetry.battery.soc
        if now.doing is Doing.CHARGING and not now.tasks and soc is not None and soc < kind.battery.resume_soc:
            return Refusal(DeclineReason.CHARGING, f"{soc:.0%}, back at {kind.battery.resume_soc:.0%}")
        return None
