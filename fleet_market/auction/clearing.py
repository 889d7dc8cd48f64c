"""Clear one sealed round: who gets which lot, and what he is paid.

Every robot takes at most one lot of a round. What a pair gains is the buyer's budget less the robot's ask and less the
pair's handicap: what the buyer expects to lose by this robot beside the price (expected damage, cost of lateness). Ranking
by ask and handicap together is a scoring auction (Che 1993); the handicap does not depend on the ask, so that payments
stay truthful in the ask.

With the default mechanism each owner is paid what its robots asked plus what its presence adds to the welfare of the round,
W(all) - W(without the owner) (Clarke 1971, Groves 1973). The buyers' budgets act as reserves, so that

* no robot is paid less than it asked (individual rationality),
* no buyer pays more than the budget less the handicap, and each pays exactly what the robot gets: there is no deficit,
* no owner gains by misreporting what its robots cost, as long as it is one registered owner and the round stands alone.

Thresholds per robot instead of per owner would let an owner of several robots gain by withholding one. What no rule can
do at the same time is to stop buyers from shading their budgets (Myerson and Satterthwaite 1983).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleet_market.auction.matching import Edges, Matching
from fleet_market.ids import OrderId, OwnerId, RobotId


class Mechanism(StrEnum):
    """How a round is cleared; `docs/decisions/0001-clearing.md` says what each promises."""

    VCG = "vcg"
    """Greatest welfare, Clarke payments per owner."""
    FIRST_PRICE = "first_price"
    """Greatest welfare by what was asked; every robot is paid its ask."""
    SECOND_PRICE = "second_price"
    """Greatest welfare by what was asked; paid is another owner's next ask for the same lot, the reserve without one."""
    SSI = "ssi"
    """Sequential single-item auctions (Koenig et al. 2006): lowest ask first, one lot per robot and round, paid its ask."""


@dataclass(frozen=True, slots=True)
class LotOffer:
    """One lot of the round and the most that its buyer pays."""

    order: OrderId
    budget_uc: int


@dataclass(frozen=True, slots=True)
class SealedAsk:
    """What one robot asks for one lot."""

    robot: RobotId
    owner: OwnerId
    order: OrderId
    ask_uc: int
    handicap_uc: int = 0
    """What the buyer expects to lose by this robot beside the price, at least 0."""

    @property
    def score_uc(self) -> int:
        """What this ask costs the buyer in all."""
        return self.ask_uc + self.handicap_uc


@dataclass(frozen=True, slots=True)
class LotAward:
    """A lot that was sold."""

    order: OrderId
    robot: RobotId
    owner: OwnerId
    ask_uc: int
    price_uc: int
    handicap_uc: int = 0


@dataclass(frozen=True, slots=True)
class Clearing:
    """The result of one round."""

    awards: tuple[LotAward, ...]
    """In the order of the lots."""
    welfare_uc: int
    """Sum over the awards of budget less ask and handicap."""
    welfare_without_uc: dict[OwnerId, int]
    """Welfare of the round without each winning owner: what its payment is computed from; empty but for VCG."""
    seed: str
    """Draw that broke the ties."""


def clear(
    lots: Sequence[LotOffer], asks: Sequence[SealedAsk], *, seed: str, mechanism: Mechanism = Mechanism.VCG
) -> Clearing:
    """Return who gets which lot, and the payments.

    Parameters
    ----------
    lots : sequence of LotOffer
        Orders of the round, each once.
    asks : sequence of SealedAsk
        Any number per robot, at most one per robot and lot; an ask above the budget cannot win.
    seed : str
        Settles ties: robots and lots are taken in the order of SHA-256(seed, name).
    mechanism : Mechanism

    Raises
    ------
    ValueError
        If an order occurs twice among the lots, an ask names an order that is no lot or repeats a pair, a robot has two
        owners, or an ask or a handicap is below 0.
    """
    book = _Book(lots, asks, seed)
    if mechanism is Mechanism.SSI:
        won = book.lowest_first()
        return book.result(won, {ask.robot: ask.ask_uc for ask in won}, {})
    matching = Matching(book.weighted(), len(lots))
    won = [book.ask(r, c) for r, c in matching.pairs()]
    match mechanism:
        case Mechanism.VCG:
            matching.lower_prices()
            added = {owner: matching.loss_without(rows) // book.unit for owner, rows in book.rows_of(won).items()}
            welfare_uc = book.welfare(won)
            shares = book.shares(won, added)
            prices = {ask.robot: ask.ask_uc + shares[ask.robot] for ask in won}
            return book.result(won, prices, {owner: welfare_uc - more for owner, more in added.items()})
        case Mechanism.SECOND_PRICE:
            return book.result(won, {ask.robot: book.next_price(ask) for ask in won}, {})
        case _:
            return book.result(won, {ask.robot: ask.ask_uc for ask in won}, {})


class _Book:
    """The asks of a round that can win, robots and lots numbered in the order of the draw."""

    def __init__(self, lots: Sequence[LotOffer], asks: Sequence[SealedAsk], seed: str) -> None:
        self._lots, self._seed = lots, seed
        self.budget_uc = {lot.order: lot.budget_uc for lot in lots}
        if len(self.budget_uc) != len(lots):
            raise ValueError("each order must occur once among the lots")
        self.owner_of = _owners(asks)
        self._order_at = sorted(self.budget_uc, key=lambda order: _draw(seed, order))
        self._robot_at = sorted(self.owner_of, key=lambda robot: _draw(seed, robot))
        self._column = {order: i for i, order in enumerate(self._order_at)}
        self._row = {robot: i for i, robot in enumerate(self._robot_at)}
        self._cells: list[dict[int, SealedAsk]] = [{} for _ in self._robot_at]
        for ask in asks:
            if ask.order not in self._column:
                raise ValueError(f"asks must name a lot of the round, {ask.robot} asked for {ask.order!r}")
            if ask.ask_uc < 0 or ask.handicap_uc < 0:
                raise ValueError(f"ask and handicap must be at least 0, were {ask.ask_uc} and {ask.handicap_uc}")
            mine = self._cells[self._row[ask.robot]]
            if (column := self._column[ask.order]) in mine:
                raise ValueError(f"{ask.robot} must ask once for {ask.order!r}")
            mine[column] = ask
        self.unit = min(len(lots), len(self._robot_at)) + 1

    def gain(self, ask: SealedAsk) -> int:
        """Return the welfare of awarding `ask`; below 0 it cannot win."""
        return self.budget_uc[ask.order] - ask.score_uc

    def weighted(self) -> list[Edges]:
        """Return the weights of all pairs that can win.

        With n the greatest number of pairs, a pair of gain g weighs (n + 1) g + 1: assignments are ordered by gain first
        and by number of pairs second, since a trade that gains nothing still serves a customer.
        """
        return [
            [(column, self.unit * gain + 1) for column in sorted(mine) if (gain := self.gain(mine[column])) >= 0]
            for mine in self._cells
        ]

    def ask(self, row: int, column: int) -> SealedAsk:
        """Return the ask of a matched pair."""
        return self._cells[row][column]

    def welfare(self, won: Sequence[SealedAsk]) -> int:
        """Return the sum of the gains."""
        return sum(self.gain(ask) for ask in won)

    def rows_of(self, won: Sequence[SealedAsk]) -> dict[OwnerId, list[int]]:
        """Return all robots of each winning owner, the owners by name."""
        rows: defaultdict[OwnerId, list[int]] = defaultdict(list)
        for row, robot in enumerate(self._robot_at):
            rows[self.owner_of[robot]].append(row)
        return {owner: rows[owner] for owner in sorted({ask.owner for ask in won})}

    def shares(self, won: Sequence[SealedAsk], added: dict[OwnerId, int]) -> dict[RobotId, int]:
        """Split what each owner gains over its lots in proportion to their gains, exactly, none above its lot's gain."""
        mine: defaultdict[OwnerId, list[SealedAsk]] = defaultdict(list)
        for ask in won:
            mine[ask.owner].append(ask)
        shares: dict[RobotId, int] = {}
        for owner, asks in mine.items():
            gains = [self.gain(ask) for ask in asks]
            whole, rest = sum(gains), added[owner]
            parts = [rest * gain // whole if whole else 0 for gain in gains]
            by_fraction = sorted(range(len(asks)), key=lambda i: (-(rest * gains[i] % whole) if whole else 0, i))
            for i in by_fraction[: rest - sum(parts)]:
                parts[i] += 1
            shares.update((ask.robot, part) for ask, part in zip(asks, parts, strict=True))
        return shares

    def next_price(self, won: SealedAsk) -> int:
        """Return up to what `won` could have asked without another owner's ask for the lot being better."""
        column = self._column[won.order]
        rivals = (mine[column] for mine in self._cells if column in mine)
        scores = [r.score_uc for r in rivals if r.owner != won.owner and r.score_uc >= won.score_uc]
        return min([self.budget_uc[won.order], *scores]) - won.handicap_uc

    def lowest_first(self) -> list[SealedAsk]:
        """Return the asks that win when lots are sold one by one, each time the one with the lowest score."""
        candidates = [
            (ask.score_uc, column, row, ask)
            for row, mine in enumerate(self._cells)
            for column, ask in mine.items()
            if self.gain(ask) >= 0
        ]
        taken: set[int] = set()
        sold: set[int] = set()
        won = []
        for _, column, row, ask in sorted(candidates, key=lambda c: c[:3]):
            if row not in taken and column not in sold:
                taken.add(row)
                sold.add(column)
                won.append(ask)
        return won

    def result(self, won: Sequence[SealedAsk], price_uc: dict[RobotId, int], without: dict[OwnerId, int]) -> Clearing:
        """Return the clearing with its awards in the order of the lots."""
        awards = {
            ask.order: LotAward(ask.order, ask.robot, ask.owner, ask.ask_uc, price_uc[ask.robot], ask.handicap_uc)
            for ask in won
        }
        in_order = tuple(awards[lot.order] for lot in self._lots if lot.order in awards)
        return Clearing(in_order, self.welfare(won), without, self._seed)


def _owners(asks: Sequence[SealedAsk]) -> dict[RobotId, OwnerId]:
    owner_of: dict[RobotId, OwnerId] = {}
    for ask in asks:
        if owner_of.setdefault(ask.robot, ask.owner) != ask.owner:
            raise ValueError(f"{ask.robot} must have one owner, had {owner_of[ask.robot]} and {ask.owner}")
    return owner_of


def _draw(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()
