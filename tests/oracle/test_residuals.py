"""Energy that does not fit the way: who is found, who is not, and what a robot cannot do about it."""

import random
from pathlib import Path

import pytest

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.ids import RobotId
from fleet_market.oracle.residuals import LEAST, LIMIT, WINDOW, EnergyWatch, plan_of
from fleet_market.pricing import Calibration, PlanLeg, TaskPlan, duration_s, energy_j
from fleet_market.testing.telemetry import Scribe

TYPES = load_fleet(Path(__file__).parents[2] / "launch/fleets/auto.yaml").types
SHEET = TYPES["carrier"]
TRUE = SHEET.model_copy(update={"hotel_w": 1.2 * SHEET.hotel_w, "rolling_resistance": 1.4 * SHEET.rolling_resistance})
"""What carriers really are: their sheet is wrong."""


def plan(chance):
    legs = (PlanLeg(chance.uniform(5, 40), chance.uniform(1, 6), 2, load) for load in (0.0, chance.uniform(0, 10)))
    return TaskPlan(tuple(legs), 8.0)


def worked(robots, records, *, liars=(), factor=1.2, noise=0.05, seed=0, watch=None, silent=0):
    """The findings of each robot; liars say `factor` times what they drew, from their first record on.

    Of the first `silent` records of each robot nothing is judged.
    """
    chance, watch = random.Random(seed), watch or EnergyWatch(TYPES)
    found = {RobotId(f"r{i}"): [] for i in range(robots)}
    for number in range(records):
        for name, findings in found.items():
            task, said = plan(chance), factor if name in liars else 1.0
            drawn_j = energy_j(task, TRUE) * (1 + chance.gauss(0, noise)) * said
            if number < silent:
                watch.learn(name, "carrier", task, drawn_j, duration_s(task, TRUE))
            else:
                findings.append(watch.take(name, "carrier", task, drawn_j, duration_s(task, TRUE)))
    return found, watch


def test_a_robot_that_lies_from_its_first_record_on_is_found_and_no_other():
    found, watch = worked(8, 2 * WINDOW, liars={"r3"})
    assert watch.suspects == {"r3"}
    last = found["r3"][-1]
    assert last.alarm
    assert last.score > LIMIT
    assert last.records == WINDOW
    assert last.others == 7
    assert last.excess == pytest.approx(0.2, abs=0.06)
    assert last.found_from < 0.2


def test_its_own_calibration_would_have_learned_the_lie():
    chance, own = random.Random(0), Calibration(SHEET)
    lessons = []
    for _ in range(3 * WINDOW):
        task = plan(chance)
        lessons.append(own.update(task, 1.2 * energy_j(task, TRUE), duration_s(task, TRUE)))
    left = [lesson.measured / lesson.predicted - 1 for lesson in lessons[-WINDOW:]]
    assert abs(sum(left) / WINDOW) < 0.05


def test_a_wrong_spec_sheet_is_no_lie_of_its_robots():
    found, watch = worked(8, WINDOW)
    assert not watch.suspects
    assert max(abs(findings[-1].excess) for findings in found.values()) < 0.06


def test_two_liars_of_ten_do_not_hide_each_other():
    assert worked(10, 2 * WINDOW, liars={"r1", "r2"})[1].suspects == {"r1", "r2"}


def test_a_liar_cannot_bring_another_robot_under_suspicion():
    assert worked(6, 3 * WINDOW, liars={"r0"}, factor=3.0)[1].suspects == {"r0"}


def test_a_robot_that_says_the_truth_again_is_cleared():
    _, watch = worked(8, WINDOW, liars={"r3"})
    assert "r3" in watch.suspects
    worked(8, 2 * WINDOW, watch=watch, seed=1)
    assert not watch.suspects


def test_alone_a_robot_is_compared_with_its_sheet_only_and_hardly_ever_accused():
    found, watch = worked(1, WINDOW, liars={"r0"})
    assert found["r0"][-1].others == 0
    assert found["r0"][-1].found_from > 0.5
    assert not watch.suspects


@pytest.mark.parametrize("factor", [0.3, 0.7, 0.9])
def test_a_robot_that_says_less_is_not_accused_and_cannot_make_others_look_greedy(factor):
    assert not worked(8, 2 * WINDOW, liars={"r3"}, factor=factor)[1].suspects


def test_there_is_no_verdict_on_too_few_records_nor_on_what_was_not_measured():
    found, watch = worked(3, LEAST)
    assert found["r0"][: LEAST - 1] == [None] * (LEAST - 1)
    assert found["r0"][LEAST - 1] is not None
    record = Scribe(RobotId("r9")).write(energy_j=None)
    assert watch.hear(record, "carrier") is None
    assert watch.hear(Scribe(RobotId("r9")).write(), "unheard of") is None
    for _ in range(LEAST):
        assert watch.take(RobotId("r8"), "carrier", TaskPlan(()), 100.0, 0.0) is None
    assert watch.take(RobotId("r8"), "carrier", plan(random.Random(0)), float("nan"), 10.0) is None


def test_a_record_tells_the_plan_that_it_was_made_of():
    record = Scribe(RobotId("r9")).write()
    assert plan_of(record) == TaskPlan((PlanLeg(20.0, 1.0, 1.0, 0.0), PlanLeg(20.0, 1.0, 1.0, 5.0)), 8.0)


@pytest.mark.parametrize("noise", [0.02, 0.08])
def test_false_alarms_are_as_rare_as_stated(noise):
    """Ten looks in a row raise an alarm in at most 1 of 100 honest robots; 120 robots leave room for chance."""
    accused = judged = 0
    for seed in range(10):
        found, _ = worked(12, 2 * WINDOW, noise=noise, seed=seed, silent=WINDOW)
        judged += len(found)
        accused += sum(any(finding.alarm for finding in findings) for findings in found.values())
    assert judged == 120
    assert accused <= 4
