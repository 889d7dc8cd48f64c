"""Several robots in one process: for simulation, where a process per robot costs too much. Real robots have one each.

``python -m fleet_market_ros.composed --robots ID [ID ...] --parameters FILE [FILE ...] [--executor single]``; with one
file for all robots, its parameter `robot` is set to each id in turn. Every robot has a node in its own namespace
``/ID``, all share one ROS context, one executor, one thread and one event loop. `docs/ros_nodes.md` says what that costs.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market_ros.memory import leave_out_generators, share_one_heap
from fleet_market_ros.robot_agent import RobotNode
from fleet_market_ros.ros import EXECUTORS, Host
from fleet_market_ros.running import run_node

log = logging.getLogger("composed")

MAX_ROBOTS = 1000


async def serve(options: argparse.Namespace) -> None:
    """Run all robots until cancelled."""
    async with Host([], options.executor) as host, asyncio.TaskGroup() as tasks:
        for number, name in enumerate(options.robots):
            file = options.parameters[number % len(options.parameters)]
            tasks.create_task(_one(RobotNode(arguments_of(name, file), host=host)), name=name)


async def _one(robot: RobotNode) -> None:
    async with robot:
        await robot.run(lambda name: log.info("READY %s", name))


def arguments_of(name: RobotId, parameters: Path) -> list[str]:
    """Return the ROS arguments of one robot."""
    space = f"__ns:=/{name.ros_namespace}"
    return ["--ros-args", "-r", space, "--params-file", str(parameters), "-p", f"robot:={name}"]


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command line, checked.

    Raises
    ------
    InputError
        If an id is none, or a file is not there.
    """
    parser = argparse.ArgumentParser(prog="composed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--robots", nargs="+", required=True, metavar="ID", help="ids in the fleet file")
    parser.add_argument(
        "--parameters", nargs="+", required=True, type=Path, metavar="FILE", help="one for all, or one each"
    )
    parser.add_argument("--executor", choices=EXECUTORS, default="events")
    options = parser.parse_args(arguments)
    try:
        options.robots = [RobotId(name) for name in options.robots]
    except ValueError as error:
        raise InputError("command line", "--robots", " ".join(options.robots), str(error)) from None
    if len(options.robots) > MAX_ROBOTS or len(set(options.robots)) < len(options.robots):
        mend = f"name at most {MAX_ROBOTS} robots, each once"
        raise InputError("command line", "--robots", f"{len(options.robots)} names", mend)
    if len(options.parameters) not in {1, len(options.robots)}:
        mend = f"give one file, or one for each of the {len(options.robots)} robots"
        raise InputError("command line", "--parameters", len(options.parameters), mend)
    for file in options.parameters:
        if not file.is_file():
            raise InputError("command line", "--parameters", str(file), "no such file: name a ROS parameter file")
    return options


def main() -> None:
    """Run until SIGINT or SIGTERM."""
    share_one_heap()
    leave_out_generators()
    run_node(lambda: serve(options_of(sys.argv[1:])))


if __name__ == "__main__":
    main()
