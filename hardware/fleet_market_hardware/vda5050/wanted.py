"""What a master control wants of our robot: orders and instant actions, read leniently and judged strictly.

A field that we do not know is passed over; what the graph rules of the standard forbid is refused with its reason (VDA 5050
2.1.0, section 6.6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from fleet_market_hardware.vda5050.seen import MAX_METRES, MAX_SPEED_MPS, Reader, part, parts, read_object, text


class WantError(Exception):
    """An order or an action that is refused; `kind` is the standard's errorType."""

    def __init__(self, kind: str, reason: str, **references: str) -> None:
        self.kind, self.reason, self.references = kind, reason, references
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class WantedAction:
    """An action, on a node or instant."""

    id: str
    type: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WantedNode:
    """A node of an order, with the edge that leads to it."""

    id: str
    sequence: int
    released: bool
    position: tuple[float, float] | None
    theta: float | None
    deviation_m: float | None
    deviation_rad: float | None
    map_id: str
    actions: tuple[WantedAction, ...]
    edge: str = ""
    max_speed_mps: float | None = None


@dataclass(frozen=True, slots=True)
class WantedOrder:
    """An order, or an update of one."""

    id: str
    update: int
    nodes: tuple[WantedNode, ...]


def read_order(payload: bytes) -> WantedOrder:
    """Return an order.

    Raises
    ------
    ProtocolError
        If it is no JSON object.
    WantError
        If it breaks the rules of an order.
    """
    said, reader = read_object(payload), Reader()
    name, update = text(said, "orderId"), reader.whole(said, "orderUpdateId")
    about = {"orderId": name, "orderUpdateId": str(update), "topic": "order"}
    nodes, edges = [_node(n, reader) for n in parts(said, "nodes")], parts(said, "edges")
    if why := _graph_fault(name, nodes, edges, reader):
        raise WantError("validationError", why, **about)
    if any(parts(edge, "actions") for edge in edges):
        raise WantError("orderError", "actions on edges are not supported", **about)
    made = [nodes[0]]
    for node, edge in zip(nodes[1:], edges, strict=True):
        limit = reader.number(edge, "maximumSpeed" if "maximumSpeed" in edge else "maxSpeed", 1e-3, MAX_SPEED_MPS)
        made.append(_with_edge(node, text(edge, "edgeId"), limit))
    return WantedOrder(name, update, tuple(made))


def read_instant_actions(payload: bytes) -> list[WantedAction]:
    """Return instant actions, each once, of whichever key they are under; raises `ProtocolError` for no JSON object."""
    found = {action.id: action for action in map(_action, parts(read_object(payload), "actions", "instantActions"))}
    return [action for action in found.values() if action.id and action.type]


def _graph_fault(name: str, nodes: list[WantedNode], edges: list[Mapping[str, Any]], reader: Reader) -> str:
    if not name or not nodes:
        return "an order needs an orderId and at least one node"
    if len(edges) != len(nodes) - 1:
        return f"{len(nodes)} nodes need one edge fewer, there are {len(edges)}"
    if not nodes[0].released or nodes[0].sequence % 2:
        return "the first node must be released and its sequenceId even"
    for (a, b), edge in zip(pairwise(nodes), edges, strict=True):
        if (reader.whole(edge, "sequenceId"), b.sequence) != (a.sequence + 1, a.sequence + 2):
            return f"sequenceId must run on by one, after node {a.sequence} it does not"
        if b.released and not a.released:
            return f"node {b.id} must not be released behind one that is not"
        ends = (text(edge, "startNodeId") or a.id, text(edge, "endNodeId") or b.id)
        if ends != (a.id, b.id) or (edge.get("released") is True) != b.released:
            return f"edge {text(edge, 'edgeId')} must lead from {a.id} to {b.id} and be released exactly where that is"
    names = [action.id for node in nodes for action in node.actions]
    if len(set(names)) != len(names) or not all(names):
        return "every action needs an actionId of its own"
    return ""


def _node(said: Mapping[str, Any], reader: Reader) -> WantedNode:
    place = part(said, "nodePosition")
    x, y = (reader.number(place, axis, -MAX_METRES, MAX_METRES) for axis in ("x", "y"))
    deviation = place.get("allowedDeviationXY", place.get("allowedDeviationXy"))
    if isinstance(deviation, dict):
        deviation = deviation.get("b")
    return WantedNode(
        id=text(said, "nodeId"),
        sequence=reader.whole(said, "sequenceId"),
        released=said.get("released") is True,
        position=None if x is None or y is None else (x, y),
        theta=reader.number(place, "theta", -math.tau, math.tau),
        deviation_m=reader.number({"": deviation}, "", 0, MAX_METRES),
        deviation_rad=reader.number(place, "allowedDeviationTheta", 0, math.tau),
        map_id=text(place, "mapId"),
        actions=tuple(_action(a) for a in parts(said, "actions")),
    )


def _with_edge(node: WantedNode, edge: str, limit: float | None) -> WantedNode:
    return replace(node, edge=edge, max_speed_mps=limit)


def _action(said: Mapping[str, Any]) -> WantedAction:
    parameters = {text(p, "key"): p.get("value") for p in parts(said, "actionParameters")}
    return WantedAction(text(said, "actionId"), text(said, "actionType"), parameters)
