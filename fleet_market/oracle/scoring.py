"""How buyers judge oracles: a proper score after the settlement, a board of them, and the choice of whom to ask next.

The interval score of Gneiting and Raftery (2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", equation 43)
is the band's width plus a penalty where the price lies outside. It is proper: an oracle has the best expected score by
naming the quantiles that it believes in. A shift of a band, up or down, costs it; so does one that is wide to be safe.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fleet_market.errors import InputError

KEPT = 0.95
"""What a score counts after one more has come in: some twenty quotes back are remembered [assumption]."""
EXPLORED = 0.02
"""Share of quotes bought from any oracle, so that one that has mended its ways can show it: epsilon-greedy, Sutton and
Barto (2018, "Reinforcement Learning", section 2.2) [assumption for the value]."""
PRIOR = 5.0
"""Scores that the mean of all oracles is worth: nobody is judged by one bad day [assumption]."""


def interval_score(low_uc: float, high_uc: float, confidence: float, price_uc: float) -> float:
    """Return the interval score of a band, micro-credits; lower is better, 0 is perfect.

    ``(u - l) + 2/a * max(0, l - x) + 2/a * max(0, x - u)`` with ``a = 1 - confidence``.

    Raises
    ------
    InputError
        If a number is not finite, the ends are the wrong way round, or the confidence is not inside of 0 to 1.
    """
    for name, value in (("low_uc", low_uc), ("high_uc", high_uc), ("price_uc", price_uc), ("confidence", confidence)):
        if not math.isfinite(value):
            raise InputError("score", name, value, "use a finite number")
    if low_uc > high_uc:
        raise InputError("score", "low_uc", low_uc, f"use at most high_uc ({high_uc})")
    if not 0.0 < confidence < 1.0:
        raise InputError("score", "confidence", confidence, "use a number between 0 and 1")
    penalty = 2.0 / (1.0 - confidence)
    return (high_uc - low_uc) + penalty * (max(0.0, low_uc - price_uc) + max(0.0, price_uc - high_uc))


@dataclass(frozen=True, slots=True)
class Standing:
    """How one oracle has done lately."""

    weight: float = 0.0
    """How many scores count, older ones less."""
    total: float = 0.0
    """Their weighted sum, shares of the scale."""
    hits: float = 0.0
    """Weighted number of bands that held."""
    scored: int = 0
    """Scores ever."""

    @property
    def mean(self) -> float | None:
        """The mean score, a share of the scale; None without any."""
        return self.total / self.weight if self.weight else None

    @property
    def coverage(self) -> float | None:
        """The share of bands that held; None without any."""
        return self.hits / self.weight if self.weight else None

    def after(self, score: float, *, hit: bool, kept: float = KEPT) -> Standing:
        """Return the standing with one more score."""
        return replace(
            self,
            weight=kept * self.weight + 1.0,
            total=kept * self.total + score,
            hits=kept * self.hits + hit,
            scored=self.scored + 1,
        )


def scored(standing: Standing, low_uc: int, high_uc: int, confidence: float, price_uc: int, scale_uc: int) -> Standing:
    """Return the standing of an oracle after one of its bands has met the price.

    Parameters
    ----------
    price_uc : int
        Competitive price of the task, known afterwards and not moved by the buyer's own budget; see
        `reference_price_uc`.
    scale_uc : int
        What the score is a share of, above 0, known before the band was given (as the size of the task is): with one that
        depends on the outcome the score would not be proper.

    Raises
    ------
    InputError
        As `interval_score`, or if the scale is not above 0.
    """
    if scale_uc <= 0:
        raise InputError("score", "scale_uc", scale_uc, "use more than 0 micro-credits")
    score = interval_score(low_uc, high_uc, confidence, price_uc) / scale_uc
    return standing.after(score, hit=low_uc <= price_uc <= high_uc)


def reference_price_uc(asks: Iterable[tuple[str, int]], winner: str) -> int | None:
    """Return what a task was worth on its market, whatever budget its buyer had named.

    That is the lowest ask of an owner who did not get it. Where nobody else has asked, it is what the winner has asked:
    the price paid is then the buyer's own budget, and would make every oracle right who has been believed.

    Parameters
    ----------
    asks : iterable of (owner, ask_uc)
        All asks of the closed batch for this task.
    winner : str
        The owner who got it.
    """
    known = list(asks)
    rivals = [ask_uc for owner, ask_uc in known if owner != winner]
    own = [ask_uc for owner, ask_uc in known if owner == winner]
    return min(rivals, default=min(own, default=None))


def choose(
    fees_uc: Mapping[str, int], standings: Mapping[str, Standing], scale_uc: int, draw: float, explored: float = EXPLORED
) -> str | None:
    """Return which oracle to ask: the one whose fee and expected score cost least; None if there is none.

    What is expected of one that has few scores yet is mostly what all of them have on average.

    Parameters
    ----------
    fees_uc : mapping
        Fee of each oracle that can be asked.
    standings : mapping
        What is known of them.
    scale_uc : int
        Micro-credits that a score of 1 costs the buyer: the size of his task.
    draw : float
        Uniform in [0, 1): below `explored` any oracle is taken, so that all of them stay known.
    """
    if not fees_uc:
        return None
    names = sorted(fees_uc)
    if draw < explored:
        return names[min(int(draw / explored * len(names)), len(names) - 1)]
    known = {name: standings.get(name, Standing()) for name in names}
    weight = sum(standing.weight for standing in known.values())
    mean = sum(standing.total for standing in known.values()) / weight if weight else 0.0
    cost = {
        name: fees_uc[name] + scale_uc * (standing.total + PRIOR * mean) / (standing.weight + PRIOR)
        for name, standing in known.items()
    }
    least = min(cost.values())
    tied = [name for name in names if cost[name] == least]
    return tied[int((draw - explored) / (1.0 - explored) * len(tied))] if explored < 1.0 else tied[0]
