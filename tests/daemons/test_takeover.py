"""Daemons that share zones over PostgreSQL, really killed and really frozen; `benchmarks.takeover` has twelve zones."""

import asyncio
import signal
import threading

import pytest

from fleet_market.adapters.control import Request, ask
from fleet_market.adapters.postgres_leases import PostgresLeases
from fleet_market.adapters.stores import open_store
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig
from fleet_market.errors import ControlError, LedgerMismatchError, PlaceError, StoreError
from fleet_market.ids import MAIN_ZONE, ZoneId
from fleet_market.testing.books import Books
from fleet_market.testing.takeover import Town, read_books

pytestmark = [pytest.mark.real, pytest.mark.slow]
ZONES = tuple(ZoneId(name) for name in ("main", "north", "south"))
NORTH = ZONES[1]
PATIENCE_S = 120.0


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


async def test_a_halt_goes_over_to_the_daemon_that_takes_over(town):
    async with town.trading(daemons=2):
        await town.until(town.even, PATIENCE_S, "every zone is open, shared evenly")
        victim, other = (town.holders()["main"], *(d for d in town.daemons if d is not town.holders()["main"]))
        await asyncio.to_thread(ask, victim.control, Request(command="halt", zones=(MAIN_ZONE,), reason="a drill"))
        victim.signal(signal.SIGKILL)
        await town.until(lambda: MAIN_ZONE in town.zones_of(other), PATIENCE_S, "taken over")
        zones = {zone.zone: zone for zone in (await asyncio.to_thread(ask, other.control, Request(command="status"))).zones}
        assert (zones["main"].phase, zones["main"].reason) == ("halted", "a drill")
        assert zones["north"].phase != "halted"
        with pytest.raises(ControlError, match="no market daemon answers"):
            await asyncio.to_thread(ask, victim.control, Request(command="status"))


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
    assert any(what in logs(tmp_path) for what in ("has taken it over", "is cut off"))


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


class Nowhere:
    """A floor without places."""

    def resolve(self, text, *, source, field):
        raise PlaceError(source, field, text, "there is none")


def daemon(mqtt, address, *zones):
    config = ServerConfig(mqtt.host, mqtt.port, address)
    return Broker(config, [ZoneConfig(Nowhere(), zone) for zone in zones])


async def test_a_zone_whose_books_are_damaged_leaves_the_others_alone(mqtt_broker, postgres_address, town, caplog):
    import psycopg

    with open_store(postgres_address, NORTH) as store:
        store.commit([Books().gift()])
    with psycopg.connect(postgres_address, options="-c search_path=fleet_market_north") as db:
        db.execute("SET session_replication_role = replica")
        db.execute("UPDATE journal SET amount_uc = amount_uc + 1")
    both = daemon(mqtt_broker, postgres_address, MAIN_ZONE, NORTH)
    running = asyncio.create_task(both.run())
    async with asyncio.timeout(60):
        await both.servers[MAIN_ZONE].ready.wait()
        await both.ready.wait()
    assert not both.servers[NORTH].ready.is_set()
    assert "zone north: " in caplog.text
    main, north = both.status().zones
    assert (main.phase, main.well) == ("open", True)
    assert (north.phase, north.well) == ("failed", False)
    assert "event 1" in north.reason
    running.cancel()
    await asyncio.wait([running])
    with pytest.RaisesGroup(LedgerMismatchError, flatten_subgroups=True):
        await daemon(mqtt_broker, postgres_address, NORTH).run()


class LateRoll(PostgresLeases):
    """Whose roll is of the moment before a lease is given back, and is told only after it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.releasing, self.rolled, self.released = (threading.Event() for _ in range(3))

    def roll(self, zones, held):
        found = super().roll(zones, held)
        if self.releasing.is_set():
            self.rolled.set()
            self.released.wait()
        return found

    def release(self, lease):
        self.releasing.set()
        self.rolled.wait(self.lease_s)  # a daemon that ends looks at no roll any more
        super().release(lease)
        self.releasing.clear()
        self.released.set()


@pytest.mark.parametrize("leases", [PostgresLeases, LateRoll])
async def test_no_second_zone_is_given_away_before_the_first_is_taken(
    mqtt_broker, postgres_address, town, monkeypatch, leases
):
    monkeypatch.setattr("fleet_market.daemons.broker.open_leases", leases.open)
    generous = daemon(mqtt_broker, postgres_address, *ZONES)
    running = asyncio.create_task(generous.run())
    given, free = set(), ()
    with PostgresLeases.open(postgres_address) as slow_to_take:
        async with asyncio.timeout(PATIENCE_S):
            await generous.ready.wait()
            while free or not given:
                free = (await asyncio.to_thread(slow_to_take.roll, ZONES, {})).free
                given.update(free)
                await asyncio.sleep(0.05)
    assert len(given) == 1
    running.cancel()
    await asyncio.wait([running])


async def test_a_daemon_whose_database_is_gone_ends(mqtt_broker, postgres_cluster, postgres_address, town):
    only = daemon(mqtt_broker, postgres_address, MAIN_ZONE)
    running = asyncio.create_task(only.run())
    async with asyncio.timeout(60):
        await only.ready.wait()
    postgres_cluster.kill()
    try:
        with pytest.raises(ExceptionGroup) as ended:
            async with asyncio.timeout(60):
                await running
        assert ended.value.split(StoreError)[1] is None, "nothing but that the database is gone"
    finally:
        postgres_cluster.start()
