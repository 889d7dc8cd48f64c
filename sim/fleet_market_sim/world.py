"""The world: floor, walls, chargers and robots in one PyBullet client, stepped at a fixed rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import pybullet
import pybullet_data

from fleet_market.body import Pose
from fleet_market.errors import InputError
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market_sim.books import EnergyBooks
from fleet_market_sim.drivetrain import Truth
from fleet_market_sim.robot import G_MPS2, SimRobot
from fleet_market_sim.robot_model import PAYLOAD_SPAN_M
from fleet_market_sim.sensors import SensorNoise, Sensors
from fleet_market_sim.state import Parcel, SimRobotConfig, SimRobotState
from fleet_market_sim.surfaces import SurfaceMap
from fleet_market_sim.walls import rectangles

HZ = 240
SOLVER_ITERATIONS = 50
WALL_HEIGHT_M = 0.5
LOOK_EVERY = 4
"""Steps between two looks at contacts, place on the floor and battery."""
APART_NS = 1_000_000_000
"""Bodies that were apart for less than this (a bounce) still have the same touch."""
MAX_CONTACT_NOTES = 20
CHARGER_REACH_M = 0.3
HANDOVER_REACH_M = 4.0
"""A parcel can be carried over from one standing robot to another this far away."""
STANDSTILL_MPS = 0.02
MAX_GRADE = 0.5


@dataclass(slots=True)
class Contacts:
    """Touches so far, by PyBullet's contact points; a touch that lasts counts once."""

    robot_robot: int = 0
    robot_wall: int = 0
    first: list[str] = field(default_factory=list)


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
    iterations : int
        Of PyBullet's solver per step; 20 instead of 50 change the energy of a task by less than 0.1 % (measured).
    surfaces : SurfaceMap, optional
        Classes and slopes of the floor; each robot as a whole stands on what is under the middle of its axle.
    noise : SensorNoise, optional
        What `sensed` adds to the truth; without it the sensors are perfect.
    seed : int
        Of the sensors' errors.
    """

    def __init__(
        self,
        grid: OccupancyGrid,
        robots: Sequence[SimRobotConfig],
        *,
        chargers: Sequence[Pose] = (),
        hz: int = HZ,
        iterations: int = SOLVER_ITERATIONS,
        surfaces: SurfaceMap | None = None,
        noise: SensorNoise | None = None,
        seed: int = 0,
    ) -> None:
        self.contacts = Contacts()
        self.hz = hz
        self._steps = 0
        self._chargers = tuple(chargers)
        self._surfaces = surfaces
        self._touched_ns: dict[tuple[str, str], int] = {}
        self._client = pybullet.connect(pybullet.DIRECT)
        self._call = {"physicsClientId": self._client}
        pybullet.setGravity(0, 0, -G_MPS2, **self._call)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=1 / hz, deterministicOverlappingPairs=1, numSolverIterations=iterations, **self._call
        )
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), **self._call)
        self._floor = pybullet.loadURDF("plane_implicit.urdf", **self._call)
        pybullet.changeDynamics(self._floor, -1, lateralFriction=1.0, rollingFriction=0, spinningFriction=0, **self._call)
        self._add_walls(grid)
        self._robots = {config.robot_id: SimRobot(self._client, config) for config in robots}
        self._sensors = {} if noise is None else {name: Sensors(noise, seed, name) for name in self._robots}
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

    def load(self, robot_id: RobotId, parcel: str, mass_kg: float, *, height_m: float | None = None) -> None:
        """Put a parcel on a robot at standstill; one that is aboard another robot near by changes over.

        Parameters
        ----------
        robot_id : RobotId
        parcel : str
        mass_kg : float
        height_m : float, optional
            Of its centre of mass above the deck; without it that of a cube of usual density.

        Raises
        ------
        InputError
            If the robot moves, would carry too much, or the parcel is aboard a robot out of reach.
        """
        robot = self._robots[robot_id]
        self._need_standstill(robot_id)
        total = sum(p.mass_kg for p in robot.parcels.values()) + mass_kg
        if mass_kg < 0 or not total <= robot.type.max_payload_kg + 1e-9:  # NaN is refused too
            raise InputError(robot_id, "mass_kg", mass_kg, f"use 0 to {robot.type.max_payload_kg:g} kg in all")
        if height_m is not None and not 0 <= height_m <= PAYLOAD_SPAN_M:
            raise InputError(robot_id, "height_m", height_m, f"use 0 to {PAYLOAD_SPAN_M:g} m")
        for other_id, other in self._robots.items():
            if parcel in other.parcels and other is not robot:
                a, b = self.state(robot_id).pose, self.state(other_id).pose
                if a.distance_to(b.x, b.y) > HANDOVER_REACH_M:
                    raise InputError(robot_id, "parcel", parcel, f"come within {HANDOVER_REACH_M:g} m of {other_id}")
                del other.parcels[parcel]
                other.weigh()
        robot.parcels[parcel] = Parcel(mass_kg, height_m)
        robot.weigh()

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
        robot.weigh()

    def charge(self, robot_id: RobotId, *, on: bool) -> None:
        """Connect to the charger at which the robot stands, or disconnect; away from every charger nothing happens."""
        robot, pose = self._robots[robot_id], self.state(robot_id).pose
        near = any(pose.distance_to(c.x, c.y) <= CHARGER_REACH_M for c in self._chargers)
        robot.battery.charging = on and near and abs(self.state(robot_id).vx) < STANDSTILL_MPS

    def tilt(self, grade_x: float, grade_y: float) -> None:
        """Let the whole floor rise by so much per metre towards +x and +y: exact, by the direction of gravity.

        Raises
        ------
        InputError
            If a grade is over 0.5 or not a number.
        """
        if not max(abs(grade_x), abs(grade_y)) <= MAX_GRADE:
            raise InputError("world", "grade", (grade_x, grade_y), f"use slopes of at most {MAX_GRADE:g}")
        steep = math.sqrt(1 + grade_x**2 + grade_y**2)
        down = (-G_MPS2 * grade_x / steep, -G_MPS2 * grade_y / steep, -G_MPS2 / steep)
        pybullet.setGravity(*down, **self._call)
        for robot in self._robots.values():
            robot.tilt(down)

    def set_hotel_w(self, robot_id: RobotId, power_w: float | None) -> None:
        """Let a robot's computer and sensors draw a power (times its truth's factor); None is the spec sheet's again.

        Raises
        ------
        InputError
            If it is negative or not finite.
        """
        if power_w is not None and not 0 <= power_w < math.inf:
            raise InputError(robot_id, "power_w", power_w, "use 0 W or more")
        self._robots[robot_id].hotel_w = power_w

    def set_truth(self, robot_id: RobotId, truth: Truth) -> None:
        """Let a robot differ from its spec sheet in another way from now on: wear, another tyre pressure."""
        self._robots[robot_id].become(truth)

    def teleport(self, robot_id: RobotId, pose: Pose) -> None:
        """Set a robot down at rest elsewhere, as somebody would who carries it; its odometer does not count that."""
        self._robots[robot_id].set_down(pose)

    def hold(self, robot_id: RobotId, *, held: bool) -> None:
        """Hold a robot so that it cannot move, or let go of it."""
        self._robots[robot_id].hold(held=held)

    def step(self, steps: int = 1) -> None:
        """Let the world run for a number of physics steps."""
        dt = 1 / self.hz
        robots = self._robots.values()
        for _ in range(steps):
            for robot in robots:
                robot.drive(self.time_ns, dt)
            pybullet.stepSimulation(**self._call)
            self._steps += 1
            for robot in robots:
                robot.meter(dt)
            if self._steps % LOOK_EVERY == 0:
                self._look(LOOK_EVERY * dt)

    def skip(self, seconds: float) -> None:
        """Let time pass without physics, in whole steps; what draws power while standing goes on.

        Raises
        ------
        InputError
            If a robot moves or is told to.
        """
        steps = round(seconds * self.hz)
        for robot_id, robot in self._robots.items():
            if robot.target != (0.0, 0.0) and robot.valid_until_ns > self.time_ns:
                raise InputError(robot_id, "command", robot.target, "stop before time is skipped")
            self._need_standstill(robot_id)
        if steps > 0:
            for robot in self._robots.values():
                robot.idle(steps / self.hz)
            self._steps += steps

    def state(self, robot_id: RobotId) -> SimRobotState:
        """Return the true state of a robot."""
        return self._robots[robot_id].state()

    def sensed(self, robot_id: RobotId) -> SimRobotState:
        """Return the state of a robot as its sensors see it."""
        state, sensors = self.state(robot_id), self._sensors.get(robot_id)
        return state if sensors is None else sensors.read(state)

    def books(self, robot_id: RobotId) -> EnergyBooks:
        """Return where the energy of a robot's battery has gone since the start."""
        return self._robots[robot_id].books()

    def _add_walls(self, grid: OccupancyGrid) -> None:
        for r in rectangles(grid):
            half = [(r.x_max - r.x_min) / 2, (r.y_max - r.y_min) / 2, WALL_HEIGHT_M / 2]
            shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, **self._call)
            middle = [(r.x_min + r.x_max) / 2, (r.y_min + r.y_max) / 2, WALL_HEIGHT_M / 2]
            pybullet.createMultiBody(0, shape, basePosition=middle, **self._call)

    def _need_standstill(self, robot_id: RobotId) -> None:
        if abs(speed := self.state(robot_id).vx) > STANDSTILL_MPS:
            raise InputError(robot_id, "speed", round(speed, 3), "stop before parcels are moved")

    def _look(self, dt: float) -> None:
        now: set[tuple[str, str]] = set()
        for name, robot in self._robots.items():
            for body in robot.look(self._floor, dt):
                other = self._by_body.get(body)
                now.add((name, "wall") if other is None else (min(name, other), max(name, other)))
            if self._surfaces is not None:
                robot.stand_on(*self._surfaces.at(*robot.place))
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
