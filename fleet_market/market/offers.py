"""Which robot is offered which lots: those on sale that are nearest to where its schedule leaves it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fleet_market.contracts import Order
from fleet_market.ids import OrderId
from fleet_market.protocol.messages import WirePose

IntArray: TypeAlias = NDArray[np.int64]

MM_PER_M = 1000


class Stall:
    """The lots of one round, laid out for choosing.

    Distances are straight lines, squared, in whole millimetres: they only choose who is asked, and must come out the same
    whenever the inputs are read again.

    Parameters
    ----------
    orders : sequence of Order
        On sale in this round, oldest first.
    """

    def __init__(self, orders: Sequence[Order]) -> None:
        self.orders = tuple(order.id for order in orders)
        self._x_mm = _millimetres(order.pickup.x for order in orders)
        self._y_mm = _millimetres(order.pickup.y for order in orders)
        self._payload_kg = np.array([order.payload_kg for order in orders])

    def nearest(
        self, at: WirePose | None, count: int, *, carries_kg: float, unfit: Collection[OrderId]
    ) -> tuple[OrderId, ...]:
        """Return up to `count` lots for a robot at `at`, nearest first; the oldest ones where it is not known where it is.

        Lots that are too heavy for it or in `unfit` are passed over.
        """
        fitting = np.flatnonzero(self._payload_kg <= carries_kg)
        if unfit:
            fitting = np.array([i for i in fitting if self.orders[i] not in unfit], dtype=np.intp)
        if at is not None and len(fitting):
            dx, dy = self._x_mm[fitting] - round(at.x * MM_PER_M), self._y_mm[fitting] - round(at.y * MM_PER_M)
            squared = dx * dx + dy * dy
            if len(fitting) > count:
                near = squared <= np.partition(squared, count - 1)[count - 1]
                fitting, squared = fitting[near], squared[near]
            fitting = fitting[np.lexsort((fitting, squared))]
        return tuple(self.orders[i] for i in fitting[:count])


def _millimetres(metres: Iterable[float]) -> IntArray:
    return np.array([round(value * MM_PER_M) for value in metres], dtype=np.int64)
