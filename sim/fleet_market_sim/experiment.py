"""Task-level experiments: one robot drives tasks in the physics, its meter tells what each really cost.

A task is what a robot is asked to price: empty legs, a pick-up, loaded legs, a drop-off, on a floor that may slope. The
plan says what is known beforehand; the scenario decides what else happens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from fleet_market.body import Pose, RobotType
from fleet_market.ids import RobotId
from fleet_market.maps.grid import OccupancyGrid
from fleet_market.pricing import PlanLeg, TaskPlan
from fleet_market_sim.bots import Bot
from fleet_market_sim.drivetrain import Truth, drifted
from fleet_market_sim.state import SimRobotConfig
from fleet_market_sim.surfaces import SurfaceMap
from fleet_market_sim.world import SimWorld

ROBOT, PARCEL = RobotId("robot"), "parcel"
TASKS = 30
LEGS, LEG_M, PAYLOAD_KG, DWELL_S = (2, 7), (3.0, 20.0), (0.0, 20.0), (5.0, 30.0)
TURNS_RAD = (0.0, math.pi / 4, math.pi / 2, math.pi / 2, 3 * math.pi / 4, math.pi)
SLOPED = 1 / 3
"""Share of the tasks on a sloping floor."""
HZ, CONTROL_STEPS, SOLVER_ITERATIONS = 120, 2, 20
"""Coarser than `SimWorld` by default, and twice as fast: a task's energy differs by 0.1 to 0.7 % (measured)."""
PATIENCE = 5.0
"""A leg that takes so many times its planned time will never end."""
NEAR_M, NEAR_RAD = 0.003, 0.003
SLOWEST_MPS, SLOWEST_RADPS = 0.03, 0.05
STILL_MPS, STILL_RADPS = 0.015, 0.02
"""Slower than this is at rest; the solver lets a robot on a slope creep at up to half of it."""
HOTEL_MEMORY = 0.9
"""Correlation of the hotel power's noise from second to second."""
START_SOC = 0.95


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens that no plan says; spreads are half-widths of uniform draws, `_sd` standard deviations."""

    name: str
    floor: float = 0.0
    """Rolling resistance and tyre friction of a task's floor, each by itself."""
    hotel: float = 0.0
    """Hotel power of a task."""
    hotel_sd_w: float = 0.0
    """Noise of the hotel power, first-order autoregressive."""
    stops_per_m: float = 0.0
    stop_s: tuple[float, float] = (2.0, 8.0)
    dwell: tuple[float, float] = (1.0, 1.0)
    """Factor on the planned time at standstill."""
    payload_sd_kg: float = 0.0
    meter_sd: float = 0.0
    drift_rolling: float = 0.0
    """Growth of rolling resistance until the last task."""
    drift_gear: float = 0.0
    """Growth of gear losses until the last task."""
    step_w: float = 0.0
    """Added to the hotel power ..."""
    step_task: int = 15
    """... from this task on."""


CLEAN = Scenario("clean")
REALISTIC = Scenario(
    "realistic",
    floor=0.2,
    hotel=0.08,
    hotel_sd_w=3.0,
    stops_per_m=1 / 40,
    dwell=(0.7, 1.5),
    payload_sd_kg=0.4,
    meter_sd=0.01,
)
DRIFT = replace(REALISTIC, name="drift", drift_rolling=0.5, drift_gear=0.35, step_w=10.0)
SCENARIOS = (CLEAN, REALISTIC, DRIFT)


@dataclass(frozen=True, slots=True)
class Leg:
    """Turn in place by `turn_rad` (signed), then drive straight."""

    turn_rad: float
    length_m: float
    speed_mps: float


@dataclass(frozen=True, slots=True)
class Route:
    """What a robot is told to do."""

    empty: tuple[Leg, ...]
    loaded: tuple[Leg, ...]
    payload_kg: float
    dwell_s: float
    """At the pick-up, and again at the drop-off."""
    grade: float = 0.0
    """Rise of the floor towards the heading at the start of the first task (+x of the world)."""

    def plan(self, heading: float) -> TaskPlan:
        """Return what is known of it beforehand, begun at a heading in the frame of the slope."""
        legs = []
        for leg, payload_kg in [*((leg, 0.0) for leg in self.empty), *((leg, self.payload_kg) for leg in self.loaded)]:
            heading += leg.turn_rad
            grade = self.grade * math.cos(heading)
            legs.append(PlanLeg(leg.length_m, abs(leg.turn_rad), 1, payload_kg, speed_mps=leg.speed_mps, grade=grade))
        return TaskPlan(tuple(legs), dwell_s=2 * self.dwell_s)

    @property
    def turned_rad(self) -> float:
        """Change of heading over the whole route."""
        return sum(leg.turn_rad for leg in (*self.empty, *self.loaded))


@dataclass(frozen=True, slots=True)
class Metered:
    """A task's plan and what it took."""

    plan: TaskPlan
    energy_j: float
    duration_s: float


def draw_route(chance: random.Random, bot: Bot) -> Route:
    """Return a random task for a robot."""
    legs = tuple(
        Leg(
            chance.choice(TURNS_RAD) * chance.choice((-1, 1)),
            chance.uniform(*LEG_M),
            chance.uniform(*bot.speeds_mps),
        )
        for _ in range(chance.randint(*LEGS))
    )
    pickup = chance.randint(1, len(legs) - 1)
    grade = chance.uniform(-bot.max_grade, bot.max_grade) if chance.random() < SLOPED else 0.0
    return Route(legs[:pickup], legs[pickup:], chance.uniform(*PAYLOAD_KG), chance.uniform(*DWELL_S), grade)


def run(bot: Bot, scenario: Scenario, seed: int, tasks: int = TASKS, *, drift_over: int = TASKS) -> Iterator[Metered]:
    """Drive tasks of a robot in a scenario; routes, chances and results are the same for the same seed.

    Parameters
    ----------
    bot : Bot
    scenario : Scenario
    seed : int
        The routes depend on it and the robot only, so that scenarios can be compared.
    tasks : int
    drift_over : int
        Tasks over which the drift reaches its end.
    """
    routes, chance = random.Random(f"routes {bot.name} {seed}"), random.Random(f"{scenario.name} {bot.name} {seed}")  # noqa: S311
    with Track(bot.true) as track:
        for number in range(tasks):
            done = number / max(1, drift_over - 1)
            route = draw_route(routes, bot)
            yield _task(track, route, scenario, chance, done=done, stepped=number >= scenario.step_task)


def _task(track: Track, route: Route, scenario: Scenario, chance: random.Random, *, done: float, stepped: bool) -> Metered:
    def around(spread: float) -> float:
        return 1 + chance.uniform(-spread, spread)

    truth = Truth(rolling_resistance=around(scenario.floor), sliding_friction=around(scenario.floor))
    truth = drifted(truth, rolling_resistance=1 + scenario.drift_rolling * done, gear_loss=1 + scenario.drift_gear * done)
    hotel_w = track.robot.hotel_w * around(scenario.hotel) + (scenario.step_w if stepped else 0.0)
    track.world.set_truth(ROBOT, truth)
    track.world.tilt(route.grade, 0.0)
    track.feed(hotel_w, scenario.hotel_sd_w, chance)
    plan = route.plan(track.heading)
    begun_j, begun_s = track.energy_j, track.now_s
    for leg in route.empty:
        _leg(track, leg, scenario, chance)
    track.rest(route.dwell_s * chance.uniform(*scenario.dwell))
    track.load(min(track.robot.max_payload_kg, max(0.0, route.payload_kg + chance.gauss(0, scenario.payload_sd_kg))))
    for leg in route.loaded:
        _leg(track, leg, scenario, chance)
    track.rest(route.dwell_s * chance.uniform(*scenario.dwell))
    track.unload()
    energy_j = (track.energy_j - begun_j) * (1 + chance.gauss(0, scenario.meter_sd))
    return Metered(plan, energy_j, track.now_s - begun_s)


def _leg(track: Track, leg: Leg, scenario: Scenario, chance: random.Random) -> None:
    track.turn(leg.turn_rad)
    left_m = leg.length_m
    while scenario.stops_per_m and (to_stop_m := chance.expovariate(scenario.stops_per_m)) < left_m:
        track.straight(to_stop_m, leg.speed_mps)
        track.rest(chance.uniform(*scenario.stop_s))
        left_m -= to_stop_m
    track.straight(left_m, leg.speed_mps)


class Track:
    """An endless floor with one robot that drives legs by trapezoidal speed profiles; use ``with``."""

    def __init__(self, robot: RobotType, truth: Truth | None = None, *, surfaces: SurfaceMap | None = None) -> None:
        self.robot = robot
        free = np.zeros((1, 1), dtype=bool)
        config = SimRobotConfig(ROBOT, robot, Pose(0.0, 0.0), START_SOC, truth or Truth())
        self.world = SimWorld(
            OccupancyGrid(free, ~free, 1.0, (0.0, 0.0)),
            [config],
            hz=HZ,
            iterations=SOLVER_ITERATIONS,
            surfaces=surfaces,
        )
        self.heading = 0.0
        """Where it should look, radians."""
        self._noise: tuple[float, float, random.Random] | None = None
        self._swing_w, self._swung_s = 0.0, -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.world.close()

    @property
    def energy_j(self) -> float:
        """Energy drawn from the battery so far."""
        return self.world.state(ROBOT).energy_out_j

    @property
    def now_s(self) -> float:
        """Time of the simulation."""
        return self.world.time_ns / 1e9

    def feed(self, hotel_w: float, sd_w: float, chance: random.Random) -> None:
        """Let the hotel power wander around a mean from now on, with a standard deviation."""
        self._noise, self._swung_s = (hotel_w, sd_w, chance), -math.inf
        self._swing()

    def turn(self, by_rad: float) -> None:
        """Turn in place to the heading so far plus `by_rad`.

        Raises
        ------
        RuntimeError
            If the robot does not get there: stuck, or out of energy.
        """
        self.heading += by_rad
        accel, limit = self.robot.max_yaw_accel_radps2, self.robot.max_yaw_rate_radps
        ends_s = self.now_s + PATIENCE * (1.0 + abs(by_rad) / limit)
        left = self._to_turn(by_rad)
        while abs(left) > NEAR_RAD:
            rate = min(limit, max(SLOWEST_RADPS, math.sqrt(2 * accel * abs(left))))
            self._go(0.0, math.copysign(rate, left), ends_s)
            left = self._to_turn(left)
        self._stop()

    def straight(self, length_m: float, speed_mps: float) -> None:
        """Drive straight on and come to rest.

        Raises
        ------
        RuntimeError
            If the robot does not get there: stuck, or out of energy.
        """
        accel, speed = self.robot.max_accel_mps2, 0.0
        ends_s = self.now_s + PATIENCE * (2 * speed_mps / accel + length_m / speed_mps)
        end_m = self.world.state(ROBOT).odometer_m + length_m
        while (left_m := end_m - self.world.state(ROBOT).odometer_m) > NEAR_M:
            grown = speed + accel * CONTROL_STEPS / self.world.hz
            speed = min(grown, speed_mps, max(SLOWEST_MPS, math.sqrt(2 * accel * left_m)))
            self._go(speed, 0.0, ends_s)
        self._stop()

    def rest(self, seconds: float) -> None:
        """Stand for a time."""
        while seconds > 0:
            part = min(1.0, seconds)
            self._swing()
            self.world.skip(part)
            seconds -= part

    def load(self, mass_kg: float) -> None:
        """Take a parcel aboard."""
        self.world.load(ROBOT, PARCEL, mass_kg)

    def unload(self) -> None:
        """Set the parcel down."""
        self.world.unload(ROBOT, PARCEL)

    def _to_turn(self, about: float) -> float:
        """Return the angle left to the heading, the one nearest to `about`."""
        left = self.heading - self.world.state(ROBOT).pose.yaw
        return left + round((about - left) / math.tau) * math.tau

    def _go(self, vx: float, wz: float, ends_s: float) -> None:
        if self.now_s > ends_s:
            raise RuntimeError(f"{self.robot.name} does not get on at {self.world.state(ROBOT).pose}")
        self._swing()
        self.world.command(ROBOT, vx, wz, valid_s=0.3)
        self.world.step(CONTROL_STEPS)

    def _stop(self) -> None:
        self.world.command(ROBOT, 0.0, 0.0, valid_s=0.3)
        for _ in range(self.world.hz):
            state = self.world.state(ROBOT)
            if abs(state.vx) < STILL_MPS and abs(state.wz) < STILL_RADPS:
                return
            self.world.step(CONTROL_STEPS)
        raise RuntimeError(f"{self.robot.name} does not come to rest at {self.world.state(ROBOT).pose}")

    def _swing(self) -> None:
        """Let the hotel power wander, once a second."""
        if self._noise is None or self.now_s - self._swung_s < 1.0:
            return
        mean_w, sd_w, chance = self._noise
        fresh_w = chance.gauss(0, sd_w) * math.sqrt(1 - HOTEL_MEMORY**2)
        self._swing_w, self._swung_s = HOTEL_MEMORY * self._swing_w + fresh_w, self.now_s
        self.world.set_hotel_w(ROBOT, max(0.0, mean_w + self._swing_w))
