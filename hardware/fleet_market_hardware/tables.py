"""Registers, commands and scales of devices, each with where it is from.

``[peer]`` marks what a decoder that others wrote has confirmed in our tests, ``[sheet]`` what stands in the document named
and has met no third-party decoder here, ``[assumption]`` what stands in none. No row of this file has met real hardware.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

# --- ODrive, CANSimple. ODrive documentation 0.6 "CAN Protocol"; the DBC of odrive-can 2.1.0 (0.6.10) agrees [peer] ---


class ODrive(IntEnum):
    """Command ids: arbitration id = node << 5 | command."""

    HEARTBEAT = 0x01
    ESTOP = 0x02
    SET_AXIS_STATE = 0x07
    ENCODER_ESTIMATES = 0x09
    SET_CONTROLLER_MODE = 0x0B
    SET_INPUT_VEL = 0x0D
    IQ = 0x14
    TEMPERATURE = 0x15
    BUS_VOLTAGE_CURRENT = 0x17
    CLEAR_ERRORS = 0x18
    TORQUES = 0x1C


ODRIVE_MAX_NODE: Final = 0x3F
ODRIVE_IDLE, ODRIVE_CLOSED_LOOP = 1, 8
ODRIVE_VELOCITY_CONTROL, ODRIVE_INPUT_PASSTHROUGH = 2, 1
CAN_DLC: Final = 8
"""Every frame is padded to this: the DBC declares 8 bytes, and a decoder that goes by it drops shorter ones [peer]."""

# --- VESC. Firmware `bldc`, datatypes.h (COMM_PACKET_ID) and commands.c (COMM_GET_VALUES), release 5 and 6 [sheet] ---


class Vesc(IntEnum):
    """First byte of a payload."""

    GET_VALUES = 4
    SET_CURRENT = 6
    SET_CURRENT_BRAKE = 7
    SET_RPM = 8
    ALIVE = 30
    FORWARD_CAN = 34


VESC_FAULTS: Final = (
    "none", "over voltage", "under voltage", "gate driver", "over current", "MOSFET over temperature",
    "motor over temperature", "gate driver over voltage", "gate driver under voltage", "MCU under voltage",
    "booted from watchdog reset", "encoder SPI",
)  # fmt: skip
"""`mc_fault_code` of datatypes.h, the first twelve."""
VESC_STEPS_PER_ELECTRICAL_TURN: Final = 6
"""The tachometer counts commutation steps: six per electrical turn."""

# --- CiA 402 (IEC 61800-7-201), objects; statusword and controlword bits [sheet]; SDO transport: canopen 2.4.1 [peer] ---

CIA_CONTROLWORD, CIA_STATUSWORD, CIA_ERROR_CODE = 0x6040, 0x6041, 0x603F
CIA_MODE, CIA_MODE_DISPLAY, CIA_PROFILE_VELOCITY = 0x6060, 0x6061, 3
CIA_POSITION, CIA_VELOCITY, CIA_TORQUE_PERMILLE = 0x6064, 0x606C, 0x6077
CIA_DC_LINK_MV, CIA_RATED_TORQUE_MNM, CIA_TARGET_VELOCITY = 0x6079, 0x6076, 0x60FF
CIA_ABORT_OPTION, CIA_ABORT_QUICK_STOP = 0x6007, 3
CANOPEN_CONSUMER_HEARTBEAT: Final = 0x1016
"""CiA 301: sub-index n = node << 16 | milliseconds."""
CANOPEN_HEARTBEAT_COB, CANOPEN_BEAT_OPERATIONAL = 0x700, b"\x05"
"""CiA 301, 7.2.8.3.2: the sender's node id is added; its state "operational" [sheet]."""
CANOPEN_RPDO_1, CANOPEN_TPDO_1, CANOPEN_TPDO_2, CANOPEN_MAPPING = 0x1400, 0x1800, 0x1801, 0x200
"""CiA 301, 7.5.2.35 to 38: communication parameters, and how far on from each its mapping parameter is [sheet]."""
CANOPEN_RPDO_1_COB, CANOPEN_TPDO_1_COB, CANOPEN_TPDO_2_COB, CANOPEN_SYNC_COB = 0x200, 0x180, 0x280, 0x80
"""CiA 301, 7.3.5, pre-defined connection set; the node id is added to those of PDOs [sheet]."""
CANOPEN_PDO_NOT_VALID, CANOPEN_PDO_NO_RTR, CANOPEN_COB_ID = 1 << 31, 1 << 30, 0x1FFF_FFFF
CANOPEN_AT_ONCE, CANOPEN_AT_EVERY_SYNC = 255, 1
CIA_KINDS: Final = {
    CIA_CONTROLWORD: "H", CIA_STATUSWORD: "H", CIA_POSITION: "i", CIA_VELOCITY: "i", CIA_TORQUE_PERMILLE: "h",
    CIA_DC_LINK_MV: "I", CIA_TARGET_VELOCITY: "i",
}  # fmt: skip
"""Types of the objects that go by PDO, as `struct` has them (IEC 61800-7-201) [sheet]."""

# --- iRobot Create 2 Open Interface Specification, 2015 [sheet] ------------------------------------------------------


class Create(IntEnum):
    """Opcodes."""

    START = 128
    SAFE = 131
    STOP = 173
    DRIVE_DIRECT = 145
    STREAM = 148
    STREAM_PAUSE = 150


CREATE_STREAM_HEADER, CREATE_GROUP, CREATE_GROUP_BYTES = 19, 100, 80
CREATE_MAX_MM_S, CREATE_COUNTS_PER_TURN = 500, 508.8
CREATE_WHEEL_RADIUS_M, CREATE_TRACK_M = 0.036, 0.235
CREATE_CHARGING: Final = (1, 2, 3)
"""Charging states: reconditioning, full and trickle charging."""
CREATE_DRIVING_MODES: Final = (2, 3)
"""Open Interface modes that take drive commands: safe and full."""

# --- Smart Battery Data Specification 1.1 (SBS), commands; all words little-endian [sheet] ---------------------------


class Sbs(IntEnum):
    """Commands."""

    TEMPERATURE = 0x08
    VOLTAGE = 0x09
    CURRENT = 0x0A
    RELATIVE_SOC = 0x0D
    REMAINING_CAPACITY = 0x0F
    FULL_CAPACITY = 0x10
    STATUS = 0x16
    CYCLES = 0x17
    DESIGN_CAPACITY = 0x18
    SPECIFICATION_INFO = 0x1A


SBS_ADDRESS, SBS_DISCHARGING_BIT = 0x0B, 6

# --- Texas Instruments INA226 (SBOS547) and INA228 (SLYS021); registers are big-endian [sheet] -----------------------

INA226_SHUNT, INA226_BUS, INA226_ID, INA226_DIE_ID = 0x01, 0x02, 0xFE, 0xFF
INA226_SHUNT_LSB_V, INA226_BUS_LSB_V = 2.5e-6, 1.25e-3
INA228_SHUNT, INA228_BUS, INA228_TEMPERATURE, INA228_ENERGY, INA228_ID = 0x04, 0x05, 0x06, 0x09, 0x3E
INA228_CONFIG, INA228_SHUNT_CAL = 0x00, 0x02
INA228_SHUNT_LSB_V, INA228_BUS_LSB_V, INA228_TEMPERATURE_LSB_C = 312.5e-9, 195.3125e-6, 7.8125e-3
INA228_CAL_PER_A_OHM, INA228_ENERGY_PER_POWER, INA228_POWER_PER_CURRENT = 13107.2e6, 16.0, 3.2
TI_MANUFACTURER: Final = 0x5449
"""ASCII "TI"."""


# --- What can be true ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """The values that a reading can have."""

    low: float
    high: float
    unit: str


SPANS: Final = {
    "soc": Span(0.0, 1.0, ""),
    "voltage_v": Span(1.0, 120.0, "V"),
    "current_a": Span(-1000.0, 1000.0, "A"),
    "temperature_c": Span(-40.0, 125.0, "degC"),
    "motor_temperature_c": Span(-40.0, 200.0, "degC"),
    "torque_nm": Span(-10_000.0, 10_000.0, "N m"),
    "energy_out_j": Span(0.0, 1e13, "J"),
    "cycles": Span(0.0, 65_534.0, ""),
    "health": Span(0.0, 1.5, ""),
    "odometer_m": Span(0.0, 1e10, "m"),
    "velocity_rad_s": Span(-1e4, 1e4, "rad/s"),
    "revolutions": Span(-1e10, 1e10, "turns"),
}
"""Wide on purpose [assumption]: outside of these a reading is wrong, inside it may be right."""
