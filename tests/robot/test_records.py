"""The robot's telemetry records: chained, true to what was driven, and unbroken by a restart."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from robot_yard import Yard

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.guard import guard_for
from fleet_market.adapters.keyring import SigningKey, Verifier
from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.ids import ContractId, OrderId, RobotId
from fleet_market.oracle.evidence import EvidenceLog
from fleet_market.oracle.plausibility import PlausibilityWatch
from fleet_market.oracle.residuals import plan_of
from fleet_market.pricing import PlanLeg, energy_j
from fleet_market.protocol.messages import MAX_RECORD_LEGS, Award, Complete, Place, TelemetryRecord
from fleet_market.protocol.registry import Directory, Entry, Register, Role
from fleet_market.protocol.telemetry import GENESIS, record_hash, signed
from fleet_market.robot.effects import Remember, Say
from fleet_market.robot.memory import Memory
from fleet_market.robot.records import Chain, fix
from fleet_market.robot.tasks import Task

CARRIER = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml").types["carrier"]
R1 = RobotId("r1")


def records_of(yard):
    return {r: [b for b in said if isinstance(b, TelemetryRecord)] for r, said in yard.said.items()}


WAY = PlanLeg(10.0, 1.0, 1, 2.0)


def task(legs=(WAY,)):
    place = Place(x=1.0, y=2.0)
    award = Award(
        contract=ContractId("c1"), epoch=1, order=OrderId("o1"), pickup=place, dropoff=place, payload_kg=2.0, price_uc=5,
        ask_uc=4, energy_j=100.0, deadline_ns=9, answer_by_ns=5, lease_s=30.0,
    )  # fmt: skip
    return Task(award, legs=list(legs), fixes=[fix(Pose(0.0, 0.0), None, 1), fix(Pose(1.0, 2.0), None, 2)])


def test_every_contract_that_was_carried_out_has_a_record_that_is_true():
    yard = Yard(parcels=2)
    for number, (shelf, dock) in enumerate([("shelf-c1", 1), ("shelf-c2", 1), ("shelf-a1", 2), ("shelf-b3", 4)]):
        yard.order(f"o{number}", shelf, f"shipping-{dock}")
    yard.until(yard.all_over)
    done = {b.contract: b for said in yard.said.values() for b in said if isinstance(b, Complete)}
    watch, seen = PlausibilityWatch(), set()
    for robot, records in records_of(yard).items():
        config, head = yard.agents[robot].config, GENESIS
        for number, record in enumerate(records):
            assert (record.robot, record.seq, record.previous) == (robot, number, head)
            head = record_hash(record)
            assert record.energy_j == done[record.contract].energy_j
            assert record.fixes[0].at_ns < record.fixes[-1].at_ns
            assert [f.at_ns for f in record.fixes[1:]] == [step.at_ns for step in done[record.contract].steps]
            assert energy_j(plan_of(record), config.type) == pytest.approx(record.energy_j, rel=0.5)
            capacity_j = config.type.battery.capacity_wh * 3600
            assert watch.hear(record, max_speed_mps=config.type.max_speed_mps, capacity_j=capacity_j) == ()
            seen.add(record.contract)
    assert seen == set(done)
    assert len(seen) == 4


def test_the_head_is_kept_before_the_record_is_said():
    yard = Yard()
    yard.order("o1", "shelf-a1", "shipping-1")
    effects = []
    for agent in yard.agents.values():
        take = agent._voice.take

        def noting(take=take):
            taken = take()
            effects.extend(taken)
            return taken

        agent._voice.take = noting
    yard.until(yard.all_over)
    at = next(i for i, e in enumerate(effects) if isinstance(e, Say) and isinstance(e.body, TelemetryRecord))
    kept = next(e for e in reversed(effects[:at]) if isinstance(e, Remember)).memory["chain"]
    assert kept == {"begun": effects[at].body.chain, "seq": 1, "head": record_hash(effects[at].body)}


def test_the_chain_goes_on_after_a_restart_with_memory_and_begins_anew_without():
    memory = Memory(CARRIER)
    first = memory.chain.add(R1, 5, task(), 90.0)
    again = Memory(CARRIER)
    again.restore(json.loads(json.dumps(memory.export())), "m.json")
    second = again.chain.add(R1, 6, task(), 90.0)
    assert (second.chain, second.seq, second.previous) == (5, 1, record_hash(first))
    fresh = Memory(CARRIER).chain.add(R1, 7, task(), 90.0)
    assert (fresh.chain, fresh.seq, fresh.previous) == (7, 0, GENESIS)


def test_a_memory_of_before_there_were_records_is_taken():
    old = Memory(CARRIER).export()
    del old["chain"]
    memory = Memory(CARRIER)
    memory.restore(old, "m.json")
    assert memory.chain == Chain()


@pytest.mark.parametrize(
    ("change", "field"),
    [({"head": "xyz"}, "head"), ({"seq": -1}, "seq"), ({"seq": 1.5}, "seq"), ({"begun": "now"}, "begun"), (7, "chain")],
)
def test_a_head_that_cannot_be_is_refused_and_nothing_changes(change, field):
    data, memory = Memory(CARRIER).export(), Memory(CARRIER)
    data["chain"] = change if not isinstance(change, dict) else data["chain"] | change
    memory.chain.add(R1, 1, task(), 1.0)
    before = memory.export()
    with pytest.raises(InputError, match=field):
        memory.restore(data, "m.json")
    assert memory.export() == before


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10), st.sampled_from([0.0, 2.0, 7.5])), max_size=60))
def test_however_many_pieces_a_way_has_its_record_has_few_and_the_same_length(pieces):
    legs = [PlanLeg(length_m, turn_rad, 1, kg) for length_m, turn_rad, kg in pieces]
    record = Chain().add(R1, 1, task(legs), None)
    assert len(record.legs) <= MAX_RECORD_LEGS
    assert sum(leg.length_m for leg in record.legs) == pytest.approx(sum(leg.length_m for leg in legs), abs=0.05)


def test_a_robot_with_keys_signs_what_a_log_takes_and_one_without_does_not(tmp_path):
    record = Chain().add(R1, 1, task(), 90.0)
    assert signed(record, guard_for(None, Role.ROBOT, "r1", "localhost").sign) == record
    key = SigningKey.generate()
    told = signed(record, lambda content: (key.did, key.sign(content)))
    assert record_hash(told) == record_hash(record)
    register = Register(serial=1, entries=(Entry(role=Role.ROBOT, name="r1", key=key.did, from_s=0),))
    assert EvidenceLog(Directory(register), Verifier()).hear(told, 2, 0.0) == (0,)
