"""Firmware of two ODrive axes on a python-can bus."""

from __future__ import annotations

import contextlib
import math
import struct
import threading
import time
from typing import Any, Self

import can

from fleet_market_hardware.emulators.plant import Plant
from fleet_market_hardware.emulators.pty_device import MOST_S, TICK_S, Faults

WATCHDOG_S = 0.15
"""As the docs ask to set it."""
HEARTBEAT_S, ESTIMATES_S, SUPPLY_V, IDLE_A = 0.1, 0.01, 24.1, 0.2


class ODriveEmulator:
    """Sends heartbeats and encoder estimates; takes states, modes, velocities, Estop and Clear_Errors; answers RTR.

    Parameters
    ----------
    channel, interface : str
        Of python-can; ``virtual`` within one process.
    nodes : (int, int)
        Left and right; the right motor is mounted the other way round.
    """

    def __init__(self, channel: str, *, interface: str = "virtual", nodes: tuple[int, int] = (0, 1)) -> None:
        self.faults, self.plant, self.nodes = Faults(), Plant(0.1, 0.4), nodes
        self.state, self.error = [1, 1], [0, 0]
        self._since_s, self._zero = [0.0, 0.0], [0.0, 0.0]
        self._bus: Any = can.Bus(channel=channel, interface=interface)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join(5.0)
        self._bus.shutdown()

    def reset(self) -> None:
        """Have the encoders count from 0 again."""
        self._zero = list(self.plant.angle)

    def _run(self) -> None:
        last = time.monotonic()
        next_beat = next_estimate = last
        while not self._ending.is_set():
            message = self._bus.recv(timeout=TICK_S)
            if message is not None and not self.faults.mute and not message.is_extended_id:
                self._take(message)
            now = time.monotonic()
            self._advance(min(now - last, MOST_S))
            last = now
            if self.faults.mute:
                continue
            if now >= next_beat:
                next_beat = now + HEARTBEAT_S
                for side in (0, 1):
                    self._send(side, 0x01, struct.pack("<IBBBx", self.error[side], self.state[side], 0, 0))
            if now >= next_estimate:
                next_estimate = now + ESTIMATES_S
                for side in (0, 1):
                    self._send(side, 0x09, self._estimates(side))

    def _advance(self, dt: float) -> None:
        for side in (0, 1):
            self._since_s[side] += dt
            if self.state[side] == 8 and self._since_s[side] > WATCHDOG_S:
                self.plant.target[side] = 0.0  # the real one disarms with a watchdog error
            if self.state[side] != 8:
                self.plant.target[side] = 0.0
        self.plant.advance(dt)

    def _estimates(self, side: int) -> bytes:
        mounted = 1.0 if side == 0 else -1.0
        turns = mounted * (self.plant.angle[side] - self._zero[side]) / math.tau
        return struct.pack("<ff", turns, mounted * self.plant.rate[side] / math.tau)

    def _take(self, message: can.Message) -> None:
        node, command = message.arbitration_id >> 5, message.arbitration_id & 0x1F
        if node not in self.nodes:
            return
        side = self.nodes.index(node)
        mounted = 1.0 if side == 0 else -1.0
        if message.is_remote_frame:
            self._answer(side, command)
        elif command == 0x02:
            self.state[side], self.error[side] = 1, 0x10000000
        elif command == 0x18:
            self.error[side] = 0
        elif command == 0x07 and not self.error[side]:
            self.state[side] = struct.unpack_from("<I", message.data)[0]
        elif command == 0x0D and self.state[side] == 8:
            self.plant.target[side] = mounted * struct.unpack_from("<f", message.data)[0] * math.tau
            self._since_s[side] = 0.0

    def _answer(self, side: int, command: int) -> None:
        wrong = self.faults.out_of_range
        values = {
            0x15: (35.0, 900.0 if wrong else 30.0),
            0x17: (5000.0 if wrong else SUPPLY_V, IDLE_A + 0.05 * abs(self.plant.rate[side])),
            0x1C: (0.0, 0.1),
        }
        if command in values:
            self._send(side, command, struct.pack("<ff", *values[command]))

    def _send(self, side: int, command: int, data: bytes) -> None:
        with contextlib.suppress(OSError, can.CanError):
            self._bus.send(can.Message(arbitration_id=self.nodes[side] << 5 | command, data=data, is_extended_id=False))
