"""Audit of a store, on demand and while a market runs on it: read-only, on one state of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_market.adapters.signing import verify
from fleet_market.adapters.store_base import Reads
from fleet_market.errors import PlaceError, StoreError
from fleet_market.ids import AccountId
from fleet_market.ledger import (
    GENESIS,
    AccountKind,
    Balance,
    Entry,
    Event,
    Metrics,
    Opening,
    Snapshot,
    audit,
    first_break,
    first_broken_event,
    head_faults,
    kind_of,
)
from fleet_market.ledger.fold import fold
from fleet_market.market import Market, Outcome, Replayed, ReplayError, SnapshotError, order_faults, replay, resume
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
    archived_events: int = 0
    archived_transfers: int = 0
    """Those before the first that was looked at."""
    signed_days: int = 0
    journal_hash: str = GENESIS
    """Of the journal's last row."""
    log_hash: str = GENESIS
    """Of the last event."""
    metrics: Metrics | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        metrics = {} if self.metrics is None else self.metrics.as_dict()
        names = (
            "faults", "notes", "accounts", "transfers", "events", "archived_transfers", "archived_events", "signed_days",
            "journal_hash", "log_hash",
        )  # fmt: skip
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
        market = Market(NoPlaces())
        at = _begin(market, reader, report)
        report.faults += audit(balances, journal, _opening(reader, balances, journal, market, report))
        if at is not None:
            _against_orders(reader, journal, market, at, report)
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
    anchor = reader.anchor()
    if (row := first_break(journal, anchor)) is not None:
        report.faults.append(f"journal row {row} does not follow from those before it")
    if (row := first_broken_event(events, anchor)) is not None:
        report.faults.append(f"event {row} does not follow from those before it")
    report.journal_hash = journal[-1].hash if journal else anchor.journal_hash
    report.log_hash = events[-1].hash if events else anchor.event_hash
    if anchor.event_seq:
        report.archived_events, report.archived_transfers = anchor.event_seq, anchor.journal_seq
        report.notes.append(f"events 1 to {anchor.event_seq} are archived: with --archive they are looked at too")
    try:
        reader.outbox()
    except StoreError as error:
        report.faults.append(str(error))
    hashes = {anchor.journal_seq: anchor.journal_hash} | {entry.seq: entry.hash for entry in journal}
    _heads(reader, hashes, report, key_id)
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
    report.faults += head_faults(heads, hashes.get, verify, archived=reader.anchor().journal_seq)
    if key_id is not None:
        report.faults += [
            f"the head of day {h.day} is signed by another key, {h.key_id}" for h in heads if h.key_id != key_id
        ]
    elif keys := sorted({head.key_id for head in heads}):
        report.notes.append(f"the heads are signed by {', '.join(keys)}: check that this is the market's key")


def begin(market: Market, log: Reads) -> Replayed:
    """Bring a fresh market to where `log` begins: to the snapshot there, where the beginning has been archived.

    Raises
    ------
    SnapshotError
        If that snapshot cannot be used; the archives are needed then.
    """
    if log.anchor().event_seq == 0:
        return Replayed()
    if (opening := log.opening()) is None:
        raise SnapshotError(f"the snapshot at event {log.anchor().event_seq + 1} is damaged: name the archives before it")
    return resume(market, opening)


def _begin(market: Market, reader: Reads, report: Report) -> Replayed | None:
    try:
        return begin(market, reader)
    except SnapshotError as error:
        if _is_sound(reader.opening()):
            report.notes.append(f"{error}: what was decided is looked at only with the archives, by --archive")
        else:
            report.faults.append(str(error))
        return None


def _is_sound(opening: Snapshot | None) -> bool:
    """Return whether a snapshot is the one of which the log speaks, perhaps in a form that this program does not read."""
    return opening is not None and Outcome(snapshot=opening.content).digest() == opening.event.effects


def opened_with(reader: Reads, balances: Mapping[AccountId, Balance], journal: Iterable[Entry]) -> Opening:
    """Return the books before `journal`, the rows that are not archived: what is there now less what they have moved."""
    carried = reader.carried()
    moved = dict.fromkeys(balances, Balance())
    for _ in fold(moved, journal, carried=carried):
        pass
    before = {account_id: _less(balance, moved[account_id]) for account_id, balance in balances.items()}
    return Opening(reader.anchor(), before, carried)


def _less(balance: Balance, moved: Balance) -> Balance:
    return Balance(*(getattr(balance, name) - getattr(moved, name) for name in Balance.__slots__))


def _opening(
    reader: Reads, balances: Mapping[AccountId, Balance], journal: tuple[Entry, ...], market: Market, report: Report
) -> Opening | None:
    """Return the books as they were where the log begins, after a look at whether the snapshot there says the same."""
    if reader.anchor().event_seq == 0:
        return None
    opening, ledger = opened_with(reader, balances, journal), market.ledger
    if not ledger.rows:
        return opening
    image = ledger.image()
    for account_id, balance in opening.balances.items():
        closed = balance == Balance() or (kind_of(account_id) is AccountKind.ESCROW and balance.is_empty)
        if not (image.balances.get(account_id) == balance or (account_id not in image.balances and closed)):
            known = image.balances.get(account_id, "nothing of it")
            report.faults.append(f"{account_id} held {balance} when the log begins, the snapshot there says {known}")
    report.faults += [f"{a} of the snapshot is not there any more" for a in sorted(image.balances.keys() - balances.keys())]
    if Metrics.of(opening.balances).sum_debits_uc != ledger.metrics().sum_debits_uc:
        report.faults.append(
            "the escrow of orders that were over when the log begins is another one than the snapshot says"
        )
    if {e.transfer.id: e.transfer for e in opening.carried} != image.transfers:
        report.faults.append("the holds that were open when the log begins are others than the snapshot says")
    return opening


def _against_orders(reader: Reads, journal: tuple[Entry, ...], market: Market, at: Replayed, report: Report) -> None:
    made = list[Entry]()
    try:
        at = replay(market, reader.events(at.seq), since=at, each=lambda _, outcome: made.extend(outcome.entries))
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
