"""Which contracts are put on sale again together, and who is asked for them. All draws are hashes of the zone's seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest

import numpy as np

from fleet_market.contracts import Contract, Order
from fleet_market.ids import OrderId, RobotId, derive
from fleet_market.market.state import State
from fleet_market.protocol.messages import MAX_LEVELS, OrderState, Place, WirePose

MM_PER_M = 1000
FAR_MM = 2**62
Bundle = tuple[str, list[Contract]]
"""How it was chosen, and the contracts."""


def movable(state: State, now_ns: int) -> list[Contract]:
    """Return the contracts that may change hands: accepted, only queued, not recalled, and not at `MAX_LEVELS` already."""
    return [contract for contract in state.contracts.values() if may_move(state, contract, now_ns)]


def may_move(state: State, contract: Contract, now_ns: int) -> bool:
    """Return whether a contract may change hands; see `movable`."""
    order = state.orders[contract.order]
    return (
        contract.accepted
        and not contract.begun
        and order.brought_back_from is None
        and order.state is OrderState.EXECUTING
        and now_ns < order.last_call_ns
        and len(contract.principals) + 1 < MAX_LEVELS
        and state.robots[contract.robot].online
    )


class Chooser:
    """Chooses bundles among the contracts that may change hands.

    Every contract in turn, from a drawn one on, is put on sale alone, then with the nearest one of another robot (a
    swap), with the nearest ones of its robot (a cluster), with the nearest ones of anybody; then the latest ones of every
    robot (a tail). Contracts are near to each other where both their pickups and their dropoffs are.
    """

    def __init__(self, state: State, contracts: Sequence[Contract]) -> None:
        self._state, self._contracts = state, contracts
        self._most = state.terms.resale_lots
        self.situation = derive(
            *(contract.id for contract in contracts), *sorted(name for name, robot in state.robots.items() if robot.online)
        )
        """The same as long as nothing has changed that could make a difference."""

    def wished(self) -> tuple[RobotId, Bundle] | None:
        """Return what comes first because of a robot's wish, and whose wish it was."""
        by_order = {contract.order: contract for contract in self._contracts}
        for robot, wish in self._state.wishes.items():
            if found := [by_order[order] for order in wish.orders if order in by_order][: self._most]:
                return robot, (wish.kind, found)
        return None

    def number(self, tries: int) -> tuple[int, Bundle] | None:
        """Return the first bundle from number `tries` on, and its number; None if all have been tried."""
        first = int(derive(self._state.seed, self.situation), 16)
        anchors = self._contracts
        kinds: list[Callable[[Contract], Bundle]] = [self._alone, self._swap, self._cluster, self._related, self._tail]
        for number in range(tries, len(anchors) * len(kinds)):
            kind, found = kinds[number // len(anchors)](anchors[(first + number) % len(anchors)])
            if len(found) > 1 or kind == "contract":
                return number, (kind, found)
        return None

    def _alone(self, anchor: Contract) -> Bundle:
        return "contract", [anchor]

    def _swap(self, anchor: Contract) -> Bundle:
        return "swap", [anchor, *self._nearest(anchor, lambda c: c.robot != anchor.robot, 1)]

    def _cluster(self, anchor: Contract) -> Bundle:
        return "cluster", [anchor, *self._nearest(anchor, lambda c: c.robot == anchor.robot, self._most - 1)]

    def _related(self, anchor: Contract) -> Bundle:
        return "bundle", [anchor, *self._nearest(anchor, lambda _: True, self._most - 1)]

    def _tail(self, anchor: Contract) -> Bundle:
        own = [c for c in self._contracts if c.robot == anchor.robot]
        return "tail", own[-self._most :] if own[-1] is anchor else []

    def _nearest(self, anchor: Contract, among: Callable[[Contract], bool], count: int) -> list[Contract]:
        order = self._state.orders[anchor.order]
        others = [c for c in self._contracts if c.id != anchor.id and among(c)]
        return nsmallest(count, others, key=lambda c: (_between(order, self._state.orders[c.order]), c.id))


def asked_for(state: State, bundle: Sequence[Contract], first: Iterable[RobotId] = ()) -> list[RobotId]:
    """Return the robots that are asked: the holders, those in `first`, and the nearest others, up to the limit of the zone.

    A robot is as near as the nearest place at which its schedule has it: the end, or a stop of a contract.
    """
    holders = {contract.robot for contract in bundle}
    wanted = [*sorted(holders), *(r for r in first if r not in holders and r in state.robots and state.robots[r].online)]
    room = state.terms.resale_robots - len(wanted)
    others = {name: i for i, name in enumerate(n for n, r in state.robots.items() if r.online and n not in wanted)}
    if room <= 0 or not others:
        return wanted
    places: list[tuple[int, Place | WirePose]] = [
        (i, at) for name, i in others.items() if (at := state.robots[name].at) is not None
    ]
    for contract in state.contracts.values():
        if (robot := others.get(contract.robot)) is not None:
            order = state.orders[contract.order]
            places += [(robot, order.pickup), (robot, order.dropoff)]
    orders = [state.orders[contract.order] for contract in bundle]
    goals = np.array([_mm(place) for order in orders for place in (order.pickup, order.dropoff)])
    stops = np.array([_mm(place) for _, place in places], dtype=np.int64).reshape(-1, 2)
    apart = np.full(len(others), FAR_MM)
    np.minimum.at(apart, [i for i, _ in places], np.abs(stops[:, None] - goals).sum(axis=2).min(axis=1))
    nearest = sorted(others, key=lambda name: (apart[others[name]], name))
    return [*wanted, *nearest[:room]]


def orders_of(bundle: Iterable[Contract]) -> dict[RobotId, tuple[OrderId, ...]]:
    """Return what each robot has in a bundle."""
    found: dict[RobotId, tuple[OrderId, ...]] = {}
    for contract in bundle:
        found[contract.robot] = (*found.get(contract.robot, ()), contract.order)
    return found


def _between(a: Order, b: Order) -> int:
    return _apart(a.pickup, b.pickup) + _apart(a.dropoff, b.dropoff)


def _apart(a: Place | WirePose, b: Place | WirePose) -> int:
    """Return how far two places are apart along the axes, in whole millimetres: the same in every replay."""
    (ax, ay), (bx, by) = _mm(a), _mm(b)
    return abs(ax - bx) + abs(ay - by)


def _mm(place: Place | WirePose) -> tuple[int, int]:
    return round(place.x * MM_PER_M), round(place.y * MM_PER_M)
