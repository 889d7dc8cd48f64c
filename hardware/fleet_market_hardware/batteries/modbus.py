"""Battery management systems over Modbus RTU or TCP (pymodbus); which register means what is a data file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ModbusException

from fleet_market.body import Battery
from fleet_market.errors import InputError
from fleet_market_hardware.batteries.gauge import Reading
from fleet_market_hardware.codecs.gauges import signed
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts

FIELDS = Literal["soc", "voltage_v", "current_a", "temperature_c", "cycles", "health", "capacity_ah"]
REGISTER = Annotated[int, Field(ge=0, le=0xFFFF)]
ANSWER_S = 0.3


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Register(_Model):
    """Where a value is, and how it becomes one in SI units: value = raw * scale + offset."""

    address: REGISTER
    kind: Literal["u16", "s16", "u32", "s32"] = "u16"
    """32-bit values stand with their high word first."""
    scale: float = 1.0
    offset: float = 0.0


class RegisterMap(_Model):
    """The register map of a battery management system."""

    name: str
    source: str
    """Document that it is from; ``[assumption]`` if it is from none."""
    verified: str
    """Against what it has been tried; ``no`` if against nothing."""
    table: Literal["holding", "input"] = "holding"
    registers: dict[FIELDS, Register]


def load_map(name: str) -> RegisterMap:
    """Return a register map by the name of one that ships with the package, or by the path of a YAML file.

    Raises
    ------
    InputError
        If there is none, or a field of it is wrong.
    """
    shipped = resources.files("fleet_market_hardware").joinpath("bms")
    file = shipped.joinpath(f"{name}.yaml") if "/" not in name and not name.endswith(".yaml") else Path(name)
    if not file.is_file():
        known = ", ".join(sorted(p.name.removesuffix(".yaml") for p in shipped.iterdir() if p.name.endswith(".yaml")))
        raise InputError("modbus", "map", name, f"use one of {known}, or the path of a YAML file")
    try:
        return RegisterMap.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except yaml.YAMLError as error:
        raise InputError(str(file), "the file", "...", f"use YAML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(str(file), ".".join(map(str, first["loc"])), first["input"], first["msg"]) from error


def decode(told: list[int], register: Register) -> float:
    """Return the value of a register's words."""
    raw = told[0] if len(told) == 1 else told[0] << 16 | told[1]
    if register.kind.startswith("s"):
        raw = signed(raw, 16 * len(told))
    return raw * register.scale + register.offset


class ModbusBattery:
    """Implements `fleet_market_hardware.batteries.Gauge`.

    Parameters
    ----------
    port : str
        Serial port, or ``tcp://host:port``.
    registers : RegisterMap
    unit : int
        Address of the device on the line.
    """

    def __init__(self, port: str, registers: RegisterMap, *, unit: int = 1, baud: int = 9600) -> None:
        self.name = f"modbus {port} unit {unit} ({registers.name})"
        if not 1 <= unit <= 247:
            raise DeviceError(self.name, "unit", unit, "use an address of 1 to 247")
        self.doubts = Doubts(self.name)
        self._port, self._map, self._unit, self._baud = port, registers, unit, baud
        self._client: Any = None

    def open(self, timeout_s: float) -> None:
        """Connect, and read one register to see whether the device is there."""
        self.close()
        if self._port.startswith("tcp://"):
            host, _, port = self._port.removeprefix("tcp://").partition(":")
            client: Any = ModbusTcpClient(host, port=int(port or 502), timeout=min(timeout_s, ANSWER_S), retries=1)
        else:
            client = ModbusSerialClient(self._port, baudrate=self._baud, timeout=min(timeout_s, ANSWER_S), retries=1)
        self._client = client
        if not client.connect():
            self.close()
            raise DeviceError(self.name, "port", self._port, "cannot be opened: check that it is there and you may use it")
        first = next(iter(self._map.registers.values()))
        try:
            self._words(first)
        except OSError as error:
            self.close()
            raise DeviceSilentError(
                self.name, "unit", self._unit, f"no answer at {self._baud} baud: check unit, rate, A/B wires ({error})"
            ) from error

    def read(self) -> Reading:
        """Read every register of the map once."""
        told = {field: decode(self._words(r), r) for field, r in self._map.registers.items()}
        believe = self.doubts.believe
        battery = Battery(
            soc=believe("soc", told.get("soc")),
            voltage_v=believe("voltage_v", told.get("voltage_v")),
            current_a=believe("current_a", told.get("current_a")),
            temperature_c=believe("temperature_c", told.get("temperature_c")),
        )
        return Reading(
            battery, cycles=believe("cycles", told.get("cycles")), health=believe("health", told.get("health")),
            capacity_ah=told.get("capacity_ah"),
        )  # fmt: skip

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _words(self, register: Register) -> list[int]:
        if self._client is None:
            raise OSError(f"{self.name}: not open")
        read = self._client.read_holding_registers if self._map.table == "holding" else self._client.read_input_registers
        count = 2 if register.kind.endswith("32") else 1
        try:
            answer = read(register.address, count=count, device_id=self._unit)
        except ModbusException as error:
            raise OSError(f"register {register.address}: {error}") from error
        if answer.isError() or len(answer.registers) != count:
            raise OSError(f"register {register.address}: {answer}")
        return list(answer.registers)
