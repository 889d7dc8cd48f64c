"""What errors of asks cost: how often the truly cheapest robot wins, against asks by distance.

Many auctions of one lot among 3, 5 and 20 robots of one type that differ by 10 % in what the same task costs them
(standard deviation). A robot drives 5 to 60 m to the parcel and 30 m with it; its cost is energy and wear in closed form
from the plan times its own factor. The whole ask, wear included, errs by the error of the energy model, independently of
all others. That is the worst case: what all meet alike (traffic, a slippery floor) moves no ranking. Regret is what the
winners cost more than the cheapest robots, over the sum of the latter.

The error levels are mean absolute percentage errors of the calibrated model in PyBullet (clean: physics alone; realistic:
hidden floor, payload, meter and traffic); give those of a new run of `energy_accuracy` with --clean and --realistic.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.ask_speed import Rates
from benchmarks.report import Options, Row, main
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import RobotType
from fleet_market.pricing import EnergyModel, PlanArray
from fleet_market.pricing.plan import FloatArray

DIFFERENCE = 0.10
BIDDERS = (3, 5, 20)
AUCTIONS = 40_000
LEVELS = {"carrier": (1.0, 7.0), "runner": (3.4, 8.5)}
"""Clean and realistic error in %, of the study behind the model: delivery AMR and lean AMR, calibrated on 10 tasks."""
FLEET = Path(__file__).parents[1] / "launch/fleets/auto.yaml"
PAYLOAD_KG = 5.0


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    types = {r.type.name: r.type for r in load_fleet(FLEET).robots}
    auctions = AUCTIONS // 10 if options.quick else AUCTIONS
    for name, levels in LEVELS.items():
        clean, realistic = options.more.clean or levels[0], options.more.realistic or levels[1]
        for bidders in BIDDERS:
            yield from _rows(types[name], bidders, {"clean": clean, "realistic": realistic}, auctions, options.seeds)


def _rows(robot: RobotType, bidders: int, errors: dict[str, float], auctions: int, seeds: tuple[int, ...]) -> Iterable[Row]:
    what = f"{robot.name}, {bidders} bidders"
    draws = [_draw(robot, bidders, auctions, seed) for seed in seeds]
    cost, distance, noise = (np.concatenate(parts) for parts in zip(*draws, strict=True))
    limit, right = _judge(cost, distance)
    yield Row(f"{what}, distance asks: regret", limit, "%", note=f"cheapest robot wins {right:.0f} %")
    for level, mape in errors.items():
        sd = mape / 100 * math.sqrt(math.pi / 2)
        regret, right = _judge(cost, cost * (1 + sd * noise))
        goal = limit / 3 if level == "clean" else limit
        note = f"cheapest robot wins {right:.0f} %, error {mape:g} %, distance asks {limit:.2f} %"
        yield Row(f"{what}, {level} energy and wear asks: regret", regret, "%", goal, note=note)


def _draw(robot: RobotType, bidders: int, auctions: int, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return true costs, distances and standard normal errors, (auctions, bidders) each."""
    rng = np.random.default_rng((seed, bidders))
    lengths = np.empty((auctions, bidders, 2))
    lengths[..., 0], lengths[..., 1] = rng.uniform(5, 60, (auctions, bidders)), 30.0
    plans = PlanArray.of(lengths, turn_rad=math.pi, halts=2, payload_kg=[0.0, PAYLOAD_KG], dwell_s=2 * robot.handling_s)
    features, rates = EnergyModel(robot).features(plans), Rates.of([robot])
    loaded_m = lengths.sum(-1) + lengths[..., 1] * PAYLOAD_KG / robot.mass_kg
    cost = features.energy_j * rates.per_j + loaded_m * rates.per_tread_m + features.drive_s[..., 0] * rates.per_drive_s
    factor = np.maximum(0.5, 1 + DIFFERENCE * rng.standard_normal((auctions, bidders)))
    return cost * factor, lengths.sum(-1), rng.standard_normal((auctions, bidders))


def _judge(cost: FloatArray, asks: FloatArray) -> tuple[float, float]:
    """Return the regret and how often the cheapest wins, both in %."""
    winner = asks.argmin(1)
    paid, best = np.take_along_axis(cost, winner[:, None], 1)[:, 0], cost.min(1)
    return float(100 * (paid.sum() / best.sum() - 1)), float(100 * np.mean(winner == cost.argmin(1)))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clean", type=float, metavar="PERCENT", help="error of the asks in the clean scenario")
    parser.add_argument("--realistic", type=float, metavar="PERCENT", help="error of the asks in the realistic scenario")


if __name__ == "__main__":
    main("ask_regret", measure, about=__doc__ or "", seeds=3, arguments=_arguments)
