"""A robot's memory on disk: one JSON file, replaced as a whole, so that a crash leaves the old one or the new one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fleet_market.errors import InputError, UnreadableError

MAX_BYTES = 1_000_000


def load_memory(path: Path) -> dict[str, Any] | None:
    """Return what `save_memory` wrote, None if there is no such file.

    Raises
    ------
    InputError
        If the file cannot be read or holds no JSON object.
    """
    mend = "use a memory that this program wrote, or remove the file"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(str(path), "file", f"{path.stat().st_size} bytes", mend)
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableError(path, error) from None
    except ValueError as error:
        raise InputError(str(path), "file", str(error), mend) from None
    if not isinstance(data, dict):
        raise InputError(str(path), "file", type(data).__name__, mend)
    return data


def save_memory(path: Path, data: dict[str, Any]) -> None:
    """Replace the file by `data`; on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(data, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
