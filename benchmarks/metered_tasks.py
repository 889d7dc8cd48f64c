"""Metered tasks of the physics, kept in a file so that models can be fitted again without driving again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import fleet_market_sim
from fleet_market.pricing import PlanLeg, TaskPlan
from fleet_market_sim.bots import Bot
from fleet_market_sim.experiment import Metered, Scenario, run

PHYSICS = ("battery", "bots", "drivetrain", "experiment", "robot", "robot_model", "world")
"""Modules whose change makes kept tasks worthless."""


def metered(folder: Path, bot: Bot, scenario: Scenario, seed: int, tasks: int) -> list[Metered]:
    """Return the tasks of a robot in a scenario, from the file in `folder` or by driving them."""
    path = folder / "metered" / f"{bot.name}-{scenario.name}-{seed}-{tasks}-{_physics()}.json"
    if path.exists():
        return [_read(row) for row in json.loads(path.read_text())]
    driven = list(run(bot, scenario, seed, tasks))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(task) for task in driven]))
    return driven


def _read(row: dict[str, object]) -> Metered:
    plan = dict(row["plan"])  # type: ignore[call-overload]
    legs = tuple(PlanLeg(**leg) for leg in plan.pop("legs"))
    return Metered(TaskPlan(legs, **plan), float(str(row["energy_j"])), float(str(row["duration_s"])))


def _physics() -> str:
    folder = Path(fleet_market_sim.__file__).parent
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in PHYSICS)).hexdigest()[:12]
