"""Whole runs: the invariants hold, and a seed repeats to the byte."""

import dataclasses
import io
import os
import subprocess
import sys
from functools import cache

import pytest

from fleet_market.testing.simulation import Scenario, simulate

SEEDS = 300
QUIET = {"faults": frozenset(), "owners": 2, "robots": 4, "sqlite": False, "real_traffic": False}


@cache
def run_of(seed):
    return simulate(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_the_invariants_hold_whatever_goes_wrong(first):
    broken = {seed: run_of(seed).faults for seed in range(first, first + 20) if run_of(seed).faults}
    assert not broken, f"python -m benchmarks.simulate --seed {min(broken)} --trace"


def test_a_seed_repeats_to_the_byte_in_another_process_and_after_other_seeds():
    program = "import sys; from fleet_market.testing.simulation import simulate; simulate(%d, out=sys.stdout)"
    for seed in (4, 19, 116):
        traces = [
            subprocess.run(
                [sys.executable, "-c", program % seed],
                env=os.environ | {"PYTHONHASHSEED": salt},
                capture_output=True,
                check=True,
            ).stdout
            for salt in ("1", "2")
        ]
        out = io.StringIO()
        simulate(seed, out=out)
        assert traces[0] == traces[1] == out.getvalue().encode()


def test_other_seeds_are_other_runs():
    assert len({run_of(seed).digest for seed in range(4)}) == 4


def test_without_faults_everything_is_done_and_paid():
    for seed in range(6):
        scenario = dataclasses.replace(Scenario.of(seed), **QUIET)
        orders = tuple(
            dataclasses.replace(order, cancel_after_s=None, deadline_s=600.0, max_price_uc=60_000_000)
            for order in scenario.orders
        )
        weather = dataclasses.replace(scenario.weather, loss=0.0, unconfirmed=0.0, duplicates=0.0)
        report = simulate(seed, scenario=dataclasses.replace(scenario, orders=orders, weather=weather))
        assert report.faults == ()
        assert report.orders == {"settled": len(orders)}


def test_the_seeds_between_them_have_every_fault_and_every_end():
    reports = [run_of(seed) for seed in range(40)]
    assert {end for report in reports for end in report.orders} == {"settled", "expired", "failed", "cancelled"}
    assert sum(report.starts > 1 for report in reports) > 5
    assert sum(report.lost for report in reports) > 0
    assert sum(report.repeated for report in reports) > 0
