"""Audit of a store, on demand and while a market runs on it: read-only, on one state of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fleet_market.adapters.signing import verify
from fleet_market.adapters.store_base import Reads
from fleet_market.errors import PlaceError, StoreError
from fleet_market.ledger import (
    GENESIS,
    Entry,
    Event,
    Metrics,
    audit,
    first_break,
    first_broken_event,
    head_faults,
)
from fleet_market.market import Market, ReplayError, order_faults, replay
from fleet_market.protocol.messages import Place


@dataclass(slots=True)
class Report:
    """What an audit has found."""

    faults: list[str] = field(default_factory=list)
    """One sentence each, with the row where there is one; empty for sound books."""
    notes: list[str] = field(default_factory=list)
    accounts: int = 0
    transfers: int = 0
    events: int = 0
    signed_days: int = 0
    journal_hash: str = GENESIS
    """Of the journal's last row."""
    log_hash: str = GENESIS
    """Of the last event."""
    metrics: Metrics | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        metrics = {} if self.metrics is None else self.metrics.as_dict()
        names = ("faults", "notes", "accounts", "transfers", "events", "signed_days", "journal_hash", "log_hash")
        return {"sound": not self.faults} | {name: getattr(self, name) for name in names} | metrics


def audit_store(reader: Reads, *, key_id: str | None = None) -> Report:
    """Check everything: the database itself, both chains, heads, balances, supply, and orders against money.

    Parameters
    ----------
    key_id : str, optional
        The only public key that may have signed the heads, hexadecimal.
    """
    report = Report(faults=reader.faults())
    journal = _chains(reader, report, key_id)
    try:
        balances = reader.balances()
        report.accounts, report.metrics = len(balances), Metrics.of(balances)
        report.faults += audit(balances, journal)
        _against_orders(reader, journal, report)
    except (StoreError, ValueError) as error:
        report.faults.append(str(error))
    report.faults = list(dict.fromkeys(report.faults))
    return report


def verify_chains(reader: Reads, *, key_id: str | None = None) -> Report:
    """Check that no row of the journal and the event log was changed, and that the signed heads belong to them."""
    report = Report()
    _chains(reader, report, key_id)
    return report


def _chains(reader: Reads, report: Report, key_id: str | None) -> tuple[Entry, ...]:
    journal: list[Entry] = []
    events: list[Event] = []
    for rows, kept in ((reader.journal(), journal), (reader.events(), events)):
        try:
            _keep(rows, kept)
        except StoreError as error:
            report.faults.append(str(error))
    report.transfers, report.events = len(journal), len(events)
    if (row := first_break(journal)) is not None:
        report.faults.append(f"journal row {row} does not follow from those before it")
    if (row := first_broken_event(events)) is not None:
        report.faults.append(f"event {row} does not follow from those before it")
    report.journal_hash = journal[-1].hash if journal else GENESIS
    report.log_hash = events[-1].hash if events else GENESIS
    try:
        reader.outbox()
    except StoreError as error:
        report.faults.append(str(error))
    _heads(reader, {entry.seq: entry.hash for entry in journal}, report, key_id)
    return tuple(journal)


def _keep(rows: Iterable[Any], kept: list[Any]) -> None:
    """Append the rows, as many as can be read."""
    kept.extend(rows)


def _heads(reader: Reads, hashes: dict[int, str], report: Report, key_id: str | None) -> None:
    try:
        heads = reader.heads()
    except StoreError as error:
        report.faults.append(str(error))
        return
    report.signed_days = len(heads)
    report.faults += head_faults(heads, hashes.get, verify)
    if key_id is not None:
        report.faults += [
            f"the head of day {h.day} is signed by another key, {h.key_id}" for h in heads if h.key_id != key_id
        ]
    elif keys := sorted({head.key_id for head in heads}):
        report.notes.append(f"the heads are signed by {', '.join(keys)}: check that this is the market's key")


def _against_orders(reader: Reads, journal: tuple[Entry, ...], report: Report) -> None:
    market, made = Market(NoPlaces()), list[Entry]()
    try:
        at = replay(market, reader.events(), each=lambda _, outcome: made.extend(outcome.entries))
    except ReplayError as error:
        report.faults.append(str(error))
        return
    if at.diverged:
        report.notes.append(
            f"this program decides {len(at.diverged)} inputs otherwise than the one that took them; the first is event"
            f" {at.diverged[0]}"
        )
    if tuple(made) != journal:
        report.faults.append("the event log leads to another journal than the one that is stored")
    report.faults += order_faults(market.state) + _outbox_faults(reader, market)


def _outbox_faults(reader: Reads, market: Market) -> list[str]:
    stored = {row.id for row in reader.outbox()}
    wanted = {str(message) for message in market.state.unconfirmed}
    return [
        *(f"message {i} of the outbox follows from no event" for i in sorted(stored - wanted)),
        *(f"message {i} should wait in the outbox" for i in sorted(wanted - stored)),
    ]


class NoPlaces:
    """Stands where a map would be: a replay asks the log instead."""

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Refuse."""
        raise PlaceError(source, field, text, "a replay has no map")
