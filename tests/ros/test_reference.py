"""The reference page of ROS 2."""

import ast
import re
from pathlib import Path

import pytest

from fleet_market_ros import reference

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ros_reference.md"


def test_the_page_is_up_to_date():
    mend = "run `python -m fleet_market_ros.reference docs/ros_reference.md`"
    assert PAGE.read_text() == reference.render(), mend


def test_every_module_that_opens_something_in_ros_is_described():
    described = {module for modules in reference.NODES.values() for module in modules}
    helpers = {"ros", "simulated_bench"}
    opens = re.compile(r"\bros\.(publisher|subscribe|serve|action_client)\(|\bActionServer\(")
    found = {f.stem for f in reference.HERE.glob("*.py") if opens.search(f.read_text())}
    assert found - helpers <= described


def test_topics_services_actions_and_their_qualities_are_read_from_calls():
    tree = ast.parse(
        "from std_msgs.msg import String\n"
        "def f(ros, kinds, space):\n"
        "    ros.publisher(String, f'{space}/said', qos.STATE)\n"
        "    ros.subscribe(String, 'heard', print, depth=1)\n"
        "    ros.serve(kinds.srv.PostTask, 'post', answer)\n"
        "    ActionServer(ros.node, kinds.action.ExecuteTask, 'do', execute)\n"
    )
    assert [(e.way, e.name, e.kind, e.qos) for e in reference.endpoints(tree)] == [
        ("publishes", "/ROBOT/said", "std_msgs/msg/String", "`STATE`"),
        ("subscribes", "heard", "std_msgs/msg/String", "reliable, volatile, 1"),
        ("service", "post", "fleet_market_msgs/srv/PostTask", ""),
        ("action", "do", "fleet_market_msgs/action/ExecuteTask", ""),
    ]


@pytest.mark.parametrize("node", ["robot_agent", "market_gateway", "oracle_view"])
def test_every_declared_parameter_is_on_the_page_with_its_meaning(node):
    module = pytest.importorskip(f"fleet_market_ros.{node}", reason="no ROS 2 here: `make setup` installs it from wheels")
    section = PAGE.read_text().split(f"## `{node}`\n")[1].split("\n## ")[0]
    for one in module.PARAMETERS:
        (row,) = [line for line in section.splitlines() if line.startswith(f"| `{one.name}` |")]
        assert one.about in row
        assert ("| yes |" in row) == one.live
