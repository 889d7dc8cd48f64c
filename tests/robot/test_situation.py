"""What a robot knows of itself when it is asked for a price."""

from dataclasses import replace

import pytest

from fleet_market.body import Battery, Link, Pose, Telemetry
from fleet_market.robot.situation import Situation

FRESH = Telemetry(1, 10**9, Link.UP, Pose(1.0, 2.0), battery=Battery(soc=0.5))


def queue_of(telemetry):
    situation = Situation(None, None)
    situation.telemetry = telemetry
    return situation.queue(2 * 10**9)


def test_a_robot_that_knows_where_it_is_prices_from_there():
    queue = queue_of(FRESH)
    assert (queue.pose, queue.soc) == (FRESH.pose, 0.5)


@pytest.mark.parametrize(
    "telemetry",
    [
        None,
        replace(FRESH, pose=None),
        replace(FRESH, battery=Battery()),
        replace(FRESH, link=Link.STALE),
        replace(FRESH, link=Link.LOST),
    ],
)
def test_a_robot_that_does_not_know_by_now_prices_nothing(telemetry):
    assert queue_of(telemetry) is None
