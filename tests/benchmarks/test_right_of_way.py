"""Six robots on one lane, in the physics; half an hour of it is the benchmark's."""

from benchmarks import right_of_way


def test_robots_pass_a_one_lane_corridor_without_touching_anything_and_all_get_on():
    shift = right_of_way.run(minutes=3.0, seed=0)
    assert (shift.robot_robot, shift.robot_wall) == (0, 0), shift.notes
    assert shift.locked == 0
    assert shift.longest_wait_s < right_of_way.DEADLOCK_S
    assert shift.trips >= 12
    assert shift.nearest_m > 2 * 0.3
