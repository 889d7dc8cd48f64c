"""The checkers of the allocation benchmarks find planted faults, and bad files are named with what to mend."""

import json
import subprocess
import sys

import pytest

from benchmarks._li_lim_check import check_routes, read_case, read_routes
from benchmarks._replay import problem, read, schedule, sort_out
from benchmarks._replay_check import check
from benchmarks._replay_make import KINDS, make
from benchmarks.allocation import Size, instance
from benchmarks.allocation import check as check_plan
from fleet_market.allocation import Plan, Stop, allocate
from fleet_market.errors import FleetMarketError, InputError

CASE = """\
2 10 1
0 0 0 0 0 100 0 0 0
1 3 4 5 0 20 1 0 2
2 0 8 -5 0 40 1 1 0
3 6 8 10 0 50 1 0 4
4 0 0 -10 0 60 1 3 0
"""


@pytest.fixture
def case(tmp_path):
    path = tmp_path / "case.txt"
    path.write_text(CASE)
    return read_case(path)


def test_good_routes_have_no_fault_and_the_right_distance(case):
    assert check_routes(case, [[1, 2], [3, 4]]) == (5 + 5 + 8 + 10 + 10 + 0, [])


@pytest.mark.parametrize(
    ("routes", "fault"),
    [
        ([[2, 1], [3, 4]], "before its pickup"),
        ([[1, 3, 2, 4]], "capacity"),
        ([[1, 2]], "visited 0 times"),
        ([[1, 2], [3, 4], [1, 2]], "visited 2 times"),
        ([[3, 4, 1, 2]], "latest 20"),
        ([[1, 2], [3], [4]], "not delivered"),
        ([[1, 2], [3, 4], []], "there are 2 vehicles"),
        ([[1, 2, 9], [3, 4]], "does not exist"),
    ],
)
def test_planted_faults_in_routes_are_found(case, routes, fault):
    assert any(fault in text for text in check_routes(case, routes)[1])


def test_routes_are_read_from_a_solution_file(tmp_path):
    path = tmp_path / "case.sol"
    path.write_text("Instance name : case\nSolution\nRoute  1 : 1 2\nRoute  2 : 3 4")
    assert read_routes(path) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", ["", "2 10 1\n0 0 0", "2 10 1\n7 0 0 0 0 100 0 0 0", "x"])
def test_a_broken_case_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "broken.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"broken\.txt"):
        read_case(path)


@pytest.fixture
def replayed(tmp_path):
    """Return an instance with low batteries and a schedule of it, as files."""
    path = make(tmp_path, "split-low", 3, 10, seed=4)
    given = read(path)
    able, unable = sort_out(given)
    solved = problem(given, able)
    rows = schedule(given, able, solved.tables(), allocate(solved, rounds=100))
    made = {"schedule": rows, "unassigned": [{"task": name, "reason": why} for name, why in unable.items()]}
    return path, made


def verdict(path, made):
    out = path.with_suffix(".made")
    out.write_text(json.dumps(made))
    return check(path, out)


def test_a_schedule_over_a_split_map_with_low_batteries_has_no_fault(replayed):
    path, made = replayed
    found = verdict(path, made)
    assert found.faults == ()
    assert found.charges > 0
    assert found.assigned == 9
    assert [row["task"] for row in made["unassigned"]] == ["t9"]
    assert "no way" in made["unassigned"][0]["reason"]


def first(made, *, charge):
    return next(row for row in made["schedule"] if (row["task"] is None) == charge)


def robots(made):
    return {row["robot"] for row in made["schedule"]}


PLANTED = {
    "a task twice": (lambda made: made["schedule"].append(first(made, charge=False)), "done 2 times"),
    "a task forgotten": (lambda made: made["schedule"].remove(first(made, charge=False)), "neither done nor named"),
    "done and named": (
        lambda made: made["unassigned"].append({"task": first(made, charge=False)["task"], "reason": ""}),
        "named as unassigned",
    ),
    "too early": (lambda made: first(made, charge=False).update(finish=1.0), "computed"),
    "too much charge": (lambda made: first(made, charge=True).update(soc=0.79), "possible were"),
    "no charge": (
        lambda made: made["schedule"].remove(first(made, charge=True)),
        "at the charger|is done|charges|computed",
    ),
    "another charger": (lambda made: first(made, charge=True).update(charger=0), "its own charger"),
    "wrong state of charge": (lambda made: first(made, charge=False).update(soc=0.5), "leaves a charge"),
    "a task that is none": (lambda made: first(made, charge=False).update(task="x"), "does not exist"),
    "start before arrival": (lambda made: first(made, charge=False).update(start=-5.0), "starts at"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_in_a_schedule_are_found(replayed, name):
    import re

    path, made = replayed
    plant, fault = PLANTED[name]
    plant(made)
    assert any(re.search(fault, text) for text in verdict(path, made).faults)


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_that_can_be_done_is_assigned(tmp_path, kind):
    path = make(tmp_path, kind, 3, 12, seed=2)
    given = read(path)
    able, unable = sort_out(given)
    assert len(able) + len(unable) == 12
    assert allocate(problem(given, able), rounds=50).unsold == ()


def small():
    return {
        "robots": [{"id": "a", "start": 0, "charger": 0, "soc": 0.9}],
        "tasks": [{"id": "t", "pickup": 1, "dropoff": 2, "earliest_start_s": 0}],
        "config": {"threshold_soc": 0.1, "recharge_soc": 0.8, "charge_rate_soc_per_s": 0.01},
        "travel_s": [[0, 1, 2], [1, 0, 1], [2, 1, 0]],
        "travel_dsoc": [[0, 0.1, 0.2], [0.1, 0, 0.1], [0.2, 0.1, 0]],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda g: g["travel_s"][1].__setitem__(2, None), "no way from pickup 1"),
        (lambda g: g["travel_s"][0].__setitem__(1, None), "no robot can reach pickup 1"),
        (lambda g: g["travel_s"][2].__setitem__(0, None), "to its charger"),
        (lambda g: g["travel_dsoc"][1].__setitem__(2, 0.6), "battery: a"),
    ],
)
def test_why_a_task_cannot_be_done_is_said(tmp_path, change, reason):
    given = small()
    change(given)
    path = tmp_path / "given.json"
    path.write_text(json.dumps(given))
    able, unable = sort_out(read(path))
    assert able == []
    assert reason in unable["t"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda g: g.pop("robots"), "robots"),
        (lambda g: g["robots"][0].update(soc=1.2), r"robots\[0\].soc"),
        (lambda g: g["robots"][0].update(start=True), r"robots\[0\].start"),
        (lambda g: g["robots"].append(dict(g["robots"][0])), "robots: id"),
        (lambda g: g["tasks"][0].update(pickup=3), r"tasks\[0\].pickup"),
        (lambda g: g["tasks"][0].update(earliest_start_s="now"), r"tasks\[0\].earliest_start_s"),
        (lambda g: g["config"].update(recharge_soc=0.05), "config.recharge_soc"),
        (lambda g: g["config"].update(charge_rate_soc_per_s=0), "config.charge_rate_soc_per_s"),
        (lambda g: g["travel_s"][1].append(0), r"travel_s\[1\]"),
        (lambda g: g["travel_s"][1].__setitem__(0, -1), r"travel_s\[1\]\[0\]"),
        (lambda g: g.update(travel_dsoc=[[0]]), "travel_dsoc"),
        (lambda g: g.update(tasks={}), "tasks"),
    ],
)
def test_a_broken_instance_is_refused_with_the_field(tmp_path, change, field):
    given = small()
    change(given)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(given))
    with pytest.raises(InputError, match=field) as caught:
        read(path)
    assert "broken.json" in str(caught.value)


def test_a_broken_file_stops_no_other_and_shows_in_the_exit_code(tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(small()))
    bad.write_text("{")
    command = [sys.executable, "-m", "benchmarks.replay", "--json", "--cpu-seconds", "0.1", "--out", tmp_path, bad, good]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bad.json" in done.stderr
    rows = {row["what"]: row["value"] for row in json.loads(done.stdout)["rows"]}
    assert rows["good: cost"] == pytest.approx(2.0)
    assert rows["bad: cost"] is None
    assert json.loads((tmp_path / "good.schedule.json").read_text())["schedule"][0]["task"] == "t"


def test_planted_faults_in_a_plan_are_found():
    given = instance(Size(2, 1, 1), 0)
    up, down = [Stop(t, pickup=True) for t in range(2)], [Stop(t, pickup=False) for t in range(2)]
    assert check_plan(given, Plan(((up[0], down[0], up[1], down[1]),))) > 0
    for queue, fault in (
        ((up[0], up[1], down[0], down[1]), "carries 2"),
        ((down[0], up[0], up[1], down[1]), "without being aboard"),
        ((up[0], down[0]), "not every task"),
        ((up[0], down[0], up[1]), "never dropped"),
    ):
        with pytest.raises(FleetMarketError, match=fault):
            check_plan(given, Plan((queue,)))
