"""Records that contradict the map, the clock or themselves."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fleet_market.ids import RobotId
from fleet_market.oracle.plausibility import PlausibilityWatch, Rule
from fleet_market.protocol.messages import Fix
from fleet_market.testing.telemetry import ENERGY_J, TASK_S, WAY_M, Scribe
from fleet_market.units import ns

R1 = RobotId("r1")
SPEED, CAPACITY_J = 1.0, 1_000_000.0


def rules(watch, *records, capacity_j=CAPACITY_J):
    return [{c.rule for c in watch.hear(r, max_speed_mps=SPEED, capacity_j=capacity_j)} for r in records]


def moved(record, k, **changed):
    fixes = [fix.model_copy(update=changed) if i == k else fix for i, fix in enumerate(record.fixes)]
    return record.model_copy(update={"fixes": tuple(fixes)})


def test_an_honest_robot_contradicts_nothing():
    scribe, watch = Scribe(R1), PlausibilityWatch()
    assert rules(watch, *(scribe.write() for _ in range(5))) == [set()] * 5


def test_a_place_that_cannot_be_reached_in_time_is_found_within_a_record_and_between_two():
    scribe, watch = Scribe(R1), PlausibilityWatch()
    assert Rule.UNREACHABLE in rules(watch, moved(scribe.write(), 1, x=40.0))[0]
    first, second = scribe.write(), scribe.write()
    found = rules(PlausibilityWatch(), first, moved(second, 0, x=30.0, at_ns=second.fixes[0].at_ns + ns(10.0)))
    assert found[0] == set()
    assert Rule.UNREACHABLE in found[1]


def test_the_road_counts_and_not_the_straight_line():
    record = Scribe(R1).write()
    walled = PlausibilityWatch(lambda a, b: 3 * math.dist(a, b))
    assert rules(PlausibilityWatch(), record) == [set()]
    assert Rule.UNREACHABLE in rules(walled, record)[0]


def test_ways_too_short_too_long_and_too_fast_are_found():
    scribe = Scribe(R1)
    short = scribe.write(legs=scribe.write().legs[:1])
    assert rules(PlausibilityWatch(), short) == [{Rule.TOO_SHORT}]
    long = scribe.write(legs=tuple(leg.model_copy(update={"length_m": 2 * WAY_M}) for leg in short.legs))
    assert rules(PlausibilityWatch(math.dist), long) == [{Rule.TOO_FAST, Rule.TOO_LONG}]
    assert rules(PlausibilityWatch(), long) == [{Rule.TOO_FAST}]


def test_of_a_shared_way_the_length_says_nothing():
    scribe = Scribe(R1)
    record = scribe.write(legs=(), shared=True)
    assert rules(PlausibilityWatch(math.dist), record) == [set()]


def test_energy_beyond_the_counter_is_found_even_if_each_record_is_only_a_little_above():
    scribe = Scribe(R1)
    records = [scribe.write(energy_j=1.04 * ENERGY_J) for _ in range(5)]
    found = rules(PlausibilityWatch(), *records)
    assert found[0] == set()
    assert {Rule.OVERBILLED} in found


def test_a_counter_that_falls_is_found_and_one_that_begins_anew_with_the_robot_is_not():
    scribe, watch = Scribe(R1), PlausibilityWatch()
    assert rules(watch, scribe.write()) == [set()]
    scribe.drawn_j = 0.0
    assert rules(watch, scribe.write(), scribe.write()) == [set(), set()]
    assert Rule.COUNTER_FELL in rules(watch, moved(scribe.write(), 2, energy_out_j=0.0))[0]


def test_a_battery_that_does_not_empty_is_found():
    """Of 100 kJ, 4 kJ a record: after a few records a gauge that stands still is out by more than it may be."""
    scribe = Scribe(R1)
    found = rules(PlausibilityWatch(), *(scribe.write() for _ in range(4)), capacity_j=100_000.0)
    assert found[0] == set()
    assert Rule.SOC_DISAGREES in set().union(*found)


def test_charging_between_records_or_within_one_is_no_contradiction():
    scribe, watch = Scribe(R1), PlausibilityWatch()
    for k in range(20):
        soc = 0.8 - 0.04 * (k % 3)
        record = scribe.write(charged=k % 5 == 4)
        end = soc - 0.04 if not record.charged else 0.79
        record = moved(moved(moved(record, 0, soc=soc), 1, soc=min(soc, end)), 2, soc=end)
        assert rules(watch, record, capacity_j=100_000.0) == [set()]


def test_what_is_not_measured_is_not_judged():
    scribe = Scribe(R1)
    fixes = (Fix(x=0.0, y=0.0, at_ns=0), Fix(x=20.0, y=0.0, at_ns=ns(30.0)), Fix(x=0.0, y=0.0, at_ns=ns(TASK_S)))
    assert rules(PlausibilityWatch(), scribe.write(fixes=fixes)) == [set()]


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.floats(0.0, 3.0)), min_size=2, max_size=20))
def test_whoever_keeps_to_his_top_speed_is_never_accused(stops):
    """Parcels in pairs: the records of two contracts overlap, each with its own stops of one drive."""
    watch, at_s, last, drawn = PlausibilityWatch(), 0.0, (0.0, 0.0), 0.0
    fixes = [Fix(x=0.0, y=0.0, at_ns=0, soc=0.9, energy_out_j=0.0)]
    for x, y, slack in stops:
        at_s += math.dist(last, (x, y)) / SPEED + slack
        drawn, last = drawn + 10.0, (x, y)
        fixes.append(Fix(x=x, y=y, at_ns=ns(at_s), soc=0.9, energy_out_j=drawn))
    scribe = Scribe(R1)
    for k in range(len(fixes) - 2):
        three = (fixes[k], fixes[k + 1], fixes[k + 2])
        record = scribe.write(fixes=three, legs=(), shared=True, executed_s=1.0, energy_j=10.0)
        assert rules(watch, record) == [set()]
