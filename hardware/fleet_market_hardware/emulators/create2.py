"""Firmware of an iRobot Create 2 at a pty: modes, DRIVE_DIRECT, and the sensor stream of group 100."""

from __future__ import annotations

import math
import struct

from fleet_market_hardware.emulators.plant import Plant
from fleet_market_hardware.emulators.pty_device import PtyDevice

STREAM_S, COUNTS = 0.015, 508.8 / math.tau
ARGUMENTS = {128: 0, 131: 0, 132: 0, 173: 0, 145: 4, 150: 1}


class Create2Emulator(PtyDevice):
    """Drives a `Plant` of the robot's own size. Like the real one it drives on when nobody speaks to it."""

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(seed=seed)
        self.plant = Plant(0.036, 0.235)
        self.mode = 0
        self._buffer = bytearray()
        self._streaming, self._due_s = False, 0.0
        self._zero = [0.0, 0.0]
        self._charge_mah = 2000.0
        self._frozen = b""

    def reset(self) -> None:
        """Have the encoders count from 0 again."""
        self._zero = list(self.plant.angle)

    def advance(self, dt: float) -> bytes:
        """Let time pass in steps of 15 ms, a packet each."""
        self._due_s += dt
        said = b""
        while self._due_s >= STREAM_S:
            self._due_s -= STREAM_S
            self.plant.advance(STREAM_S)
            self._charge_mah -= 400 * STREAM_S / 3600
            if not self._streaming:
                continue
            if not (self.faults.stuck and self._frozen):
                self._frozen = self._packet()
            said += self._frozen
        return said

    def receive(self, data: bytes) -> bytes:
        """Take commands."""
        self._buffer += data
        while self._buffer:
            op = self._buffer[0]
            size = 1 + ARGUMENTS.get(op, 0)
            if op == 148:
                size = 2 + (self._buffer[1] if len(self._buffer) > 1 else 0)
            if len(self._buffer) < size or (op == 148 and size == 2):
                break
            self._do(op, bytes(self._buffer[1:size]))
            del self._buffer[:size]
        return b""

    def _do(self, op: int, arguments: bytes) -> None:
        if op in {128, 131, 132}:
            self.mode = {128: 1, 131: 2, 132: 3}[op]
        elif op == 148:
            self._streaming = arguments == bytes((1, 100))
        elif op in {150, 173}:
            self._streaming = False
        elif op == 145 and self.mode in {2, 3}:
            right, left = struct.unpack(">hh", arguments)
            self.plant.target = [left / 36.0, right / 36.0]

    def _packet(self) -> bytes:
        data = bytearray(80)
        wrong = self.faults.out_of_range
        data[16:26] = struct.pack(
            ">BHhbHH", 0, 14_400, -400, 127 if wrong else 26, round(self._charge_mah) * (2 if wrong else 1), 2696
        )
        data[40] = self.mode
        counts = [round((self.plant.angle[s] - self._zero[s]) * COUNTS) % 65_536 for s in (0, 1)]
        data[52:56] = struct.pack(">HH", *counts)
        body = bytes((19, 81, 100)) + bytes(data)
        return body + bytes((-sum(body) & 0xFF,))
