"""What buyers do in the town of `benchmarks._oracle_town`: without an oracle, and with one that they trust or choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks._oracle_town import Closed, Order, Town
from fleet_market.auction import LotOffer, clear
from fleet_market.errors import InputError
from fleet_market.oracle import FairQuote, Knowledge, best_time, budget
from fleet_market.oracle.demand import Worth
from fleet_market.oracle.scoring import Band, Standing, choose, judged, reference_price_uc
from fleet_market.units import ns

SURE = 0.8
"""Probability with which a buyer wants his order sold and done in time."""
LATEST_S = 120.0
"""How long a buyer would put an order off."""
WORTH_WAITING = 0.1
"""Share of the expected price that waiting must save."""


def name_naive(_town: Town, order: Order) -> None:
    """Without an oracle: the budget that past settlements tell."""
    order.budget_uc = order.naive_uc


def act_on(knowledge: Knowledge, town: Town, order: Order, quote: FairQuote) -> None:
    """Act on a quote: name a budget, put the order off, or do not post it.

    The budget is the least with which the order is sold and done in time with probability `SURE`; where the oracle cannot
    tell that, the top of the band. On a band that rests on too little nothing is done.
    """
    name_naive(town, order)
    order.quote = quote
    if quote.thin:
        return
    if quote.low_uc > order.value_uc:
        order.given_up = True
        return
    try:
        wanted_uc = budget(knowledge, order.task, SURE, town.now_ns).budget_uc
        best = best_time(knowledge, order.task, town.now_ns + ns(LATEST_S), town.now_ns)
    except InputError:
        return
    order.budget_uc = min(order.value_uc, quote.high_uc if wanted_uc is None else wanted_uc)
    if best.saving_uc > WORTH_WAITING * quote.expected_uc:
        order.post_ns = best.at_ns


def ask(knowledge: Knowledge, town: Town, order: Order) -> FairQuote | None:
    """Return the band of an order's task, None if nothing is known."""
    try:
        return knowledge.band(order.task, town.now_ns)
    except InputError:
        return None


@dataclass(slots=True)
class Consulting:
    """Some of the buyers consult an oracle that costs nothing.

    Parameters
    ----------
    knowledge : Knowledge
    who : callable
        Whether the buyer of an order does.
    """

    knowledge: Knowledge
    who: Callable[[Order], bool]

    def decide(self, town: Town, order: Order) -> None:
        """Set the budget of an order."""
        name_naive(town, order)
        if self.who(order) and (quote := ask(self.knowledge, town, order)) is not None:
            act_on(self.knowledge, town, order, quote)


@dataclass(slots=True)
class Paying:
    """A customer with several buyers, who pay for quotes as long as these have been worth their fee.

    What a quote was worth is reckoned from what everyone can see: the first batch in which the order was offered is
    cleared again with the budget that the buyer would have named without it.
    """

    knowledge: Knowledge
    who: Callable[[Order], bool]
    fee_uc: int
    trial_uc: int
    worth: Worth = field(init=False)
    bought: list[bool] = field(default_factory=list)
    """For each order of those who may buy, oldest first, whether a quote was bought."""
    _without_uc: dict[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.worth = Worth(self.trial_uc)

    def decide(self, town: Town, order: Order) -> None:
        """Buy a quote if it is worth the fee, and act on it."""
        name_naive(town, order)
        if not self.who(order):
            return
        quote = ask(self.knowledge, town, order) if self.worth.buys(self.fee_uc) else None
        self.bought.append(quote is not None)
        if quote is not None:
            order.fee_uc = self.fee_uc
            act_on(self.knowledge, town, order, quote)
            if order.given_up:
                self.worth = self.worth.after(0.0)

    def closed(self, town: Town, batch: Closed) -> None:
        """Look, in the first batch of an order, what would have been paid without the quote."""
        for order in town.open:
            if order.quote is None or order.offered != 1 or order.id in self._without_uc:
                continue
            lots = [LotOffer(lot.order, order.naive_uc) if lot.order == order.id else lot for lot in batch.lots]
            cleared = clear(lots, batch.asks, seed=batch.seed)
            price_uc = next((award.price_uc for award in cleared.awards if award.order == order.id), None)
            self._without_uc[order.id] = price_uc

    def ended(self, town: Town) -> None:
        """Learn from the orders that are over."""
        for order in town.over:
            if order.id in self._without_uc:
                price_uc = self._without_uc.pop(order.id)
                without_uc = order.surplus_uc if price_uc is None else order.value_uc - price_uc
                self.worth = self.worth.after(order.surplus_uc - without_uc)


@dataclass(slots=True)
class Choosing:
    """Buyers who choose among oracles by their scores and fees; one of these begins to lie.

    As in the market, all oracles name a band for each order for which one is bought; the others stay sealed until the order
    is settled.

    Parameters
    ----------
    liar : str
        Whose bands are multiplied by ``1 + bias`` from the quote number `lies_from` on.
    scatter : float
        Standard deviation of the logarithm of an error of its own that each oracle makes with each band: without, two that
        are honest would be one and the same.
    """

    knowledge: Knowledge
    rng: np.random.Generator
    fees_uc: dict[str, int]
    liar: str
    bias: float
    lies_from: int
    scatter: float = 0.0
    standings: dict[str, Standing] = field(default_factory=dict)
    sold: list[str] = field(default_factory=list)
    """Who sold each quote, oldest first."""
    _bands: dict[str, dict[str, Band]] = field(default_factory=dict)

    def decide(self, town: Town, order: Order) -> None:
        """Buy a quote of one of the oracles and act on it."""
        name_naive(town, order)
        quote = ask(self.knowledge, town, order)
        chosen = choose(self.fees_uc, self.standings, order.value_uc, float(self.rng.random()))
        if quote is None or quote.thin or chosen is None:
            return
        order.oracle, order.fee_uc = chosen, self.fees_uc[chosen]
        told = {name: self._told(name, quote) for name in sorted(self.fees_uc)}
        self._bands[order.id] = {name: Band(q.low_uc, q.high_uc, q.confidence) for name, q in told.items()}
        self.sold.append(chosen)
        order.quote = told[chosen]
        order.budget_uc = min(order.value_uc, order.quote.high_uc)

    def settled(self, _town: Town, order: Order) -> None:
        """Judge the bands by the closed batch in which the order was sold."""
        reference_uc, bands = reference_price_uc(order.rivals, order.winner), self._bands.pop(order.id, None)
        if bands is None or reference_uc is None:
            return
        found = judged(self.standings, bands, reference_uc, order.value_uc)
        self.standings |= {name: standing for name, (_, standing) in found.items()}

    def _told(self, name: str, quote: FairQuote) -> FairQuote:
        factor = float(np.exp(self.scatter * self.rng.standard_normal()))
        if name == self.liar and len(self.sold) >= self.lies_from:
            factor *= 1 + self.bias
        low_uc, expected_uc, high_uc = (round(factor * uc) for uc in (quote.low_uc, quote.expected_uc, quote.high_uc))
        return replace(quote, low_uc=low_uc, expected_uc=expected_uc, high_uc=high_uc)
