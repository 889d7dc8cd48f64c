"""A robot of its parts on the command line: open it, look at it, and move it if asked to."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.body import Telemetry

MOVE_MPS, VALID_S, TELEMETRY_S = 0.1, 0.15, 2.0
console = Console()


def check(
    file: Annotated[Path, typer.Argument(metavar="ROBOT.YAML", help="The robot: base, battery, actions, limits.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3600.0, help="How long to look at it.")] = 5.0,
    move: Annotated[bool, typer.Option("--move", help="Drive forward at 0.1 m/s for one second. THE ROBOT MOVES.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the last telemetry as JSON and nothing else.")] = False,
) -> None:
    """Open a robot and show its telemetry; nothing moves without --move.

    Opening it switches its motors on: they hold the robot in place.
    """
    from fleet_market_hardware.compose import load_robot  # noqa: PLC0415 - what it needs is asked for by the file

    robot = load_robot(file, shipped_types())
    try:
        seen = asyncio.run(_look(robot, seconds, move=move, quiet=as_json))
    except TimeoutError as late:
        typer.echo(str(late), err=True)
        raise typer.Exit(1) from late
    if as_json:
        doubts = [str(doubt) for doubt in robot.base.doubts()]
        typer.echo(json.dumps(dataclasses.asdict(seen) | {"doubts": doubts, "trouble": robot.base.trouble()}))


async def _look(robot: Any, seconds: float, *, move: bool, quiet: bool) -> Telemetry:
    await robot.open(timeout_s=10.0)
    try:
        end = time.monotonic() + seconds
        stop = time.monotonic() + (1.0 if move else 0.0)
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while time.monotonic() < end:
                if time.monotonic() < stop:
                    await robot.base.drive(MOVE_MPS, 0.0, valid_s=VALID_S)
                seen = await robot.base.next_telemetry(robot.telemetry().seq, timeout_s=TELEMETRY_S)
                if not quiet:
                    live.update(_table(robot, seen), refresh=True)
        return robot.telemetry()  # type: ignore[no-any-return]
    finally:
        await robot.close()


def _table(robot: Any, seen: Telemetry) -> Table:
    table = Table("value", "", "from", title=f"{robot.spec.robot_id}: link {seen.link}")
    doubted = {doubt.field: doubt for doubt in robot.base.doubts()}
    for name, value, unit, measured in _values(robot, seen):
        shown = "not measured" if value is None else f"{value:.3f} {unit}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, "measured" if measured else "derived")
    for doubt in doubted.values():
        table.add_row(doubt.field, f"[yellow]{doubt.value:g}: {doubt.reason}[/]", "doubted")
    if trouble := robot.base.trouble():
        table.add_row("trouble", f"[red]{trouble}[/]", "")
    return table


def _values(robot: Any, seen: Telemetry) -> Iterator[tuple[str, Any, str, bool]]:
    pose, battery = seen.pose, seen.battery
    yield "x", None if pose is None else pose.x, "m", False
    yield "y", None if pose is None else pose.y, "m", False
    yield "yaw", None if pose is None else pose.yaw, "rad", False
    yield "speed", seen.vx, "m/s", False
    yield "odometer", seen.odometer_m, "m", False
    for field, unit in (("soc", ""), ("voltage_v", "V"), ("current_a", "A"), ("temperature_c", "degC")):
        yield field, getattr(battery, field), unit, True
    yield "energy_out_j", battery.energy_out_j, "J", True
    for motor in seen.motors:
        yield f"{motor.name} turns", motor.revolutions, "", True
        yield f"{motor.name} torque", motor.torque_nm, "N m", True
    yield "silent", ", ".join(seen.silent) or "none", "", True
