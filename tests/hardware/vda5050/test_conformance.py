"""The driver contract, row by row, on a vehicle of vda-5050-lib."""

from pathlib import Path

import pytest

from fleet_market.testing.conformance import ROWS, check
from fleet_market_hardware.vda5050.peer.bench import SiemensBench

pytestmark = [pytest.mark.real, pytest.mark.waits]
FOLDER = Path(__file__).parents[3] / ".cache" / "vda5050"
NOT_ABLE = {"reset", "spoil_scale", "base"}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_vehicle_keeps_the_contract(row):
    outcome = await check(row, lambda: SiemensBench(FOLDER))
    assert outcome.verdict == ("skipped" if row.needs & NOT_ABLE else "kept"), outcome.text
