"""The matching of greatest weight between robots and the few lots that each asks for, with the prices that support it.

Shortest augmenting paths over reduced costs (Jonker and Volgenant 1987, kept sparse): robots enter one after the other, and
each search ends at the first place where a path can end, so that it stays near where it began. All numbers are Python's own
integers: exact at any size, and the same on every machine.

Prices and utilities are the dual of the assignment problem (Shapley and Shubik 1971): `price[l] + utility[r]` is at least
the weight of (r, l) everywhere and equal to it where `r` has `l`; what is not matched has 0. One pass of Dijkstra's
algorithm turns them into the lowest prices or the highest ones (Leonard 1983, Demange 1982); what an owner adds to the
total follows from taking its robots out and giving their lots, one by one, to whom they then go best.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import TypeAlias

Edges: TypeAlias = list[tuple[int, int]]
"""(partner, weight), each partner once, weights above 0."""

FREE = -1
ANEW_SHARE = 4
"""Without an owner of more than a quarter of the robots, matching the others anew is quicker than giving lots back."""


class Matching:
    """Robots (rows) matched with lots (columns) at the greatest sum of weights.

    Parameters
    ----------
    rows : sequence of Edges
        For each robot its lots and their weights. Of matchings of equal weight one is found that depends on the order of
        rows and of edges, and on nothing else.
    columns : int
        Number of lots.
    """

    def __init__(self, rows: Sequence[Edges], columns: int) -> None:
        self._rows = list(rows)
        self._by_lot: list[Edges] = [[] for _ in range(columns)]
        for row, edges in enumerate(rows):
            for lot, weight in edges:
                self._by_lot[lot].append((row, weight))
        self.lot_of = [FREE] * len(rows)
        self.row_of = [FREE] * columns
        self.price = [0] * columns
        self.utility = [0] * len(rows)
        for row in range(len(rows)):
            self._enter(row)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the matched (row, lot), by row."""
        return [(row, lot) for row, lot in enumerate(self.lot_of) if lot != FREE]

    def total(self) -> int:
        """Return the sum of the weights of the matched pairs."""
        return sum(self.weight(row, lot) for row, lot in self.pairs())

    def weight(self, row: int, lot: int) -> int:
        """Return the weight of a pair; raises `KeyError` if the two may not be paired."""
        return dict(self._rows[row])[lot]

    # --- one lot more or less --------------------------------------------------------------------------------------------

    def copy(self) -> Matching:
        """Return a matching that can be changed without this one."""
        other = Matching((), 0)
        other._rows, other._by_lot = list(self._rows), list(self._by_lot)
        other.lot_of, other.row_of = self.lot_of.copy(), self.row_of.copy()
        other.price, other.utility = self.price.copy(), self.utility.copy()
        return other

    def add_lot(self, edges: Edges) -> tuple[int, int]:
        """Put one more lot into the market; return its number and what the total gains by it.

        Parameters
        ----------
        edges : Edges
            (row, weight) of the robots that can do it, each once.
        """
        lot = len(self.price)
        for row, weight in edges:
            self._rows[row] = [*self._rows[row], (lot, weight)]
        self._by_lot.append(list(edges))
        self.row_of.append(FREE)
        self.price.append(max((weight - self.utility[row] for row, weight in edges), default=0))
        self.price[lot] = max(0, self.price[lot])
        return lot, self._offer(lot, frozenset())

    def remove_lot(self, lot: int) -> int:
        """Take a lot out of the market; return what the total loses by it. Its number stays, and nobody can have it."""
        row = self.row_of[lot]
        before = self.price[lot] + (self.utility[row] if row != FREE else 0)
        for other, _ in self._by_lot[lot]:
            self._rows[other] = [edge for edge in self._rows[other] if edge[0] != lot]
        self._by_lot[lot] = []
        self.price[lot], self.row_of[lot] = 0, FREE
        if row == FREE:
            return 0
        self.lot_of[row] = FREE
        others = sum(self.price) + sum(self.utility) - self.utility[row]
        self._enter(row)
        return before - (sum(self.price) + sum(self.utility) - others)

    # --- the greatest weight ---------------------------------------------------------------------------------------------

    def _enter(self, row: int) -> None:
        """Let a robot in: match it along the shortest augmenting path, or leave it out."""
        price, utility = self.price, self.utility
        best, best_lot = 0, FREE
        for lot, weight in self._rows[row]:
            gain = weight - price[lot]
            if gain > best or (gain == best and best > 0 and self.row_of[best_lot] != FREE and self.row_of[lot] == FREE):
                best, best_lot = gain, lot
        utility[row] = best
        if best == 0:
            return
        if self.row_of[best_lot] == FREE:
            self.lot_of[row], self.row_of[best_lot] = best_lot, row
            return
        self._augment_from(row)

    def _augment_from(self, row: int) -> None:
        price, utility, row_of = self.price, self.utility, self.row_of
        bound, end, end_is_free = utility[row], FREE, False  # a path may end by leaving `row` itself out
        reached: dict[int, int] = {}
        came: dict[int, int] = {}
        done: list[tuple[int, int]] = []
        heap: list[tuple[int, int]] = []
        at, so_far = row, 0
        while True:
            offset = so_far + utility[at]
            for lot, weight in self._rows[at]:
                distance = offset + price[lot] - weight
                if distance < bound and distance < reached.get(lot, bound):
                    reached[lot], came[lot] = distance, at
                    if row_of[lot] == FREE:
                        bound, end, end_is_free = distance, lot, True
                    else:
                        heappush(heap, (distance, lot))
            so_far, lot = _nearest(heap, reached)
            if lot == FREE or so_far >= bound:
                break
            at = row_of[lot]
            done.append((so_far, lot))
            if so_far + utility[at] < bound:
                bound, end, end_is_free = so_far + utility[at], lot, False
        utility[row] -= bound
        for distance, lot in done:
            if distance < bound:
                price[lot] += bound - distance
                utility[row_of[lot]] -= bound - distance
        if end == FREE:
            return
        if not end_is_free:
            self.lot_of[row_of[end]] = FREE
        self._shift(row, end, came)

    def _shift(self, row: int, lot: int, came: dict[int, int]) -> None:
        """Give every lot on the path that ends with `lot` to the robot before it."""
        while True:
            taker = came[lot]
            before = self.lot_of[taker]
            self.lot_of[taker], self.row_of[lot] = lot, taker
            if taker == row:
                return
            lot = before

    # --- prices ----------------------------------------------------------------------------------------------------------

    def lower_prices(self) -> None:
        """Make the prices the lowest that support the matching.

        A robot's utility is then what the total would lose without that robot.
        """
        price, utility = self.price, self.utility
        slack = {lot: price[lot] for lot, row in enumerate(self.row_of) if row != FREE}
        for row, edges in enumerate(self._rows):
            if self.lot_of[row] == FREE:
                for lot, weight in edges:
                    if lot in slack:
                        slack[lot] = min(slack[lot], price[lot] - weight)
        heap = sorted((distance, lot) for lot, distance in slack.items())
        while (found := _nearest(heap, slack))[1] != FREE:
            distance, lot = found
            row = self.row_of[lot]
            offset = distance + utility[row]
            for other, weight in self._rows[row]:
                further = offset + price[other] - weight
                if further < slack.get(other, 0):
                    slack[other] = further
                    heappush(heap, (further, other))
        for lot, excess in slack.items():
            price[lot] -= excess
            utility[self.row_of[lot]] += excess

    def raise_prices(self) -> None:
        """Make the prices the highest that support the matching.

        A lot's price is then what the total would lose without that lot.
        """
        price, utility = self.price, self.utility
        slack = {row: utility[row] for row, lot in enumerate(self.lot_of) if lot != FREE}
        for row, excess in slack.items():
            free = (excess - weight for lot, weight in self._rows[row] if self.row_of[lot] == FREE)
            slack[row] = min([excess, *free])
        heap = sorted((distance, row) for row, distance in slack.items())
        while (found := _nearest(heap, slack))[1] != FREE:
            distance, row = found
            lot = self.lot_of[row]
            offset = distance + price[lot]
            for other, weight in self._by_lot[lot]:
                further = offset + utility[other] - weight
                if further < slack.get(other, 0):
                    slack[other] = further
                    heappush(heap, (further, other))
        for row, excess in slack.items():
            utility[row] -= excess
            price[self.lot_of[row]] += excess

    # --- without an owner ------------------------------------------------------------------------------------------------

    def loss_without(self, rows: Collection[int]) -> int:
        """Return by how much the total would be smaller without these robots; the matching stays as it is."""
        kept = (self.lot_of, self.row_of, self.price, self.utility)
        gone = frozenset(rows)
        left = [(row, self.lot_of[row]) for row in sorted(gone) if self.lot_of[row] != FREE]
        loss = sum(self.weight(row, lot) for row, lot in left)
        if len(gone) * ANEW_SHARE > len(self._rows):
            others = Matching([[] if row in gone else edges for row, edges in enumerate(self._rows)], len(self.price))
            return self.total() - others.total()
        if len(left) > 1 or len(gone) > len(left):
            self.lot_of, self.row_of, self.price, self.utility = (list(part) for part in kept)
            for row, lot in left:
                self.lot_of[row] = self.row_of[lot] = FREE
            loss -= sum(self._offer(lot, gone) for _, lot in left)
            self.lot_of, self.row_of, self.price, self.utility = kept
            return loss
        return loss - sum(self._regain(lot, gone)[0] for _, lot in left)

    def _offer(self, lot: int, gone: frozenset[int]) -> int:
        """Put a lot back into the market without the robots `gone`; return what the total gains by it."""
        gain, path, done = self._regain(lot, gone)
        short = self.price[lot] - gain
        for distance, scanned in done:
            if distance < short:
                self.price[scanned] -= short - distance
                if (row := self.row_of[scanned]) != FREE:
                    self.utility[row] += short - distance
        for given, row in path:
            if row == FREE:
                self.row_of[given] = FREE
            else:
                self.lot_of[row], self.row_of[given] = given, row
        return gain

    def _regain(self, start: int, gone: frozenset[int]) -> tuple[int, Edges, list[tuple[int, int]]]:
        """Return the gain from giving `start` to whom it goes best, who then has which lot, and the lots looked at."""
        price, utility = self.price, self.utility
        bound, end, taker = price[start], start, FREE  # a path may end by leaving a lot unsold
        reached, came = {start: 0}, dict[int, tuple[int, int]]()
        done: list[tuple[int, int]] = []
        heap = [(0, start)]
        while True:
            so_far, lot = _nearest(heap, reached)
            if lot == FREE or so_far >= bound:
                break
            done.append((so_far, lot))
            if so_far + price[lot] < bound:
                bound, end, taker = so_far + price[lot], lot, FREE
            offset = so_far + price[lot]
            for row, weight in self._by_lot[lot]:
                distance = offset + utility[row] - weight
                if distance >= bound or row in gone:
                    continue
                mine = self.lot_of[row]
                if mine == FREE:
                    bound, end, taker = distance, lot, row
                elif distance < reached.get(mine, bound):
                    reached[mine], came[mine] = distance, (lot, row)
                    heappush(heap, (distance, mine))
        path = [(end, taker)]
        while path[-1][0] != start:
            path.append(came[path[-1][0]])
        return price[start] - bound, path, done


def _nearest(heap: list[tuple[int, int]], reached: dict[int, int]) -> tuple[int, int]:
    """Take the nearest node off the heap, passing over those reached at less since; (0, FREE) when there is none."""
    while heap:
        distance, node = heappop(heap)
        if reached[node] == distance:
            return distance, node
    return 0, FREE
