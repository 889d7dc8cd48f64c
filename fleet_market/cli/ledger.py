"""Commands of auditors and operators: look into the books, prove them, keep them safe."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fleet_market.adapters import archive, exports, retention
from fleet_market.adapters.archive_file import is_archive
from fleet_market.adapters.auditing import NoPlaces, Report, audit_store, begin, verify_chains
from fleet_market.adapters.service_config import AGE_DAYS
from fleet_market.adapters.sqlite_store import HEADER
from fleet_market.adapters.store_base import Reads
from fleet_market.adapters.stores import file_of, is_postgres, open_reader, open_store
from fleet_market.adapters.whole_store import WholeStore, archives_in, with_archives
from fleet_market.cli.asking import JsonOption
from fleet_market.cli.services import ZoneOption
from fleet_market.cli.settings import zone_id
from fleet_market.errors import InputError
from fleet_market.ids import AccountId, ZoneId
from fleet_market.ledger import Entry, Event, kind_of
from fleet_market.market import Market, Replayed, ReplayError
from fleet_market.market import replay as replay_log
from fleet_market.units import Credits

EXIT_FAULTS = 1
MAX_ROWS = 1000

ledger = typer.Typer(
    help="Audit, export, look into, back up, restore and archive the books; all but the last two work while a market runs.",
    no_args_is_help=True,
)
console = Console()

ArchiveOption = Annotated[
    list[Path] | None,
    typer.Option("--archive", help="Archive of what is not in the store any more, or a folder of them. Once for each."),
]
StoreOption = Annotated[
    str,
    typer.Option("--store", "--database", envvar="FLEET_MARKET_STORE", help="SQLite file, or postgresql://user@host/name."),
]
KeyOption = Annotated[str | None, typer.Option(help="The market's public key, hexadecimal: no other may have signed.")]


@ledger.command()
def audit(
    store: StoreOption,
    public_key: KeyOption = None,
    archives: ArchiveOption = None,
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Check everything: database, chains, signed heads, balances, supply, orders against money. Exit code 1 on a fault."""
    with open_reader(store, zone_id(zone)) as reader:
        _tell(audit_store(_whole(reader, archives, zone), key_id=public_key), as_json)


@ledger.command("verify-chain")
def verify_chain(
    store: StoreOption,
    public_key: KeyOption = None,
    archives: ArchiveOption = None,
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Check that no row of journal and event log was changed since, and tell which one was. Exit code 1 if one was."""
    with open_reader(store, zone_id(zone)) as reader:
        _tell(verify_chains(_whole(reader, archives, zone), key_id=public_key), as_json)


@ledger.command()
def export(
    store: StoreOption,
    target: Annotated[str, typer.Argument(metavar="FILE", help="*.csv: the journal alone; -: standard output.")],
    log: Annotated[
        bool, typer.Option("--log", help="The event log, for `fleet-market replay`, instead of the books.")
    ] = False,
    archives: ArchiveOption = None,
    zone: ZoneOption = "main",
) -> None:
    """Write the books (or the event log) for an auditor, a JSON object a line; docs/audit/audit.py checks the books."""
    write = exports.write_log if log else exports.write_csv if target.endswith(".csv") else exports.write_books
    with open_reader(store, zone_id(zone)) as reader:
        whole = _whole(reader, archives, zone)
        if target == "-":
            write(whole, sys.stdout)
            return
        try:
            with Path(target).open("w", encoding="utf-8", newline="\n") as file:
                count = write(whole, file)
        except OSError as error:
            raise InputError("command line", "FILE", target, f"{error.strerror}: use a file that can be written") from None
    console.print(f"{count} {'events' if log else 'transfers'} in {target}", highlight=False, soft_wrap=True)


@ledger.command()
def show(
    account_id: Annotated[str, typer.Argument(metavar="ACCOUNT", help="kind:name, e.g. customer:demo.")],
    store: StoreOption,
    rows: Annotated[int, typer.Option(help="Newest transfers to show.", min=0, max=MAX_ROWS)] = 20,
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show what an account holds and its newest transfers."""
    with open_reader(store, zone_id(zone)) as reader:
        balances = reader.balances()
        if account_id not in balances:
            known = sorted(a for a in balances if a.partition(":")[0] == account_id.partition(":")[0])[:5] or sorted(
                balances
            )
            mend = f"no such account; there are {', '.join(known[:5]) or 'none'}"
            raise InputError("command line", "ACCOUNT", account_id, mend)
        mine = AccountId(account_id)
        moves = [e for e in reader.journal() if mine in (e.transfer.debit, e.transfer.credit)]
    balance, newest = balances[mine], moves[len(moves) - min(rows, len(moves)) :]
    if as_json:
        sums = {name: getattr(balance, name) for name in exports.SUMS} | {"available_uc": balance.available_uc}
        transfers = [dict(zip(exports.TRANSFER_FIELDS, e.fields(), strict=True)) for e in newest]
        shown = {"account": mine, "kind": kind_of(mine), **sums, "transfers": transfers}
        typer.echo(json.dumps(shown, indent=2))
        return
    held = Credits(balance.debits_pending), Credits(balance.credits_pending)
    console.print(f"{mine}: {Credits(balance.available_uc)} cr free, {held[0]} cr on hold, {held[1]} cr announced")
    table = Table("row", "kind", "credits", "from or to", "reference", title=f"{len(newest)} of {len(moves)} transfers")
    for entry in newest:
        table.add_row(*_line(entry, mine))
    console.print(table)


def _line(entry: Entry, mine: AccountId) -> tuple[str, ...]:
    t = entry.transfer
    out = t.debit == mine
    return str(entry.seq), t.kind, f"{'-' if out else '+'}{Credits(t.amount_uc)}", t.credit if out else t.debit, t.reference


@ledger.command("archive")
def archive_old(
    store: StoreOption,
    to: Annotated[Path, typer.Option(metavar="FILE", help="New file, compressed.")],
    before: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Archive what is older, market time, e.g. 2026-05-01.  [default: 90 days ago]"),
    ] = None,
    archives: ArchiveOption = None,
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Move the old beginning of event log and journal into a file: synced, read back, and only then deleted.

    Needs the market stopped; one that runs archives by itself (retention_folder). May be given again after it was killed.
    """
    name, before_ns = zone_id(zone), _before(before)
    with open_reader(store, name), open_store(store, name) as opened:  # the reader refuses a store that is not there
        whole = partial(_whole, opened, archives, zone)
        cut = retention.archive(opened, to, name, before_ns, whole=whole if archives else None)
        if cut is not None:
            opened.forget(cut)
    events = 0 if cut is None else cut.end.event_seq - cut.start.event_seq
    transfers = 0 if cut is None else cut.end.journal_seq - cut.start.journal_seq
    if as_json:
        result: dict[str, Any] = {"events": events, "transfers": transfers, "file": None, "sha256": None}
        if cut is not None:
            result |= {"file": str(to), "sha256": cut.sha256}
        typer.echo(json.dumps(result, indent=2))
    elif cut is None:
        console.print("nothing is old enough, or the newest two snapshots are older: nothing archived")
    else:
        console.print(f"{events} events and {transfers} transfers are in {to}", highlight=False, soft_wrap=True)


def _before(text: str | None) -> int:
    """Return a date as market time, UTC."""
    try:
        date = datetime.now(UTC) - timedelta(days=AGE_DAYS) if text is None else datetime.fromisoformat(text)
    except ValueError:
        raise InputError("command line", "--before", text, "use a date, such as 2026-05-01 or 2026-05-01T12:00") from None
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return round(aware.timestamp()) * 10**9


def _whole(reader: Reads, archives: list[Path] | None, zone: str) -> Reads:
    """Return a store with the archives that were named, one by one or by their folder."""
    files: list[Path] = []
    for path in archives or []:
        found = archives_in(path, zone_id(zone)) if path.is_dir() else [path]
        if not found:
            raise InputError("command line", "--archive", str(path), f"no archive of zone {zone} is in it: name another")
        files += found
    return with_archives(reader, files)


@ledger.command()
def backup(
    store: StoreOption,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="New file: SQLite, whatever the store.")],
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Copy the whole store into one file, while a market runs, and audit the copy. Exit code 1 if it has faults."""
    _tell(archive.back_up(store, target, zone_id(zone)), as_json)


@ledger.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="File of `ledger backup`.")],
    store: StoreOption,
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Fill a new or empty store, of either kind, with a backup that is sound."""
    _tell(archive.restore(source, store, zone_id(zone)), as_json)


def replay(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="LOG...", help="Store, archives, or both; or a file of `fleet-market ledger export --log`."),
    ],
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Run the market again from its event log and compare every decision to the byte. Exit code 1 if one differs."""
    market, seen = Market(NoPlaces()), Counter[str]()
    fault, at, first = None, Replayed(), 1
    try:
        with contextlib.ExitStack() as opened:
            at, events = _log(sources, zone_id(zone), market, opened)
            first = at.seq + 1
            at = replay_log(market, events, since=at, each=lambda e, _: seen.update([e.source]))
    except ReplayError as error:
        fault = str(error)
    if at.diverged:
        fault = f"event {at.diverged[0]}: this program decides otherwise, as upon {len(at.diverged) - 1} further events"
    orders = Counter(order.state.value for order in market.state.orders.values())
    result: dict[str, Any] = {
        "identical": fault is None, "fault": fault, "first_event": first, "events": seen.total(),
        "transfers": market.ledger.rows, "orders": dict(orders), "log_hash": at.hash,
        "journal_hash": market.ledger.last.hash if market.ledger.last else None,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        told = ", ".join(f"{count} {state}" for state, count in sorted(orders.items())) or "none"
        since = "" if first == 1 else f" since the snapshot at event {first - 1}"
        console.print(f"{seen.total()} events{since}, {market.ledger.rows} transfers; orders: {told}", highlight=False)
        console.print(fault or f"every decision is the same to the byte; log {at.hash}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if fault is None else EXIT_FAULTS)


def _log(
    sources: list[str], zone: ZoneId, market: Market, opened: contextlib.ExitStack
) -> tuple[Replayed, Iterator[Event]]:
    """Return where a replay begins, to where `market` is brought, and the events from there on."""
    kinds = [_kind(source, zone) for source in sources]
    archives = [Path(source) for source, kind in zip(sources, kinds, strict=True) if kind == "archive"]
    others = [(source, kind) for source, kind in zip(sources, kinds, strict=True) if kind != "archive"]
    if len(others) > 1 or (archives and others and others[0][1] == "log"):
        raise InputError("command line", "LOG", " ".join(sources), "name one store, or archives, or one store and archives")
    if others and others[0][1] == "log":
        return Replayed(), exports.read_log(Path(others[0][0]))
    store = opened.enter_context(open_reader(others[0][0], zone)) if others else None
    log = WholeStore(archives, store) if archives else store
    if log is None:
        raise InputError("command line", "LOG", None, "name a store, an archive or an event log")
    at = begin(market, log)
    return at, log.events(at.seq)


def _kind(source: str, zone: ZoneId) -> str:
    if is_postgres(source):
        return "store"
    try:
        if is_archive(Path(source)):
            return "archive"
    except OSError:
        pass  # with a zone in its name it may be there
    try:
        with file_of(source, zone).open("rb") as file:
            return "store" if file.read(len(HEADER)) == HEADER else "log"
    except OSError as error:
        mend = f"{error.strerror}: name a database or a file of `fleet-market ledger export --log`"
        raise InputError("command line", "LOG", source, mend) from None


def _tell(report: Report, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        counts = f"{report.transfers} transfers, {report.events} events, {report.signed_days} signed days"
        console.print(f"{counts}; journal {report.journal_hash[:16]}, log {report.log_hash[:16]}", highlight=False)
        if (m := report.metrics) is not None:
            supply = (
                f"issued {Credits(m.issued_uc)}, burned {Credits(m.burned_uc)}, circulating {Credits(m.circulating_uc)}"
            )
            console.print(
                f"{report.accounts} accounts; {supply}, in escrow {Credits(m.escrow_left_uc)} cr", highlight=False
            )
        for note in report.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
        for fault in report.faults:
            console.print(f"[red]fault:[/] {fault}", highlight=False, soft_wrap=True)
        if not report.faults:
            console.print("sound")
    raise typer.Exit(EXIT_FAULTS if report.faults else 0)
