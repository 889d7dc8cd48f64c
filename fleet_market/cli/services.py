"""Commands that serve: the market and the MQTT broker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.guard import KEYS_VARIABLE, only_loopback
from fleet_market.adapters.logs import set_up_logs
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.adapters.service_config import DEFAULT_MQTT, ServiceConfig, make
from fleet_market.adapters.signing import Ed25519Signer
from fleet_market.cli.settings import ConfigOption, ControlOption, DatabaseOption, settings_of, show_config
from fleet_market.daemons.archiving import Retention
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.service import Service
from fleet_market.daemons.serving import run_until_signal
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer
from fleet_market.errors import InputError
from fleet_market.robot.floor import lay_out

KeysOption = Annotated[
    Path | None, typer.Option("--keys", envvar=KEYS_VARIABLE, help="Folder of keys; without: unsigned, loopback only.")
]
MqttOption = Annotated[str, typer.Option("--mqtt", envvar="FLEET_MARKET_MQTT", help="MQTT broker, HOST:PORT.")]
ZoneOption = Annotated[str, typer.Option("--zone", envvar="FLEET_MARKET_ZONE", help="Zone whose market it is.")]


def broker(
    ctx: typer.Context,
    fleet: Annotated[
        list[str] | None,
        typer.Option(envvar="FLEET_MARKET_FLEET", help="Fleet file: terms, customers, places. Once for each zone."),
    ] = None,
    database: DatabaseOption = None,
    map_file: Annotated[
        str | None,
        typer.Option("--map", envvar="FLEET_MARKET_MAP", help="Map of all zones; else those that the fleet files name."),
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(envvar="FLEET_MARKET_MQTT", help=f"MQTT broker, HOST:PORT.  [default: {DEFAULT_MQTT}]"),
    ] = None,
    ledger_key: Annotated[
        str | None,
        typer.Option(
            envvar="FLEET_MARKET_LEDGER_KEY",
            help="Private Ed25519 key (PEM) that signs the journal's head of each day.",
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option(envvar="FLEET_MARKET_SEED", help="Draws the ties.  [default: 0]")] = None,
    simulated: Annotated[
        bool, typer.Option(envvar="FLEET_MARKET_SIMULATED", help="Take the time from a simulator's clock on MQTT.")
    ] = False,
    keys: Annotated[
        str | None, typer.Option(envvar=KEYS_VARIABLE, help="Folder of keys; without: unsigned, loopback only.")
    ] = None,
    config: ConfigOption = None,
    control: ControlOption = None,
    metrics: Annotated[
        str | None, typer.Option(envvar="FLEET_MARKET_METRICS", help="Loopback port for Prometheus to read from.")
    ] = None,
    drain_s: Annotated[
        str | None,
        typer.Option(envvar="FLEET_MARKET_DRAIN_S", help="Seconds that an orderly end waits for receipts.  [default: 3]"),
    ] = None,
    retention_folder: Annotated[
        str | None,
        typer.Option(
            envvar="FLEET_MARKET_RETENTION_FOLDER", help="Archive what is old here, daily; without: everything is kept."
        ),
    ] = None,
    retention_days: Annotated[
        str | None,
        typer.Option(envvar="FLEET_MARKET_RETENTION_DAYS", help="What is old: days of market time.  [default: 90]"),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(envvar="FLEET_MARKET_LOG_FORMAT", help="text, or json: one object per line.  [default: text]"),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(envvar="FLEET_MARKET_LOG_LEVEL", help="debug, info, warning or error.  [default: info]"),
    ] = None,
    log_file: Annotated[
        str | None, typer.Option(envvar="FLEET_MARKET_LOG_FILE", help="Log to this file, not to standard error.")
    ] = None,
    log_file_bytes: Annotated[
        str | None,
        typer.Option(
            envvar="FLEET_MARKET_LOG_FILE_BYTES", help="Put the log file aside at this size.  [default: 50000000]"
        ),
    ] = None,
    log_files: Annotated[
        str | None,
        typer.Option(envvar="FLEET_MARKET_LOG_FILES", help="Log files that are kept beside it.  [default: 5]"),
    ] = None,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Check and show the configuration with all its files, and end.")
    ] = False,
) -> None:
    """Run the markets of one or several zones; with PostgreSQL, share them with other daemons.

    Every option can also be set by an environment variable, or in a TOML file (--config). The command line counts more
    than the environment, the environment more than the file.
    """
    settings = settings_of(ctx)
    chosen = make(ServiceConfig, settings)
    host, port = parse_endpoint(chosen.mqtt)
    server = ServerConfig(
        host=host,
        port=port,
        database=chosen.database,
        simulated=chosen.simulated,
        ledger_key=chosen.ledger_key,
        keys=chosen.keys,
        drain_s=chosen.drain_s,
        retention=None if chosen.retention_folder is None else Retention(chosen.retention_folder, chosen.retention_days),
    )
    zones = [_zone(path, chosen.map, chosen.seed) for path in chosen.fleet]

    def opened(server: ZoneServer) -> None:
        typer.echo(f"READY market {server.zone_config.zone} on {chosen.mqtt}, epoch {server.engine.epoch}")

    daemon = Broker(server, zones, opened)
    if check_config:
        if chosen.ledger_key is not None:
            Ed25519Signer.load(chosen.ledger_key)
        show_config(chosen, settings)
        return
    set_up_logs(
        chosen.log_format, chosen.log_level, chosen.log_file, file_bytes=chosen.log_file_bytes, files=chosen.log_files
    )
    service = Service(daemon, chosen.control_path, chosen.metrics)
    run_until_signal(service.run(), service.drain)


def _zone(fleet: Path, map_file: Path | None, seed: str) -> ZoneConfig:
    loaded = load_fleet(fleet)
    map_path = map_file or loaded.map
    if map_path is None:
        raise InputError(str(fleet), "map", None, "name a map there, or give --map")
    floor = lay_out(loaded, load_map(map_path), source=str(fleet))
    return ZoneConfig(
        places=floor.places,
        zone=loaded.zone,
        terms=loaded.terms,
        customers=loaded.customers,
        seed=seed,
        traffic=floor.traffic(),
    )


def mosquitto(
    folder: Annotated[Path, typer.Option(help="Where to unpack it without privilege.")] = mosquitto_adapter.DEFAULT_FOLDER,
    run: Annotated[int | None, typer.Option(metavar="PORT", help="Run it on this loopback port.", min=1, max=65535)] = None,
    keys: KeysOption = None,
    bind: Annotated[str, typer.Option(help="Address to listen on; another than loopback needs keys.")] = "127.0.0.1",
) -> None:
    """Find Mosquitto, or fetch it: from apt, or without any privilege into a folder; run it if asked."""
    if keys is None:
        only_loopback(bind, "--bind")
    found = mosquitto_adapter.install(folder, say=typer.echo)
    if run is not None:
        if keys is None:
            config = mosquitto_adapter.write_config(folder / f"port-{run}", run)
        else:
            from fleet_market.adapters.key_folder import BROKER, broker_tls  # noqa: PLC0415 - see guard_for

            config = mosquitto_adapter.write_config(keys / BROKER, run, tls=broker_tls(keys, bind))
        os.execve(found.path, [str(found.path), "-c", str(config)], found.environment())  # noqa: S606 - becomes Mosquitto
