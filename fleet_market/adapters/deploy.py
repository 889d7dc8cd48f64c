"""Files to run a market as services of systemd: the units, a configuration to begin with, and that of Mosquitto."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fleet_market.adapters.mosquitto import Mosquitto, write_config
from fleet_market.adapters.private_files import write_file
from fleet_market.errors import InputError

WATCHDOG_S = 30
"""A daemon whose event loop does not come round for this long is ended and started anew. [assumption]"""
STOP_S = 60
"""What an orderly end may take before systemd kills: several times the longest that `drain_s` is by default."""
NO_RESTART = "2 6"
"""Exit codes that a new start does not help: bad input, and a clock that has to be looked at."""

MARKET, BROKER, SETTINGS, BROKER_FOLDER = (
    "fleet-market.service", "fleet-market-mosquitto.service", "market.toml", "mosquitto",
)  # fmt: skip

_MARKET_UNIT = """\
[Unit]
Description=Fleet Market
Wants=network-online.target time-sync.target {broker}
After=network-online.target time-sync.target {broker} postgresql.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
ExecStartPre={program} broker --config {settings} --check-config
ExecStart={program} broker --config {settings}
Restart=always
RestartSec=1
RestartPreventExitStatus={no_restart}
TimeoutStartSec=infinity
TimeoutStopSec={stop_s}
WatchdogSec={watchdog_s}
WorkingDirectory=%S/fleet-market
StateDirectory=fleet-market
RuntimeDirectory=fleet-market
UMask=0077
NoNewPrivileges=true
ProtectSystem=strict
{writes}ProtectHome=read-only
ProtectClock=true
ProtectKernelTunables=true
ProtectControlGroups=true
PrivateTmp=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6

[Install]
WantedBy=multi-user.target
"""

_BROKER_UNIT = """\
[Unit]
Description=Mosquitto for Fleet Market
After=network-online.target
Wants=network-online.target

[Service]
User={user}
{environment}ExecStart={mosquitto} -c {config}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
NoNewPrivileges=true
ProtectSystem=strict
ReadWritePaths={folder}
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""

_SETTINGS = """\
# Settings of `fleet-market broker`; paths are relative to this file. What each key takes: fleet-market broker --help.
fleet = [{fleets}]
database = "/var/lib/fleet-market/market.db"  # or postgresql://user@host/name, with the password in ~/.pgpass
control = "/run/fleet-market/control"
mqtt = "{host}:{port}"
{keys}
metrics = 9464      # http://127.0.0.1:9464/metrics
log_format = "json"
log_level = "info"
# log_file = "/var/log/fleet-market/market.log"   # journald keeps the log without it
# log_file_bytes = 50000000
# log_files = 5
# retention_folder = "/var/lib/fleet-market/archives"   # what is old is moved there; all is kept without it
# retention_days = 90
drain_s = 3.0       # how long an orderly end waits for receipts
"""


@dataclass(frozen=True, slots=True)
class Deployment:
    """How a market is to be run.

    Parameters
    ----------
    program : Path
        The command ``fleet-market``.
    mosquitto : Mosquitto
    fleets : tuple of Path
        Fleet files.
    user : str
        Whom the services run as.
    port : int
        Of the MQTT broker on this machine.
    keys : Path, optional
        Folder of keys, whose Mosquitto configuration is then used.
    """

    program: Path
    mosquitto: Mosquitto
    fleets: tuple[Path, ...]
    user: str
    port: int
    keys: Path | None = None


def write_deployment(folder: Path, wanted: Deployment) -> list[Path]:
    """Write the files into `folder` and return their paths.

    Raises
    ------
    InputError
        If the settings are there already (they are the operator's), a file cannot be written, or the keys' folder has no
        Mosquitto configuration.
    """
    folder = folder.resolve()
    if (folder / SETTINGS).exists():
        raise InputError("command line", "FOLDER", str(folder), f"{SETTINGS} is there already: name another folder")
    try:
        if wanted.keys is None:
            write_config(folder / BROKER_FOLDER, wanted.port)
        elif not config_of(folder, wanted).is_file():
            raise InputError("command line", "--keys", str(wanted.keys), "make it with `fleet-market keys init`")
        files = {folder / name: text for name, text in contents(folder, wanted).items()}
        for path, text in files.items():
            write_file(path, text.encode())
    except OSError as error:
        raise InputError(
            "command line", "FOLDER", str(folder), f"{error.strerror}: name a folder that can be written"
        ) from None
    return [*files, config_of(folder, wanted)]


def config_of(folder: Path, wanted: Deployment) -> Path:
    """Return the path of Mosquitto's configuration: that of the keys, else one in `folder`."""
    where = folder / BROKER_FOLDER if wanted.keys is None else wanted.keys.resolve() / "broker"
    return where / "mosquitto.conf"


def contents(folder: Path, wanted: Deployment) -> dict[str, str]:
    """Return the units and the settings for `folder`, by name."""
    keys, config, libraries = wanted.keys, config_of(folder, wanted), wanted.mosquitto.libraries
    return {
        SETTINGS: _SETTINGS.format(
            fleets=", ".join(json.dumps(str(path.resolve())) for path in wanted.fleets),
            host="127.0.0.1" if keys is None else "localhost",
            port=wanted.port,
            keys='# keys = "keys"' if keys is None else f"keys = {json.dumps(str(keys.resolve()))}",
        ),
        MARKET: _MARKET_UNIT.format(
            broker=BROKER,
            user=wanted.user,
            program=_quoted(wanted.program),
            settings=_quoted(folder / SETTINGS),
            no_restart=NO_RESTART,
            stop_s=STOP_S,
            watchdog_s=WATCHDOG_S,
            writes="" if keys is None else f"ReadWritePaths={_quoted(keys.resolve())}\n",
        ),
        BROKER: _BROKER_UNIT.format(
            user=wanted.user,
            environment=f"Environment=LD_LIBRARY_PATH={':'.join(map(str, libraries))}\n" if libraries else "",
            mosquitto=_quoted(wanted.mosquitto.path),
            config=_quoted(config),
            folder=_quoted(config.parent),
        ),
    }


def _quoted(path: Path) -> str:
    """Return a path as a unit may hold it, systemd.syntax(7) and systemd.unit(5): blanks in quotes, per cent doubled."""
    text = str(path).replace("%", "%%")
    return json.dumps(text, ensure_ascii=False) if any(sign in text for sign in " \\\"'") else text
