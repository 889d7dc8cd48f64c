"""What a robot knows of itself, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.memory_files import load_memory
from fleet_market.body import RobotType
from fleet_market.errors import InputError
from fleet_market.pricing.components import Component
from fleet_market.pricing.kalman import Estimate
from fleet_market.pricing.wear import PARTS
from fleet_market.robot.memory import Memory

robot = typer.Typer(help="Look into one robot.", no_args_is_help=True)
console = Console()


@robot.callback()
def _group() -> None:
    """Look into one robot."""


@robot.command()
def calibration(
    memory: Annotated[
        Path, typer.Argument(metavar="FILE", help="The robot's memory, e.g. out/demo/memory/carrier-1.json.")
    ],
    fleet: Annotated[Path, typer.Option(help="Fleet file that describes its type.")] = Path("launch/fleets/warehouse.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole memory as JSON and nothing else.")] = False,
) -> None:
    """Show what a robot has learned about its energy and its times, and what is left of its parts."""
    data = load_memory(memory)
    if data is None:
        raise InputError("command line", "FILE", str(memory), "no such file: name the memory of a robot that has worked")
    kind = _type_of(data, load_fleet(fleet).types, str(memory), str(fleet))
    learned = Memory(kind)
    learned.restore(data, str(memory))
    if as_json:
        typer.echo(json.dumps(data, indent=2))
        return
    for table in (_energy_table(learned), _times_table(learned), _parts_table(learned)):
        console.print(table)


def _type_of(data: dict[str, object], types: dict[str, RobotType], memory: str, fleet: str) -> RobotType:
    learned = data.get("calibration")
    name = learned.get("robot_type") if isinstance(learned, dict) else None
    if name not in types:
        raise InputError(memory, "calibration.robot_type", name, f"give --fleet a file with this type; {fleet} has not")
    return types[str(name)]


def _energy_table(memory: Memory) -> Table:
    view = memory.calibration.view()
    errors = ", ".join(f"{error:+.0%}" for error in view.residuals[-8:]) or "none"
    alarms = f"; changed at task {', '.join(map(str, view.alarms))}" if view.alarms else ""
    title = f"energy, times the data sheet, after {view.tasks} tasks (last errors {errors}{alarms})"
    names = list(view.surfaces[0].factors) if view.surfaces else []
    table = Table("floor", "tasks", *names, title=title)
    for surface in view.surfaces:
        table.add_row(surface.surface, str(surface.tasks), *(_shown(surface.factors[name]) for name in names))
    return table


def _times_table(memory: Memory) -> Table:
    zones = memory.durations.factors()
    names = list(next(iter(zones.values()))) if zones else []
    table = Table("zone", *names, title="duration: factors of the plan, and seconds of waiting per metre")
    for zone, factors in zones.items():
        table.add_row(zone, *(_shown(factors[name]) for name in names))
    return table


def _parts_table(memory: Memory) -> Table:
    table = Table("part", "life used", "hours", "metres", "replaced", title="parts")
    for name in PARTS:
        part: Component = getattr(memory.components, name)
        row = (f"{part.damage:.4%}", f"{part.hours:.2f}", f"{part.metres:.0f}", str(part.replacements))
        table.add_row(name, *row)
    return table


def _shown(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} \u00b1 {estimate.sd:.2f}"
