"""One market, one agent, three bodies: a vehicle of vda-5050-lib, an ODrive base on CAN, and arithmetic."""

import pytest

pytest.importorskip("can")

from benchmarks import _bridge_fleet

pytestmark = [pytest.mark.real, pytest.mark.waits, pytest.mark.slow]
KINDS = ("kinematic", "vda5050", "odrive")


async def test_robots_of_every_kind_trade_and_settle_on_one_market(tmp_path, siemens, monkeypatch):
    monkeypatch.setattr(_bridge_fleet.peer, "install", lambda: siemens)
    rows = {row.what: row for row in await _bridge_fleet.run(tmp_path, KINDS, len(KINDS), 180.0, 0)}
    assert len(rows) == 6
    for row in rows.values():
        assert row.met, row
