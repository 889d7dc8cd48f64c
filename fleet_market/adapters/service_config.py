"""The configuration of a market daemon: command line, environment, a TOML file, defaults, in this order of precedence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fleet_market.adapters.logs import LogFormat, LogLevel
from fleet_market.adapters.mqtt import parse_endpoint
from fleet_market.adapters.stores import is_postgres
from fleet_market.errors import InputError, UnreadableError

DEFAULT_MQTT = "127.0.0.1:1883"
AGE_DAYS = 90.0
"""Inputs stay in the database for this long where they are archived. [assumption]"""
DRAIN_S = 3.0
"""How long an orderly end waits for what must arrive to be confirmed. [assumption]"""
ENVIRONMENT = "FLEET_MARKET_"
"""Every key is also an environment variable: this and the key in capitals."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it came from."""

    value: object
    source: str


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


class ControlConfig(BaseModel):
    """Where a daemon can be asked; the description of every field says what is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    database: str | None = Field(None, min_length=1, description="a path, or postgresql://user@host/name")
    control: Path | None = Field(None, description="the path of a Unix socket")

    @property
    def control_path(self) -> Path:
        """The control socket: by default beside the database, or where that is a server, in the working directory."""
        if self.control is not None:
            return self.control
        if self.database is None or is_postgres(self.database):
            return Path("fleet-market.control")
        return Path(f"{self.database}.control")


class ServiceConfig(ControlConfig):
    """Everything that can be set about a market daemon."""

    fleet: tuple[Path, ...] = Field(min_length=1, description="one fleet file for each zone")
    database: str = Field(min_length=1, description="a path, or postgresql://user@host/name")
    map: Path | None = Field(None, description="a map of all zones")
    mqtt: Annotated[str, AfterValidator(_endpoint)] = Field(DEFAULT_MQTT, description="HOST:PORT, e.g. 127.0.0.1:1883")
    keys: Path | None = Field(None, description="a folder of keys")
    ledger_key: Path | None = Field(None, description="a file with a private Ed25519 key, PEM")
    seed: str = Field("0", max_length=64, description="a text of at most 64 characters")
    simulated: bool = Field(default=False, description="true or false")
    metrics: int | None = Field(None, ge=1, le=65535, description="a port from 1 to 65535")
    retention_folder: Path | None = Field(None, description="a folder for archives")
    retention_days: float = Field(AGE_DAYS, ge=0.0, le=36_500.0, description="days from 0 to 36500")
    drain_s: float = Field(DRAIN_S, ge=0.0, le=600.0, description="seconds from 0 to 600")
    log_format: LogFormat = Field("text", description="text or json")
    log_level: LogLevel = Field("info", description="debug, info, warning or error")
    log_file: Path | None = Field(None, description="the path of a file")
    log_file_bytes: int = Field(50_000_000, ge=10_000, le=10**12, description="bytes from 10000 to 10^12")
    log_files: int = Field(5, ge=1, le=1000, description="a number from 1 to 1000")


ConfigType = TypeVar("ConfigType", bound=ControlConfig)


def read_file(path: Path) -> dict[str, Setting]:
    """Return the settings of a TOML file; paths in it are relative to its folder.

    Raises
    ------
    InputError
        If it cannot be read, is no TOML, or has a key that there is not.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(path, error, "name a TOML file that can be read") from None
    except ValueError as error:
        raise InputError(str(path), "file", str(error), "write TOML: lines like metrics = 9464") from None
    content |= {f"retention_{key}": value for key, value in _table(content, "retention", path).items()}
    for key, value in content.items():
        if key not in ServiceConfig.model_fields:
            raise InputError(
                str(path), key, value, f"there is no such key: use {', '.join(sorted(ServiceConfig.model_fields))}"
            )
    return {key: Setting(_located(key, value, path.parent), str(path)) for key, value in content.items()}


def _table(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Take a table out of a file's content: its keys may stand in a table or, with its name before them, outside."""
    table = content.pop(name, {})
    if not isinstance(table, dict):
        raise InputError(str(path), name, table, f"write a table: [{name}]")
    return table


def make(kind: type[ConfigType], settings: Mapping[str, Setting]) -> ConfigType:
    """Return the configuration of `kind` that `settings` make; what it has no field for is passed over.

    Raises
    ------
    InputError
        If a value is not accepted, or one is missing.
    """
    fields = kind.model_fields
    try:
        return kind.model_validate({key: setting.value for key, setting in settings.items() if key in fields})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        accepted = fields[key].description
        if key not in settings:
            ways = f"--{key.replace('_', '-')}, {ENVIRONMENT}{key.upper()} or {key} in the file of --config"
            raise InputError("configuration", key, None, f"give {accepted}, by {ways}") from None
        raise InputError(settings[key].source, key, settings[key].value, f"use {accepted}") from None


def shown(value: object) -> str:
    """Return a value as it may be shown: without the password in the address of a database."""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if "://" not in text:
        return text
    password = urlsplit(text).password
    return text.replace(f":{password}@", ":***@") if password else text


def _located(key: str, value: Any, folder: Path) -> object:
    """Return the value with its paths in `folder`; what is no text is left to the check."""
    if isinstance(value, list):
        return tuple(_located(key, item, folder) for item in value)
    paths = ("fleet", "map", "keys", "ledger_key", "control", "log_file", "database", "retention_folder")
    if key in paths and isinstance(value, str) and value and not is_postgres(value):
        return str(folder / value)
    return value
