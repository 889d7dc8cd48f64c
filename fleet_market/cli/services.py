"""Commands that serve: the market, the oracle, the MQTT broker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fleet_market.adapters import mosquitto as mosquitto_adapter
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.guard import KEYS_VARIABLE, only_loopback
from fleet_market.adapters.map_files import load_map
from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.daemons.broker import Broker
from fleet_market.daemons.oracle import OracleConfig, run_oracle
from fleet_market.daemons.serving import run_until_signal
from fleet_market.daemons.zone import ZoneConfig
from fleet_market.daemons.zone_server import ServerConfig, ZoneServer
from fleet_market.errors import InputError
from fleet_market.ids import ZoneId
from fleet_market.robot.floor import lay_out

KeysOption = Annotated[
    Path | None, typer.Option("--keys", envvar=KEYS_VARIABLE, help="Folder of keys; without: unsigned, loopback only.")
]
MqttOption = Annotated[str, typer.Option("--mqtt", envvar="FLEET_MARKET_MQTT", help="MQTT broker, HOST:PORT.")]
ZoneOption = Annotated[str, typer.Option("--zone", envvar="FLEET_MARKET_ZONE", help="Zone whose market it is.")]
DEFAULT_MQTT = "127.0.0.1:1883"


def zone_id(text: str) -> ZoneId:
    """Return the zone of a `ZoneOption`; raises `InputError`."""
    try:
        return ZoneId(text)
    except ValueError:
        raise InputError("command line", "--zone", text, f"use {ZoneId.RULE}") from None


def broker(
    fleet: Annotated[list[Path], typer.Option(help="Fleet file: terms, customers, places. Once for each zone.")],
    database: Annotated[
        str,
        typer.Option(
            "--database",
            "--store",
            envvar="FLEET_MARKET_STORE",
            help="The market's database, made if it is not there: a file (SQLite), or postgresql://user@host/name, which"
            " several daemons can share.",
        ),
    ],
    map_file: Annotated[
        Path | None, typer.Option("--map", help="Map of all zones; else those that the fleet files name.")
    ] = None,
    mqtt: MqttOption = DEFAULT_MQTT,
    ledger_key: Annotated[
        Path | None, typer.Option(help="Private Ed25519 key (PEM) that signs the journal's head of each day.")
    ] = None,
    seed: Annotated[str, typer.Option(help="Draws the ties.")] = "0",
    simulated: Annotated[bool, typer.Option(help="Take the time from a simulator's clock on MQTT.")] = False,
    keys: KeysOption = None,
) -> None:
    """Run the markets of one or several zones; with PostgreSQL, share them with other daemons."""
    host, port = parse_endpoint(mqtt)
    config = ServerConfig(host=host, port=port, database=database, simulated=simulated, ledger_key=ledger_key, keys=keys)
    zones = [_zone(path, map_file, seed) for path in fleet]

    def opened(server: ZoneServer) -> None:
        typer.echo(f"READY market {server.zone_config.zone} on {mqtt}, epoch {server.engine.epoch}")

    async def serve() -> None:
        await Broker(config, zones, opened).run()

    run_until_signal(serve())


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


def oracle(
    mqtt: MqttOption = DEFAULT_MQTT,
    zone: ZoneOption = "main",
    keys: KeysOption = None,
) -> None:
    """Run the oracle: it watches the market and publishes a fair band for every lot sold."""
    host, port = parse_endpoint(mqtt)
    run_until_signal(run_oracle(OracleConfig(host, port, zone_id(zone), keys)))


def mosquitto(
    folder: Annotated[Path, typer.Option(help="Where to unpack it without privilege.")] = Path(".cache/mosquitto"),
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
