"""Where the log of a service goes, and in what form: lines for people, or one JSON object per line for machines."""

from __future__ import annotations

import datetime as dt
import json
import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

from fleet_market.errors import InputError

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


class JsonLines(logging.Formatter):
    """One JSON object per record: ``ts`` (UTC), ``level``, ``logger``, ``message``, ``error``, and what came as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, object] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        line |= {name: value for name, value in record.__dict__.items() if name not in _USUAL}
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logs(
    form: LogFormat = "text", level: LogLevel = "info", file: Path | None = None, *, file_bytes: int = 0, files: int = 0
) -> None:
    """Send the log of the whole process to standard error, or to a file.

    Parameters
    ----------
    form, level : str
    file : Path, optional
    file_bytes : int
        The file is put aside when it would grow beyond this; 0: never.
    files : int
        So many files that were put aside are kept, ``file.1`` the newest.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handler = RotatingFileHandler(file, maxBytes=file_bytes, backupCount=files, encoding="utf-8")
        except OSError as error:
            raise InputError(
                "log", "file", str(file), f"{error.strerror}: name a file in a folder that can be written"
            ) from None
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
