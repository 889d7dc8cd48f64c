"""The sale of quotes: what they cost, how long they count, what the free preview shows, and who gets which part of a fee.

All sums are whole micro-credits, and every fee is given out to the last of them: by largest remainders (Hamilton's method,
see Balinski and Young 1982, "Fair Representation", chapter 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.protocol.messages import What

Party = TypeVar("Party", bound=str)

MILLE = 1000
ROBOTS_SHARE = 500
"""Of a fee, in thousandths: half goes to the robots whose telemetry was used [assumption]."""
QUOTE_LIFE_S = 60.0
"""A band is good for so long: thirty batches of 2 s [assumption]."""


@dataclass(frozen=True, slots=True)
class Fees:
    """What one oracle charges, micro-credits.

    Parameters
    ----------
    now_uc : int
        For the band of a task as of now.
    later_uc : int
        For the band at a later time.
    thin_uc : int
        For what says of itself that it rests on too little. The rest of what was put on hold goes back.
    budget_uc, best_time_uc, make_or_buy_uc, judge_uc, congestion_uc : int, optional
        For other advice; None: the oracle does not sell it.

    Raises
    ------
    InputError
        If a fee is negative, or the fee of a thin band is above those of other bands.
    """

    now_uc: int
    later_uc: int
    thin_uc: int
    budget_uc: int | None = None
    best_time_uc: int | None = None
    make_or_buy_uc: int | None = None
    judge_uc: int | None = None
    congestion_uc: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int | None = getattr(self, field.name)
            if value is not None and value < 0:
                raise InputError("fees", field.name, value, "use 0 or more micro-credits")
        if self.thin_uc > min(self.now_uc, self.later_uc):
            raise InputError("fees", "thin_uc", self.thin_uc, "a thin band may not cost more than a good one")

    @classmethod
    def of(cls, fee_uc: int) -> Fees:
        """Return the usual schedule, in fees of a band as of now [assumption]; what contains a band costs no less than one.

        A later time and make or buy 1.5, a thin band 0.5, a budget 2, the best time 3 (it looks at nine times), a judgement
        1, congestion 0.5.

        Raises
        ------
        InputError
            If `fee_uc` is negative.
        """
        half_uc = fee_uc // 2
        return cls(fee_uc, fee_uc + half_uc, half_uc, 2 * fee_uc, 3 * fee_uc, fee_uc + half_uc, fee_uc, half_uc)

    def held_uc(self, what: What = "band", *, later: bool = False) -> int:
        """Return what is put on hold when a quote is asked for; `later` counts for bands alone.

        Raises
        ------
        InputError
            If it is not sold.
        """
        if what == "band":
            return self.later_uc if later else self.now_uc
        fee_uc: int | None = getattr(self, f"{what}_uc")
        if fee_uc is None:
            raise InputError("fees", "what", what, "ask another oracle: this one does not sell it")
        return fee_uc

    def due_uc(self, what: What = "band", *, later: bool = False, thin: bool) -> int:
        """Return what is paid on delivery; never more than `held_uc`.

        Raises
        ------
        InputError
            As `held_uc`.
        """
        held_uc = self.held_uc(what, later=later)
        return min(self.thin_uc, held_uc) if thin else held_uc


def share_out(amount_uc: int, weights: Mapping[Party, int]) -> dict[Party, int]:
    """Return `amount_uc` given out in proportion to `weights`, exactly: the sum is `amount_uc`.

    Whole parts first; what is left goes, one micro-credit each, to the largest remainders, and among equal ones in the
    order of the names.

    Parameters
    ----------
    amount_uc : int
        At least 0.
    weights : mapping of str to int
        At least 0 each, one of them above 0.

    Raises
    ------
    InputError
        If the amount or a weight is negative, or there is nobody to give to.
    """
    if amount_uc < 0:
        raise InputError("revenue", "amount_uc", amount_uc, "use 0 or more micro-credits")
    if any(weight < 0 for weight in weights.values()):
        raise InputError("revenue", "weights", dict(weights), "use whole numbers of 0 or more")
    total = sum(weights.values())
    if total == 0:
        raise InputError("revenue", "weights", dict(weights), "name somebody with a weight above 0")
    parts = {name: amount_uc * weight // total for name, weight in weights.items()}
    left = amount_uc - sum(parts.values())
    ranked = sorted(weights, key=lambda name: (-(amount_uc * weights[name] % total), name))
    for name in ranked[:left]:
        parts[name] += 1
    return parts


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets what of one fee, micro-credits; together the fee."""

    oracle_uc: int
    robots_uc: dict[RobotId, int]


def split(fee_uc: int, used: Mapping[RobotId, int], robots_share: int = ROBOTS_SHARE) -> Split:
    """Return the parts of a fee: the robots' share by how many of their records were used, the rest for the oracle.

    Where no telemetry was used, all is the oracle's.

    Parameters
    ----------
    used : mapping of RobotId to int
        Records of each robot that the quote rests on.
    robots_share : int
        Thousandths of the fee.

    Raises
    ------
    InputError
        If the fee, a number or the share is out of its range.
    """
    if not 0 <= robots_share <= MILLE:
        raise InputError("revenue", "robots_share", robots_share, f"use thousandths, 0 to {MILLE}")
    if fee_uc < 0:
        raise InputError("revenue", "fee_uc", fee_uc, "use 0 or more micro-credits")
    counted = {name: number for name, number in used.items() if number != 0}
    if not counted:
        return Split(fee_uc, {})
    pool_uc = fee_uc * robots_share // MILLE
    return Split(fee_uc - pool_uc, share_out(pool_uc, counted))


def coarse(low_uc: int, high_uc: int) -> tuple[int, int]:
    """Return the free preview of a band: its ends moved outward to powers of two of a micro-credit.

    It tells a buyer whether a task costs about one credit or about ten, and no more: the width is at least a factor of two,
    and two bands that lie between the same powers cannot be told apart.

    Raises
    ------
    InputError
        If it is no band.
    """
    if not 0 <= low_uc <= high_uc:
        raise InputError("band", "low_uc", low_uc, "use a band with 0 <= low <= high")
    floor = 1 << (low_uc.bit_length() - 1) if low_uc else 0
    return floor, 1 << high_uc.bit_length()
