import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fleet_market.body import BatterySpec
from fleet_market.errors import InputError
from fleet_market.pricing.ageing import FORMS, ageing_form, anode_potential_v, mean_c_rate
from fleet_market.pricing.life import (
    calendar_damage,
    calendar_rent_uc_per_h,
    calendar_share_per_h,
    capacity,
    capacity_after,
    cycle_damage,
    efc_to_end,
    planned_life,
    throughput_share,
)
from fleet_market.pricing.soc_trace import cycles_of, damage_of, marginal_share, with_task

YEAR_S = 365.25 * 86400
chemistries = st.sampled_from(sorted(FORMS))
rates = st.floats(0.02, 3.0)
celsius = st.floats(-10.0, 55.0)


def pack(chemistry="lfp", **more):
    return BatterySpec(
        **{
            "chemistry": chemistry,
            "voltage_v": 24.0,
            "capacity_wh": 480.0,
            "max_charge_w": 480.0,
            "charge_efficiency": 0.9,
            "reserve_soc": 0.2,
            "resume_soc": 0.3,
            "target_soc": 0.8,
            "replacement_uc": 21_600_000_000,
        }
        | more
    )


# Xu et al. 2018, by hand


def test_xu_stress_of_a_full_cycle_and_of_one_of_80_percent():
    lmo = FORMS["lmo"]
    assert lmo.cycle(1.0, 0.5, 1.0, 25.0) == pytest.approx(1 / 17_000, rel=1e-9)  # 1.40e5 - 1.23e5
    by_hand = 1 / (1.40e5 * 1.118282 - 1.23e5)  # 0.8^-0.501 = exp(0.501 * 0.223144)
    assert lmo.cycle(0.8, 0.5, 1.0, 25.0) == pytest.approx(by_hand, rel=1e-4)


def test_xu_stress_follows_charge_and_temperature():
    lmo = FORMS["lmo"]
    full = lmo.cycle(1.0, 0.5, 1.0, 25.0)
    assert lmo.cycle(1.0, 0.9, 1.0, 25.0) / full == pytest.approx(math.exp(1.04 * 0.4))
    assert lmo.cycle(1.0, 0.5, 1.0, 35.0) / full == pytest.approx(math.exp(0.0693 * 10 * 298.15 / 308.15))
    assert lmo.cycle(1.0, 0.5, 3.0, 25.0) == full


def test_xu_life_ends_at_a_stress_of_0_164():
    f, other = FORMS["lmo"].ends(0.2)
    assert f == other == pytest.approx(math.log(0.9425 / 0.8), abs=1e-6)  # exp(-121 f) is 2e-9
    assert FORMS["lmo"].loss(f, 0.0) == pytest.approx(0.2)
    assert FORMS["lmo"].loss(0.005, 0.0) == pytest.approx(1 - 0.0575 * math.exp(-0.605) - 0.9425 * math.exp(-0.005))


@pytest.mark.parametrize(("depth", "efc"), [(0.2, 6250), (0.4, 6460), (0.6, 5690), (0.8, 4400), (1.0, 2790)])
def test_xu_lives_by_cycling_alone(depth, efc):
    assert depth / float(cycle_damage(pack("lmo"), depth, 0.5, 1.0)) == pytest.approx(efc, rel=2e-3)


@pytest.mark.parametrize(("soc", "temperature_c", "years"), [(0.5, 25.0, 12.6), (0.9, 25.0, 8.3), (0.5, 35.0, 6.4)])
def test_xu_lives_by_the_calendar_alone(soc, temperature_c, years):
    per_year = float(calendar_damage(pack("lmo"), YEAR_S / 3600, soc, temperature_c))
    assert 1 / per_year == pytest.approx(years, rel=1e-2)


# BLAST-Lite, by hand


def test_lfp_rates():
    kelvin = 298.15
    by_hand = (4.38e-8 + 1.55e-8 * 0.6 + 1.68e-7 * 0.5) * (math.exp(2190 / kelvin) + math.exp(-1.55e5 / kelvin))
    assert FORMS["lfp"].cycle_rate(0.6, 0.5, kelvin) == pytest.approx(by_hand, rel=1e-12)
    anode = anode_potential_v(0.5)
    assert anode == pytest.approx(0.123, abs=0.003)  # BLAST-Lite's "Ua at about 50 % SOC"
    by_hand = 8.37e4 * math.exp(-5210 / kelvin) * math.exp(-3560 * anode / kelvin)
    assert FORMS["lfp"].calendar_rate(anode, kelvin) == pytest.approx(by_hand)
    efc = 0.6 / float(cycle_damage(pack(), 0.6, 0.5, 0.5))
    assert efc == pytest.approx((0.2 / 2.1238e-4) ** (1 / 0.828), rel=1e-3)


def test_nmc_rates():
    warm, form = 308.15, FORMS["nmc"]
    assert form.cycle_rate(1.0, 1.0, warm) * 1e5**0.467 == pytest.approx(0.844)
    assert form.cycle_rate(0.5, 4.0, warm) * 1e5**0.467 == pytest.approx(0.844 * 0.5**0.458)  # 0.25 * sqrt 4
    assert form.calendar_rate(0.123, warm) * 1e4**0.708 == pytest.approx(36.2 * math.exp(-4.4))


@pytest.mark.parametrize("chemistry", ["lfp", "nmc"])
def test_the_additive_damage_gives_the_capacity_of_blast_lites_own_steps_under_changing_stress(chemistry):
    form, battery, p = FORMS[chemistry], pack(chemistry), FORMS[chemistry].cycle_power
    hard, mild = (0.8, 1.0), (0.4, 0.3)
    step, blocks = 0.02, [hard, mild, hard, mild] * 3
    loss, efc = float(form.cycle_rate(*hard, 298.15)), {hard: 1.0, mild: 0.0}  # after one equivalent full cycle
    for stress in blocks:
        k = float(form.cycle_rate(*stress, 298.15))
        for _ in range(5000):
            loss += p * k * (loss / k) ** ((p - 1) / p) * step
        efc[stress] += 5000 * step
    damage = sum(float(cycle_damage(battery, d, 0.5, c)) * efc[d, c] / d for d, c in (hard, mild))
    assert 1 - float(capacity(battery, damage, 0.0)) == pytest.approx(loss, rel=5e-3)
    assert loss > 0.02


# what must hold for every chemistry


@given(chemistries, st.floats(0.001, 1.0), st.floats(0.001, 1.0), st.floats(0.0, 1.0), rates, celsius)
def test_a_deeper_cycle_does_more_damage(chemistry, depth, other, mean_soc, c_rate, temperature_c):
    assume(abs(depth - other) > 1e-6)
    shallow, deep = sorted((depth, other))
    damage = cycle_damage(pack(chemistry), np.array([shallow, deep]), mean_soc, c_rate, temperature_c)
    assert 0 < damage[0] < damage[1] < math.inf


@given(chemistries, st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 5.0), celsius)
def test_damage_is_never_negative_nor_endless(chemistry, depth, mean_soc, c_rate, temperature_c):
    for damage in (
        cycle_damage(pack(chemistry), depth, mean_soc, c_rate, temperature_c),
        calendar_damage(pack(chemistry), 1.0, mean_soc, temperature_c),
    ):
        assert 0 <= float(damage) < math.inf
    assert cycle_damage(pack(chemistry), 0.0, mean_soc, c_rate, temperature_c) == 0


@pytest.mark.parametrize("chemistry", ["lfp", "nmc"])
def test_faster_cycles_do_more_damage_and_warm_time_too(chemistry):
    battery = pack(chemistry)
    assert cycle_damage(battery, 0.5, 0.5, 2.0) > cycle_damage(battery, 0.5, 0.5, 0.5)
    assert calendar_damage(battery, 1.0, 0.5, 40.0) > calendar_damage(battery, 1.0, 0.5, 20.0)
    assert calendar_damage(battery, 1.0, 0.9) > calendar_damage(battery, 1.0, 0.3)


@pytest.mark.parametrize("chemistry", sorted(FORMS))
def test_the_data_sheets_cycle_life_scales_the_curve(chemistry):
    battery = pack(chemistry, cycle_life_efc=1234.0, rated_depth=0.7, rated_c_rate=0.4)
    assert 0.7 / float(cycle_damage(battery, 0.7, 0.5, 0.4, 25.0)) == pytest.approx(1234.0)


@pytest.mark.parametrize("chemistry", sorted(FORMS))
@pytest.mark.parametrize("efc_per_day", [0.5, 1.0, 3.0])
def test_planned_use_pays_for_the_pack_exactly_once(chemistry, efc_per_day):
    battery = pack(chemistry, planned_efc_per_day=efc_per_day)
    life = planned_life(battery)
    driving_h = 16.0 - efc_per_day
    energy_j = life.days * efc_per_day * 480.0 * 3600
    by_tasks = float(throughput_share(battery, energy_j, efc_per_day / driving_h))
    by_time = calendar_share_per_h(battery) * life.days * 24
    assert by_tasks == pytest.approx(life.cycle_part)
    assert by_tasks + by_time == pytest.approx(1.0)
    work_h, parked_h = 16.0 * life.days, 8.0 * life.days
    calendar = calendar_damage(battery, work_h, life.mean_soc) + calendar_damage(battery, parked_h, 0.8)
    assert float(capacity(battery, by_tasks / life.cycle_weight, calendar)) == pytest.approx(0.8)


@pytest.mark.parametrize("chemistry", sorted(FORMS))
def test_use_near_the_plan_is_charged_right_to_the_second_order(chemistry):
    battery = pack(chemistry, planned_efc_per_day=1.0)
    life, errors = planned_life(battery), []
    for work in (1.1, 1.2):
        cycles = life.cycle_part / life.cycle_weight / life.days * work
        time = (1 - life.cycle_part) / life.calendar_weight / life.days
        days = next(
            d for d in np.arange(0.0, 2 * life.days, life.days / 4000) if capacity(battery, d * cycles, d * time) <= 0.8
        )
        errors.append(abs(life.cycle_weight * days * cycles + life.calendar_weight * days * time - 1))
    assert errors[0] < 0.004
    assert errors[1] < 0.015


def test_the_price_of_energy_holds_no_calendar():
    cold, warm = pack("lmo"), pack("lmo", planned_work_h_per_day=8.0, target_soc=0.8)
    assert calendar_rent_uc_per_h(cold) > 0
    assert throughput_share(cold, 0.0, 0.0) == 0
    assert float(throughput_share(warm, 1e6, 0.2)) == pytest.approx(float(throughput_share(cold, 1e6, 0.2)))


def test_the_same_life_comes_out_of_capacity_and_of_its_end():
    battery = pack("nmc")
    efc = efc_to_end(battery, 1.0, 0.5, 1.0, 2.0)
    assert float(capacity_after(battery, efc, 1.0, 0.5, 1.0, 2.0)) == pytest.approx(0.8)
    assert np.all(np.diff(capacity_after(battery, np.array([0.0, 100.0, 500.0]), 1.0, 0.5, 1.0, 2.0)) < 0)


def test_the_rate_of_a_cycle_is_that_over_the_time_in_which_current_flows():
    assert float(mean_c_rate(1.0, 0.25)) == pytest.approx(2 / (1 + 4))
    assert float(mean_c_rate(0.0, 0.0)) == 0


def test_an_unknown_chemistry_is_refused():
    with pytest.raises(InputError, match=r"chemistry was 'nimh': use one of lfp, lmo, nmc"):
        ageing_form("nimh")


# traces


def test_rainflow_counts_by_hand():
    found = cycles_of(np.array([0.8, 0.3, 0.8]))
    assert found.tolist() == [[0.5, pytest.approx(0.55), 0.5]] * 2
    nested = cycles_of(np.array([0.9, 0.5, 0.6, 0.2, 0.9]))
    assert sorted(map(tuple, np.round(nested, 9).tolist())) == [(0.1, 0.55, 1.0), (0.7, 0.55, 0.5), (0.7, 0.55, 0.5)]


def test_a_trace_costs_its_cycles():
    battery = pack("lmo")
    trace = np.array([0.8, 0.3, 0.8])
    assert damage_of(battery, trace, 1.0) == pytest.approx(float(cycle_damage(battery, 0.5, 0.55, 1.0)))
    assert damage_of(battery, trace, 1.0, health=0.9) == pytest.approx(0.9 * damage_of(battery, trace, 1.0))
    assert damage_of(battery, np.array([0.5, 0.5]), 1.0) == 0
    with pytest.raises(ValueError, match="within 0 and 1"):
        damage_of(battery, np.array([0.5, math.nan]), 1.0)


def test_a_task_lowers_the_charge_until_the_charger_makes_up_for_it():
    soc = np.array([0.8, 0.6, 0.5, 0.8, 0.7])
    assert with_task(soc, 1, 0.1).tolist() == pytest.approx([0.8, 0.6, 0.5, 0.4, 0.8, 0.7])
    assert with_task(soc, 4, 0.1).tolist() == pytest.approx([0.8, 0.6, 0.5, 0.8, 0.7, 0.6])
    for at, drop in ((5, 0.1), (-1, 0.1), (1, 0.6), (1, -0.1)):
        with pytest.raises(ValueError, match="must be"):
            with_task(soc, at, drop)


def test_marginal_damage_by_hand():
    battery = pack("lmo")
    deeper = cycle_damage(battery, 0.6, 0.5, 1.0) - cycle_damage(battery, 0.5, 0.55, 1.0)
    share = marginal_share(battery, np.array([0.8, 0.3, 0.8]), 1, 0.1, 1.0)
    assert share == pytest.approx(planned_life(battery).cycle_weight * float(deeper))


@given(st.lists(st.floats(0.2, 1.0), min_size=2, max_size=20), st.data())
def test_inserting_a_task_never_lowers_the_charge_that_is_cycled(soc, data):
    trace = np.array(soc)
    at = data.draw(st.integers(0, len(soc) - 1))
    after = with_task(trace, at, data.draw(st.floats(0.0, 0.2)))

    def cycled(t):
        return float(np.sum(cycles_of(t)[:, 0] * cycles_of(t)[:, 2]))

    assert cycled(after) >= cycled(trace) - 1e-9
    assert damage_of(pack("lfp"), after, 0.5) >= damage_of(pack("lfp"), trace, 0.5) - 1e-12
