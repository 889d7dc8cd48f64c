"""One robot in the world: its body in PyBullet, its drive, its meter."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pybullet

from fleet_market.body import Pose
from fleet_market_sim.battery import Battery
from fleet_market_sim.books import EnergyBooks
from fleet_market_sim.drivetrain import Truth, motor_flow, true_motor
from fleet_market_sim.robot_model import EMPTY_PAYLOAD_KG, PAYLOAD_SPAN_M, build
from fleet_market_sim.state import Parcel, SimRobotConfig, SimRobotState
from fleet_market_sim.surfaces import USUAL, Surface

G_MPS2 = 9.80665
CONTACT_HALF_LENGTH_M = 0.004
"""Half-length of a tyre's contact patch [assumption]."""
BRAKING = 2.0
"""Braking may be this much harder than acceleration."""
ROLLING_FADE_RAD_S = 0.02
"""Wheel speed over which rolling resistance fades in."""
PARKED_RAD_S = 0.05
"""A robot told to stand whose wheels are slower than this is held by its brakes, without current."""
CREEP_MPS = 0.05
"""Sliding speed over which the friction of skidding tyres comes up: rubber creeps before it slides [assumption]."""
HOLDING_N = 2000.0
"""Force that holds a robot that is held; well above what its wheels can push."""
TURNING_RADPS = 0.02
Vector = tuple[float, float, float]


class SimRobot:
    """The body, the drive and the meter of one robot.

    Rolling resistance is applied here, as a torque on each wheel of Crr r times the wheel's load: PyBullet's own
    ``rollingFriction`` depends on the heading of the robot (measured: 37 % of it at 10 degrees to the axes of the world,
    65 % at 20, 100 % at 0 and 45). So are the tyre forces of a skid-steered robot while it turns, by Coulomb's law
    against the direction of sliding: PyBullet weighs its two directions of friction by effective masses, with which such a
    robot hardly turns at all (measured: 6 to 30 % of the yaw rate).
    """

    def __init__(self, client: int, config: SimRobotConfig) -> None:
        self.config, self.type = config, config.type
        self._call = {"physicsClientId": client}
        self._model = build(config.type)
        self.body = self._load()
        self.battery = Battery(config.type.battery, config.soc, config.truth)
        self.target, self.valid_until_ns = (0.0, 0.0), 0
        self.parcels: dict[str, Parcel] = {}
        self.hotel_w: float | None = None
        self.surface = USUAL
        self.truth = config.truth
        self._motor = true_motor(self.type.motor, self.truth)
        self._set_v = self._set_w = self._odometer_m = self._owed_j = 0.0
        wheels = self._model.wheels
        self._force = (2 * self.type.motor.peak_wheel_torque_nm / len(wheels),) * len(wheels)
        self._joints: Any = ((0.0, 0.0, (), 0.0),) * len(wheels)
        self._loads_n = [self._model.on_wheels * self.type.mass_kg * G_MPS2 / len(wheels)] * len(wheels)
        self._push: Vector | None = None
        self._skids = self.type.drive == "skid"
        self._turning = False
        self._held: int | None = None
        self._at: Vector = pybullet.getBasePositionAndOrientation(self.body, **self._call)[0]
        self._place = (config.start.x, config.start.y)
        self._down: Vector = (0.0, 0.0, -G_MPS2)
        self._books = EnergyBooks()
        self._start_j = self._stored_j()
        self._feel()

    # --- what is done to it ---------------------------------------------------------------------------------------------

    def become(self, truth: Truth) -> None:
        """Differ from the spec sheet in another way from now on; the battery's age stays."""
        self.truth, self._motor = truth, true_motor(self.type.motor, truth)
        self._feel()

    def set_down(self, pose: Pose) -> None:
        """Stand at rest at `pose`, the middle of the drive axle."""
        (_, _, up), _ = pybullet.getBasePositionAndOrientation(self.body, **self._call)
        ahead = self._model.centre_x_m
        at = [pose.x + ahead * math.cos(pose.yaw), pose.y + ahead * math.sin(pose.yaw), up]
        turned = pybullet.getQuaternionFromEuler([0, 0, pose.yaw])
        pybullet.resetBasePositionAndOrientation(self.body, at, turned, **self._call)
        pybullet.resetBaseVelocity(self.body, [0, 0, 0], [0, 0, 0], **self._call)
        self._at, self._place = tuple(at), (pose.x, pose.y)
        self._set_v = self._set_w = 0.0

    def hold(self, *, held: bool) -> None:
        """Be held where it is, or let go."""
        if held and self._held is None:
            at, q = pybullet.getBasePositionAndOrientation(self.body, **self._call)
            self._held = pybullet.createConstraint(
                self.body, -1, -1, -1, pybullet.JOINT_FIXED, [0, 0, 0], [0, 0, 0], at, [0, 0, 0, 1], q, **self._call
            )
            pybullet.changeConstraint(self._held, maxForce=HOLDING_N, **self._call)
        elif not held and self._held is not None:
            pybullet.removeConstraint(self._held, **self._call)
            self._held = None

    def weigh(self) -> None:
        """Give the body the mass, the inertia and the height of what it carries."""
        before_j = self._stored_j()
        mass = sum(p.mass_kg for p in self.parcels.values())
        lever = sum(p.mass_kg * p.height_m for p in self.parcels.values())
        spin = sum(p.mass_kg * p.side_m**2 / 6 for p in self.parcels.values())
        above = min(1.0, lever / mass / PAYLOAD_SPAN_M) if mass else 0.0
        for link, share in zip(self._model.payload, (1 - above, above), strict=True):
            part = max(EMPTY_PAYLOAD_KG, mass * share)
            inertia = [max(1e-6, spin * share)] * 3
            pybullet.changeDynamics(self.body, link, mass=part, localInertiaDiagonal=inertia, **self._call)
        self._books.given_j += self._stored_j() - before_j

    def tilt(self, down: Vector) -> None:
        """Take note of the direction of gravity."""
        before_j = self._stored_j()
        self._down = down
        self._books.given_j += self._stored_j() - before_j

    def stand_on(self, surface: Surface, grade_x: float, grade_y: float) -> None:
        """Take over the floor's class and slope at the robot's place."""
        if surface is not self.surface:
            self.surface = surface
            self._feel()
        if grade_x or grade_y:
            weight = self._mass_kg() * G_MPS2
            steep = math.sqrt(1 + grade_x**2 + grade_y**2)
            self._push = (-weight * grade_x / steep, -weight * grade_y / steep, weight * (1 - 1 / steep))
        else:
            self._push = None

    # --- one step -------------------------------------------------------------------------------------------------------

    def drive(self, now_ns: int, dt: float) -> None:
        """Set the motors and apply what the floor does to the wheels, before a step."""
        stale = now_ns >= self.valid_until_ns or self.battery.empty or self.battery.charging
        v, w = (0.0, 0.0) if stale else self.target
        harder = BRAKING if abs(v) < abs(self._set_v) or v * self._set_v < 0 else 1.0
        self._set_v = _towards(self._set_v, v, self.type.max_accel_mps2 * harder * dt)
        self._set_w = _towards(self._set_w, w, self.type.max_yaw_accel_radps2 * dt)
        turn, radius = self._set_w * self._model.yaw_track_m / 2, self.type.wheel_radius_m
        speeds = ((self._set_v - turn) / radius, (self._set_v + turn) / radius)
        wheels = self._model.wheels
        pybullet.setJointMotorControlArray(
            self.body,
            wheels,
            pybullet.VELOCITY_CONTROL,
            targetVelocities=speeds * (len(wheels) // 2),
            forces=self._force,
            **self._call,
        )
        for wheel, joint in zip(wheels, self._joints, strict=True):
            if speed := joint[1]:
                drag = -self._rolling_m * self._loads_n[wheel] * math.tanh(speed / ROLLING_FADE_RAD_S)
                pybullet.applyExternalTorque(self.body, wheel, (0.0, drag, 0.0), pybullet.LINK_FRAME, **self._call)
        if self._skids:
            self._skid(dt)
        if self._push is not None:
            pybullet.applyExternalForce(self.body, -1, self._push, self._at, pybullet.WORLD_FRAME, **self._call)

    def _skid(self, dt: float) -> None:
        """Let the tyres of a turning skid-steered robot slide."""
        (vx, vy, _), (_, _, wz) = pybullet.getBaseVelocity(self.body, **self._call)
        turning = self._set_w != 0.0 or abs(wz) > TURNING_RADPS
        if turning is not self._turning:
            self._turning = turning
            self._feel()
        if not turning:
            return
        at, q = pybullet.getBasePositionAndOrientation(self.body, **self._call)
        yaw = math.atan2(2 * (q[3] * q[2] + q[0] * q[1]), 1 - 2 * (q[1] ** 2 + q[2] ** 2))
        c, s = math.cos(yaw), math.sin(yaw)
        for wheel, (ahead, aside) in zip(self._model.wheels, self._model.places, strict=True):
            x, y = ahead * c - aside * s, ahead * s + aside * c
            rolled = self._joints[wheel][1] * self.type.wheel_radius_m
            slip_x, slip_y = vx - wz * y - rolled * c, vy + wz * x - rolled * s
            pull = -self._friction * self._loads_n[wheel] / math.hypot(slip_x, slip_y, CREEP_MPS)
            force, touch = (pull * slip_x, pull * slip_y, 0.0), (at[0] + x, at[1] + y, 0.0)
            pybullet.applyExternalForce(self.body, wheel, force, touch, pybullet.WORLD_FRAME, **self._call)
            self._books.slip_j -= pull * (slip_x**2 + slip_y**2) * dt

    def meter(self, dt: float) -> None:
        """Read what the motors did in a step, and book it; one motor drives the wheels of each side.

        A motor's torque is constant over a step, so its work is torque times the mean of the speeds before and after.
        """
        before, self._joints = self._joints, pybullet.getJointStates(self.body, self._model.wheels, **self._call)
        books, hotel_j = self._books, self._hotel_w() * dt
        drawn_j = hotel_j
        standing = not (self._set_v or self._set_w)
        sides = len(self._joints) // 2
        for side in (0, 1):
            old, new = before[side::2], self._joints[side::2]
            torque = sum(joint[3] for joint in new)
            speed = (sum(joint[1] for joint in old) + sum(joint[1] for joint in new)) / (2 * sides)
            if standing and abs(speed) < PARKED_RAD_S:
                books.wheel_work_j += torque * speed * dt
                books.driver_j -= torque * speed * dt
                continue
            flow = motor_flow(self._motor, torque, speed)
            drawn_j += flow.drawn_w * dt
            books.copper_j += flow.copper_w * dt
            books.no_load_j += flow.no_load_w * dt
            books.gear_j += flow.gear_w * dt
            books.driver_j += flow.driver_w * dt
            books.wheel_work_j += flow.shaft_w * dt
        books.hotel_j += hotel_j
        travel = abs(sum(joint[1] for joint in self._joints)) / len(self._joints) * self.type.wheel_radius_m
        self._odometer_m += travel * dt
        self._owed_j += drawn_j

    def idle(self, seconds: float) -> None:
        """Book a time at standstill, in which brakes hold the robot."""
        hotel_j = self._hotel_w() * seconds
        self._books.hotel_j += hotel_j
        self.battery.run((self._owed_j + hotel_j) / seconds, seconds)
        self._owed_j = 0.0

    def look(self, floor: int, dt: float) -> set[int]:
        """Book what the contacts with the floor took in the last `dt` seconds; return the other bodies touched."""
        self.battery.run(self._owed_j / dt, dt)
        self._owed_j = 0.0
        at, q = pybullet.getBasePositionAndOrientation(self.body, **self._call)
        (vx, vy, _), (_, _, wz) = pybullet.getBaseVelocity(self.body, **self._call)
        if self._push is not None:
            moved = sum(f * (b - a) for f, a, b in zip(self._push, self._at, at, strict=True))
            self._books.potential_j -= moved
        self._at = at
        yaw = math.atan2(2 * (q[3] * q[2] + q[0] * q[1]), 1 - 2 * (q[1] ** 2 + q[2] ** 2))
        c, s = math.cos(yaw), math.sin(yaw)
        self._place = (at[0] - self._model.centre_x_m * c, at[1] - self._model.centre_x_m * s)
        others: set[int] = set()
        slip, radius, wheels = 0.0, self.type.wheel_radius_m, len(self._joints)
        loads = [0.0] * wheels
        for point in pybullet.getContactPoints(bodyA=self.body, **self._call):
            link = point[3]
            if point[2] != floor:
                if point[2] != self.body:
                    others.add(point[2])
            elif 0 <= link < wheels:
                loads[link] += point[9]
                x, y, rolled = point[5][0] - at[0], point[5][1] - at[1], self._joints[link][1] * radius
                slip_x, slip_y = vx - wz * y - rolled * c, vy + wz * x - rolled * s
                along = point[10] * (point[11][0] * slip_x + point[11][1] * slip_y)
                slip += abs(along + point[12] * (point[13][0] * slip_x + point[13][1] * slip_y))
        # A fast wheel's contact is missing in every second look or so: it still carries what it carried.
        self._loads_n = [new or old for new, old in zip(loads, self._loads_n, strict=True)]
        turned = sum(load * abs(joint[1]) for load, joint in zip(self._loads_n, self._joints, strict=True))
        self._books.rolling_j += turned * self._rolling_m * dt
        self._books.scrub_j += sum(loads) * abs(wz) * self._spinning_m * dt
        self._books.slip_j += slip * dt
        return others

    # --- what can be read -----------------------------------------------------------------------------------------------

    def state(self) -> SimRobotState:
        """Return the true state."""
        (x, y, _), q = pybullet.getBasePositionAndOrientation(self.body, **self._call)
        (vx, vy, _), (_, _, wz) = pybullet.getBaseVelocity(self.body, **self._call)
        yaw = math.atan2(2 * (q[3] * q[2] + q[0] * q[1]), 1 - 2 * (q[1] ** 2 + q[2] ** 2))
        c, s, ahead = math.cos(yaw), math.sin(yaw), self._model.centre_x_m
        left, right = self._joints[0::2], self._joints[1::2]
        n = len(left)
        return SimRobotState(
            pose=Pose(x - ahead * c, y - ahead * s, yaw),
            vx=vx * c + vy * s,
            wz=wz,
            odometer_m=self._odometer_m,
            wheel_pos_rad=(sum(j[0] for j in left) / n, sum(j[0] for j in right) / n),
            wheel_vel_rad_s=(sum(j[1] for j in left) / n, sum(j[1] for j in right) / n),
            wheel_torque_nm=(sum(j[3] for j in left), sum(j[3] for j in right)),
            soc=self.battery.soc,
            voltage_v=self.battery.voltage_v,
            current_a=self.battery.current_a,
            temperature_c=self.battery.temperature_c,
            energy_out_j=self.battery.energy_out_j + self._owed_j,
            charging=self.battery.charging,
            payload_kg=sum(p.mass_kg for p in self.parcels.values()),
            surface=self.surface.name,
        )

    def books(self) -> EnergyBooks:
        """Return the books up to now."""
        kinetic_j, height_j = self._stored_parts_j()
        potential_j = self._books.potential_j + height_j - self._start_j
        out_j = self.battery.energy_out_j + self._owed_j
        return replace(self._books, battery_out_j=out_j, kinetic_j=kinetic_j, potential_j=potential_j)

    @property
    def place(self) -> tuple[float, float]:
        """Where the middle of the axle stood at the last look."""
        return self._place

    # --- inside ---------------------------------------------------------------------------------------------------------

    def _load(self) -> int:
        pose = self.config.start
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "robot.urdf"
            path.write_text(self._model.urdf)
            turned = pybullet.getQuaternionFromEuler([0, 0, pose.yaw])
            flags = pybullet.URDF_USE_INERTIA_FROM_FILE
            body = pybullet.loadURDF(str(path), [0, 0, 0], turned, flags=flags, **self._call)
        (ahead, aside, up), q = pybullet.getBasePositionAndOrientation(body, **self._call)
        pybullet.resetBasePositionAndOrientation(body, [ahead + pose.x, aside + pose.y, up], q, **self._call)
        for link in range(-1, pybullet.getNumJoints(body, **self._call)):
            pybullet.changeDynamics(
                body,
                link,
                lateralFriction=0.0,
                rollingFriction=0.0,
                linearDamping=0,
                angularDamping=0,
                jointDamping=0,
                **self._call,
            )
        return int(body)

    def _feel(self) -> None:
        """Take over the factors of the present floor."""
        self._friction = self.type.sliding_friction * self.truth.sliding_friction * self.surface.friction
        crr = self.type.rolling_resistance * self.truth.rolling_resistance * self.surface.rolling
        self._rolling_m = crr * self.type.wheel_radius_m
        self._spinning_m = 2 / 3 * CONTACT_HALF_LENGTH_M * self._friction
        grip = 0.0 if self._turning else self._friction
        for link in self._model.wheels:
            pybullet.changeDynamics(self.body, link, lateralFriction=grip, spinningFriction=self._spinning_m, **self._call)

    def _hotel_w(self) -> float:
        return (self.type.hotel_w if self.hotel_w is None else self.hotel_w) * self.truth.hotel_w

    def _mass_kg(self) -> float:
        return self.type.mass_kg + sum(p.mass_kg for p in self.parcels.values())

    def _stored_j(self) -> float:
        return self._stored_parts_j()[1]

    def _stored_parts_j(self) -> tuple[float, float]:
        """Return kinetic energy, and that of height along gravity."""
        kinetic = height = 0.0
        for link in range(-1, pybullet.getNumJoints(self.body, **self._call)):
            mass, _, inertia = pybullet.getDynamicsInfo(self.body, link, **self._call)[:3]
            if link < 0:
                at, q = pybullet.getBasePositionAndOrientation(self.body, **self._call)
                velocity, spin = pybullet.getBaseVelocity(self.body, **self._call)
            else:
                found = pybullet.getLinkState(self.body, link, computeLinkVelocity=1, **self._call)
                at, q, velocity, spin = found[0], found[1], found[6], found[7]
            height -= mass * sum(g * x for g, x in zip(self._down, at, strict=True))
            m = pybullet.getMatrixFromQuaternion(q)
            turning = [sum(m[3 * row + axis] * spin[row] for row in range(3)) for axis in range(3)]
            kinetic += mass * sum(v * v for v in velocity) / 2
            kinetic += sum(i * w * w for i, w in zip(inertia, turning, strict=True)) / 2
        return kinetic, height


def _towards(value: float, target: float, most: float) -> float:
    return value + min(most, max(-most, target - value))
