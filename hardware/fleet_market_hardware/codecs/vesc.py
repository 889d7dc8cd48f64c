"""VESC over UART: frames with CRC16/XMODEM around a payload. Payloads: `tables.Vesc`.

A frame is 02 LEN8 payload CRC16 03, or 03 LEN16 payload CRC16 03 for payloads above 255 bytes (firmware `bldc`, packet.c).
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

from fleet_market.errors import ProtocolError
from fleet_market_hardware.tables import Vesc

SHORT, LONG, END = 2, 3, 3
MAX_PAYLOAD = 512
"""PACKET_MAX_PL_LEN of packet.h."""
_VALUES = struct.Struct(">hhiiiihihiiiiiiB")
_ID = struct.Struct(">iB")


@dataclass(frozen=True, slots=True)
class Values:
    """Answer to COMM_GET_VALUES, SI units where VESC uses others."""

    fet_temperature_c: float
    motor_temperature_c: float
    motor_current_a: float
    input_current_a: float
    duty: float
    erpm: float
    input_v: float
    energy_out_j: float
    energy_in_j: float
    tachometer: int
    fault: int
    controller_id: int | None
    """None where the firmware is too old to tell."""


def frame(payload: bytes) -> bytes:
    """Return `payload` as a frame.

    Raises
    ------
    ValueError
        If it is empty or longer than 512 bytes.
    """
    if not 1 <= len(payload) <= MAX_PAYLOAD:
        raise ValueError(f"payload must be 1 to {MAX_PAYLOAD} bytes, was {len(payload)}")
    head = bytes((SHORT, len(payload))) if len(payload) < 256 else bytes((LONG,)) + len(payload).to_bytes(2, "big")
    return head + payload + binascii.crc_hqx(payload, 0).to_bytes(2, "big") + bytes((END,))


class Deframer:
    """Finds frames in a stream of bytes, however it is cut and whatever stands between them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.rejected = 0
        """Bytes that were part of no frame."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the payloads of the frames that are complete by now."""
        self._buffer += data
        payloads: list[bytes] = []
        at = 0
        while at < len(self._buffer):
            size = self._frame_at(at)
            if size is None:
                break
            if size == 0:
                self.rejected += 1
                at += 1
                continue
            head = 2 if self._buffer[at] == SHORT else 3
            payloads.append(bytes(self._buffer[at + head : at + size - 3]))
            at += size
        del self._buffer[:at]
        return payloads

    def _frame_at(self, at: int) -> int | None:
        """Return the size of the frame that begins here; 0 if none does, None if more bytes are needed to tell."""
        buffer = self._buffer
        if buffer[at] not in {SHORT, LONG}:
            return 0
        head = 2 if buffer[at] == SHORT else 3
        if len(buffer) < at + head:
            return None
        length = int.from_bytes(buffer[at + 1 : at + head], "big")
        if not 1 <= length <= MAX_PAYLOAD or (head == 3 and length < 256):
            return 0
        size = head + length + 3
        if len(buffer) < at + size:
            return None
        payload = buffer[at + head : at + head + length]
        told = int.from_bytes(buffer[at + size - 3 : at + size - 1], "big")
        return size if buffer[at + size - 1] == END and told == binascii.crc_hqx(bytes(payload), 0) else 0


def get_values() -> bytes:
    """Return the payload that asks for `Values`."""
    return bytes((Vesc.GET_VALUES,))


def set_erpm(erpm: float) -> bytes:
    """Return the payload that commands a speed, electrical turns per minute."""
    return struct.pack(">Bi", Vesc.SET_RPM, round(erpm))


def set_current_brake(current_a: float) -> bytes:
    """Return the payload that brakes with a current."""
    return struct.pack(">Bi", Vesc.SET_CURRENT_BRAKE, round(current_a * 1000))


def forward(can_id: int, payload: bytes) -> bytes:
    """Return the payload that the first VESC passes on to `can_id`."""
    return bytes((Vesc.FORWARD_CAN, can_id)) + payload


def decode_values(payload: bytes) -> Values:
    """Return what an answer to COMM_GET_VALUES says.

    Raises
    ------
    ProtocolError
        If it is another message, or too short.
    """
    if not payload or payload[0] != Vesc.GET_VALUES:
        raise ProtocolError("malformed", f"VESC: message {payload[:1].hex() or 'empty'}, 04 expected")
    if len(payload) < 1 + _VALUES.size:
        raise ProtocolError("malformed", f"VESC: {len(payload)} bytes of values, {1 + _VALUES.size} needed")
    t_fet, t_motor, i_motor, i_in, _id, _iq, duty, erpm, v_in, _ah, _ahc, wh, whc, tacho, _abs, fault = _VALUES.unpack_from(
        payload, 1
    )
    rest = payload[1 + _VALUES.size :]
    controller = _ID.unpack_from(rest)[1] if len(rest) >= _ID.size else None
    wh_j = 3600.0 / 1e4
    return Values(
        t_fet / 10, t_motor / 10, i_motor / 100, i_in / 100, duty / 1000, float(erpm), v_in / 10,
        wh * wh_j, whc * wh_j, tacho, fault, controller,
    )  # fmt: skip
