"""How well a task's energy is predicted from its plan: robots in PyBullet, metered, against five models.

Three robots x three scenarios x 30 tasks per seed: 10 to calibrate, 20 to predict. The robots differ from their sheets.
Every task is predicted from the plan alone, before it is learned from. The error of a seed is the mean absolute relative
error of its 20 tasks, and their 90 % quantile; rows give the median of the seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.metered_tasks import metered
from benchmarks.report import Options, Row, main
from fleet_market.body import RobotType
from fleet_market.pricing import Calibration, DurationModel, EnergyModel, Estimate, TaskPlan
from fleet_market_sim.bots import BOTS, Bot
from fleet_market_sim.experiment import CLEAN, DRIFT, REALISTIC, ROBOT, SCENARIOS, Metered, Track

FloatArray = NDArray[np.float64]
CALIBRATE, TASKS = 10, 30
QUICK_CALIBRATE, QUICK_TASKS = 2, 4
GOALS: dict[tuple[str, str], tuple[float | None, float | None]] = {
    ("delivery", "clean"): (1.5, 4.0),
    ("delivery", "realistic"): (7.0, 13.0),
    ("delivery", "drift"): (7.0, 13.0),
    ("lean", "clean"): (3.0, 7.0),
    ("lean", "realistic"): (8.5, 17.0),
    ("lean", "drift"): (11.0, 22.0),
    ("skid", "clean"): (5.0, 10.0),
    ("skid", "realistic"): (6.0, 13.0),
    ("skid", "drift"): (None, None),
}
KNOWN_GOALS = {"delivery": 4.0, "lean": 7.5, "skid": 5.0}
STEP_W, STEP_TASK, STEP_FACTOR, STEP_GOAL, SHUFFLES = 10.0, 15, 1.3, 10, 100
G_MPS2 = 9.80665


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    yield from _books()
    calibrate, tasks = (QUICK_CALIBRATE, QUICK_TASKS) if options.quick else (CALIBRATE, TASKS)
    scenarios = (CLEAN,) if options.quick else SCENARIOS
    runs = {
        (bot.name, scenario.name): [metered(options.out, bot, scenario, seed, tasks) for seed in options.seeds]
        for bot in BOTS
        for scenario in scenarios
    }
    table: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
    for bot in BOTS:
        for scenario in SCENARIOS:
            of_seeds = runs.get((bot.name, scenario.name))
            if of_seeds is None:
                yield Row(f"{bot.name}, {scenario.name}: calibrated", None, "%", note="only in a full run")
                continue
            results = table[bot.name, scenario.name] = _errors(bot, of_seeds, calibrate)
            yield from _rows(bot.name, scenario.name, results, quick=options.quick)
            if scenario is REALISTIC:
                yield from _best_rows(bot, of_seeds, runs[bot.name, CLEAN.name])
    if not options.quick:
        for bot in BOTS:
            yield _step_row(bot, runs[bot.name, REALISTIC.name])
        _draw(table, options.out / "energy_accuracy.png")


def _rows(bot: str, scenario: str, results: Mapping[str, tuple[float, float]], *, quick: bool) -> Iterable[Row]:
    goals = (None, None) if quick else GOALS[bot, scenario]
    for name, (mape, p90) in results.items():
        goal, p90_goal = goals if name == "calibrated" else (None, None)
        if name == "duration known" and scenario == REALISTIC.name and not quick:
            goal = KNOWN_GOALS[bot]
        yield Row(f"{bot}, {scenario}: {name}", mape, "%", goal)
        yield Row(f"{bot}, {scenario}: {name}, P90", p90, "%", p90_goal)


def _best_rows(bot: Bot, seeds: Sequence[Sequence[Metered]], clean: Sequence[Sequence[Metered]]) -> Iterable[Row]:
    """Yield the error of one who knows the true robot and the mean of every chance, but not what chance will bring."""
    stop_s = sum(REALISTIC.stop_s) / 2 + sum(bot.speeds_mps) / 2 / bot.true.max_accel_mps2
    errors = []
    for tasks, calm in zip(seeds, clean, strict=True):
        dwell = sum(REALISTIC.dwell) / 2 - 1
        extra_s = [t.plan.length_m * REALISTIC.stops_per_m * stop_s + dwell * t.plan.dwell_s for t in tasks]
        best = np.array([c.energy_j + bot.true.hotel_w * s for c, s in zip(calm, extra_s, strict=True)])
        errors.append(100 * _relative(best, tasks)[CALIBRATE:])
    what = f"{bot.name}, {REALISTIC.name}: knowing all but chance"
    yield Row(what, median(float(e.mean()) for e in errors), "%", note="no model can be expected to do better")
    yield Row(f"{what}, P90", median(float(np.quantile(e, 0.9)) for e in errors), "%")


# --- models -------------------------------------------------------------------------------------------------------------


def _errors(bot: Bot, seeds: Sequence[Sequence[Metered]], calibrate: int) -> dict[str, tuple[float, float]]:
    """Return MAPE and P90 in percent by model, medians over the seeds."""
    models: dict[str, Callable[[Sequence[Metered]], FloatArray]] = {
        "distance": lambda tasks: _least_squares(tasks, bot.sheet, calibrate, with_time=False),
        "distance and time": lambda tasks: _least_squares(tasks, bot.sheet, calibrate, with_time=True),
        "Open-RMF's equations, true parameters": lambda tasks: np.array([rmf_j(t.plan, bot.true) for t in tasks]),
        "spec sheet": lambda tasks: np.array([float(EnergyModel(bot.sheet).features(t.plan).energy_j) for t in tasks]),
        "calibrated, then frozen": lambda tasks: _learning(tasks, bot.sheet, until=calibrate),
        "calibrated": lambda tasks: _learning(tasks, bot.sheet),
        "duration known": lambda tasks: _learning(tasks, bot.sheet, known=True),
    }
    found = {}
    for name, predict in models.items():
        errors = [100 * _relative(predict(tasks), tasks)[calibrate:] for tasks in seeds]
        found[name] = (median(float(e.mean()) for e in errors), median(float(np.quantile(e, 0.9)) for e in errors))
    return found


def _relative(predicted_j: FloatArray, tasks: Sequence[Metered]) -> FloatArray:
    measured = np.array([task.energy_j for task in tasks])
    errors: FloatArray = np.abs(predicted_j / measured - 1)
    return errors


def _least_squares(tasks: Sequence[Metered], robot: RobotType, calibrate: int, *, with_time: bool) -> FloatArray:
    """Return energies in proportion to the way, or to way and planned time, fitted to the first tasks."""
    model = EnergyModel(robot)
    columns = np.array([[t.plan.length_m, float(model.features(t.plan).duration_s)] for t in tasks])
    columns = columns if with_time else columns[:, :1]
    measured = np.array([task.energy_j for task in tasks])
    weights, *_ = np.linalg.lstsq(columns[:calibrate], measured[:calibrate], rcond=None)
    fitted: FloatArray = columns @ weights
    return fitted


def rmf_j(plan: TaskPlan, robot: RobotType) -> float:
    """Return the energy of a plan by the equations of Open-RMF's rmf_battery (June 2024; motion and device power sinks).

    Power of motion is m |a| v + I |alpha| |w| + f m g v, that of devices constant; the trapezoids are integrated in closed
    form. Payload, slope and the losses of motors are not in these equations.
    """
    inertia = robot.mass_kg * robot.footprint_radius_m**2 / 2
    total = robot.hotel_w * float(EnergyModel(robot).features(plan).duration_s)
    for leg in plan.legs:
        speed = min(leg.speed_mps or robot.max_speed_mps, (robot.max_accel_mps2 * leg.length_m) ** 0.5)
        rate = min(robot.max_yaw_rate_radps, (robot.max_yaw_accel_radps2 * leg.turn_rad) ** 0.5)
        total += robot.mass_kg * speed**2 + inertia * rate**2
        total += robot.rolling_resistance * robot.mass_kg * G_MPS2 * leg.length_m
    return total


def _learning(tasks: Sequence[Metered], robot: RobotType, *, until: int | None = None, known: bool = False) -> FloatArray:
    """Return each task's energy as the robot would have predicted it, having learned from those before."""
    energy, duration = Calibration(robot), DurationModel(robot)
    predicted = []
    for number, task in enumerate(tasks):
        lasts = Estimate(task.duration_s, 0.0) if known else duration.predict(task.plan)
        predicted.append(energy.predict(task.plan, lasts).mean)
        if until is None or number < until:
            energy.update(task.plan, task.energy_j, task.duration_s)
            duration.update(task.plan, task.duration_s)
    return np.array(predicted)


# --- a step ---------------------------------------------------------------------------------------------------------------


def _step_row(bot: Bot, seeds: Sequence[Sequence[Metered]]) -> Row:
    """Return how many tasks after a step of the hotel power the error is that before it again.

    The step is put on the metered tasks of the realistic scenario, exactly: a constant power adds itself times the
    duration. Their tasks are alike but for chance, so many orders of them smooth the curve of the error.
    """
    chance, errors = random.Random(0), []
    for tasks in seeds:
        for _ in range(SHUFFLES):
            order = chance.sample(list(tasks), len(tasks))
            stepped = [
                Metered(t.plan, t.energy_j + (STEP_W * t.duration_s if i >= STEP_TASK else 0.0), t.duration_s)
                for i, t in enumerate(order)
            ]
            errors.append(_relative(_learning(stepped, bot.sheet), stepped))
    curve = np.mean(errors, axis=0)
    before = float(curve[CALIBRATE:STEP_TASK].mean())
    after = curve[STEP_TASK:]
    back = next((k for k in range(len(after)) if (after[k:] <= STEP_FACTOR * before).all()), None)
    worst = f"{100 * before:.1f} % before, {100 * after[0]:.1f} % at the step, {100 * after[-5:].mean():.1f} % in the end"
    note = f"+{STEP_W:g} W hotel power; {worst}"
    what = f"{bot.name}: tasks until the error is {STEP_FACTOR:g} times that before a step"
    return Row(what, back, "tasks", STEP_GOAL, note=note)


# --- books ----------------------------------------------------------------------------------------------------------------


def _books() -> Iterable[Row]:
    worst_out = worst_work = 0.0
    for bot in BOTS:
        with Track(bot.true) as track:
            track.world.tilt(bot.max_grade, 0.0)
            begun = track.world.books(ROBOT)
            track.straight(4.0, bot.speeds_mps[1])
            track.turn(2.0)
            track.load(15.0)
            track.straight(4.0, bot.speeds_mps[1])
            books = track.world.books(ROBOT) - begun
        worst_out = max(worst_out, abs(books.gap_j) / books.battery_out_j)
        worst_work = max(worst_work, abs(books.gap_j) / books.wheel_work_j)
    note = "worst of three robots on a slope; battery out against losses, friction and stored energy from contact forces"
    yield Row("energy books of the simulator, gap", 100 * worst_out, "% of the energy", 1.0, note=note)
    yield Row("the same gap over the wheels' work", 100 * worst_work, "%")


def _draw(table: Mapping[tuple[str, str], Mapping[str, tuple[float, float]]], path: Path) -> None:
    """Draw the errors of all models."""
    import matplotlib as mpl  # noqa: PLC0415 - only for the picture

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(BOTS), figsize=(15, 5), sharey=True)
    names = list(next(iter(table.values())))
    for axis, bot in zip(axes, BOTS, strict=True):
        for k, name in enumerate(names):
            at = [s + (k - len(names) / 2) * 0.11 for s in range(len(SCENARIOS))]
            axis.bar(at, [table[bot.name, s.name][name][0] for s in SCENARIOS], 0.1, label=name)
        for s, scenario in enumerate((CLEAN, REALISTIC, DRIFT)):
            if (goal := GOALS[bot.name, scenario.name][0]) is not None:
                axis.hlines(goal, s - 0.45, s + 0.45, colors="black", linestyles="dashed")
        axis.set_xticks(range(len(SCENARIOS)), [s.name for s in SCENARIOS])
        axis.set_title(bot.name)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("mean absolute error, % (dashed: goal of the calibrated model)")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main("energy_accuracy", measure, about=__doc__ or "", seeds=2, packages=("pybullet",))
