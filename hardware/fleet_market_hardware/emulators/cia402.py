"""Two CiA 402 drives: `canopen.LocalNode`s answer the SDOs, a state machine and a plant are behind them."""

from __future__ import annotations

import math
import threading
import time
from typing import Any, Self

import canopen

from fleet_market_hardware.bases.cia402 import standard_dictionary
from fleet_market_hardware.emulators.plant import Plant
from fleet_market_hardware.emulators.pty_device import MOST_S, TICK_S, Faults

COUNTS_PER_TURN = 10_000.0
OUR_HEARTBEAT = 0x77F


class Cia402Emulator:
    """Implements the state machine up to quick stop, profile velocity, heartbeat consumption with quick stop.

    Parameters
    ----------
    channel, interface : str
        Of python-can.
    nodes : (int, int)
        Left and right; the right motor is mounted the other way round.
    """

    def __init__(self, channel: str, *, interface: str = "virtual", nodes: tuple[int, int] = (1, 2)) -> None:
        self.faults, self.plant, self.nodes = Faults(), Plant(0.1, 0.4), nodes
        self._zero = [0.0, 0.0]
        self._heard_s, self._limit_s = time.monotonic(), math.inf
        self._network: Any = canopen.Network()
        self._network.connect(channel=channel, interface=interface)
        self._locals = [self._network.create_node(node, standard_dictionary()) for node in nodes]
        self.status = [0x40, 0x40]
        for side, local in enumerate(self._locals):
            local.add_read_callback(lambda side=side, **key: self._told(side, **key))
            local.add_write_callback(lambda side=side, **key: self._took(side, **key))
        self._network.subscribe(OUR_HEARTBEAT, self._beat)
        self._hear, self._network.notify = self._network.notify, self._notified
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join(5.0)
        self._network.disconnect()

    def reset(self) -> None:
        """Have the positions count from 0 again."""
        self._zero = list(self.plant.angle)

    def _notified(self, *message: Any) -> None:
        if not self.faults.mute:
            self._hear(*message)

    def _beat(self, _id: int, _data: bytes, _stamp: float) -> None:
        self._heard_s = time.monotonic()

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ending.wait(TICK_S):
            now = time.monotonic()
            if now - self._heard_s > self._limit_s:
                self.plant.target = [0.0, 0.0]
            self.plant.advance(min(now - last, MOST_S))
            last = now

    def _told(self, side: int, *, index: int, **_rest: Any) -> int | None:
        mounted = 1.0 if side == 0 else -1.0
        counts = COUNTS_PER_TURN / math.tau
        match index:
            case 0x6041:
                return self.status[side]
            case 0x6064:
                return round(mounted * (self.plant.angle[side] - self._zero[side]) * counts)
            case 0x606C:
                return round(mounted * self.plant.rate[side] * counts)
            case 0x6077:
                return -37
            case 0x6076:
                return 1270
            case 0x6079:
                return 5_000_000 if self.faults.out_of_range else 24_100
        return None

    def _took(self, side: int, *, index: int, data: bytes, **_rest: Any) -> None:
        mounted = 1.0 if side == 0 else -1.0
        if index == 0x6040:
            self._control(side, int.from_bytes(data, "little"))
        elif index == 0x60FF and self.status[side] == 0x27:
            counts = int.from_bytes(data, "little", signed=True)
            self.plant.target[side] = mounted * counts * math.tau / COUNTS_PER_TURN
        elif index == 0x1016:
            self._limit_s = (int.from_bytes(data, "little") & 0xFFFF) / 1000

    def _control(self, side: int, word: int) -> None:
        """Follow the transitions 2, 3, 4, 6, 8, 9, 11, 12 and 15 of the standard's state machine."""
        status = self.status[side]
        moves = {
            (0x08, 0x80): 0x40, (0x40, 0x06): 0x21, (0x21, 0x07): 0x23, (0x23, 0x0F): 0x27, (0x27, 0x02): 0x07,
            (0x07, 0x00): 0x40, (0x27, 0x06): 0x21, (0x23, 0x06): 0x21, (0x27, 0x00): 0x40, (0x21, 0x00): 0x40,
        }  # fmt: skip
        self.status[side] = moves.get((status, word), status)
        if self.status[side] != 0x27:
            self.plant.target[side] = 0.0
