"""What the map answers is an input too: it is logged with the command that asked, and a replay asks the log instead."""

from __future__ import annotations

import json
from typing import Any, Protocol

from fleet_market.errors import LedgerMismatchError, PlaceError
from fleet_market.protocol.messages import Place


class PlaceBook(Protocol):
    """Finds the places that customers name; see `fleet_market.maps.places.Places`."""

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Return the place; raises `PlaceError`."""


class LoggedPlaces:
    """A place book whose answers are kept, or come from where they were kept.

    Parameters
    ----------
    places : PlaceBook
        Asked where there is no log to ask.
    """

    def __init__(self, places: PlaceBook) -> None:
        self._places = places
        self._answers: list[list[Any]] = []
        self._logged: list[list[Any]] | None = None

    def begin(self, logged: bytes | None) -> None:
        """Begin with the next input; `logged` holds the answers if it is a replay.

        Raises
        ------
        LedgerMismatchError
            If `logged` cannot be read.
        """
        self._answers = []
        try:
            self._logged = json.loads(logged) if logged else None if logged is None else []
        except ValueError as error:
            raise LedgerMismatchError(f"the log's answers of the map cannot be read: {error}") from None

    def answers(self) -> bytes:
        """Return the answers given since `begin`, as JSON; empty if there were none."""
        return json.dumps(self._answers, separators=(",", ":")).encode() if self._answers else b""

    def resolve(self, text: str, *, source: str, field: str) -> Place:
        """Return the place; raises `PlaceError`."""
        if self._logged is not None:
            return self._recall(text, source, field)
        try:
            place = self._places.resolve(text, source=source, field=field)
        except PlaceError as error:
            self._answers.append([field, text, None, error.mend])
            raise
        self._answers.append([field, text, place.model_dump(mode="json"), ""])
        return place

    def _recall(self, text: str, source: str, field: str) -> Place:
        if not self._logged or self._logged[0][:2] != [field, text]:
            raise LedgerMismatchError(f"the log holds no answer of the map about {field} {text!r}")
        answer = self._logged.pop(0)
        self._answers.append(answer)
        if answer[2] is None:
            raise PlaceError(source, field, text, answer[3])
        return Place.model_validate_json(json.dumps(answer[2]))
