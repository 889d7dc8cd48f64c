"""What a customer expects to lose by a robot beside its price, and what one owes who has broken a promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_market.contracts.order import NS_PER_H, Order, Promise
from fleet_market.ids import OwnerId

PRIOR_DONE, PRIOR_FAILED = 19, 1
"""A robot without a record counts as one that failed in 1 of 20 [assumption]: better than a bad record, worse than a good
one, so that neither a new name nor a first chance is worth much."""


@dataclass(frozen=True, slots=True)
class Owed:
    """What an owner owes for a broken promise; `to` is an owner, or None for the customer."""

    owner: OwnerId
    to: OwnerId | None
    amount_uc: int


def handicap_uc(order: Order, finish_ns: int, *, done: int, failed: int) -> int:
    """Return what the customer expects to lose if a robot with this record does `order` by `finish_ns`, micro-credits.

    Expected damage is the declared value times the probability of failure, the mean of a beta distribution after `done`
    successes and `failed` failures; added is the cost of the lateness that the robot announces. Both are 0 where the
    customer declares neither value nor cost of lateness.
    """
    return damage_uc(order, done=done, failed=failed) + lateness_uc(order, order.deadline_ns, finish_ns)


def damage_uc(order: Order, *, done: int, failed: int) -> int:
    """Return the damage that the customer expects from a robot with this record, micro-credits."""
    return order.value_uc * (failed + PRIOR_FAILED) // (done + failed + PRIOR_DONE + PRIOR_FAILED)


def lateness_uc(order: Order, due_ns: int, done_ns: int) -> int:
    """Return what it costs the customer to have `order` done at `done_ns` instead of `due_ns`, rounded up, at least 0."""
    return -(-max(0, done_ns - due_ns) * order.lateness_uc_per_h // NS_PER_H)


def shortfalls(broken: Sequence[Promise], price_uc: int) -> list[Owed]:
    """Return who owes how much to whom when an order was at last done for `price_uc`.

    Each owner that broke its promise owes what the next promise was dearer, so that together they owe at least what the
    customer pays above the first price. Where the promise was sold on, liability goes down level by level: each owner makes
    good to the one above what that one pays and misses, so that only who failed is worse off than if it had not.
    """
    owed: list[Owed] = []
    next_prices = [*(promise.price_uc for promise in broken[1:]), price_uc]
    for promise, next_uc in zip(broken, next_prices, strict=False):
        worth_uc, above = max(next_uc, promise.price_uc), None
        for owner, level_uc in ((promise.owner, promise.price_uc), *promise.below):
            if worth_uc > level_uc and owner != above:
                owed.append(Owed(owner, above, worth_uc - level_uc))
            above = owner
    return owed
