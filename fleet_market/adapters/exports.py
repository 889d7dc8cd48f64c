"""What leaves the market for auditors: the books and the event log as JSON lines, the journal as CSV.

The books' file needs nothing of this program to be checked: ``docs/audit/audit.py`` is a script of its own.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fleet_market.adapters.auditing import opened_with
from fleet_market.adapters.store_base import Reads
from fleet_market.adapters.stores import open_reader
from fleet_market.errors import InputError, StoreError
from fleet_market.ids import MAIN_ZONE, ZoneId
from fleet_market.ledger import Event, Head, Metrics, Opening

BOOKS_FORMAT, LOG_FORMAT, VERSION = "fleet-market books", "fleet-market event log", 1
OPENED_VERSION = 2
"""Of books that do not begin with the first transfer."""
TRANSFER_FIELDS = (
    "seq", "timestamp_ns", "id", "kind", "debit", "credit", "amount_uc", "pending", "reference", "expires_ns", "hash",
)  # fmt: skip
EVENT_FIELDS = (
    "seq", "now_ns", "source", "message_id", "sid", "body", "lookups", "reply_topic", "reply_payload", "effects", "hash",
)  # fmt: skip
SUMS = ("debits_posted", "credits_posted", "debits_pending", "credits_pending")


def export_csv(address: str | Path, target: Path, zone: ZoneId = MAIN_ZONE) -> int:
    """Write the journal of a zone to a CSV file while the market may be running; return the number of rows."""
    with open_reader(address, zone) as reader, target.open("w", newline="", encoding="utf-8") as file:
        return write_csv(reader, file)


def write_csv(reader: Reads, file: IO[str]) -> int:
    """Write the journal as CSV; return the number of rows."""
    writer = csv.writer(file)
    writer.writerow(TRANSFER_FIELDS)
    count = 0
    for entry in reader.journal():
        writer.writerow(["" if value is None else value for value in entry.fields()])
        count += 1
    return count


def write_books(reader: Reads, file: IO[str]) -> int:
    """Write journal, heads, balances and published metrics, a JSON object a line; return the number of transfers.

    Where the beginning is archived, they begin with what was there before the first row that is not.
    """
    anchor, balances = reader.anchor(), reader.balances()
    _line(file, {"format": BOOKS_FORMAT, "version": OPENED_VERSION if anchor.event_seq else VERSION})
    if anchor.event_seq:
        _write_opening(opened_with(reader, balances, reader.journal()), file)
    count, last = anchor.journal_seq, anchor.journal_hash
    for entry in reader.journal():
        _line(file, {"row": "transfer", **dict(zip(TRANSFER_FIELDS, entry.fields(), strict=True))})
        count, last = count + 1, entry.hash
    for h in reader.heads():
        _line(file, head_row(h))
    for account_id, balance in balances.items():
        _line(file, {"row": "account", "id": account_id, **{name: getattr(balance, name) for name in SUMS}})
    _line(file, {"row": "published", "transfers": count, "journal_hash": last, **Metrics.of(balances).as_dict()})
    return count


def _write_opening(opening: Opening, file: IO[str]) -> None:
    """Write what was there before the first transfer, where those before it are archived."""
    after = opening.after
    row = {"transfers": after.journal_seq, "hash": after.journal_hash, "timestamp_ns": after.journal_ns}
    _line(file, {"row": "opening", **row})
    for entry in opening.carried:
        _line(file, {"row": "carried", **dict(zip(TRANSFER_FIELDS, entry.fields(), strict=True))})
    for account_id, balance in opening.balances.items():
        _line(file, {"row": "opened", "id": account_id, **{name: getattr(balance, name) for name in SUMS}})


def write_log(reader: Reads, file: IO[str]) -> int:
    """Write the event log, a JSON object a line; return the number of events.

    Raises
    ------
    StoreError
        If its beginning is archived and not named: it could not be replayed.
    """
    if last := reader.anchor().event_seq:
        raise StoreError(f"events 1 to {last} are archived: name the archives by --archive")
    _line(file, {"format": LOG_FORMAT, "version": VERSION})
    count = 0
    for event in reader.events():
        fields = [text_of(value) for value in event.fields()]
        _line(file, dict(zip(EVENT_FIELDS, fields, strict=True)))
        count += 1
    return count


def read_log(path: Path) -> Iterator[Event]:
    """Yield the events of a file that `write_log` made.

    Raises
    ------
    InputError
        If it is no such file, or a line is damaged; names the line.
    """
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            try:
                event = _logged(json.loads(line), first=number == 1)
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                mend = "use a database, or a file of `fleet-market ledger export --log`"
                raise InputError(str(path), f"line {number}", f"{error}"[:100], mend) from None
            if event is not None:
                yield event


def _logged(row: dict[str, Any], *, first: bool) -> Event | None:
    """Return the event of a line; the first line holds none."""
    if not first:
        return event_of(row)
    if (row.get("format"), row.get("version")) != (LOG_FORMAT, VERSION):
        raise ValueError(f"format {row.get('format')!r} {row.get('version')!r}")
    return None


def head_row(head: Head) -> dict[str, Any]:
    """Return the line of a signed head."""
    row = {"day": head.day, "seq": head.seq, "hash": head.hash, "key_id": head.key_id, "signature": head.signature.hex()}
    return {"row": "head", **row}


def event_of(row: dict[str, Any]) -> Event:
    """Return the event of a line; raises `KeyError`, `AttributeError` or `ValueError` if it is damaged."""
    values = [row[name] for name in EVENT_FIELDS]
    for index in (5, 6, 8):
        if values[index] is not None:
            values[index] = values[index].encode("utf-8", "surrogateescape")
    return Event.of(values)


def text_of(value: str | int | bytes | None) -> str | int | None:
    """Return bytes as text that turns back into the same bytes, whatever they are."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _line(file: IO[str], row: dict[str, Any]) -> None:
    file.write(json.dumps(row, separators=(",", ":"), ensure_ascii=True) + "\n")
