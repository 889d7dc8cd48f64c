"""A fleet on this machine, from its file: market, simulated floor and one node per robot, watched until it is ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.daemons.programs import (
    LOOPBACK,
    MARKET_STAGE,
    READY,
    Program,
    Site,
    fleet_programs,
    market_programs,
    mosquitto,
    recorder,
    ros_discovery,
)
from fleet_market.daemons.supervisor import Supervisor, tail
from fleet_market.errors import InputError

READY_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What to start.

    Parameters
    ----------
    fleet : Path
    out : Path
        Folder for logs, the market's database and what robots learn; a fleet that is started there again goes on.
    map : Path, optional
        Else the one that the fleet file names.
    mqtt : str, optional
        A broker that runs, HOST:PORT; else one of its own is started on the loopback interface.
    market : bool
        Whether market and oracle are started here too.
    simulated : bool
        Whether the robots are PyBullet's; else each needs its own base on the ROS topics.
    driver : str
        Of all robots; empty: what the fleet file says of each.
    record : Path, optional
        MCAP file to which all ROS topics are recorded; must not exist.
    """

    fleet: Path
    out: Path
    map: Path | None = None
    mqtt: str | None = None
    market: bool = True
    simulated: bool = True
    speed: float = 1.0
    seed: int = 0
    keys: Path | None = None
    driver: str = ""
    record: Path | None = None
    mosquitto_folder: Path = Path(".cache/mosquitto")


async def run_up(options: UpOptions, say: Callable[[str], None]) -> None:
    """Start everything and watch over it until cancelled; a robot's node that dies is started again.

    Nodes of a simulation find each other on the loopback interface, in a ROS domain of their own; real robots in the domain
    of the user's environment.

    Parameters
    ----------
    say : callable
        Takes lines for the user.

    Raises
    ------
    InputError
        If a file is wrong; nothing has been started then.
    ProcessError
        If a program does not start, or dies that everything depends on.
    """
    if options.record is not None and options.record.exists():
        raise InputError("up", "record", options.record, "name a file that does not exist yet")
    discovery = ros_discovery()
    site = Site.of(
        options.fleet,
        options.out,
        mqtt=options.mqtt or f"{LOOPBACK}:{mosquitto_adapter.free_port()}",
        map_file=options.map,
        simulated=options.simulated,
        seed=options.seed,
        speed=options.speed,
        keys=options.keys,
        driver=options.driver,
    )
    logs = site.out / "logs"

    def died(name: str, code: int) -> None:
        say(f"{name} died with exit code {code}:\n{tail(logs / f'{name}.log')}")

    async with contextlib.AsyncExitStack() as stack:
        environment: dict[str, str] = {}
        if options.simulated:
            environment = discovery.loopback_environment(stack.enter_context(discovery.claimed_domain_id()), logs)
        supervisor = await stack.enter_async_context(Supervisor(logs, died, lambda name: say(f"{name} is started again")))
        programs = [*market_programs(site)] if options.market else []
        programs += fleet_programs(site, environment, restart=True)
        if options.record is not None:  # before the robots, and until they have ended
            command = recorder(options.record).command(site.out / "parameters")
            programs.append(Program("recorder", command, environment, READY, critical=False, stage=MARKET_STAGE))
        if options.mqtt is None:
            programs.append(mosquitto(site, options.mosquitto_folder, say))
        for stage in sorted({program.stage for program in programs}):
            names = [program.name for program in programs if program.stage == stage]
            for program in programs:
                if program.name in names:
                    supervisor.start(program)
            late = await supervisor.wait_ready(names, timeout_s=READY_TIMEOUT_S)
            say(f"ready: {', '.join(name for name in names if name not in late) or 'none'}")
            for name in late:
                say(f"{name} is not ready, the others go on without it:\n{tail(logs / f'{name}.log')}")
        say(f"market at MQTT {site.mqtt}, zone {site.fleet.zone}; logs in {logs}; Ctrl-C ends everything")
        await supervisor.watch()
