"""Velocity bases over emulated firmware, under the conformance suite."""

import pytest

pytest.importorskip("can")
pytest.importorskip("serial")

from fleet_market.testing.conformance import ROWS, check
from fleet_market_hardware.emulators.benches import ODriveBench, VescBench

SKIPPED = {"teleported_is_not_done": "dead reckoning", "no_load_is_not_done": "no scale"}


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("bench", [VescBench, ODriveBench])
async def test_the_base_keeps_the_contract(bench, row):
    outcome = await check(row, bench)
    assert outcome.verdict == ("skipped" if str(row) in SKIPPED else "kept"), outcome.text
