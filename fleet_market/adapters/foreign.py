"""Read files of other systems field by field, so that it can be told afterwards what of them was not taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_market.errors import InputError

MAX_NUMBER = 1e9
NOT_TAKEN = "has no counterpart here"


@dataclass(frozen=True, slots=True)
class Note:
    """Something of a foreign file that was left out, or taken over with a change."""

    source: str
    field: str
    what: str

    def __str__(self) -> str:
        return f"{self.source}: {self.field}: {self.what}"


class Fields:
    """A mapping of a foreign file.

    Parameters
    ----------
    data : object
        What stands there; anything but a mapping is refused.
    source : str
        The file, for messages.
    where : str
        The path of this mapping in the file, e.g. ``rmf_fleet.limits``.
    reasons : mapping, optional
        Why fields, by their paths, are not taken over; other paths are said to have no counterpart.
    """

    def __init__(self, data: Any, source: str, where: str = "", reasons: Mapping[str, str] | None = None) -> None:
        if not isinstance(data, dict):
            raise InputError(source, where or "file", data, "use a mapping with named fields")
        self._data, self.source, self.where, self._reasons = data, source, where, dict(reasons or {})
        self._read: set[Any] = set()
        self._parts: dict[Any, Fields] = {}
        self._told: list[Note] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self._data)

    def path(self, name: object) -> str:
        """Return where a field of this mapping stands in the file."""
        return f"{self.where}.{name}" if self.where else str(name)

    def get(self, name: Any) -> Any:
        """Return a field as it is, None where it is missing."""
        self._read.add(name)
        return self._data.get(name)

    def wrong(self, name: object, mend: str) -> InputError:
        """Return the error that says what is wrong with a field."""
        return InputError(self.source, self.path(name), self._data.get(name), mend)

    def number(self, name: str, low: float, high: float = MAX_NUMBER) -> float | None:
        """Return a number between `low` and `high`, None where it is missing."""
        return None if (value := self.get(name)) is None else self.limited(name, value, low, high)

    def limited(self, name: str, value: Any, low: float, high: float = MAX_NUMBER) -> float:
        """Return `value` as a number between `low` and `high`."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InputError(self.source, self.path(name), value, f"use a number of {low:g} to {high:g}")
        return float(value)

    def numbers(self, name: str, count: int, low: float) -> list[float] | None:
        """Return a list of `count` numbers of at least `low`, None where it is missing."""
        if (value := self.get(name)) is None:
            return None
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(name, f"use a list of {count} numbers")
        return [self.limited(f"{name}[{i}]", number, low) for i, number in enumerate(value)]

    def text(self, name: str) -> str | None:
        """Return a text that is not empty, None where it is missing."""
        value = self.get(name)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise self.wrong(name, "use a text")
        return value

    def fields(self, name: Any) -> Fields:
        """Return a mapping inside this one; an empty one where it is missing."""
        data = self.get(name)
        if name not in self._parts:
            self._parts[name] = Fields({} if data is None else data, self.source, self.path(name), self._reasons)
        return self._parts[name]

    def tell(self, name: object, what: str) -> None:
        """Note what became of a field."""
        self._read.add(name)
        self._told.append(Note(self.source, self.path(name), what))

    def notes(self) -> list[Note]:
        """Return what was told, and every field that nobody has read, in the order of the file."""
        unread = [name for name in self._data if name not in self._read]
        left = [Note(self.source, self.path(n), self._reasons.get(self.path(n), NOT_TAKEN)) for n in unread]
        return [*self._told, *left, *(note for part in self._parts.values() for note in part.notes())]
