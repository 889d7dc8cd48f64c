"""Stores by their address: a file is SQLite, ``postgresql://...`` is PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet_market.adapters.sqlite_store import SqliteReader, SqliteStore
from fleet_market.errors import InputError

if TYPE_CHECKING:
    from fleet_market.adapters.postgres_store import PostgresReader, PostgresStore

SCHEMES = ("postgresql://", "postgres://")


def is_postgres(address: str | Path) -> bool:
    """Return whether `address` names a PostgreSQL database rather than a file."""
    return str(address).startswith(SCHEMES)


def open_store(address: str | Path) -> SqliteStore | PostgresStore:
    """Open a store to write to it, make it if it is not there.

    Raises
    ------
    StoreError
        If it cannot be used; see `SqliteStore.open` and `PostgresStore.open`.
    InputError
        If PostgreSQL is named and psycopg is not installed.
    """
    if not is_postgres(address):
        return SqliteStore.open(_path(address))
    _need_psycopg(str(address))
    from fleet_market.adapters.postgres_store import PostgresStore  # noqa: PLC0415 - psycopg is an extra

    return PostgresStore.open(str(address))


def open_reader(address: str | Path) -> SqliteReader | PostgresReader:
    """Open a store read-only, while a market may be running on it; raises as `open_store`."""
    if not is_postgres(address):
        return SqliteReader.open(_path(address))
    _need_psycopg(str(address))
    from fleet_market.adapters.postgres_store import PostgresReader  # noqa: PLC0415 - psycopg is an extra

    return PostgresReader.open(str(address))


def _path(address: str | Path) -> Path:
    if "://" in str(address):
        raise InputError("command line", "--store", str(address), "use a path, or postgresql://user@host:port/database")
    return Path(address)


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
