"""What our robot says as a vehicle: state, connection, factsheet, in the words of each version."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_market.body import DriverSpec, Telemetry
from fleet_market_hardware.vda5050.versions import major
from fleet_market_hardware.vda5050.wanted import WantedNode

MAX_ERRORS = 20


@dataclass(frozen=True, slots=True)
class Trouble:
    """An entry of ``errors``."""

    type: str
    level: str
    text: str
    references: Mapping[str, str] = field(default_factory=dict)

    def said(self) -> dict[str, Any]:
        """Return it for the wire."""
        return {
            "errorType": self.type,
            "errorLevel": self.level,
            "errorDescription": self.text,
            "errorReferences": [{"referenceKey": k, "referenceValue": v} for k, v in self.references.items()],
        }


@dataclass(slots=True)
class Doing:
    """An action and how far it is."""

    id: str
    type: str
    status: str = "WAITING"
    result: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in {"FINISHED", "FAILED"}

    def said(self) -> dict[str, Any]:
        """Return it for the wire."""
        made = {"actionId": self.id, "actionType": self.type, "actionStatus": self.status}
        return {**made, "resultDescription": self.result} if self.result else made


@dataclass(frozen=True, slots=True)
class Progress:
    """Where in its order the robot is."""

    order_id: str
    update_id: int
    last_node: str
    last_sequence: int
    ahead: tuple[WantedNode, ...]
    paused: bool
    map_id: str


def state_body(
    version: str,
    progress: Progress,
    telemetry: Telemetry,
    actions: Iterable[Doing],
    instants: Iterable[Doing],
    errors: Iterable[Trouble],
) -> dict[str, Any]:
    """Return the body of a ``state``."""
    new = major(version) >= 3
    battery, soc = telemetry.battery, telemetry.battery.soc
    body: dict[str, Any] = {
        "orderId": progress.order_id,
        "orderUpdateId": progress.update_id,
        "lastNodeId": progress.last_node,
        "lastNodeSequenceId": progress.last_sequence,
        "nodeStates": [{"nodeId": n.id, "sequenceId": n.sequence, "released": n.released} for n in progress.ahead],
        "edgeStates": [
            {"edgeId": n.edge, "sequenceId": n.sequence - 1, "released": n.released} for n in progress.ahead if n.edge
        ],
        "driving": telemetry.moving,
        "paused": progress.paused,
        "operatingMode": "AUTOMATIC",
        "errors": [trouble.said() for trouble in errors][-MAX_ERRORS:],
        "information": [],
    }
    charge: dict[str, Any] = {"charging": battery.charging is True}
    if battery.voltage_v is not None:
        charge |= {"batteryVoltage": battery.voltage_v}
    per_cent = 0.0 if soc is None else round(100 * soc, 3)
    if new:
        if battery.current_a is not None:
            charge |= {"batteryCurrent": battery.current_a}
        body["powerSupply"] = {"stateOfCharge": per_cent, **charge}
        body["safetyState"] = {"activeEmergencyStop": "NONE", "fieldViolation": False}
        body["actionStates"] = [doing.said() for doing in actions]
        body["instantActionStates"] = [doing.said() for doing in instants]
    else:
        body["batteryState"] = {"batteryCharge": per_cent, **charge}
        body["safetyState"] = {"eStop": "NONE", "fieldViolation": False}
        body["actionStates"] = [doing.said() for doing in (*actions, *instants)]
    if soc is None:
        body["errors"].append(Trouble("batteryStateUnknown", "WARNING", "the 0 % is none: nobody measures it").said())
    if telemetry.payload_kg is not None:
        load = {"loadId": "", "loadType": "", "weight": max(0.0, telemetry.payload_kg)}
        body["loads"] = [load] if telemetry.payload_kg > 0 else []
    return body | place_body(version, telemetry, progress.map_id)


def place_body(version: str, telemetry: Telemetry, map_id: str) -> dict[str, Any]:
    """Return the body of a ``visualization``: position and velocity, as far as they are measured."""
    body: dict[str, Any] = {}
    if (pose := telemetry.pose) is not None:
        key, known = ("mobileRobotPosition", "localized") if major(version) >= 3 else ("agvPosition", "positionInitialized")
        body[key] = {"x": pose.x, "y": pose.y, "theta": wrapped(pose.yaw), "mapId": map_id, known: True}
    if telemetry.vx is not None:
        body["velocity"] = {"vx": telemetry.vx, "vy": 0.0, "omega": telemetry.wz or 0.0}
    return body


def connection_body(version: str, state: str) -> dict[str, Any]:
    """Return the body of a ``connection``; `state` as 2.x calls it."""
    return {"connectionState": "CONNECTION_BROKEN" if state == "CONNECTIONBROKEN" and major(version) >= 3 else state}


def factsheet_body(
    spec: DriverSpec, size_m: tuple[float, float, float], accel_mps2: float, action_types: Iterable[str]
) -> dict[str, Any]:
    """Return the body of a ``factsheet`` of 2.x."""
    length, width, height = size_m
    return {
        "typeSpecification": {
            "seriesName": "fleet-market",
            "agvKinematic": "DIFF",
            "agvClass": "CARRIER",
            "maxLoadMass": spec.max_payload_kg,
            "localizationTypes": ["NATURAL"],
            "navigationTypes": ["AUTONOMOUS"],
        },
        "physicalParameters": {
            "speedMin": 0.0,
            "speedMax": spec.max_speed_mps,
            "accelerationMax": accel_mps2,
            "decelerationMax": accel_mps2,
            "heightMin": 0.0,
            "heightMax": height,
            "width": width,
            "length": length,
        },
        "protocolLimits": {
            "maxStringLens": {},
            "maxArrayLens": {},
            "timing": {"minOrderInterval": 0.1, "minStateInterval": 0.1},
        },
        "protocolFeatures": {
            "optionalParameters": [],
            "agvActions": [{"actionType": kind, "actionScopes": ["NODE"], "actionParameters": []} for kind in action_types],
        },
        "agvGeometry": {},
        "loadSpecification": {},
    }


def wrapped(yaw: float) -> float:
    """Return an angle between -pi and pi."""
    return math.remainder(yaw, math.tau)
