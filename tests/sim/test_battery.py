import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market_sim import SensorNoise, SimRobotState, Truth
from fleet_market_sim.battery import AMBIENT_C, Battery, open_circuit_v
from fleet_market_sim.bots import DELIVERY
from fleet_market_sim.sensors import Sensors

SPEC = DELIVERY.true.battery
CHEMISTRIES = ("lfp", "nmc", "lmo")
shares = st.floats(0, 1)


@given(st.sampled_from(CHEMISTRIES), shares, shares)
def test_the_open_circuit_voltage_rises_with_the_state_of_charge(chemistry, a, b):
    low, high = sorted((a, b))
    assert open_circuit_v(chemistry, low) <= open_circuit_v(chemistry, high) + 1e-3
    assert 2.0 < open_circuit_v(chemistry, low) < 4.35


@pytest.mark.parametrize(("chemistry", "low", "high"), [("lfp", 3.15, 3.40), ("nmc", 3.4, 4.0), ("lmo", 3.3, 4.15)])
def test_voltages_are_those_of_such_cells_where_they_work(chemistry, low, high):
    assert low < open_circuit_v(chemistry, 0.25) < open_circuit_v(chemistry, 0.75) < high


@pytest.mark.parametrize("chemistry", CHEMISTRIES)
def test_a_battery_gives_its_capacity_less_what_it_loses_inside(chemistry):
    battery = Battery(SPEC.model_copy(update={"chemistry": chemistry}), 1.0)
    while not battery.empty:
        battery.run(100.0, 10.0)
    given_wh, lost_wh = battery.energy_out_j / 3600, battery.heat_j / 3600
    assert given_wh + lost_wh == pytest.approx(SPEC.capacity_wh, rel=0.005)
    assert 0 < lost_wh < 0.02 * SPEC.capacity_wh
    assert battery.cycles == pytest.approx(0.5, rel=1e-3)


def test_voltage_sags_under_load_and_rises_while_charging():
    battery = Battery(SPEC, 0.5)
    resting = battery.voltage_v
    battery.run(480.0, 1.0)
    assert battery.voltage_v < resting
    assert battery.voltage_v * -battery.current_a == pytest.approx(480.0)
    assert resting - battery.voltage_v == pytest.approx(-battery.current_a * battery.resistance_ohm, rel=1e-3)
    battery.charging = True
    battery.run(0.0, 1.0)
    assert battery.voltage_v > resting
    assert battery.current_a > 0


def test_the_charger_tapers_and_never_overfills():
    battery = Battery(SPEC, 0.5)
    battery.charging = True
    powers = []
    for _ in range(5 * 360):
        powers.append(battery.charger_w())
        battery.run(0.0, 10.0)
        assert battery.soc <= 1.0
    assert powers[0] == pytest.approx(SPEC.max_charge_w * SPEC.charge_efficiency)
    assert powers == sorted(powers, reverse=True)
    assert powers[-1] < 0.1 * powers[0]
    assert battery.soc > 0.98


def test_heat_warms_the_battery_and_a_warm_one_resists_less():
    hot, idle = Battery(SPEC, 0.9), Battery(SPEC, 0.9)
    for _ in range(600):
        hot.run(1500.0, 1.0)
        idle.run(0.0, 1.0)
    assert hot.temperature_c > AMBIENT_C + 1
    assert idle.temperature_c == pytest.approx(AMBIENT_C)
    assert hot.resistance_ohm < idle.resistance_ohm
    warm = hot.temperature_c
    hot.run(0.0, 600.0)
    assert AMBIENT_C < hot.temperature_c < warm


def test_age_takes_capacity_and_adds_resistance():
    fast = SPEC.model_copy(update={"cycle_life_efc": 2.0})
    new, old = Battery(fast, 1.0), Battery(fast, 1.0)
    for _ in range(2):
        while not old.empty:
            old.run(200.0, 10.0)
        old.charging = True
        while old.soc < 0.99:
            old.run(0.0, 10.0)
        old.charging = False
    assert old.cycles == pytest.approx(2.0, rel=0.02)
    assert old.capacity_ah == pytest.approx(0.8 * new.capacity_ah, rel=0.01)
    old.temperature_c = new.temperature_c
    assert old.resistance_ohm == pytest.approx(2.0 * new.resistance_ohm, rel=0.02)
    used = Battery(SPEC, 1.0, Truth(battery_capacity=0.9, battery_resistance=1.5))
    assert used.capacity_ah == pytest.approx(0.9 * Battery(SPEC, 1.0).capacity_ah)
    assert used.resistance_ohm == pytest.approx(1.5 * Battery(SPEC, 1.0).resistance_ohm)


def test_more_than_the_cells_can_give_is_not_given():
    battery = Battery(SPEC, 0.5)
    battery.run(1e6, 1.0)
    assert battery.voltage_v == pytest.approx(battery.open_circuit_v() / 2, rel=0.01)
    assert math.isfinite(battery.current_a)


TRUE = SimRobotState(
    Pose(1.0, 2.0, 0.5), 0.4, 0.1, 100.0, (10.0, 11.0), (3.0, 4.0), (0.5, 0.6),
    0.7345, 24.1234, -2.345, 25.0, 5000.0, False, 7.0, "floor",
)  # fmt: skip


def test_perfect_sensors_tell_the_truth_and_real_ones_err_alike_every_time():
    assert Sensors(SensorNoise(), 1, "a").read(TRUE) == TRUE
    first, again, other = (Sensors(SensorNoise.usual(), 1, name).read(TRUE) for name in ("a", "a", "b"))
    assert first == again != other
    assert first.soc == pytest.approx(0.73)
    assert first.voltage_v == pytest.approx(24.12)
    assert first.pose != TRUE.pose
    assert first.vx == TRUE.vx
    assert abs(first.odometer_m / 100 - 1) < 0.03
    assert first.wheel_pos_rad[0] / 10 == pytest.approx(first.odometer_m / 100)


def test_noise_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="current_a was nan"):
        replace(SensorNoise(), current_a=math.nan)
