"""Part of `bridge`: what is taken for done, and what is not, where sensors err (I-07).

Two judges stand one behind the other: the bridge, which says DONE to a robot's agent by the vehicle's states alone, and the
market, which pays by the evidence of the agent. Each is given honest work with noise, and work that is wrong in one way.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

from benchmarks.report import Options, Row
from fleet_market.body import Act, End, Go, Job, Pose
from fleet_market.contracts import MarketTerms
from fleet_market.contracts.contract import Contract
from fleet_market.contracts.evidence import find_faults
from fleet_market.contracts.order import Order
from fleet_market.ids import ContractId, CustomerId, OrderId, OwnerId, RobotId, TransferId
from fleet_market.protocol.messages import Complete, Place, StepEvidence, WirePose
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import JobEnded, Send
from fleet_market_hardware.vda5050.master import Master

TRIALS, QUICK_TRIALS = 1000, 200
PLACE_SD_M, SCALE_SD_KG, YAW_SD_RAD = 0.02, 0.05, 0.02
"""Errors of a laser localiser on reflectors or contours, and of a load cell of 0.1 % of 50 kg [assumption]."""
MAX_FALSE_REJECTS = 0.01
S = 10**9
PICKUP, DROPOFF = Place(x=4.0, y=0.0, radius_m=0.4), Place(x=4.0, y=3.0, radius_m=0.4)
LOAD_KG = 3.0


def rows(options: Options) -> Iterator[Row]:
    """Return the rows."""
    trials = QUICK_TRIALS if options.quick else TRIALS
    for judge, honest, wrong in (("bridge", _bridge_honest, _bridge_wrong), ("market", _market_honest, _market_wrong)):
        rng = random.Random(f"{judge}/{options.seeds[0]}")
        refused = sum(not honest(rng) for _ in range(trials))
        kinds = wrong(rng)
        taken: list[str] = []
        for number in range(trials):
            name, accepted = kinds[number % len(kinds)]
            if accepted():
                taken.append(name)
        note = ", ".join(sorted(set(taken))) or ", ".join(name for name, _ in kinds)
        yield Row(f"{judge}: work not done taken for done, of {trials}", float(len(taken)), "", 0.0, note=note)
        yield Row(f"{judge}: work done refused", refused / trials, "", MAX_FALSE_REJECTS, note=f"of {trials}")


# --- the bridge ---------------------------------------------------------------------------------------------------------


class _Vehicle:
    """A master with an order, and the states that its vehicle might send at the end of it."""

    def __init__(self, rng: random.Random) -> None:
        numbers = count()
        config = VehicleConfig(robot=RobotId("r"), manufacturer="m", serial="s", max_speed_mps=1.0, max_payload_kg=9.0)
        self.rng, self.master, self.ended = rng, Master(config, lambda: f"id{next(numbers)}"), list[End]()
        self.now_ns = 100 * S
        self.master.connected(self.now_ns)
        self.says(_state((0.0, 0.0), self.rng))
        ways = (((2.0, 0.0), (4.0, 0.0)), ((4.0, 1.5), (4.0, 3.0)))
        go, on = (Go(Pose(*way[-1], 0.0), way, len(way)) for way in ways)
        job = Job("j", (go, Act("load", "p", LOAD_KG, 1.0), on, Act("unload", "p", LOAD_KG, 1.0)))
        effects = self.master.begin(job, 600.0, self.now_ns)
        self.order = next(e.body for e in effects if isinstance(e, Send) and e.topic == "order")

    def says(self, state: dict[str, Any]) -> None:
        self.now_ns += S
        for effect in self.master.hear("state", json.dumps(state).encode(), self.now_ns):
            if isinstance(effect, JobEnded):
                self.ended.append(effect.result.end)

    def done(self) -> dict[str, Any]:
        """Return the state of a vehicle that has done everything."""
        last = self.order["nodes"][-1]
        actions = [action for node in self.order["nodes"] for action in node["actions"]]
        return _state((4.0, 3.0), self.rng) | {
            "orderId": self.order["orderId"],
            "orderUpdateId": self.order["orderUpdateId"],
            "lastNodeId": last["nodeId"],
            "lastNodeSequenceId": last["sequenceId"],
            "actionStates": [{"actionId": action["actionId"], "actionStatus": "FINISHED"} for action in actions],
        }


def _state(at: tuple[float, float], rng: random.Random) -> dict[str, Any]:
    x, y = (value + rng.gauss(0, PLACE_SD_M) for value in at)
    place = {"x": x, "y": y, "theta": rng.gauss(0, YAW_SD_RAD), "mapId": "local", "positionInitialized": True}
    return {
        "version": "2.0.0", "orderId": "", "orderUpdateId": 0, "lastNodeId": "", "lastNodeSequenceId": 0, "nodeStates": [],
        "edgeStates": [], "actionStates": [], "driving": False, "operatingMode": "AUTOMATIC", "agvPosition": place,
        "batteryState": {"batteryCharge": 80.0, "charging": False}, "safetyState": {"eStop": "NONE"}, "errors": [],
    }  # fmt: skip


def _bridge_honest(rng: random.Random) -> bool:
    vehicle = _Vehicle(rng)
    vehicle.says(vehicle.done())
    return vehicle.ended == [End.DONE]


def _bridge_wrong(rng: random.Random) -> list[tuple[str, Callable[[], bool]]]:
    """Return the ways to be not done, each seen on real vehicle software or allowed by the standard."""

    def spoil(vehicle: _Vehicle, kind: str) -> dict[str, Any]:
        state, order = vehicle.done(), vehicle.order
        node, edge = order["nodes"][-1], order["edges"][-1]
        actions: list[dict[str, str]] = state["actionStates"]
        match kind:
            case "drop not begun":
                actions[-1]["actionStatus"] = rng.choice(("WAITING", "INITIALIZING", "RUNNING", "PAUSED"))
            case "an action failed":
                rng.choice(actions)["actionStatus"] = "FAILED"
            case "an action never reported":
                actions.remove(rng.choice(actions))
            case "order of somebody else":
                state["orderId"] = rng.choice(("", "j", order["orderId"] + "x"))
            case "last node of the order before":
                state["lastNodeId"], state["lastNodeSequenceId"] = "old", node["sequenceId"] + rng.randrange(0, 4, 2)
            case "a node ahead":
                state["nodeStates"] = [{"nodeId": "ahead", "sequenceId": node["sequenceId"] + 2, "released": True}]
            case "an edge left":
                state["edgeStates"] = [{"edgeId": edge["edgeId"], "sequenceId": edge["sequenceId"], "released": True}]
            case "still driving":
                state["driving"] = rng.choice((True, None))
            case "elsewhere":
                angle, away_m = rng.uniform(-math.pi, math.pi), rng.uniform(0.3, 5.0)
                state["agvPosition"]["x"] += away_m * math.cos(angle)
                state["agvPosition"]["y"] += away_m * math.sin(angle)
            case "position unknown":
                state["agvPosition"] = rng.choice((None, state["agvPosition"] | {"positionInitialized": False}))
        return state

    kinds = (
        "drop not begun", "an action failed", "an action never reported", "order of somebody else",
        "last node of the order before", "a node ahead", "an edge left", "still driving", "elsewhere", "position unknown",
    )  # fmt: skip

    def trial(kind: str) -> Callable[[], bool]:
        def accepted() -> bool:
            vehicle = _Vehicle(rng)
            vehicle.says(spoil(vehicle, kind))
            return End.DONE in vehicle.ended

        return accepted

    return [(kind, trial(kind)) for kind in kinds]


# --- the market ---------------------------------------------------------------------------------------------------------


def _evidence(rng: random.Random) -> list[StepEvidence]:
    steps, aboard_kg = [], max(0.0, rng.gauss(0.1, SCALE_SD_KG))
    for kind, place, change_kg, at_s in (("pickup", PICKUP, LOAD_KG, 20), ("dropoff", DROPOFF, -LOAD_KG, 60)):
        before_kg, aboard_kg = aboard_kg, aboard_kg + change_kg
        x, y = (value + rng.gauss(0, PLACE_SD_M) for value in (place.x, place.y))
        shown = [round(max(0.0, kg + rng.gauss(0, SCALE_SD_KG)), 3) for kg in (before_kg, aboard_kg)]
        told = {"kind": kind, "pose": WirePose(x=x, y=y, yaw=0.0), "at_ns": at_s * S}
        steps.append(StepEvidence.model_validate(told | {"payload_before_kg": shown[0], "payload_kg": shown[1]}))
    return steps


def _paid(steps: Iterable[StepEvidence]) -> bool:
    contract = Contract(
        ContractId("c"), OrderId("o"), RobotId("r"), OwnerId("w"), 1, 1, 100.0, (1,),
        awarded_ns=10 * S, answer_by_ns=12 * S, limit_ns=600 * S,
    )  # fmt: skip
    order = Order(
        OrderId("o"), CustomerId("c"), PICKUP, DROPOFF, LOAD_KG, release_ns=0, deadline_ns=600 * S, max_price_uc=9,
        hold=TransferId("t"),
    )  # fmt: skip
    complete = Complete(contract=contract.id, steps=tuple(steps), energy_j=100.0)
    return not find_faults(complete, contract, order, MarketTerms(), 100 * S)


def _market_honest(rng: random.Random) -> bool:
    return _paid(_evidence(rng))


def _market_wrong(rng: random.Random) -> list[tuple[str, Callable[[], bool]]]:
    def nothing_loaded() -> bool:
        return _paid(step.model_copy(update={"payload_kg": step.payload_before_kg}) for step in _evidence(rng))

    def another_parcel() -> bool:
        off_kg = rng.choice((-1, 1)) * rng.uniform(1.0, 2.5)
        pickup, dropoff = _evidence(rng)
        return _paid((_change(pickup, off_kg), _change(dropoff, -off_kg)))

    def kept_aboard() -> bool:
        pickup, dropoff = _evidence(rng)
        return _paid((pickup, dropoff.model_copy(update={"payload_kg": dropoff.payload_before_kg})))

    def elsewhere() -> bool:
        steps, number, angle = _evidence(rng), rng.randrange(2), rng.uniform(-math.pi, math.pi)
        away_m, at = rng.uniform(0.8, 10.0), steps[number].pose
        pose = WirePose(x=at.x + away_m * math.cos(angle), y=at.y + away_m * math.sin(angle), yaw=0.0)
        steps[number] = steps[number].model_copy(update={"pose": pose})
        return _paid(steps)

    def step_missing() -> bool:
        steps = _evidence(rng)
        return _paid([steps[rng.randrange(2)]] * rng.randrange(1, 3))

    def before_the_award() -> bool:
        pickup, dropoff = _evidence(rng)
        return _paid((pickup.model_copy(update={"at_ns": 10 * S - rng.randrange(8 * S, 9 * S)}), dropoff))

    def scale_read_once() -> bool:
        pickup, dropoff = _evidence(rng)
        return _paid((pickup.model_copy(update={"payload_before_kg": None}), dropoff))

    found = (nothing_loaded, another_parcel, kept_aboard, elsewhere, step_missing, before_the_award, scale_read_once)
    return [(trial.__name__.replace("_", " "), trial) for trial in found]


def _change(step: StepEvidence, by_kg: float) -> StepEvidence:
    return step.model_copy(update={"payload_kg": max(0.0, (step.payload_kg or 0.0) + by_kg)})
