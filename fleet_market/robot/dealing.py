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
    DeclineLine,
    DeclineReason,
    Lot,
    WirePose,
    printable,
)
from fleet_market.robot.bidding import Bidder, Outlook, sealed
from fleet_market.robot.situation import Doing, Situation
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns

MAX_PAGES_KEPT = 4


class Dealer:
    """Deals for one agent.

    Parameters
    ----------
    situation : Situation
    voice : Voice
    replan : callable
        Has the robot's way planned anew, for the reason given.
    """

    def __init__(self, situation: Situation, voice: Voice, replan: Callable[[str], None]) -> None:
        config = situation.config
        self._now, self._voice, self._replan = situation, voice, replan
        self._bidder = Bidder(
            config.type, config.roadmap, config.chargers, config.tariff, situation.memory, config.surfaces
        )
        self._pages: dict[tuple[CallId, int], dict[int, Call]] = {}
        self._seen: tuple[CallId | None, dict[OrderId, Lot]] = (None, {})
        """The lots of the latest call that it was offered, in whatever round."""

    def take_page(self, page: Call, now_ns: int) -> None:
        """Take a page of a call, and answer when it is the last one missing."""
        pages = self._pages.setdefault((page.call, page.round), {})
        pages[page.page] = page
        if len(pages) == page.pages:
            del self._pages[page.call, page.round]
            if now_ns < page.close_ns:
                self._bid(page, [lot for n in sorted(pages) for lot in pages[n].lots], now_ns)
        while len(self._pages) > MAX_PAGES_KEPT:
            self._pages.pop(next(iter(self._pages)))

    def take_award(self, award: Award, now_ns: int) -> None:
        """Accept a contract, or say why not; a known one is accepted again."""
        now = self._now
        known = any(task.award.contract == award.contract for task in now.tasks)
        outlook = self._outlook(now_ns)
        refusal = None if known else self._unfit(now_ns)
        if not known and (refusal is not None or outlook is None):
            reason = "no pose" if refusal is None else f"{refusal[0]}: {refusal[1]}"
            decline = Decline(contract=award.contract, reason=reason)
            self._voice.must_say("decline", decline, now_ns, award.contract)
            return
        if not known and outlook is not None:
            try:
                appraisal = self._bidder.appraise(outlook.pose, award.pickup, award.dropoff, award.payload_kg)
            except UnreachableError as error:
                decline = Decline(contract=award.contract, reason=printable(str(error)))
                self._voice.must_say("decline", decline, now_ns, award.contract)
                return
            now.tasks.append(Task(award, appraisal))
            if len(now.tasks) == 1:
                self._replan("a task has come")
        self._voice.must_say("accept", Accept(contract=award.contract), now_ns, award.contract)

    def _bid(self, call: Call, lots: Sequence[Lot], now_ns: int) -> None:
        """Answer one round; what earlier rounds of the same call have won is in the schedule already."""
        if self._seen[0] != call.call:
            self._seen = (call.call, {})
        seen = self._seen[1]
        seen.update((lot.order, lot) for lot in lots)
        refusal = self._unfit(now_ns, won=len(call.won))
        asks: list[AskLine] = []
        declines: list[DeclineLine] = []
        outlook = self._outlook(now_ns)
        for order in call.won:
            outlook = None if outlook is None or order not in seen else self._with(outlook, seen[order])
        soc = None if self._now.telemetry is None else self._now.telemetry.battery.soc
        for number, lot in enumerate(lots):
            if refusal is not None or outlook is None or soc is None:
                reason, detail = refusal or (DeclineReason.SILENT, "no pose or state of charge")
                declines.append(DeclineLine(lot=number, reason=reason, detail=detail[:40]))
                continue
            line = self._bidder.answer(number, lot, outlook, soc)
            if isinstance(line, AskLine):
                asks.append(line)
            else:
                declines.append(line)
        at = None if outlook is None else WirePose.of(outlook.pose)
        self._voice.say("ask", sealed(call.call, call.round, at, asks, declines))

    def _with(self, outlook: Outlook, lot: Lot) -> Outlook | None:
        """Return the outlook with a lot that the robot has won but has no contract for yet."""
        try:
            return outlook.then(self._bidder.appraise(outlook.pose, lot.pickup, lot.dropoff, lot.payload_kg))
        except UnreachableError:
            return None

    def _unfit(self, now_ns: int, *, won: int = 0) -> tuple[DeclineReason, str] | None:
        """Return why the robot takes no task at all now."""
        now = self._now
        telemetry, kind = now.telemetry, now.config.type
        if telemetry is None:
            return DeclineReason.SILENT, "odom"
        if telemetry.silent or telemetry.link is not Link.UP:
            return DeclineReason.SILENT, ", ".join(telemetry.silent) or "odom"
        if now.doing is Doing.FAULT or now_ns < now.wait_until_ns:
            return DeclineReason.FAULT, "does not get on"
        if now.stranded_until_ns is not None or now.put_back is not None:
            return DeclineReason.FAULT, "has a parcel of a lost contract"
        if len(now.tasks) + won >= kind.max_tasks:
            return DeclineReason.BUSY, f"has {len(now.tasks) + won} orders"
        soc = telemetry.battery.soc
        if now.doing is Doing.CHARGING and soc is not None and soc < kind.battery.resume_soc:
            return DeclineReason.CHARGING, f"{soc:.0%}, back at {kind.battery.resume_soc:.0%}"
        return None

    def _outlook(self, now_ns: int) -> Outlook | None:
        now = self._now
        if now.telemetry is None or now.telemetry.pose is None:
            return None
        free_ns, energy_j, sd_s = now_ns, 0.0, 0.0
        for task in now.tasks:
            quote = task.appraisal.quote
            spent_ns = now_ns - task.started_ns if task.started_ns else 0
            free_ns += max(ns(quote.lasts.mean) - spent_ns, 0)
            used_j = max(0.0, (now.energy_out_j() - task.energy_at_start_j)) if task.started_ns else 0.0
            energy_j += max(quote.energy.mean - used_j, 0.0)
            sd_s += quote.lasts.sd
        end = now.tasks[-1].end if now.tasks else now.telemetry.pose
        return Outlook(end, free_ns, energy_j, sd_s)
