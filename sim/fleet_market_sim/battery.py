"""The traction battery as it really is: voltage curve, resistance, heat, age; and its charger.

Equivalent circuit of one resistance (Rint model, Johnson 2002, J. Power Sources 110:321): the loads' power P flows at the
current I with ``P = (U0(soc) - I R) I``. Open-circuit voltage is the difference of the electrodes' potentials:

* nmc: Chen et al. 2020, J. Electrochem. Soc. 167:080534 (LG M50), both electrodes and their ranges,
* lfp: Afshar et al. 2017, arXiv 1709.03970, against the graphite of Chen et al.; ranges chosen for 2.5 to 3.5 V
  [assumption],
* lmo: Doyle et al. 1996, J. Electrochem. Soc. 143:1890, spinel against coke; ranges chosen for 3.0 to 4.2 V [assumption].

The curve is scaled so that its mean is the nominal voltage: capacity in Wh is then nominal voltage times Ah.
"""

from __future__ import annotations

import math
from functools import cache

from fleet_market.body import BatterySpec
from fleet_market_sim.drivetrain import Truth

RESISTANCE_OHM_AH = {"lfp": 0.023, "nmc": 0.14, "lmo": 0.06}
"""Direct-current resistance of a cell times its capacity: about 10 milliohm at 2.3 Ah, 28 at 5 Ah, 2 at 33 Ah
[assumption, size of data-sheet values of A123 ANR26650, LG M50 and a Leaf cell]."""
CELL_V = {"lfp": 3.25, "nmc": 3.65, "lmo": 3.85}
WIRING_OHM = 0.01
"""Cables, fuse and contactor [assumption]."""
ACTIVATION_K = 2500.0
"""Resistance grows in the cold as exp(2500 K (1/T - 1/298.15 K)), about 20 kJ/mol [assumption]."""
WH_PER_KG = {"lfp": 110.0, "nmc": 160.0, "lmo": 120.0}
"""Energy per mass of a pack [assumption]."""
HEAT_CAPACITY_J_KG_K = 1000.0
"""Of lithium-ion cells, rounded (Bernardi et al. 1985 and later measurements: 830 to 1100)."""
COOLING_W_PER_K_KG = 0.05
"""Free convection at 5 W/(m2 K) over about 0.01 m2 per kilogram [assumption]."""
AMBIENT_C = 22.0
KNEE_SOC = {"lfp": 0.90, "nmc": 0.80, "lmo": 0.80}
"""From here the charger goes over to constant voltage: its power falls in a straight line ... [assumption]"""
FULL_SHARE = 0.04
"""... to this share when full [assumption; 0.02 to 0.05 C is where chargers usually cut off]."""
CYCLE_LIFE_EFC = {"lfp": 3000.0, "nmc": 1500.0, "lmo": 1000.0}
"""Where the data sheet does not say [assumption]."""
END_OF_LIFE_CAPACITY, END_OF_LIFE_RESISTANCE = 0.8, 2.0
"""Usual definition of the end of life (e.g. ISO 12405-4), reached after the spec sheet's cycle life, linear until then."""
KELVIN = 273.15
TABLE = 400


def open_circuit_v(chemistry: str, soc: float) -> float:
    """Return a cell's open-circuit voltage at a state of charge from 0 to 1."""
    if chemistry == "nmc":
        y, x = _between(0.9084, 0.2661, soc), _between(0.0279, 0.9014, soc)
        positive = (
            -0.8090 * y
            + 4.4875
            - 0.0428 * math.tanh(18.5138 * (y - 0.5542))
            - 17.7326 * math.tanh(15.7890 * (y - 0.3117))
            + 17.5842 * math.tanh(15.9308 * (y - 0.3120))
        )
        return positive - _graphite_v(x)
    if chemistry == "lfp":
        y, x = _between(0.95, 0.005, soc), _between(0.05, 0.80, soc)
        return 3.4077 - 0.020269 * y + 0.5 * math.exp(-150 * y) - 0.9 * math.exp(-30 * (1 - y)) - _graphite_v(x)
    y, x = _between(0.985, 0.19, soc), _between(0.06, 0.56, soc)
    positive = (
        4.19829
        + 0.0565661 * math.tanh(-14.5546 * y + 8.60942)
        - 0.0275479 * (math.pow(0.998432 - y, -0.492465) - 1.90111)
        - 0.157123 * math.exp(-0.04738 * y**8)
        + 0.810239 * math.exp(-40 * (y - 0.133875))
    )
    return positive - (-0.16 + 1.32 * math.exp(-3 * x) + 10 * math.exp(-2000 * x))


def _graphite_v(x: float) -> float:
    return (
        1.9793 * math.exp(-39.3631 * x)
        + 0.2482
        - 0.0909 * math.tanh(29.8538 * (x - 0.1234))
        - 0.04478 * math.tanh(14.9159 * (x - 0.2769))
        - 0.0205 * math.tanh(30.4444 * (x - 0.6103))
    )


def _between(empty: float, full: float, soc: float) -> float:
    return empty + (full - empty) * soc


@cache
def _shape(chemistry: str) -> tuple[float, ...]:
    """Return the voltage over its mean at evenly spaced states of charge."""
    volts = [open_circuit_v(chemistry, i / TABLE) for i in range(TABLE + 1)]
    mean = (sum(volts) - (volts[0] + volts[-1]) / 2) / TABLE
    return tuple(v / mean for v in volts)


class Battery:
    """State, heat, age and counters of one battery.

    Parameters
    ----------
    spec : BatterySpec
    soc : float
        State of charge at the start, 0 to 1.
    truth : Truth
        Its age at the start.
    """

    def __init__(self, spec: BatterySpec, soc: float, truth: Truth | None = None) -> None:
        self._spec, self._truth = spec, truth or Truth()
        self._shape = _shape(spec.chemistry)
        self._new_ah = spec.capacity_wh / spec.voltage_v
        cells = spec.voltage_v / CELL_V[spec.chemistry]
        self._new_ohm = cells * RESISTANCE_OHM_AH[spec.chemistry] / self._new_ah + WIRING_OHM
        self._mass_kg = spec.capacity_wh / WH_PER_KG[spec.chemistry]
        self.soc = soc
        self.charging = False
        self.energy_out_j = 0.0
        """Drawn by the robot's loads, whether out of the cells or past them from the charger."""
        self.heat_j = 0.0
        """Lost inside the battery."""
        self._life_efc = self._spec.cycle_life_efc or CYCLE_LIFE_EFC[self._spec.chemistry]
        self.cycles = 0.0
        """Equivalent full cycles since the start."""
        self.current_a = 0.0
        """Negative when discharging."""
        self.temperature_c = AMBIENT_C
        self.voltage_v = self.open_circuit_v()

    @property
    def empty(self) -> bool:
        """Whether nothing is left to draw."""
        return self.soc <= 0.0

    @property
    def capacity_ah(self) -> float:
        """What the battery holds at its present age."""
        worn = (1 - END_OF_LIFE_CAPACITY) * self.cycles / self._life_efc
        return self._new_ah * self._truth.battery_capacity * max(0.05, 1 - worn)

    @property
    def resistance_ohm(self) -> float:
        """Internal resistance at its present age and temperature."""
        grown = 1 + (END_OF_LIFE_RESISTANCE - 1) * self.cycles / self._life_efc
        cold = math.exp(ACTIVATION_K * (1 / (self.temperature_c + KELVIN) - 1 / 298.15))
        return self._new_ohm * self._truth.battery_resistance * grown * cold

    def open_circuit_v(self) -> float:
        """Return the voltage of the resting battery."""
        place = self.soc * TABLE
        i = min(TABLE - 1, int(place))
        low = self._shape[i]
        return self._spec.voltage_v * (low + (self._shape[i + 1] - low) * (place - i))

    def charger_w(self) -> float:
        """Return what the charger gives at the terminals: constant power, then less and less."""
        knee = KNEE_SOC[self._spec.chemistry]
        share = 1.0 if self.soc <= knee else FULL_SHARE + (1 - FULL_SHARE) * (1 - self.soc) / (1 - knee)
        return self._spec.max_charge_w * self._spec.charge_efficiency * share

    def run(self, draw_w: float, dt_s: float) -> None:
        """Draw a power for a time, which the charger helps to give when it is connected.

        More than the cells can give (half the open-circuit voltage at the terminals) is not given.
        """
        self.energy_out_j += draw_w * dt_s
        ocv, ohm = self.open_circuit_v(), self.resistance_ohm
        net_w = draw_w - self.charger_w() if self.charging else draw_w
        out_a = (ocv - math.sqrt(max(0.0, ocv * ocv - 4 * ohm * net_w))) / (2 * ohm)
        heat_w = out_a * out_a * ohm
        moved = out_a * dt_s / 3600.0 / self.capacity_ah
        self.soc = min(1.0, max(0.0, self.soc - moved))
        self.cycles += abs(moved) / 2
        self.heat_j += heat_w * dt_s
        self.current_a, self.voltage_v = -out_a, ocv - out_a * ohm
        cooling_w = COOLING_W_PER_K_KG * self._mass_kg * (self.temperature_c - AMBIENT_C)
        self.temperature_c += (heat_w - cooling_w) * dt_s / (HEAT_CAPACITY_J_KG_K * self._mass_kg)
