"""Battery wear from a trace of the state of charge: rainflow cycles, and what one task adds to a day.

Cycles are counted after ASTM E1049-85 (package `rainflow`). This is the full form: it re-prices the few best candidates;
`life.throughput_share` is the closed form for all others.
"""

from __future__ import annotations

import numpy as np
import rainflow
from numpy.typing import NDArray

from fleet_market.body import BatterySpec
from fleet_market.pricing.life import cycle_damage, planned_life

FloatArray = NDArray[np.float64]


def cycles_of(soc: FloatArray) -> FloatArray:
    """Return the rainflow cycles of a trace.

    Parameters
    ----------
    soc : (N,) array
        States of charge in the order of time, 0 to 1; the times do not matter.

    Returns
    -------
    (M, 3) array
        Depth, mean state of charge and count (1 or 0.5) of each cycle.

    Raises
    ------
    ValueError
        If a value is not within 0 and 1.
    """
    trace = np.asarray(soc, dtype=float)
    if not np.all((trace >= 0) & (trace <= 1)):
        raise ValueError("soc must be within 0 and 1")
    found = [(depth, mean, count) for depth, mean, count, _, _ in rainflow.extract_cycles(trace.tolist()) if depth > 0]
    return np.array(found, dtype=float).reshape(-1, 3)


def damage_of(
    battery: BatterySpec, soc: FloatArray, c_rate: float, temperature_c: float | None = None, health: float = 1.0
) -> float:
    """Return the cycle damage of a trace.

    Parameters
    ----------
    battery : BatterySpec
    soc : (N,) array
        As in `cycles_of`.
    c_rate : float
        Mean of charge and discharge, per hour.
    temperature_c : float, optional
        Of the cells; the planned one if not given.
    health : float
        Capacity left, share of the new one: a cycle of an aged pack moves less charge and is counted by it, as BLAST-Lite
        does (for lmo an assumption).
    """
    cycles = cycles_of(soc)
    if not len(cycles):
        return 0.0
    each = cycle_damage(battery, cycles[:, 0], cycles[:, 1], c_rate, temperature_c)
    return health * float(np.sum(each * cycles[:, 2]))


def with_task(soc: FloatArray, at: int, drop_soc: float) -> FloatArray:
    """Return the trace with a task inserted after sample `at` that takes `drop_soc`.

    All is lower from then on, until the charger makes up for it: the next charge goes to the same top as before and takes
    longer. Without a later charge the rest of the trace stays lower.

    Raises
    ------
    ValueError
        If `drop_soc` is negative, `at` is outside of the trace, or the charge left would fall below 0.
    """
    trace = np.asarray(soc, dtype=float)
    if not 0 <= at < len(trace):
        raise ValueError(f"at must be within 0 and {len(trace) - 1}, was {at}")
    if not drop_soc >= 0:
        raise ValueError(f"drop_soc must be at least 0, was {drop_soc}")
    rises = np.flatnonzero(np.diff(trace[at:]) > 0)
    valley = at + int(rises[0]) if len(rises) else len(trace) - 1
    lower = trace[at : valley + 1] - drop_soc
    if lower.min() < 0:
        raise ValueError(f"drop_soc must be at most {trace[at : valley + 1].min():g}, was {drop_soc}")
    return np.concatenate([trace[: at + 1], lower, trace[valley + 1 :]])


def marginal_share(
    battery: BatterySpec,
    soc: FloatArray,
    at: int,
    drop_soc: float,
    c_rate: float,
    temperature_c: float | None = None,
    health: float = 1.0,
) -> float:
    """Return the share of life that a task adds to a day: damage with it less damage without it.

    Parameters
    ----------
    battery : BatterySpec
    soc : (N,) array
        The day's planned trace without the task, 0 to 1.
    at : int
        Sample after which the task is done.
    drop_soc : float
        Charge that it takes, share of the capacity.
    c_rate, temperature_c, health : float
        As in `damage_of`.
    """
    before = damage_of(battery, soc, c_rate, temperature_c, health)
    after = damage_of(battery, with_task(soc, at, drop_soc), c_rate, temperature_c, health)
    return planned_life(battery).cycle_weight * (after - before)
