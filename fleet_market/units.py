"""Units that have no standard type: money, and time as integers.

Money is a whole number of micro-credits everywhere inside; `Credits` is its form at the rim, where people read and
write it. One credit is meant as one euro cent; nothing in the code depends on that.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

MICROCREDITS_PER_CREDIT = 1_000_000
NS_PER_S = 1_000_000_000
MAX_CREDITS_UC = 10**15
"""No amount may be larger: float64, through which asks pass in clearing, is exact up to 2**53 micro-credits."""


@dataclass(frozen=True, order=True, slots=True)
class Credits:
    """An amount of fleet credits, exact to the micro-credit.

    Parameters
    ----------
    micro : int
        Whole micro-credits; may be negative (a difference).

    Raises
    ------
    TypeError
        If `micro` is not an int: money never passes through a float.
    """

    micro: int

    def __post_init__(self) -> None:
        if not isinstance(self.micro, int) or isinstance(self.micro, bool):
            raise TypeError(f"micro must be an int, was {type(self.micro).__name__}")

    @classmethod
    def parse(cls, text: str) -> Credits:
        """Return the amount written as a decimal number of credits, e.g. ``"12.5"``.

        Raises
        ------
        ValueError
            If `text` is no decimal number, is finer than a micro-credit, or is beyond +-10**9 credits.
        """
        try:
            micro = Decimal(text.strip()) * MICROCREDITS_PER_CREDIT
        except InvalidOperation:
            raise ValueError(f"credits must be a decimal number, was {text!r}") from None
        if not micro.is_finite() or abs(micro) > MAX_CREDITS_UC:
            raise ValueError(f"credits must be within +-1000000000, was {text!r}")
        if micro != micro.to_integral_value():
            raise ValueError(f"credits must have at most 6 decimals, was {text!r}")
        return cls(int(micro))

    def __add__(self, other: Credits) -> Credits:
        return Credits(self.micro + other.micro)

    def __sub__(self, other: Credits) -> Credits:
        return Credits(self.micro - other.micro)

    def __neg__(self) -> Credits:
        return Credits(-self.micro)

    def __str__(self) -> str:
        sign = "-" if self.micro < 0 else ""
        whole, part = divmod(abs(self.micro), MICROCREDITS_PER_CREDIT)
        return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"


def ns(seconds: float) -> int:
    """Return `seconds` as whole nanoseconds, the resolution of every market time."""
    return round(seconds * NS_PER_S)


def seconds(nanoseconds: int) -> float:
    """Return `nanoseconds` as seconds."""
    return nanoseconds / NS_PER_S
