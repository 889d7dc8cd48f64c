"""Stores by their address: a file is SQLite, ``postgresql://...`` is PostgreSQL.

One PostgreSQL database holds many zones. In SQLite every zone has a file of its own: ``main`` the one that is named, any
other zone one beside it, with the zone in its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet_market.adapters.sqlite_store import SqliteReader, SqliteStore
from fleet_market.errors import InputError
from fleet_market.ids import MAIN_ZONE, ZoneId
from fleet_market.ports import Lease, Leases

if TYPE_CHECKING:
    from fleet_market.adapters.postgres_store import PostgresReader, PostgresStore

SCHEMES = ("postgresql://", "postgres://")


def is_postgres(address: str | Path) -> bool:
    """Return whether `address` names a PostgreSQL database rather than a file."""
    return str(address).startswith(SCHEMES)


def open_store(address: str | Path, zone: ZoneId = MAIN_ZONE, lease: Lease | None = None) -> SqliteStore | PostgresStore:
    """Open a zone's store to write to it, make it if it is not there.

    Parameters
    ----------
    lease : Lease, optional
        Under which a daemon writes to PostgreSQL; without one, and in SQLite, there is no second writer.

    Raises
    ------
    StoreError
        If it cannot be used; see `SqliteStore.open` and `PostgresStore.open`.
    InputError
        If PostgreSQL is named and psycopg is not installed.
    """
    if not is_postgres(address):
        return SqliteStore.open(file_of(address, zone))
    _need_psycopg(str(address))
    from fleet_market.adapters.postgres_store import PostgresStore  # noqa: PLC0415 - psycopg is an extra

    return PostgresStore.open(str(address), zone, lease)


def open_leases(address: str | Path) -> Leases | None:
    """Return what daemons share the zones of a store by; None for SQLite, which has one daemon. Raises as `open_store`."""
    if not is_postgres(address):
        return None
    _need_psycopg(str(address))
    from fleet_market.adapters.postgres_leases import PostgresLeases  # noqa: PLC0415 - psycopg is an extra

    return PostgresLeases.open(str(address))


def open_reader(address: str | Path, zone: ZoneId = MAIN_ZONE) -> SqliteReader | PostgresReader:
    """Open a zone's store read-only, while a market may be running on it; raises as `open_store`."""
    if not is_postgres(address):
        return SqliteReader.open(file_of(address, zone))
    _need_psycopg(str(address))
    from fleet_market.adapters.postgres_store import PostgresReader  # noqa: PLC0415 - psycopg is an extra

    return PostgresReader.open(str(address), zone)


def file_of(address: str | Path, zone: ZoneId) -> Path:
    """Return the SQLite file of a zone; raises `InputError` if `address` is that of a server."""
    if "://" in str(address):
        raise InputError("command line", "--store", str(address), "use a path, or postgresql://user@host:port/database")
    path = Path(address)
    return path if zone == MAIN_ZONE else path.with_name(f"{path.stem}.{zone}{path.suffix}")


def _need_psycopg(address: str) -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - only to see whether it is there
    except ImportError:
        raise InputError(
            "command line",
            "--store",
            address.partition("@")[2] or address,
            "install it: pip install 'fleet-market[postgres]'",
        ) from None
