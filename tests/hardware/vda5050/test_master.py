"""The master's decisions, against every trap that vehicle software was seen to set. No clock, no network."""

import json
import math
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.body import Act, End, Go, Job, Link, Pose
from fleet_market.ids import RobotId
from fleet_market_hardware.vda5050.config import Frame, VehicleConfig
from fleet_market_hardware.vda5050.effects import JobEnded, Send, StepDone
from fleet_market_hardware.vda5050.gauges import EnergyGauge, Odometer
from fleet_market_hardware.vda5050.master import Master
from fleet_market_hardware.vda5050.messages import Order
from fleet_market_hardware.vda5050.route import Route, bends
from fleet_market_hardware.vda5050.seen import read_state

S = 10**9
LINE = tuple((0.25 * i, 0.0) for i in range(13))
STAND = {
    "version": "2.0.0",
    "orderId": "",
    "orderUpdateId": 0,
    "lastNodeId": "",
    "lastNodeSequenceId": 0,
    "nodeStates": [],
    "edgeStates": [],
    "actionStates": [],
    "driving": False,
    "operatingMode": "AUTOMATIC",
    "agvPosition": {"x": 0.0, "y": 0.0, "theta": 0.0, "mapId": "local", "positionInitialized": True},
    "batteryState": {"batteryCharge": 80.0, "charging": False},
    "safetyState": {"eStop": "NONE", "fieldViolation": False},
    "errors": [],
}


def config(**more):
    usual = {"robot": RobotId("r1"), "manufacturer": "m", "serial": "s", "max_speed_mps": 1.0, "max_payload_kg": 9.0}
    return VehicleConfig(**{**usual, **more})


def go(path=LINE, released=None, **more):
    return Go(Pose(*path[-1], 0.0), path, len(path) if released is None else released, **more)


class Floor:
    """A master and what its vehicle says, at times of the test's choice."""

    def __init__(self, **more):
        numbers = count()
        self.master, self.now_s = Master(config(**more), lambda: f"id{next(numbers)}"), 100.0
        self.sent, self.ended, self.steps = [], [], []
        self.state = dict(STAND)
        self.take(self.master.connected(self.now))
        self.says()

    @property
    def now(self):
        return round(self.now_s * S)

    def take(self, effects):
        for effect in effects:
            match effect:
                case Send():
                    self.sent.append(effect)
                case JobEnded(result):
                    self.ended.append(result)
                case StepDone(index, _):
                    self.steps.append(index)

    def says(self, after_s=0.1, **more):
        self.now_s += after_s
        self.state = {**self.state, **more}
        self.take(self.master.hear("state", json.dumps(self.state).encode(), self.now))

    def begin(self, *steps, name="j", deadline_s=100.0):
        self.take(self.master.begin(Job(name, steps), deadline_s, self.now))
        return self.orders[-1] if self.orders else None

    def waits(self, seconds):
        for _ in range(round(seconds / 0.1)):
            self.now_s += 0.1
            self.take(self.master.tick(self.now))

    @property
    def orders(self):
        return [s.body for s in self.sent if s.topic == "order"]

    def instants(self, kind):
        return [s.body for s in self.sent if s.topic == "instantActions" and s.body["actions"][0]["actionType"] == kind]

    def at(self, order, number, **more):
        """Have it stand on a node of `order`."""
        node, rest = order["nodes"][number], order["nodes"][number + 1 :]
        where = {**STAND["agvPosition"], "x": node["nodePosition"]["x"], "y": node["nodePosition"]["y"]}
        usual = {
            "orderId": order["orderId"],
            "orderUpdateId": order["orderUpdateId"],
            "lastNodeId": node["nodeId"],
            "lastNodeSequenceId": node["sequenceId"],
            "nodeStates": [{k: n[k] for k in ("nodeId", "sequenceId", "released")} for n in rest],
            "edgeStates": [{k: e[k] for k in ("edgeId", "sequenceId", "released")} for e in order["edges"][number:]],
            "agvPosition": where,
        }
        self.says(**{**usual, **more})

    def action(self, order, number, status):
        named = [a for n in order["nodes"] for a in n["actions"]][number]
        return {"actionId": named["actionId"], "actionStatus": status}


@pytest.fixture
def floor():
    return Floor()


def test_no_nodes_left_is_not_done_while_an_action_waits(floor):
    order = floor.begin(go(), Act("unload", "p", 1.0))
    floor.at(order, 1, actionStates=[floor.action(order, 0, "WAITING")])
    assert not floor.ended
    floor.says(actionStates=[floor.action(order, 0, "RUNNING")])
    assert (floor.ended, floor.steps) == ([], [0])
    floor.says(actionStates=[floor.action(order, 0, "FINISHED")])
    assert [(r.end, r.steps_done, r.standstill) for r in floor.ended] == [(End.DONE, 2, True)]


def test_actions_that_are_never_reported_are_not_done(floor):
    order = floor.begin(go(), Act("unload", "p", 1.0))
    floor.at(order, 1, actionStates=[])
    floor.waits(5)
    assert not floor.ended


def test_a_reached_node_that_stays_in_the_list_is_done(floor):
    order = floor.begin(go())
    last = order["nodes"][1]
    floor.at(order, 1, nodeStates=[{"nodeId": last["nodeId"], "sequenceId": 2, "released": True}])
    assert [r.end for r in floor.ended] == [End.DONE]


def test_the_last_orders_sequence_number_is_no_arrival(floor):
    order = floor.begin(go())
    floor.says(orderId=order["orderId"], lastNodeId="earlier", lastNodeSequenceId=40)
    assert not floor.ended
    assert floor.master.passed() <= 1


def test_an_order_that_somebody_emptied_is_not_done(floor):
    order = floor.begin(go())
    floor.at(order, 0)
    floor.says(nodeStates=[], edgeStates=[], lastNodeId=order["nodes"][0]["nodeId"])
    floor.waits(1)
    assert not floor.ended


def test_there_by_its_word_and_not_by_its_place_is_not_done(floor):
    order = floor.begin(go())
    floor.at(order, 1, agvPosition={**STAND["agvPosition"], "x": 2.0})
    assert [r.end for r in floor.ended] == [End.FAILED]
    assert "1.00 m away" in floor.ended[0].reason


def test_there_by_its_word_and_without_a_place_is_not_done_yet(floor):
    order = floor.begin(go())
    floor.at(order, 1, agvPosition=None)
    assert not floor.ended
    floor.at(order, 1, agvPosition={**STAND["agvPosition"], "x": 3.0})
    assert [r.end for r in floor.ended] == [End.DONE]


def test_a_failed_action_cancels_what_follows_and_tells_the_vehicles_words(floor):
    order = floor.begin(go(), Act("unload", "p", 1.0), go(((3.0, 0.0), (3.0, 4.0))))
    failed = floor.action(order, 0, "FAILED")
    said = {"errorType": "dropError", "errorLevel": "WARNING", "errorDescription": "no load"}
    said["errorReferences"] = [{"referenceKey": "actionId", "referenceValue": failed["actionId"]}]
    floor.at(order, 1, actionStates=[failed], errors=[said], driving=True)
    assert len(floor.instants("cancelOrder")) == 1
    assert not floor.ended
    cancel = {"actionId": floor.instants("cancelOrder")[0]["actions"][0]["actionId"], "actionStatus": "FINISHED"}
    floor.says(actionStates=[failed, cancel], nodeStates=[], edgeStates=[], driving=False)
    assert [(r.end, r.steps_done, r.standstill) for r in floor.ended] == [(End.FAILED, 1, True)]
    assert "dropError: no load" in floor.ended[0].reason


def test_silence_has_the_same_order_sent_again(floor):
    order = floor.begin(go())
    floor.waits(5)
    assert len(floor.orders) == 3
    assert all(sent == order for sent in floor.orders)
    floor.at(order, 0)
    floor.waits(5)
    assert len(floor.orders) == 3


def test_an_order_that_is_never_taken_is_cancelled_and_failed(floor):
    floor.begin(go())
    for _ in range(12):
        floor.says(1.0)
    assert floor.instants("cancelOrder")
    assert [(r.end, r.standstill) for r in floor.ended] == [(End.FAILED, True)]
    assert "neither taken nor refused" in floor.ended[0].reason


def test_a_rejection_is_known_by_its_references_only(floor):
    old = {
        "errorType": "orderError",
        "errorLevel": "WARNING",
        "errorReferences": [{"referenceKey": "orderId", "referenceValue": "x"}],
    }
    floor.says(errors=[old])
    order = floor.begin(go())
    floor.says(errors=[old])
    assert not floor.ended
    ours = {
        **old,
        "errorDescription": "no way",
        "errorReferences": [{"referenceKey": "orderId", "referenceValue": order["orderId"]}],
    }
    floor.says(errors=[old, ours])
    assert [(r.end, r.reason) for r in floor.ended] == [(End.REJECTED, "orderError: no way")]


def test_a_vehicle_that_forgot_its_order_is_lost(floor):
    order = floor.begin(go())
    floor.at(order, 0)
    floor.says(orderId="", nodeStates=[], edgeStates=[])
    assert [(r.end, r.standstill) for r in floor.ended] == [(End.LOST, None)]


def test_silence_is_lost_and_a_vehicle_that_is_back_is_cancelled_first():
    floor = Floor(stale_s=35.0)
    order = floor.begin(go(), deadline_s=1000)
    floor.at(order, 0, driving=True)
    floor.waits(34)
    assert not floor.ended
    assert len(floor.instants("stateRequest")) > 5
    floor.waits(2)
    assert [r.end for r in floor.ended] == [End.LOST]
    assert floor.master.telemetry(floor.now).link is Link.STALE
    floor.says()
    assert len(floor.instants("cancelOrder")) == 1
    floor.begin(go(), name="k")
    assert "lost" in floor.ended[-1].reason
    floor.says(nodeStates=[], edgeStates=[], driving=False)
    floor.begin(go(), name="l")
    assert len(floor.ended) == 2


@pytest.mark.parametrize("word", ["CONNECTIONBROKEN", "CONNECTION_BROKEN", "OFFLINE"])
def test_a_broken_connection_is_lost_at_once_and_states_mend_it(floor, word):
    order = floor.begin(go())
    floor.at(order, 0)
    will = {"connectionState": word, "headerId": 0, "timestamp": "1970-01-01T00:00:00Z"}
    floor.waits(5)
    floor.take(floor.master.hear("connection", json.dumps(will).encode(), floor.now))
    assert [r.end for r in floor.ended] == [End.LOST]
    assert floor.master.telemetry(floor.now).link is Link.LOST
    floor.says()
    assert floor.master.telemetry(floor.now).link is Link.UP


def test_an_old_retained_word_after_our_own_reconnection_is_asked_about_first(floor):
    order = floor.begin(go())
    floor.at(order, 0)
    floor.take(floor.master.connected(floor.now))
    floor.take(floor.master.hear("connection", b'{"connectionState": "CONNECTIONBROKEN"}', floor.now))
    assert not floor.ended
    floor.says()
    floor.waits(6)
    assert not floor.ended
    floor.take(floor.master.connected(floor.now))
    floor.take(floor.master.hear("connection", b'{"connectionState": "CONNECTIONBROKEN"}', floor.now))
    floor.waits(6)
    assert [r.end for r in floor.ended] == [End.LOST]


def test_a_cancel_without_effect_is_repeated_and_then_not_called_a_standstill(floor):
    order = floor.begin(go())
    floor.at(order, 0, driving=True)
    floor.take(floor.master.stop(floor.now))
    for _ in range(12):
        floor.says(1.0, driving=True)
    names = {body["actions"][0]["actionId"] for body in floor.instants("cancelOrder")}
    assert len(floor.instants("cancelOrder")) >= 4
    assert [(r.end, r.standstill) for r in floor.ended] == [(End.CANCELLED, False)]
    assert "NOT confirmed" in floor.ended[0].reason
    assert len(names) <= 2


def test_a_state_from_before_the_cancel_proves_nothing(floor):
    order = floor.begin(go())
    floor.at(order, 0)
    floor.says(nodeStates=[], edgeStates=[])
    floor.take(floor.master.stop(floor.now))
    floor.waits(0.5)
    assert not floor.ended


def test_both_keys_are_sent_but_not_in_version_3(floor):
    assert floor.instants("stateRequest")[0]["actions"] == floor.instants("stateRequest")[0]["instantActions"]
    floor.says(version="3.0.0")
    floor.take(floor.master.stop(floor.now))
    floor.take(floor.master.ask_state())
    assert "instantActions" not in floor.sent[-1].body
    assert floor.sent[-1].version == "3.0.0"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"operatingMode": "MANUAL"}, "operatingMode is MANUAL"),
        ({"safetyState": {"eStop": "MANUAL"}}, "emergency stop MANUAL"),
        ({"safetyState": {"activeEmergencyStop": "REMOTE"}}, "emergency stop REMOTE"),
        ({"errors": [{"errorType": "burning", "errorLevel": "FATAL"}]}, "burning"),
        ({"agvPosition": {**STAND["agvPosition"], "positionInitialized": False}}, "localise"),
        ({"agvPosition": None}, "localise"),
        ({"paused": True}, "paused"),
        ({"orderId": "x", "nodeStates": [{"nodeId": "n", "sequenceId": 2, "released": True}]}, "somebody else"),
    ],
)
def test_a_vehicle_that_is_not_ready_gets_no_order(floor, said, reason):
    floor.says(**said)
    floor.begin(go())
    assert not floor.orders
    assert floor.ended[0].end is End.REJECTED
    assert reason in floor.ended[0].reason


def test_a_vehicle_off_its_way_has_failed(floor):
    order = floor.begin(go())
    floor.at(order, 0, driving=True, agvPosition={**STAND["agvPosition"], "x": 1.0, "y": 1.5})
    floor.says(nodeStates=[], edgeStates=[], driving=False)
    floor.says(1.5)
    assert [r.end for r in floor.ended] == [End.FAILED]
    assert "1.50 m off the path" in floor.ended[0].reason


def test_impossible_values_are_doubted_and_never_priced(floor):
    floor.says(batteryState={"batteryCharge": 140, "charging": False}, loads=[{"weight": -3}])
    telemetry = floor.master.telemetry(floor.now)
    assert telemetry.battery.soc is None
    assert "battery_state" in telemetry.silent
    assert any("batteryCharge was 140" in doubt for doubt in floor.master.view.doubts)


def test_passed_counts_between_nodes_by_the_place():
    floor = Floor()
    order = floor.begin(go())
    floor.at(order, 0, driving=True)
    for x, behind in ((0.0, 1), (0.3, 2), (1.0, 5), (1.1, 5)):
        floor.says(agvPosition={**STAND["agvPosition"], "x": x})
        assert floor.master.passed() == behind


paths = st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=30)


@given(paths, st.lists(st.integers(0, 31), max_size=6), st.integers(0, 31))
@settings(max_examples=200, deadline=None)
def test_every_update_keeps_the_standards_rules_and_never_takes_back_a_base(path, releases, first):
    numbers = count()
    job = Job("j", (Go(Pose(*path[-1], 0.0), tuple(path), first), Act("load", "p", 1.0)))
    route = Route("o", job, Pose(0.0, 0.0), config(), "local", lambda: f"a{next(numbers)}")
    sent = [route.order()]
    sent += [route.order() for points in sorted(releases) if route.release(0, points) and route.wants_update]
    assert all(Order.model_validate(order.model_dump()) == order for order in sent)
    for number, (before, after) in enumerate(pairwise(sent)):
        base = [node for node in before.nodes if node.released]
        assert after.nodes[0] == base[-1]
        assert after.order_update_id == number + 1
    released = max([min(first, len(path)), *(min(p, len(path)) for p in releases)])
    ends = [node.node_position for order in sent for node in order.nodes if node.released]
    if released:
        x, y = path[released - 1]
        near_start = released == 1 and math.hypot(x, y) <= 0.05 and len(path) > 1
        assert near_start or (ends[-1].x, ends[-1].y) == (pytest.approx(x, abs=1e-3), pytest.approx(y, abs=1e-3))
    whole = [action for order in sent for node in order.nodes if node.released for action in node.actions]
    assert len(whole) == (released == len(path))


@given(paths)
def test_what_is_left_out_of_a_path_lies_on_it(path):
    kept = [(0.0, 0.0), *(path[i] for i in bends((0.0, 0.0), tuple(path), 0, len(path)))]
    assert kept[-1] == path[-1]
    for x, y in path:
        nearest = min(
            math.dist((x, y), point)
            for a, b in zip(kept, kept[1:] or kept, strict=False)
            for point in _between(a, b, (x, y))
        )
        assert nearest <= 0.06


def _between(a, b, p):
    length = math.dist(a, b) ** 2
    share = 0 if length == 0 else ((p[0] - a[0]) * (b[0] - a[0]) + (p[1] - a[1]) * (b[1] - a[1])) / length
    share = max(0.0, min(1.0, share))
    return [(a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))]


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-4, 4), st.floats(-9, 9), st.floats(-9, 9), st.floats(-3, 3))
def test_a_frame_there_and_back_is_the_same_place(x, y, yaw, px, py, pyaw):
    frame = Frame(x=x, y=y, yaw=yaw)
    theirs = frame.to_theirs(px, py, pyaw)
    ours = frame.to_ours(theirs.x, theirs.y, theirs.yaw)
    assert math.dist((ours.x, ours.y), (px, py)) < 1e-9
    assert math.cos(ours.yaw - pyaw) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0.1, 100)), max_size=40))
def test_derived_energy_never_falls_nor_exceeds_what_the_charge_fell(readings):
    gauge, now_s, before, fell, last = EnergyGauge(500.0), 0.0, 0.0, 0.0, None
    for soc, charging, after_s in readings:
        now_s += after_s
        fell += max(0.0, last - soc) if last is not None else 0.0
        last = soc
        gauge.read(soc, charging, round(now_s * S))
        assert before <= gauge.energy_out_j <= fell * 500 * 3600 + 1e-6
        before = gauge.energy_out_j


def test_energy_is_the_fall_of_charge_times_capacity_and_a_new_battery_is_no_consumption():
    gauge = EnergyGauge(500.0)
    for now_s, soc in ((0, 0.80), (60, 0.79), (120, 0.78), (121, 0.30), (180, 0.29), (181, 0.95), (240, 0.94)):
        gauge.read(soc, charging=False, now_ns=now_s * S)
    assert gauge.energy_out_j == pytest.approx(4 * 0.01 * 500 * 3600)
    assert EnergyGauge(None).energy_out_j is None


def test_an_odometer_leaves_jumps_out():
    odometer = Odometer(1.0)
    for now_s, x in ((0, 0.0), (1, 1.0), (2, 50.0), (3, 51.0)):
        odometer.read(Pose(x, 0.0), now_s * S)
    assert odometer.metres == pytest.approx(2.0)


def test_version_3_is_read_by_its_own_words():
    state = read_state(
        json.dumps(
            {
                "version": "3.0.0",
                "powerSupply": {"stateOfCharge": 55, "batteryCurrent": -3.5, "charging": False},
                "mobileRobotPosition": {"x": 1, "y": 2, "theta": 0, "mapId": "m", "localized": True},
                "safetyState": {"activeEmergencyStop": "MANUAL"},
                "instantActionStates": [{"actionId": "a", "actionStatus": "FINISHED"}],
            }
        ).encode()
    )
    assert (state.soc, state.current_a, state.emergency_stop) == (0.55, -3.5, "MANUAL")
    assert (state.position.x, state.actions["a"].status) == (1.0, "FINISHED")


def test_what_a_vehicle_complains_about_reaches_telemetry_and_its_energy_is_no_meter(floor):
    assert floor.master.telemetry(floor.now).faults == ()
    assert "energy" not in floor.master.spec.measures
    warning = {"errorType": "tyreWorn", "errorLevel": "WARNING", "errorReferences": []}
    floor.says(errors=[warning], batteryState={"batteryCharge": 80.0, "charging": False, "batteryHealth": 91})
    shown = floor.master.telemetry(floor.now)
    assert ([f.code for f in shown.faults], shown.grave, shown.battery.health) == (["tyreWorn"], None, 0.91)
    for said, code in (
        ({"errors": [warning, {"errorType": "batteryLowError", "errorLevel": "FATAL"}]}, "batteryLowError"),
        ({"errors": [], "operatingMode": "MANUAL"}, "operating_mode"),
        ({"operatingMode": "AUTOMATIC", "safetyState": {"eStop": "AUTOACK", "fieldViolation": True}}, "emergency_stop"),
    ):
        floor.says(**said)
        assert floor.master.telemetry(floor.now).grave.code == code
    floor.says(safetyState=STAND["safetyState"])
    assert floor.master.telemetry(floor.now).grave is None
    floor.take(floor.master.estop(engage=True, now_ns=floor.now))
    assert floor.master.telemetry(floor.now).grave.code == "emergency_stop"


def test_a_worn_battery_gives_less_for_a_per_cent():
    new, worn = EnergyGauge(500.0), EnergyGauge(500.0)
    for now_s, soc in ((0, 0.80), (60, 0.79)):
        new.read(soc, charging=False, now_ns=now_s * S)
        worn.read(soc, charging=False, now_ns=now_s * S, health=0.8)
    assert worn.energy_out_j == pytest.approx(0.8 * new.energy_out_j)
