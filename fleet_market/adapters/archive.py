"""Backup and restore of either store: a backup is one SQLite file, whatever it was made from and goes back into."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from fleet_market.adapters.auditing import Report, audit_store
from fleet_market.adapters.sqlite_store import SqliteReader, SqliteStore, prepare
from fleet_market.adapters.store_base import Reads
from fleet_market.adapters.stores import file_of, is_postgres, open_reader, open_store
from fleet_market.errors import StoreError
from fleet_market.ids import MAIN_ZONE, ZoneId


def back_up(address: str | Path, target: Path, zone: ZoneId = MAIN_ZONE) -> Report:
    """Write all that the store at `address` holds of a zone into the new file `target`, while its market may be running.

    Returns
    -------
    Report
        The audit of the backup.

    Raises
    ------
    StoreError
        If the store cannot be read, or `target` exists or cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} exists: name a new file")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        with open_reader(address, zone) as reader:
            if isinstance(reader, SqliteReader):
                reader.backup(part)
            else:
                _fill(part, reader)
        with SqliteReader.open(part) as copy:
            report = audit_store(copy)
        for leftover in ("-wal", "-shm"):
            part.with_name(part.name + leftover).unlink(missing_ok=True)
        part.replace(target)
        _sync_folder(target)
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}: use a folder with room that can be written") from None
    finally:
        part.unlink(missing_ok=True)
    return report


def restore(backup: Path, address: str | Path, zone: ZoneId = MAIN_ZONE) -> Report:
    """Fill the new or empty store of a zone at `address` with a backup.

    Returns
    -------
    Report
        The audit of the backup; nothing is restored from one with faults.

    Raises
    ------
    StoreError
        If the backup cannot be read or is not sound, or the store holds a market already.
    """
    with SqliteReader.open(backup) as source:
        report = audit_store(source)
        if report.faults:
            raise StoreError(f"{backup} is not sound ({report.faults[0]}): take another backup")
        if not is_postgres(address) and file_of(address, zone).exists():
            raise StoreError(f"{file_of(address, zone)} exists: restore into a new file")
        with open_store(address, zone) as store:
            store.load(source)
    return report


def _fill(path: Path, source: Reads) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        prepare(db, path)
        SqliteStore(db, path).load(source)
        db.execute("PRAGMA journal_mode=DELETE")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
