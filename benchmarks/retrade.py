"""What re-trading is worth: tasks are dealt to robots at random, then sold on from robot to robot until nothing is gained.

Ten robots of three kinds stand in the demo's warehouse. They know themselves from tasks that they have done before, and
price with the software that runs on robots; afterwards the queues of everyone before and after every trade are driven in
the physics, which shows what the trades were really worth. Small instances are compared with the exact optimum (dynamic
programming over all divisions and orders). Then does lying pay? One robot overstates or understates what it saves and
asks, everyone else is honest: no rule without money from outside could exclude that (Myerson and Satterthwaite 1983).
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import mean

from benchmarks._trading_floor import CREDIT, Exchange, PlaneTrader, RealTrader
from benchmarks.report import Options, Row, main
from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.adapters.map_files import load_map
from fleet_market.body import Pose
from fleet_market.ids import OrderId, RobotId
from fleet_market.pricing import Tariff
from fleet_market.protocol.messages import ASK_PARTS, Place, TradeRecord
from fleet_market.robot.floor import Floor, lay_out
from fleet_market.robot.memory import Memory
from fleet_market.robot.queue import Errand, Queue
from fleet_market_sim import Truth
from fleet_market_sim.bots import BOTS, Bot
from fleet_market_sim.experiment import CLEAN, Track
from fleet_market_sim.experiment import run as drive_tasks

LAUNCH = Path(__file__).parents[1] / "launch"
TARIFF = Tariff(300_000)
SHELVES = [f"shelf-{row}{n}" for row in "abcd" for n in range(1, 5)]
DOCKS = [f"{side}-{n}" for side in ("receiving", "shipping") for n in range(1, 5)]
ROBOTS, TASKS, QUICK_TASKS = 10, 40, 10
SMALL_ROBOTS, SMALL_TASKS, SMALLS, QUICK_SMALLS = 3, 8, 10, 2
LIARS, QUICK_LIARS = 600, 30
"""Markets in which one robot lies in each of the ways."""
FALL_GOAL, EXECUTED_GOAL, GAP_GOAL = 0.20, 0.90, 0.10
PAYLOADS_KG = (1.0, 18.0)
LEARNED, LEARNED_SEED = 6, 77
"""Tasks that a robot of each kind has done before, from which it knows itself better than its data sheet does."""
TURN_STEP_RAD = math.pi / 2
"""Turns of a leg are driven as turns of at most so much."""
LIES = {
    "says to save 10 % more": (1.1, 1.0),
    "says to save 10 % less": (0.9, 1.0),
    "asks 10 % more": (1.0, 1.1),
    "asks 10 % less": (1.0, 0.9),
    "says to save 10 % less and asks 10 % more": (0.9, 1.1),
    "says to save 30 % less and asks 30 % more": (0.7, 1.3),
}
"""By what a liar multiplies what it saves, and what it asks."""
ROAD_M = 40.0


def measure(options: Options) -> Iterator[Row]:
    """Return the rows."""
    floor = _floor()
    runs = [_run(floor, seed, QUICK_TASKS if options.quick else TASKS) for seed in options.seeds]
    yield from _dealt_rows(runs)
    yield from _driven_rows(runs, trades=not options.quick)
    yield from _optimum_rows(floor, range(QUICK_SMALLS if options.quick else SMALLS))
    yield from _lie_rows(range(QUICK_LIARS if options.quick else LIARS))
    if not options.quick:
        _draw(runs, options.out / "retrade.png")


def _floor() -> Floor:
    fleet = load_fleet(LAUNCH / "fleets/warehouse.yaml")
    return lay_out(fleet, load_map(LAUNCH / "maps/warehouse.yaml"), source="fleet")


def _tasks(count: int, rng: random.Random) -> dict[OrderId, tuple[str, str, float]]:
    """Return tasks between shelves and docks, either way."""
    tasks = {}
    for i in range(count):
        ends = [rng.choice(SHELVES), rng.choice(DOCKS)]
        rng.shuffle(ends)
        tasks[OrderId(f"o{i}")] = (ends[0], ends[1], rng.uniform(*PAYLOADS_KG))
    return tasks


def _traders(floor: Floor, count: int, rng: random.Random) -> dict[RobotId, RealTrader]:
    traders = {}
    for i in range(count):
        x, y = rng.choice(floor.roadmap.xy)
        bot = BOTS[i % len(BOTS)]
        kind = bot.sheet.model_copy(update={"max_tasks": 24})
        name = RobotId(f"{bot.name}-{i}")
        traders[name] = RealTrader(
            name, kind, Pose(x, y, rng.choice((0.0, math.pi / 2))), floor, TARIFF, copy.deepcopy(_learned(bot.name))
        )
    return traders


@cache
def _learned(name: str) -> Memory:
    """Return what a robot of a kind knows after some tasks, other ones than those that are dealt out."""
    bot = next(bot for bot in BOTS if bot.name == name)
    memory = Memory(bot.sheet)
    for task in drive_tasks(bot, CLEAN, LEARNED_SEED, LEARNED):
        memory.settled(
            task.plan,
            memory.quote(task.plan, TARIFF),
            measured_j=task.energy_j,
            executed_s=task.duration_s,
            elapsed_s=task.duration_s,
        )
    return memory


# --- trades, and what they are worth --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A trade, and the queues of its robots before and after it."""

    record: TradeRecord
    before: dict[RobotId, Queue]
    after: dict[RobotId, Queue]

    def gain_uc(self, robot: RobotId, before_uc: float, after_uc: float) -> float:
        """Return what a robot gains if its queues cost this."""
        paid = sum(m.price_uc for m in self.record.moves if m.giver == robot)
        got = sum(m.price_uc for m in self.record.moves if m.taker == robot)
        return before_uc - after_uc + got - paid


@dataclass
class Run:
    """One market from the deal to the last trade."""

    traders: dict[RobotId, RealTrader]
    exchange: Exchange
    dealt: dict[RobotId, Queue]
    traded: dict[RobotId, Queue]
    steps: list[Step]
    totals_uc: list[int]
    """Sum of all queues' costs, dealt and after each trade."""
    cpu_s: float


def _run(floor: Floor, seed: int, tasks: int, robots: int = ROBOTS) -> Run:
    rng = random.Random(seed)
    traders = _traders(floor, robots, rng)
    exchange = Exchange(floor.places, traders)
    exchange.deal(_tasks(tasks, rng), rng)
    dealt = {name: trader.queue for name, trader in traders.items()}
    queues, steps, totals_uc = dict(dealt), list[Step](), [exchange.cost_uc()]

    def note(record: TradeRecord) -> None:
        involved = {robot for move in record.moves for robot in (move.giver, move.taker)}
        before = {robot: queues[robot] for robot in involved}
        queues.update((robot, traders[robot].queue) for robot in involved)
        steps.append(Step(record, before, {robot: queues[robot] for robot in involved}))
        totals_uc.append(exchange.cost_uc())

    exchange.on_trade = note
    begun_s = time.process_time()
    exchange.trade()
    return Run(traders, exchange, dealt, queues, steps, totals_uc, time.process_time() - begun_s)


def _dealt_rows(runs: Sequence[Run]) -> Iterator[Row]:
    falls = [1 - run.totals_uc[-1] / run.totals_uc[0] for run in runs]
    trades = sum(len(run.steps) for run in runs)
    yield Row(
        f"{ROBOTS} robots, tasks dealt at random: total cost falls by, worst seed",
        100 * min(falls),
        "%",
        100 * FALL_GOAL,
        "higher",
        f"mean {100 * mean(falls):.1f} %, as the robots price their queues",
    )
    gains = [
        step.gain_uc(r, run.traders[r].bidder.cost(step.before[r]).total_uc, run.traders[r].bidder.cost(q).total_uc)
        for run in runs
        for step in run.steps
        for r, q in step.after.items()
    ]
    both = _both_gain(runs, gains)
    yield Row("trades that leave everyone better off, as priced", 100 * both, "%", 100.0, "higher", f"{trades} trades")
    asked = sum(len(run.exchange.records) for run in runs)
    cpu_s = sum(run.cpu_s for run in runs)
    yield Row(
        "re-auctions until nothing better is found", asked / len(runs), "", note=f"{trades / len(runs):.0f} trades each"
    )
    yield Row("CPU per re-auction, market and all robots asked", 1e3 * cpu_s / asked, "ms")


def _both_gain(runs: Sequence[Run], gains: Sequence[float]) -> float:
    """Return the share of trades all of whose robots gain; `gains` are in the order of runs, steps and robots."""
    left, good, count = iter(gains), 0, 0
    for run in runs:
        for step in run.steps:
            good += min([next(left) for _ in step.after]) > 0
            count += 1
    return good / count if count else math.nan


# --- what it costs in the physics -----------------------------------------------------------------------------------------


class Meter:
    """Drives the queues of one robot in the physics and prices what they took; each queue once."""

    def __init__(self, trader: RealTrader) -> None:
        self._trader = trader
        self._bot = next(bot for bot in BOTS if bot.name == trader.kind.name)
        self._known: dict[tuple[object, ...], float] = {(): 0.0}

    def cost_uc(self, queue: Queue) -> float:
        """Return what a queue costs when energy and time are as measured, and the rest as priced."""
        if queue.visits not in self._known:
            self._known[queue.visits] = self._driven_uc(queue)
        return self._known[queue.visits]

    def _driven_uc(self, queue: Queue) -> float:
        bidder = self._trader.bidder
        price = bidder.cost(queue)
        energy_j, lasts_s = _drive(self._bot, queue, bidder)
        parts = dict(zip(ASK_PARTS, price.parts_uc, strict=True))
        planned_s = max(price.drop_s.values())
        measured = parts["energy"] * energy_j / price.energy_j + parts["time"] * lasts_s / planned_s
        return measured + sum(uc for part, uc in parts.items() if part not in ("energy", "time"))


def _drive(bot: Bot, queue: Queue, bidder: object) -> tuple[float, float]:
    """Return energy and duration of a queue, driven leg by leg on a free floor with the robot as it really is."""
    legs = bidder.legs  # type: ignore[attr-defined]
    at, aboard = queue.pose, False
    with Track(bot.true, Truth()) as track:
        begun_j, begun_s = track.energy_j, track.now_s
        for visit in queue.visits:
            way = legs.way(at, queue.place(visit))
            for leg in way.plan(at.yaw, 0.0):
                _turn(track, leg.turn_rad)
                stretches = max(1, round(leg.halts))
                for _ in range(stretches if leg.length_m > 0 else 0):
                    track.straight(leg.length_m / stretches, bot.true.max_speed_mps)
            at = way.end
            track.rest(bot.true.handling_s)
            if aboard:
                track.unload()
            else:
                track.load(queue.errand(visit.order).payload_kg)
            aboard = not aboard
        return track.energy_j - begun_j, track.now_s - begun_s


def _turn(track: Track, by_rad: float) -> None:
    turns = math.ceil(by_rad / TURN_STEP_RAD)
    for i in range(turns):
        track.turn(by_rad / turns * (1 if i % 2 else -1))


def _driven_rows(runs: Sequence[Run], *, trades: bool) -> Iterator[Row]:
    meters = [{name: Meter(trader) for name, trader in run.traders.items()} for run in runs]
    falls = []
    for run, meter in zip(runs, meters, strict=True):
        before, after = (sum(meter[n].cost_uc(q) for n, q in queues.items()) for queues in (run.dealt, run.traded))
        falls.append(1 - after / before)
    yield Row(
        "total cost falls by, driven in the physics, worst seed",
        100 * min(falls),
        "%",
        100 * FALL_GOAL,
        "higher",
        f"mean {100 * mean(falls):.1f} %; energy and time as measured, wear as priced",
    )
    what = "trades that leave everyone better off, driven in the physics"
    if not trades:
        yield Row(what, None, "%", note="only in a full run")
        return
    gains = [
        step.gain_uc(r, meter[r].cost_uc(step.before[r]), meter[r].cost_uc(q))
        for run, meter in zip(runs, meters, strict=True)
        for step in run.steps
        for r, q in step.after.items()
    ]
    yield Row(what, 100 * _both_gain(runs, gains), "%", 100 * EXECUTED_GOAL, "higher")


# --- how near to the optimum ----------------------------------------------------------------------------------------------


def optimum_uc(traders: Mapping[RobotId, RealTrader], errands: Sequence[Errand]) -> int:
    """Return the least cost at which robots that carry one parcel at a time can do some tasks.

    Costs of a queue add up over pairs of tasks that follow each other: where a task ends, and with which heading, does
    not depend on what came before. Held and Karp (1962) for every set of tasks, then the best division of them.
    """
    full = (1 << len(errands)) - 1
    best = {0: 0}
    for trader in traders.values():
        least = _least_uc(trader, errands)
        best = {
            done: min(best[done ^ mine] + uc for mine, uc in least.items() if mine & done == mine and done ^ mine in best)
            for done in range(full + 1)
        }
    return best[full]


def _least_uc(trader: RealTrader, errands: Sequence[Errand]) -> dict[int, int]:
    """Return what the cheapest order of every set of tasks costs a robot; sets are bits."""
    empty = trader.queue.without([errand.order for errand in trader.queue.errands])

    def cost_uc(*numbers: int) -> int:
        queue = empty
        for i in numbers:
            queue = queue.appended(errands[i])
        return trader.bidder.cost(queue).total_uc

    count = range(len(errands))
    first = [cost_uc(i) for i in count]
    then = {(i, j): cost_uc(i, j) - first[i] for i in count for j in count if i != j}
    ending = {(1 << i, i): first[i] for i in count}
    for size in range(2, len(errands) + 1):
        for members in combinations(count, size):
            mine = sum(1 << i for i in members)
            for j in members:
                before = mine ^ (1 << j)
                ending[mine, j] = min(ending[before, i] + then[i, j] for i in members if i != j)
    least = {0: 0}
    for (mine, _), uc in ending.items():
        least[mine] = min(uc, least.get(mine, uc))
    return least


def _optimum_rows(floor: Floor, seeds: Iterable[int]) -> Iterator[Row]:
    gaps, dealt = [], []
    for seed in seeds:
        run = _run(floor, 1000 + seed, SMALL_TASKS, SMALL_ROBOTS)
        errands = [errand for queue in run.dealt.values() for errand in queue.errands]
        least_uc = optimum_uc(run.traders, errands)
        gaps.append(run.totals_uc[-1] / least_uc - 1)
        dealt.append(run.totals_uc[0] / least_uc - 1)
    within = mean(gap <= GAP_GOAL for gap in gaps)
    what = f"{SMALL_TASKS} tasks, {SMALL_ROBOTS} robots: above the exact optimum, "
    note = f"dealt: mean {100 * mean(dealt):.0f} %"
    yield Row(what + "mean", 100 * mean(gaps), "%", 100 * GAP_GOAL, note=note)
    yield Row(what + "worst", 100 * max(gaps), "%", 100 * GAP_GOAL, note=f"{100 * within:.0f} % of {len(gaps)} within 10 %")


# --- lies -----------------------------------------------------------------------------------------------------------------


class Plane:
    """Places by their coordinates, as ``x;y``."""

    def resolve(self, text: str, *, source: str, field: str) -> Place:  # noqa: ARG002  (a port)
        """Return a place."""
        x, y = (float(part) for part in text.split(";"))
        return Place(x=x, y=y, name=text)


def _plane_market(seed: int, factors: tuple[float, float]) -> tuple[dict[RobotId, float], int]:
    """Return what each robot earns by trading, and the fall of the sum of costs; the first robot may lie."""
    rng = random.Random(seed)

    def spot() -> tuple[float, float]:
        return rng.uniform(0, ROAD_M), rng.uniform(0, ROAD_M)

    kind = BOTS[0].sheet.model_copy(update={"max_tasks": 24})
    robots = [RobotId(f"r{i}") for i in range(rng.randint(2, 4))]
    traders = {
        name: PlaneTrader(name, kind, Pose(*spot()), *(factors if i == 0 else (1.0, 1.0))) for i, name in enumerate(robots)
    }
    exchange = Exchange(Plane(), traders)
    places = ["{:.3f};{:.3f}".format(*spot()) for _ in range(2 * rng.randint(3, 8))]
    pairs = zip(places[::2], places[1::2], strict=True)
    exchange.deal({OrderId(f"o{i}"): (a, b, 1.0) for i, (a, b) in enumerate(pairs)}, rng)
    before = {name: trader.cost_uc() for name, trader in traders.items()}
    exchange.trade()
    earned = {name: float(before[name] - trader.cost_uc()) for name, trader in traders.items()}
    for record in exchange.trades:
        for move in record.moves:
            earned[move.giver] -= move.price_uc
            earned[move.taker] += move.price_uc
    return earned, sum(before.values()) - exchange.cost_uc()


def _lie_rows(seeds: Sequence[int]) -> Iterator[Row]:
    liar = RobotId("r0")
    honest = [_plane_market(seed, (1.0, 1.0)) for seed in seeds]
    usual = mean(earned[liar] for earned, _ in honest)
    for name, factors in LIES.items():
        lied = [_plane_market(seed, factors) for seed in seeds]
        more = [a[liar] - b[liar] for (a, _), (b, _) in zip(lied, honest, strict=True)]
        lost = 1 - sum(fall for _, fall in lied) / sum(fall for _, fall in honest)
        note = (
            f"loses in {100 * mean(m < 0 for m in more):.0f} %; earns {100 * mean(more) / usual:+.1f} % by trading, most "
            f"+{max(more) / CREDIT:.2f}; all together gain {100 * lost:.1f} % less"
        )
        yield Row(f"one robot {name}: pays in", 100 * mean(m > 0 for m in more), "% of markets", note=note)


def _draw(runs: Sequence[Run], path: Path) -> None:
    """Draw how the sum of costs falls from trade to trade."""
    import matplotlib as mpl  # noqa: PLC0415  (only where a picture is wanted)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 4))
    for run in runs:
        axes.plot([uc / CREDIT for uc in run.totals_uc], lw=1)
    axes.set(xlabel="trades", ylabel="sum of costs, credits", title="Re-trading after a random deal", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main("retrade", measure, about=__doc__ or "", seeds=3)
