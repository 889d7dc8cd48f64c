"""How buyers judge oracles: a proper score after the settlement, a board of them, and the choice of whom to ask next.

The interval score of Gneiting and Raftery (2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", equation 43)
is the band's width plus a penalty where the price lies outside. It is proper: an oracle has the best expected score by
naming the quantiles that it believes in. A shift of a band, up or down, costs it; so does one that is wide to be safe.

Scores scatter from task to task more than a shift of a band changes them. Oracles are therefore compared on the same tasks,
by the difference of their scores, as forecasts are in Diebold and Mariano (1995, "Comparing Predictive Accuracy"): what a
task does to all of them cancels. Buyers are shared out by exponential weights of these differences (Freund and Schapire
1997, "A Decision-Theoretic Generalization of On-Line Learning"), old ones fading. The logarithm of the odds between two
oracles is linear in their scores, so that it is greatest in the mean, task by task, for an oracle that names what it
believes, whatever the others name. Odds alone are not linear: who gains by their mean may gamble a little (Freeman et al.
2020, "No-Regret and Incentive-Compatible Online Learning"), the less, the smaller `KEENNESS` is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import NamedTuple

from fleet_market.errors import InputError

KEPT = 0.95
"""What a score counts after one more has come in: some twenty quotes back are remembered [assumption]."""
EXPLORED = 0.02
"""Share of quotes bought from any oracle, so that one that has mended its ways can show it: epsilon-greedy, Sutton and
Barto (2018, "Reinforcement Learning", section 2.2) [assumption for the value]."""
KEENNESS = 0.4
"""How fast buyers turn away: a score that is worse by 1, once, divides the odds of an oracle by exp(0.4) = 1.5
[assumption]."""


class Band(NamedTuple):
    """What an oracle has said of a task."""

    low_uc: int
    high_uc: int
    confidence: float


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
    excess: float = 0.0
    """Weighted sum of how much worse its scores were than the median of all oracles on the same tasks, shares of the scale;
    0 for one that is new: it is taken to be as good as the others."""

    @property
    def mean(self) -> float | None:
        """The mean score, a share of the scale; None without any."""
        return self.total / self.weight if self.weight else None

    @property
    def coverage(self) -> float | None:
        """The share of bands that held; None without any."""
        return self.hits / self.weight if self.weight else None

    def after(self, score: float, usual: float, *, hit: bool) -> Standing:
        """Return the standing with one more score, where `usual` is the median of all oracles on this task."""
        return replace(
            self,
            weight=KEPT * self.weight + 1.0,
            total=KEPT * self.total + score,
            hits=KEPT * self.hits + hit,
            scored=self.scored + 1,
            excess=KEPT * self.excess + score - usual,
        )


def judged(
    standings: Mapping[str, Standing], bands: Mapping[str, Band], price_uc: int, scale_uc: int
) -> dict[str, tuple[float, Standing]]:
    """Return score and standing of each oracle after their bands for one task, all named at one time, have met the price.

    Parameters
    ----------
    standings : mapping of str to Standing
        As they were; who is not in it is new.
    bands : mapping of str to Band
        By oracle: the one that was bought and those that were sealed.
    price_uc : int
        Competitive price of the task, known afterwards and not moved by the buyer's own budget; see
        `reference_price_uc`.
    scale_uc : int
        What a score is a share of, above 0, known before the bands were given (as the size of the task is): with one that
        depends on the outcome the score would not be proper.

    Raises
    ------
    InputError
        As `interval_score`, or if the scale is not above 0.
    """
    if scale_uc <= 0:
        raise InputError("score", "scale_uc", scale_uc, "use more than 0 micro-credits")
    scores = {name: interval_score(*band, price_uc) / scale_uc for name, band in bands.items()}
    usual = median(scores.values()) if scores else 0.0
    return {
        name: (
            scores[name],
            standings.get(name, Standing()).after(scores[name], usual, hit=band.low_uc <= price_uc <= band.high_uc),
        )
        for name, band in bands.items()
    }


def reference_price_uc(asks: Iterable[tuple[str, int]], winner: str) -> int | None:
    """Return what a task was worth on its market, whatever budget its buyer had named.

    That is the middle between the ask that has won and the lowest ask of another owner: the interval of competitive prices
    of a lot by itself, whose middle bands speak of (`fleet_market.oracle.bands`). Judged by its upper end, an honest band
    looks low and one that is too high looks better than it is. Where nobody else has asked, it is what the winner has
    asked: the price paid is then the buyer's own budget, and would make every oracle right who has been believed.

    Parameters
    ----------
    asks : iterable of (owner, ask_uc)
        All asks of the closed batch for this task.
    winner : str
        The owner who got it.
    """
    known = list(asks)
    own_uc = min((ask_uc for owner, ask_uc in known if owner == winner), default=None)
    rival_uc = min((ask_uc for owner, ask_uc in known if owner != winner), default=None)
    if own_uc is None or rival_uc is None:
        return rival_uc if own_uc is None else own_uc
    return (own_uc + max(own_uc, rival_uc)) // 2


def shares(fees_uc: Mapping[str, int], standings: Mapping[str, Standing], scale_uc: int) -> dict[str, float]:
    """Return which share of the quotes buyers buy from each oracle, by name; together 1, nothing for nobody.

    A fee counts as a score of its share of the scale would, for all the scores that are remembered.

    Parameters
    ----------
    fees_uc : mapping
        Fee of each oracle that can be asked.
    standings : mapping
        What is known of them; who is not in it is new.
    scale_uc : int
        Micro-credits that a score of 1 costs the buyer, above 0: the size of his task.

    Raises
    ------
    InputError
        If the scale is not above 0.
    """
    if scale_uc <= 0:
        raise InputError("choice", "scale_uc", scale_uc, "use more than 0 micro-credits")
    costs = {
        name: standings.get(name, Standing()).excess + fee_uc / scale_uc / (1.0 - KEPT)
        for name, fee_uc in sorted(fees_uc.items())
    }
    least = min(costs.values(), default=0.0)
    weights = {name: math.exp(KEENNESS * (least - cost)) for name, cost in costs.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def choose(
    fees_uc: Mapping[str, int], standings: Mapping[str, Standing], scale_uc: int, draw: float, explored: float = EXPLORED
) -> str | None:
    """Return which oracle to ask, drawn by the `shares` that they deserve; None if there is none.

    Parameters
    ----------
    fees_uc, standings, scale_uc
        As for `shares`.
    draw : float
        Uniform in [0, 1): below `explored` any oracle is taken, so that all of them stay known.

    Raises
    ------
    InputError
        If the scale is not above 0.
    """
    if not fees_uc:
        return None
    names = sorted(fees_uc)
    if draw < explored:
        return names[min(int(draw / explored * len(names)), len(names) - 1)]
    left = (draw - explored) / (1.0 - explored) if explored < 1.0 else 0.0
    wanted = shares(fees_uc, standings, scale_uc)
    for name, share in wanted.items():
        left -= share
        if left < 0.0:
            return name
    return max(wanted, key=lambda name: wanted[name])  # what rounding has left over
