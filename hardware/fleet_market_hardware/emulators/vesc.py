"""Firmware of two VESCs: one at the port, one behind it on CAN."""

from __future__ import annotations

import binascii
import math
import struct

from fleet_market_hardware.emulators.plant import Plant
from fleet_market_hardware.emulators.pty_device import PtyDevice

LOCAL_ID, REMOTE_ID = 0, 1
TIMEOUT_S = 0.15
"""Commands end this long after the last one, as the docs ask to set it."""
SUPPLY_V, IDLE_A, A_PER_RAD_S = 24.2, 0.3, 0.1


class VescEmulator(PtyDevice):
    """Speaks COMM_GET_VALUES, SET_RPM, SET_CURRENT, SET_CURRENT_BRAKE, ALIVE and FORWARD_CAN; drives a `Plant`.

    The right motor is mounted the other way round, as on any robot.
    """

    def __init__(self, *, pole_pairs: int = 7, gear_ratio: float = 1.0, seed: int = 1) -> None:
        super().__init__(seed=seed)
        self.plant = Plant(0.1, 0.4)
        self._steps_per_rad = 6 * pole_pairs * gear_ratio / math.tau
        self._erpm_per_rad_s = pole_pairs * gear_ratio * 60 / math.tau
        self._buffer = bytearray()
        self._since_s = [math.inf, math.inf]
        self._zero = [0.0, 0.0]
        self._wh = [0.0, 0.0]
        self._frozen: dict[int, bytes] = {}

    def reset(self) -> None:
        """Restart both firmwares: counters begin at 0."""
        with self._lock:
            self._zero, self._wh = list(self.plant.angle), [0.0, 0.0]
            self.plant.target = [0.0, 0.0]

    def advance(self, dt: float) -> bytes:
        """Let time pass."""
        for side in (0, 1):
            self._since_s[side] += dt
            if self._since_s[side] > TIMEOUT_S:
                self.plant.target[side] = 0.0
            self._wh[side] += SUPPLY_V * self._amps(side) * dt / 3600
        self.plant.advance(dt)
        return b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes; answer every whole frame."""
        self._buffer += data
        answer = b""
        while len(self._buffer) >= 2:
            size = self._buffer[1] + 5
            if self._buffer[0] != 2:
                del self._buffer[0]
            elif len(self._buffer) < size:
                break
            else:
                payload, crc = bytes(self._buffer[2 : size - 3]), self._buffer[size - 3 : size - 1]
                good = binascii.crc_hqx(payload, 0).to_bytes(2, "big") == crc and self._buffer[size - 1] == 3
                del self._buffer[: size if good else 1]
                if good:
                    answer += self._command(LOCAL_ID, payload)
        return answer

    def _command(self, side: int, payload: bytes) -> bytes:
        command = payload[0]
        if command == 34 and side == LOCAL_ID and payload[1] == REMOTE_ID:
            return self._command(REMOTE_ID, payload[2:])
        if command == 4:
            return self._values(side)
        if command in {6, 7, 8}:
            (number,) = struct.unpack(">i", payload[1:5])
            mounted = 1.0 if side == LOCAL_ID else -1.0
            self.plant.target[side] = mounted * number / self._erpm_per_rad_s if command == 8 else 0.0
            self._since_s[side] = 0.0
        return b""

    def _amps(self, side: int) -> float:
        return IDLE_A + A_PER_RAD_S * abs(self.plant.rate[side])

    def _values(self, side: int) -> bytes:
        if self.faults.stuck and side in self._frozen:
            return self._frozen[side]
        mounted, amps = (1 if side == LOCAL_ID else -1), self._amps(side)
        steps = round(mounted * (self.plant.angle[side] - self._zero[side]) * self._steps_per_rad)
        erpm = round(mounted * self.plant.rate[side] * self._erpm_per_rad_s)
        volts, celsius = (3276.7, 900.0) if self.faults.out_of_range else (SUPPLY_V, 31.5)
        body = struct.pack(
            ">BhhiiiihihiiiiiiB", 4, round(celsius * 10), 285, round(amps * 200), round(amps * 100), 0, 0, 0, erpm,
            round(volts * 10), 0, 0, round(self._wh[side] * 1e4), 0, steps, abs(steps), 0,
        ) + struct.pack(">iBhhhiiB", 0, side, 300, 301, 302, 0, 0, 0)  # fmt: skip
        frame = bytes((2, len(body))) + body + binascii.crc_hqx(body, 0).to_bytes(2, "big") + b"\x03"
        self._frozen[side] = frame
        return frame
