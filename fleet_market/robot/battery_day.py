"""One day of a battery: its state of charge sample by sample, and what it says about wear when the day is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fleet_market.body import BatterySpec
from fleet_market.errors import InputError
from fleet_market.pricing.ageing import S_PER_H, mean_c_rate
from fleet_market.pricing.components import Components, Tally
from fleet_market.pricing.life import J_PER_WH, calendar_share, calendar_share_per_h, planned_life, throughput_share
from fleet_market.pricing.soc_trace import damage_of
from fleet_market.units import ns

DAY_S, SAMPLE_S = 86_400.0, 60.0
"""A day of market time, and the time between two samples."""
MAX_SAMPLES = 2000


class BatteryDay:
    """Collects samples; `observe` says when a day is full."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._soc: list[float] = []
        self.task_share = 0.0
        """Share of the battery's life that tasks were charged for today."""

    def observe(self, soc: float, now_ns: int) -> bool:
        """Take a sample if it is time for one; return whether the day is full. A clock that starts anew starts a day."""
        if self._times_ns and now_ns < self._times_ns[-1]:
            self._times_ns, self._soc, self.task_share = [], [], 0.0
        if not self._times_ns or now_ns - self._times_ns[-1] >= ns(SAMPLE_S):
            self._times_ns.append(now_ns)
            self._soc.append(soc)
        return now_ns - self._times_ns[0] >= ns(DAY_S) or len(self._soc) >= MAX_SAMPLES

    def close(self, components: Components, battery: BatterySpec) -> Components:
        """Return the parts after this day: its cycles counted by rainflow in place of the closed form of its tasks.

        What the robot drew without a task wears the battery too; it is taken down here and priced to nobody.
        """
        soc, hours = np.array(self._soc), np.diff(self._times_ns) / 1e9 / S_PER_H
        steps = np.diff(soc)
        drawn, falling_h = float(-steps[steps < 0].sum()), float(hours[steps < 0].sum())
        discharge_c = drawn / falling_h if falling_h > 0 else 0.0
        c_rate = float(mean_c_rate(battery.max_charge_w / battery.capacity_wh, discharge_c))
        planned = float(throughput_share(battery, drawn * battery.capacity_wh * J_PER_WH, discharge_c))
        measured = planned_life(battery).cycle_weight * damage_of(battery, soc, c_rate)
        rent = calendar_share_per_h(battery) * float(hours.sum())
        aged = float(np.sum(calendar_share(battery, hours, (soc[1:] + soc[:-1]) / 2)))
        idle = max(0.0, planned * components.cycles.factor - self.task_share)
        return components.after_idling(idle).after_day(Tally(planned, measured), Tally(rent, aged))

    def export(self) -> dict[str, Any]:
        """Return the day so far as JSON holds it."""
        return {"times_ns": list(self._times_ns), "soc": list(self._soc), "task_share": self.task_share}

    @classmethod
    def restored(cls, data: Mapping[str, Any], source: str) -> BatteryDay:
        """Return the day that `export` gave.

        Raises
        ------
        InputError
            If it is none.
        """
        day = cls()
        times, soc, share = (data.get(key) for key in ("times_ns", "soc", "task_share"))
        sound = (
            isinstance(times, list)
            and isinstance(soc, list)
            and len(times) == len(soc) <= MAX_SAMPLES
            and all(isinstance(t, int) for t in times)
            and times == sorted(times)
            and all(isinstance(s, int | float) and 0 <= s <= 1 for s in soc)
            and isinstance(share, int | float)
            and 0 <= share <= 1
        )
        if not sound:
            raise InputError(source, "times_ns, soc, task_share", str(data)[:80], "use a day that this program wrote")
        day._times_ns, day._soc, day.task_share = list(times or []), list(soc or []), float(share or 0.0)
        return day
