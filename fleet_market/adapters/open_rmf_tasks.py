"""Open-RMF's task requests, as orders of ours.

Written against the JSON schemas `task_request`, `dispatch_task_request` and `robot_task_request` of rmf_api_msgs, and
`task_description__delivery`, `task_description__compose`, `event_description__payload_transfer` and `place` of
rmf_fleet_adapter.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_market.adapters.fleet_files import ORDER_COLUMNS, load_orders
from fleet_market.adapters.foreign import Fields, Note
from fleet_market.adapters.open_rmf import Graph
from fleet_market.errors import InputError, UnreadableError

WRAPPERS = ("dispatch_task_request", "robot_task_request")
MAX_REQUESTS = 100_000
MAX_QUANTITY = 10**6
MS_PER_S = 1000.0
REASONS = {
    "robot": "the market finds the robot",
    "fleet": "the market finds the robot",
    "request.fleet_name": "the market finds the robot",
    "fleet_name": "the market finds the robot",
    "request.requester": "the customer who posts the orders pays for them",
    "requester": "the customer who posts the orders pays for them",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What an order needs and Open-RMF does not have."""

    deadline_s: float = 600.0
    """After the earliest start."""
    max_price: str = "50"
    """Credits."""
    sku_kg: Mapping[str, float] = field(default_factory=dict)
    """Mass of one piece of each kind of goods."""


@dataclass(slots=True)
class ImportedOrders:
    """Rows of an order file, and what became of the rest."""

    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Request:
    """One request: its own fields, and what notes call it."""

    fields: Fields
    whole: Fields
    start_ms: int | None
    label: str


def import_tasks(files: Sequence[Path], graph: Graph | None = None, terms: Terms | None = None) -> ImportedOrders:
    """Return the deliveries in files of task requests: one request each, or a list of them.

    Times count from the earliest start that any of them names.

    Raises
    ------
    InputError
        At the first thing that is wrong, or if there is no delivery at all.
    """
    terms = terms or Terms()
    requests = [_open(data, file, i) for file in files for i, data in enumerate(_load(file))]
    first_ms = min((r.start_ms for r in requests if r.start_ms is not None), default=0)
    found = ImportedOrders()
    for request in requests:
        row = _row(request, graph, terms, found.notes)
        if row is not None:
            release_s = 0.0 if request.start_ms is None else (request.start_ms - first_ms) / MS_PER_S
            times = {"release_s": f"{release_s:.3f}", "deadline_s": f"{release_s + terms.deadline_s:.3f}"}
            found.rows.append({"id": f"rmf-{len(found.rows) + 1}", **row, **times, "max_price": terms.max_price})
        found.notes += request.whole.notes()
    if not found.rows:
        wrong = "; ".join(str(note) for note in found.notes[:3])
        names = ", ".join(map(str, files))
        raise InputError(names, "category", f"no delivery ({wrong})", "give requests of category delivery")
    what = f"{terms.deadline_s:g} s after the start and {terms.max_price} credits: Open-RMF has neither deadline nor price"
    found.notes.append(Note("orders", "deadline_s, max_price", what))
    return found


def _load(path: Path) -> list[Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableError(path, error) from None
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"byte {error.start}", "not UTF-8", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise InputError(str(path), f"line {error.lineno}", error.msg, "mend the JSON there") from None
    found = data if isinstance(data, list) else [data]
    if not 1 <= len(found) <= MAX_REQUESTS:
        raise InputError(str(path), "file", f"{len(found)} requests", f"give 1 to {MAX_REQUESTS}")
    return found


def _open(data: Any, path: Path, i: int) -> _Request:
    source = f"{path}, request {i + 1}"
    whole = Fields(data, source, reasons=REASONS)
    fields = whole
    if "request" in whole:
        if whole.get("type") not in WRAPPERS:
            raise whole.wrong("type", f"use one of {', '.join(WRAPPERS)}")
        fields = whole.fields("request")
    start_ms = fields.get("unix_millis_earliest_start_time")
    if start_ms is not None and (isinstance(start_ms, bool) or not isinstance(start_ms, int) or start_ms < 0):
        raise fields.wrong("unix_millis_earliest_start_time", "use a whole number of milliseconds since 1970")
    return _Request(fields, whole, start_ms, source)


def _row(request: _Request, graph: Graph | None, terms: Terms, notes: list[Note]) -> dict[str, str] | None:
    """Return the places, payload and priority of a delivery; None, with a note, if the request is something else."""
    fields = request.fields
    category = fields.text("category")
    if category is None:
        raise fields.wrong("category", "use delivery, or compose with a pickup and a dropoff")
    if category not in {"delivery", "compose"}:
        for name in fields:
            fields.get(name)
        notes.append(Note(request.label, "category", f"{category!r} is not traded here: only deliveries are"))
        return None
    priority = fields.fields("priority")
    kind, level = priority.text("type"), priority.number("value", 0, 1)
    if kind not in {None, "binary"}:
        raise priority.wrong("type", "use binary")
    if level not in {None, 0, 1}:
        raise priority.wrong("value", "use 0 or 1")
    description = fields.fields("description")
    if category == "delivery":
        pickup, dropoff = description.fields("pickup"), description.fields("dropoff")
    else:
        stops = _stops(description, notes)
        if [name for name, _ in stops] != ["pickup", "dropoff"]:
            steps = ", ".join(name for name, _ in stops)
            notes.append(Note(request.label, description.path("phases"), f"{steps}: not one pickup and then one dropoff"))
            return None
        pickup, dropoff = stops[0][1], stops[1][1]
    dropoff.get("payload")
    return {
        "pickup": _place(pickup, graph, notes),
        "dropoff": _place(dropoff, graph, notes),
        "payload_kg": f"{_mass_kg(pickup, terms):.6g}",
        "priority": f"{level or 0:.0f}",
    }


def _stops(description: Fields, notes: list[Note]) -> list[tuple[str, Fields]]:
    """Return the activities of a composed task in their order, sequences opened."""
    phases = description.get("phases")
    if not isinstance(phases, list) or not phases:
        raise description.wrong("phases", "use a list of at least one phase")
    found: list[tuple[str, Fields]] = []
    for i, phase in enumerate(phases):
        part = Fields(phase, description.source, description.path(f"phases[{i}]"))
        found += _activities(part.fields("activity"))
        notes += part.notes()
    return found


def _activities(activity: Fields) -> list[tuple[str, Fields]]:
    category = activity.text("category")
    if category is None:
        raise activity.wrong("category", "name the activity")
    if category != "sequence":
        inner = activity.get("description")
        return [(category, Fields(inner if isinstance(inner, dict) else {}, activity.source, activity.path("description")))]
    inner = activity.get("description")
    steps = inner.get("activities") if isinstance(inner, dict) else inner
    if not isinstance(steps, list):
        raise activity.wrong("description", "use a list of activities")
    where = activity.path("description")
    return [stop for k, step in enumerate(steps) for stop in _activities(Fields(step, activity.source, f"{where}[{k}]"))]


def _place(stop: Fields, graph: Graph | None, notes: list[Note]) -> str:
    """Return a place as our order file writes it: a name, or a position where there is none or it has an orientation."""
    place = stop.get("place")
    yaw: float | None = None
    if isinstance(place, dict):
        inner = stop.fields("place")
        place, yaw = inner.get("waypoint"), inner.number("orientation", -2 * math.pi, 2 * math.pi)
        notes += inner.notes()
    if isinstance(place, bool) or not isinstance(place, int | str) or place == "":
        raise stop.wrong("place", "use the name or the number of a waypoint")
    where = stop.path("place")
    if isinstance(place, str) and graph is None and yaw is None:
        return place
    if graph is None:
        raise InputError(stop.source, where, place, "give the navigation graph too (--graph): it has the positions")
    index = graph.find(place, stop.source, where) if isinstance(place, str) else place
    if not 0 <= index < len(graph.points):
        raise InputError(stop.source, where, place, f"use a waypoint of {graph.source}: 0 to {len(graph.points) - 1}")
    if index in graph.chargers:
        raise InputError(stop.source, where, place, "a charger is kept free here: use another waypoint")
    if isinstance(place, str) and yaw is None:
        return place
    x, y = graph.points[index]
    return f"{x:.4f};{y:.4f}" + ("" if yaw is None else f";{yaw:.4f}")


def _mass_kg(stop: Fields, terms: Terms) -> float:
    payload = stop.get("payload")
    if payload is None:
        raise stop.wrong("payload", "name what is carried: {sku, quantity}")
    total_kg = 0.0
    for i, item in enumerate(payload if isinstance(payload, list) else [payload]):
        where = stop.path(f"payload[{i}]" if isinstance(payload, list) else "payload")
        part = Fields(item, stop.source, where)
        sku, quantity = part.text("sku"), part.number("quantity", 0, MAX_QUANTITY)
        if sku is None or quantity is None:
            raise part.wrong("sku" if sku is None else "quantity", "give both sku and quantity")
        if quantity and sku not in terms.sku_kg:
            raise part.wrong("sku", f"give the mass of one piece, --sku-kg {sku}=KG: the market prices what a load weighs")
        total_kg += quantity * terms.sku_kg.get(sku, 0.0)
    return total_kg


def write_orders(orders: ImportedOrders, target: Path) -> None:
    """Write an order file, and check that it can be read.

    Raises
    ------
    InputError
        If a value is one that an order cannot have.
    """
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*ORDER_COLUMNS, "priority"])
        writer.writeheader()
        writer.writerows(orders.rows)
    load_orders(target)
