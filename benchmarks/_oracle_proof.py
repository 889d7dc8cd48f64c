"""Rows of `benchmarks.oracle` about evidence: openings, forged records, and energy that is signed and false.

Openings: an oracle changes a share of the records under its root, at random; buyers draw leaves with seeds of their own.
Forgeries: every kind is tried against a log that holds the true records. Energy: robots of PyBullet whose spec sheets are
wrong (`fleet_market_sim.bots`), metered task by task; fleets are drawn from those tasks, with an own factor for each robot.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scipy.stats import binomtest

from benchmarks.metered_tasks import metered
from benchmarks.report import Options, Row
from fleet_market.adapters.keyring import SigningKey, Verifier
from fleet_market.errors import ProtocolError
from fleet_market.ids import Identifier, MessageId, RobotId
from fleet_market.oracle.evidence import EvidenceLog, Opening, check, choose
from fleet_market.oracle.merkle import MerkleTree, leaf_hash
from fleet_market.oracle.residuals import WINDOW, EnergyWatch
from fleet_market.pricing import Calibration
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import TelemetryRecord
from fleet_market.protocol.registry import Directory
from fleet_market.protocol.telemetry import signed, statement
from fleet_market.testing.telemetry import Scribe, directory_of
from fleet_market_sim.bots import BOTS, DELIVERY, Bot
from fleet_market_sim.experiment import CLEAN, REALISTIC, Metered

LEAVES, TRIALS, QUICK_TRIALS = 5000, 10_000, 200
SEEDS_PER_LOG = 100
DRAWS = ((59, 0.05), (299, 0.01))
"""Openings, and the share of tampered records that they find with probability 0.95."""
FOUND_GOAL = 94.5
FORGERIES, QUICK_FORGERIES = 10_000, 200
FLEET, HISTORY, INFLATED = 10, 10, 1.2
"""Robots of one type; records of each before the ones that are looked at; what a liar says it drew."""
SPREADS = (0.02, 0.0, 0.05)
"""How honest robots differ from their type, standard deviation; the goals are set for the first [assumption], which is what
the test expects too; the others show what it depends on."""
FLEETS_PER_SEED, QUICK_FLEETS = 25, 8
METERED_SEEDS, TASKS, QUICK_TASKS = 5, 30, 4
CAUGHT_GOAL, FALSE_GOAL = 95.0, 1.0


def rows(options: Options) -> list[Row]:
    """Return the rows."""
    return [*_opening_rows(options), *_forgery_rows(options), *_energy_rows(options)]


def _percent(hits: int, of: int) -> tuple[float, str]:
    """Return a share in percent, and its 95 % interval (Clopper and Pearson 1934) in words."""
    interval = binomtest(hits, of).proportion_ci(0.95, method="exact")
    return 100 * hits / of, f"95 % interval {100 * interval.low:.2f} to {100 * interval.high:.2f}, {of} trials"


# --- openings -----------------------------------------------------------------------------------------------------------


def _opening_rows(options: Options) -> Iterable[Row]:
    trials = QUICK_TRIALS if options.quick else TRIALS
    chance = random.Random("openings")
    scribes = [Scribe(RobotId(f"robot-{k}")) for k in range(FLEET)]
    directory = directory_of(*scribes)
    records = [scribe.write() for _ in range(LEAVES // FLEET) for scribe in scribes]
    for count, share in DRAWS:
        tampered = round(share * LEAVES)
        logs = -(-trials // SEEDS_PER_LOG)
        hits = sum(_found(records, tampered, count, directory, chance) for _ in range(logs))
        value, note = _percent(hits, logs * SEEDS_PER_LOG)
        exact = 1 - math.comb(LEAVES - tampered, count) / math.comb(LEAVES, count)
        note += (
            f"; theory 1 - {1 - share:g}^{count} = {100 * (1 - (1 - share) ** count):.2f}, of {LEAVES} {100 * exact:.2f}"
        )
        yield Row(f"{count} random openings find {share:.0%} tampered records", value, "%", FOUND_GOAL, "higher", note)


def _found(
    records: Sequence[TelemetryRecord], tampered: int, count: int, directory: Directory, chance: random.Random
) -> int:
    """Return how many of `SEEDS_PER_LOG` buyers find out an oracle that has changed some of its records."""
    verify = Verifier()
    changed = set(chance.sample(range(len(records)), tampered))
    shown = [
        record.model_copy(update={"energy_j": record.energy_j * chance.uniform(0.5, 0.9)}) if k in changed else record
        for k, record in enumerate(records)
        if record.energy_j is not None
    ]
    tree = MerkleTree()
    for record in shown:
        tree.append(leaf_hash(statement(record)))
    root, size = tree.root().hex(), len(tree)
    sound: dict[int, bool] = {}

    def is_sound(leaf: int) -> bool:
        if leaf not in sound:
            honest = leaf in changed and chance.random() < 0.5  # whichever of the two it shows, it is found out
            proof = tuple(node.hex() for node in tree.proof(leaf))
            opening = Opening(leaf, size, (records if honest else shown)[leaf], proof)
            sound[leaf] = check(opening, root, size, directory, verify) is None
        return sound[leaf]

    return sum(not all(map(is_sound, choose(chance.randbytes(16), root, size, count))) for _ in range(SEEDS_PER_LOG))


# --- forgeries ----------------------------------------------------------------------------------------------------------


def _forgery_rows(options: Options) -> Iterable[Row]:
    tries = QUICK_FORGERIES if options.quick else FORGERIES
    attacks = {"mutated": _mutated, "replayed": _replayed, "reordered": _reordered, "wrongly signed": _wrongly_signed}
    for name, attack in attacks.items():
        accepted, made = attack(tries, random.Random(name))
        yield Row(
            f"{name} records accepted", accepted, f"of {made}", 0.0, note="each one decoded, verified and put in order"
        )


@dataclass
class _Victim:
    """A log with the true records of three robots."""

    scribes: list[Scribe] = field(default_factory=lambda: [Scribe(RobotId(f"robot-{k}")) for k in range(3)])
    written: list[TelemetryRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = EvidenceLog(directory_of(*self.scribes), Verifier())
        for _ in range(20):
            for scribe in self.scribes:
                self.written.append(scribe.write())
                self.hear(self.written[-1])

    def hear(self, record: TelemetryRecord) -> bool:
        """Return whether a record was let in or held back: whatever was not refused counts."""
        try:
            self.log.hear(record, self.now_ns, 0.0)
        except ProtocolError:
            return False
        return True

    @property
    def now_ns(self) -> int:
        """The time of the newest record."""
        return max(scribe.now_ns for scribe in self.scribes)


def _mutated(tries: int, chance: random.Random) -> tuple[int, int]:
    """Flip a bit of a message on its way, or change a field of the record; what is unchanged in meaning is not counted."""
    victim, accepted, made = _Victim(), 0, 0
    while made < tries:
        record = chance.choice(victim.scribes).write()
        message = bytearray(encode(Envelope(id=MessageId("m"), ts=0, src=Identifier(record.robot), body=record)))
        start = message.index(b'"body"')
        message[chance.randrange(start, len(message))] ^= 1 << chance.randrange(8)
        try:
            body = decode(bytes(message)).body
        except ProtocolError:
            body = None
        if body != record:
            made += 1
            accepted += isinstance(body, TelemetryRecord) and victim.hear(body)
            accepted += victim.hear(_changed(record, chance))
            made += 1
        victim.hear(record)
    return accepted, made


def _changed(record: TelemetryRecord, chance: random.Random) -> TelemetryRecord:
    part = chance.choice(("energy_j", "executed_s", "dwell_s", "seq", "chain", "previous", "legs", "fixes"))
    old = getattr(record, part)
    match part:
        case "seq" | "chain":
            new: object = old + chance.choice((-1, 1, 10)) if old else 1
        case "previous":
            new = chance.randbytes(32).hex()
        case "legs" | "fixes":
            moved = {"length_m": old[0].length_m * 1.1} if part == "legs" else {"x": old[0].x + 5.0}
            new = (old[0].model_copy(update=moved), *old[1:])
        case _:
            new = old * chance.uniform(0.5, 2.0) + 0.1
    return record.model_copy(update={part: new})


def _replayed(tries: int, chance: random.Random) -> tuple[int, int]:
    victim, accepted = _Victim(), 0
    for _ in range(tries):
        accepted += victim.hear(chance.choice(victim.written))
        if chance.random() < 0.1:
            victim.written.append(chance.choice(victim.scribes).write())
            victim.hear(victim.written[-1])
    return accepted, tries


def _reordered(tries: int, chance: random.Random) -> tuple[int, int]:
    """Deliver records shuffled, five at a time; count leaves that do not stand in the order in which they were written."""
    victim, wrong, made = _Victim(), 0, 0
    while made < tries:
        scribe = chance.choice(victim.scribes)
        burst = [scribe.write() for _ in range(5)]
        before = victim.log.root().size
        for record in chance.sample(burst, len(burst)):
            victim.hear(record)
        taken = [victim.log.open(leaf).record for leaf in range(before, victim.log.root().size)]
        wrong += sum(a != b for a, b in zip(taken, burst, strict=False)) + abs(len(burst) - len(taken))
        made += len(burst)
    return wrong, made


def _wrongly_signed(tries: int, chance: random.Random) -> tuple[int, int]:
    victim, stranger, accepted = _Victim(), SigningKey.generate(), 0
    for number in range(tries):
        scribe, other = chance.sample(victim.scribes, 2)
        record = scribe.write()
        match number % 4:
            case 0:
                forged = signed(record, other.sign)
            case 1:
                forged = signed(record, lambda content: (stranger.did, stranger.sign(content)))
            case 2:
                forged = signed(record, lambda content, k=scribe.key.did: (k, stranger.sign(content)))  # type: ignore[misc]
            case _:
                forged = record.model_copy(update={"key": None, "signature": None})
        accepted += victim.hear(forged)
        victim.hear(record)
    return accepted, tries


# --- energy -------------------------------------------------------------------------------------------------------------


@dataclass
class _Count:
    fleets: int = 0
    caught: int = 0
    false: int = 0
    honest: list[float] = field(default_factory=list)
    lying: list[float] = field(default_factory=list)

    def add(self, other: _Count) -> None:
        self.fleets += other.fleets
        self.caught += other.caught
        self.false += other.false


def _energy_rows(options: Options) -> Iterable[Row]:
    bots = (DELIVERY,) if options.quick else BOTS
    pools = {
        (bot.name, scenario.name): _pool(options, bot, scenario.name) for bot in bots for scenario in (CLEAN, REALISTIC)
    }
    counts: dict[tuple[str, str], _Count] = {}
    for spread in SPREADS[:1] if options.quick else SPREADS:
        for scenario in (CLEAN, REALISTIC):
            total = _Count()
            for bot in bots:
                count = _count(options, bot, pools[bot.name, scenario.name], f"{scenario.name} {spread}", spread)
                if spread == SPREADS[0]:
                    counts[bot.name, scenario.name] = count
                total.add(count)
            yield from _count_rows(f"energy +20 %, {scenario.name}", total, spread)
    for (bot_name, scenario_name), count in counts.items():
        value, note = _percent(count.caught, count.fleets)
        note += f"; false alarms {count.false} of {count.fleets}"
        yield Row(f"energy +20 %, {scenario_name}, {bot_name} alone: caught", value, "%", better="higher", note=note)
    yield _absorbed(bots, pools)
    if not options.quick:
        _draw(counts, options.out / "oracle_proof.png")


def _count_rows(what: str, count: _Count, spread: float) -> Iterable[Row]:
    goals = (CAUGHT_GOAL, FALSE_GOAL) if spread == SPREADS[0] else (None, None)
    more = f"; honest robots differ by {spread:.0%}"
    value, note = _percent(count.caught, count.fleets)
    yield Row(f"{what}, robots differ {spread:.0%}: caught", value, "%", goals[0], "higher", note + more)
    value, note = _percent(count.false, count.fleets)
    note += f"; an alarm at any of {WINDOW} looks in a row{more}"
    yield Row(f"{what}, robots differ {spread:.0%}: false alarms", value, "%", goals[1], note=note)


def _pool(options: Options, bot: Bot, scenario_name: str) -> list[Metered]:
    """Return metered tasks of a robot; of at most `METERED_SEEDS` seeds, which `energy_accuracy` drives too."""
    scenario = CLEAN if scenario_name == CLEAN.name else REALISTIC
    tasks, seeds = (QUICK_TASKS, 1) if options.quick else (TASKS, min(METERED_SEEDS, len(options.seeds)))
    return [task for seed in range(seeds) for task in metered(options.out, bot, scenario, seed, tasks)]


def _count(options: Options, bot: Bot, pool: Sequence[Metered], name: str, spread: float) -> _Count:
    count = _Count()
    for seed in options.seeds:
        chance = random.Random(f"{name} {bot.name} {seed}")
        for _ in range(QUICK_FLEETS if options.quick else FLEETS_PER_SEED):
            _fleet(count, bot, pool, spread, chance)
    return count


def _fleet(count: _Count, bot: Bot, pool: Sequence[Metered], spread: float, chance: random.Random) -> None:
    """Look at one robot of a fleet, once as it is and once as it would be if it inflated its last records."""
    watch = EnergyWatch({bot.name: bot.sheet})
    for k in range(1, FLEET):
        own = chance.gauss(1.0, spread)
        for task in chance.choices(pool, k=HISTORY + WINDOW):
            watch.learn(RobotId(f"r{k}"), bot.name, task.plan, own * task.energy_j, task.duration_s)
    robot, own, tasks = RobotId("r0"), chance.gauss(1.0, spread), chance.choices(pool, k=HISTORY + WINDOW)
    alarms = []
    for factor in (1.0, INFLATED):
        watch.forget(robot)
        for task in tasks[:HISTORY]:
            watch.learn(robot, bot.name, task.plan, own * task.energy_j, task.duration_s)
        looks = [
            watch.take(robot, bot.name, task.plan, factor * own * task.energy_j, task.duration_s)
            for task in tasks[HISTORY:]
        ]
        alarms.append(any(look is not None and look.alarm for look in looks))
        if (last := looks[-1]) is not None:
            (count.honest if factor == 1.0 else count.lying).append(last.score)
    count.fleets += 1
    count.false += alarms[0]
    count.caught += alarms[1]


def _absorbed(bots: Sequence[Bot], pools: dict[tuple[str, str], list[Metered]]) -> Row:
    """Return what is left to be seen of the lie for whoever asks the robot's own calibration."""
    left = []
    for bot in bots:
        chance, own = random.Random(f"absorbed {bot.name}"), Calibration(bot.sheet)
        for number, task in enumerate(chance.choices(pools[bot.name, REALISTIC.name], k=3 * WINDOW)):
            lesson = own.update(task.plan, INFLATED * task.energy_j, task.duration_s)
            if number >= 2 * WINDOW:
                left.append(lesson.measured / lesson.predicted - 1)
    note = f"beside: a robot that lies from its first record on, its records {2 * WINDOW + 1} to {3 * WINDOW}, realistic"
    return Row("energy +20 %: excess left against the robot's own calibration", 100 * sum(left) / len(left), "%", note=note)


def _draw(counts: dict[tuple[str, str], _Count], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - for pictures alone

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    from fleet_market.oracle.residuals import LIMIT  # noqa: PLC0415

    figure, axes = plt.subplots(len(counts), 1, sharex=True, figsize=(7, 1.4 * len(counts)), squeeze=False)
    for axis, ((bot, scenario), count) in zip(axes[:, 0], counts.items(), strict=True):
        axis.hist([count.honest, count.lying], bins=60, label=["honest", "+20 %"])
        axis.axvline(LIMIT, color="black", linewidth=0.8)
        axis.set_ylabel(f"{bot}\n{scenario}", fontsize=7)
    axes[0, 0].legend()
    axes[-1, 0].set_xlabel("mean excess of the last 10 records in standard errors; the line is the alarm")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
