"""One simulated robot behind the topics of a real base."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import BatteryState, JointState
from std_msgs.msg import Float32, Float64, String

from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market_hardware.frames import compose, inverse
from fleet_market_ros import qos
from fleet_market_ros.ros import Ros
from fleet_market_sim import SimRobotState, SimWorld

log = logging.getLogger("simulator")

HOLD_WALL_S = 0.35
"""Longest wait for the command of a robot that is driving, so that a slow machine slows time, not control. Shorter than the
0.5 s after which a robot takes its odometry for stale: that of all others comes late by it."""
DEAD_MAN_S = 0.3
"""The base brakes this long after the last command (simulation time) ..."""
DEAD_MAN_WALL_S = 2.0
"""... and after this long of wall time, whatever the simulation's clock does: more than the holds before `DEAD_MAN_S`."""
FRESH_NS = 60_000_000
"""A driving robot must have answered the odometry before the newest; else its control loop falls behind."""


class SimulatedBase:
    """Publishes one robot of the world, as its sensors see it, and obeys its topics.

    Parameters
    ----------
    ros : Ros
    world : SimWorld
    robot : RobotId
        One of the world's.
    on_command : callable
        Called when a velocity command has come.
    odom_origin : Pose, optional
        Where the wheel odometry began, in the map frame; without it `odom` is in the map frame itself.
    stamped : bool
        Whether ``cmd_vel`` is a TwistStamped.
    """

    def __init__(
        self,
        ros: Ros,
        world: SimWorld,
        robot: RobotId,
        on_command: Callable[[], None],
        odom_origin: Pose | None = None,
        *,
        stamped: bool = False,
    ) -> None:
        self.robot, self.stamp = robot, Time()
        self._from_map = None if odom_origin is None else inverse(odom_origin)
        self._world, self._on_command = world, on_command
        self._driving = False
        self._commanded_ns, self._commanded_wall = 0, 0.0
        self._state: SimRobotState = world.state(robot)
        space = f"/{robot.ros_namespace}"
        self._odom = ros.publisher(Odometry, f"{space}/odom", qos.SENSOR_OUT)
        self._joints = ros.publisher(JointState, f"{space}/joint_states", qos.SENSOR_OUT)
        self._battery = ros.publisher(BatteryState, f"{space}/battery_state", qos.SENSOR_OUT)
        self._energy = ros.publisher(Float64, f"{space}/energy_out", qos.SENSOR_OUT)
        self._payload = ros.publisher(Float32, f"{space}/payload", qos.SENSOR_OUT)
        if stamped:
            ros.subscribe(TwistStamped, f"{space}/cmd_vel", lambda command: self._on_cmd_vel(command.twist), qos.COMMAND)
        else:
            ros.subscribe(Twist, f"{space}/cmd_vel", self._on_cmd_vel, qos.COMMAND)
        ros.subscribe(String, f"{space}/station", self._on_station, qos.EVENT)

    @property
    def awaits_command(self) -> bool:
        """Whether the robot is being driven and has not yet said how to go on."""
        waiting_ns = self._world.time_ns - self._commanded_ns
        return self._driving and FRESH_NS < waiting_ns < DEAD_MAN_S * 1e9

    def publish(self, *, with_battery: bool) -> None:
        """Publish the present state."""
        if self._driving and time.monotonic() - self._commanded_wall > DEAD_MAN_WALL_S:
            self._world.command(self.robot, 0.0, 0.0, valid_s=DEAD_MAN_S)
            self._driving = False
        self._state = self._world.state(self.robot)
        state = self._world.sensed(self.robot)
        now_ns = self._world.time_ns
        self.stamp = Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)
        odom = Odometry()
        odom.header.stamp = self.stamp
        odom.header.frame_id = "map" if self._from_map is None else f"{self.robot.ros_namespace}/odom"
        odom.child_frame_id = f"{self.robot.ros_namespace}/base_link"
        pose = state.pose if self._from_map is None else compose(self._from_map, state.pose)
        odom.pose.pose.position.x, odom.pose.pose.position.y = pose.x, pose.y
        half = pose.yaw / 2
        odom.pose.pose.orientation.z, odom.pose.pose.orientation.w = math.sin(half), math.cos(half)
        odom.twist.twist.linear.x, odom.twist.twist.angular.z = state.vx, state.wz
        self._odom.publish(odom)
        joints = JointState(name=["left", "right"])
        joints.header.stamp = self.stamp
        joints.position, joints.velocity = list(state.wheel_pos_rad), list(state.wheel_vel_rad_s)
        joints.effort = list(state.wheel_torque_nm)
        self._joints.publish(joints)
        if with_battery:
            self._publish_battery(state)
        self._energy.publish(Float64(data=state.energy_out_j))
        self._payload.publish(Float32(data=float(state.payload_kg)))

    def trace(self) -> tuple[float | str, ...]:
        """Return one line of the trace."""
        s = self._state
        return (
            round(self._world.time_ns / 1e9, 3), self.robot, round(s.pose.x, 3), round(s.pose.y, 3), round(s.pose.yaw, 3),
            round(s.soc, 5), round(s.energy_out_j, 1), round(s.payload_kg, 3),
        )  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Return the robot's counters."""
        s = self._world.state(self.robot)
        return {"energy_out_j": s.energy_out_j, "odometer_m": s.odometer_m, "soc": s.soc}

    def _publish_battery(self, state: SimRobotState) -> None:
        battery = BatteryState(
            voltage=float(state.voltage_v), percentage=float(state.soc), present=True, current=float(state.current_a),
            temperature=float(state.temperature_c), charge=math.nan, capacity=math.nan, design_capacity=math.nan,
        )  # fmt: skip
        battery.header.stamp = self.stamp
        charging = state.charging
        battery.power_supply_status = (
            BatteryState.POWER_SUPPLY_STATUS_CHARGING if charging else BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
        )
        self._battery.publish(battery)

    def _on_cmd_vel(self, command: Twist) -> None:
        vx, wz = command.linear.x, command.angular.z
        if not (math.isfinite(vx) and math.isfinite(wz)):
            log.warning("%s: cmd_vel must be finite, was %s, %s", self.robot, vx, wz)
            return
        self._driving = vx != 0.0 or wz != 0.0
        self._commanded_ns, self._commanded_wall = self._world.time_ns, time.monotonic()
        if self._driving and self._state.charging:
            self._world.charge(self.robot, on=False)
        self._world.command(self.robot, vx, wz, valid_s=DEAD_MAN_S)
        self._on_command()

    def _on_station(self, message: String) -> None:
        try:
            wish = json.loads(message.data)
            kind, parcel, mass_kg = str(wish["kind"]), str(wish["parcel"]), float(wish["mass_kg"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: station request %r is malformed: %s", self.robot, message.data[:200], error)
            return
        try:
            match kind:
                case "load":
                    self._world.load(self.robot, parcel, mass_kg)
                case "unload":
                    self._world.unload(self.robot, parcel)
                case "charge":
                    self._world.charge(self.robot, on=True)
                case _:
                    log.warning("%s: no station does %r: use load, unload or charge", self.robot, kind)
        except InputError as error:
            log.warning("refused: %s", error)
