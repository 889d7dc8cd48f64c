"""The dense assignment of robots to lots that gains most, exact in whole micro-credits as far as float64 reaches.

The market clears with `matching`; this is the second opinion that it is tested against.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

IntArray: TypeAlias = NDArray[np.int64]

NO_ASK = -1
"""Marks a pair without an ask, or with one above the budget, in a matrix of gains."""
EXACT_FLOAT = 2**53
"""Whole numbers up to here are exact in float64, which the solver computes in."""


def best_assignment(gain_uc: IntArray) -> tuple[int, list[tuple[int, int]]]:
    """Return the largest sum of gains, and the pairs that reach it.

    Among assignments of equal gain one with the most pairs is taken: a trade that gains nothing still serves a customer.

    Parameters
    ----------
    gain_uc : (R, L) int64 array, micro-credits
        Gain of robot `r` doing lot `l`; `NO_ASK` (or any negative number) where they may not be paired.

    Returns
    -------
    total_uc : int
        Sum of the gains of the chosen pairs.
    pairs : list of (robot row, lot column)
        Each row and each column at most once.

    Raises
    ------
    OverflowError
        If the gains are too large to be added exactly.

    Notes
    -----
    Rectangular linear assignment (Crouse, 2016, the algorithm of ``scipy.optimize.linear_sum_assignment``). Unpaired
    rows and columns are expressed by weight 0; a pair of gain g weighs (n + 1) g + 1 with n the number of possible
    pairs, which orders assignments by gain first and by number of pairs second, in whole numbers.
    """
    if gain_uc.size == 0:
        return 0, []
    most_pairs = min(gain_uc.shape)
    weight = np.where(gain_uc >= 0, gain_uc * (most_pairs + 1) + 1, 0)
    if int(weight.max()) * most_pairs >= EXACT_FLOAT:
        raise OverflowError(f"gains must stay below 2**53 in sum, the largest was {int(gain_uc.max())} micro-credits")
    rows, columns = linear_sum_assignment(weight.astype(np.float64), maximize=True)
    pairs = [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if gain_uc[r, c] >= 0]
    return sum(int(gain_uc[r, c]) for r, c in pairs), pairs
