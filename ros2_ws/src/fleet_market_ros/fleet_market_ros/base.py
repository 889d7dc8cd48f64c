"""A mobile base behind ROS topics, as the fleet market's drivers see it.

Topics, in the node's namespace::

    odom           nav_msgs/Odometry           in    pose in the map frame, twist
    joint_states   sensor_msgs/JointState      in    drive wheels: position, velocity, effort (where there are any)
    battery_state  sensor_msgs/BatteryState    in    percentage, voltage, current, status
    energy_out     std_msgs/Float64            in    energy drawn from the battery so far, J (where there is a meter)
    payload        std_msgs/Float32            in    kilograms on the robot's scale (where there is one)
    cmd_vel        geometry_msgs/Twist         out   the base brakes by itself when this stops; with the setting
                                                     `stamped` a geometry_msgs/TwistStamped
    station        std_msgs/String             out   JSON: load, unload or charge, for the station at which the robot stands
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.publisher import Publisher
from sensor_msgs.msg import BatteryState, JointState
from std_msgs.msg import Float32, Float64, String

from fleet_market.body import Battery, DriverSpec, Fault, Link, Motor, Pose, RobotType, Telemetry
from fleet_market.ids import RobotId
from fleet_market.robot.tracking import Limits
from fleet_market_hardware.counters import Rising
from fleet_market_hardware.drivers import DriverSetup, settings_of
from fleet_market_hardware.follower import Follower
from fleet_market_ros import qos
from fleet_market_ros.ros import Ros

STALE_S, LOST_S = 0.5, 2.0
"""Odometry this old (wall time) makes the link stale, or lost."""
SILENT_S, BATTERY_SILENT_S = 3.0, 10.0
"""A source that has not spoken for this long (wall time) is silent; many a battery speaks only every few seconds.

A scale is silent only until it has spoken once."""
STATION_S, POLL_S = 5.0, 0.05
"""How long a station is waited for (wall time)."""
MOVING_MPS, MOVING_RADPS = 0.02, 0.05
SETTINGS: dict[str, Any] = {"scale": True, "meter": True, "battery_timeout_s": BATTERY_SILENT_S}
"""Of every driver over these topics."""
SICK = {
    BatteryState.POWER_SUPPLY_HEALTH_OVERHEAT: "too hot",
    BatteryState.POWER_SUPPLY_HEALTH_DEAD: "dead",
    BatteryState.POWER_SUPPLY_HEALTH_OVERVOLTAGE: "overvoltage",
    BatteryState.POWER_SUPPLY_HEALTH_UNSPEC_FAILURE: "has failed",
    BatteryState.POWER_SUPPLY_HEALTH_WATCHDOG_TIMER_EXPIRE: "its watchdog has expired",
    BatteryState.POWER_SUPPLY_HEALTH_SAFETY_TIMER_EXPIRE: "its safety timer has expired",
}
"""What of ``power_supply_health`` a robot cannot work under."""
DEFAULTS: dict[str, Any] = {**SETTINGS, "stamped": False}
"""Settings of the driver `base`."""
LEAST_HEALTH, MOST_HEALTH = 0.05, 1.5
"""Capacities of another ratio are not believed [assumption]."""


class RosVelocityBase:
    """Implements `fleet_market.ports.VelocityBase` over the topics of one robot.

    Parameters
    ----------
    ros : Ros, optional
        The node to speak through, in the robot's namespace; without one the base has a node of its own while it is open.
    robot : RobotId
    kind : RobotType
    scale : bool
        Whether the robot weighs what it carries: then a load that its scale does not show is none.
    meter : bool
        Whether it counts the energy from its battery on ``energy_out``: only then energy is learned.
    battery_timeout_s : float
        A battery that has not spoken for this long (wall time) is silent.
    actions : set of str
        What the stations do for it, of load, unload and charge.
    drives : bool
        Whether it is told its velocity; else there is no ``cmd_vel``.
    stamped : bool
        Whether ``cmd_vel`` is a TwistStamped, as the controllers of ros2_control want it since Jazzy.
    """

    def __init__(
        self,
        ros: Ros | None,
        robot: RobotId,
        kind: RobotType,
        *,
        scale: bool = True,
        meter: bool = True,
        battery_timeout_s: float = BATTERY_SILENT_S,
        actions: frozenset[str] = frozenset({"load", "unload", "charge"}),
        drives: bool = True,
        stamped: bool = False,
    ) -> None:
        optional = {"payload": scale, "energy": meter}
        self.spec = DriverSpec(
            robot_id=robot,
            max_speed_mps=kind.max_speed_mps,
            max_payload_kg=kind.max_payload_kg,
            actions=actions,
            measures=frozenset({"pose", "battery"} | {name for name, there in optional.items() if there}),
        )
        self.on_odometry: Callable[[Odometry, float], None] = lambda _message, _odometer_m: None
        """Is shown all odometry that is news, with the way driven so far, metres."""
        self._ros, self._owns_node = ros, ros is None
        self._drives, self._stamped = drives, stamped
        self._silent_s = {"odom": SILENT_S, "joint_states": SILENT_S, "battery_state": battery_timeout_s}
        self._silent_s |= {"payload": math.inf} if scale else {}
        self._heard: dict[str, float] = {}
        self._news = asyncio.Event()
        self._odom: Odometry | None = None
        self._seq = 0
        self._odometer_m = 0.0
        self._stamp_ns = 0
        self._motors: tuple[Motor, ...] = ()
        self._battery = Battery()
        self._faults: tuple[Fault, ...] = ()
        self._energy = Rising()
        self._energy_j: float | None = None
        self._payload_kg: float | None = None
        self._cmd_vel: Publisher | None = None
        self._station: Publisher | None = None
        self._is_subscribed = False

    @property
    def ros(self) -> Ros:
        """The node, while the base is open."""
        if self._ros is None:
            raise RuntimeError("the base is not open")
        return self._ros

    @property
    def is_open(self) -> bool:
        """Whether it has a node."""
        return self._ros is not None

    async def open(self, *, timeout_s: float) -> None:
        """Subscribe; returns once odometry has come, else raises `TimeoutError`."""
        if self._ros is None:
            robot = self.spec.robot_id
            self._ros = await Ros(f"driver_{robot.ros_namespace}", own_namespace(robot)).__aenter__()
        if not self._is_subscribed:
            self._is_subscribed = True
            if self._drives and self._stamped:
                self._cmd_vel = self._ros.publisher(TwistStamped, "cmd_vel", qos.COMMAND)
            elif self._drives:
                self._cmd_vel = self._ros.publisher(Twist, "cmd_vel", qos.COMMAND)
            self._station = self._ros.publisher(String, "station", qos.EVENT)
            self._ros.subscribe(Odometry, "odom", self._on_odom, qos.SENSOR_IN)
            self._ros.subscribe(JointState, "joint_states", self._on_joints, qos.SENSOR_IN)
            self._ros.subscribe(BatteryState, "battery_state", self._on_battery, qos.SENSOR_IN)
            self._ros.subscribe(Float64, "energy_out", self._on_energy, qos.SENSOR_IN)
            self._ros.subscribe(Float32, "payload", self._on_payload, qos.SENSOR_IN)
        try:
            await self.next_telemetry(self._seq, timeout_s=timeout_s)
        except TimeoutError:
            raise TimeoutError(
                f"no odometry on {self._ros.node.resolve_topic_name('odom')} within {timeout_s:g} s"
            ) from None

    async def close(self) -> None:
        """Stop the base; a node of its own ends."""
        self._command(0.0, 0.0)
        if self._owns_node and self._ros is not None:
            ros, self._ros, self._cmd_vel, self._station = self._ros, None, None, None
            self._is_subscribed = False
            await ros.__aexit__(None, None, None)

    def telemetry(self) -> Telemetry:
        """Return the newest snapshot."""
        now = time.monotonic()
        age_s = now - self._heard.get("odom", -math.inf)
        link = Link.UP if age_s < STALE_S else Link.STALE if age_s < LOST_S else Link.LOST
        silent = tuple(name for name, limit_s in self._silent_s.items() if self._is_silent(name, now - limit_s))
        pose, vx, wz = None, None, None
        if self._odom is not None:
            at, turned = self._odom.pose.pose.position, self._odom.pose.pose.orientation
            pose = Pose(at.x, at.y, 2 * math.atan2(turned.z, turned.w))
            vx, wz = self._odom.twist.twist.linear.x, self._odom.twist.twist.angular.z
        return Telemetry(
            seq=self._seq,
            stamp_ns=self._stamp_ns,
            link=link,
            pose=pose,
            vx=vx,
            wz=wz,
            odometer_m=self._odometer_m,
            battery=Battery() if "battery_state" in silent else self._with_energy(),
            motors=self._motors,
            payload_kg=self._payload_kg,
            moving=abs(vx or 0.0) > MOVING_MPS or abs(wz or 0.0) > MOVING_RADPS,
            silent=silent,
            faults=() if "battery_state" in silent else self._faults,
        )

    async def next_telemetry(self, after: int, *, timeout_s: float) -> Telemetry:
        """Wait for a snapshot with `seq` greater than `after`; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while self._seq <= after:
                self._news.clear()
                await self._news.wait()
        return self.telemetry()

    async def drive(self, vx: float, wz: float, *, valid_s: float) -> None:  # noqa: ARG002 - the base knows its dead-man
        """Send a velocity; the base brakes by itself when commands stop."""
        self._command(vx, wz)

    async def act(self, kind: str, *, parcel: str, mass_kg: float) -> None:
        """Ask the station at which the robot stands for an action; one not yet there is waited for, `STATION_S` long.

        A robot may act as soon as it is open, and what is said before anybody listens is lost.
        """
        if self._station is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATION_S):
                    while self._station.get_subscription_count() == 0:  # noqa: ASYNC110 - ROS has no event of it
                        await asyncio.sleep(POLL_S)
            self._station.publish(String(data=json.dumps({"kind": kind, "parcel": parcel, "mass_kg": mass_kg})))

    def _is_silent(self, name: str, since_s: float) -> bool:
        """Return whether a source has said nothing since then; wheels are missed only where they have been before."""
        heard_s = self._heard.get(name)
        return name != "joint_states" if heard_s is None else heard_s < since_s

    def _command(self, vx: float, wz: float) -> None:
        if self._cmd_vel is None:
            return
        twist = Twist()
        twist.linear.x, twist.angular.z = float(vx), float(wz)
        if not self._stamped:
            self._cmd_vel.publish(twist)
            return
        command = TwistStamped(twist=twist)
        command.header.stamp = self.ros.node.get_clock().now().to_msg()
        self._cmd_vel.publish(command)

    def _with_energy(self) -> Battery:
        return replace(self._battery, energy_out_j=self._energy_j)

    def _on_odom(self, message: Odometry) -> None:
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if stamp_ns <= self._stamp_ns or not _is_finite(message):
            return
        if self._stamp_ns:
            self._odometer_m += abs(message.twist.twist.linear.x) * (stamp_ns - self._stamp_ns) / 1e9
        self._odom, self._stamp_ns = message, stamp_ns
        self._seq += 1
        self._heard["odom"] = time.monotonic()
        self.on_odometry(message, self._odometer_m)
        self._news.set()

    def _on_joints(self, message: JointState) -> None:
        self._heard["joint_states"] = time.monotonic()
        self._motors = tuple(
            Motor(name, _at(message.position, i, 1 / math.tau), _at(message.velocity, i), _at(message.effort, i))
            for i, name in enumerate(message.name)
        )

    def _on_battery(self, message: BatteryState) -> None:
        self._heard["battery_state"] = time.monotonic()
        soc = _measured(message.percentage)
        self._battery = Battery(
            soc=None if soc is None else min(1.0, max(0.0, soc)),
            voltage_v=_measured(message.voltage),
            current_a=_measured(message.current),
            temperature_c=_measured(message.temperature),
            charging=message.power_supply_status == BatteryState.POWER_SUPPLY_STATUS_CHARGING,
            health=_health(message.capacity, message.design_capacity),
        )
        sick = message.power_supply_health
        self._faults = (Fault("battery", "CRITICAL", SICK[sick]),) if sick in SICK else ()

    def _on_energy(self, message: Float64) -> None:
        value = _measured(message.data)
        self._energy_j = None if value is None else self._energy.read(value)

    def _on_payload(self, message: Float32) -> None:
        self._heard["payload"] = time.monotonic()
        self._payload_kg = _measured(message.data)


def driver(setup: DriverSetup) -> Follower:
    """Return the driver `base`: a velocity base over topics and the waypoint follower; its settings are `DEFAULTS`."""
    settings, kind = settings_of(setup, DEFAULTS, positive=("battery_timeout_s",)), setup.type
    base = RosVelocityBase(setup.ros, setup.robot, kind, **settings)
    return Follower(base, Limits(kind.max_speed_mps, kind.max_accel_mps2, kind.max_yaw_rate_radps))


def own_namespace(robot: RobotId) -> list[str]:
    """Return the arguments of a node in the namespace of `robot`."""
    return ["--ros-args", "-r", f"__ns:=/{robot.ros_namespace}"]


def _is_finite(message: Odometry) -> bool:
    """Return whether nothing that is used of it is NaN or infinite: a follower must not steer by that."""
    at, turned, twist = message.pose.pose.position, message.pose.pose.orientation, message.twist.twist
    used = (at.x, at.y, turned.x, turned.y, turned.z, turned.w, twist.linear.x, twist.angular.z)
    return all(map(math.isfinite, used))


def _measured(value: float) -> float | None:
    """Return the value, None where ROS says NaN for *not measured*."""
    return float(value) if math.isfinite(value) else None


def _health(capacity_ah: float, design_ah: float) -> float | None:
    """Return the share of the capacity that is left; None where one of the two is not known, or both make no sense."""
    if not (math.isfinite(capacity_ah) and math.isfinite(design_ah) and design_ah > 0):
        return None
    share = capacity_ah / design_ah
    return share if LEAST_HEALTH <= share <= MOST_HEALTH else None


def _at(values: list[float], index: int, factor: float = 1.0) -> float | None:
    return values[index] * factor if index < len(values) and math.isfinite(values[index]) else None
