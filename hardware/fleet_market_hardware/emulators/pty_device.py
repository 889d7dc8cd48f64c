"""A device at the far end of a pty: a thread that reads bytes, lets time pass, and answers."""

from __future__ import annotations

import contextlib
import os
import random
import select
import termios
import threading
import time
import tty
from dataclasses import dataclass
from typing import Self

TICK_S = 0.005
MOST_S = 0.05
"""Time that passes for an emulator between two ticks at most: one that was held up by its machine stands meanwhile, and its
wheels do not jump."""
READ_BYTES = 4096


@dataclass(slots=True)
class Faults:
    """What goes wrong, from now on."""

    mute: bool = False
    """Nothing gets through, either way."""
    noise: float = 0.0
    """Share of answers with random bytes before them."""
    drop: float = 0.0
    """Share of bytes that are lost on the way to the driver."""
    stuck: bool = False
    """The same answer for ever."""
    out_of_range: bool = False
    """Values that cannot be."""
    gibberish: bool = False
    """Every byte is another one, as at a wrong baud rate."""


class PtyDevice:
    """Base of emulated firmwares: subclasses have `receive` and `advance`. An async and a plain context manager.

    Parameters
    ----------
    seed : int
        Of the faults.
    """

    def __init__(self, *, seed: int = 1) -> None:
        self.faults = Faults()
        self._chance = random.Random(seed)  # noqa: S311 - faults, no secret
        self._master, self._slave = -1, -1
        self.port = ""
        """Path of the driver's end."""
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the driver; return the answer."""
        raise NotImplementedError

    def advance(self, dt: float) -> bytes:
        """Let `dt` seconds pass; return what the device says by itself."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self.unplug()

    def unplug(self) -> None:
        """Pull the cable: the driver's next read or write fails."""
        master, slave, self._master, self._slave = self._master, self._slave, -1, -1
        for end in (master, slave):
            if end >= 0:
                os.close(end)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ending.is_set():
            master = self._master
            if master < 0:
                return
            try:
                ready, _, _ = select.select([master], [], [], TICK_S)
                data = os.read(master, READ_BYTES) if ready else b""
            except (OSError, ValueError):
                data = b""
            now = time.monotonic()
            with self._lock:
                said = self.advance(min(now - last, MOST_S))
                if data and not self.faults.mute:
                    said += self.receive(data)
            last = now
            if said and not self.faults.mute:
                with contextlib.suppress(OSError):
                    os.write(master, self._spoiled(said))

    def _spoiled(self, data: bytes) -> bytes:
        faults, chance = self.faults, self._chance
        if faults.gibberish:
            return bytes((byte ^ 0x5A) & 0x7F | 0x80 for byte in data)
        if chance.random() < faults.noise:
            data = chance.randbytes(chance.randrange(1, 20)) + data
        if faults.drop:
            data = bytes(byte for byte in data if chance.random() >= faults.drop)
        return data
