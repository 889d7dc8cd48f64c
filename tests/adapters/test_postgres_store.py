"""What is special about PostgreSQL: the server, its settings, the way to it."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet_market.adapters import stores
from fleet_market.adapters.stores import open_reader, open_store
from fleet_market.errors import InputError, StoreError
from fleet_market.ledger import audit
from fleet_market.testing.books import Books

pytestmark = pytest.mark.real


def test_a_wrong_password_is_told_without_telling_it(postgres_address):
    with pytest.raises(StoreError, match=r"password authentication failed.*PGPASSWORD") as error:
        open_store(postgres_address.replace(":demo@", ":hunter2@"))
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.removesuffix("market") + "none", "database .none. does not exist"),
        (lambda a: "postgresql://market@127.0.0.1:1/market", "refused.*is it running"),
        (lambda a: a + "?nonsense=1", "the address of the database is wrong"),
    ],
)
def test_a_database_that_cannot_be_reached_is_told_with_a_mend(postgres_address, change, says):
    with pytest.raises(StoreError, match=says):
        open_store(change(postgres_address))


def test_a_reader_of_an_empty_database_makes_nothing_there(postgres_address):
    import psycopg

    with pytest.raises(StoreError, match="holds no market: start one on it first"):
        open_reader(postgres_address)
    with psycopg.connect(postgres_address) as db:
        assert db.execute("SELECT to_regnamespace('fleet_market')").fetchone() == (None,)


def test_a_start_waits_for_the_end_of_the_session_of_a_daemon_that_was_killed(postgres_address):
    import psycopg

    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    former = open_store(postgres_address)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(postgres_address, autocommit=True) as watch:
        again = pool.submit(open_store, postgres_address)
        end_s = time.monotonic() + 60
        while not watch.execute(waiting).fetchone():
            assert not again.done()
            assert time.monotonic() < end_s
        former.close()
        again.result().close()


def test_a_server_that_does_not_sync_is_refused(postgres_cluster, postgres_address):
    postgres_cluster.stop()
    try:
        postgres_cluster.start("fsync=off")
        with pytest.raises(StoreError, match="fsync = off and would lose paid money"):
            open_store(postgres_address)
    finally:
        postgres_cluster.stop()
        postgres_cluster.start()


def test_a_session_syncs_even_where_the_servers_default_is_not_to(postgres_cluster, postgres_address):
    postgres_cluster.stop()
    try:
        postgres_cluster.start("synchronous_commit=off")
        with open_store(postgres_address) as store:
            assert store._db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        postgres_cluster.stop()
        postgres_cluster.start()


def test_a_server_that_is_killed_stops_the_market_and_loses_nothing(postgres_cluster, postgres_address):
    books, done = Books(), 0
    with open_store(postgres_address) as store:
        for _ in range(5):
            store.commit([books.gift() for _ in range(10)])
            done += 10
        postgres_cluster.kill()
        with pytest.raises(StoreError, match="mend the database, then restart"):
            store.commit([books.gift()])
    postgres_cluster.start()
    with open_store(postgres_address) as store:
        found = store.recover()
        assert len(found.events) >= done
        assert audit(found.balances, found.journal) == []
        store.commit([Books.restored(found.events, list(found.balances), found.journal).gift()])


def test_an_older_schema_is_brought_up_to_date_step_by_step(postgres_address, monkeypatch):
    from fleet_market.adapters import postgres_store

    class Script:
        name = "9999_more.sql"

        def read_text(self):
            return "ALTER TABLE outbox ADD COLUMN tries integer NOT NULL DEFAULT 0;"

    with open_store(postgres_address) as store:
        store.commit([Books().gift()])
    more = [*postgres_store.migrations("postgres"), Script()]
    monkeypatch.setattr(postgres_store, "migrations", lambda dialect: more)
    with pytest.raises(StoreError, match=f"schema {len(more) - 1} is older than this program"):
        open_reader(postgres_address)
    with open_store(postgres_address) as store:
        assert len(list(store.events())) == 1
    monkeypatch.undo()
    with pytest.raises(StoreError, match=f"schema {len(more)} is newer than this program"):
        open_store(postgres_address)


def test_without_psycopg_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"pip install 'fleet-market\[postgres\]'"):
        stores.open_store("postgresql://me:secret@host/db")


def test_an_address_of_another_kind_is_refused():
    with pytest.raises(InputError, match="use a path, or postgresql://"):
        open_store("mysql://host/db")
