"""ODrive's CANSimple: one command per CAN frame. Commands and layouts: `tables.ODrive`."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from fleet_market.errors import ProtocolError
from fleet_market_hardware.tables import CAN_DLC, ODRIVE_MAX_NODE, ODrive


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """State of an axis."""

    error: int
    state: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two floats; what they are stands at the command in `PAIRS`."""

    first: float
    second: float


PAIRS = {
    ODrive.ENCODER_ESTIMATES: ("position, turns", "velocity, turns/s"),
    ODrive.IQ: ("setpoint, A", "measured, A"),
    ODrive.TEMPERATURE: ("FET, degC", "motor, degC"),
    ODrive.BUS_VOLTAGE_CURRENT: ("voltage, V", "current, A"),
    ODrive.TORQUES: ("target, N m", "estimate, N m"),
}


def arbitration_id(node: int, command: ODrive) -> int:
    """Return the 11-bit id of a frame.

    Raises
    ------
    ValueError
        If `node` is not 0 to 63.
    """
    if not 0 <= node <= ODRIVE_MAX_NODE:
        raise ValueError(f"node must be 0 to {ODRIVE_MAX_NODE}, was {node}")
    return node << 5 | command


def split_id(identifier: int) -> tuple[int, int]:
    """Return node and command of an 11-bit id."""
    return identifier >> 5 & ODRIVE_MAX_NODE, identifier & 0x1F


def decode(command: int, data: bytes) -> Heartbeat | Pair | None:
    """Return what a frame from an axis says; None for a command that is not ours to read.

    Raises
    ------
    ProtocolError
        If the frame is too short, or a number of it is not finite.
    """
    if command == ODrive.HEARTBEAT:
        _long_enough(data, 5)
        return Heartbeat(*struct.unpack_from("<IB", data))
    if command not in PAIRS:
        return None
    _long_enough(data, CAN_DLC)
    first, second = struct.unpack_from("<ff", data)
    if not (math.isfinite(first) and math.isfinite(second)):
        raise ProtocolError("malformed", f"CANSimple 0x{command:02x}: {first}, {second}: not finite")
    return Pair(first, second)


def set_axis_state(state: int) -> bytes:
    """Return the data of Set_Axis_State."""
    return struct.pack("<I4x", state)


def set_controller_mode(control_mode: int, input_mode: int) -> bytes:
    """Return the data of Set_Controller_Mode."""
    return struct.pack("<II", control_mode, input_mode)


def set_input_vel(turns_per_s: float, torque_nm: float = 0.0) -> bytes:
    """Return the data of Set_Input_Vel."""
    return struct.pack("<ff", turns_per_s, torque_nm)


def _long_enough(data: bytes, size: int) -> None:
    if len(data) < size:
        raise ProtocolError("malformed", f"CANSimple: {len(data)} bytes of data, {size} needed")
