"""A robot's node under test, and a node that speaks to it as ROS's tools do: real rclpy, a robot of arithmetic."""

import asyncio
import contextlib

import yaml
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters

from fleet_market_ros.robot_agent import RobotNode
from fleet_market_ros.ros import Ros

HOME = {"driver_settings.x": 2.0, "driver_settings.y": 4.0}


class Stage:
    """A node under test, and a node that speaks to it as ROS's tools do."""

    def __init__(self, robot, tools):
        self.robot, self.tools = robot, tools

    async def call(self, kind, name, request):
        client = self.tools.node.create_client(kind, name if name.startswith("/") else f"/r1/robot_agent/{name}")
        assert await asyncio.to_thread(client.wait_for_service, 60.0)
        done, loop = asyncio.get_running_loop().create_future(), asyncio.get_running_loop()
        calling = client.call_async(request)
        calling.add_done_callback(lambda c: loop.call_soon_threadsafe(done.set_result, c.result()))
        async with asyncio.timeout(60):
            answer = await done
        self.tools.node.destroy_client(client)
        return answer

    async def change(self, label):
        request = ChangeState.Request()
        request.transition.label = label
        return (await self.call(ChangeState, "change_state", request)).success

    async def state(self):
        return (await self.call(GetState, "get_state", GetState.Request())).current_state.label

    async def set(self, name, value):
        kinds = {bool: ("bool_value", 1), int: ("integer_value", 2), float: ("double_value", 3), str: ("string_value", 4)}
        field, kind = kinds[type(value)]
        one = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
        return (await self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[one]))).results[0]


@contextlib.asynccontextmanager
async def stage(folder, broker, namespace="/r1", **more):
    """Start a node with the usual parameters and those in `more`; a value of None leaves one out."""
    values = {
        "robot": "r1", "fleet": str(folder / "fleet.yaml"), "map": str(folder / "hall.yaml"), "mqtt": at(broker),
        "driver": "toy", "autostart": False, "open_timeout_s": 30.0, **HOME, **more,
    }  # fmt: skip
    given = {name: value for name, value in values.items() if value is not None}
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump({"/**": {"ros__parameters": given}}))
    arguments = ["--ros-args", "-r", f"__ns:={namespace}", "--params-file", str(file)]
    async with RobotNode(arguments) as robot, Ros("tools") as tools:
        running = asyncio.create_task(robot.run())
        try:
            yield Stage(robot, tools)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


def at(broker):
    return f"{broker.host}:{broker.port}"


async def until(condition, within_s=60.0):
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)
