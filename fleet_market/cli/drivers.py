"""Robot drivers on the command line: which there are, and whether one keeps the contract."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_yaml
from fleet_market.errors import InputError
from fleet_market.testing.conformance import ROWS, Outcome, Row, check
from fleet_market.testing.conformance.own_floor import OwnFloor
from fleet_market_hardware import drivers

driver = typer.Typer(help="Drivers of robots: list them, prove one.", no_args_is_help=True)
console = Console()
COLOURS = {"kept": "green", "broken": "red", "skipped": "yellow"}


@driver.command("list")
def list_drivers(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """List the drivers that a robot can be given."""
    found = drivers.listed()
    if as_json:
        typer.echo(
            json.dumps([{"name": d.name, "package": d.package, "target": d.target, "about": d.about} for d in found])
        )
        return
    table = Table("name", "from", "drives")
    for one in found:
        table.add_row(one.name, one.package, one.about or one.target)
    console.print(table)


@driver.command("check")
def check_driver(
    name: Annotated[str, typer.Argument(help="Driver, as `driver list` names it.")],
    row: Annotated[list[str] | None, typer.Option(help="Only this row; may be given several times.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file, for a robot of your own.")] = None,
    robot: Annotated[str, typer.Option(help="Its id in the fleet file.")] = "",
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of settings that go before those of the fleet file.")
    ] = None,
    clear_m: Annotated[float, typer.Option(help="Free floor straight in front of the robot, metres, at least 2.5.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Run the conformance suite on a driver; exit code 1 if it breaks the contract.

    Without --fleet on the bench that the driver brings along. With --fleet on a robot of yours, WHICH DRIVES, to and fro
    over --clear-m of floor: rows for which somebody would have to hold, carry or unplug it are skipped.
    """
    rows = _chosen(row or [])
    make = _bench(name, fleet, robot, settings, clear_m)
    outcomes = [asyncio.run(check(one, make)) for one in rows]
    if as_json:
        typer.echo(json.dumps([{"row": str(o.row), "verdict": o.verdict, "text": o.text} for o in outcomes], indent=2))
    else:
        console.print(_table(name, outcomes))
    if not all(outcome.kept for outcome in outcomes):
        raise typer.Exit(1)


def _chosen(names: list[str]) -> list[Row]:
    known = {str(row): row for row in ROWS}
    for name in names:
        if name not in known:
            raise InputError("command line", "--row", name, f"use one of {', '.join(known)}")
    return [known[name] for name in names] or ROWS


def _bench(name: str, fleet: Path | None, robot: str, settings: Path | None, clear_m: float) -> Callable[[], Any]:
    factory = drivers.find(name)
    if fleet is None:
        bench = drivers.find_bench(name)
        if bench is None:
            raise InputError(
                "command line", "--fleet", None, f"{name} brings no bench: name a fleet file, --robot and --clear-m"
            )
        return bench
    found = next((one for one in load_fleet(fleet).robots if one.id == robot), None)
    if found is None:
        raise InputError(str(fleet), "robots", robot, "no such robot: give --robot an id of the file")
    if clear_m < OwnFloor.SHORTEST_M:
        raise InputError("command line", "--clear-m", clear_m, f"use at least {OwnFloor.SHORTEST_M} m of free floor")
    setup = drivers.DriverSetup(found.id, found.type, found.driver_settings | (load_yaml(settings) if settings else {}))
    floor = OwnFloor(lambda: factory(setup), clear_m)
    return lambda: floor


def _table(name: str, outcomes: list[Outcome]) -> Table:
    table = Table("row", "", "promise", title=f"contract of the driver {name}")
    for one in outcomes:
        text = one.row.promise if not one.text else f"{one.row.promise}\n[{COLOURS[one.verdict]}]{one.text}[/]"
        table.add_row(str(one.row), f"[{COLOURS[one.verdict]}]{one.verdict}[/]", text)
    return table
