"""The fair band of a cleared lot, from the closed batch with all its asks.

In the assignment game the prices at which nobody wants to trade otherwise form an interval for each lot (Shapley and
Shubik 1971): from what the buyers' side could push it down to, to what the sellers' side could push it up to. Its ends
follow from welfare differences (Demange 1982, Leonard 1983):

* low = budget - handicap - (W(all) - W(without the lot)),
* high = ask + (W(all) - W(without the robot)).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fleet_market.auction.clearing import LotOffer, SealedAsk
from fleet_market.auction.matching import Edges, Matching
from fleet_market.ids import OrderId


@dataclass(frozen=True, slots=True)
class FairBand:
    """What one lot is worth to the whole market, micro-credits."""

    order: OrderId
    low_uc: int
    high_uc: int
    second_best_ask_uc: int | None
    """The lowest ask but one for this lot, whoever made it."""
    optimum_uc: int
    """Welfare of the batch at the best assignment of all asks."""

    @property
    def fair_uc(self) -> int:
        """The middle of the band, which shares what the trade gains evenly: the fair division point of Thompson (1981).

        Where we speak of *the* full-information price of a lot, it is this.
        """
        return (self.low_uc + self.high_uc) // 2


def fair_bands(lots: Sequence[LotOffer], asks: Sequence[SealedAsk]) -> list[FairBand]:
    """Return the band of every lot that the optimum of the batch would sell, in the order of `lots`.

    Parameters
    ----------
    lots : sequence of LotOffer
        Orders of the closed batch with their budgets.
    asks : sequence of SealedAsk
        All asks of the batch.
    """
    robots = sorted({ask.robot for ask in asks})
    row = {robot: i for i, robot in enumerate(robots)}
    column = {lot.order: i for i, lot in enumerate(lots)}
    unit = min(len(robots), len(lots)) + 1
    rows: list[Edges] = [[] for _ in robots]
    asked: defaultdict[OrderId, list[int]] = defaultdict(list)
    ask_of: dict[tuple[int, int], SealedAsk] = {}
    for ask in asks:
        r, c = row[ask.robot], column[ask.order]
        asked[ask.order].append(ask.ask_uc)
        ask_of[r, c] = ask
        if (gain := lots[c].budget_uc - ask.score_uc) >= 0:
            rows[r].append((c, unit * gain + 1))
    matching = Matching(rows, len(lots))
    pairs = sorted(matching.pairs(), key=lambda pair: pair[1])
    optimum_uc = sum(lots[c].budget_uc - ask_of[r, c].score_uc for r, c in pairs)
    matching.raise_prices()
    lows = {c: lots[c].budget_uc - ask_of[r, c].handicap_uc - matching.price[c] // unit for r, c in pairs}
    matching.lower_prices()
    bands = []
    for r, c in pairs:
        low, high = lows[c], ask_of[r, c].ask_uc + matching.utility[r] // unit
        competing = sorted(asked[lots[c].order])
        second = competing[1] if len(competing) > 1 else None
        bands.append(FairBand(lots[c].order, min(low, high), max(low, high), second, optimum_uc))
    return bands
