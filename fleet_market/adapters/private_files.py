"""Files that hold secrets, or that must never be seen half written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fleet_market.errors import InputError, UnreadableError

PRIVATE, PUBLIC = 0o600, 0o644


def write_file(path: Path, content: bytes, mode: int = PUBLIC) -> None:
    """Write a whole file at once, with its final permissions from the beginning; survives a power loss whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_private(path: Path) -> bytes:
    """Return the content of a file that nobody else can read.

    Raises
    ------
    InputError
        If it is not there, or readable by others.
    """
    try:
        others = path.stat().st_mode & 0o077
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(path, error, "make it with `fleet-market keys issue`, or copy it there") from None
    if others:
        raise InputError(
            str(path), "permissions", oct(path.stat().st_mode & 0o777), f"others can read it: chmod 600 {path}"
        )
    return content
