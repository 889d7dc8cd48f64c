"""A robot's side of re-auctions: what it saves by losing contracts, what it asks for others, and how it lets go of one.

What it says is true: the saving is by how much its whole queue grows cheaper, lateness included; an ask is by how much the
queue without its own contracts on sale grows dearer. A contract that it has agreed to let go of is frozen: it goes nowhere
for it until the market says that it is sold or that it stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fleet_market.errors import UnreachableError
from fleet_market.ids import CallId, ContractId, OrderId
from fleet_market.protocol.messages import (
    MAX_BUNDLE,
    MAX_PRICE_UC,
    AskLine,
    Keep,
    Offer,
    Prepare,
    Prepared,
    Reauction,
    ResaleAsk,
)
from fleet_market.robot.advice import Adviser
from fleet_market.robot.bidding import Bidder, line_of
from fleet_market.robot.dealing import NOWHERE, Dealer
from fleet_market.robot.pricing import lateness_uc
from fleet_market.robot.queue import Errand, Queue
from fleet_market.robot.situation import Doing, Situation
from fleet_market.robot.tasks import Task
from fleet_market.robot.voice import Voice
from fleet_market.units import ns


class Reseller:
    """Trades contracts with other robots for one agent.

    Parameters
    ----------
    situation : Situation
    voice : Voice
    bidder : Bidder
    dealer : Dealer
        Knows whether the robot takes orders at all.
    """

    def __init__(self, situation: Situation, voice: Voice, bidder: Bidder, dealer: Dealer) -> None:
        self._now, self._voice, self._bidder, self._dealer = situation, voice, bidder, dealer
        self.adviser = Adviser(situation.config.consult, situation.config.robot, situation.config.session, voice)
        self._seen: tuple[CallId | None, dict[OrderId, Errand]] = (None, {})
        """The lots of the latest re-auction, in whatever round."""
        self._offered: set[ContractId] = set()

    def answer(self, body: Reauction, now_ns: int) -> None:
        """Answer one round of a re-auction."""
        if now_ns >= body.close_ns:
            return
        if self._seen[0] != body.call:
            self._seen = (body.call, {})
        lots = [Errand.of(lot) for lot in body.lots]
        self._seen[1].update((lot.order, lot) for lot in lots)
        own = self._free(body.own)
        given, queue = [] if own is None else own, self._now.queue(now_ns)
        rest = None if queue is None else self._with(body.won, queue.without([task.order for task in given]))
        refusal = self._dealer.unwilling() or self._dealer.unfit(now_ns, won=len(body.won) - len(given))
        if refusal is None and rest is not None:
            answers = self._bidder.asks(lots, rest)
        else:
            answers = [refusal or NOWHERE] * len(lots)
        lines = [line_of(number, answer) for number, answer in enumerate(answers)]
        reply = ResaleAsk(
            call=body.call,
            round=body.round,
            saving_uc=None if queue is None or not given else self._saving_uc(queue, given),
            asks=tuple(line for line in lines if isinstance(line, AskLine)),
            declines=tuple(line for line in lines if not isinstance(line, AskLine)),
        )
        self._voice.say("resale", reply)

    def let_go(self, body: Prepare, now_ns: int) -> None:
        """Freeze contracts for which somebody else has been found; refuse if any of them has begun."""
        frozen = self._now.frozen
        agreed = all(name in frozen and frozen[name][0] == body.call for name in body.contracts)
        if not agreed and self._free(body.contracts) is not None:
            frozen.update((name, (body.call, now_ns)) for name in body.contracts)
            agreed = True
        answer = Prepared(call=body.call, contracts=body.contracts, agreed=agreed)
        self._voice.must_say("prepared", answer, now_ns, body.call)

    def keep(self, body: Keep) -> None:
        """Have back what was frozen for a re-auction."""
        frozen = self._now.frozen
        for name in [name for name, (call, _) in frozen.items() if call == body.call]:
            del frozen[name]

    def offer(self, now_ns: int) -> None:
        """Offer what the robot cannot do now, and what costs it more than it is paid for it, or than it costs others."""
        now, queue = self._now, self._now.queue(now_ns)
        tasks = [task for task in now.tasks if now.is_free(task)]
        if queue is None or not tasks:
            return
        self.consider(now_ns)
        if now.doing is not Doing.FAULT:
            tasks = [task for task in tasks if (self._saving_uc(queue, [task]) or 0) > self._worth_uc(task, now_ns)]
        names = tuple(task.award.contract for task in tasks)[:MAX_BUNDLE]
        if names and set(names) != self._offered:
            self._voice.say("offer", Offer(contracts=names))
        self._offered = set(names)

    def consider(self, now_ns: int) -> None:
        """Ask an oracle about contracts of which nothing is known, if it is to ask one."""
        self.adviser.consider([task for task in self._now.tasks if self._now.is_free(task)], now_ns)

    def _worth_uc(self, task: Task, now_ns: int) -> int:
        """Return what a contract may cost the robot before it offers it: its price, or what others are thought to take."""
        others_uc = self.adviser.others_uc(task.order, now_ns)
        return task.award.price_uc if others_uc is None else min(task.award.price_uc, others_uc)

    def _free(self, names: Iterable[ContractId]) -> list[Task] | None:
        """Return the tasks of some contracts; None if it does not hold all of them, or one is not to be had."""
        held = {task.award.contract: task for task in self._now.tasks}
        tasks = [held.get(name) for name in names]
        free = [task for task in tasks if task is not None and self._now.is_free(task)]
        return free if len(free) == len(tasks) else None

    def _with(self, won: Iterable[OrderId], queue: Queue) -> Queue | None:
        """Return the queue with lots that the robot has won in earlier rounds."""
        for order in won:
            if (lot := self._seen[1].get(order)) is None:
                return None
            if any(errand.order == order for errand in queue.errands):
                continue
            try:
                queue = self._bidder.taken(lot, queue)
            except UnreachableError:
                return None
        return queue

    def _saving_uc(self, queue: Queue, given: Sequence[Task]) -> int | None:
        """Return by how much the queue grows cheaper without some tasks, and what their lateness would cost the robot.

        Lateness of a task counts from where the robot's price for it falls: when it promised to be done, or the deadline.
        """
        orders = [task.order for task in given]
        try:
            full, rest = self._bidder.cost(queue), self._bidder.cost(queue.without(orders))
        except UnreachableError:
            return None
        late_uc = sum(uc for order, uc in full.lateness_uc.items() if order not in orders)
        for task in given:
            due = replace(task.errand, deadline_ns=task.award.due_ns or task.award.deadline_ns)
            late_uc += lateness_uc(due, queue.now_ns + ns(full.drop_s[task.order]))
        return min(MAX_PRICE_UC, max(0, sum(full.parts_uc) + late_uc - rest.total_uc))
