"""Words of battery gauges and power meters to SI units. Registers: `tables`."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_market_hardware.tables import (
    INA226_BUS_LSB_V,
    INA226_SHUNT_LSB_V,
    INA228_BUS_LSB_V,
    INA228_CAL_PER_A_OHM,
    INA228_ENERGY_PER_POWER,
    INA228_POWER_PER_CURRENT,
    INA228_SHUNT_LSB_V,
    INA228_TEMPERATURE_LSB_C,
)

ZERO_C = 273.15


def signed(word: int, bits: int = 16) -> int:
    """Return a two's complement number of `bits` bits."""
    word &= (1 << bits) - 1
    return word - (1 << bits) if word >> (bits - 1) else word


def swapped(word: int) -> int:
    """Return a 16-bit word with its bytes exchanged: SMBus words are little-endian, TI's registers big-endian."""
    return (word & 0xFF) << 8 | word >> 8 & 0xFF


@dataclass(frozen=True, slots=True)
class SbsScale:
    """Powers of ten of SpecificationInfo() (SBS 1.1, 5.1.25): bits 8-11 for voltage, 12-15 for current and capacity."""

    voltage: float
    current: float


def sbs_scale(specification_info: int) -> SbsScale:
    """Return what SpecificationInfo says about scales; powers above 3 are reserved."""
    v, i = specification_info >> 8 & 0xF, specification_info >> 12 & 0xF
    if max(v, i) > 3:
        raise ValueError(f"SpecificationInfo must have scales of 0 to 3, was {specification_info:#06x}")
    return SbsScale(10.0**v, 10.0**i)


def sbs_temperature_c(word: int) -> float:
    """Return degrees Celsius; SBS counts tenths of a kelvin."""
    return word / 10 - ZERO_C


def ina226_voltage_v(word: int) -> float:
    """Return the bus voltage; the register is 15 bits wide."""
    return (word & 0x7FFF) * INA226_BUS_LSB_V


def ina226_current_a(word: int, shunt_ohm: float) -> float:
    """Return the current by the shunt's voltage, sign as wired."""
    return signed(word) * INA226_SHUNT_LSB_V / shunt_ohm


def ina228_voltage_v(register: bytes) -> float:
    """Return the bus voltage: 20 bits, left-aligned in 24."""
    return (_whole(register, 3) >> 4) * INA228_BUS_LSB_V


def ina228_current_a(register: bytes, shunt_ohm: float) -> float:
    """Return the current by the shunt's voltage (ADCRANGE 0), sign as wired."""
    return signed(_whole(register, 3) >> 4, 20) * INA228_SHUNT_LSB_V / shunt_ohm


def ina228_temperature_c(word: int) -> float:
    """Return the temperature of the chip, not of the battery."""
    return signed(word) * INA228_TEMPERATURE_LSB_C


def ina228_energy_j(register: bytes, current_lsb_a: float) -> float:
    """Return the energy counter. It counts magnitudes: charging raises it as discharging does."""
    return _whole(register, 5) * INA228_ENERGY_PER_POWER * INA228_POWER_PER_CURRENT * current_lsb_a


def ina228_shunt_cal(current_lsb_a: float, shunt_ohm: float) -> int:
    """Return the calibration word for ADCRANGE 0.

    Raises
    ------
    ValueError
        If it does not fit in 15 bits.
    """
    word = round(INA228_CAL_PER_A_OHM * current_lsb_a * shunt_ohm)
    if not 1 <= word <= 0x7FFF:
        raise ValueError(f"SHUNT_CAL must be 1 to 32767, was {word}: choose another current_lsb_a or shunt_ohm")
    return word


def _whole(register: bytes, size: int) -> int:
    if len(register) != size:
        raise ValueError(f"register must have {size} bytes, had {len(register)}")
    return int.from_bytes(register, "big")
