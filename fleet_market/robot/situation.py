"""What a robot's agent knows at this moment: its contracts, its way, its job. The parts of the agent share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fleet_market.body import Job, Pose, RobotType, Telemetry
from fleet_market.ids import ContractId, RobotId
from fleet_market.maps.roadmap import Roadmap
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import Award, Route, RouteRequest
from fleet_market.robot.bidding import J_PER_WH, Appraisal
from fleet_market.robot.memory import Memory
from fleet_market.robot.tasks import Task

NEVER_NS = -(10**18)


class Doing(StrEnum):
    """What the robot is about, for those who look on and for the traffic control."""

    IDLE = "idle"
    HOMING = "homing"
    WORKING = "working"
    CHARGING = "charging"
    WAITING = "waiting"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything about one robot that its agent needs to know."""

    robot: RobotId
    type: RobotType
    home: Pose
    chargers: tuple[Pose, ...]
    tariff: Tariff
    roadmap: Roadmap
    session: int = 0
    """Number of this start of the robot, larger than that of every earlier one."""
    surfaces: Surfaces = field(default_factory=Surfaces)


@dataclass(frozen=True, slots=True)
class Done:
    """A task that was carried out and is not settled yet."""

    appraisal: Appraisal
    measured_j: float | None
    executed_s: float


class Purpose(StrEnum):
    """Why the robot drives to the next stop of its route."""

    PICKUP = "pickup"
    DROPOFF = "dropoff"
    CHARGE = "charge"
    HOME = "home"


@dataclass(slots=True)
class Trip:
    """The route that the robot follows, and what it is to do at its stops."""

    route: Route
    purposes: tuple[Purpose, ...]
    released: int
    at: int = 0
    """Point of the route at which the robot stood when its latest job began."""
    leg: int = 0

    def end_of_leg(self) -> int:
        """Return the point where the leg ends."""
        return self.route.stops[self.leg] if self.leg < len(self.route.stops) else len(self.route.points) - 1

    @property
    def purpose(self) -> Purpose:
        """Why the robot drives this leg."""
        return self.purposes[self.leg] if self.leg < len(self.purposes) else Purpose.HOME

    @property
    def over(self) -> bool:
        """Whether the robot has come home on it."""
        return self.leg > len(self.route.stops) or not self.route.points


@dataclass(slots=True)
class Situation:
    """What the agent knows and is about now."""

    config: AgentConfig
    memory: Memory
    doing: Doing = Doing.IDLE
    tasks: list[Task] = field(default_factory=list)
    telemetry: Telemetry | None = None
    done: dict[ContractId, Done] = field(default_factory=dict)
    trip: Trip | None = None
    asked: tuple[RouteRequest, tuple[Purpose, ...], int] | None = None
    """The route that was asked for and not answered yet, the purposes of its stops, and when it was asked for last."""
    ask_again: bool = False
    """The route is out of date: ask for another one as soon as the robot stands."""
    job: Job | None = None
    passed: int = 0
    """Points of the running job's path that lie behind the robot."""
    stopping: bool = False
    wait_until_ns: int = 0
    charge_from_ns: int = 0
    stranded_until_ns: int | None = None
    put_back: Award | None = None
    """The order whose parcel is aboard although its contract is gone, cancelled while it was loaded."""
    moved_ns: int = 0
    waited_before: bool = False
    last_position_ns: int = NEVER_NS

    @property
    def purpose(self) -> Purpose:
        """Why the robot drives where it drives."""
        return Purpose.HOME if self.trip is None else self.trip.purpose

    def energy_out_j(self) -> float:
        """Return the energy drawn so far: the battery's own counter, else what the state of charge tells."""
        battery = None if self.telemetry is None else self.telemetry.battery
        if battery is None:
            return 0.0
        if battery.energy_out_j is not None:
            return battery.energy_out_j
        return -(battery.soc or 0.0) * self.config.type.battery.capacity_wh * J_PER_WH
