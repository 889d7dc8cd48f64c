"""Who runs which zone: leases that several daemons share in a PostgreSQL database.

All times are the database's. A lease that is not renewed ends after `LEASE_S`; its zone is then anybody's, under the next
epoch.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Self

import psycopg

from fleet_market.adapters.postgres_store import LEASES, Db, connect, migrate, sql, told
from fleet_market.adapters.store_base import migrations
from fleet_market.ids import ZoneId
from fleet_market.ports import Lease, Member, Roll

LEASE_S = 5.0
"""How long a daemon may be silent: a pause of its machine or its network below this costs nothing. [assumption]"""
LOCK_TIMEOUT_MS = 1000
"""A holder may be in the middle of a commit: whoever claims its zone tries again later."""
FORGET = timedelta(hours=1)
SETUP = 0x464D4B54, 0
"""Advisory lock under which the tables are made."""

_SIGN_ON = """
INSERT INTO daemon (name, zones, held, until)
VALUES (%(name)s, %(zones)s, %(held)s, clock_timestamp() + %(lease)s::interval)
ON CONFLICT (name) DO UPDATE SET zones = excluded.zones, held = excluded.held, until = excluded.until
"""
_RENEW = """
UPDATE lease SET until = clock_timestamp() + %(lease)s::interval
WHERE holder = %(name)s AND zone = ANY(%(mine)s) RETURNING zone, epoch
"""
_OTHERS = "SELECT zones, held FROM daemon WHERE name <> %(name)s AND until > clock_timestamp()"
_FREE = """
SELECT wanted FROM unnest(%(zones)s::text[]) AS wanted LEFT JOIN lease ON lease.zone = wanted
WHERE lease.zone IS NULL OR lease.until < clock_timestamp()
"""
_CLAIM = """
INSERT INTO lease (zone, epoch, holder, until)
VALUES (%(zone)s, 1, %(name)s, clock_timestamp() + %(lease)s::interval)
ON CONFLICT (zone) DO UPDATE SET epoch = lease.epoch + 1, holder = excluded.holder, until = excluded.until
WHERE lease.until < clock_timestamp() RETURNING epoch
"""
_RELEASE = "UPDATE lease SET until = clock_timestamp() WHERE zone = %(zone)s AND epoch = %(epoch)s"
_LEAVE = "UPDATE lease SET until = clock_timestamp() WHERE holder = %s AND until > clock_timestamp()"


class PostgresLeases:
    """One daemon's place among the others; implements `fleet_market.ports.Leases`. Use as a context manager."""

    def __init__(self, connection: Db, database: str, lease_s: float = LEASE_S) -> None:
        self._db, self._database, self.lease_s = connection, database, lease_s
        self._busy = threading.Lock()
        """One session has one transaction, and the methods may be called from several threads."""
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    @classmethod
    def open(cls, address: str, lease_s: float = LEASE_S) -> Self:
        """Connect, and make the tables where they are not there.

        Raises
        ------
        StoreError
            If the database cannot be reached, or its tables are newer than this program.
        """
        db, name = connect(address, LEASES)
        try:
            with told(name):
                db.execute("SELECT pg_advisory_lock(%s, %s)", SETUP)
                migrate(db, name, migrations("leases"))
                db.execute("SELECT pg_advisory_unlock(%s, %s)", SETUP)
        except BaseException:
            db.close()
            raise
        return cls(db, name, lease_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, and give back every lease; may be called twice."""
        if not self._db.closed:
            with self._busy, contextlib.suppress(psycopg.Error):
                self._db.execute(_LEAVE, (self.name,))
                self._db.execute("DELETE FROM daemon WHERE name = %s", (self.name,))
            self._db.close()

    def roll(self, zones: Collection[ZoneId], held: Mapping[ZoneId, Lease]) -> Roll:
        """Sign on and renew the leases; see `fleet_market.ports.Leases`."""
        values = self._values() | {"zones": list(zones), "held": len(held), "mine": list(held)}
        with self._busy, told(self._database), self._db.transaction():
            self._db.execute(_SIGN_ON, values)
            renewed = set(self._db.execute(_RENEW, values).fetchall())
            self._db.execute("DELETE FROM daemon WHERE until < clock_timestamp() - %s::interval", (FORGET,))
            others = self._db.execute(_OTHERS, values).fetchall()
            free = self._db.execute(_FREE, values).fetchall()
        return Roll(
            lost=frozenset(zone for zone, lease in held.items() if (zone, lease.epoch) not in renewed),
            others=tuple(Member(frozenset(map(ZoneId, names)), count) for names, count in others),
            free=tuple(ZoneId(zone) for (zone,) in free),
        )

    def claim(self, zone: ZoneId) -> Lease | None:
        """Take a free zone; None if another was faster."""
        try:
            with self._busy, told(self._database, but=psycopg.errors.LockNotAvailable), self._db.transaction():
                self._db.execute(sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
                row = self._db.execute(_CLAIM, self._values() | {"zone": zone}).fetchone()
        except psycopg.errors.LockNotAvailable:
            return None
        return None if row is None else Lease(zone, row[0])

    def release(self, lease: Lease) -> None:
        """Give a zone back at once."""
        with self._busy, told(self._database):
            self._db.execute(_RELEASE, {"zone": lease.zone, "epoch": lease.epoch})

    def _values(self) -> dict[str, object]:
        return {"name": self.name, "lease": timedelta(seconds=self.lease_s)}
