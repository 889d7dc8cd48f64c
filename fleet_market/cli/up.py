"""A fleet on this machine on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleet_market.cli.services import KeysOption
from fleet_market.daemons.serving import run_until_signal
from fleet_market.daemons.up import UpOptions, run_up


def up(
    fleet: Annotated[Path, typer.Argument(help="Fleet file (YAML).")],
    map_file: Annotated[Path | None, typer.Option("--map", help="Map; else the one that the fleet file names.")] = None,
    mqtt: Annotated[
        str | None, typer.Option("--mqtt", help="A broker that runs, HOST:PORT.  [default: one of its own on loopback]")
    ] = None,
    market: Annotated[bool, typer.Option(help="Start market and oracle too.")] = True,
    sim: Annotated[bool, typer.Option(help="Robots in PyBullet; else each needs its own base on the ROS topics.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for logs, database and what robots learn.")] = Path("out/fleet"),
    speed: Annotated[float, typer.Option(help="How many times real time a simulation runs.", min=1, max=5)] = 1.0,
    seed: Annotated[int, typer.Option(help="Fixes ties and how simulated robots differ.", min=0)] = 0,
    keys: KeysOption = None,
    driver: Annotated[str, typer.Option(help="Driver of all robots; else what the fleet file says of each.")] = "",
    record: Annotated[Path | None, typer.Option(help="Record all ROS topics to this new MCAP file.")] = None,
) -> None:
    """Start a fleet from its file: market, simulated floor and one ROS 2 node per robot; Ctrl-C ends everything.

    A robot's node that dies is started again, after a longer while each time; when the market dies, everything ends.
    """
    options = UpOptions(
        fleet=fleet,
        out=out,
        map=map_file,
        mqtt=mqtt,
        market=market,
        simulated=sim,
        speed=speed,
        seed=seed,
        keys=keys,
        driver=driver,
        record=record,
    )
    run_until_signal(run_up(options, typer.echo))
