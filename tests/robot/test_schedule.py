"""A robot's queue: the ask is the growth of its cost, at the cheapest place, and whims of the weights change it one way."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleet_market.allocation import BatteryRules, RobotSpec, Stop, TaskSpec, Weights
from fleet_market.errors import InputError
from fleet_market.robot.schedule import MOST_QUEUED, Schedule, Ways

WEIGHTS = ("cost", "lateness", "makespan", "wear")


def town(seed, *, battery=False, places=14):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 100, (places, 2))
    way = np.hypot(xy[:, None, 0] - xy[None, :, 0], xy[:, None, 1] - xy[None, :, 1])
    cost, wear = way * rng.uniform(0.5, 1.5, way.shape), way * rng.uniform(0.0, 1.0, way.shape)
    if battery:
        return Ways(way, cost, wear, way * 0.0015, BatteryRules(0.2, 0.9, 0.002))
    return Ways(way, cost, wear)


def parcel(rng, *, aboard=False):
    a, b = rng.choice(np.arange(1, 12), 2, replace=False)
    due_s = float(rng.uniform(0, 300))
    if aboard:
        return TaskSpec(0, int(b), due_s=due_s, late_rate=1.0, robot=0)
    early_s = float(rng.uniform(0, 100))
    return TaskSpec(
        int(a), int(b), pickup_window_s=(early_s, early_s + 2000), due_s=due_s, late_rate=float(rng.uniform(0, 2))
    )


def busy(seed, count, *, battery=False, **more):
    """Return a schedule that took its tasks one by one, and the generator."""
    rng = np.random.default_rng(seed)
    robot = RobotSpec(0, capacity=2, soc=0.5, chargers=(12, 13) if battery else ())
    schedule = Schedule(robot, town(seed, battery=battery), ageing_s=600.0, **more)
    for _ in range(count):
        task = parcel(rng)
        found = schedule.ask(task)
        if found is not None:
            schedule = schedule.with_task(task, found)
    return schedule, rng


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.booleans())
def test_the_ask_is_what_the_cost_grows_by_and_no_place_is_cheaper(seed, count, battery):
    schedule, rng = busy(seed, count, battery=battery, weights=Weights(makespan=0.3))
    lots = [parcel(rng) for _ in range(3)]
    for lot, found in zip(lots, schedule.asks(lots), strict=True):
        costs = [dataclasses.replace(schedule, tasks=(*schedule.tasks, lot), queue=q).cost for q in places(schedule)]
        if found is None:
            assert min(costs) == math.inf
            continue
        grown = schedule.with_task(lot, found)
        assert grown.cost - schedule.cost == pytest.approx(found.ask, rel=1e-9, abs=1e-6)
        assert found.ask == pytest.approx(min(costs) - schedule.cost, rel=1e-9, abs=1e-6)
        assert grown.without_task(len(schedule.tasks)).cost == pytest.approx(schedule.cost)


def places(schedule):
    """Return the queue with one task more at all pairs of places."""
    new, queue = len(schedule.tasks), list(schedule.queue)
    for i in range(len(queue) + 1):
        for j in range(i, len(queue) + 1):
            yield (*queue[:i], Stop(new, pickup=True), *queue[i:j], Stop(new, pickup=False), *queue[j:])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.booleans())
def test_compiled_asks_are_the_same_asks(seed, count, battery):
    schedule, rng = busy(seed, count, battery=battery)
    lots = [parcel(rng) for _ in range(3)]
    for one, two in zip(schedule.asks(lots), dataclasses.replace(schedule, fast=True).asks(lots), strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            assert two.queue == one.queue
            assert two.ask == pytest.approx(one.ask, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 4),
    st.sampled_from(WEIGHTS),
    st.tuples(*[st.floats(0, 5)] * 4),
    st.floats(0.01, 20),
)
def test_more_weight_on_something_never_brings_more_of_it(seed, count, name, values, more):
    schedule, rng = busy(seed, count)
    lot = parcel(rng)
    taken = {}
    for extra in (0.0, more):
        weights = Weights(**{n: v + extra * (n == name) for n, v in zip(WEIGHTS, values, strict=True)})
        weighed = dataclasses.replace(schedule, weights=weights)
        found = weighed.ask(lot)
        assume(found is not None)
        shares = weighed.with_task(lot, found).shares()
        taken[extra] = {"cost": shares.cost, "lateness": shares.lateness, "makespan": shares.finish_s, "wear": shares.wear}[
            name
        ]
    assert taken[more] <= taken[0.0] + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans())
def test_the_shares_add_up_to_the_cost(seed, count, battery):
    weights = Weights(cost=2.0, lateness=3.0, makespan=0.5, wear=0.7)
    schedule, _ = busy(seed, count, battery=battery, weights=weights)
    shares = schedule.shares()
    total = 2.0 * shares.cost + 3.0 * shares.lateness + 0.5 * shares.finish_s + 0.7 * shares.wear
    assert total == pytest.approx(schedule.cost)


def test_a_parcel_aboard_stays_first_and_is_never_taken_out():
    rng = np.random.default_rng(1)
    aboard = parcel(rng, aboard=True)
    queue = (Stop(0, pickup=True), Stop(0, pickup=False))
    schedule = Schedule(RobotSpec(0, capacity=2), town(1), (aboard,), queue)
    for _ in range(4):
        lot = parcel(rng)
        schedule = schedule.with_task(lot, schedule.ask(lot))
    assert schedule.queue[0] == Stop(0, pickup=True)
    with pytest.raises(InputError, match="executed"):
        schedule.without_task(0)


def line(battery_soc):
    """Return a robot on a line of places 10 m apart, its charger at 0; a metre takes one per cent."""
    at = np.arange(8) * 10.0
    way = np.abs(at[:, None] - at[None, :])
    ways = Ways(way, leg_soc=way / 100, battery=BatteryRules(0.1, 0.9, 0.01))
    return Schedule(RobotSpec(0, soc=battery_soc, chargers=(0,)), ways)


def charges(schedule):
    return [event for event in schedule.timetable() if event.kind == "charge"]


def test_there_is_no_charging_stop_where_none_is_needed():
    schedule, task = line(0.75), TaskSpec(1, 3)
    schedule = schedule.with_task(task, schedule.ask(task))
    assert charges(schedule) == []


def test_a_robot_charges_as_long_as_the_way_there_and_back_needs():
    schedule, task = line(0.30), TaskSpec(1, 3)
    schedule = schedule.with_task(task, schedule.ask(task))
    (stop,) = charges(schedule)
    assert stop.soc == pytest.approx(0.1 + 0.3 + 0.3, abs=1e-5)
    assert stop.end_s - stop.begin_s == pytest.approx(40.0, abs=1e-3)


def test_what_no_battery_can_do_gets_no_ask():
    assert line(0.95).ask(TaskSpec(1, 4)) is not None
    assert line(0.95).ask(TaskSpec(1, 5)) is None


def test_a_robot_waits_for_a_shared_charger_until_it_is_free():
    schedule = line(0.30)
    robot = dataclasses.replace(schedule.robot, charger_free_s=(500.0,))
    schedule, task = dataclasses.replace(schedule, robot=robot), TaskSpec(1, 3)
    (stop,) = charges(schedule.with_task(task, schedule.ask(task)))
    assert stop.begin_s == 500.0


def far_order_under_a_stream(ageing_s):
    """Let a robot serve near orders that never end, and one far order; return when the far one is done, or None."""
    at = np.array([0.0, 10.0, 60.0, 70.0])
    ways = Ways(np.abs(at[:, None] - at[None, :]))
    weights = Weights(cost=1.0, lateness=1.0)
    schedule = Schedule(RobotSpec(0), ways, weights=weights, ageing_s=ageing_s)
    far = TaskSpec(2, 3, due_s=0.0, late_rate=1.0)
    schedule = schedule.with_task(far, schedule.ask(far))
    for _ in range(400):
        near = TaskSpec(0, 1, due_s=schedule.robot.free_s, late_rate=1.0)
        schedule = schedule.with_task(near, schedule.ask(near))
        events = schedule.timetable()
        done = events[1]
        if schedule.tasks[done.task] is far:
            return done.end_s
        robot = dataclasses.replace(schedule.robot, place=done.place, free_s=done.end_s)
        left = schedule.without_task(done.task)
        schedule = dataclasses.replace(left, robot=robot)
    return None


def test_an_aged_order_does_not_starve_where_an_unaged_one_would():
    assert far_order_under_a_stream(math.inf) is None
    assert far_order_under_a_stream(100.0) is not None


def test_a_full_queue_takes_no_more():
    way = np.zeros((2, 2))
    tasks = (TaskSpec(0, 1),) * MOST_QUEUED
    queue = tuple(stop for t in range(MOST_QUEUED) for stop in (Stop(t, pickup=True), Stop(t, pickup=False)))
    full = Schedule(RobotSpec(0), Ways(way), tasks, queue)
    assert full.ask(TaskSpec(0, 1)) is None
    with pytest.raises(InputError, match="tasks"):
        dataclasses.replace(full, tasks=(*tasks, TaskSpec(0, 1)))


def test_a_queue_must_do_each_of_its_tasks():
    with pytest.raises(InputError, match="queue"):
        Schedule(RobotSpec(0), Ways(np.zeros((2, 2))), (TaskSpec(0, 1),), ())


def test_a_robot_with_too_few_skills_does_not_ask():
    schedule = Schedule(RobotSpec(0), Ways(np.zeros((2, 2))))
    assert schedule.ask(TaskSpec(0, 1, needs=frozenset({1}))) is None


def test_asks_load_neither_numba_nor_scipy():
    program = (
        "import sys, numpy as np; from fleet_market.robot.schedule import *; from fleet_market.allocation import *\n"
        "s = Schedule(RobotSpec(0), Ways(np.ones((2, 2)))); assert s.ask(TaskSpec(0, 1)) is not None\n"
        "assert not {'numba', 'scipy', 'matplotlib'} & {name.partition('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
