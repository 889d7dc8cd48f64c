"""Re-trading: which moves of contracts between robots belong together, whether they gain, and who pays what for them.

Moves are linked when they share a robot: what one of them saves depends on the others. A component of linked moves is
kept whole or not at all, and kept only if the sum of costs falls. Its surplus is shared in equal parts among its robots
(with two robots: the k-double auction with k = 1/2 of Chatterjee and Samuelson 1983), as far as prices of at least 0 can
do that. A single move for which another owner would ask less than that half is paid that owner's ask (the threshold of
Vickrey 1961), yet `LEAST_SHARE` of the surplus at least. No rule could be efficient, truthful, voluntary and balanced at
once (Myerson and Satterthwaite 1983): robots can gain by overstating what a contract costs them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet_market.ids import OrderId, RobotId

LEAST_SHARE = 10
"""A taker gains one in so many of the surplus at least, however near its rivals are [assumption]."""


@dataclass(frozen=True, slots=True)
class Move:
    """A contract that another robot would do."""

    order: OrderId
    giver: RobotId
    taker: RobotId
    ask_uc: int
    """What the taker asks for it."""
    extra_uc: int = 0
    """What the giver expects to lose by this taker beside the price, at least 0."""
    rival_uc: int | None = None
    """The next lowest ask, `extra_uc` and all, of an owner who is neither the giver's nor the taker's."""


@dataclass(frozen=True, slots=True)
class Deal:
    """A component of moves with its prices."""

    moves: tuple[Move, ...]
    price_uc: dict[OrderId, int]
    """What the giver pays the taker of each move."""
    gain_uc: dict[RobotId, int]
    """What each robot gains at these prices, all above 0; they add up to the surplus."""
    surplus_uc: int
    """By how much the sum of costs falls."""


def components(moves: Sequence[Move]) -> list[tuple[Move, ...]]:
    """Return the moves in groups that share no robot, in the order of their first moves."""
    group = {robot: robot for move in moves for robot in (move.giver, move.taker)}

    def head(robot: RobotId) -> RobotId:
        while group[robot] != robot:
            robot = group[robot]
        return robot

    for move in moves:
        group[head(move.taker)] = head(move.giver)
    found: dict[RobotId, list[Move]] = {}
    for move in moves:
        found.setdefault(head(move.giver), []).append(move)
    return [tuple(part) for part in found.values()]


def settle_prices(moves: Sequence[Move], saving_uc: Mapping[RobotId, int], *, least_uc: int = 1) -> Deal | None:
    """Return the deal that a component of moves makes, None if it gains too little or no prices let everyone gain.

    Parameters
    ----------
    moves : sequence of Move
        One component, each order once.
    saving_uc : mapping
        What each robot saves by losing all of its contracts that were on sale, less what it asks for those of them that
        went back to it; 0 for a robot that is not in it.
    least_uc : int
        Surplus from which on a deal is made, at least 1.
    """
    gain = {robot: saving_uc.get(robot, 0) for move in moves for robot in (move.giver, move.taker)}
    price = {move.order: move.ask_uc for move in moves}
    for move in moves:
        gain[move.giver] -= move.ask_uc + move.extra_uc
    surplus = sum(gain.values())
    if surplus < max(1, least_uc):
        return None
    _share(moves, gain, price, surplus // len(gain))
    if len(moves) == 1 and (rival := moves[0].rival_uc) is not None:
        move = moves[0]
        threshold = max(rival - move.extra_uc, move.ask_uc + surplus // LEAST_SHARE)
        back = max(0, price[move.order] - threshold)
        _pay(move, -back, gain, price)
    if min(gain.values()) < 1:
        return None
    return Deal(tuple(moves), price, gain, surplus)


def _share(moves: Sequence[Move], gain: dict[RobotId, int], price: dict[OrderId, int], share: int) -> None:
    """Move gains from robots that have more than `share` to those that have less, along moves, as far as that goes.

    A giver can always pay more; a taker can give back what it is paid. These are shortest augmenting paths (Edmonds and
    Karp 1972): a robot that cannot be reached once can never be.
    """
    stuck: set[RobotId] = set()
    while True:
        needy = next((robot for robot in sorted(gain) if gain[robot] < share and robot not in stuck), None)
        if needy is None:
            return
        path = _path_to(needy, moves, gain, price, share)
        if not path:
            stuck.add(needy)
            continue
        source = path[-1][0]
        amount = min([share - gain[needy], gain[source] - share, *(price[m.order] for r, m in path if r == m.taker)])
        for robot, move in path:
            _pay(move, amount if robot == move.giver else -amount, gain, price)


def _path_to(
    needy: RobotId, moves: Sequence[Move], gain: Mapping[RobotId, int], price: Mapping[OrderId, int], share: int
) -> list[tuple[RobotId, Move]]:
    """Return over whom the nearest robot with more than `share` can pay `needy`: who gives money on, and for which move."""
    came: dict[RobotId, tuple[RobotId, Move]] = {}
    seen, queue = {needy}, deque([needy])
    while queue:
        at = queue.popleft()
        if gain[at] > share:
            path, robot = [], at
            while robot != needy:
                before, move = came[robot]
                path.append((robot, move))
                robot = before
            return path[::-1]
        for payer, move in _payers(at, moves, price):
            if payer not in seen:
                seen.add(payer)
                came[payer] = (at, move)
                queue.append(payer)
    return []


def _payers(robot: RobotId, moves: Iterable[Move], price: Mapping[OrderId, int]) -> Iterable[tuple[RobotId, Move]]:
    for move in moves:
        if move.taker == robot:
            yield move.giver, move
        elif move.giver == robot and price[move.order] > 0:
            yield move.taker, move


def _pay(move: Move, amount: int, gain: dict[RobotId, int], price: dict[OrderId, int]) -> None:
    """Have the giver of a move pay `amount` more for it."""
    price[move.order] += amount
    gain[move.giver] -= amount
    gain[move.taker] += amount
