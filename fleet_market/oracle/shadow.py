"""The market as it stands, by the cost model, and what one more task would be worth in it.

All lots on sale and all robots that would ask are matched at the greatest welfare. A further task is put in by one search
for the shortest augmenting path over the dual prices, without solving anew. Its competitive prices form an interval
(Shapley and Shubik 1971, see `fleet_market.oracle.bands`):

* low: what the welfare of all others falls by if it is served: the best robot's cost and whom it is taken away from;
* high: what the best robot could get before the task goes to the next best way of serving it.

The task itself enters with a budget above everything else, so that neither end depends on what anybody hopes to pay.
The same duals follow from the linear program of the batch; the tests compare them with HiGHS (Huangfu and Hall 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_market.auction.matching import FREE, Edges, Matching

RESERVE_UC = 10**18
"""Budget of the task in question: above the sum of any thousand others."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """Competitive prices of one more task, micro-credits."""

    low_uc: int
    high_uc: int | None
    """None: nobody else could serve it, whatever it pays."""
    row: int
    """Robot that would do it."""


class LiveMarket:
    """Lots on sale and robots that would ask, matched.

    Parameters
    ----------
    robots : int
    costs : sequence of Edges
        For each lot (robot, cost in micro-credits).
    budgets_uc : sequence of int
        Of each lot.
    """

    def __init__(self, robots: int, costs: Sequence[Edges], budgets_uc: Sequence[int]) -> None:
        rows: list[Edges] = [[] for _ in range(robots)]
        for lot, (edges, budget_uc) in enumerate(zip(costs, budgets_uc, strict=True)):
            for row, weight in _weighted(edges, budget_uc):
                rows[row].append((lot, weight))
        self._matching = Matching(rows, len(costs))

    def add(self, costs: Edges, budget_uc: int) -> int:
        """Put a lot into the market for good; return its number."""
        return self._matching.add_lot(_weighted(costs, budget_uc))[0]

    def remove(self, lot: int) -> None:
        """Take a lot out for good."""
        self._matching.remove_lot(lot)

    def shadow(self, costs: Edges, *, instead_of: int | None = None) -> Shadow | None:
        """Return the prices of one more task, None if nobody can do it; the market stays as it is.

        Parameters
        ----------
        costs : Edges
            (robot, cost in micro-credits) of those who could do it.
        instead_of : int, optional
            Lot that is this very task: it is not to compete with itself.
        """
        if not costs:
            return None
        probe = self._matching.copy()
        if instead_of is not None:
            probe.remove_lot(instead_of)
        lot, gain = probe.add_lot(_weighted(costs, RESERVE_UC))
        row = probe.row_of[lot]
        if row == FREE:
            return None
        low_uc = RESERVE_UC + 1 - gain
        high_uc = dict(costs)[row] + probe.loss_without([row])
        return Shadow(low_uc, max(low_uc, high_uc) if high_uc < RESERVE_UC // 2 else None, row)


def _weighted(costs: Edges, budget_uc: int) -> Edges:
    """Return the gains of the pairs that gain, each and 1 more: a trade that gains nothing still serves a customer."""
    return [(row, budget_uc - cost + 1) for row, cost in costs if cost <= budget_uc]
