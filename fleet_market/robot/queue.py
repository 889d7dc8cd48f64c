"""A robot's queue: the orders that it is to carry, and in which order it visits their places."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.ids import OrderId
from fleet_market.protocol.messages import Award, Lot, Place


@dataclass(frozen=True, slots=True)
class Errand:
    """An order as the robot that carries it sees it."""

    order: OrderId
    pickup: Place | None
    """None: the parcel is aboard."""
    dropoff: Place
    payload_kg: float
    deadline_ns: int
    lateness_uc_per_h: int = 0
    """What an hour after the deadline costs the customer; 0: it may not be late."""

    @classmethod
    def of(cls, order: Award | Lot, *, aboard: bool = False) -> Errand:
        """Return the errand of a lot or of a contract."""
        return cls(
            order.order,
            None if aboard else order.pickup,
            order.dropoff,
            order.payload_kg,
            order.deadline_ns,
            order.lateness_uc_per_h,
        )


class Visit(NamedTuple):
    """A stop of the queue: where a parcel is taken aboard, or where it is set down."""

    order: OrderId
    pickup: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """What a robot is going to do, from where it is now.

    Parameters
    ----------
    pose : Pose
    now_ns : int
    soc : float
        State of charge, 0 to 1.
    errands : tuple of Errand
    visits : tuple of Visit
        Pickup and dropoff of every errand, dropoff alone where the parcel is aboard.
    locked : int
        How many visits at the head are under way: nothing goes before them, and they stay.

    Raises
    ------
    InputError
        If the visits are not those of the errands, or a parcel is to be set down before it is taken aboard.
    """

    pose: Pose
    now_ns: int
    soc: float
    errands: tuple[Errand, ...] = ()
    visits: tuple[Visit, ...] = ()
    locked: int = 0

    def __post_init__(self) -> None:
        aboard = {errand.order for errand in self.errands if errand.pickup is None}
        wanted = {Visit(errand.order, pickup=False) for errand in self.errands}
        wanted |= {Visit(errand.order, pickup=True) for errand in self.errands if errand.pickup is not None}
        if len({errand.order for errand in self.errands}) < len(self.errands):
            raise InputError("queue", "errands", [errand.order for errand in self.errands], "name each order once")
        if len(self.visits) != len(wanted) or set(self.visits) != wanted or not 0 <= self.locked <= len(self.visits):
            raise InputError("queue", "visits", self.visits, "visit each place of each errand once")
        for visit in self.visits:
            if visit.pickup:
                aboard.add(visit.order)
            elif visit.order not in aboard:
                raise InputError("queue", "visits", self.visits, f"pick {visit.order} up before you drop it off")

    def errand(self, order: OrderId) -> Errand:
        """Return the errand of an order; raises `KeyError` if there is none."""
        for errand in self.errands:
            if errand.order == order:
                return errand
        raise KeyError(order)

    def place(self, visit: Visit) -> Place:
        """Return where a visit leads."""
        errand = self.errand(visit.order)
        return errand.pickup if visit.pickup and errand.pickup is not None else errand.dropoff

    @property
    def end(self) -> Pose:
        """Where it leaves the robot; the heading is that of the start where the last place leaves it open."""
        if not self.visits:
            return self.pose
        last = self.place(self.visits[-1])
        return Pose(last.x, last.y, self.pose.yaw if last.yaw is None else last.yaw)

    def fixed(self) -> set[OrderId]:
        """Return the orders that the robot cannot give away: aboard, or under way."""
        return {errand.order for errand in self.errands if errand.pickup is None} | {
            visit.order for visit in self.visits[: self.locked]
        }

    def with_errand(self, errand: Errand, visits: tuple[Visit, ...]) -> Queue:
        """Return the queue with one more errand, its stops where `visits` has them."""
        return replace(self, errands=(*self.errands, errand), visits=visits)

    def appended(self, errand: Errand) -> Queue:
        """Return the queue with one more errand at its end."""
        stops = (Visit(errand.order, pickup=True), Visit(errand.order, pickup=False))
        return self.with_errand(errand, (*self.visits, *(stops if errand.pickup is not None else stops[1:])))

    def without(self, orders: Collection[OrderId]) -> Queue:
        """Return the queue without some orders that are only queued; the rest keeps its order.

        Raises
        ------
        InputError
            If it has no such order, or is executing it.
        """
        for order in orders:
            if order not in {errand.order for errand in self.errands}:
                raise InputError("queue", "order", order, "name an order of the queue")
            if order in self.fixed():
                raise InputError("queue", "order", order, "leave an order that is being executed where it is")
        return replace(
            self,
            errands=tuple(errand for errand in self.errands if errand.order not in orders),
            visits=tuple(visit for visit in self.visits if visit.order not in orders),
        )
