"""How many asks a core prices per second: energy and wear, one by one and as arrays.

Every ask is for a task of two legs, to the parcel empty and to its place loaded, with turns and halts, its own way for
every pair of lot and robot, and robots of two types. Wear is in closed form: battery throughput, loaded tread, drive hours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Options, Row, main
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import RobotType
from fleet_market.pricing import EnergyModel, Features, PlanArray, PlanLeg, Tariff, TaskPlan, energy_j, price
from fleet_market.pricing.ask import J_PER_KWH
from fleet_market.pricing.calibration import COMPONENTS, START_SD
from fleet_market.pricing.plan import FloatArray
from fleet_market.pricing.wear import J_PER_WH, S_PER_H

GOAL_S = 1.0
LOTS, ROBOTS = 1000, 1000
TARIFF = Tariff(25_000_000)
SCALAR_ASKS = 2000
REPEATS = 5
FLEET = Path(__file__).parents[1] / "launch/fleets/auto.yaml"


@dataclass(frozen=True)
class Rates:
    """What robots pay per unit, arrays over robots, micro-credits."""

    per_j: FloatArray
    per_tread_m: FloatArray
    per_drive_s: FloatArray
    per_s: FloatArray
    mass_kg: FloatArray

    @classmethod
    def of(cls, robots: Sequence[RobotType]) -> Rates:
        """Return the rates of the spec sheets: the formulas of `fleet_market.pricing.wear` and `ask`."""
        rows = [
            (
                TARIFF.energy_uc_per_kwh / J_PER_KWH / r.battery.charge_efficiency
                + r.battery.replacement_uc / (r.battery.cycle_life_efc * r.battery.capacity_wh * J_PER_WH),
                r.wear.tread_set_uc / r.wear.tread_life_m,
                r.wear.drive_set_uc / r.wear.drive_life_h / S_PER_H,
                r.time_rent_uc_per_h / S_PER_H,
                r.mass_kg,
            )
            for r in robots
        ]
        return cls(*np.array(rows).T)


def ask_uc(plans: PlanArray, features: Features, rates: Rates) -> FloatArray:
    """Return the asks for plans, shape (lots, robots), micro-credits."""
    driving_s = features.drive_s[..., 0]
    loaded_m = features.drive_m[..., 0] + (plans.length_m * plans.payload_kg).sum(-1) / rates.mass_kg
    total: FloatArray = (
        features.energy_j * rates.per_j
        + loaded_m * rates.per_tread_m
        + driving_s * rates.per_drive_s
        + features.duration_s * rates.per_s
    )
    return total


def market(lots: int, robots: int, seed: int) -> tuple[list[RobotType], PlanArray]:
    """Return robots and the plans of every lot for every robot."""
    rng = np.random.default_rng(seed)
    kinds = list({r.type.name: r.type for r in load_fleet(FLEET).robots}.values())
    fleet = [kinds[i % len(kinds)] for i in range(robots)]
    lengths = np.empty((lots, robots, 2))
    lengths[..., 0] = rng.uniform(2, 80, (lots, robots))
    lengths[..., 1] = rng.uniform(5, 80, (lots, 1))
    payload = np.zeros((lots, 1, 2))
    payload[..., 1] = rng.uniform(0, 8, (lots, 1))
    plans = PlanArray.of(
        lengths,
        turn_rad=rng.uniform(0, 6, (lots, robots, 2)),
        halts=rng.integers(1, 5, (lots, robots, 2)),
        payload_kg=payload,
        dwell_s=np.full((lots, robots), 8.0),
    )
    return fleet, plans


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    lots = LOTS // 10 if options.quick else LOTS
    robots, plans = market(lots, ROBOTS, options.seeds[0])
    model, rates = EnergyModel(robots), Rates.of(robots)
    whole_s = _fastest(lambda: ask_uc(plans, model.features(plans), rates))
    scale = LOTS / lots
    note = f"{lots} lots x {ROBOTS} robots, two legs each, fastest of {REPEATS}"
    yield Row("energy and wear asks, 1,000,000 as arrays", whole_s * scale, "s", GOAL_S, note=note)
    yield Row("asks as arrays", lots * ROBOTS / whole_s / 1e6, "million/s", better="higher")
    features = model.features(plans)
    covariance = np.eye(len(COMPONENTS)) * START_SD**2
    sd_s = _fastest(lambda: _sd(features, covariance))
    yield Row("standard deviations on top, 1,000,000 as arrays", sd_s * scale, "s", note="one calibration for all robots")
    yield from _scalar(robots, plans, model, rates)


def _sd(features: Features, covariance: FloatArray) -> FloatArray:
    flat = features.joules[..., 0, :]
    spread: FloatArray = np.sqrt(np.maximum(0.0, ((flat @ covariance) * flat).sum(-1)))
    return spread


def _scalar(robots: Sequence[RobotType], plans: PlanArray, model: EnergyModel, rates: Rates) -> Iterable[Row]:
    pairs = [(i % plans.length_m.shape[0], (7 * i) % len(robots)) for i in range(SCALAR_ASKS)]
    tasks = [(_plan(plans, lot, robot), robots[robot]) for lot, robot in pairs]
    energy_s = _fastest(lambda: [energy_j(plan, robot) for plan, robot in tasks])
    price_s = _fastest(lambda: [price(plan, robot, TARIFF) for plan, robot in tasks])
    yield Row("energies one by one", SCALAR_ASKS / energy_s, "1/s", better="higher")
    yield Row("asks one by one", SCALAR_ASKS / price_s, "1/s", better="higher", note="whole quotes, as a robot makes them")
    asks = ask_uc(plans, model.features(plans), rates)
    worst = max(
        abs(price(plan, robot, TARIFF).ask_uc - asks[pair]) for pair, (plan, robot) in zip(pairs, tasks, strict=True)
    )
    yield Row(
        "one by one against arrays, worst difference", float(worst), "micro-credits", 3.0, note="parts are rounded up"
    )


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
