"""How many asks a core prices per second: energy and wear, one by one and as arrays.

Every ask is for a task of two legs, to the parcel empty and to its place loaded, with turns and halts, its own way for
every pair of lot and robot, and robots of two types. Wear is in closed form; the rainflow form of battery wear is timed
apart. A whole call is what a robot answers: 20 lots, each put at its best place in a queue of three orders and up to three
parcels at once, all priced as whole queues.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Options, Row, main
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import RobotType
from fleet_market.ids import OrderId
from fleet_market.maps.surfaces import Surfaces
from fleet_market.pricing import EnergyModel, Features, PlanArray, PlanLeg, Tariff, TaskPlan, asks_uc, energy_j, price
from fleet_market.pricing.calibration import COMPONENTS, START_SD
from fleet_market.pricing.plan import FloatArray
from fleet_market.pricing.soc_trace import marginal_share
from fleet_market.protocol.messages import ASK_PARTS
from fleet_market.robot.bidding import Bidder
from fleet_market.robot.floor import lay_out
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue

GOAL_S = 1.0
LOTS, ROBOTS = 1000, 1000
TARIFF = Tariff(25_000_000)
SCALAR_ASKS = 2000
RAINFLOW_ASKS = 200
CYCLES_PER_DAY, SAMPLES_PER_CYCLE = 3, 40
DROP_SOC = 0.005
REPEATS = 5
CALLED, QUEUED, CALLS = 20, 3, 20
CALL_GOAL_MS = 10.0
FAR_NS = 10**12
LAUNCH = Path(__file__).parents[1] / "launch"
FLEET, WAREHOUSE, MAP = LAUNCH / "fleets/auto.yaml", LAUNCH / "fleets/warehouse.yaml", LAUNCH / "maps/warehouse.yaml"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Robots of one type, and the plans of every lot for each of them, shape (lots, robots)."""

    robot: RobotType
    plans: PlanArray

    def asks_uc(self) -> FloatArray:
        """Return all asks, energy and wear and time, micro-credits."""
        return asks_uc(self.plans, EnergyModel(self.robot).features(self.plans), self.robot, TARIFF)


def market(lots: int, robots: int, seed: int) -> list[Fleet]:
    """Return as many robots of each type."""
    rng = np.random.default_rng(seed)
    kinds = list({r.type.name: r.type for r in load_fleet(FLEET).robots}.values())
    return [Fleet(kind, _plans(lots, robots // len(kinds), rng)) for kind in kinds]


def _plans(lots: int, robots: int, rng: np.random.Generator) -> PlanArray:
    lengths = np.empty((lots, robots, 2))
    lengths[..., 0] = rng.uniform(2, 80, (lots, robots))
    lengths[..., 1] = rng.uniform(5, 80, (lots, 1))
    payload = np.zeros((lots, 1, 2))
    payload[..., 1] = rng.uniform(0, 8, (lots, 1))
    return PlanArray.of(
        lengths,
        turn_rad=rng.uniform(0, 6, (lots, robots, 2)),
        halts=rng.integers(1, 5, (lots, robots, 2)),
        payload_kg=payload,
        dwell_s=np.full((lots, robots), 8.0),
    )


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    lots = LOTS // 10 if options.quick else LOTS
    fleets = market(lots, ROBOTS, options.seeds[0])
    whole_s = _fastest(lambda: [fleet.asks_uc() for fleet in fleets])
    scale = LOTS / lots
    note = f"{lots} lots x {ROBOTS} robots of {len(fleets)} types, two legs each, fastest of {REPEATS}"
    yield Row("energy and wear asks, 1,000,000 as arrays", whole_s * scale, "s", GOAL_S, note=note)
    yield Row("asks as arrays", lots * ROBOTS / whole_s / 1e6, "million/s", better="higher")
    features = [EnergyModel(fleet.robot).features(fleet.plans) for fleet in fleets]
    covariance = np.eye(len(COMPONENTS)) * START_SD**2
    sd_s = _fastest(lambda: [_sd(one, covariance) for one in features])
    yield Row("standard deviations on top, 1,000,000 as arrays", sd_s * scale, "s", note="one calibration for all robots")
    yield from _rainflow(fleets[0].robot)
    yield from _scalar(fleets)
    yield from _calls()


def _rainflow(robot: RobotType) -> Iterable[Row]:
    """Time the exact form of battery wear, which re-prices the best candidates only."""
    battery = robot.battery
    trace = np.tile(np.linspace(battery.target_soc, battery.resume_soc, SAMPLES_PER_CYCLE), CYCLES_PER_DAY)
    seconds = _fastest(
        lambda: [marginal_share(battery, trace, k % SAMPLES_PER_CYCLE, DROP_SOC, 0.5) for k in range(RAINFLOW_ASKS)]
    )
    note = "marginal damage of a task in the day's trace of the state of charge"
    yield Row("battery wear by rainflow, one by one", RAINFLOW_ASKS / seconds, "1/s", better="higher", note=note)


def _sd(features: Features, covariance: FloatArray) -> FloatArray:
    flat = features.joules[..., 0, :]
    spread: FloatArray = np.sqrt(np.maximum(0.0, ((flat @ covariance) * flat).sum(-1)))
    return spread


def _scalar(fleets: Sequence[Fleet]) -> Iterable[Row]:
    tasks, known = [], []
    for fleet in fleets:
        asks = fleet.asks_uc()
        lots, robots = asks.shape
        pairs = [(i % lots, (7 * i) % robots) for i in range(SCALAR_ASKS // len(fleets))]
        tasks += [(_plan(fleet.plans, lot, robot), fleet.robot) for lot, robot in pairs]
        known += [asks[pair] for pair in pairs]
    energy_s = _fastest(lambda: [energy_j(plan, robot) for plan, robot in tasks])
    price_s = _fastest(lambda: [price(plan, robot, TARIFF) for plan, robot in tasks])
    yield Row("energies one by one", len(tasks) / energy_s, "1/s", better="higher")
    yield Row("asks one by one", len(tasks) / price_s, "1/s", better="higher", note="whole quotes, as a robot makes them")
    worst = max(abs(price(plan, robot, TARIFF).ask_uc - ask) for (plan, robot), ask in zip(tasks, known, strict=True))
    parts = len(ASK_PARTS)
    note = "parts are rounded up"
    yield Row("one by one against arrays, worst difference", float(worst), "micro-credits", parts, note=note)


def _calls() -> Iterable[Row]:
    """Time a robot's answer to a whole call."""
    fleet = load_fleet(WAREHOUSE)
    floor = lay_out(fleet, load_map(MAP), source=str(WAREHOUSE))
    robot, places = fleet.robots[0], list(fleet.places.values())
    kind, surfaces = robot.type.model_copy(update={"parcels": 3}), Surfaces(fleet.surfaces)
    bidder = Bidder(kind, floor.roadmap, floor.chargers, fleet.tariff, Memory(kind), surfaces)

    def errand(name: str, start: int, end: int) -> Errand:
        return Errand(OrderId(name), places[start % len(places)], places[end % len(places)], 3.0, FAR_NS)

    queue = Queue(floor.homes[robot.id], 0, robot.soc)
    for i in range(QUEUED):
        queue = bidder.taken(errand(f"held-{i}", 5 * i, 11 * i + 2), queue)
    lots = [errand(f"lot-{i}", i, 7 * i + 3) for i in range(CALLED)]
    begun = time.process_time()
    bidder.asks(lots, queue)
    first_s = time.process_time() - begun
    cpu_s = min(_cpu_s(lambda: bidder.asks(lots, queue)) for _ in range(CALLS))
    note = f"{CALLED} lots, {QUEUED} orders held, fastest of {CALLS} in CPU seconds; the first took {first_s * 1e3:.0f} ms"
    yield Row("a robot's answer to a call", cpu_s * 1e3, "ms", CALL_GOAL_MS, note=note)


def _cpu_s(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _plan(plans: PlanArray, lot: int, robot: int) -> TaskPlan:
    """Return one plan of the array."""
    legs = tuple(
        PlanLeg(
            float(plans.length_m[lot, robot, leg]),
            float(plans.turn_rad[lot, robot, leg]),
            int(plans.halts[lot, robot, leg]),
            float(plans.payload_kg[lot, 0, leg]),
        )
        for leg in range(2)
    )
    return TaskPlan(legs, float(plans.dwell_s[lot, robot]))


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main("ask_speed", measure, about=__doc__ or "")
