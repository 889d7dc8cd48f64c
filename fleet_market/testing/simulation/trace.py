"""What happens in a simulation, in its order: for people to read, and as one hash for two runs to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TextIO


class Trace:
    """Takes note of everything that happens.

    Parameters
    ----------
    time : callable
        Virtual time, seconds.
    out : file, optional
        Where each note is written; by default notes are only hashed.
    """

    def __init__(self, time: Callable[[], float], out: TextIO | None = None) -> None:
        self._time, self._out = time, out
        self._hash = hashlib.blake2b(digest_size=16)
        self._ended = False

    def note(self, what: str, payload: bytes = b"") -> None:
        """Take note of `what`, and of `payload` byte by byte."""
        if self._ended:
            return
        line = f"{self._time():.6f} {what}"
        self._hash.update(line.encode())
        self._hash.update(payload)
        if self._out is not None:
            self._out.write(f"{line} {payload[:400].decode(errors='replace')}\n")

    def end(self) -> str:
        """Take no more notes; return the hash of all, hexadecimal: equal for two runs in which the same happened."""
        self._ended = True
        return self._hash.hexdigest()
