"""The risk margin: what an uncertain ask must add so that winning with it does not lose money.

The lowest of many asks is low partly because its robot erred: the winner's curse (Capen, Clapp and Campbell 1971, Journal
of Petroleum Technology 23:641). Let ask i be c_i + e_i + m_i with independent errors e_i = sd_i z_i, z_i standard normal.
The winner's z is never below the smallest of all, whose mean is -a_n, the first order statistic of n draws; hence with

    m_i = sd_i a_n

the winner's ask covers its cost on average whatever the true costs are, if the bidders are equally unsure; the Clarke price
that it is paid is never less. Where they are not equally unsure, the less sure win more often than they should: that costs
the winner up to about a tenth of the mean sd if it is paid its own ask, and nothing at the Clarke price (simulated).
a_n is Blom's approximation (Blom 1958, Statistical Estimates and Transformed Beta-Variables), rounded to the safe side::

    a_n = 1.01 Phi^-1((n - 0.375) / (n + 0.25)),  n at least 2

A lone bidder meets the buyer's budget instead of other asks and takes the margin of two.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from fleet_market.errors import InputError

USUAL_BIDDERS = 5
"""Where a robot does not know how many others bid [assumption]."""
MOST_BIDDERS = 10_000
SAFETY = 1.01
"""Blom's scores are at most 0.5 % below the exact means up to 100 bidders (checked by simulation)."""


def curse_factor(bidders: int) -> float:
    """Return how many standard deviations the winner of an auction among `bidders` errs on average, at most.

    Raises
    ------
    InputError
        If there are fewer than 1 or more than `MOST_BIDDERS` bidders.
    """
    if not 1 <= bidders <= MOST_BIDDERS:
        raise InputError("margin", "bidders", bidders, f"use 1 to {MOST_BIDDERS}")
    n = max(2, bidders)
    return SAFETY * NormalDist().inv_cdf((n - 0.375) / (n + 0.25))


def margin_uc(sd_uc: float, bidders: int = USUAL_BIDDERS) -> int:
    """Return the risk margin of an ask, micro-credits, rounded up.

    Parameters
    ----------
    sd_uc : float
        Standard deviation of what the task will cost, at least 0.
    bidders : int
        How many ask for the same lot, this robot included.

    Raises
    ------
    InputError
        If `sd_uc` is negative or not finite, or the number of bidders out of range.
    """
    if not (math.isfinite(sd_uc) and sd_uc >= 0):
        raise InputError("margin", "sd_uc", sd_uc, "use a finite number of at least 0")
    return math.ceil(sd_uc * curse_factor(bidders))
