"""Daemons that share zones over PostgreSQL, really killed and really frozen; `benchmarks.takeover` has twelve zones."""

import signal

import pytest

from fleet_market.ids import ZoneId
from fleet_market.testing.takeover import Town, read_books

pytestmark = [pytest.mark.real, pytest.mark.slow]
ZONES = tuple(ZoneId(name) for name in ("main", "north", "south"))
PATIENCE_S = 60.0


@pytest.fixture
def town(mqtt_broker, postgres_address, tmp_path):
    import psycopg

    with psycopg.connect(postgres_address, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS fleet_market_north, fleet_market_south, fleet_market__leases CASCADE")
    return Town(tmp_path, ZONES, postgres_address, mqtt_broker.host, mqtt_broker.port)


def logs(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("daemon-*.log")))


def check_books(town):
    for zone in ZONES:
        books = read_books(town.database, zone)
        assert books.closed, (zone, books)
        assert books.settled > 0


async def test_the_zones_of_a_killed_daemon_clear_again_and_all_books_close(town, tmp_path):
    async with town.trading(daemons=2):
        await town.until(town.even, PATIENCE_S, "every zone is open, shared evenly")
        shops = town.business.shops
        await town.until(lambda: all(shop.settled for shop in shops.values()), PATIENCE_S, "every zone has settled")
        victim = town.holders()["main"]
        orphans = town.zones_of(victim)
        killed = victim.signal(signal.SIGKILL)
        await town.until(
            lambda: all(shops[zone].first_clear_after(killed) for zone in orphans), PATIENCE_S, "cleared again"
        )
        assert len(town.zones_of(town.daemons[1 - town.daemons.index(victim)])) == len(ZONES)
        await town.settle(PATIENCE_S)
    check_books(town)
    assert "Traceback" not in logs(tmp_path)


async def test_a_frozen_daemon_that_wakes_up_has_lost_its_zones_and_stores_nothing(town, tmp_path):
    async with town.trading(daemons=2):
        await town.until(town.even, PATIENCE_S, "every zone is open, shared evenly")
        shops = town.business.shops
        frozen = town.holders()["main"]
        orphans = town.zones_of(frozen)
        stopped = frozen.signal(signal.SIGSTOP)
        await town.until(
            lambda: all(shops[zone].first_clear_after(stopped) for zone in orphans), PATIENCE_S, "cleared again"
        )
        epochs = {zone: shops[zone].epoch for zone in ZONES}
        frozen.signal(signal.SIGCONT)
        await town.until(town.even, PATIENCE_S, "it takes part again")
        await town.settle(PATIENCE_S)
        moved = [zone for zone in ZONES if shops[zone].epoch > epochs[zone]]
        assert len(moved) <= 1, "at most one zone had to move to even out"
    check_books(town)
    assert "has taken it over" in logs(tmp_path)


async def test_a_daemon_that_comes_later_gets_its_share_and_one_that_ends_gives_it_back_at_once(town):
    async with town.trading(daemons=1):
        await town.until(town.even, PATIENCE_S, "the only daemon runs every zone")
        later = await town.join()
        await town.until(lambda: later.opened and town.even(), PATIENCE_S, "evened out")
        mine = town.zones_of(later)
        ended = later.signal(signal.SIGTERM)
        shops = town.business.shops
        await town.until(lambda: all(shops[zone].first_clear_after(ended) for zone in mine), PATIENCE_S, "cleared again")
        assert await later.process.wait() == 0
        await town.settle(PATIENCE_S)
    check_books(town)
