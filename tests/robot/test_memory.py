"""What a robot learns from its tasks, keeps, and asks for."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.memory_files import load_memory, save_memory
from fleet_market.errors import InputError
from fleet_market.ids import CallId, Identifier, MessageId
from fleet_market.maps.surfaces import Area, Surfaces
from fleet_market.pricing import PlanLeg, Tariff, TaskPlan, duration_s, energy_j
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES, Envelope, encode
from fleet_market.protocol.messages import ASK_PARTS, AskLine, DeclineLine, DeclineReason, WirePose
from fleet_market.robot.bidding import sealed
from fleet_market.robot.memory import Memory

FLEET = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml")
CARRIER, RUNNER = FLEET.types["carrier"], FLEET.types["runner"]
TARIFF = Tariff(25_000_000)
PLAN = TaskPlan((PlanLeg(20.0, 3.0, 2, 0.0), PlanLeg(15.0, 2.0, 1, 5.0, surface="carpet")), 8.0)


def worked(tasks, thirst=1.3, delay=1.1):
    """The memory of a robot that takes more energy and time than its data sheet says."""
    memory = Memory(CARRIER)
    for _ in range(tasks):
        memory.settled(
            PLAN,
            memory.quote(PLAN, TARIFF),
            measured_j=thirst * energy_j(PLAN, CARRIER),
            executed_s=delay * duration_s(PLAN, CARRIER),
            elapsed_s=100.0,
        )
    return memory


def test_a_robot_learns_what_its_tasks_take_and_becomes_surer():
    new, old = Memory(CARRIER).quote(PLAN, TARIFF), worked(15).quote(PLAN, TARIFF)
    assert old.energy.mean == pytest.approx(1.3 * energy_j(PLAN, CARRIER), rel=0.05)
    assert old.lasts.mean == pytest.approx(1.1 * duration_s(PLAN, CARRIER), rel=0.03)
    assert old.energy.sd < 0.5 * new.energy.sd
    assert old.part_uc("energy") > new.part_uc("energy")
    assert old.part_uc("risk") < new.part_uc("risk")


def test_parts_wear_with_every_settled_task_and_the_battery_with_the_calendar_too():
    memory, quote = Memory(CARRIER), Memory(CARRIER).quote(PLAN, TARIFF)
    memory.settled(PLAN, quote, measured_j=None, executed_s=50.0, elapsed_s=3600.0)
    parts = memory.components
    assert parts.tread.damage == pytest.approx(float(quote.wear.tread.share))
    assert parts.tread.metres == pytest.approx(PLAN.length_m)
    assert parts.battery.damage > float(quote.wear.battery.share)
    assert parts.battery.hours == pytest.approx(1.0)
    assert memory.calibration.view().tasks == 0


def test_a_day_of_shallow_cycles_teaches_what_the_battery_really_wears():
    memory, hour_ns = Memory(CARRIER), 3_600 * 10**9
    share_before = memory.quote(PLAN, TARIFF).wear.battery.share
    for minute in range(24 * 60 + 1):
        memory.observe(0.5 + 0.05 * math.sin(minute / 5), minute * hour_ns // 60)
    assert memory.components.cycles.planned > memory.components.cycles.measured > 0
    assert memory.components.calendar.measured > 0
    assert memory.components.battery.damage > 0
    assert memory.quote(PLAN, TARIFF).wear.battery.share < share_before
    memory.observe(0.5, 0)
    assert memory.export()["day"]["times_ns"] == [0]


def test_a_memory_survives_on_disk_as_it_was(tmp_path):
    memory, path = worked(7), tmp_path / "robots" / "carrier-1.json"
    save_memory(path, memory.export())
    again = Memory(CARRIER)
    again.restore(load_memory(path), str(path))
    assert again.export() == memory.export()
    assert again.quote(PLAN, TARIFF) == memory.quote(PLAN, TARIFF)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert load_memory(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d | {"version": 99}, "version"),
        (lambda d: d | {"components": None}, "components"),
        (lambda d: d | {"calibration": d["calibration"] | {"robot_type": "tank"}}, "robot_type"),
        (lambda d: d | {"components": d["components"] | {"battery": {"damage": -1}}}, "battery"),
        (lambda d: d | {"day": {"times_ns": [2, 1], "soc": [0.5, 0.5], "task_share": 0.0}}, "times_ns"),
        (lambda d: {}, "version"),
    ],
)
def test_a_memory_that_is_not_this_robots_is_refused_and_nothing_changes(change, field):
    memory = Memory(CARRIER)
    before = memory.export()
    with pytest.raises(InputError, match=field):
        memory.restore(change(json.loads(json.dumps(worked(3).export()))), "carrier-1.json")
    assert memory.export() == before
    with pytest.raises(InputError, match="robot_type"):
        Memory(RUNNER).restore(worked(1).export(), "carrier-1.json")


@pytest.mark.parametrize("content", ["", "[1]", "{", "null"])
def test_a_file_that_is_no_memory_is_refused(tmp_path, content):
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(InputError, match="remove the file"):
        load_memory(path)


def test_floors_and_slopes_are_found_along_the_way():
    carpet = Area("carpet", 2.0, -1.0, 6.0, 1.0, grade_x=0.05)
    found = Surfaces([carpet]).along([(0.0, 0.0), (8.0, 0.0), (8.0, 3.0)])
    assert found == {("floor", 0.0): pytest.approx(7.0), ("carpet", 0.05): pytest.approx(4.0)}
    back = Surfaces([carpet]).along([(8.0, 0.0), (0.0, 0.0)])
    assert back["carpet", -0.05] == pytest.approx(4.0)
    across = Surfaces([carpet]).along([(4.0, -1.0), (4.0, 1.0)])
    assert across == {("carpet", 0.0): pytest.approx(2.0)}
    over = Surfaces([carpet, Area("mat", 3.0, -1.0, 4.0, 1.0)]).along([(2.0, 0.0), (6.0, 0.0)])
    assert over == {("carpet", 0.05): pytest.approx(3.0), ("mat", 0.0): pytest.approx(1.0)}


@given(st.floats(0.5, 80), st.integers(1, 5), st.floats(0.01, 0.99), st.floats(0, 20))
def test_a_leg_in_pieces_takes_what_the_whole_takes(length_m, halts, share, payload_kg):
    whole = PlanLeg(length_m, 2.0, halts, payload_kg)
    pieces = tuple(PlanLeg(length_m * s, 2.0 * s, halts * s, payload_kg) for s in (share, 1 - share))
    for robot in (CARRIER, RUNNER):
        assert energy_j(TaskPlan(pieces), robot) == pytest.approx(energy_j(TaskPlan((whole,)), robot), rel=1e-9)
        assert duration_s(TaskPlan(pieces), robot) == pytest.approx(duration_s(TaskPlan((whole,)), robot), rel=1e-9)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 10**11))
def test_an_answer_always_fits_and_keeps_the_cheapest_asks(asks, declines, price_uc):
    parts = len(ASK_PARTS)
    lines = [
        AskLine(
            lot=i, ask_uc=parts * (price_uc + (7 * i) % 31), parts_uc=(price_uc + (7 * i) % 31,) * parts,
            energy_j=123456.7, energy_sd_j=12345.6, finish_ns=2**60,
        )
        for i in range(asks)
    ]  # fmt: skip
    refusals = [DeclineLine(lot=100 + i, reason=DeclineReason.UNREACHABLE, detail="x" * 40) for i in range(declines)]
    answer = sealed(CallId("main:1:123456"), 99, WirePose(x=-1234.567, y=-1234.567, yaw=-3.142), lines, refusals)
    envelope = Envelope(body=answer, ts=2**60, sid=10**9, src=Identifier("r" * 64), id=MessageId("m" * 64))
    assert len(encode(envelope)) <= MAX_INBOUND_BYTES
    kept = [line.ask_uc for line in answer.asks]
    assert kept == sorted(line.ask_uc for line in lines)[: len(kept)]
    if asks + declines <= 12:
        assert (len(answer.asks), len(answer.declines)) == (asks, declines)
    assert len(answer.asks) >= min(asks, 12)
