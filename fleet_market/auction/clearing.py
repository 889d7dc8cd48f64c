"""Clear one sealed batch: the welfare-maximising assignment and Clarke payments per owner.

Every robot takes at most one lot of a batch. Each owner is paid what its robots asked plus what its presence adds to the
welfare of the batch, W(all) - W(without the owner) (Clarke 1971, Groves 1973). The buyers' budgets act as reserves, so
that

* no robot is paid less than it asked (individual rationality),
* no buyer pays more than the budget, and each pays exactly what the robot gets: there is no deficit,
* no owner gains by misreporting what its robots cost, as long as it is one registered owner and the batch stands alone.

Thresholds per robot instead of per owner would let an owner of several robots gain by withholding one. What no rule can
do at the same time is to stop buyers from shading their budgets (Myerson and Satterthwaite 1983).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet_market.auction.assignment import NO_ASK, IntArray, best_assignment
from fleet_market.ids import OrderId, OwnerId, RobotId


@dataclass(frozen=True, slots=True)
class LotOffer:
    """One lot of the batch and the most that its buyer pays."""

    order: OrderId
    budget_uc: int


@dataclass(frozen=True, slots=True)
class SealedAsk:
    """What one robot asks for one lot."""

    robot: RobotId
    owner: OwnerId
    order: OrderId
    ask_uc: int


@dataclass(frozen=True, slots=True)
class LotAward:
    """A lot that was sold."""

    order: OrderId
    robot: RobotId
    owner: OwnerId
    ask_uc: int
    price_uc: int


@dataclass(frozen=True, slots=True)
class Clearing:
    """The result of one batch."""

    awards: tuple[LotAward, ...]
    """In the order of the lots."""
    welfare_uc: int
    """Sum over the awards of budget less ask."""
    welfare_without_uc: dict[OwnerId, int]
    """Welfare of the batch without each winning owner: what its payment is computed from."""
    seed: str
    """Draw that broke the ties."""


def clear(lots: Sequence[LotOffer], asks: Sequence[SealedAsk], *, seed: str) -> Clearing:
    """Return the assignment of greatest welfare and the payments.

    Parameters
    ----------
    lots : sequence of LotOffer
        Orders of the batch, each once.
    asks : sequence of SealedAsk
        Any number per robot, at most one per robot and lot; an ask above the budget cannot win.
    seed : str
        Settles ties: robots and lots enter the solver in the order of SHA-256(seed, name).

    Raises
    ------
    ValueError
        If an order occurs twice among the lots, or an ask names an order that is no lot or repeats a pair.
    """
    by_draw = sorted(lots, key=lambda lot: _draw(seed, lot.order))
    column = {lot.order: i for i, lot in enumerate(by_draw)}
    if len(column) != len(lots):
        raise ValueError("each order must occur once among the lots")
    owner_of = {ask.robot: ask.owner for ask in asks}
    robots = sorted(owner_of, key=lambda robot: _draw(seed, robot))
    row = {robot: i for i, robot in enumerate(robots)}

    ask_uc = np.full((len(robots), len(lots)), NO_ASK, dtype=np.int64)
    for ask in asks:
        if ask.order not in column:
            raise ValueError(f"asks must name a lot of the batch, {ask.robot} asked for {ask.order!r}")
        cell = (row[ask.robot], column[ask.order])
        if ask_uc[cell] != NO_ASK:
            raise ValueError(f"{ask.robot} must ask once for {ask.order!r}")
        ask_uc[cell] = ask.ask_uc

    budget_uc = np.array([lot.budget_uc for lot in by_draw], dtype=np.int64)
    gain_uc = np.where((ask_uc >= 0) & (ask_uc <= budget_uc), budget_uc - ask_uc, NO_ASK)
    welfare_uc, pairs = best_assignment(gain_uc)
    owners = [owner_of[robot] for robot in robots]
    winners = sorted({owners[r] for r, _ in pairs})
    without = {owner: _welfare_without(gain_uc, owners, owner) for owner in winners}
    surplus = _surplus_shares(gain_uc, pairs, owners, {o: welfare_uc - without[o] for o in winners})
    awards = {
        by_draw[c].order: LotAward(
            by_draw[c].order, robots[r], owners[r], int(ask_uc[r, c]), int(ask_uc[r, c]) + surplus[r, c]
        )
        for r, c in pairs
    }
    in_order = tuple(awards[lot.order] for lot in lots if lot.order in awards)
    return Clearing(in_order, welfare_uc, without, seed)


def _draw(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()


def _welfare_without(gain_uc: IntArray, owners: Sequence[OwnerId], owner: OwnerId) -> int:
    others = [i for i, other in enumerate(owners) if other != owner]
    return best_assignment(gain_uc[others, :])[0]


def _surplus_shares(
    gain_uc: IntArray, pairs: Sequence[tuple[int, int]], owners: Sequence[OwnerId], total_uc: dict[OwnerId, int]
) -> dict[tuple[int, int], int]:
    """Split what each owner gains over its lots in proportion to their gains, exactly, none above its lot's gain."""
    shares: dict[tuple[int, int], int] = {}
    for owner, owner_gain in total_uc.items():
        mine = [pair for pair in pairs if owners[pair[0]] == owner]
        gains = [int(gain_uc[pair]) for pair in mine]
        whole = sum(gains)
        parts = [owner_gain * gain // whole if whole else 0 for gain in gains]
        left = owner_gain - sum(parts)
        for i in sorted(range(len(mine)), key=lambda i: (-(owner_gain * gains[i] % whole) if whole else 0, i))[:left]:
            parts[i] += 1
        shares.update(zip(mine, parts, strict=True))
    return shares
