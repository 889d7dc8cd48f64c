"""Several robots in one process."""

import asyncio
import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.exceptions import InvalidHandle
from robot_stage import Stage, at, until
from std_msgs.msg import Float64

from fleet_market_ros.composed import arguments_of, options_of, serve
from fleet_market_ros.robot_agent import RobotNode
from fleet_market_ros.ros import Host, Ros

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]
NAMES = ["r1", "r2", "r3"]
HEAVY = ("scipy", "numba", "matplotlib", "pybullet", "fleet_market_sim")


@pytest.fixture
def parameters(files, mqtt_broker):
    """One parameter file for three robots."""
    robots = [{"id": name, "type": "carrier", "start": f"{2 * i + 1};4;0"} for i, name in enumerate(NAMES)]
    fleet = yaml.safe_load((files / "fleet.yaml").read_text())
    (files / "fleet.yaml").write_text(yaml.safe_dump(fleet | {"robots": robots}))
    values = {
        "fleet": str(files / "fleet.yaml"), "map": str(files / "hall.yaml"), "mqtt": at(mqtt_broker), "driver": "toy",
    }  # fmt: skip
    file = files / "all.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return file


@pytest.mark.parametrize("executor", ["single", "events"])
async def test_each_has_its_namespace_and_all_become_active(parameters, executor):
    options = options_of(["--robots", *NAMES, "--parameters", str(parameters), "--executor", executor])
    states = {}
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # far fewer threads than robots

    def told(message):
        states.update({one.name: one.message for one in message.status})

    async with Ros("tools") as tools:
        tools.subscribe(DiagnosticArray, "/diagnostics", told)
        running = asyncio.create_task(serve(options))
        await until(lambda: states == {f"/{name}/robot_agent: market": "idle" for name in NAMES})
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest.mark.parametrize("executor", ["single", "events"])
@pytest.mark.parametrize(
    "error", [InvalidHandle("destroyed meanwhile"), ValueError("a callback's own fault")], ids=lambda e: type(e).__name__
)
async def test_an_error_in_rclpys_thread_leaves_no_node_deaf(domain, executor, error):
    raised, answered = [], []

    def fail():
        raised.append(error)
        raise error

    async with Host([], executor) as host, Ros("one", host=host) as one, Ros("other", host=host) as other:
        timer = one.node.create_timer(0.02, fail)
        await until(lambda: raised)
        other.subscribe(Float64, "/heard", answered.append)
        speaker = one.publisher(Float64, "/heard")
        await until(lambda: speaker.get_subscription_count() == 1)
        speaker.publish(Float64(data=1.0))
        await until(lambda: answered)
        one.node.destroy_timer(timer)


@pytest.mark.parametrize("executor", ["single", "events"])
async def test_one_of_them_changes_its_state_alone(parameters, executor):
    async with Host([], executor) as host, Ros("tools") as tools, contextlib.AsyncExitStack() as stack:
        robots = [
            await stack.enter_async_context(RobotNode(arguments_of(options, parameters), host=host))
            for options in options_of(["--robots", *NAMES, "--parameters", str(parameters)]).robots
        ]
        running = [asyncio.create_task(robot.run()) for robot in robots]
        await until(lambda: all(robot.node.label == "active" for robot in robots))
        it = Stage(robots[1], tools)
        request = ChangeState.Request()
        request.transition.label = "deactivate"
        assert (await it.call(ChangeState, "/r2/robot_agent/change_state", request)).success
        for name, label in zip(NAMES, ["active", "inactive", "active"], strict=True):
            answer = await it.call(GetState, f"/{name}/robot_agent/get_state", GetState.Request())
            assert answer.current_state.label == label
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--robots", "r 1"], "--robots was 'r 1'"),
        (["--robots", "r1", "r1"], "--robots was '2 names': name at most 1000 robots, each once"),
        (["--robots", "r1", "--parameters", "nowhere"], "--parameters was 'nowhere': no such file"),
        (["--robots", "r1", "r2", "r3", "--parameters", "a", "b"], "give one file, or one for each of the 3 robots"),
    ],
)
def test_a_wrong_command_line_is_refused(tmp_path, given, says):
    if "--parameters" not in given:
        given = [*given, "--parameters", "x"]
    command = [sys.executable, "-m", "fleet_market_ros.composed", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_nodes_do_not_import_what_is_heavy():
    code = "import sys, fleet_market_ros.composed as _; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
