"""Who runs which zone: leases that several daemons share in a PostgreSQL database.

All times are the database's. A lease that is not renewed ends after `LEASE_S`; its zone is then anybody's, under the next
epoch. Every statement is a transaction of its own: a daemon that is frozen between two of them locks nobody out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Self

import psycopg

from fleet_market.adapters.postgres_store import LEASES, Db, connect, lock_of, migrate, told
from fleet_market.adapters.store_base import migrations
from fleet_market.ids import ZoneId
from fleet_market.ports import Lease, Member, Roll

log = logging.getLogger(__name__)

LEASE_S = 5.0
"""How long a daemon may be silent: a pause of its machine or its network below this costs nothing. [assumption]"""
STALLED = timedelta(seconds=1)
"""A holder that has stopped in the middle of a commit is cut off this long after the end of its lease."""
FORGET = timedelta(hours=1)
SETUP = 0x464D4B54, 0
"""Advisory lock under which the tables are made."""

_SIGN_ON = """
INSERT INTO daemon (name, zones, until)
VALUES (%(name)s, %(zones)s, clock_timestamp() + %(lease)s::interval)
ON CONFLICT (name) DO UPDATE SET zones = excluded.zones, until = excluded.until
"""
_RENEW = """
UPDATE lease SET until = clock_timestamp() + %(lease)s::interval
WHERE holder = %(name)s AND zone = ANY(%(mine)s) RETURNING zone, epoch
"""
_OTHERS = """
SELECT zones, (SELECT count(*) FROM lease WHERE holder = name AND lease.until > clock_timestamp()) FROM daemon
WHERE name <> %(name)s AND until > clock_timestamp()
"""
_FREE = """
SELECT wanted FROM unnest(%(zones)s::text[]) AS wanted LEFT JOIN lease ON lease.zone = wanted
WHERE lease.zone IS NULL OR lease.until < clock_timestamp()
"""
_CLAIM_NEW = """
INSERT INTO lease (zone, epoch, holder, until)
VALUES (%(zone)s, 1, %(name)s, clock_timestamp() + %(lease)s::interval)
ON CONFLICT DO NOTHING RETURNING epoch
"""
_CLAIM = """
WITH free AS (
    SELECT zone FROM lease WHERE zone = %(zone)s AND until < clock_timestamp() FOR UPDATE SKIP LOCKED)
UPDATE lease SET epoch = epoch + 1, holder = %(name)s, until = clock_timestamp() + %(lease)s::interval
FROM free WHERE lease.zone = free.zone RETURNING epoch
"""
"""The row is locked while its holder is in the middle of a commit: whoever claims the zone tries again later."""
_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %(lock)s AND objid = %(number)s AND datname = current_database()
    AND xact_start < clock_timestamp() - %(stalled)s::interval
    AND EXISTS (SELECT 1 FROM lease WHERE zone = %(zone)s AND until < clock_timestamp() - %(stalled)s::interval)
"""
_RELEASE = "UPDATE lease SET until = clock_timestamp(), holder = '' WHERE zone = %(zone)s AND epoch = %(epoch)s"
"""Without its holder: a renewal that is under way does not bring it back."""
_LEAVE = "UPDATE lease SET until = clock_timestamp() WHERE holder = %s AND until > clock_timestamp()"


class PostgresLeases:
    """One daemon's place among the others; implements `fleet_market.ports.Leases`. Use as a context manager."""

    def __init__(self, connection: Db, database: str, lease_s: float = LEASE_S) -> None:
        self._db, self._database, self.lease_s = connection, database, lease_s
        self._busy = threading.Lock()
        """The methods may be called from several threads."""
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
        values = self._values() | {"zones": list(zones), "mine": list(held)}
        with self._busy, told(self._database):
            self._db.execute(_SIGN_ON, values)
            renewed = set(self._db.execute(_RENEW, values).fetchall())
            self._db.execute("DELETE FROM daemon WHERE until < clock_timestamp() - %s::interval", (FORGET,))
            free = self._db.execute(_FREE, values).fetchall()
            others = self._db.execute(_OTHERS, values).fetchall()  # after that: what is no longer free is counted
        return Roll(
            lost=frozenset(zone for zone, lease in held.items() if (zone, lease.epoch) not in renewed),
            others=tuple(Member(frozenset(map(ZoneId, names)), count) for names, count in others),
            free=tuple(ZoneId(zone) for (zone,) in free),
        )

    def claim(self, zone: ZoneId) -> Lease | None:
        """Take a free zone; None if another was faster."""
        lock, number = lock_of(zone)
        values = self._values() | {"zone": zone, "lock": lock, "number": number, "stalled": STALLED}
        with self._busy, told(self._database):
            row = self._db.execute(_CLAIM_NEW, values).fetchone() or self._db.execute(_CLAIM, values).fetchone()
            if row is None and self._db.execute(_CUT_OFF, values).fetchall():
                log.warning("zone %s: its former holder had stopped in the middle of a commit and is cut off", zone)
        return None if row is None else Lease(zone, row[0])

    def release(self, lease: Lease) -> None:
        """Give a zone back at once."""
        with self._busy, told(self._database):
            self._db.execute(_RELEASE, {"zone": lease.zone, "epoch": lease.epoch})

    def _values(self) -> dict[str, object]:
        return {"name": self.name, "lease": timedelta(seconds=self.lease_s)}
