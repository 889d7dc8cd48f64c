"""A ROS domain of a test's own, the files of a fleet of one robot of arithmetic, and Nav2's messages."""

import pytest
from market_process import FLEET, make_hall
from nav2_messages import nav2_environment, nav2_msgs, nav2_prefix

from fleet_market_hardware import drivers
from fleet_market_ros import discovery

__all__ = ["nav2_environment", "nav2_msgs", "nav2_prefix"]
HASTY = "types: {hasty: {like: carrier, handling_s: 0.2}}\n"


@pytest.fixture
def domain(tmp_path, monkeypatch):
    """A ROS domain of this test's own, on the loopback interface."""
    with discovery.claimed_domain_id() as number:
        for name, value in discovery.loopback_environment(number, tmp_path / "ros").items():
            monkeypatch.setenv(name, value)
        yield number


@pytest.fixture
def files(tmp_path, domain, monkeypatch):
    """A fleet of one robot in a hall, and the toy driver under its name."""
    monkeypatch.setitem(drivers.BUILT_IN, "toy", "toy_driver:driver")
    monkeypatch.setitem(drivers.ABOUT, "toy", "a robot of arithmetic")
    fleet = make_hall(tmp_path)
    fleet.write_text(HASTY + FLEET.replace("type: carrier}", "type: hasty, start: 2;4;0}"))
    return tmp_path
