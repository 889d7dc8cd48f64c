"""Leases on a real PostgreSQL: one holder, a new epoch for each, and writes under an old one that match nothing."""

import threading
import time
from datetime import timedelta

import pytest

from fleet_market.adapters import postgres_leases
from fleet_market.adapters.stores import open_leases, open_reader, open_store
from fleet_market.errors import InputError, LeaseLostError, StoreError
from fleet_market.ids import ZoneId
from fleet_market.ports import Lease, Member
from fleet_market.testing.books import Books

pytestmark = pytest.mark.real
MAIN, NORTH = ZoneId("main"), ZoneId("north")
BOTH = (MAIN, NORTH)


@pytest.fixture
def address(postgres_address):
    """A database without markets and without leases."""
    import psycopg

    with psycopg.connect(postgres_address, autocommit=True) as db:
        db.execute("DROP SCHEMA IF EXISTS fleet_market_north, fleet_market__leases CASCADE")
    return postgres_address


def run_out(address, zone=MAIN):
    """Let the time pass that a lease lives."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as db:
        db.execute("UPDATE fleet_market__leases.lease SET until = now() - interval '1 ms' WHERE zone = %s", (zone,))


def test_a_zone_has_one_holder_and_every_holder_a_later_epoch(address):
    with open_leases(address) as one, open_leases(address) as other:
        first = one.claim(MAIN)
        assert first == Lease(MAIN, 1)
        assert other.claim(MAIN) is None
        assert one.claim(MAIN) is None, "not even to itself"
        run_out(address)
        second = other.claim(MAIN)
        assert second == Lease(MAIN, 2)
        one.release(first)
        assert one.claim(MAIN) is None, "an old holder cannot give away what it has lost"
        other.release(second)
        assert other.roll(BOTH, {MAIN: second}).lost == {MAIN}, "what was released is not renewed"
        assert one.claim(MAIN) == Lease(MAIN, 3)


def test_of_many_that_claim_at_once_one_gets_it(address):
    got, barrier = [], threading.Barrier(8)

    def claim():
        with open_leases(address) as leases:
            barrier.wait()
            got.append(leases.claim(MAIN))
            barrier.wait()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=lambda lease: lease is None) == [Lease(MAIN, 1)] + [None] * 7


def test_the_roll_renews_tells_what_is_lost_and_who_else_is_there(address):
    with open_leases(address) as one, open_leases(address) as other:
        assert one.roll(BOTH, {}).free == BOTH
        held = {MAIN: one.claim(MAIN)}
        seen = other.roll((NORTH,), {})
        assert (seen.free, seen.others) == ((NORTH,), (Member(frozenset(BOTH), 1),)), "counted as soon as it is claimed"
        run_out(address)
        assert one.roll(BOTH, held).lost == frozenset(), "late, but nobody was faster"
        assert other.claim(MAIN) is None, "renewed"
        run_out(address)
        theirs = {MAIN: other.claim(MAIN)}
        again = one.roll(BOTH, held)
        assert again.lost == {MAIN}
        assert again.others == (Member(frozenset({NORTH}), 1),)
        assert one.roll(BOTH, {}).free == (NORTH,)
        assert other.roll(BOTH, theirs).lost == frozenset()
    with open_leases(address) as later:
        roll = later.roll(BOTH, {})
        assert (roll.free, roll.others) == (BOTH, ()), "who leaves gives all back"


def test_a_write_under_an_old_lease_matches_nothing(address):
    books = Books()
    with open_leases(address) as leases:
        old = leases.claim(MAIN)
        with open_store(address, MAIN, old) as late:
            late.commit([books.gift()])
            run_out(address)
            late.commit([books.gift()])
            new = leases.claim(MAIN)
            with open_store(address, MAIN, new) as store:
                assert len(list(store.events())) == 2
                with pytest.raises(
                    LeaseLostError, match=r"zone main: another daemon has taken it over \(lease 1 is over\)"
                ):
                    late.commit([books.gift()])
                assert len(list(store.events())) == 2
                found = store.recover()
                store.commit([Books.restored(found.events, list(found.balances), found.journal).gift()])
                with pytest.raises(LeaseLostError):
                    late.commit([books.gift()])
        with pytest.raises(LeaseLostError):
            open_store(address, MAIN, old)
        with open_reader(address) as reader:
            assert len(list(reader.events())) == 3


@pytest.fixture
def in_a_commit(address, monkeypatch):
    """A store whose lease has run out and which is in the middle of a commit; `go_on` lets it go on."""
    from fleet_market.adapters.postgres_store import PostgresStore

    insert, middle, go_on, errors = PostgresStore._insert, threading.Event(), threading.Event(), []

    def slow(self, table, rows):
        insert(self, table, rows)
        if table == "event":
            self._db.execute("SELECT 1").fetchone()
            middle.set()
            go_on.wait(120)

    def commit(store):
        try:
            store.commit([Books().gift()])
        except StoreError as error:
            errors.append(error)

    with open_leases(address) as leases, open_store(address, MAIN, leases.claim(MAIN)) as store:
        run_out(address)
        monkeypatch.setattr(PostgresStore, "_insert", slow)
        writer = threading.Thread(target=commit, args=(store,))
        writer.start()
        assert middle.wait(60)
        monkeypatch.setattr(PostgresStore, "_insert", insert)

        def finish():
            go_on.set()
            writer.join()
            return errors

        yield finish
        finish()


def test_a_take_over_waits_for_a_commit_that_is_under_way(address, in_a_commit, monkeypatch):
    """Else it would read a log to which the old holder still adds."""
    monkeypatch.setattr(postgres_leases, "STALLED", timedelta(hours=1))
    with open_leases(address) as leases:
        assert leases.claim(MAIN) is None, "the old holder is in the middle of a commit"
        assert in_a_commit() == []
        with open_store(address, MAIN, leases.claim(MAIN)) as store:
            assert len(list(store.events())) == 1


def test_a_holder_that_stops_in_the_middle_of_a_commit_is_cut_off(address, in_a_commit, monkeypatch):
    monkeypatch.setattr(postgres_leases, "STALLED", timedelta(0))
    with open_leases(address) as leases:
        assert leases.claim(MAIN) is None, "first it is cut off"
        deadline = time.monotonic() + 60
        while (lease := leases.claim(MAIN)) is None and time.monotonic() < deadline:
            pass
        with open_store(address, MAIN, lease) as store:
            assert in_a_commit(), "it has heard of it"
            assert list(store.events()) == []


def test_every_zone_has_tables_of_its_own(address):
    with open_store(address, MAIN) as main, open_store(address, NORTH) as north:
        main.commit([Books().gift()])
        assert list(north.events()) == []
        north.commit([Books().gift(5)])
    with open_reader(address, NORTH) as reader:
        assert len(list(reader.events())) == 1
    with pytest.raises(InputError, match="use at most 50 characters"):
        open_store(address, ZoneId("z" * 51))


def test_a_tool_that_writes_and_a_daemon_keep_each_other_out(address):
    with open_leases(address) as leases:
        lease = leases.claim(MAIN)
        with open_store(address, MAIN, lease), pytest.raises(StoreError, match="another market daemon"):
            open_store(address)
        with open_store(address), pytest.raises(StoreError, match="another market daemon"):
            open_store(address, MAIN, lease)
