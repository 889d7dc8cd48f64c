"""How lithium-ion cells age, in additive form: what cycles and time use up adds up over a life, in any order.

Two families, one for each published form:

* `XuForm` (lmo): Xu et al. 2018, "Modeling of lithium-ion battery degradation for cell life assessment", IEEE Trans. Smart
  Grid 9(2):1131, 10.1109/TSG.2016.2578950. Stress f is additive by construction; the capacity lost is
  ``1 - a exp(-b f) - (1 - a) exp(-f)``. The form knows depth, mean state of charge and temperature, no C-rate.
* `PowerForm` (lfp, nmc): the forms of NREL BLAST-Lite (BSD-3), fitted to the tests of Gasper et al. 2023, J. Energy Storage
  73:109042, 10.1016/j.est.2023.109042. Lost capacity is ``k_cyc EFC^p + k_cal t^q``: not additive, a new cell loses more to
  a cycle than an old one. But at fixed stress ``loss^(1/p) = k^(1/p) EFC`` is linear in throughput, and BLAST-Lite's own
  step, ``d loss = p k (loss/k)^((p-1)/p) d EFC``, is exactly ``d(loss^(1/p)) = k^(1/p) d EFC`` whatever the stress was
  before. So ``x = sum k_i^(1/p) EFC_i`` is the additive measure that gives BLAST-Lite's capacity back as ``x^p`` (the
  equivalent age of cumulative exposure, Nelson 1980, IEEE Trans. Reliability R-29:103).

Depth and mean state of charge are those of one rainflow cycle; BLAST-Lite takes the largest swing of a day. Temperature is
that of the cells. The authors of BLAST-Lite call their models qualitative; cold charging (lithium plating) is in none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet_market.errors import InputError

FloatLike = float | NDArray[np.float64]
"""A number or an array of them; arrays broadcast."""

KELVIN = 273.15
REFERENCE_K = 25.0 + KELVIN
HOURS_PER_DAY = 24.0
S_PER_H = 3600.0


class AgeingForm(ABC):
    """The ageing of one chemistry; ``x`` is the additive damage in units of the form, see `life` for shares of a life."""

    @abstractmethod
    def cycle(self, depth: FloatLike, mean_soc: FloatLike, c_rate: FloatLike, temperature_c: FloatLike) -> FloatLike:
        """Return the damage of one full cycle: discharge by `depth`, charge by `depth`.

        Parameters
        ----------
        depth, mean_soc : float or array
            Shares of the capacity, 0 to 1.
        c_rate : float or array
            Mean rate of charge and discharge, per hour (`mean_c_rate`).
        temperature_c : float or array
            Degrees Celsius.
        """

    @abstractmethod
    def calendar(self, mean_soc: FloatLike, temperature_c: FloatLike) -> FloatLike:
        """Return the damage of one hour of time."""

    @abstractmethod
    def loss(self, cycles: FloatLike, calendar: FloatLike) -> FloatLike:
        """Return the share of the new capacity that is lost after these sums of damage."""

    @abstractmethod
    def ends(self, loss: float) -> tuple[float, float]:
        """Return the damage by cycling alone, and by the calendar alone, at which `loss` is lost."""

    @abstractmethod
    def elasticities(self, cycles: float, calendar: float) -> tuple[float, float]:
        """Return ``x dloss/dx`` for both kinds of damage: how much of the loss is each one's doing, at the margin."""


@dataclass(frozen=True, slots=True)
class XuForm(AgeingForm):
    """Xu et al. 2018, tables I and II: an LMO cell."""

    sei_share: float = 5.75e-2
    """a: capacity that forms the first film on the anode."""
    sei_rate: float = 121.0
    """b: how much faster that goes."""
    depth_scale: float = 1.40e5
    depth_power: float = -5.01e-1
    depth_offset: float = -1.23e5
    soc_rate: float = 1.04
    reference_soc: float = 0.5
    temperature_rate: float = 6.93e-2
    calendar_per_s: float = 4.14e-10

    def cycle(self, depth: FloatLike, mean_soc: FloatLike, c_rate: FloatLike, temperature_c: FloatLike) -> FloatLike:
        """Return f of one cycle; the form has no term for the C-rate."""
        del c_rate
        deep = np.maximum(depth, 1e-12)
        of_depth = 1 / (self.depth_scale * deep**self.depth_power + self.depth_offset)
        stress = of_depth * self._soc(mean_soc) * self._temperature(temperature_c)
        return np.where(np.asarray(depth) > 0, stress, 0.0)

    def calendar(self, mean_soc: FloatLike, temperature_c: FloatLike) -> FloatLike:
        """Return f of one hour."""
        rate: FloatLike = self.calendar_per_s * S_PER_H * self._soc(mean_soc) * self._temperature(temperature_c)
        return rate

    def loss(self, cycles: FloatLike, calendar: FloatLike) -> FloatLike:
        """Return 1 - a exp(-b f) - (1 - a) exp(-f)."""
        f = np.asarray(cycles + calendar)
        left: FloatLike = self.sei_share * np.exp(-self.sei_rate * f) + (1 - self.sei_share) * np.exp(-f)
        return 1 - left

    def ends(self, loss: float) -> tuple[float, float]:
        """Return f at `loss`, by bisection: loss rises with f."""
        low, high = 0.0, -math.log1p(-loss) + 1.0
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if self.loss(middle, 0.0) < loss else (low, middle)
        return high, high

    def elasticities(self, cycles: float, calendar: float) -> tuple[float, float]:
        """Return both damages: a unit of either takes the same capacity."""
        return cycles, calendar

    def _soc(self, mean_soc: FloatLike) -> FloatLike:
        factor: FloatLike = np.exp(self.soc_rate * (np.asarray(mean_soc) - self.reference_soc))
        return factor

    def _temperature(self, temperature_c: FloatLike) -> FloatLike:
        kelvin = np.asarray(temperature_c) + KELVIN
        factor: FloatLike = np.exp(self.temperature_rate * (kelvin - REFERENCE_K) * REFERENCE_K / kelvin)
        return factor


class PowerForm(AgeingForm):
    """``k_cyc EFC^p + k_cal t^q`` with `cycle_rate` = k_cyc and `calendar_rate` = k_cal, days."""

    cycle_power: float
    calendar_power: float

    @abstractmethod
    def cycle_rate(self, depth: FloatLike, c_rate: FloatLike, temperature_k: FloatLike) -> FloatLike:
        """Return k_cyc, capacity lost to the first equivalent full cycle."""

    @abstractmethod
    def calendar_rate(self, anode_v: FloatLike, temperature_k: FloatLike) -> FloatLike:
        """Return k_cal, capacity lost to the first day."""

    def cycle(self, depth: FloatLike, mean_soc: FloatLike, c_rate: FloatLike, temperature_c: FloatLike) -> FloatLike:
        """Return ``k_cyc^(1/p) EFC`` of one cycle, which is `depth` equivalent full cycles."""
        rate = self.cycle_rate(depth, c_rate, np.asarray(temperature_c) + KELVIN)
        damage: FloatLike = depth * rate ** (1 / self.cycle_power) + 0.0 * np.asarray(mean_soc)
        return damage

    def calendar(self, mean_soc: FloatLike, temperature_c: FloatLike) -> FloatLike:
        """Return ``k_cal^(1/q) t`` of one hour."""
        rate = self.calendar_rate(anode_potential_v(mean_soc), np.asarray(temperature_c) + KELVIN)
        per_day: FloatLike = rate ** (1 / self.calendar_power)
        return per_day / HOURS_PER_DAY

    def loss(self, cycles: FloatLike, calendar: FloatLike) -> FloatLike:
        """Return ``x^p + y^q``."""
        lost: FloatLike = cycles**self.cycle_power + calendar**self.calendar_power
        return lost

    def ends(self, loss: float) -> tuple[float, float]:
        """Return the inverse of each power."""
        return loss ** (1 / self.cycle_power), loss ** (1 / self.calendar_power)

    def elasticities(self, cycles: float, calendar: float) -> tuple[float, float]:
        """Return ``p x^p`` and ``q y^q``."""
        p, q = self.cycle_power, self.calendar_power
        return p * cycles**p, q * calendar**q


class LfpForm(PowerForm):
    """BLAST-Lite "LFP-Gr 250 Ah prismatic" (Gasper et al. 2023): large energy cells.

    Tested at 10 to 45 C, depths of 0.8 to 1, at most 0.65 C of charge and 1 C of discharge. Cycling alone is *milder* when
    warm in this fit: it balances the calendar term, which is not. BLAST-Lite's second exponential, exp(-1.55e5/T), is below
    1e-200 at any temperature here and left out.
    """

    cycle_power = 0.828
    calendar_power = 0.526

    def cycle_rate(self, depth: FloatLike, c_rate: FloatLike, temperature_k: FloatLike) -> FloatLike:
        """Return (4.38e-8 + 1.55e-8 depth + 1.68e-7 C) exp(2190/T)."""
        rate: FloatLike = (4.38e-8 + 1.55e-8 * depth + 1.68e-7 * c_rate) * np.exp(2190.0 / temperature_k)
        return rate

    def calendar_rate(self, anode_v: FloatLike, temperature_k: FloatLike) -> FloatLike:
        """Return 8.37e4 exp(-(5210 + 3560 Ua)/T)."""
        rate: FloatLike = 8.37e4 * np.exp(-(5210.0 + 3560.0 * anode_v) / temperature_k)
        return rate


class NmcForm(PowerForm):
    """BLAST-Lite "NMC-Gr B1 50 Ah" (Gasper et al. 2023), tested at 10 to 45 C, depths of 0.8 to 1, up to 1.75 C.

    Of the three large NMC cells in BLAST-Lite this is the one whose fit rises with depth, rate and temperature everywhere
    (the other two turn around inside the range of a robot); it is also the most cautious: the three differ by a factor of
    three in life.
    """

    cycle_power = 0.467
    calendar_power = 0.708
    _NORMAL_K = KELVIN + 35.0
    _NORMAL_V = 0.123
    """Anode potential at about half charge."""

    def cycle_rate(self, depth: FloatLike, c_rate: FloatLike, temperature_k: FloatLike) -> FloatLike:
        """Return 0.844 (depth^2 (T/308.15)^3 C^0.5)^0.458 with EFC counted in 1e5."""
        stress = np.asarray(depth) ** 2 * (temperature_k / self._NORMAL_K) ** 3 * np.sqrt(c_rate)
        rate: FloatLike = 0.844 * stress**0.458 / 1e5**self.cycle_power
        return rate

    def calendar_rate(self, anode_v: FloatLike, temperature_k: FloatLike) -> FloatLike:
        """Return 36.2 exp(-4.4 (308.15/T)^3 (Ua/0.123)^(1/3)) with days counted in 1e4."""
        stress = (self._NORMAL_K / temperature_k) ** 3 * np.cbrt(anode_v / self._NORMAL_V)
        rate: FloatLike = 36.2 * np.exp(-4.4 * stress) / 1e4**self.calendar_power
        return rate


FORMS: dict[str, AgeingForm] = {"lmo": XuForm(), "lfp": LfpForm(), "nmc": NmcForm()}


def ageing_form(chemistry: str) -> AgeingForm:
    """Return the form of a chemistry.

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        return FORMS[chemistry]
    except KeyError:
        raise InputError("battery", "chemistry", chemistry, f"use one of {', '.join(sorted(FORMS))}") from None


def mean_c_rate(charge_c: FloatLike, discharge_c: FloatLike) -> FloatLike:
    """Return the rate of a cycle as BLAST-Lite takes it, over the time in which current flows: the harmonic mean."""
    both = np.asarray(charge_c) + np.asarray(discharge_c)
    return 2 * charge_c * discharge_c / np.where(both > 0, both, 1.0)


def anode_potential_v(soc: FloatLike) -> FloatLike:
    """Return the potential of a graphite anode against lithium, volts.

    Safari and Delacourt 2011, J. Electrochem. Soc. 158(5):A562, 10.1149/1.3567007; its lithium content over state of charge
    as in Schimpe et al. 2018, 10.1149/2.1181714jes. BLAST-Lite uses the same for every cell.
    """
    x = 8.5e-3 + np.asarray(soc) * (0.78 - 8.5e-3)
    steps = (
        0.044 * np.tanh((x - 0.1958) / 0.1088)
        + 0.1978 * np.tanh((x - 1.0571) / 0.0854)
        + 0.6875 * np.tanh((x + 0.0117) / 0.0529)
        + 0.0175 * np.tanh((x - 0.5692) / 0.0875)
    )
    return 0.6379 + 0.5416 * np.exp(-305.5309 * x) - steps
