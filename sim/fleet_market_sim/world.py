"""The world: floor, walls, chargers and robots in one PyBullet client, stepped at a fixed rate."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pybullet
import pybullet_data

from fleet_market.body import Pose, RobotType
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market_sim.drivetrain import Battery, Truth, motor_power_w
from fleet_market_sim.robot_model import CENTRE_OF_MASS_X_M, EMPTY_PAYLOAD_KG, LEFT, PAYLOAD, RIGHT, urdf
from fleet_market_sim.walls import rectangles

HZ = 240
G_MPS2 = 9.80665
WALL_HEIGHT_M = 0.5
CONTACT_EVERY = 4
"""Steps between two looks at the contact points."""
APART_NS = 1_000_000_000
"""Bodies that were apart for less than this (a bounce) still have the same touch."""
MAX_CONTACT_NOTES = 20
BRAKING = 2.0
"""Braking may be this much harder than acceleration."""
YAW_ACCEL_RADPS2 = 3.0
CHARGER_REACH_M = 0.3
HANDOVER_REACH_M = 4.0
"""A parcel can be carried over from one standing robot to another this far away."""
STANDSTILL_MPS = 0.02
CONTACT_HALF_LENGTH_M = 0.004


@dataclass(frozen=True, slots=True)
class SimRobotConfig:
    """One robot to be put into the world."""

    robot_id: RobotId
    type: RobotType
    start: Pose
    soc: float
    truth: Truth = field(default_factory=Truth)


@dataclass(frozen=True, slots=True)
class SimRobotState:
    """The true state of a robot; the pose is that of the middle of the drive axle in the map frame."""

    pose: Pose
    vx: float
    wz: float
    odometer_m: float
    wheel_pos_rad: tuple[float, float]
    wheel_vel_rad_s: tuple[float, float]
    wheel_torque_nm: tuple[float, float]
    soc: float
    voltage_v: float
    energy_out_j: float
    charging: bool
    payload_kg: float


@dataclass(slots=True)
class Contacts:
    """Touches so far, by PyBullet's contact points; a touch that lasts counts once."""

    robot_robot: int = 0
    robot_wall: int = 0
    first: list[str] = field(default_factory=list)


class _Robot:
    def __init__(self, config: SimRobotConfig, body: int) -> None:
        self.config, self.type, self.body = config, config.type, body
        self.battery = Battery(config.type, config.soc)
        self.target = (0.0, 0.0)
        self.valid_until_ns = 0
        self.set_v = self.set_w = self.odometer_m = 0.0
        self.joints: Any = ((0.0, 0.0, (), 0.0), (0.0, 0.0, (), 0.0))
        self.parcels: dict[str, float] = {}


class SimWorld:
    """A floor with robots; use `close` (or ``with``) at the end.

    Parameters
    ----------
    grid : OccupancyGrid
        Its occupied cells become walls.
    robots : sequence of SimRobotConfig
        Put in place in this order; the same input gives the same trajectory.
    chargers : sequence of Pose
        Where robots can be charged.
    hz : int
        Physics steps per second.
    """

    def __init__(
        self, grid: OccupancyGrid, robots: Sequence[SimRobotConfig], *, chargers: Sequence[Pose] = (), hz: int = HZ
    ) -> None:
        self.contacts = Contacts()
        self.hz = hz
        self._steps = 0
        self._chargers = tuple(chargers)
        self._touched_ns: dict[tuple[str, str], int] = {}
        self._client = pybullet.connect(pybullet.DIRECT)
        self._call = {"physicsClientId": self._client}
        pybullet.setGravity(0, 0, -G_MPS2, **self._call)
        pybullet.setPhysicsEngineParameter(fixedTimeStep=1 / hz, deterministicOverlappingPairs=1, **self._call)
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), **self._call)
        self._floor = pybullet.loadURDF("plane_implicit.urdf", **self._call)
        pybullet.changeDynamics(self._floor, -1, lateralFriction=1.0, rollingFriction=0, spinningFriction=0, **self._call)
        self._add_walls(grid)
        with tempfile.TemporaryDirectory() as folder:
            self._robots = {r.robot_id: _Robot(r, self._load_robot(r, Path(folder))) for r in robots}
        self._by_body = {robot.body: name for name, robot in self._robots.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the world up; may be called twice."""
        if self._client >= 0:
            pybullet.disconnect(**self._call)
            self._client = -1

    @property
    def time_ns(self) -> int:
        """Simulation time since the start."""
        return self._steps * 1_000_000_000 // self.hz

    def command(self, robot_id: RobotId, vx: float, wz: float, *, valid_s: float) -> None:
        """Drive at `vx` m/s and `wz` rad/s within the type's limits; the base brakes by itself after `valid_s`."""
        robot = self._robots[robot_id]
        limit_v, limit_w = robot.type.max_speed_mps, robot.type.max_yaw_rate_radps
        robot.target = (min(limit_v, max(-limit_v, vx)), min(limit_w, max(-limit_w, wz)))
        robot.valid_until_ns = self.time_ns + round(valid_s * 1e9)

    def load(self, robot_id: RobotId, parcel: str, mass_kg: float) -> None:
        """Put a parcel on a robot at standstill; one that is aboard another robot near by changes over.

        Raises
        ------
        InputError
            If the robot moves, would carry too much, or the parcel is aboard a robot out of reach.
        """
        robot = self._robots[robot_id]
        self._need_standstill(robot_id)
        total = sum(robot.parcels.values()) + mass_kg
        if mass_kg < 0 or not total <= robot.type.max_payload_kg + 1e-9:  # NaN is refused too
            raise InputError(robot_id, "mass_kg", mass_kg, f"use 0 to {robot.type.max_payload_kg:g} kg in all")
        for other_id, other in self._robots.items():
            if parcel in other.parcels and other is not robot:
                a, b = self.state(robot_id).pose, self.state(other_id).pose
                if a.distance_to(b.x, b.y) > HANDOVER_REACH_M:
                    raise InputError(robot_id, "parcel", parcel, f"come within {HANDOVER_REACH_M:g} m of {other_id}")
                del other.parcels[parcel]
                self._weigh(other)
        robot.parcels[parcel] = mass_kg
        self._weigh(robot)

    def unload(self, robot_id: RobotId, parcel: str) -> None:
        """Take a parcel off a robot at standstill.

        Raises
        ------
        InputError
            If the robot moves or does not have the parcel.
        """
        robot = self._robots[robot_id]
        self._need_standstill(robot_id)
        if parcel not in robot.parcels:
            raise InputError(robot_id, "parcel", parcel, "unload a parcel that is aboard")
        del robot.parcels[parcel]
        self._weigh(robot)

    def charge(self, robot_id: RobotId, *, on: bool) -> None:
        """Connect to the charger at which the robot stands, or disconnect; away from every charger nothing happens."""
        robot, pose = self._robots[robot_id], self.state(robot_id).pose
        near = any(pose.distance_to(c.x, c.y) <= CHARGER_REACH_M for c in self._chargers)
        robot.battery.charging = on and near and abs(self.state(robot_id).vx) < STANDSTILL_MPS

    def step(self, steps: int = 1) -> None:
        """Let the world run for a number of physics steps."""
        dt = 1 / self.hz
        for _ in range(steps):
            for robot in self._robots.values():
                self._drive(robot, dt)
            pybullet.stepSimulation(**self._call)
            self._steps += 1
            for robot in self._robots.values():
                self._meter(robot, dt)
            if self._steps % CONTACT_EVERY == 0:
                self._count_contacts()

    def state(self, robot_id: RobotId) -> SimRobotState:
        """Return the true state of a robot."""
        robot = self._robots[robot_id]
        (x, y, _), q = pybullet.getBasePositionAndOrientation(robot.body, **self._call)
        (vx, vy, _), (_, _, wz) = pybullet.getBaseVelocity(robot.body, **self._call)
        yaw = math.atan2(2 * (q[3] * q[2] + q[0] * q[1]), 1 - 2 * (q[1] ** 2 + q[2] ** 2))
        c, s = math.cos(yaw), math.sin(yaw)
        left, right = robot.joints
        return SimRobotState(
            pose=Pose(x - CENTRE_OF_MASS_X_M * c, y - CENTRE_OF_MASS_X_M * s, yaw),
            vx=vx * c + vy * s,
            wz=wz,
            odometer_m=robot.odometer_m,
            wheel_pos_rad=(left[0], right[0]),
            wheel_vel_rad_s=(left[1], right[1]),
            wheel_torque_nm=(left[3], right[3]),
            soc=robot.battery.soc,
            voltage_v=robot.type.battery.voltage_v,
            energy_out_j=robot.battery.energy_out_j,
            charging=robot.battery.charging,
            payload_kg=sum(robot.parcels.values()),
        )

    def _add_walls(self, grid: OccupancyGrid) -> None:
        for r in rectangles(grid):
            half = [(r.x_max - r.x_min) / 2, (r.y_max - r.y_min) / 2, WALL_HEIGHT_M / 2]
            shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, **self._call)
            middle = [(r.x_min + r.x_max) / 2, (r.y_min + r.y_max) / 2, WALL_HEIGHT_M / 2]
            pybullet.createMultiBody(0, shape, basePosition=middle, **self._call)

    def _load_robot(self, config: SimRobotConfig, folder: Path) -> int:
        path = folder / f"{config.type.name}.urdf"
        path.write_text(urdf(config.type))
        pose = config.start
        body: int = pybullet.loadURDF(
            str(path),
            [0, 0, 0],
            pybullet.getQuaternionFromEuler([0, 0, pose.yaw]),
            flags=pybullet.URDF_USE_INERTIA_FROM_FILE,
            **self._call,
        )
        (x, y, z), q = pybullet.getBasePositionAndOrientation(body, **self._call)
        pybullet.resetBasePositionAndOrientation(body, [x + pose.x, y + pose.y, z], q, **self._call)
        for link in range(-1, pybullet.getNumJoints(body, **self._call)):
            friction = 1.0 if link in (LEFT, RIGHT) else 0.0
            crr = config.type.rolling_resistance * config.truth.rolling_resistance if friction else 0.0
            pybullet.changeDynamics(
                body,
                link,
                lateralFriction=friction,
                rollingFriction=crr * config.type.wheel_radius_m,
                spinningFriction=2 / 3 * CONTACT_HALF_LENGTH_M * friction,
                linearDamping=0,
                angularDamping=0,
                jointDamping=0,
                **self._call,
            )
        return body

    def _need_standstill(self, robot_id: RobotId) -> None:
        if abs(speed := self.state(robot_id).vx) > STANDSTILL_MPS:
            raise InputError(robot_id, "speed", round(speed, 3), "stop before parcels are moved")

    def _weigh(self, robot: _Robot) -> None:
        mass = max(EMPTY_PAYLOAD_KG, sum(robot.parcels.values()))
        inertia = [max(1e-6, mass * 0.3**2 / 6)] * 3
        pybullet.changeDynamics(robot.body, PAYLOAD, mass=mass, localInertiaDiagonal=inertia, **self._call)

    def _drive(self, robot: _Robot, dt: float) -> None:
        stale = self.time_ns >= robot.valid_until_ns or robot.battery.empty or robot.battery.charging
        v, w = (0.0, 0.0) if stale else robot.target
        accel = robot.type.max_accel_mps2
        harder = BRAKING if abs(v) < abs(robot.set_v) or v * robot.set_v < 0 else 1.0
        robot.set_v = _towards(robot.set_v, v, accel * harder * dt)
        robot.set_w = _towards(robot.set_w, w, YAW_ACCEL_RADPS2 * dt)
        turn = robot.set_w * robot.type.track_width_m / 2
        radius, force = robot.type.wheel_radius_m, robot.type.motor.peak_wheel_torque_nm
        pybullet.setJointMotorControlArray(
            robot.body,
            (LEFT, RIGHT),
            pybullet.VELOCITY_CONTROL,
            targetVelocities=((robot.set_v - turn) / radius, (robot.set_v + turn) / radius),
            forces=(force, force),
            **self._call,
        )

    def _meter(self, robot: _Robot, dt: float) -> None:
        robot.joints = pybullet.getJointStates(robot.body, (LEFT, RIGHT), **self._call)
        truth, motor = robot.config.truth, robot.type.motor
        no_load = motor.no_load_current_a * truth.no_load_current
        drawn = robot.type.hotel_w * truth.hotel_w
        for _, speed, _, torque in robot.joints:
            drawn += motor_power_w(motor, no_load, torque, speed)
        robot.odometer_m += abs(sum(joint[1] for joint in robot.joints)) / 2 * robot.type.wheel_radius_m * dt
        robot.battery.run(drawn, dt)

    def _count_contacts(self) -> None:
        now: set[tuple[str, str]] = set()
        for name, robot in self._robots.items():
            for point in pybullet.getContactPoints(bodyA=robot.body, **self._call):
                if point[2] not in (self._floor, robot.body):
                    other = self._by_body.get(point[2])
                    now.add((name, "wall") if other is None else (min(name, other), max(name, other)))
        fresh = {pair for pair in now if self.time_ns - self._touched_ns.get(pair, -APART_NS) >= APART_NS}
        self._touched_ns.update(dict.fromkeys(now, self.time_ns))
        for pair in sorted(fresh):
            walls = pair[1] == "wall"
            self.contacts.robot_wall += walls
            self.contacts.robot_robot += not walls
            if len(self.contacts.first) < MAX_CONTACT_NOTES:
                at = self.state(RobotId(pair[0])).pose
                self.contacts.first.append(
                    f"{self.time_ns / 1e9:.2f} s: {pair[0]} and {pair[1]} at ({at.x:.2f}, {at.y:.2f})"
                )


def _towards(value: float, target: float, most: float) -> float:
    return value + min(most, max(-most, target - value))
