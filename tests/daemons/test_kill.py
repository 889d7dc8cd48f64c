"""kill -9 of a loaded market; `python -m benchmarks.crash` does it a thousand times."""

import pytest

from fleet_market.daemons.engine import Engine
from fleet_market.testing.crashes import Tally, run_kills

pytestmark = [pytest.mark.real, pytest.mark.slow]


async def acknowledge_at_once(self, transport):
    """A planted bug: confirm before the commit."""
    while True:
        effect = await self._effects.get()
        effect.ack()


def test_an_early_acknowledgement_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(Engine, "publish_effects", acknowledge_at_once)
    tally = Tally()
    run_kills(tmp_path / "m.db", 10, 0, tally)
    assert tally.lost
    assert not tally.clean


def check(tally, kills):
    assert tally.kills == kills
    assert tally.acknowledged > 5 * kills
    assert tally.announced > 0
    assert tally.clean, (tally.lost, tally.phantoms, tally.awarded_twice, tally.minted_uc, tally.faults)


def test_thirty_kills_lose_nothing_in_sqlite(tmp_path):
    tally = Tally()
    for group in range(3):
        run_kills(tmp_path / f"{group}.db", 10, group, tally)
    check(tally, 30)


def test_kills_lose_nothing_in_postgresql(postgres_address):
    tally = Tally()
    run_kills(postgres_address, 6, 0, tally)
    check(tally, 6)
