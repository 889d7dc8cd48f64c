"""Commands of the operator of a market: halt, resume, status, deploy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from fleet_market.adapters.control import DaemonStatus, Request, ask
from fleet_market.adapters.deploy import Deployment, write_deployment
from fleet_market.adapters.guard import KEYS_VARIABLE
from fleet_market.adapters.mosquitto import DEFAULT_FOLDER, find
from fleet_market.adapters.service_config import ControlConfig, make
from fleet_market.cli.settings import ConfigOption, ControlOption, DatabaseOption, settings_of, zone_id
from fleet_market.errors import InputError
from fleet_market.protocol.messages import MAX_TEXT

app = typer.Typer(name="fleet-market", pretty_exceptions_enable=False, add_completion=False)
"""The commands that must be quick, by themselves."""
EXIT_UNWELL = 1
ZoneOption = Annotated[list[str] | None, typer.Option(help="Only this zone; may be given several times.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def halt(
    ctx: typer.Context,
    zone: ZoneOption = None,
    reason: Annotated[str, typer.Option(help="Why: everyone who asks for the status reads it.")] = "",
    database: DatabaseOption = None,
    control: ControlOption = None,
    config: ConfigOption = None,
) -> None:
    """Let the market sell nothing more; robots finish what they are on. Needs no MQTT broker, and holds over restarts."""
    _print(_ask(ctx, "halt", zone, reason))


@app.command()
def resume(
    ctx: typer.Context,
    zone: ZoneOption = None,
    database: DatabaseOption = None,
    control: ControlOption = None,
    config: ConfigOption = None,
) -> None:
    """Let a halted market go on."""
    _print(_ask(ctx, "resume", zone))


@app.command()
def status(
    ctx: typer.Context,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    control: ControlOption = None,
    config: ConfigOption = None,
) -> None:
    """Show how the daemon on this machine is; exit code 0: nothing to mend, 1: something is wrong, 4: no answer."""
    found = _ask(ctx, "status")
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        _print(found)
    if not all(zone.well for zone in found.zones):
        raise typer.Exit(EXIT_UNWELL)


def deploy(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files are to be, e.g. /etc/fleet-market.")],
    fleet: Annotated[list[Path], typer.Option(help="Fleet file; once for each zone.")],
    user: Annotated[str, typer.Option(help="Whom the services run as.")] = "fleet-market",
    port: Annotated[int, typer.Option(help="Port of the MQTT broker.", min=1, max=65535)] = 1883,
    keys: Annotated[
        Path | None, typer.Option(envvar=KEYS_VARIABLE, help="Folder of keys, with Mosquitto's configuration for TLS.")
    ] = None,
) -> None:
    """Write systemd units for the market and its MQTT broker, Mosquitto's configuration, and settings to begin with."""
    mosquitto = find(DEFAULT_FOLDER)
    if mosquitto is None:
        raise InputError(
            "command line", "mosquitto", None, "install it: `fleet-market mosquitto`, or the package mosquitto"
        )
    program = Path(sys.executable).with_name("fleet-market")
    for path in write_deployment(folder, Deployment(program, mosquitto, tuple(fleet), user, port, keys)):
        typer.echo(str(path))


def _ask(ctx: typer.Context, command: str, zones: list[str] | None = None, reason: str = "") -> DaemonStatus:
    path = make(ControlConfig, settings_of(ctx)).control_path
    wanted = tuple(map(zone_id, zones or ()))
    try:
        request = Request.model_validate({"command": command, "zones": wanted, "reason": reason})
    except ValueError:
        mend = f"use at most {MAX_TEXT} characters, none of them control characters"
        raise InputError("command line", "--reason", reason, mend) from None
    return ask(path, request)


def _print(status: DaemonStatus) -> None:
    table = Table(
        "zone", "market", "MQTT", "open", "under way", "robots", "waiting", "outbox", Column("note", overflow="fold")
    )
    table.title = f"fleet-market {status.version}, process {status.pid}, up {status.uptime_s:.0f} s"
    for zone in status.zones:
        numbers = (zone.open_orders, zone.contracts, zone.robots_online, zone.waiting, zone.outbox)
        table.add_row(zone.zone, zone.phase, "yes" if zone.connected else "no", *map(str, numbers), zone.reason)
    Console(markup=False, emoji=False).print(table)
