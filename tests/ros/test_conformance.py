"""The drivers over ROS keep the contract: real rclpy, PyBullet behind the topics."""

import pytest

from fleet_market.testing.conformance import ROWS, check
from fleet_market_ros.simulated_bench import base_bench

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_base_keeps_the_contract(row):
    outcome = await check(row, base_bench)
    assert outcome.verdict == "kept", outcome.text


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_nav2_keeps_the_contract(row, nav2_msgs):
    from fleet_market_ros.simulated_bench import nav2_bench

    outcome = await check(row, nav2_bench)
    assert outcome.verdict == ("skipped" if "base" in row.needs else "kept"), outcome.text
