"""The fair band of a cleared lot, from the closed batch with all its asks.

In the assignment game the prices at which nobody wants to trade otherwise form an interval for each lot (Shapley and
Shubik 1971): from what the buyers' side could push it down to, to what the sellers' side could push it up to. Its ends
follow from welfare differences (Demange 1982, Leonard 1983):

* low = budget - (W(all) - W(without the lot)),
* high = ask + (W(all) - W(without the robot)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet_market.auction.assignment import NO_ASK, best_assignment
from fleet_market.auction.clearing import LotOffer, SealedAsk
from fleet_market.ids import OrderId, RobotId


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
    gain_uc = np.full((len(robots), len(lots)), NO_ASK, dtype=np.int64)
    ask_of: dict[tuple[RobotId, OrderId], int] = {}
    for ask in asks:
        ask_of[ask.robot, ask.order] = ask.ask_uc
        gain = lots[column[ask.order]].budget_uc - ask.ask_uc
        gain_uc[row[ask.robot], column[ask.order]] = gain if gain >= 0 else NO_ASK
    optimum_uc, pairs = best_assignment(gain_uc)
    bands = []
    for r, c in sorted(pairs, key=lambda pair: pair[1]):
        lot, robot = lots[c], robots[r]
        without_lot = best_assignment(np.delete(gain_uc, c, axis=1))[0]
        without_robot = best_assignment(np.delete(gain_uc, r, axis=0))[0]
        low = lot.budget_uc - (optimum_uc - without_lot)
        high = ask_of[robot, lot.order] + (optimum_uc - without_robot)
        competing = sorted(a.ask_uc for a in asks if a.order == lot.order)
        second = competing[1] if len(competing) > 1 else None
        bands.append(FairBand(lot.order, min(low, high), max(low, high), second, optimum_uc))
    return bands
