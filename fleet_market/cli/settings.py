"""Options that commands share, and where their values came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from fleet_market.adapters.service_config import ServiceConfig, Setting, read_file, shown
from fleet_market.errors import InputError
from fleet_market.ids import ZoneId

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        "--store",
        envvar=["FLEET_MARKET_STORE", "FLEET_MARKET_DATABASE"],
        help="The market's database, made if it is not there: a file (SQLite), or postgresql://user@host/name, which"
        " several daemons can share.",
    ),
]
ControlOption = Annotated[
    str | None,
    typer.Option(
        envvar="FLEET_MARKET_CONTROL",
        help="Unix socket for halt, resume and status; else DATABASE.control, with PostgreSQL ./fleet-market.control.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option(envvar="FLEET_MARKET_CONFIG", help="TOML file with any of the daemon's options.")
]
_KEYS = {"map_file": "map"}
"""Parameters that are not called as the key in the file."""


def settings_of(ctx: typer.Context) -> dict[str, Setting]:
    """Return what the configuration file, the environment and the command line set, the last above the others.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    file = ctx.params.get("config")
    settings = {} if file is None else read_file(file)
    for name, value in ctx.params.items():
        source, key = ctx.get_parameter_source(name), _KEYS.get(name, name)
        if source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT") and key in ServiceConfig.model_fields:
            settings[key] = Setting(value, "command line" if source.name == "COMMANDLINE" else "environment")
    return settings


def show_config(config: ServiceConfig, settings: dict[str, Setting]) -> None:
    """Print every value of a configuration, and where it came from."""
    table = Table("key", Column("value", overflow="fold"), "from")
    for key, value in config:
        source = settings[key].source if key in settings else "default"
        table.add_row(key, "" if value is None else shown(value), source)
    Console(markup=False, emoji=False).print(table)


def zone_id(text: str) -> ZoneId:
    """Return the zone of a `ZoneOption`; raises `InputError`."""
    try:
        return ZoneId(text)
    except ValueError:
        raise InputError("command line", "--zone", text, f"use {ZoneId.RULE}") from None
