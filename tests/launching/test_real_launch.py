"""The launch files under ROS's own launch tool, where it is installed: it comes with a ROS distribution, not as a wheel."""

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fleet_market.adapters import mosquitto
from fleet_market_ros import discovery

pytestmark = [pytest.mark.real, pytest.mark.alone]
ROOT = Path(__file__).parents[2]
FLEET = ROOT / "launch/fleets/warehouse.yaml"
ASK_STATE = """
import sys
import rclpy
from lifecycle_msgs.srv import GetState
rclpy.init()
node = rclpy.create_node("asks")
client = node.create_client(GetState, f"/{sys.argv[1]}/robot_agent/get_state")
found = ""
if client.wait_for_service(timeout_sec=5):
    answer = client.call_async(GetState.Request())
    rclpy.spin_until_future_complete(node, answer, timeout_sec=5)
    found = answer.result().current_state.label if answer.done() else ""
print(found)
node.destroy_node()
rclpy.shutdown()
"""


def absent():
    """Return which part of the real tool is missing, "" if it is all there; modules of the recorder do not count."""
    for name in ("launch", "launch_ros"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or "launch_stand_in" in found.origin:
            return f"the package {name}"
    return "" if shutil.which("ros2") else "the command ros2"


@pytest.fixture(autouse=True)
def _tool():
    if missing := absent():
        pytest.skip(f"{missing} is not installed: it comes with ROS 2 (apt install ros-jazzy-ros-base), not as a wheel")


@pytest.fixture
def environment(tmp_path):
    """A ROS domain of this test's own."""
    with discovery.claimed_domain_id() as domain:
        yield os.environ | discovery.loopback_environment(domain, tmp_path / "ros")


def show_arguments(name):
    command = ["ros2", "launch", str(ROOT / "launch" / f"{name}.launch.py"), "--show-args"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)


@pytest.mark.parametrize("name", ["market", "fleet", "sim"])
def test_the_tool_lists_every_argument_with_what_it_is(name):
    done = show_arguments(name)
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert "'fleet':" in told
    assert "Fleet file: zone, terms, customers, places, robots." in told
    assert "no description given" not in told


@pytest.mark.timeout(240)
async def test_a_simulated_fleet_of_two_is_launched_becomes_active_and_ends_by_one_sigint(tmp_path, environment):
    fleet = yaml.safe_load(FLEET.read_text())
    fleet["map"], fleet["robots"] = str(ROOT / "launch/maps/warehouse.yaml"), fleet["robots"][:2]
    file, out = tmp_path / "two.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(fleet))
    command = ["ros2", "launch", str(ROOT / "launch/sim.launch.py"), f"fleet:={file}", f"out:={out}", "speed:=3.0"]
    command.append(f"mqtt:=127.0.0.1:{mosquitto.free_port()}")
    with (tmp_path / "told").open("wb") as told:
        launched = await asyncio.create_subprocess_exec(*command, env=environment, cwd=ROOT, stdout=told, stderr=told)
    try:
        for robot in ("carrier_1", "carrier_2"):
            async with asyncio.timeout(90):
                while await state(robot, environment) != "active":
                    assert launched.returncode is None, (tmp_path / "told").read_text()
        launched.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            await launched.wait()
    finally:
        if launched.returncode is None:
            launched.kill()
            await launched.wait()
    assert json.loads(await asyncio.to_thread((out / "simulation.json").read_text))["sim_s"] > 0


async def state(robot, environment):
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASK_STATE, robot, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(asking.communicate(), 30)
    return told.decode().strip()
