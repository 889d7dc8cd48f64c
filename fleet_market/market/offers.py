"""Which robot is offered which lots: those on sale that are nearest to where its schedule leaves it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.contracts import Order
from fleet_market.ids import OrderId, RobotId
from fleet_market.protocol.messages import WirePose

IntArray: TypeAlias = NDArray[np.int64]

MM_PER_M = 1000
FAR = np.iinfo(np.int64).max


class Stall:
    """The lots of one round, laid out for choosing.

    Distances are straight lines, squared, in whole millimetres: they only choose who is asked, and must come out the same
    whenever the inputs are read again.

    Parameters
    ----------
    orders : sequence of Order
        On sale in this round, oldest first.
    now_ns : int
        Robots that cool down for an order are not offered it.
    """

    def __init__(self, orders: Sequence[Order], now_ns: int) -> None:
        self.orders = tuple(order.id for order in orders)
        self._x_mm = _millimetres(order.pickup.x for order in orders)
        self._y_mm = _millimetres(order.pickup.y for order in orders)
        self._payload_kg = np.array([order.payload_kg for order in orders])
        self._heaviest_kg = max((order.payload_kg for order in orders), default=0.0)
        self._kept_from = _kept_from(orders, now_ns)

    def nearest(self, robot: RobotId, at: WirePose | None, count: int, *, carries_kg: float) -> tuple[OrderId, ...]:
        """Return up to `count` lots for a robot at `at`, nearest first; the oldest ones where it is not known where it is.

        Lots that are too heavy for it, that it has said it cannot do, or for which it cools down are passed over.
        """
        if at is None:
            squared = np.zeros(len(self.orders), dtype=np.int64)
        else:
            dx, dy = self._x_mm - round(at.x * MM_PER_M), self._y_mm - round(at.y * MM_PER_M)
            squared = dx * dx + dy * dy
        if carries_kg < self._heaviest_kg:
            squared[self._payload_kg > carries_kg] = FAR
        if (kept_from := self._kept_from.get(robot)) is not None:
            squared[kept_from] = FAR
        if len(squared) > count:
            near = np.flatnonzero(squared <= np.partition(squared, count - 1)[count - 1])
        else:
            near = np.arange(len(squared))
        near = near[np.argsort(squared[near], kind="stable")][:count]
        return tuple(self.orders[i] for i in near if squared[i] != FAR)


def _millimetres(metres: Iterable[float]) -> IntArray:
    return np.array([round(value * MM_PER_M) for value in metres], dtype=np.int64)


def _kept_from(orders: Iterable[Order], now_ns: int) -> dict[RobotId, list[int]]:
    """Return the positions of the orders that each robot may not or cannot take."""
    found: defaultdict[RobotId, list[int]] = defaultdict(list)
    for position, order in enumerate(orders):
        for robot in order.unfit:
            found[robot].append(position)
        for robot, until_ns in order.cool_until_ns.items():
            if now_ns < until_ns:
                found[robot].append(position)
    return dict(found)
