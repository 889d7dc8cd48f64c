"""iRobot Create 2: sensor stream with a checksum. Offsets: packet group 100 of the Open Interface Specification, 2015."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fleet_market.errors import ProtocolError
from fleet_market_hardware.tables import (
    CREATE_GROUP,
    CREATE_GROUP_BYTES,
    CREATE_MAX_MM_S,
    CREATE_STREAM_HEADER,
    Create,
)

STREAM_BYTES = CREATE_GROUP_BYTES + 4
"""Header, length, packet id, data, checksum."""


@dataclass(frozen=True, slots=True)
class Sensors:
    """What pricing needs of group 100."""

    charging_state: int
    voltage_v: float
    current_a: float
    temperature_c: float
    charge_ah: float
    capacity_ah: float
    mode: int
    left_counts: int
    """Wraps at 65,536."""
    right_counts: int
    left_current_a: float
    right_current_a: float
    over_current: int


class Destreamer:
    """Finds stream messages: 19, N, packet id, data, checksum; all bytes sum to 0 modulo 256."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.rejected = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the data of the packets of group 100 that are complete by now."""
        self._buffer += data
        packets: list[bytes] = []
        at = 0
        while at + 3 <= len(self._buffer):
            head = self._buffer[at : at + 3]
            whole = self._buffer[at : at + STREAM_BYTES]
            if head != bytes((CREATE_STREAM_HEADER, CREATE_GROUP_BYTES + 1, CREATE_GROUP)):
                at += 1
                self.rejected += 1
            elif len(whole) < STREAM_BYTES:
                break
            elif sum(whole) & 0xFF:
                at += 1
                self.rejected += 1
            else:
                packets.append(bytes(whole[3:-1]))
                at += STREAM_BYTES
        del self._buffer[:at]
        return packets


def stream(data: bytes) -> bytes:
    """Return the stream message around the data of group 100."""
    body = bytes((CREATE_STREAM_HEADER, len(data) + 1, CREATE_GROUP)) + data
    return body + bytes((-sum(body) & 0xFF,))


def decode(data: bytes) -> Sensors:
    """Return what group 100 says.

    Raises
    ------
    ProtocolError
        If it has not 80 bytes.
    """
    if len(data) != CREATE_GROUP_BYTES:
        raise ProtocolError("malformed", f"Create 2: {len(data)} bytes of group 100, {CREATE_GROUP_BYTES} needed")
    state, mv, ma, celsius, mah, capacity = struct.unpack_from(">BHhbHH", data, 16)
    left, right = struct.unpack_from(">HH", data, 52)
    left_ma, right_ma = struct.unpack_from(">hh", data, 71)
    return Sensors(
        state, mv / 1000, ma / 1000, float(celsius), mah / 1000, capacity / 1000, data[40], left, right,
        left_ma / 1000, right_ma / 1000, data[7],
    )  # fmt: skip


def drive_direct(left_mm_s: float, right_mm_s: float) -> bytes:
    """Return the command that sets both wheels, limited to +-500 mm/s."""
    left, right = (round(max(-CREATE_MAX_MM_S, min(CREATE_MAX_MM_S, v))) for v in (left_mm_s, right_mm_s))
    return struct.pack(">Bhh", Create.DRIVE_DIRECT, right, left)
