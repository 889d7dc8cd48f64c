"""The versions of VDA 5050 that are spoken, and in which words they differ.

After the standard's text and JSON schemas of tags 2.0.0, 2.1.0 and 3.0.0 (github.com/VDA5050/VDA5050); 1.1.0 after the
validators of npm vda-5050-lib. Where text and schema of a version disagree, both names are sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSIONS: Mapping[str, str] = {
    "1.1.0": "verified against vda-5050-lib 1.4.0",
    "2.0.0": "verified against vda-5050-lib 1.4.0",
    "2.1.0": "not verified against a peer",
    "3.0.0": "not verified against a peer",
}
"""Versions, each with what was tried; messages of others are understood as far as they are like these."""
TOPICS = ("order", "instantActions", "state", "visualization", "connection", "factsheet")
QUIET_KEYS_3 = {"nodeDescription": "nodeDescriptor", "edgeDescription": "edgeDescriptor", "maxSpeed": "maximumSpeed"}


def major(version: str) -> int:
    """Return the major number of a version, 2 where it cannot be read."""
    head = version.partition(".")[0]
    return int(head) if head.isascii() and head.isdigit() and len(head) < 4 else 2


def minor(version: str) -> int:
    """Return the minor number of a version, 0 where it cannot be read."""
    part = version.split(".")[1:2]
    return int(part[0]) if part and part[0].isascii() and part[0].isdigit() and len(part[0]) < 4 else 0


def topic_interface(version: str) -> str:
    """Return the interface name that the version suggests for topics."""
    return "vda5050" if major(version) >= 3 else "uagv"


def order_in(version: str, order: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of an order, in the words of 2.x, in those of `version`."""
    return {
        **order,
        "nodes": [_node_in(version, node) for node in order["nodes"]],
        "edges": [_rename(edge) if major(version) >= 3 else dict(edge) for edge in order["edges"]],
    }


def instant_actions_in(version: str, actions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the body of instant actions: vehicles read ``actions``, ``instantActions`` or either, so both are there."""
    body: dict[str, Any] = {"actions": actions}
    if major(version) < 3:
        body["instantActions"] = actions
    return body


def _node_in(version: str, node: Mapping[str, Any]) -> dict[str, Any]:
    made = _rename(node) if major(version) >= 3 else dict(node)
    position = dict(made.get("nodePosition") or {})
    deviation = position.pop("allowedDeviationXY", None)
    if deviation is not None:
        if major(version) >= 3:
            position["allowedDeviationXY"] = {"a": deviation, "b": deviation, "theta": 0.0}
        else:
            position["allowedDeviationXY"] = deviation
            if (major(version), minor(version)) < (2, 1):
                position["allowedDeviationXy"] = deviation
    if position:
        made["nodePosition"] = position
    return made


def _rename(part: Mapping[str, Any]) -> dict[str, Any]:
    return {QUIET_KEYS_3.get(key, key): value for key, value in part.items()}
