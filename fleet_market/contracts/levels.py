"""Contracts on top of each other: who has sold an order on, what every level is due, and who owes what when it fails.

The customer pays the first holder, the first holder whom it sold the order to, and so on down to the robot that does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market.contracts.order import Order
from fleet_market.contracts.scoring import lateness_uc
from fleet_market.ids import ContractId, OwnerId, RobotId, TransferId


@dataclass(frozen=True, slots=True)
class Level:
    """A contract that its holder has sold on. It is still paid for, and pays for the next level."""

    contract: ContractId
    robot: RobotId
    owner: OwnerId
    ask_uc: int
    price_uc: int
    due_ns: int
    """Lateness is counted from here."""
    hold: TransferId | None = None
    held_uc: int = 0
    """On hold from the owner's account: the most by which what it owes the next level can exceed what it is paid."""


def due_uc(order: Order, price_uc: int, due_ns: int, done_ns: int) -> int:
    """Return what one level is paid for an order done at `done_ns`: its price less what lateness has cost, at least 0."""
    return max(0, price_uc - lateness_uc(order, due_ns, done_ns))


def to_hold_uc(order: Order, level: Level, price_uc: int, due_ns: int) -> int:
    """Return what the owner of `level` must hold to be sure to pay `price_uc` to a next level that is due at `due_ns`.

    With h the cost of lateness from one due time to the other, the next level loses by lateness at most h less than this
    one, whenever the order is done; so what is owed exceeds what comes in by ``price - max(0, own price - h)`` at most.
    """
    return max(0, price_uc - max(0, level.price_uc - lateness_uc(order, level.due_ns, due_ns)))
