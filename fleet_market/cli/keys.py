"""Commands of the operator: keys and certificates."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.errors import InputError
from fleet_market.ids import Identifier, OwnerId, PartyName, ZoneId
from fleet_market.protocol.registry import Entry, Role

KeysOption = Annotated[Path, typer.Option("--keys", envvar=KEYS_VARIABLE, help="Folder of keys.")]
DaysOption = Annotated[int, typer.Option(help="How long the certificate counts.", min=1, max=825)]
RoleArgument = Annotated[Role, typer.Argument(metavar="ROLE", help="robot, customer, owner, oracle, market or simulator.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Robot id, customer id ...")]
IdType = TypeVar("IdType", bound=Identifier)
DEFAULT_KEYS = Path("keys")

keys = typer.Typer(
    help="Make, renew and take back the keys of a market that other machines can reach.", no_args_is_help=True
)
console = Console(emoji=False)  # ":key:" is part of every name of a key


@keys.command()
def init(
    folder: KeysOption = DEFAULT_KEYS,
    host: Annotated[list[str] | None, typer.Option(help="Name or address under which the MQTT broker is reached.")] = None,
    bind: Annotated[str, typer.Option(help="Address that the MQTT broker listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the MQTT broker.", min=1, max=65535)] = 8883,
    zone: Annotated[list[str] | None, typer.Option(help="Zone of a market daemon.")] = None,
    days: DaysOption = 30,
) -> None:
    """Found an authority: its keys, the broker's certificate and configuration, keys of the markets and the oracle."""
    from fleet_market.adapters.key_folder import LOOPBACK_HOSTS, BrokerAddress, KeyFolder  # noqa: PLC0415 - see keyring

    zones = [_id(ZoneId, name, "--zone") for name in zone or ["main"]]
    address = BrokerAddress(port, bind, (*(host or ()), *LOOPBACK_HOSTS))
    made = KeyFolder.found(folder, address, zones, days=days)
    typer.echo(f"{folder}: authority {made.anchor}")
    for entry in made.register.entries:
        typer.echo(f"{folder / entry.role / entry.name}: {entry.key}")
    typer.echo(f"{folder / 'broker/mosquitto.conf'}: run it with `fleet-market mosquitto --keys {folder} --run {port}`")


@keys.command()
def issue(
    role: RoleArgument,
    name: NameArgument,
    folder: KeysOption = DEFAULT_KEYS,
    owner: Annotated[str | None, typer.Option(help="Of a robot: the owner that it earns for.")] = None,
    days: DaysOption = 30,
) -> None:
    """Make keys for somebody who has none."""
    from fleet_market.adapters.key_folder import KeyFolder  # noqa: PLC0415 - see keyring

    if owner is not None and role is not Role.ROBOT:
        raise InputError("command line", "--owner", owner, f"only a robot has an owner: leave it out for a {role}")
    party = _id(PartyName, name, "NAME")
    entry = KeyFolder(folder).issue(role, party, days=days, owner=None if owner is None else _id(OwnerId, owner, "--owner"))
    typer.echo(f"{folder / role / name}: {entry.key}")


@keys.command()
def rotate(
    role: RoleArgument,
    name: NameArgument,
    folder: KeysOption = DEFAULT_KEYS,
    overlap: Annotated[int, typer.Option(help="Seconds for which the old key counts on.", min=0, max=30 * 86400)] = 3600,
    days: DaysOption = 30,
) -> None:
    """Make new keys for somebody; the old ones count for a while longer."""
    from fleet_market.adapters.key_folder import KeyFolder  # noqa: PLC0415 - see keyring

    entry = KeyFolder(folder).rotate(role, _id(PartyName, name, "NAME"), days=days, overlap_s=overlap)
    typer.echo(f"{folder / role / name}: {entry.key}; copy it to its machine and start it anew within {overlap} s")


@keys.command()
def revoke(role: RoleArgument, name: NameArgument, folder: KeysOption = DEFAULT_KEYS) -> None:
    """Take somebody's keys back: nothing that they signed counts any more, whenever it comes."""
    from fleet_market.adapters.key_folder import KeyFolder  # noqa: PLC0415 - see keyring

    KeyFolder(folder).revoke(role, _id(PartyName, name, "NAME"))
    typer.echo(f"{role} {name} is revoked; a market that reads {folder} refuses it within a second")


@keys.command()
def show(
    folder: KeysOption = DEFAULT_KEYS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Show all keys that were ever issued, and whether they count."""
    from fleet_market.adapters.keyring import RegisterFile  # noqa: PLC0415 - see keyring

    register = RegisterFile(folder).register
    if as_json:
        typer.echo(register.model_dump_json())
        return
    table = Table("role", "name", Column("key", overflow="fold"), "owner", "since", "state")
    table.title = f"register {register.serial}"
    for entry in register.entries:
        table.add_row(entry.role, entry.name, Text(entry.key), entry.owner or "", _day(entry.from_s), _state(entry))
    console.print(table)


def _state(entry: Entry) -> str:
    if entry.revoked_s is not None:
        return f"revoked {_day(entry.revoked_s)}"
    if entry.until_s is None:
        return "valid"
    return f"valid until {_day(entry.until_s)}" if entry.valid(time.time()) else "replaced"


def _day(unix_s: int) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _id(kind: type[IdType], text: str, field: str) -> IdType:
    try:
        return kind(text)
    except ValueError:
        raise InputError("command line", field, text, f"use {kind.RULE}") from None
