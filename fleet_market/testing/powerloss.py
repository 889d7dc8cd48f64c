"""A disk that loses its power: what was not synced is gone, or half of it, in any order.

kill -9 cannot tell a store that syncs from one that does not, for the page cache survives the process. This disk can: it
lives in memory behind a VFS of SQLite (https://www.sqlite.org/vfs.html) through apsw, keeps the sectors that were written
since the last sync apart, and at the cut each of them survives or not, by chance: a later one perhaps where an earlier one
is lost, and of a sector that was written several times any version. What SQLite assumes of disks is assumed here too:
a sector is written whole or not at all, and a sync that has returned is true.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from fleet_market.adapters.sqlite_store import SqliteStore, prepare

SECTOR_BYTES = 512
POWERSAFE_OVERWRITE = 0x1000
"""SQLITE_IOCAP_POWERSAFE_OVERWRITE, as the file systems of Unix are taken to have."""
_FILE_COUNT = iter(range(10**9))


class PowerCutError(Exception):
    """The power is gone; nothing can be read or written until the disk is started again."""


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    """What a cut leaves for certain."""
    now: bytearray = field(default_factory=bytearray)
    """What a reader sees."""
    versions: dict[int, list[bytes]] = field(default_factory=dict)
    """By number of the sector: what was written to it since the last sync, oldest first."""
    sizes: list[int] = field(default_factory=list)
    """Sizes that it had since the last sync."""
    exists_for_certain: bool = False


class Disk:
    """The files of one disk, and its power.

    Parameters
    ----------
    seed : int
        Decides what a cut leaves.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - seeded chance, no secret
        self.files: dict[str, _File] = {}
        self.operations = 0
        """Writes, truncations and syncs so far."""
        self.syncs = 0
        self._cut_at: int | None = None
        self.has_power = True

    def cut_after(self, operations: int) -> None:
        """Let the power fail when this many further writes and syncs have been asked for; the last one does not happen."""
        self._cut_at = self.operations + operations

    def cut(self) -> None:
        """Let the power fail now."""
        self.has_power = False

    def start_again(self) -> None:
        """Give power back: of what was not synced, each sector is there or not."""
        for name, file in list(self.files.items()):
            if not file.exists_for_certain and self._rng.random() < 0.5:
                del self.files[name]
                continue
            self._settle(file)
        self.has_power, self._cut_at = True, None

    def step(self) -> None:
        """Count one operation; raises `PowerCutError` if the power is gone, or goes with it."""
        self.check()
        self.operations += 1
        if self._cut_at is not None and self.operations >= self._cut_at:
            self.cut()
            raise PowerCutError

    def check(self) -> None:
        """Raise `PowerCutError` if there is no power."""
        if not self.has_power:
            raise PowerCutError

    def sync(self, file: _File) -> None:
        """Make certain what was written to `file`."""
        self.step()
        self.syncs += 1
        file.synced[:] = file.now
        file.versions.clear()
        file.sizes.clear()
        file.exists_for_certain = True

    def _settle(self, file: _File) -> None:
        size = self._rng.choice([len(file.synced), *file.sizes])
        image = bytearray(file.synced)
        for number, versions in sorted(file.versions.items()):
            if self._rng.random() < 0.5:
                start = number * SECTOR_BYTES
                if len(image) < start + SECTOR_BYTES:
                    image.extend(bytes(start + SECTOR_BYTES - len(image)))
                image[start : start + SECTOR_BYTES] = self._rng.choice(versions)
        if len(image) < size:
            image.extend(bytes(size - len(image)))
        del image[size:]
        file.synced, file.now = image, bytearray(image)
        file.versions.clear()
        file.sizes.clear()
        file.exists_for_certain = True


class _OpenFile(apsw.VFSFile):
    """One open file; the methods are those of sqlite3_io_methods."""

    def __init__(self, disk: Disk, file: _File) -> None:
        self._disk, self._file = disk, file

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name, as below
        self._disk.check()
        return bytes(self._file.now[offset : offset + amount])

    def xWrite(self, content: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step()
        now, end = self._file.now, offset + len(content)
        if len(now) < end:
            now.extend(bytes(end - len(now)))
            self._file.sizes.append(end)
        now[offset:end] = content
        for number in range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
            sector = bytes(now[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")
            self._file.versions.setdefault(number, []).append(sector)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step()
        del self._file.now[size:]
        self._file.sizes.append(size)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        self._disk.sync(self._file)

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.check()
        return len(self._file.now)

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return POWERSAFE_OVERWRITE

    def xLock(self, level: int) -> None:  # noqa: N802
        """One process alone uses the disk."""

    xUnlock = xLock  # noqa: N815

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: ARG002, N802
        return False

    def xClose(self) -> None:  # noqa: N802
        """Nothing is kept open."""


class _Vfs(apsw.VFS):
    """The disk as a file system of SQLite."""

    def __init__(self, disk: Disk) -> None:
        self.vfs_name = f"power-loss-{next(_FILE_COUNT)}"
        self._disk = disk
        super().__init__(self.vfs_name, "", maxpathname=512)

    def xOpen(self, name: Any, flags: list[int]) -> _OpenFile:  # noqa: N802
        self._disk.check()
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        temporary = path is None
        file = _File() if temporary else self._disk.files.setdefault(str(path), _File())
        return _OpenFile(self._disk, file)

    def xDelete(self, name: str, sync_directory: bool) -> None:  # noqa: ARG002, FBT001, N802
        self._disk.step()
        self._disk.files.pop(name, None)

    def xAccess(self, name: str, flags: int) -> bool:  # noqa: ARG002, N802
        self._disk.check()
        return name in self._disk.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def excepthook(self, kind: object, value: object, trace: object) -> bool:  # noqa: ARG002
        """Keep quiet about the power cuts that SQLite has no use for."""
        return True


class PowerlessConnection:
    """A connection to a file on a `Disk`, as `fleet_market.adapters.sqlite_store` wants one.

    Parameters
    ----------
    synchronous : str
        Replaces the store's ``FULL``: ``NORMAL`` is known to lose what was acknowledged, and must be seen to.
    """

    def __init__(self, disk: Disk, name: str = "market.db", *, synchronous: str = "FULL") -> None:
        self._vfs = _Vfs(disk)
        self._synchronous = synchronous
        with _translated():
            self._db = apsw.Connection(f"/{name}", vfs=self._vfs.vfs_name)
            # WAL without shared memory: https://www.sqlite.org/wal.html#noshm
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return bool(self._db.in_transaction)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        """Run one statement; raises `sqlite3.Error` or `PowerCutError`."""
        with _translated():
            cursor = self._db.execute(
                sql.replace("synchronous=FULL", f"synchronous={self._synchronous}"), tuple(parameters)
            )
            return _Rows(list(cursor))

    def executemany(self, sql: str, parameters: Iterable[Any]) -> None:
        """Run one statement once per row; raises `sqlite3.Error` or `PowerCutError`."""
        with _translated():
            self._db.executemany(sql, list(parameters))

    def close(self) -> None:
        """Close; without power, without a last word."""
        with contextlib.suppress(PowerCutError, apsw.Error):
            self._db.close(force=True)


class _Rows(list[Any]):
    """Rows found, with the methods of a cursor."""

    def fetchone(self) -> Any:
        return self[0] if self else None

    def fetchall(self) -> list[Any]:
        return list(self)

    def __next__(self) -> Any:
        return self[0]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors that the standard library's module would."""
    try:
        yield
    except apsw.ConstraintError as error:
        raise sqlite3.IntegrityError(str(error)) from error
    except apsw.Error as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, PowerCutError):
                raise cause from None
            cause = cause.__context__
        raise sqlite3.OperationalError(str(error)) from error


def open_on(disk: Disk, *, synchronous: str = "FULL") -> SqliteStore:
    """Open the market's store on `disk`; raises as `SqliteStore.open`, and `PowerCutError`."""
    path = Path("/market.db")
    connection = PowerlessConnection(disk, synchronous=synchronous)
    try:
        prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return SqliteStore(connection, path)
