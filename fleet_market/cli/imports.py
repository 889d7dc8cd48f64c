"""Files of other systems, turned into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet_market.adapters.foreign import Note
from fleet_market.adapters.open_rmf import import_fleet, load_graph, write_imported
from fleet_market.adapters.open_rmf_tasks import Terms, import_tasks, write_orders
from fleet_market.errors import InputError

imports = typer.Typer(name="import", help="Take over files of another system.", no_args_is_help=True)


@imports.callback()
def _group() -> None:
    """Take over files of another system."""


@imports.command(name="open-rmf")
def open_rmf(
    config: Annotated[Path | None, typer.Option(help="Configuration of a fleet adapter (YAML).")] = None,
    graph: Annotated[Path | None, typer.Option(help="Navigation graph or building map (YAML).")] = None,
    level: Annotated[str | None, typer.Option(help="Level of the graph, if it has several.")] = None,
    tasks: Annotated[list[Path] | None, typer.Option(help="Task requests (JSON); may be repeated.")] = None,
    map_file: Annotated[Path | None, typer.Option("--map", help="Occupancy map for the fleet file to name.")] = None,
    like: Annotated[str, typer.Option(help="Robot type for what Open-RMF does not know.")] = "carrier",
    credits_: Annotated[str, typer.Option("--credits", help="What the customer `demo` gets to spend.")] = "5000",
    deadline_s: Annotated[float, typer.Option(help="Time from an order's start to its deadline.", min=1)] = 600.0,
    max_price: Annotated[str, typer.Option(help="Most that an order may cost, credits.")] = "50",
    sku_kg: Annotated[list[str] | None, typer.Option(help="Mass of a piece, SKU=KG; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for fleet.yaml and orders.csv.")] = Path("out/open_rmf"),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Make a fleet file and an order file of Open-RMF's, and tell what has no counterpart."""
    if config is None and not tasks:
        raise InputError("--config", "file", None, "give --config, --tasks, or both")
    waypoints = None if graph is None else load_graph(graph, level)
    absolute = None if map_file is None else map_file.resolve()
    fleet = None if config is None else import_fleet(config, waypoints, like=like, map_file=absolute, credits_=credits_)
    terms = Terms(deadline_s, max_price, dict(_mass(text) for text in sku_kg or ()))
    orders = import_tasks(tasks, waypoints, terms) if tasks else None
    out.mkdir(parents=True, exist_ok=True)
    targets = [name for name, made in (("fleet.yaml", fleet), ("orders.csv", orders)) if made is not None]
    for name in targets:
        if (out / name).exists() and not force:
            raise InputError(str(out / name), "file", "it is there", "use another --out, or --force")
    notes: list[Note] = []
    if fleet is not None:
        write_imported(fleet, out / "fleet.yaml")
        notes += fleet.notes
    if orders is not None:
        write_orders(orders, out / "orders.csv")
        notes += orders.notes
    for note in notes:
        typer.echo(f"note: {note}")
    for name in targets:
        typer.echo(f"wrote {out / name}")


def _mass(text: str) -> tuple[str, float]:
    sku, equals, mass = text.rpartition("=")
    try:
        mass_kg = float(mass)
    except ValueError:
        mass_kg = -1.0
    if not equals or not sku or not 0 <= mass_kg <= 1e5:
        raise InputError("--sku-kg", "mass", text, "use SKU=KG, e.g. soda=0.35")
    return sku, mass_kg
