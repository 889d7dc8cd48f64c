"""What a robot's agent knows at this moment: its contracts, queue, way and job. The parts of the agent share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fleet_market.body import Job, Link, Pose, RobotType, Telemetry
from fleet_market.ids import CallId, ContractId, OrderId, RobotId
from fleet_market.maps.roadmap import Roadmap
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import PriceQuote, Tariff, TaskPlan
from fleet_market.protocol.messages import Award, Phase, Place, Route, RouteRequest
from fleet_market.robot.advice import Consult
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Queue, Visit
from fleet_market.robot.tasks import Task

NEVER_NS = -(10**18)
STOPS_AHEAD = 2
"""Stops for which a way is asked at once: ways of others wait for all that was granted before."""


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
    consult: Consult | None = None
    """The oracle that it asks what others would take for its contracts; None: it asks nobody."""


@dataclass(frozen=True, slots=True)
class Done:
    """A task that was carried out and is not settled yet."""

    plan: TaskPlan
    """Its share of the ways that were driven."""
    quote: PriceQuote
    measured_j: float | None
    executed_s: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """Energy drawn so far, joules, by two counts with zeros of their own; None where there is none."""

    counted_j: float | None
    derived_j: float | None
    """From the state of charge."""

    def since(self, start: Drawn) -> tuple[float, bool]:
        """Return what was drawn since `start`, and whether it was counted: two counts are never mixed."""
        if self.counted_j is not None and start.counted_j is not None:
            return max(0.0, self.counted_j - start.counted_j), True
        if self.derived_j is not None and start.derived_j is not None:
            return max(0.0, self.derived_j - start.derived_j), False
        return 0.0, False


@dataclass(frozen=True, slots=True)
class Goal:
    """Where the robot is to go next, and why."""

    visit: Visit | None = None
    """None: it charges, at whatever charger the traffic control gives it."""
    place: Place | None = None
    until_soc: float | None = field(default=None, compare=False)


@dataclass(slots=True)
class Trip:
    """The route that the robot follows, and what it is to do at its stops; it ends at home."""

    route: Route
    goals: tuple[Goal, ...]
    released: int
    at: int = 0
    """Point of the route at which the robot stood when its latest job began."""
    leg: int = 0

    def end_of_leg(self) -> int:
        """Return the point where the leg ends."""
        return self.route.stops[self.leg] if self.leg < len(self.route.stops) else len(self.route.points) - 1

    @property
    def goal(self) -> Goal | None:
        """Where this leg leads; None: home."""
        return self.goals[self.leg] if self.leg < len(self.goals) else None

    @property
    def over(self) -> bool:
        """Whether the robot has come home on it."""
        return self.leg > len(self.route.stops) or not self.route.points


@dataclass(slots=True)
class Asked:
    """A route that was asked for and not answered yet."""

    request: RouteRequest
    goals: tuple[Goal, ...]
    at_ns: int
    """When it was asked for last."""


@dataclass(slots=True)
class Situation:
    """What the agent knows and is about now."""

    config: AgentConfig
    memory: Memory
    measures: frozenset[str] = frozenset()
    """What of the telemetry is measured, not derived."""
    doing: Doing = Doing.IDLE
    bidding: bool = True
    """Whether it asks for new tasks; what it holds it does in any case."""
    max_tasks: int | None = None
    """Most contracts at once; None: as its type says."""
    tasks: list[Task] = field(default_factory=list)
    """In the order of their awards."""
    visits: tuple[Visit, ...] = ()
    """The stops of all tasks in the order in which the robot goes there."""
    telemetry: Telemetry | None = None
    frozen: dict[ContractId, tuple[CallId, int]] = field(default_factory=dict)
    """Contracts that the robot has let go of: for which re-auction, and since when. They are not to be begun."""
    done: dict[ContractId, Done] = field(default_factory=dict)
    trip: Trip | None = None
    asked: Asked | None = None
    ask_again: bool = False
    """The route is out of date: ask for another one as soon as the robot stands."""
    job: Job | None = None
    passed: int = 0
    """Points of the running job's path that lie behind the robot."""
    stopping: bool = False
    weighed: tuple[Visit, float | None] | None = None
    """What the scale showed when the robot arrived at a stop; interrupted loading that is begun anew counts from there."""
    wait_until_ns: int = 0
    retry_at_ns: int = 0
    """When to ask for the right of way to the next stop again, after it was not to be had."""
    give_up: tuple[Visit, int] | None = None
    """When to give the order up to whose stop there is no way."""
    stops_ahead: int = STOPS_AHEAD
    """Stops for which a way is asked at once: fewer after a refusal, for only the later ones may be out of reach."""
    charge_from_ns: int = 0
    orphans: list[Award] = field(default_factory=list)
    """Orders whose parcels are aboard although their contracts are gone: others will take them over."""
    stranded_until_ns: int = 0
    put_back: Award | None = None
    """The order whose parcel is to be set down where the robot stands, for its contract is gone."""
    moved_ns: int = 0
    waited_before: bool = False
    last_position_ns: int = NEVER_NS
    faulty_since_ns: int | None = None
    """Since when the robot complains of a grave fault; None: it does not."""

    @property
    def most_tasks(self) -> int:
        """The most contracts that it holds at once."""
        most = self.config.type.max_tasks
        return most if self.max_tasks is None else min(most, self.max_tasks)

    def task(self, order: OrderId) -> Task | None:
        """Return the task of an order."""
        return next((task for task in self.tasks if task.order == order), None)

    def place(self, visit: Visit) -> Place:
        """Return where a visit leads; raises `KeyError` if it is of no task."""
        task = self.task(visit.order)
        if task is None:
            raise KeyError(visit.order)
        return task.award.pickup if visit.pickup else task.award.dropoff

    @property
    def goal(self) -> Goal | None:
        """Where the robot is going, or has asked for a way to; None: home, or nowhere."""
        if self.asked is not None:
            return self.asked.goals[0] if self.asked.goals else None
        return self.trip.goal if self.trip is not None and self.job is not None else None

    @property
    def at_hand(self) -> Task | None:
        """The task to whose stop the robot is going."""
        goal = self.goal
        return None if goal is None or goal.visit is None else self.task(goal.visit.order)

    def queue(self, now_ns: int) -> Queue | None:
        """Return what the robot is going to do; None if it does not know by now where it is or how full its battery is."""
        telemetry = self.telemetry
        if telemetry is None or telemetry.pose is None or telemetry.battery.soc is None:
            return None
        if telemetry.link is not Link.UP:
            return None
        locked = 0
        if self.visits:
            first, task = self.visits[0], self.task(self.visits[0].order)
            on_the_way = self.goal is not None and self.goal.visit == first
            locked = int(on_the_way or (task is not None and task.phase is not Phase.QUEUED and first.pickup))
        errands = tuple(task.errand for task in self.tasks)
        return Queue(telemetry.pose, now_ns, telemetry.battery.soc, errands, self.visits, locked)

    def is_free(self, task: Task) -> bool:
        """Return whether a task could be given away: it is only queued, and not given away already."""
        return task.phase is Phase.QUEUED and task is not self.at_hand and not self.is_frozen(task.order)

    def is_frozen(self, order: OrderId) -> bool:
        """Return whether the robot has let go of an order and does not know yet whether it is sold."""
        return bool(self.frozen) and (task := self.task(order)) is not None and task.award.contract in self.frozen

    def forget(self, task: Task) -> None:
        """Take a task out of the queue."""
        self.tasks.remove(task)
        self.frozen.pop(task.award.contract, None)
        self.visits = tuple(visit for visit in self.visits if visit.order != task.order)

    def contracted_kg(self) -> float:
        """Return what the parcels aboard weigh that are under contract."""
        return sum(task.award.payload_kg for task in self.tasks if task.aboard)

    @property
    def metered(self) -> bool:
        """Whether the energy drawn is counted by a meter, not derived from the state of charge."""
        return "energy" in self.measures and self.telemetry is not None and self.telemetry.battery.energy_out_j is not None

    def drawn(self) -> Drawn:
        """Return the energy drawn so far, by the battery's own counter and by its state of charge."""
        battery = None if self.telemetry is None else self.telemetry.battery
        if battery is None:
            return Drawn(None, None)
        return Drawn(battery.energy_out_j, None if battery.soc is None else -battery.soc * self.memory.capacity_j)
