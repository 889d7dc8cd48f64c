"""Counters that VDA 5050 does not give, derived from what it does give."""

from __future__ import annotations

import math

from fleet_market.body import Pose

JOULES_PER_WH = 3600.0
MAX_C_RATE = 5.0
"""A battery that seems to give more than its capacity times this per hour was changed or counted anew [assumption]."""
QUANTUM_SOC = 0.01
"""Most vehicles report whole per cents."""
JUMP_SPEED_SHARE = 2.0
"""A vehicle that seems to go this many times its greatest speed was set down elsewhere."""
JUMP_SLACK_M = 0.5


class EnergyGauge:
    """Energy drawn from a battery, from the fall of its state of charge times its capacity.

    Its step is that of the state of charge: 1 % of 500 Wh is 18 kJ. Charging and a new count by the vehicle re-base it.

    Parameters
    ----------
    capacity_wh : float, optional
        Without it there is nothing to derive energy with.
    """

    def __init__(self, capacity_wh: float | None) -> None:
        self._capacity_j = None if capacity_wh is None else capacity_wh * JOULES_PER_WH
        self._base: tuple[float, int] | None = None
        self._drawn = 0.0

    @property
    def energy_out_j(self) -> float | None:
        """Joules drawn since the first state of charge; None before it, or without a capacity."""
        return None if self._capacity_j is None or self._base is None else self._drawn * self._capacity_j

    def read(self, soc: float | None, charging: bool | None, now_ns: int, health: float | None = None) -> None:  # noqa: FBT001 - three values
        """Take note of a state of charge, 0 to 1, and of the share of the capacity that is left, where it is known."""
        if soc is None:
            return
        if self._base is None or charging:
            self._base = (soc, now_ns)
            return
        before, at_ns = self._base
        fall, hours = before - soc, (now_ns - at_ns) / 3.6e12
        if fall < -QUANTUM_SOC or fall > MAX_C_RATE * hours + 2 * QUANTUM_SOC:
            self._base = (soc, now_ns)
        elif fall > 0:
            self._drawn += fall * (1.0 if health is None else health)
            self._base = (soc, now_ns)


class Odometer:
    """Metres driven, from the places that a vehicle reports; shorter than the truth where it drives curves between two."""

    def __init__(self, max_speed_mps: float) -> None:
        self._max_speed_mps = max_speed_mps
        self._last: tuple[Pose, int] | None = None
        self.metres = 0.0

    def read(self, pose: Pose | None, now_ns: int) -> None:
        """Take note of a place."""
        if pose is None:
            return
        if self._last is not None:
            before, at_ns = self._last
            step_m = math.hypot(pose.x - before.x, pose.y - before.y)
            if step_m <= JUMP_SLACK_M + JUMP_SPEED_SHARE * self._max_speed_mps * (now_ns - at_ns) / 1e9:
                self.metres += step_m
        self._last = (pose, now_ns)
