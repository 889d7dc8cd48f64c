"""A robot that Nav2 drives, and what goes wrong with one: real rclpy, a stand-in of Nav2 over PyBullet."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from market_process import FLEET, Daemon, cli, make_hall

from fleet_market.body import Act, End, Go, Job, Link, Pose
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.robot.situation import Situation
from fleet_market_hardware.drivers import DriverMissingError, DriverSetup, find

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]
ACTION = "nav2_msgs/action/NavigateToPose"
HASHES = {  # of the real package, as two public builds of Nav2 for Jazzy and Kilted have them
    ACTION: "RIHS01_a56dba8a3234a1215e610180dc703ae25bbf406dded8b54887891c9732857eab",
    f"{ACTION}_SendGoal": "RIHS01_a4fcb3bee1bf32e21a0e541a943b221aa0826996e2c98f079b47022b256f48b5",
    f"{ACTION}_GetResult": "RIHS01_c407920357d566771e8882b4ef4d1f1a84ee922d609920ccd57faa6d6e391dc5",
    f"{ACTION}_FeedbackMessage": "RIHS01_9d1f6fa2eb975ce733b419ac2e97b134d8ff92b6478b6559feed9a50bdfd82b3",
}


@contextlib.asynccontextmanager
async def opened(**settings):
    """A bench whose robot Nav2 drives, and an open driver of it."""
    from fleet_market_ros.simulated_bench import Nav2Bench

    async with Nav2Bench("nav2", settings) as bench:
        driver = bench.driver()
        await driver.open(timeout_s=60)
        try:
            yield bench, driver
        finally:
            await driver.close()


def go(path, released=None, **more):
    return Go(Pose(*path[-1]), tuple(path), len(path) if released is None else released, **more)


def begin(driver, *steps, deadline_s=80.0):
    return asyncio.ensure_future(driver.run(Job("j", steps), deadline_s=deadline_s))


async def at_speed(bench):
    while bench.world.state("bench-1").vx < 0.8:  # noqa: ASYNC110 - the physics has no event
        await asyncio.sleep(0.01)


async def test_a_corner_is_driven_through_and_the_robot_ends_in_the_wanted_heading(nav2_msgs):
    async with opened() as (bench, driver):
        path = [*bench.course, *((bench.course[-1][0], bench.course[-1][1] + 0.25 * i) for i in range(1, 7))]
        step = Go(Pose(*path[-1], 0.5), tuple(path), len(path), tol_rad=0.1)
        seen, job = [], begin(driver, step)
        while not job.done():
            await bench.pause(0.05)
            pose = bench.true_pose()
            seen.append(min(abs(pose.y - 3.0), abs(pose.x - path[-1][0])))
        assert job.result().end is End.DONE, job.result()
        assert max(seen) < 0.15  # never far from the path: it did not cut the corner
        assert abs(bench.true_pose().yaw - 0.5) < 0.15


async def test_more_release_is_taken_over_without_a_stop(nav2_msgs):
    async with opened() as (bench, driver):
        job = begin(driver, go(bench.course, released=10))
        await at_speed(bench)
        driver.release("j", len(bench.course))
        slowest = 9.0
        while bench.true_pose().x < bench.course[12][0]:
            await bench.pause(0.05)
            slowest = min(slowest, bench.world.state("bench-1").vx)
        assert (await job).end is End.DONE
        assert slowest > 0.3


async def test_a_goal_that_nav2_aborts_fails_with_its_words(nav2_msgs):
    async with opened() as (bench, driver):
        job = begin(driver, go(bench.course), Act("unload", "p", 1.0, 1.0))
        await at_speed(bench)
        bench.block(held=True)
        result = await job
        assert (result.end, result.steps_done, result.standstill) == (End.FAILED, 0, True)
        assert result.reason == "Nav2 aborted the goal: error 105: Failed to make progress"


async def test_a_goal_that_nav2_calls_reached_is_no_evidence(nav2_msgs):
    async with opened() as (bench, driver):
        job = begin(driver, go(bench.course))
        await at_speed(bench)
        bench.nav2._end("succeed")
        result = await job
        assert (result.end, result.steps_done) == (End.FAILED, 0)
        assert "Nav2 says that it is there" in result.reason


async def test_a_little_short_of_the_goal_is_not_there(nav2_msgs):
    async with opened() as (bench, driver):
        job = begin(driver, go(bench.course))
        while bench.true_pose().x < bench.course[-1][0] - 0.3:
            await bench.pause(0.05)
        bench.nav2._end("succeed")
        result = await job
        assert (result.end, result.steps_done, result.standstill) == (End.FAILED, 0, True)
        assert "m from the goal" in result.reason


async def test_a_dead_action_server_ends_in_lost_and_a_new_one_is_driven_again(nav2_msgs):
    from fleet_market_ros.nav2_stand_in import Nav2StandIn

    async with opened() as (bench, driver):
        job = begin(driver, go(bench.course))
        await at_speed(bench)
        limits = bench.nav2._limits
        bench.nav2.destroy()
        result = await job
        assert (result.end, result.steps_done, result.standstill) == (End.LOST, 0, None)
        assert driver.telemetry().link is Link.STALE
        assert "navigate_to_pose" in driver.telemetry().silent
        bench.nav2 = Nav2StandIn(bench.ros, bench.world, RobotId("bench-1"), limits, with_planner=False)
        async with asyncio.timeout(60):
            while driver.telemetry().link is not Link.UP:
                await bench.pause(0.1)
        assert (await begin(driver, go(bench.course))).end is End.DONE


async def test_a_goal_that_a_killed_driver_left_behind_is_cancelled_by_the_next_one(nav2_msgs):
    from fleet_market_ros.simulated_bench import Nav2Bench

    async with Nav2Bench("nav2") as bench:
        first, second = bench.driver(), bench.driver()
        await first.open(timeout_s=60)
        to_and_fro = (go(bench.course), go(bench.course[::-1]))
        job = begin(first, *to_and_fro * 4, deadline_s=300.0)
        await at_speed(bench)
        await second.open(timeout_s=60)
        result = await job  # of the first one, which plays dead: it has not cancelled anything
        assert (result.end, result.reason) == (End.FAILED, "Nav2 canceled the goal")
        assert await second.stop(timeout_s=10)
        at = bench.true_pose()
        await bench.pause(1.0)
        assert bench.true_pose().distance_to(at.x, at.y) < 0.05
        for driver in (first, second):
            await driver.close()


async def test_no_goal_is_sent_before_the_server_has_cancelled_those_of_before(nav2_msgs):
    from rclpy.task import Future

    async with opened() as (bench, driver):
        driver._nav2._cancelling = Future()
        result = await begin(driver, go(bench.course))
        assert (result.end, result.reason) == (End.LOST, "the navigation server does not answer")
        assert bench.nav2._goal is None
        driver._nav2._cancelling = answer = Future()
        job = begin(driver, go(bench.course))
        await bench.pause(0.5)
        assert bench.nav2._goal is None
        answer.set_result(None)
        assert (await job).end is End.DONE


async def test_simulation_time_that_stops_ends_in_lost(nav2_msgs):
    async with opened() as (bench, driver):
        job = begin(driver, go(bench.course))
        await at_speed(bench)
        bench._running.cancel()
        result = await job
        assert (result.end, result.steps_done, result.standstill) == (End.LOST, 0, None)
        assert driver.telemetry().link is Link.LOST
        assert not await driver.stop(timeout_s=0.5)


async def test_a_robot_that_is_not_sure_where_it_is_does_not_bid(nav2_msgs):
    async with opened(max_drift_m=1.0) as (bench, driver):
        known = driver.telemetry()
        assert known.pose.distance_to(bench.true_pose().x, bench.true_pose().y) < 0.02
        bench.nav2.speaks = False
        result = await begin(driver, go(bench.course))
        assert (result.end, result.reason) == (End.LOST, "the robot does not know where it is")
        lost = driver.telemetry()
        assert (lost.pose, lost.link) == (None, Link.UP)
        assert "amcl_pose" in lost.silent
        assert queue_of(known) is not None
        assert queue_of(lost) is None


def queue_of(telemetry):
    """What an agent with this telemetry prices: None if it asks for nothing."""
    situation = Situation(None, None)
    situation.telemetry = telemetry
    return situation.queue(0)


async def test_a_robot_that_was_never_localised_opens_and_has_no_pose(nav2_msgs):
    from fleet_market_ros.simulated_bench import Nav2Bench

    async with Nav2Bench("nav2") as bench:
        bench.nav2.sd_m = 0.8
        driver = bench.driver()
        await driver.open(timeout_s=60)
        assert driver.telemetry().pose is None
        bench.nav2.sd_m, bench.nav2._said = 0.03, None
        async with asyncio.timeout(60):
            while driver.telemetry().pose is None:
                await bench.pause(0.1)
        await driver.close()


async def test_a_robot_that_was_moved_while_no_driver_looked_is_localised_anew_before_it_has_a_pose(nav2_msgs):
    from fleet_market_ros.simulated_bench import Nav2Bench

    async with Nav2Bench("nav2") as bench:
        first = bench.driver()
        await first.open(timeout_s=60)
        assert (await begin(first, go(bench.course))).end is End.DONE
        await first.close()
        said = bench.nav2._said
        second = bench.driver()
        await second.open(timeout_s=60)
        async with asyncio.timeout(60):
            while second.telemetry().pose is None:
                await bench.pause(0.1)
        assert second.telemetry().pose.distance_to(bench.true_pose().x, bench.true_pose().y) < 0.02
        assert bench.nav2._said is not said, "it was asked to say it again"
        await second.close()


async def test_the_planner_says_how_long_a_way_is_and_nobody_says_without_one(nav2_msgs):
    from fleet_market_ros.nav2_stand_in import Nav2StandIn

    async with opened() as (bench, driver):
        limits = bench.nav2._limits
        start, goal = Pose(2.0, 3.0), Pose(5.0, 3.0)
        assert await driver.path_length_m(start, goal) == pytest.approx(3.0)
        ways = {"round about": [(2.0, 3.0), (2.0, 5.0), (5.0, 5.0), (5.0, 3.0)], "none": None}
        for way, length_m in (("round about", pytest.approx(7.0)), ("none", None)):
            bench.nav2._planner = lambda _start, _goal, way=way: ways[way]
            assert await driver.path_length_m(start, goal) == length_m
        bench.nav2.destroy()
        bench.nav2._plan.destroy()
        bench.nav2 = Nav2StandIn(bench.ros, bench.world, RobotId("bench-1"), limits, with_planner=False)
        async with asyncio.timeout(60):
            while driver._nav2.plan.server_is_ready():
                await bench.pause(0.1)
        assert await driver.path_length_m(start, goal) is None


async def test_no_server_is_told_with_the_name_it_should_have(nav2_msgs):
    from fleet_market_ros.simulated_bench import Nav2Bench

    async with Nav2Bench("nav2", {"navigate_to_pose": "elsewhere"}) as bench:
        driver = bench.driver()
        with pytest.raises(TimeoutError, match=r"no action server /bench_1/elsewhere within 2 s"):
            await driver.open(timeout_s=2)
        await driver.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pose_source": "gps"}, "use amcl_pose or tf"),
        ({"corridor": 1.0}, "no such setting"),
        ({"stuck_s": "long"}, "float"),
        ({"stuck_s": float("nan")}, "use a number above 0, as in 60.0"),
        ({"max_drift_m": 0.0}, "use a number above 0, as in 2.0"),
    ],
)
def test_bad_settings_are_refused(nav2_msgs, settings, text):
    from fleet_market.adapters.fleet_files import shipped_types

    with pytest.raises(InputError, match=text):
        find("nav2")(DriverSetup(RobotId("r1"), shipped_types()["carrier"], settings))


def test_without_the_message_package_it_is_said_how_to_get_it():
    program = (
        "from fleet_market_hardware.drivers import *; from fleet_market.adapters.fleet_files import shipped_types\n"
        "try: find('nav2')(DriverSetup('r1', shipped_types()['carrier']))\n"
        "except DriverMissingError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "apt install ros-$ROS_DISTRO-nav2-msgs" in done.stdout
    assert issubclass(DriverMissingError, ImportError)


def test_the_types_are_those_of_nav2(nav2_prefix):
    if nav2_prefix is None:
        pytest.skip("Nav2's own messages are installed")
    file = json.loads((nav2_prefix / "share/nav2_msgs/action/NavigateToPose.json").read_text())
    hashes = {one["type_name"]: one["hash_string"] for one in file["type_hashes"]}
    assert {name: hashes[name] for name in HASHES} == HASHES


async def test_the_hash_on_the_wire_is_that_of_nav2(nav2_msgs):
    async with opened() as (bench, _):
        (feedback,) = bench.ros.node.get_publishers_info_by_topic("/bench_1/navigate_to_pose/_action/feedback")
        shown = bytes(feedback.topic_type_hash.value).hex()
        assert f"RIHS0{feedback.topic_type_hash.version}_{shown}" == HASHES[f"{ACTION}_FeedbackMessage"]


def test_the_stub_refuses_to_stand_beside_the_real_package(tmp_path, monkeypatch):
    real = tmp_path / "share/ament_index/resource_index/packages"
    real.mkdir(parents=True)
    (real / "nav2_msgs").touch()
    program = Path(__file__).parent / "nav2_msgs_stub/building.py"
    env = {**os.environ, "AMENT_PREFIX_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, program, tmp_path / "out"], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0
    assert done.stdout == "the tests use the nav2_msgs that is installed here\n"
    assert not (tmp_path / "out").exists()


def test_cmake_refuses_it_too(tmp_path):
    packages = tmp_path / "real/share/ament_index/resource_index/packages"
    packages.mkdir(parents=True)
    (packages / "nav2_msgs").touch()
    env = {**os.environ, "AMENT_PREFIX_PATH": f"{tmp_path / 'real'}:{sys.prefix}", "CMAKE_PREFIX_PATH": sys.prefix}
    command = ["cmake", "-S", Path(__file__).parent / "nav2_msgs_stub", "-B", tmp_path / "build"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode != 0
    assert "use that one, and never this one beside it" in " ".join(done.stderr.split())


# --- the market ---------------------------------------------------------------------------------------------------------


class Process:
    """A program of the product, with a log that says when it is ready."""

    def __init__(self, folder, name, env, *command):
        self.file = folder / f"{name}.log"
        self.popen = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)], env=env, stdout=self.file.open("w"), stderr=subprocess.STDOUT
        )

    def is_ready(self):
        assert self.popen.poll() is None, self.file.read_text()
        return "READY" in self.file.read_text()

    def kill(self):
        self.popen.kill()
        self.popen.wait()


@pytest.fixture
def nav2_town(domain, tmp_path, mqtt_broker, nav2_environment, eventually, monkeypatch):
    """A market, a simulator whose robot has Nav2, and the robot's node with the driver nav2; the robot can be frozen."""
    env, at = {**os.environ, **nav2_environment}, f"{mqtt_broker.host}:{mqtt_broker.port}"
    with contextlib.ExitStack() as stack:
        market = Daemon(tmp_path / "market", mqtt_broker, "--simulated")
        make_hall(tmp_path / "market")
        fleet = tmp_path / "market/fleet.yaml"
        text = FLEET.replace("type: carrier}", "type: carrier, start: 2;4;0}")
        monkeypatch.setattr("market_process.FLEET", text)
        fleet.write_text(text)
        stack.enter_context(market).wait_ready()
        files = ("--fleet", fleet, "--map", tmp_path / "market/hall.yaml", "--mqtt", at)
        simulator = Process(
            tmp_path, "simulator", env, "fleet_market_ros.simulator", *files,
            "--nav2", "all", "--speed", "5", "--out", tmp_path / "out",
        )  # fmt: skip
        stack.callback(simulator.kill)
        eventually(simulator.is_ready)
        parameters = {
            "robot": "r1", "fleet": str(fleet), "map": str(tmp_path / "market/hall.yaml"), "mqtt": at, "driver": "nav2"
        }  # fmt: skip
        (tmp_path / "r1.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
        robot = Process(
            tmp_path, "robot", env, "fleet_market_ros.robot_agent",
            "--ros-args", "-r", "__ns:=/r1", "--params-file", tmp_path / "r1.yaml",
        )  # fmt: skip
        stack.callback(robot.kill)
        eventually(robot.is_ready)
        yield at, simulator


@pytest.mark.slow
def test_a_delivery_is_sold_to_a_nav2_robot_done_and_paid(nav2_town):
    at, _ = nav2_town
    access = ("--as", "ann", "--mqtt", at)
    cli("order", "post", "o1", "--pickup", "dock", "--dropoff", "shelf", "--payload", "4", "--max-price", "20", *access)

    last = json.loads(cli("order", "watch", "o1", "--json", *access).splitlines()[-1])
    assert (last["state"], last["robot"]) == ("settled", "r1")
    assert 0 < last["price_uc"] <= 20_000_000


@pytest.mark.slow
def test_nothing_is_paid_while_simulation_time_stands_still(nav2_town, eventually):
    at, simulator = nav2_town
    access = ("--as", "ann", "--mqtt", at)
    cli("order", "post", "o1", "--pickup", "dock", "--dropoff", "shelf", "--payload", "4", "--max-price", "20", *access)
    watch = [sys.executable, "-m", "fleet_market", "order", "watch", "o1", "--json", *access]
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as watching:
        states = []
        for line in watching.stdout:
            states.append(json.loads(line)["state"])
            if states[-1] == "executing":
                break
        simulator.popen.send_signal(signal.SIGSTOP)
        robot = simulator.file.with_name("robot.log")
        eventually(lambda: "LOST" in robot.read_text())
        simulator.popen.send_signal(signal.SIGCONT)
        rest = [json.loads(line) for line in watching.stdout]
    states += [view["state"] for view in rest]
    assert states.count("settled") <= 1
    assert watching.returncode == (0 if states[-1] == "settled" else 5)
    assert not json.loads(cli("ledger", "audit", "--database", simulator.file.parent / "market/market.db", "--json"))[
        "faults"
    ]
