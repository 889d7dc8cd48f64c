"""Wear: what is charged over a part's life against its replacement, and predicted battery lives against measured cells.

(a) Every part of every robot type lives its life under random tasks. The truth of the battery is its capacity, which is not
additive; the price is. (b) Cells of four public ageing sets, by chemistry; conditions in docs/wear.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Options, Row, main, need_data
from benchmarks.wear_cells import Cell, cells_of, predicted_efc
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.body import RobotType
from fleet_market.pricing import PlanLeg, TaskPlan, duration_s, energy_j
from fleet_market.pricing.ageing import FORMS, mean_c_rate
from fleet_market.pricing.components import Tally
from fleet_market.pricing.duty import Duty, duty_of
from fleet_market.pricing.life import (
    J_PER_WH,
    calendar_damage,
    calendar_share,
    calendar_share_per_h,
    capacity,
    planned_life,
    throughput_share,
)
from fleet_market.pricing.soc_trace import damage_of
from fleet_market.pricing.wear import arm_rated_h, drive_replacement, wear

FloatArray = NDArray[np.float64]
ROOT = Path(__file__).parents[1]
GOAL = 0.05
POOL = 400
"""Random tasks of a type; a life draws from them again and again."""
SHIFT_H, NIGHT_H = 16.0, 8.0
CELL_CV = 0.16
"""Spread of cycle life between equal cells (HUST set)."""


def robot_types() -> list[RobotType]:
    """Return the shipped types, and variants with the parts and chemistries that those lack."""
    fleet = load_fleet(ROOT / "launch/fleets/auto.yaml")
    shipped = list({robot.type.name: robot.type for robot in fleet.robots}.values())
    carrier = next(t for t in shipped if t.name == "carrier")

    def variant(name: str, chemistry: str, **more: object) -> RobotType:
        battery = carrier.battery.model_copy(update={"chemistry": chemistry, "cycle_life_efc": None})
        return carrier.model_copy(update={"name": name, "battery": battery} | more)

    tools = carrier.wear.model_copy(update={"brush_set_uc": 4_000_000_000, "arm_set_uc": 150_000_000_000})
    skid = variant("skid with arm, nmc", "nmc", drive="skid", wheelbase_m=0.5, wear=tools)
    return [*shipped, variant("carrier, lmo", "lmo"), skid]


@dataclass(frozen=True, slots=True)
class Pool:
    """Random tasks of one type: their duties, durations and the waits after them, (POOL,) arrays."""

    duty: Duty
    lasts_s: FloatArray
    idle_s: FloatArray

    @property
    def mass_ratio(self) -> FloatArray:
        """Load of a task: way times load over way."""
        return np.asarray(self.duty.load_m / np.maximum(self.duty.travel_m, 1e-9))


def pool_of(robot: RobotType, rng: np.random.Generator) -> Pool:
    """Return random tasks: an empty leg, a loaded leg, handling; an arm works a minute on each."""
    duties, lasts = [], []
    for _ in range(POOL):
        empty, loaded = rng.uniform(5, 60, 2)
        turns, halts = rng.uniform(0, 8, 2), rng.integers(1, 5, 2)
        payload = rng.uniform(0, robot.max_payload_kg)
        legs = (PlanLeg(empty, turns[0], int(halts[0]), 0.0), PlanLeg(loaded, turns[1], int(halts[1]), payload))
        plan = TaskPlan(legs, 2 * robot.handling_s)
        lasts.append(duration_s(plan, robot))
        duties.append(duty_of(plan, robot, energy_j(plan, robot), lasts[-1]))
    names = [name for name in Duty.__dataclass_fields__ if name != "arm_rated_h"]
    torque = rng.uniform(0.2, 1.2, POOL)
    arrays = {name: np.array([getattr(d, name) for d in duties], dtype=float) for name in names}
    arrays["arm_rated_h"] = np.asarray(arm_rated_h(1 / 60, rng.uniform(0.3, 1.0, POOL), torque))
    lasting = np.array(lasts)
    return Pool(Duty(**arrays), lasting, rng.exponential(0.4 * lasting.mean(), POOL))


@dataclass
class BatteryLife:
    """The sums of one battery's life, as shares of its price."""

    days: int = 0
    efc: float = 0.0
    planned: float = 0.0
    """Throughput form and planned rent, nothing learnt."""
    learnt: float = 0.0
    """The same times what the robot learnt from the days before."""
    measured: float = 0.0
    """Rainflow form on measured days, rent after measured charge and temperature."""


def battery_life(
    robot: RobotType, pool: Pool, rng: np.random.Generator, *, busy: float = 1.0, cell: float = 1.0
) -> BatteryLife:
    """Return what is charged until the capacity falls to its end.

    Two shifts of tasks, then a night on the charger. The robot charges when the state of charge falls below a threshold
    that varies around `resume_soc`; in a third of the cycles it charges a little in between. Cells are at 25 C on average,
    +-5 C over the year and 2 C from day to day.

    Parameters
    ----------
    busy : float
        Work against the usual: below 1, the robot waits more.
    cell : float
        Life of this pack's cells against its chemistry's.
    """
    battery, sums = robot.battery, BatteryLife()
    plan, rent = planned_life(battery), calendar_share_per_h(battery)
    work_j = np.asarray(pool.duty.energy_out_j) + robot.hotel_w * pool.idle_s
    rates = np.asarray(pool.duty.c_rate)
    shares = np.asarray(throughput_share(battery, work_j, rates))
    cycles = calendar = 0.0
    by_cycles, by_time = Tally(), Tally()
    health, hours = 1.0, SHIFT_H + NIGHT_H
    while health > battery.end_capacity:
        trace, picked = _day(robot, pool, work_j, rng, health, busy)
        celsius = battery.temperature_c + 5 * np.sin(2 * np.pi * sums.days / 365) + rng.normal(0, 2)
        c_rate = float(mean_c_rate(battery.max_charge_w / battery.capacity_wh, float(rates[picked].mean())))
        damage = damage_of(battery, trace, c_rate, celsius, health)
        mean_soc = float(trace.mean()) * SHIFT_H / hours + battery.target_soc * NIGHT_H / hours
        cycles += damage / cell
        calendar += float(calendar_damage(battery, hours, mean_soc, celsius))
        sums.days += 1
        sums.efc += float(work_j[picked].sum()) / (battery.capacity_wh * J_PER_WH)
        used = float(shares[picked].sum())
        sums.planned += used + rent * hours
        sums.learnt += used * by_cycles.factor + rent * hours * by_time.factor
        measured, rented = plan.cycle_weight * damage, float(calendar_share(battery, hours, mean_soc, celsius))
        sums.measured += measured + rented
        by_cycles, by_time = by_cycles.plus(used, measured), by_time.plus(rent * hours, rented)
        health = float(capacity(battery, cycles, calendar))
    return sums


def _day(
    robot: RobotType, pool: Pool, work_j: FloatArray, rng: np.random.Generator, health: float, busy: float
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the turning points of the state of charge over a day, and the tasks that were done."""
    battery = robot.battery
    full_j = battery.capacity_wh * J_PER_WH * health
    charge_s_per_soc = full_j / battery.max_charge_w
    picks = rng.integers(0, POOL, 2000)
    span_s = np.cumsum(pool.lasts_s[picks] + pool.idle_s[picks] + (1 / busy - 1) * pool.lasts_s.mean())
    drawn = np.cumsum(work_j[picks]) / full_j
    soc, done, clock, trace = battery.target_soc, 0, 0.0, [battery.target_soc]
    while clock < SHIFT_H * 3600:
        floor = rng.uniform(battery.reserve_soc, 2 * battery.resume_soc - battery.reserve_soc)
        top = battery.target_soc
        if rng.random() < 1 / 3:
            floor, top = (floor + soc) / 2, min(battery.target_soc, (floor + soc) / 2 + 0.1)
        before_j, before_s = (drawn[done - 1], span_s[done - 1]) if done else (0.0, 0.0)
        by_charge = int(np.searchsorted(drawn, before_j + max(0.0, soc - floor)))
        by_time = int(np.searchsorted(span_s, before_s + SHIFT_H * 3600 - clock))
        ended = min(max(by_charge, done + 1), by_time + 1, len(picks) - 1)
        low = soc - (drawn[ended - 1] - before_j)
        clock += span_s[ended - 1] - before_s + max(0.0, top - low) * charge_s_per_soc
        top = max(top, low)
        trace += [low, top]
        soc, done = top, ended
    trace.append(battery.target_soc)
    return np.clip(np.array(trace), 0, 1), picks[:done]


def tread_ratio(robot: RobotType, pool: Pool, rng: np.random.Generator) -> float:
    """Return the sum charged over the life of a set of tyres, over its price; the worn volume k F s is the truth."""
    spec, k = robot.wear, 1.0
    gravity_n = 9.80665 * robot.mass_kg
    budget = k * gravity_n * spec.tread_rated_slip * spec.tread_life_m
    dragged = robot.wheelbase_m / 2 if robot.drive == "skid" else 0.0
    scrub_m = 2 / 3 * spec.contact_half_length_m + dragged
    charged = np.asarray(wear(pool.duty, robot).tread.uc)

    def worn(picks: NDArray[np.int64]) -> FloatArray:
        slip = spec.tread_slip * np.exp(rng.normal(0, 0.4, len(picks)) - 0.08)
        rolled = np.asarray(pool.duty.load_m)[picks] + robot.track_width_m / 2 * np.asarray(pool.duty.scrub_rad)[picks]
        return np.asarray(k * gravity_n * (slip * rolled + scrub_m * np.asarray(pool.duty.scrub_rad)[picks]))

    return _until(worn, budget, charged, rng) / spec.tread_set_uc


def brush_ratio(robot: RobotType, pool: Pool, rng: np.random.Generator) -> float:
    """Return the sum charged over the life of the brushes, over their price; each task's current is off by 20 %."""
    spec, duty = robot.wear, pool.duty

    def worn(picks: NDArray[np.int64]) -> FloatArray:
        current = np.asarray(duty.current_ratio)[picks] * np.maximum(0.1, rng.normal(1, 0.2, len(picks)))
        return np.asarray(np.asarray(duty.drive_h)[picks] * current**spec.brush_current_exponent)

    return _until(worn, spec.brush_life_h, np.asarray(wear(duty, robot).brushes.uc), rng) / spec.brush_set_uc


def arm_ratio(robot: RobotType, pool: Pool, rng: np.random.Generator) -> float:
    """Return the sum charged over the life of an arm's gears, over their price; each task's torque is off by 10 %."""

    def worn(picks: NDArray[np.int64]) -> FloatArray:
        off = np.maximum(0.1, rng.normal(1, 0.1, len(picks)))
        return np.asarray(np.asarray(pool.duty.arm_rated_h)[picks] * off**3)

    charged = np.asarray(wear(pool.duty, robot).arm.uc)
    return _until(worn, robot.wear.arm_life_h, charged, rng) / robot.wear.arm_set_uc


def _until(
    worn: Callable[[NDArray[np.int64]], FloatArray], budget: float, charged: FloatArray, rng: np.random.Generator
) -> float:
    """Return what is charged for random tasks until their wear reaches `budget`."""
    total = used = 0.0
    while True:
        picks = rng.integers(0, POOL, 200_000)
        wears = np.cumsum(worn(picks)) + used
        if wears[-1] >= budget:
            last = int(np.searchsorted(wears, budget))
            return total + float(charged[picks[: last + 1]].sum())
        total, used = total + float(charged[picks].sum()), float(wears[-1])


def drive_ratios(robot: RobotType, rng: np.random.Generator, lives: int) -> tuple[float, float]:
    """Return charged over paid for gear motors that fail or are replaced: by the long-run rate, and by the hazard."""
    part = drive_replacement(robot)
    scale_h = part.scale_h or float("inf")
    failed_h = scale_h * rng.weibull(part.shape, lives)
    ages = np.minimum(failed_h, part.interval_h)
    paid = np.where(failed_h < part.interval_h, part.failure_uc, part.planned_uc).sum()
    by_hazard = np.asarray(part.marginal_uc(np.zeros(lives), ages)).sum()
    return float(part.rate_uc_per_h * ages.sum() / paid), float(by_hazard / paid)


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    lives = {robot.name: [_lives(robot, seed, quick=options.quick) for seed in options.seeds] for robot in robot_types()}
    for name, runs in lives.items():
        for part in runs[0]:
            yield _row(f"{name}: {part}", [run[part] for run in runs])
    yield from _robustness(options)
    cells = cells_of(need_data(options, "battery_cell_life.csv"))
    yield from _cells(cells)
    _picture(options.out / "wear_life.png", lives, cells)


def _lives(robot: RobotType, seed: int, *, quick: bool) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    pool = pool_of(robot, rng)
    life = battery_life(robot, pool, rng)
    rate, hazard = drive_ratios(robot, rng, 1000 if quick else 5000)
    ratios = {
        "battery, throughput form as planned": life.planned,
        "battery, throughput form as learnt": life.learnt,
        "battery, rainflow form": life.measured,
        "gear motors, long-run rate": rate,
        "gear motors, hazard": hazard,
        "tread": tread_ratio(robot, pool, rng),
    }
    if robot.wear.brush_set_uc:
        ratios["brushes"] = brush_ratio(robot, pool, rng)
    if robot.wear.arm_set_uc:
        ratios["arm"] = arm_ratio(robot, pool, rng)
    return ratios


def _row(what: str, ratios: Sequence[float]) -> Row:
    note = f"charged / price {fmean(ratios):.3f}, seeds {min(ratios):.3f} to {max(ratios):.3f}"
    return Row(f"{what}, off by", abs(fmean(ratios) - 1), "", GOAL, note=note)


def _robustness(options: Options) -> Iterable[Row]:
    """Yield how far the price is off when use or cells are not as planned; no goals."""
    for robot in robot_types():
        rng = np.random.default_rng(1000)
        pool = pool_of(robot, rng)
        usual = battery_life(robot, pool, rng)
        use = f"{usual.efc / usual.days:.2f} EFC a day, planned {robot.battery.planned_efc_per_day:g}"
        yield Row(f"{robot.name}: life of the battery", usual.days / 365, "years", note=use)
        half = battery_life(robot, pool, rng, busy=0.4)
        note = f"throughput form as learnt, {half.efc / half.days:.2f} EFC a day, the plan not changed"
        yield Row(f"{robot.name}: battery, charged / price with little work", half.learnt, note=note)
    carrier = robot_types()[0]
    rng = np.random.default_rng(2000)
    pool = pool_of(carrier, rng)
    spread = [
        life.learnt
        for cell in rng.normal(1, CELL_CV, 3 if options.quick else 20)
        for life in [battery_life(carrier, pool, rng, cell=float(max(0.3, cell)))]
    ]
    low, high = np.quantile(spread, [0.1, 0.9])
    note = f"cycle lives of cells differ by {CELL_CV:.0%}: 10 % to 90 % {low:.2f} to {high:.2f}"
    yield Row("carrier: charged / price, packs that differ", median(spread), note=note)


def _cells(cells: Sequence[Cell]) -> Iterable[Row]:
    """Yield predicted over measured lives, by chemistry and source."""
    for chemistry in FORMS:
        own = [cell for cell in cells if cell.conditions.chemistry == chemistry]
        if not own:
            yield Row(
                f"{chemistry}: predicted / measured life", None, note="unvalidated: no cell of this chemistry in the data"
            )
        for left in (90, 80):
            yield from _of_source(f"{chemistry}, all sources", own, left)
        for source in sorted({cell.conditions.source for cell in own}):
            for left in (90, 80):
                yield from _of_source(f"{chemistry}, {source}", [c for c in own if c.conditions.source == source], left)
    dropped = sorted({c.conditions.source for c in cells if c.conditions.chemistry is None})
    yield Row("cells left out", sum(c.conditions.chemistry is None for c in cells), note=", ".join(dropped))


def _of_source(what: str, cells: Sequence[Cell], left: int) -> Iterable[Row]:
    known = [(cell.conditions, life) for cell in cells if (life := cell.efc[left]) is not None]
    if not known:
        return
    ratios = np.array([predicted_efc(conditions, left) / life for conditions, life in known])
    note = f"{len(known)} cells, 10 % to 90 %: {np.quantile(ratios, 0.1):.2f} to {np.quantile(ratios, 0.9):.2f}"
    yield Row(f"{what}: predicted / measured EFC to {left} %, median", float(np.median(ratios)), note=note)
    groups = {conditions.group for conditions, _ in known}
    if "all sources" in what or len(groups) < 2:
        return
    errors: list[float] = []
    for group in groups:
        held = np.array([conditions.group == group for conditions, _ in known])
        errors += list(np.abs(ratios[held] / np.median(ratios[~held]) - 1))
    yield Row(
        f"{what}: error to {left} %, scaled by other groups, median",
        100 * median(errors),
        "%",
        note="one cycle-life figure of the same source, from groups tested otherwise",
    )


def _picture(path: Path, lives: dict[str, list[dict[str, float]]], cells: Sequence[Cell]) -> None:
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    rows = [(f"{name}: {part}", [run[part] for run in runs]) for name, runs in lives.items() for part in runs[0]]
    for i, (_, ratios) in enumerate(rows):
        left.plot(ratios, [i] * len(ratios), "o", color="tab:blue", alpha=0.6)
    left.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=7)
    left.axvspan(1 - GOAL, 1 + GOAL, color="tab:green", alpha=0.15)
    left.invert_yaxis()
    left.set_xlabel("charged over life / replacement price")
    sources = sorted({c.conditions.source for c in cells if c.conditions.chemistry})
    for source in sources:
        own = [(c, life) for c in cells if c.conditions.source == source and (life := c.efc[90]) is not None]
        right.loglog([life for _, life in own], [predicted_efc(c.conditions, 90) for c, _ in own], ".", label=source)
    right.axline((100, 100), (1000, 1000), color="grey", lw=1)
    right.set_xlabel("measured equivalent full cycles to 90 %")
    right.set_ylabel("predicted from the conditions, nothing fitted")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main("wear_life", measure, about=__doc__ or "", seeds=5, packages=("rainflow",))
