"""Six robots on one lane, in the physics; half an hour of it is the benchmark's."""

from benchmarks import _hall_ways, right_of_way


def test_robots_pass_a_one_lane_corridor_without_touching_anything_and_all_get_on():
    shift = right_of_way.run(minutes=3.0, seed=0)
    assert (shift.robot_robot, shift.robot_wall) == (0, 0), shift.notes
    assert shift.locked == 0
    assert shift.longest_wait_s < right_of_way.DEADLOCK_S
    assert shift.trips >= 12
    assert shift.nearest_m > 2 * 0.3


def test_what_a_way_costs_is_measured_on_requests_that_are_all_served():
    hall = _hall_ways.Hall(10, seed=1001)
    hall.run(12)
    assert len(hall.cpu_ms) == 12
    assert min(hall.cpu_ms) > 0
    assert all(robot.route is None or robot.route.served for robot in hall.robots.values())
    median, tail = _hall_ways.ways_rows(1001, requests=4)
    assert 0 < median.value <= tail.value
