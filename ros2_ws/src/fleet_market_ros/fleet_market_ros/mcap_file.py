"""MCAP files of ROS 2 messages, as Foxglove, PlotJuggler and the `mcap` tools read them.

Messages are kept as they came over the wire (CDR), beside the text of their type with all types within it: a file can be
read where none of these types is built. Source: MCAP specification 0 and its registry (mcap.dev/spec), profile ``ros2``,
schema encoding ``ros2msg``, message encoding ``cdr``.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleet_market.errors import FleetMarketError

CHUNK_BYTES = 64 * 1024
"""What a recorder that is killed loses at most, beside the file's index; larger chunks compress little better."""
SEPARATOR = "=" * 80 + "\n"
TYPE_NAME = re.compile(r"(\w+)/msg/(\w+)")
NESTED = re.compile(r"([a-zA-Z]\w*)/(\w+)")


class RecordingError(FleetMarketError):
    """Something cannot be recorded; the text says how to mend that."""


def message_class(type_name: str) -> Any:
    """Return the class of a message type such as ``nav_msgs/msg/Odometry``.

    Raises
    ------
    RecordingError
        If it is no message, or is not built here.
    """
    match = TYPE_NAME.fullmatch(type_name)
    if match is None:
        raise RecordingError(f"type must be PACKAGE/msg/NAME, was {type_name!r}")
    package, name = match.groups()
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise RecordingError(
            f"{type_name} is not known here: install {package}, or source the workspace that has it"
        ) from None


def definition(type_name: str) -> str:
    """Return the text of a message type, followed by those of all types within it.

    Raises
    ------
    RecordingError
        If one of them is not known here, or was installed without its text.
    """
    first, *within = _with_nested(type_name, set())
    return _text(first) + "".join(f"\n{SEPARATOR}MSG: {name.replace('/msg/', '/')}\n{_text(name)}" for name in within)


def _with_nested(type_name: str, seen: set[str]) -> Iterator[str]:
    seen.add(type_name)
    yield type_name
    for field in message_class(type_name).get_fields_and_field_types().values():
        for package, name in NESTED.findall(field):
            if (nested := f"{package}/msg/{name}") not in seen:
                yield from _with_nested(nested, seen)


def _text(type_name: str) -> str:
    prefixes = [*filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    for prefix in prefixes:
        path = Path(prefix) / "share" / f"{type_name}.msg"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise RecordingError(f"share/{type_name}.msg was not found below {', '.join(prefixes)}: install its package anew")


class McapFile:
    """A new file; may be used from several threads.

    Parameters
    ----------
    path : Path
        Must not exist; its folder is made.

    Raises
    ------
    RecordingError
        If the file is there, cannot be made, or the package `mcap` is not.
    """

    def __init__(self, path: Path) -> None:
        try:
            from mcap.writer import Writer  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise RecordingError(f"{error}: pip install 'fleet-market[record]'") from None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
        except OSError as error:
            raise RecordingError(f"{path} cannot be made ({error.strerror}): name a new file in `out`") from None
        self.counts: Counter[str] = Counter()
        """Messages by topic."""
        self._lock, self._schemas, self._closed = threading.Lock(), dict[str, int](), False
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES)
        self._writer.start(profile="ros2", library="fleet_market_ros")

    def add_channel(self, topic: str, type_name: str, type_hash: str = "") -> int:
        """Return the number of a new channel, for messages of this type on this topic.

        Raises
        ------
        RecordingError
            If the type is not known here.
        """
        if type_name not in self._schemas:
            text = definition(type_name).encode()
            with self._lock:
                self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
        about = {"topic_type_hash": type_hash}
        with self._lock:
            return self._writer.register_channel(topic, "cdr", self._schemas[type_name], metadata=about)

    def add(self, channel: int, topic: str, data: bytes, log_ns: int, publish_ns: int) -> None:
        """Add a message; after `close` it is passed over.

        Parameters
        ----------
        channel, topic
            From and for `add_channel`.
        data : bytes
            CDR with its header of 4 bytes.
        log_ns, publish_ns : int
            When it was received and sent, ns since the epoch.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        with self._lock:
            if self._closed:
                return
            self._writer.add_message(channel, log_ns, data, publish_ns, self.counts[topic] + 1)
            self.counts[topic] += 1

    def flush(self) -> None:
        """Hand what was written over to the operating system."""
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        """Write the index and close the file.

        Raises
        ------
        OSError
            If the disk is full or gone; the file can be read up to there.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                try:
                    self._writer.finish()  # type: ignore[no-untyped-call]
                finally:
                    self._file.close()
