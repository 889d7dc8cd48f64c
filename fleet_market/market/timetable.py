"""When to look at what again, so that a moment in which nothing is due costs nothing however much is under way."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Self, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Timetable(Generic[Key]):
    """Keys with one time each. Keys that are due together come in the order in which they were first known."""

    _at_ns: dict[Key, int] = field(default_factory=dict)
    _number: dict[Key, int] = field(default_factory=dict)
    _queue: list[tuple[int, int, Key]] = field(default_factory=list)
    """A heap. An entry that is not the time of its key any more is passed over."""
    _count: count[int] = field(default_factory=count)

    def set(self, key: Key, at_ns: int) -> None:
        """Have `key` come at `at_ns`, and not when it was to come before."""
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = next(self._count)
        if self._at_ns.get(key) != at_ns:
            self._at_ns[key] = at_ns
            heapq.heappush(self._queue, (at_ns, number, key))

    def drop(self, key: Key) -> None:
        """Forget `key`."""
        self._at_ns.pop(key, None)
        self._number.pop(key, None)

    def number(self, key: Key) -> int:
        """Return a number by which keys sort in the order in which they were first known."""
        return self._number[key]

    def rows(self) -> list[tuple[Key, int | None]]:
        """Return the keys in the order in which they were first known, each with its time, None if none is set."""
        return [(key, self._at_ns.get(key)) for key in self._number]

    @classmethod
    def of(cls, rows: Iterable[tuple[Key, int | None]]) -> Self:
        """Return the timetable with these `rows`."""
        table = cls()
        for key, at_ns in rows:
            table._number[key] = next(table._count)
            if at_ns is not None:
                table.set(key, at_ns)
        return table

    def due(self, now_ns: int) -> list[Key]:
        """Return the keys whose time has come; they do not come again before another time is set."""
        found: list[tuple[int, Key]] = []
        while self._queue and self._queue[0][0] <= now_ns:
            at_ns, number, key = heapq.heappop(self._queue)
            if self._number.get(key) == number and self._at_ns.get(key) == at_ns:
                del self._at_ns[key]
                found.append((number, key))
        return [key for _, key in sorted(found)]


class AsRows:
    """Has a snapshot keep a timetable as its rows: ``Annotated[Timetable[Key], AsRows]``."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return how a timetable is read and written."""
        (key,) = get_args(source)
        rows = handler.generate_schema(list[tuple[key, int | None]])  # type: ignore[valid-type]
        written = core_schema.plain_serializer_function_ser_schema(Timetable.rows, return_schema=rows)
        return core_schema.no_info_after_validator_function(Timetable.of, rows, serialization=written)
