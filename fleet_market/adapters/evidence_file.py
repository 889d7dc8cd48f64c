"""An oracle's evidence on disk: the newest verified records, and what the Merkle log needs to go on under the same root.

One SQLite file in WAL mode with ``synchronous=FULL``: a record is on the disk when `append` returns, and a crash in the
middle of one leaves what was there before. Records that can no longer be opened are deleted, of them the frontier of the
tree stays (`MerkleTree.frontier`): the file holds 21,000 records at most.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from fleet_market.errors import InputError, StoreError
from fleet_market.ids import PartyName, RobotId, ZoneId
from fleet_market.oracle.evidence import KEPT, ChainEnd, EvidenceLog, Kept, Root
from fleet_market.protocol.messages import TelemetryRecord

SLACK = 1_000
"""Records beyond those that can be opened, before the oldest are deleted at one time."""
BUSY_S = 2.0
MEND = "use a file that this oracle wrote, unchanged; or remove it, and nobody can open what was sold before"
TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS record (leaf INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS chain (
    robot TEXT PRIMARY KEY, number INTEGER NOT NULL, next_seq INTEGER NOT NULL, head TEXT, end_ns INTEGER NOT NULL
) STRICT;
"""


class EvidenceFile:
    """The file of one oracle in one zone; it is alone with it while it is open.

    Parameters
    ----------
    path : Path
        Made if there is none, with its folder.
    zone, name
        Whose evidence it is.

    Raises
    ------
    InputError
        If the file cannot be opened, is no such file, is used by another program, or is another's.
    """

    def __init__(self, path: Path, zone: ZoneId, name: PartyName) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(f"BEGIN IMMEDIATE;{TABLES}COMMIT;")
            self._first = int(self._about("first") or 0)
            for key, mine in (("zone", str(zone)), ("oracle", str(name))):
                if (theirs := self._about(key)) not in (None, mine):
                    raise self._wrong(key, theirs, f"use a file of {key} {mine}, or a new one")
                self._file.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (key, mine))
        except (OSError, sqlite3.Error, ValueError) as error:
            raise self._wrong("file", error, MEND) from None

    def load(self) -> Kept | None:
        """Return what was kept, None where nothing was.

        Raises
        ------
        InputError
            If what the file holds was not written by this program. Signatures are not looked at (`EvidenceLog.resumed`).
        """
        try:
            if (root := self._about("root")) is None:
                return None
            frontier = tuple(bytes.fromhex(node) for node in json.loads(self._about("frontier") or "[]"))
            records: list[TelemetryRecord] = []
            for leaf, body in self._file.execute(
                "SELECT leaf, body FROM record WHERE leaf >= ? ORDER BY leaf", (self._first,)
            ):
                if leaf != self._first + len(records):
                    raise self._wrong("leaf", self._first + len(records), f"{MEND}: it is missing")
                records.append(TelemetryRecord.model_validate_json(body))
            rows = self._file.execute("SELECT robot, number, next_seq, head, end_ns FROM chain")
            chains = tuple(ChainEnd(RobotId(robot), *rest) for robot, *rest in rows)
            return Kept(self._first, frontier, tuple(records), chains, Root(**json.loads(root)))
        except ValidationError as error:
            raise self._wrong("record", error.errors()[0]["msg"], MEND) from None
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._wrong("file", error, MEND) from None

    def append(self, log: EvidenceLog, leaves: Sequence[int]) -> None:
        """Write new leaves of a log; they are on the disk when this returns.

        Raises
        ------
        StoreError
            If the disk does not take them.
        """
        records = [(leaf, log.open(leaf).record) for leaf in leaves]
        root = log.root()
        try:
            with self._file:
                self._file.execute("BEGIN IMMEDIATE")
                bodies = [(leaf, record.model_dump_json()) for leaf, record in records]
                self._file.executemany("INSERT INTO record VALUES (?, ?)", bodies)
                for robot in {record.robot for _, record in records}:
                    end = log.end_of(robot)
                    row = (robot, end.number, end.next_seq, end.head, end.end_ns)
                    self._file.execute("INSERT OR REPLACE INTO chain VALUES (?, ?, ?, ?, ?)", row)
                self._say("root", json.dumps(asdict(root)))
                if root.size - self._first > 2 * KEPT + SLACK:
                    self._shorten(log, root.size - 2 * KEPT)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} does not take evidence: {error}") from error

    def close(self) -> None:
        """Let others have the file."""
        self._file.close()

    def _shorten(self, log: EvidenceLog, first: int) -> None:
        self._say("first", str(first))
        self._say("frontier", json.dumps([node.hex() for node in log.kept(first).frontier]))
        self._file.execute("DELETE FROM record WHERE leaf < ?", (first,))
        self._first = first

    def _about(self, key: str) -> str | None:
        with closing(self._file.execute("SELECT value FROM about WHERE key = ?", (key,))) as found:
            row = found.fetchone()
        return None if row is None else str(row[0])

    def _say(self, key: str, value: str) -> None:
        self._file.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    def _wrong(self, field: str, value: object, mend: str) -> InputError:
        return InputError(str(self._path), field, str(value), mend)
