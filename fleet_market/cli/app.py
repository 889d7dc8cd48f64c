"""The commands and their groups."""

from __future__ import annotations

import json

import typer
from pydantic import TypeAdapter

from fleet_market.cli import (
    customers,
    demo,
    drivers,
    hardware,
    imports,
    keys,
    ledger,
    operate,
    oracles,
    robots,
    services,
    up,
)
from fleet_market.protocol.envelope import Envelope
from fleet_market.protocol.seal import Seal

app = typer.Typer(
    name="fleet-market",
    help="A task marketplace for robot fleets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(customers.order, name="order")
robots.robot.command("check")(hardware.check)
app.add_typer(robots.robot, name="robot")
app.add_typer(drivers.driver, name="driver")
app.add_typer(ledger.ledger, name="ledger")
app.add_typer(imports.imports, name="import")
app.add_typer(oracles.oracle, name="oracle")
app.add_typer(keys.keys, name="keys")
app.command()(customers.robots)
app.command()(customers.why)
app.command()(ledger.replay)
app.command()(services.broker)
app.command()(operate.halt)
app.command()(operate.resume)
app.command()(operate.status)
app.command()(operate.deploy)
app.command()(services.mosquitto)
app.command()(demo.demo)
app.command()(up.up)


@app.command()
def schema() -> None:
    """Print the JSON Schema of every message on the wire, and of the seal in front of it where there are keys."""
    whole = TypeAdapter(Envelope).json_schema()
    whole["$defs"]["Seal"] = Seal.model_json_schema()
    typer.echo(json.dumps(whole, indent=2))
