"""Whether to buy a quote at all: what quotes have been worth so far, against what the next one costs.

The value of information is what a decision gains by it on average (Howard 1966, "Information Value Theory"); who pays more
than that loses. A buyer cannot see his own counterfactual, but nearly: after a batch all asks are public, and tell what he
would have paid with the budget that he would have named without the quote.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fleet_market.errors import InputError

KEPT = 0.99
"""What a gain counts after one more has come in: some hundred quotes back are remembered [assumption]."""
TRIALS = 20
"""So many quotes are bought before their worth is believed: most change nothing, and some a lot [assumption]."""
DOUBT = 1.0
"""Standard errors by which a fee may be above the mean gain: whoever stops at the first bad luck never learns better
(optimism in the face of uncertainty: Auer, Cesa-Bianchi and Fischer 2002) [assumption for the value]."""


def budget_uc(value_uc: int, low_uc: int, high_uc: int, *, thin: bool) -> int | None:
    """Return the budget of a buyer to whom a task is worth `value_uc`, after a quote; None: it is not worth posting.

    Above the top of the band nothing is gained by a higher budget, but a robot without rivals is paid all of it. A band
    that rests on too little changes nothing.
    """
    if thin:
        return value_uc
    return None if low_uc > value_uc else min(value_uc, high_uc)


@dataclass(frozen=True, slots=True)
class Worth:
    """What quotes have been worth to one buyer, micro-credits, by experience.

    Parameters
    ----------
    most_uc : int
        Fee up to which the first quotes are bought on trial, and about how far gains are thought to spread.
    """

    most_uc: int
    weight: float = 0.0
    total_uc: float = 0.0
    squares: float = 0.0
    gains: int = 0

    @property
    def mean_uc(self) -> float | None:
        """What a quote was worth on average, None without experience."""
        return self.total_uc / self.weight if self.weight else None

    @property
    def error_uc(self) -> float:
        """Standard error of the mean; gains are thought to spread by `most_uc` at least, and it is infinite without any."""
        if not self.weight:
            return math.inf
        variance = self.squares / self.weight - (self.total_uc / self.weight) ** 2
        return math.sqrt(max(variance, float(self.most_uc) ** 2) / self.weight)

    def buys(self, fee_uc: int) -> bool:
        """Return whether a quote is worth this fee."""
        if fee_uc <= 0:
            return True
        if self.gains < TRIALS or (mean_uc := self.mean_uc) is None:
            return fee_uc <= self.most_uc
        return fee_uc <= mean_uc + DOUBT * self.error_uc

    def after(self, gain_uc: float) -> Worth:
        """Return the worth after one more quote has gained so much, before its fee; a loss is negative.

        Raises
        ------
        InputError
            If the gain is not finite.
        """
        if not math.isfinite(gain_uc):
            raise InputError("worth", "gain_uc", gain_uc, "use a finite number of micro-credits")
        return replace(self, weight=KEPT * self.weight + 1.0, total_uc=KEPT * self.total_uc + gain_uc, gains=self.gains + 1)
