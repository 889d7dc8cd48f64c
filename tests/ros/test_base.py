"""A robot's base over real rclpy, against the real simulator process: PyBullet behind topics."""

import asyncio
import csv
import itertools
import json
import math
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import BatteryState, JointState
from std_msgs.msg import Float32, Float64, String

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.mqtt import MqttConfig, MqttTransport
from fleet_market.body import Act, End, Go, Job, Link, Pose
from fleet_market.ids import RobotId
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import decode
from fleet_market.robot.tracking import Limits
from fleet_market_hardware import Follower
from fleet_market_ros import discovery
from fleet_market_ros.base import RosVelocityBase
from fleet_market_ros.qos import EVENT
from fleet_market_ros.ros import Ros
from fleet_market_ros.simulated_base import DEAD_MAN_S

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning"),  # lark, which rclpy brings along
]

ROBOT, SPEED = RobotId("carrier-1"), 3.0
START, CHARGER = Pose(2.0, 4.0, 0.0), Pose(2.0, 2.0, 0.0)
FLEET = """
customers: {demo: 100}
chargers: ["2;2"]
robots: [{id: carrier-1, type: carrier, start: 2;4;0, soc: 0.5}]
"""
MAP = "image: hall.pgm\nresolution: 0.1\norigin: [0, 0, 0]\nnegate: 0\noccupied_thresh: 0.65\nfree_thresh: 0.25\n"
NAMESPACE = ("--ros-args", "-r", f"__ns:=/{ROBOT.ros_namespace}")
HEAVY = ("scipy", "numba", "matplotlib", "pybullet", "PIL", "numpy.random", "fleet_market_sim", "fleet_market.commons")
"""What a robot's node does without: it is there once per robot, and must stay small."""


class Simulator:
    """The simulator's process, in an empty hall of 10 m x 8 m."""

    def __init__(self, folder, broker):
        row = bytes([0] + [254] * 98 + [0])
        (folder / "hall.pgm").write_bytes(b"P5 100 80 255\n" + bytes(100) + row * 78 + bytes(100))
        (folder / "hall.yaml").write_text(MAP)
        (folder / "fleet.yaml").write_text(FLEET)
        self.kind = load_fleet(folder / "fleet.yaml").robots[0].type
        self.out, self._log = folder / "out", folder / "simulator.log"
        command = [
            sys.executable, "-m", "fleet_market_ros.simulator", "--fleet", folder / "fleet.yaml",
            "--map", folder / "hall.yaml", "--mqtt", f"{broker.host}:{broker.port}",
            "--speed", str(SPEED), "--seed", "1", "--out", self.out,
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def log(self):
        return self._log.read_text()

    def alive_and_ready(self):
        assert self.process.poll() is None, self.log()
        return "READY" in self.log()


@pytest.fixture
def simulator(domain, tmp_path, mqtt_broker, eventually):
    running = Simulator(tmp_path, mqtt_broker)
    try:
        eventually(running.alive_and_ready)
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@pytest.fixture
async def base(simulator):
    async with Ros("robot", NAMESPACE) as ros:
        connected = RosVelocityBase(ros, ROBOT, simulator.kind)
        await connected.open(timeout_s=60)
        await until(connected, lambda t: not t.silent and t.payload_kg is not None and t.battery.energy_out_j is not None)
        heard = (connected._station, connected._cmd_vel)  # what is said before anybody listens is lost
        await until(connected, lambda _: all(publisher.get_subscription_count() for publisher in heard))
        yield connected
        await connected.close()


@pytest.fixture
async def topics_of_a_base(domain):
    """A base and, on the other side of real topics, the test that plays its robot."""
    async with Ros("robot", NAMESPACE) as ros, Ros("body", NAMESPACE) as body:
        yield (
            ros,
            {
                name: body.publisher(kind, name)
                for name, kind in {
                    "odom": Odometry,
                    "joint_states": JointState,
                    "battery_state": BatteryState,
                    "energy_out": Float64,
                    "payload": Float32,
                }.items()
            },
        )


async def until(base, condition, within_s=60.0):
    """Follow the telemetry until the condition holds for it; return that snapshot."""
    async with asyncio.timeout(within_s):
        while not condition(seen := base.telemetry()):
            await base.next_telemetry(seen.seq, timeout_s=within_s)
    return seen


async def drive_until(base, condition, vx, wz=0.0, within_s=60.0):
    """Answer every snapshot with a command until the condition holds; return that snapshot."""
    async with asyncio.timeout(within_s):
        while not condition(seen := base.telemetry()):
            await base.drive(vx, wz, valid_s=0.3)
            await base.next_telemetry(seen.seq, timeout_s=within_s)
    return seen


def follower(base, kind):
    return Follower(base, Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps))


def line(*corners, spacing_m=0.25):
    """Points along straight lines between the corners."""
    points = [corners[0]]
    for (ax, ay), (bx, by) in itertools.pairwise(corners):
        n = math.ceil(math.hypot(bx - ax, by - ay) / spacing_m)
        points += [(ax + (bx - ax) * i / n, ay + (by - ay) * i / n) for i in range(1, n + 1)]
    return tuple(points)


def go(*corners):
    path = line(*corners)
    return Go(Pose(*path[-1]), path, len(path))


def odometry(stamp_s, vx=0.0):
    message = Odometry()
    message.header.stamp.sec, message.header.stamp.nanosec = int(stamp_s), round(stamp_s % 1 * 1e9)
    message.pose.pose.position.x, message.pose.pose.position.y = 1.5, -2.0
    message.pose.pose.orientation.z, message.pose.pose.orientation.w = math.sin(0.6), math.cos(0.6)
    message.twist.twist.linear.x = vx
    return message


async def test_a_delivery_is_driven_weighed_and_metered(base, simulator):
    before = base.telemetry()
    assert (before.pose.x, before.pose.y, before.pose.yaw) == pytest.approx((START.x, START.y, START.yaw), abs=0.01)
    assert before.payload_kg == 0.0
    there, back = [(2.0, 4.0), (6.0, 4.0), (6.0, 5.5)], [(6.0, 5.5), (3.0, 5.5)]
    steps = (go(*there), Act("load", "p", 7.0, 2.0), go(*back), Act("unload", "p", 7.0, 2.0))
    evidence = []
    result = await follower(base, simulator.kind).run(
        Job("j", steps), deadline_s=200, on_step=lambda _i, _text: evidence.append(base.telemetry())
    )
    assert (result.end, result.steps_done, result.standstill, result.reason) == (End.DONE, 4, True, "")
    assert [t.payload_kg for t in evidence] == [0.0, 7.0, 7.0, 0.0]
    for seen, goal in zip(evidence, [there[-1], there[-1], back[-1], back[-1]], strict=True):
        assert seen.pose.distance_to(*goal) <= 0.1
        assert not seen.moving
    stamps, energies = ([f(t) for t in [before, *evidence]] for f in (_stamp, _energy))
    assert stamps == sorted(set(stamps))
    assert energies == sorted(set(energies))
    drawn_w = (energies[-1] - energies[0]) / ((stamps[-1] - stamps[0]) / 1e9)
    assert 0.9 * simulator.kind.hotel_w < drawn_w < 5 * simulator.kind.hotel_w
    after = evidence[-1]
    assert after.odometer_m - before.odometer_m == pytest.approx(8.5, abs=0.3)
    assert after.battery.soc < before.battery.soc
    assert after.battery.voltage_v == pytest.approx(simulator.kind.battery.voltage_v, rel=0.05)
    assert -3 * simulator.kind.hotel_w < after.battery.voltage_v * after.battery.current_a < -0.9 * simulator.kind.hotel_w
    assert 15 < after.battery.temperature_c < 30
    assert {m.name for m in after.motors} == {"left", "right"}
    driven_m = sum(m.revolutions for m in after.motors) / 2 * math.tau * simulator.kind.wheel_radius_m
    assert driven_m == pytest.approx(8.5, abs=0.3)


def _stamp(telemetry):
    return telemetry.stamp_ns


def _energy(telemetry):
    return telemetry.battery.energy_out_j


async def test_the_base_stops_by_itself_soon_after_the_last_command(base, simulator):
    last = await drive_until(base, lambda t: t.vx > 0.5, vx=1.0)
    stopped = await until(base, lambda t: not t.moving)
    braking_s = last.vx / simulator.kind.max_accel_mps2
    late_s = 0.5
    assert (stopped.stamp_ns - last.stamp_ns) / 1e9 < DEAD_MAN_S + braking_s + late_s
    assert stopped.pose.distance_to(last.pose.x, last.pose.y) > 0.05


async def test_charging_fills_the_battery_and_ends_when_the_robot_drives(base, simulator):
    driver = follower(base, simulator.kind)
    away = await driver.run(Job("away", (Act("charge", seconds=2.0),)), deadline_s=60)
    assert away.end is End.DONE
    assert base.telemetry().battery.charging is False
    aim = base.telemetry().battery.soc + 0.001
    steps = (go((2.0, 4.0), (CHARGER.x, CHARGER.y)), Act("charge", seconds=2.0, until_soc=aim))
    result = await driver.run(Job("fill", steps), deadline_s=200)
    assert (result.end, result.reason) == (End.DONE, "")
    assert base.telemetry().battery.charging is True
    assert base.telemetry().battery.soc >= aim
    await drive_until(base, lambda t: t.battery.charging is False and t.moving, vx=0.3)


async def test_a_load_that_is_too_heavy_is_refused_and_the_job_fails(base, simulator):
    result = await follower(base, simulator.kind).run(Job("j", (Act("load", "p", 99.0, 1.0),)), deadline_s=60)
    assert (result.end, result.reason) == (End.FAILED, "load: the scale changed by 0.00 kg, not by 99.00 kg")
    assert "refused: carrier-1: mass_kg was 99.0: use 0 to 20 kg in all" in simulator.log()


@pytest.mark.parametrize(
    "request_text",
    [
        "no json",
        "[]",
        '{"kind": "load", "parcel": "p"}',
        '{"kind": "load", "parcel": "p", "mass_kg": "much"}',
        '{"kind": "load", "parcel": "p", "mass_kg": NaN}',
        '{"kind": "load", "parcel": "p", "mass_kg": 1e999}',
        '{"kind": "load", "parcel": "p", "mass_kg": -1}',
        '{"kind": "paint", "parcel": "p", "mass_kg": 0}',
    ],
)
async def test_nonsense_on_the_station_topic_is_logged_and_changes_nothing(base, simulator, eventually, request_text):
    base._station.publish(String(data=request_text))
    await asyncio.to_thread(eventually, lambda: "WARNING" in simulator.log())
    await base.act("load", parcel="q", mass_kg=2.0)
    assert (await until(base, lambda t: t.payload_kg != 0.0)).payload_kg == 2.0
    assert base.telemetry().pose.distance_to(START.x, START.y) < 0.01


async def test_a_command_that_is_no_number_is_not_driven(base, simulator, eventually):
    base._cmd_vel.publish(Twist(linear=base._cmd_vel.msg_type().linear.__class__(x=math.nan)))
    await asyncio.to_thread(eventually, lambda: "cmd_vel must be finite" in simulator.log())
    await drive_until(base, lambda t: t.vx > 0.3, vx=0.5)


async def test_a_dead_simulator_is_told_as_silence_and_ends_the_job_as_lost(base, simulator, eventually):
    driver = follower(base, simulator.kind)
    running = asyncio.ensure_future(driver.run(Job("j", (go((2.0, 4.0), (8.0, 4.0)),)), deadline_s=200))
    await until(base, lambda t: t.vx > 0.3)
    simulator.process.kill()
    await asyncio.to_thread(eventually, lambda: base.telemetry().link is Link.STALE)
    result = await running
    assert (result.end, result.steps_done, result.standstill) == (End.LOST, 0, None)
    await asyncio.to_thread(eventually, lambda: base.telemetry().link is Link.LOST)
    await asyncio.to_thread(eventually, lambda: base.telemetry().silent == ("odom", "joint_states", "battery_state"))
    assert base.telemetry().battery.soc is None
    with pytest.raises(TimeoutError):
        await base.next_telemetry(base.telemetry().seq, timeout_s=0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_simulator_with_trace_and_report(base, simulator, number):
    await drive_until(base, lambda t: t.pose.x > 2.5, vx=0.8)
    seen = base.telemetry()
    simulator.process.send_signal(number)
    assert await asyncio.to_thread(simulator.process.wait, 60) == 0, simulator.log()
    assert "Traceback" not in simulator.log()
    with (simulator.out / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["t_s", "robot", "x", "y", "yaw", "soc", "energy_out_j", "payload_kg"]
    times = [float(row["t_s"]) for row in rows]
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([0.2] * (len(times) - 1))
    assert {row["robot"] for row in rows} == {"carrier-1"}
    assert float(rows[0]["x"]) == pytest.approx(START.x, abs=0.01)
    assert float(rows[-1]["x"]) > 2.4
    report = json.loads((simulator.out / "simulation.json").read_text())
    assert report["sim_s"] >= seen.stamp_ns / 1e9 > 0
    assert report["wall_s"] > 0
    assert report["contacts"] == {"robot_robot": 0, "robot_wall": 0, "first": []}
    counters = report["robots"]["carrier-1"]
    assert counters["energy_out_j"] >= seen.battery.energy_out_j
    assert counters["odometer_m"] == pytest.approx(seen.odometer_m, abs=0.4)
    assert 0 < counters["soc"] < 0.5


async def test_the_market_hears_the_same_time_never_faster_than_was_asked(base, mqtt_broker):
    config = MqttConfig(mqtt_broker.host, mqtt_broker.port, "listener")
    ticks = []
    async with asyncio.timeout(60), MqttTransport(config, [(topics.CLOCK, 0)]) as transport:
        async for delivery in transport.deliveries():
            ticks.append((time.monotonic(), decode(delivery.payload).body.now_ns))
            if len(ticks) == 40:
                break
    times = [now_ns for _, now_ns in ticks]
    assert {b - a for a, b in itertools.pairwise(times)} == {100_000_000}
    (begun, first), (ended, last) = ticks[0], ticks[-1]
    catching_up_s = 0.2 * SPEED + 0.1
    assert (last - first) / 1e9 <= (ended - begun) * SPEED + catching_up_s
    assert (await until(base, lambda t: t.stamp_ns >= last)).stamp_ns >= last


async def test_without_a_base_opening_times_out(domain, tmp_path):
    kind = load_fleet(_fleet(tmp_path)).robots[0].type
    async with Ros("robot", NAMESPACE) as ros:
        base = RosVelocityBase(ros, ROBOT, kind)
        with pytest.raises(TimeoutError):
            await base.open(timeout_s=0.2)
        seen = base.telemetry()
        assert (seen.link, seen.pose, seen.battery.soc, seen.payload_kg) == (Link.LOST, None, None, None)


async def test_what_is_not_measured_is_none_and_old_odometry_is_no_news(topics_of_a_base, tmp_path, eventually):
    ros, body = topics_of_a_base
    base = RosVelocityBase(ros, ROBOT, load_fleet(_fleet(tmp_path)).robots[0].type)
    opening = asyncio.ensure_future(base.open(timeout_s=60))
    await asyncio.sleep(0)
    await asyncio.to_thread(eventually, lambda: all(p.get_subscription_count() for p in body.values()))
    await asyncio.to_thread(eventually, lambda: all(s.get_publisher_count() for s in sensors(ros)))
    body["odom"].publish(odometry(1.0))
    await opening
    seen = base.telemetry()
    assert (seen.link, seen.stamp_ns, seen.silent) == (Link.UP, 10**9, ("battery_state", "payload"))
    assert (seen.pose.x, seen.pose.y, seen.pose.yaw) == pytest.approx((1.5, -2.0, 1.2))
    assert (seen.payload_kg, seen.battery.energy_out_j, seen.motors) == (None, None, ())
    body["battery_state"].publish(BatteryState(percentage=math.nan, voltage=math.nan, current=-2.5, temperature=math.nan))
    body["payload"].publish(Float32(data=3.5))
    body["energy_out"].publish(Float64(data=12.0))
    body["joint_states"].publish(JointState(name=["left", "right"], position=[math.tau, math.nan], velocity=[2.0]))
    await asyncio.to_thread(eventually, lambda: not base.telemetry().silent and base.telemetry().battery.energy_out_j)
    await asyncio.to_thread(eventually, lambda: base.telemetry().payload_kg == 3.5)
    seen = base.telemetry()
    assert (seen.battery.soc, seen.battery.voltage_v, seen.battery.current_a) == (None, None, -2.5)
    assert [(m.revolutions, m.velocity_rad_s, m.torque_nm) for m in seen.motors] == [(1.0, 2.0, None), (None, None, None)]
    body["payload"].publish(Float32(data=math.nan))
    body["energy_out"].publish(Float64(data=math.nan))
    await asyncio.to_thread(eventually, lambda: base.telemetry().payload_kg is None)
    await asyncio.to_thread(eventually, lambda: base.telemetry().battery.energy_out_j is None)
    body["odom"].publish(odometry(0.5, vx=1.0))
    body["odom"].publish(odometry(1.5, vx=0.4))
    newer = await base.next_telemetry(seen.seq, timeout_s=60)
    assert (newer.seq, newer.stamp_ns, newer.vx, newer.moving) == (seen.seq + 1, 1_500_000_000, 0.4, True)
    assert newer.odometer_m == pytest.approx(0.4 * 0.5)


@pytest.mark.parametrize("field", ["x", "yaw", "vx", "wz"])
async def test_odometry_that_is_no_number_is_no_news(topics_of_a_base, tmp_path, field, eventually):
    ros, body = topics_of_a_base
    base, seen = RosVelocityBase(ros, ROBOT, load_fleet(_fleet(tmp_path)).robots[0].type), []
    opening = asyncio.ensure_future(base.open(timeout_s=60))
    await asyncio.to_thread(eventually, lambda: body["odom"].publish(odometry(1.0)) or opening.done())
    await opening
    base.on_odometry = lambda message, _odometer_m: seen.append(message.header.stamp.sec)
    bad = odometry(2.0, vx=1.0)
    at, twist = bad.pose.pose, bad.twist.twist
    part, name = {
        "x": (at.position, "x"), "yaw": (at.orientation, "w"), "vx": (twist.linear, "x"), "wz": (twist.angular, "z"),
    }[field]  # fmt: skip
    setattr(part, name, math.nan)
    body["odom"].publish(bad)
    body["odom"].publish(odometry(3.0, vx=1.0))
    await asyncio.to_thread(eventually, lambda: seen)
    assert seen == [3]
    assert base.telemetry().odometer_m == pytest.approx(2.0)


async def test_a_robot_without_wheel_angles_scale_and_meter_is_not_silent(
    topics_of_a_base, tmp_path, monkeypatch, eventually
):
    ros, body = topics_of_a_base
    kind = load_fleet(_fleet(tmp_path)).robots[0].type
    base = RosVelocityBase(ros, ROBOT, kind, scale=False, meter=False, battery_timeout_s=30.0)
    assert base.spec.measures == {"pose", "battery"}
    opening = asyncio.ensure_future(base.open(timeout_s=60))
    await asyncio.to_thread(eventually, lambda: body["odom"].publish(odometry(1.0)) or opening.done())
    await opening
    await asyncio.to_thread(eventually, body["battery_state"].get_subscription_count)
    body["battery_state"].publish(BatteryState(percentage=0.5))
    await asyncio.to_thread(eventually, lambda: base.telemetry().silent == ())
    now = time.monotonic()

    def silent_after(seconds):
        with monkeypatch.context() as later:
            later.setattr("fleet_market_ros.base.time", SimpleNamespace(monotonic=lambda: now + seconds))
            return base.telemetry().silent

    assert silent_after(29.0) == ("odom",), "a battery may speak every half a minute, and wheels never"
    assert silent_after(31.0) == ("odom", "battery_state")
    body["joint_states"].publish(JointState(name=["left"], position=[1.0]))
    await asyncio.to_thread(eventually, lambda: base.telemetry().motors)
    assert silent_after(29.0) == ("odom", "joint_states"), "they have been there"


async def test_a_base_may_want_its_velocity_stamped(topics_of_a_base, tmp_path, eventually):
    ros, body = topics_of_a_base
    kind, heard = load_fleet(_fleet(tmp_path)).robots[0].type, []
    base = RosVelocityBase(ros, ROBOT, kind, stamped=True)
    opening = asyncio.ensure_future(base.open(timeout_s=60))
    async with Ros("controller", NAMESPACE) as controller:
        controller.subscribe(TwistStamped, "cmd_vel", heard.append)
        await asyncio.to_thread(eventually, lambda: body["odom"].publish(odometry(1.0)) or opening.done())
        await opening
        await asyncio.to_thread(eventually, base._cmd_vel.get_subscription_count)
        await base.drive(0.5, -0.2, valid_s=0.3)
        await asyncio.to_thread(eventually, lambda: heard)
    (command,) = heard
    assert (command.twist.linear.x, command.twist.angular.z) == (0.5, -0.2)
    assert command.header.stamp.sec > 0


async def test_a_station_that_is_found_late_is_asked_all_the_same(domain, tmp_path, monkeypatch, eventually):
    monkeypatch.setattr("fleet_market_ros.base.STATION_S", 60.0)
    alone = ("--ros-args", "-r", "__ns:=/late")  # no station of another test is known here
    heard = []
    async with Ros("robot", alone) as ros, Ros("body", alone) as body:
        odom = body.publisher(Odometry, "odom")
        base = RosVelocityBase(ros, ROBOT, load_fleet(_fleet(tmp_path)).robots[0].type)
        opening = asyncio.ensure_future(base.open(timeout_s=60))
        await asyncio.to_thread(eventually, lambda: odom.publish(odometry(1.0)) or opening.done())
        await opening
        asking = asyncio.ensure_future(base.act("load", parcel="p", mass_kg=1.0))
        await asyncio.sleep(0)
        async with Ros("station", alone) as station:
            station.subscribe(String, "station", lambda message: heard.append(json.loads(message.data)), EVENT)
            await asking
            await asyncio.to_thread(eventually, lambda: heard)
    assert heard == [{"kind": "load", "parcel": "p", "mass_kg": 1.0}]


def sensors(ros):
    """The subscriptions of a base, which are best effort: what is said before they know the publisher is lost."""
    return [one for one in ros.node.subscriptions if not one.topic_name.endswith(("clock", "parameter_events"))]


def free_domain():
    with discovery.claimed_domain_id() as number:
        return number


async def test_a_domain_in_use_is_not_free(tmp_path, monkeypatch):
    domain = free_domain()
    for name, value in discovery.loopback_environment(domain, tmp_path).items():
        monkeypatch.setenv(name, value)
    async with Ros("somebody"):
        assert free_domain() != domain
    first = discovery.PORT_BASE + discovery.DOMAIN_GAIN * domain
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", first + 11))
        assert free_domain() != domain


async def test_a_claimed_domain_is_nobody_elses_and_its_nodes_come_up_in_it(tmp_path, monkeypatch, eventually):
    with discovery.claimed_domain_id() as ours, discovery.claimed_domain_id() as theirs:
        assert ours != theirs
        assert free_domain() not in {ours, theirs}
        for name, value in discovery.loopback_environment(ours, tmp_path).items():
            monkeypatch.setenv(name, value)
        async with Ros("one") as one, Ros("other") as other:
            heard = []
            one.subscribe(String, "/word", lambda message: heard.append(message.data))
            publisher = other.publisher(String, "/word")
            await asyncio.to_thread(eventually, publisher.get_subscription_count)
            publisher.publish(String(data="hello"))
            await asyncio.to_thread(eventually, lambda: heard == ["hello"])


def test_processes_that_look_at_the_same_time_find_different_domains(monkeypatch):
    found = set()
    for pid in (1000, 1030, 1060):
        monkeypatch.setattr(discovery.os, "getpid", lambda pid=pid: pid)
        found.add(free_domain())
    assert len(found) == 3


def test_when_every_domain_is_taken_it_says_so(monkeypatch):
    with discovery.claimed_domain_id() as taken:
        monkeypatch.setattr(discovery, "DOMAINS", range(taken, taken + 1))
        with pytest.raises(discovery.NoDomainError, match=f"domains {taken} to {taken} are all in use"):
            free_domain()


@pytest.fixture
def another(domain):
    """A domain that is neither `domain` nor another test's."""
    with discovery.claimed_domain_id() as number:
        yield number


async def test_messages_stay_on_the_loopback_interface_and_in_their_domain(domain, another, monkeypatch, eventually):
    heard = []
    async with Ros("speaker") as speaker, Ros("listener") as listener:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(another))
        async with Ros("stranger") as stranger:
            listener.subscribe(String, "/word", lambda message: heard.append(("listener", message.data)))
            stranger.subscribe(String, "/word", lambda message: heard.append(("stranger", message.data)))
            publisher = speaker.publisher(String, "/word")
            await asyncio.to_thread(eventually, publisher.get_subscription_count)
            publisher.publish(String(data="hello"))
            await asyncio.to_thread(eventually, lambda: heard)
            assert heard == [("listener", "hello")]
            assert publisher.get_subscription_count() == 1


def test_a_robots_node_does_not_import_what_is_heavy(domain):
    code = "import sys, fleet_market_ros.robot_agent; print([m for m in sys.argv[1:] if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


GENERATORS = ("rosidl_generator_py.generate_py_impl", "rosidl_pycommon", "lark", "em")
LOOK_INTO_A_NODE = """
import os, sys
from pathlib import Path
from fleet_market_ros import robot_agent

async def serve():
    async with robot_agent.RobotNode([]):
        threads = [Path(f"/proc/self/task/{n}/comm").read_text() for n in os.listdir("/proc/self/task")]
        print([m for m in sys.argv[1:] if sys.modules.get(m)], sum(name.startswith("dds.tls") for name in threads))

robot_agent.serve = serve
robot_agent.main()
"""


def test_a_robots_node_keeps_neither_generators_of_messages_nor_a_second_description_of_types(domain):
    command = [sys.executable, "-c", LOOK_INTO_A_NODE, *HEAVY, *GENERATORS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[] 0"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(["--speed", "9"], "--speed was 9.0: use 1 to 5"), (["--mqtt", "nowhere"], "use HOST:PORT")],
)
def test_a_wrong_option_ends_the_simulator_and_says_what_to_mend(tmp_path, options, complaint):
    row = bytes([0] + [254] * 98 + [0])
    (tmp_path / "hall.pgm").write_bytes(b"P5 100 80 255\n" + bytes(100) + row * 78 + bytes(100))
    (tmp_path / "hall.yaml").write_text(MAP)
    command = [sys.executable, "-m", "fleet_market_ros.simulator", "--fleet", _fleet(tmp_path), "--map",
               tmp_path / "hall.yaml", "--out", tmp_path / "out", *options]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert complaint in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def _fleet(folder):
    path = folder / "fleet.yaml"
    path.write_text(FLEET)
    return path
