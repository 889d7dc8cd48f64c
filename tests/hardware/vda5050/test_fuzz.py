"""Whatever comes over the wire, nothing raises, nothing is paid, and no number is impossible."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_market.body import DriverSpec, End, Go, Job, Link, Pose, Telemetry
from fleet_market.errors import ProtocolError
from fleet_market.ids import RobotId
from fleet_market_hardware.vda5050.config import VehicleConfig
from fleet_market_hardware.vda5050.effects import JobEnded
from fleet_market_hardware.vda5050.master import Master
from fleet_market_hardware.vda5050.seen import read_connection, read_factsheet, read_place, read_state
from fleet_market_hardware.vda5050.vehicle import Begin, Vehicle
from fleet_market_hardware.vda5050.wanted import WantError, read_instant_actions, read_order

WORDS = """
orderId orderUpdateId lastNodeId lastNodeSequenceId nodeStates edgeStates actionStates driving
agvPosition x y theta mobileRobotPosition mapId batteryState batteryCharge charging errors
errorReferences errorLevel loads weight velocity vx nodes edges nodeId sequenceId released
nodePosition actions instantActions actionType actionId version connectionState safetyState
protocolLimits actionParameters key value allowedDeviationXY
"""
VALUES = "CONNECTIONBROKEN ONLINE cancelOrder startPause pick 3.0.0 2.1 FATAL FINISHED local"
KEYS = st.sampled_from(WORDS.split())
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.just(10**400),
    st.sampled_from(VALUES.split()),
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8), max_leaves=40
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=12).map(lambda said: json.dumps(said).encode())
PAYLOADS = st.one_of(st.binary(max_size=200), OBJECTS, st.just(b"[" * 100_000), st.just(b'{"a":' * 50_000))
READERS = (read_state, read_place, read_connection, read_factsheet, read_order, read_instant_actions)


@given(PAYLOADS)
@settings(max_examples=400, deadline=None)
def test_a_parser_returns_or_refuses(payload):
    for read in READERS:
        try:
            read(payload)
        except (ProtocolError, WantError):
            continue
    try:
        state = read_state(payload)
    except ProtocolError:
        return
    numbers = [state.soc, state.speed_mps, state.voltage_v, state.current_a, state.load_kg]
    numbers += [state.position.x, state.position.y, state.position.theta] if state.position else []
    assert all(number is None or math.isfinite(number) for number in numbers)
    assert state.soc is None or 0 <= state.soc <= 1
    assert 0 <= state.last_sequence < 2**32


@given(st.lists(st.tuples(st.sampled_from(["state", "visualization", "connection", "factsheet"]), PAYLOADS), max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_master_outlives_every_vehicle_and_never_calls_nonsense_done(messages):
    config = VehicleConfig(robot=RobotId("r"), manufacturer="m", serial="s", max_speed_mps=1.0, max_payload_kg=1.0)
    master, now = Master(config, lambda: "id"), 10**9
    start = {
        "driving": False,
        "operatingMode": "AUTOMATIC",
        "agvPosition": {"x": 0, "y": 0, "theta": 0, "mapId": "local", "positionInitialized": True},
    }
    master.hear("state", json.dumps(start).encode(), now)
    ends = []
    master.begin(Job("j", (Go(Pose(3.0, 0.0)),)), 100.0, now)
    for topic, payload in messages:
        now += 10**8
        effects = master.hear(topic, payload, now)
        ends += [effect.result.end for effect in effects if isinstance(effect, JobEnded)]
        telemetry = master.telemetry(now)
        assert telemetry.battery.soc is None or 0 <= telemetry.battery.soc <= 1
        assert math.isfinite(telemetry.odometer_m)
    assert End.DONE not in ends
    assert len(ends) <= 1


@given(st.lists(st.tuples(st.sampled_from(["order", "instantActions"]), PAYLOADS), max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_vehicle_outlives_every_master(messages):
    spec = DriverSpec(RobotId("r"), 1.0, 1.0, frozenset({"load", "unload"}), frozenset({"pose"}))
    vehicle = Vehicle("2.0.0", "local", spec)
    stands = Telemetry(seq=1, stamp_ns=1, link=Link.UP, pose=Pose(0.0, 0.0))
    vehicle.sense(stands, 0, 1)
    for number, (topic, payload) in enumerate(messages):
        for wish in vehicle.hear(topic, payload, 2 + number):
            if not isinstance(wish, Begin):
                json.dumps(getattr(wish, "body", {}), allow_nan=False)
    json.dumps(vehicle.state(), allow_nan=False)
