"""What tests with real nodes share."""

import pytest

from fleet_market_ros import discovery


@pytest.fixture
def domain(tmp_path, monkeypatch):
    """A ROS domain of this test's own, on the loopback interface."""
    number = discovery.free_domain_id()
    for name, value in discovery.loopback_environment(number, tmp_path / "ros").items():
        monkeypatch.setenv(name, value)
    return number
