"""Simulation time: it is followed, it never goes back, and when it stops, nothing is paid that was not done."""

import asyncio
import signal
import subprocess
import sys

import pytest
from market_process import Daemon, make_hall
from robot_stage import at, stage, until
from rosgraph_msgs.msg import Clock

from fleet_market.adapters.requests import Requester
from fleet_market.body import Link
from fleet_market.ids import CustomerId, OrderId
from fleet_market.protocol.messages import OrderReply, OrderState, PostOrder
from fleet_market_ros.clocks import RosClock, clock_of
from fleet_market_ros.interfaces import time_of
from fleet_market_ros.ros import Ros

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]
SPEED = 3.0


@pytest.fixture
async def world(files, mqtt_broker):
    """The simulator's process and a market that has its time."""
    fleet = (files / "fleet.yaml").read_text()
    daemon = Daemon(files, mqtt_broker, "--simulated")
    daemon.fleet.write_text(fleet)
    command = [
        sys.executable, "-m", "fleet_market_ros.simulator", "--fleet", files / "fleet.yaml", "--map", files / "hall.yaml",
        "--mqtt", at(mqtt_broker), "--speed", str(SPEED), "--seed", "1", "--out", files / "out",
    ]  # fmt: skip
    with daemon, (files / "simulator.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            await asyncio.to_thread(daemon.wait_ready)
            await until(lambda: "READY" in (files / "simulator.log").read_text())
            yield process
        finally:
            process.kill()
            process.wait()


async def test_a_robot_whose_time_stops_loses_its_job_is_not_paid_and_comes_back(world, files, mqtt_broker):
    more = {"driver": "base", "driver_settings.x": None, "driver_settings.y": None, "open_timeout_s": 20.0}
    async with stage(files, mqtt_broker, autostart=True, use_sim_time=True, **more) as it:
        await until(lambda: it.robot.node.label == "active")
        agent = it.robot.daemon.agent
        assert isinstance(it.robot.daemon._clock, RosClock)
        order = PostOrder(
            order=OrderId("t1"), pickup="dock", dropoff="shelf", payload_kg=2.0, deadline_s=900.0, max_price_uc=50_000_000
        )
        async with Requester(mqtt_broker.host, mqtt_broker.port, CustomerId("ann")) as ann:
            assert (await ann.ask("order", order, OrderReply)).result == "accepted"
            await until(lambda: agent.tasks and agent.situation.telemetry.vx > 0.3)
            world.send_signal(signal.SIGSTOP)
            stopped_ns = it.robot.daemon._clock.now_ns()
            await until(lambda: agent.situation.telemetry.link is Link.LOST)
            await until(lambda: agent.situation.job is None)
            assert it.robot.daemon._clock.now_ns() - stopped_ns < 10**9
            assert await it.state() == "active"
            assert (await ann.status("orders", OrderId("t1"))).orders[0].state is not OrderState.SETTLED
            world.send_signal(signal.SIGCONT)
            await until(lambda: agent.situation.telemetry.link is Link.UP)
            await until(lambda: not agent.situation.telemetry.moving or agent.tasks)
            ledger = await ann.status("ledger")
            assert ledger.sum_debits_uc == ledger.sum_credits_uc
            assert (await ann.status("robots")).robots[0].earned_uc == 0


async def test_ros_time_is_followed_and_never_goes_back(domain, tmp_path):
    make_hall(tmp_path)
    arguments = ["--ros-args", "-p", "use_sim_time:=true"]
    async with Ros("robot", arguments) as ros, Ros("simulator") as simulator:
        clock, ticks = clock_of(ros.node, None), simulator.publisher(Clock, "/clock")
        await until(lambda: ticks.get_subscription_count() == 1)
        assert clock.now_ns() == 0
        for told_s, wanted_s in ((5, 5), (7, 7), (3, 7), (8, 8)):
            ticks.publish(Clock(clock=time_of(told_s * 10**9)))
            await until(lambda told_s=told_s: ros.node.get_clock().now().nanoseconds == told_s * 10**9)
            assert clock.now_ns() == wanted_s * 10**9
