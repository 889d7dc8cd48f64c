"""Gauges on I2C: smart batteries (SBS) and TI's power meters INA226 and INA228 (smbus2).

Only SMBus byte, word and block calls are used, so that the kernel's ``i2c-stub`` can stand in for a chip.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import smbus2

from fleet_market.body import Battery
from fleet_market_hardware.batteries.gauge import Reading
from fleet_market_hardware.codecs import gauges
from fleet_market_hardware.devices import DeviceError, DeviceSilentError, Doubts
from fleet_market_hardware.tables import (
    INA226_BUS,
    INA226_DIE_ID,
    INA226_ID,
    INA226_SHUNT,
    INA228_BUS,
    INA228_ENERGY,
    INA228_ID,
    INA228_SHUNT,
    INA228_SHUNT_CAL,
    SBS_ADDRESS,
    SBS_DISCHARGING_BIT,
    TI_MANUFACTURER,
    Sbs,
)

Opener = Callable[[int], Any]
"""Makes an SMBus of a bus number; `smbus2.SMBus`, or what stands in for it."""


class _OnI2c:
    """What gauges on I2C share."""

    def __init__(self, kind: str, bus: int, address: int, opener: Opener) -> None:
        self.name = f"{kind} i2c-{bus} 0x{address:02x}"
        if not 0x03 <= address <= 0x77:
            raise DeviceError(self.name, "address", address, "use a 7-bit address of 0x03 to 0x77")
        self.doubts = Doubts(self.name)
        self._number, self._address, self._opener = bus, address, opener
        self._bus: Any = None

    def close(self) -> None:
        """Disconnect."""
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.close()

    def _connect(self) -> None:
        self.close()
        try:
            self._bus = self._opener(self._number)
        except OSError as error:
            mend = {
                errno.ENOENT: "no such bus: load i2c-dev, see i2cdetect -l",
                errno.EACCES: "permission denied: add this user to the group i2c, and log in again",
            }.get(error.errno or 0, f"the bus cannot be opened ({error})")
            raise DeviceError(self.name, "bus", self._number, mend) from error

    def _word(self, register: int) -> int:
        if self._bus is None:
            raise OSError(f"{self.name}: not open")
        return int(self._bus.read_word_data(self._address, register))

    def _first(self, register: int) -> int:
        """Read a word to see whether anybody is there."""
        try:
            return self._word(register)
        except OSError as error:
            self.close()
            mend = "no answer: check address, wires and pull-ups; see i2cdetect -y"
            if error.errno == errno.EBUSY:
                mend = "the kernel's driver has the chip: use the battery type sysfs"
            raise DeviceSilentError(self.name, "address", self._address, f"{mend} ({error})") from error


class SmartBattery(_OnI2c):
    """A battery after the Smart Battery Data Specification 1.1. Implements `fleet_market_hardware.batteries.Gauge`."""

    def __init__(self, bus: int, *, address: int = SBS_ADDRESS, opener: Opener = smbus2.SMBus) -> None:
        super().__init__("smart battery", bus, address, opener)
        self._scale = gauges.SbsScale(1.0, 1.0)

    def open(self, timeout_s: float) -> None:  # noqa: ARG002 - the kernel's driver of the bus has the limit
        """Connect and read the scales."""
        self._connect()
        info = self._first(Sbs.SPECIFICATION_INFO)
        try:
            self._scale = gauges.sbs_scale(info)
        except ValueError as error:
            self.close()
            raise DeviceError(self.name, "SpecificationInfo", f"{info:#06x}", f"not a smart battery ({error})") from error

    def read(self) -> Reading:
        """Read once."""
        believe, scale = self.doubts.believe, self._scale
        full, design = self._word(Sbs.FULL_CAPACITY), self._word(Sbs.DESIGN_CAPACITY)
        status = self._word(Sbs.STATUS)
        current = gauges.signed(self._word(Sbs.CURRENT)) / 1000 * scale.current
        battery = Battery(
            soc=believe("soc", self._word(Sbs.RELATIVE_SOC) / 100),
            voltage_v=believe("voltage_v", self._word(Sbs.VOLTAGE) / 1000 * scale.voltage),
            current_a=believe("current_a", current),
            temperature_c=believe("temperature_c", gauges.sbs_temperature_c(self._word(Sbs.TEMPERATURE))),
            charging=not status >> SBS_DISCHARGING_BIT & 1 and current > 0,
        )
        return Reading(
            battery,
            cycles=believe("cycles", float(self._word(Sbs.CYCLES))),
            health=believe("health", full / design) if design else None,
            capacity_ah=full / 1000 * scale.current,
        )


class _Ina(_OnI2c):
    """A power meter between battery and robot.

    Parameters
    ----------
    bus, address : int
    shunt_ohm : float
    discharge_positive : bool
        Whether the chip counts a current out of the battery as positive, as it is mostly wired.
    """

    kind = ""

    def __init__(
        self,
        bus: int,
        *,
        shunt_ohm: float,
        address: int = 0x40,
        discharge_positive: bool = True,
        opener: Opener = smbus2.SMBus,
    ) -> None:
        super().__init__(self.kind, bus, address, opener)
        if not shunt_ohm > 0:
            raise DeviceError(self.name, "shunt_ohm", shunt_ohm, "use the resistance of the shunt, above 0")
        self._shunt_ohm, self._sign = shunt_ohm, -1.0 if discharge_positive else 1.0

    def _big(self, register: int) -> int:
        return gauges.swapped(self._word(register))

    def _identify(self, register: int) -> None:
        maker = gauges.swapped(self._first(register))
        if maker != TI_MANUFACTURER:
            self.close()
            raise DeviceError(
                self.name, "manufacturer id", f"{maker:#06x}", f"another chip: {TI_MANUFACTURER:#06x} is Texas Instruments"
            )


class Ina226(_Ina):
    """Implements `fleet_market_hardware.batteries.Gauge`; measures voltage and current."""

    kind = "ina226"

    def open(self, timeout_s: float) -> None:  # noqa: ARG002 - the kernel's driver of the bus has the limit
        """Connect and see whether it is an INA226."""
        self._connect()
        self._identify(INA226_ID)
        die = self._big(INA226_DIE_ID)
        if die >> 4 != 0x226:
            self.close()
            raise DeviceError(self.name, "die id", f"{die:#06x}", "another chip of TI: 0x226_ is the INA226")

    def read(self) -> Reading:
        """Read once."""
        current = self._sign * gauges.ina226_current_a(self._big(INA226_SHUNT), self._shunt_ohm)
        volts = gauges.ina226_voltage_v(self._big(INA226_BUS))
        return Reading(
            Battery(voltage_v=self.doubts.believe("voltage_v", volts), current_a=self.doubts.believe("current_a", current))
        )


class Ina228(_Ina):
    """Implements `fleet_market_hardware.batteries.Gauge`; measures voltage and current, and counts energy in hardware."""

    kind = "ina228"

    def __init__(
        self,
        bus: int,
        *,
        shunt_ohm: float,
        max_current_a: float,
        address: int = 0x40,
        discharge_positive: bool = True,
        opener: Opener = smbus2.SMBus,
    ) -> None:
        super().__init__(bus, shunt_ohm=shunt_ohm, address=address, discharge_positive=discharge_positive, opener=opener)
        self._lsb_a = max_current_a / 2**19
        try:
            self._cal = gauges.ina228_shunt_cal(self._lsb_a, shunt_ohm)
        except ValueError as error:
            raise DeviceError(self.name, "max_current_a", max_current_a, str(error)) from error
        self._seen_j: float | None = None
        self._out_j = 0.0

    def open(self, timeout_s: float) -> None:  # noqa: ARG002 - the kernel's driver of the bus has the limit
        """Connect, see whether it is a chip of TI, and calibrate its counters."""
        self._connect()
        self._identify(INA228_ID)
        self._bus.write_word_data(self._address, INA228_SHUNT_CAL, gauges.swapped(self._cal))

    def read(self) -> Reading:
        """Read once."""
        current = self._sign * gauges.ina228_current_a(self._block(INA228_SHUNT, 3), self._shunt_ohm)
        volts = gauges.ina228_voltage_v(self._block(INA228_BUS, 3))
        counted = gauges.ina228_energy_j(self._block(INA228_ENERGY, 5), self._lsb_a)
        # The chip adds magnitudes: what came while charging did not leave the battery.
        if self._seen_j is not None and counted >= self._seen_j and current <= 0:
            self._out_j += counted - self._seen_j
        self._seen_j = counted
        return Reading(
            Battery(
                voltage_v=self.doubts.believe("voltage_v", volts),
                current_a=self.doubts.believe("current_a", current),
                energy_out_j=self.doubts.believe("energy_out_j", self._out_j),
            )
        )

    def _block(self, register: int, size: int) -> bytes:
        if self._bus is None:
            raise OSError(f"{self.name}: not open")
        return bytes(self._bus.read_i2c_block_data(self._address, register, size))
