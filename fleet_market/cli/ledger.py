"""Commands of auditors and operators: look into the books, prove them, keep them safe."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fleet_market.adapters import archive, exports
from fleet_market.adapters.auditing import NoPlaces, Report, audit_store, verify_chains
from fleet_market.adapters.sqlite_store import HEADER
from fleet_market.adapters.stores import file_of, is_postgres, open_reader
from fleet_market.cli.customers import JsonOption
from fleet_market.cli.services import ZoneOption
from fleet_market.cli.settings import zone_id
from fleet_market.errors import InputError
from fleet_market.ids import AccountId, ZoneId
from fleet_market.ledger import Entry, kind_of
from fleet_market.market import Market, Replayed, ReplayError
from fleet_market.market import replay as replay_log
from fleet_market.units import Credits

EXIT_FAULTS = 1
MAX_ROWS = 1000

ledger = typer.Typer(
    help="Audit, export, look into, back up and restore the books; all but restore work while a market runs.",
    no_args_is_help=True,
)
console = Console()

StoreOption = Annotated[
    str,
    typer.Option("--store", "--database", envvar="FLEET_MARKET_STORE", help="SQLite file, or postgresql://user@host/name."),
]
KeyOption = Annotated[str | None, typer.Option(help="The market's public key, hexadecimal: no other may have signed.")]


@ledger.command()
def audit(store: StoreOption, public_key: KeyOption = None, zone: ZoneOption = "main", as_json: JsonOption = False) -> None:
    """Check everything: database, chains, signed heads, balances, supply, orders against money. Exit code 1 on a fault."""
    with open_reader(store, zone_id(zone)) as reader:
        _tell(audit_store(reader, key_id=public_key), as_json)


@ledger.command("verify-chain")
def verify_chain(
    store: StoreOption, public_key: KeyOption = None, zone: ZoneOption = "main", as_json: JsonOption = False
) -> None:
    """Check that no row of journal and event log was changed since, and tell which one was. Exit code 1 if one was."""
    with open_reader(store, zone_id(zone)) as reader:
        _tell(verify_chains(reader, key_id=public_key), as_json)


@ledger.command()
def export(
    store: StoreOption,
    target: Annotated[str, typer.Argument(metavar="FILE", help="*.csv: the journal alone; -: standard output.")],
    log: Annotated[
        bool, typer.Option("--log", help="The event log, for `fleet-market replay`, instead of the books.")
    ] = False,
    zone: ZoneOption = "main",
) -> None:
    """Write the books (or the event log) for an auditor, a JSON object a line; docs/audit/audit.py checks the books."""
    write = exports.write_log if log else exports.write_csv if target.endswith(".csv") else exports.write_books
    with open_reader(store, zone_id(zone)) as reader:
        if target == "-":
            write(reader, sys.stdout)
            return
        try:
            with Path(target).open("w", encoding="utf-8", newline="\n") as file:
                count = write(reader, file)
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
    source: Annotated[str, typer.Argument(metavar="LOG", help="Store, or file of `fleet-market ledger export --log`.")],
    zone: ZoneOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Run the market again from its event log and compare every decision to the byte. Exit code 1 if one differs."""
    market, seen = Market(NoPlaces()), Counter[str]()
    fault, at = None, Replayed()
    try:
        if _is_log(source, zone_id(zone)):
            at = replay_log(market, exports.read_log(Path(source)), each=lambda e, _: seen.update([e.source]))
        else:
            with open_reader(source, zone_id(zone)) as reader:
                at = replay_log(market, reader.events(), each=lambda e, _: seen.update([e.source]))
    except ReplayError as error:
        fault = str(error)
    if at.diverged:
        fault = f"event {at.diverged[0]}: this program decides otherwise, as upon {len(at.diverged) - 1} further events"
    orders = Counter(order.state.value for order in market.state.orders.values())
    result: dict[str, Any] = {
        "identical": fault is None, "fault": fault, "events": seen.total(), "transfers": market.ledger.rows,
        "orders": dict(orders), "log_hash": at.hash,
        "journal_hash": market.ledger.last.hash if market.ledger.last else None,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        told = ", ".join(f"{count} {state}" for state, count in sorted(orders.items())) or "none"
        console.print(f"{seen.total()} events, {market.ledger.rows} transfers; orders: {told}", highlight=False)
        console.print(fault or f"every decision is the same to the byte; log {at.hash}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if fault is None else EXIT_FAULTS)


def _is_log(source: str, zone: ZoneId) -> bool:
    if is_postgres(source):
        return False
    try:
        with file_of(source, zone).open("rb") as file:
            return file.read(len(HEADER)) != HEADER
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
