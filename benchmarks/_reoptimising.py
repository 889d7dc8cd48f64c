"""Bidding software that spends whatever is left to spend: it plans its whole queue anew for every lot, again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from fleet_market.ids import OrderId
from fleet_market.robot.bidding import Bidder, Offer, Refusal
from fleet_market.robot.memory import Memory
from fleet_market.robot.pricing import Drive, QueuePrice, halts_of
from fleet_market.robot.queue import Errand, Queue, Visit
from fleet_market.robot.situation import AgentConfig

SHAKES = 5
"""It gives up when so many random changes in a row have led to nothing better."""
SHAKEN = 2
"""Errands that such a change takes out and puts back elsewhere."""


class ReoptimisingBidder(Bidder):
    """The product's own software, `Bidder`, with the whole order of visits searched anew for every answer.

    Beginning with what `Bidder` would do, each errand in turn is taken out of the queue and put where it costs least; then
    some are moved at random and the same is done again, until nothing better is found or the time is over.

    Parameters
    ----------
    config : AgentConfig
    budget_s : float
        CPU time that one batch may take, seconds; `new_batch` begins it anew.
    seed : int
    """

    def __init__(self, config: AgentConfig, budget_s: float, seed: int) -> None:
        memory = Memory(config.type)
        super().__init__(config.type, config.roadmap, config.chargers, config.tariff, memory, config.surfaces)
        self._type = config.type
        self._budget_s, self._rng = budget_s, random.Random(seed)
        self._until_s = 0.0
        self.cut_off = 0
        """Searches that the end of the budget has ended."""

    def new_batch(self) -> None:
        """Begin a new budget."""
        self._until_s = time.process_time() + self._budget_s

    def asks(self, lots: Sequence[Errand], given: Queue, without: Collection[OrderId] = ()) -> list[Offer | Refusal]:
        """Return what the robot asks for each of some lots alone, or why it does not."""
        queue = self.best(given.without(without))
        base = self.cost(queue)
        offers = super().asks(lots, queue)
        for i, (lot, offer) in enumerate(zip(lots, offers, strict=True)):
            if isinstance(offer, Offer):
                drive = self.drive(self.best(offer.queue))
                better = self._judged(lot, base, drive, self._pricer.prices([drive])[0])
                if isinstance(better, Offer) and better.ask_uc < offer.ask_uc:
                    offers[i] = better
        return offers

    def taken(self, lot: Errand, queue: Queue) -> Queue:
        """Return the best queue found with a lot that the robot has won."""
        return self.best(super().taken(lot, queue))

    def best(self, queue: Queue) -> Queue:
        """Return the cheapest order of visits that is found."""
        found, price = self._settled(queue, self._driven([queue])[0])
        movable = [errand for errand in queue.errands if errand.order not in queue.fixed()]
        idle = 0 if len(movable) > 1 else SHAKES
        while idle < SHAKES and self._in_time():
            shaken = found
            for errand in self._rng.sample(movable, min(SHAKEN, len(movable))):
                shaken = self._rng.choice(self._possible(shaken, errand))
            other, cost = self._settled(shaken, self._driven([shaken])[0])
            if self._better(queue, cost, price):
                found, price, idle = other, cost, 0
            else:
                idle += 1
        return found

    def _settled(self, queue: Queue, price: QueuePrice) -> tuple[Queue, QueuePrice]:
        """Return the queue when no errand can be moved to advantage any more."""
        gained = True
        while gained:
            gained = False
            for errand in queue.errands:
                if errand.order in queue.fixed() or not self._in_time():
                    continue
                others = self._possible(queue, errand)
                prices = self._driven(others)
                at = min(range(len(others)), key=lambda i: (prices[i].total_uc, i))
                if self._better(queue, prices[at], price):
                    queue, price, gained = others[at], prices[at], True
        return queue, price

    def _driven(self, queues: Sequence[Queue]) -> list[QueuePrice]:
        """Return what some queues cost without charging stops; with these only what is asked in the end is priced."""
        return self._pricer.prices([Drive(queue, halts_of(queue)) for queue in queues])

    def _possible(self, queue: Queue, errand: Errand) -> list[Queue]:
        """Return the queue with an errand at each place where no more is aboard than the robot may carry."""
        return [other for other in _places(queue, errand) if self._fits(other)] or [queue]

    def _fits(self, queue: Queue) -> bool:
        aboard = {errand.order: errand.payload_kg for errand in queue.errands if errand.pickup is None}
        for visit in queue.visits:
            if not visit.pickup:
                del aboard[visit.order]
                continue
            aboard[visit.order] = queue.errand(visit.order).payload_kg
            if len(aboard) > self._type.parcels or sum(aboard.values()) > self._type.max_payload_kg:
                return False
        return True

    def _better(self, queue: Queue, price: QueuePrice, than: QueuePrice) -> bool:
        """Return whether a price is lower, and no order late for it that was not."""
        if price.total_uc >= than.total_uc:
            return False
        return all(
            price.drop_s[e.order] <= max(than.drop_s[e.order], (e.deadline_ns - queue.now_ns) / 1e9) or e.lateness_uc_per_h
            for e in queue.errands
        )

    def _in_time(self) -> bool:
        left = time.process_time() < self._until_s
        self.cut_off += not left
        return left


def _places(queue: Queue, errand: Errand) -> Iterator[Queue]:
    """Yield the queue with an errand at each of its possible places."""
    rest = tuple(visit for visit in queue.visits if visit.order != errand.order)
    pickup, dropoff = Visit(errand.order, pickup=True), Visit(errand.order, pickup=False)
    for i in range(queue.locked, len(rest) + 1):
        if errand.pickup is None:
            yield replace(queue, visits=(*rest[:i], dropoff, *rest[i:]))
            continue
        for j in range(i, len(rest) + 1):
            yield replace(queue, visits=(*rest[:i], pickup, *rest[i:j], dropoff, *rest[j:]))
