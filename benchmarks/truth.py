"""Does lying pay? Thousands of deviations of one owner from honest asks, everyone else honest, the true costs known.

Small markets on a line: robots stand somewhere, a lot costs its robot the way to it and the way of the lot itself. Owners
have one to three robots. The liar asks too much or too little for everything or for one lot, or keeps asks or robots back.
Then what the promise does not cover is measured: robots registered as owners of their own, several rounds in a batch (a
robot that has won asks anew from where it will be), selling on what was won, and the other mechanisms.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.report import Options, Row, main
from fleet_market.auction import Clearing, LotOffer, Mechanism, SealedAsk, clear
from fleet_market.ids import OrderId, OwnerId, RobotId

TRIES, QUICK_TRIES = 20_000, 3_000
FEWER = 4
"""The rows without a goal take a quarter of the tries."""
LYING_TOO = 0.5
ROAD_M, UC_PER_M = 100.0, 10_000
CREDIT = 10**6
FACTORS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.01, 1.05, 1.1, 1.25, 1.5, 2.0, 5.0)


@dataclass
class Town:
    """Robots on a road with their owners, and the lots of a batch."""

    at_m: dict[RobotId, float]
    owner: dict[RobotId, OwnerId]
    lots: dict[OrderId, tuple[float, float]]
    budget_uc: dict[OrderId, int]
    handicap_uc: dict[tuple[RobotId, OrderId], int] = field(default_factory=dict)

    @classmethod
    def draw(cls, rng: random.Random) -> Town:
        """Return a market of 2 to 5 owners of 1 to 3 robots each and 1 to 8 lots."""
        owners = [OwnerId(f"w{i}") for i in range(rng.randint(2, 5)) for _ in range(rng.randint(1, 3))]
        robots = [RobotId(f"r{i}") for i in range(len(owners))]
        lots = {OrderId(f"o{j}"): (rng.uniform(0, ROAD_M), rng.uniform(0, ROAD_M)) for j in range(rng.randint(1, 8))}
        return cls(
            {robot: rng.uniform(0, ROAD_M) for robot in robots},
            dict(zip(robots, owners, strict=True)),
            lots,
            {lot: rng.randint(CREDIT // 4, 2 * CREDIT) for lot in lots},
            {(r, o): rng.choice([0, rng.randint(0, CREDIT // 5)]) for r in robots for o in lots},
        )

    def cost_uc(self, at_m: float, lot: OrderId) -> int:
        """Return what a lot costs a robot that is at `at_m`."""
        start, end = self.lots[lot]
        return round(UC_PER_M * (abs(at_m - start) + abs(end - start)))

    def honest(self, at_m: dict[RobotId, float], lots: Iterable[OrderId]) -> list[SealedAsk]:
        """Return everyone's true costs as asks."""
        return [
            SealedAsk(robot, self.owner[robot], lot, self.cost_uc(at, lot), self.handicap_uc[robot, lot])
            for lot in lots
            for robot, at in sorted(at_m.items())
        ]

    def offers(self, lots: Iterable[OrderId]) -> list[LotOffer]:
        """Return the lots with their budgets."""
        return [LotOffer(lot, self.budget_uc[lot]) for lot in lots]


Lie = Callable[[Sequence[SealedAsk]], list[SealedAsk]]


def draw_lie(rng: random.Random, liar: OwnerId, town: Town) -> tuple[str, Lie]:
    """Return one way for `liar` to deviate, and the name of its kind."""
    mine = [robot for robot, owner in town.owner.items() if owner == liar]
    kind = rng.choice(["overbid", "underbid", "withhold asks", "withhold robots", "one ask"])
    factor = (
        rng.choice([f for f in FACTORS if (f > 1) == (kind == "overbid")]) if kind != "one ask" else rng.choice(FACTORS)
    )
    hidden = set(rng.sample(mine, rng.randint(1, len(mine))))
    dropped = {(r, o) for r in mine for o in town.lots if rng.random() < 0.4}
    chosen = (rng.choice(mine), rng.choice(sorted(town.lots)))

    def lie(asks: Sequence[SealedAsk]) -> list[SealedAsk]:
        told = []
        for ask in asks:
            if ask.owner != liar:
                told.append(ask)
            elif kind in ("overbid", "underbid") or (kind == "one ask" and (ask.robot, ask.order) == chosen):
                told.append(replace(ask, ask_uc=round(ask.ask_uc * factor)))
            elif not (kind == "withhold asks" and (ask.robot, ask.order) in dropped) and not (
                kind == "withhold robots" and ask.robot in hidden
            ):
                told.append(ask)
        return told

    return kind, lie


def profit(town: Town, cleared: Clearing, robots: Iterable[RobotId]) -> int:
    """Return what these robots earn in a batch of one round, less what it costs them."""
    mine = set(robots)
    return sum(a.price_uc - town.cost_uc(town.at_m[a.robot], a.order) for a in cleared.awards if a.robot in mine)


def in_rounds(town: Town, lie: Lie | None, liar: OwnerId, mechanism: Mechanism = Mechanism.VCG) -> int:
    """Return the liar's profit in a batch of rounds, each with fresh marginal asks."""
    at_m, open_lots, earned = dict(town.at_m), list(town.lots), 0
    while open_lots:
        asks = town.honest(at_m, open_lots)
        cleared = clear(town.offers(open_lots), asks if lie is None else lie(asks), seed="s", mechanism=mechanism)
        if not cleared.awards:
            break
        for award in cleared.awards:
            if award.owner == liar:
                earned += award.price_uc - town.cost_uc(at_m[award.robot], award.order)
            at_m[award.robot] = town.lots[award.order][1]
            open_lots.remove(award.order)
    return earned


def selling_on(town: Town, cleared: Clearing, liar: OwnerId) -> int:
    """Return the liar's profit when it offers each lot that it won to idle robots at what the lot costs itself."""
    busy = {award.robot for award in cleared.awards}
    earned = 0
    for award in cleared.awards:
        if award.owner != liar:
            continue
        own_uc = town.cost_uc(town.at_m[award.robot], award.order)
        idle = {r: at for r, at in town.at_m.items() if r not in busy and town.owner[r] != liar}
        asks = [replace(ask, handicap_uc=0) for ask in town.honest(idle, [award.order])]
        resold = clear([LotOffer(award.order, own_uc)], asks, seed="resale")
        cost = min((a.price_uc for a in resold.awards), default=own_uc)
        busy |= {a.robot for a in resold.awards}
        earned += award.price_uc - cost
    return earned


@dataclass
class Tally:
    """What lies of one kind came to."""

    tries: int = 0
    profitable: int = 0
    largest_uc: int = 0

    def add(self, gain_uc: int) -> None:
        """Count one deviation."""
        self.tries += 1
        self.profitable += gain_uc > 0
        self.largest_uc = max(self.largest_uc, gain_uc)

    def rows(self, what: str, *, goal: float | None = None, note: str = "") -> Iterable[Row]:
        """Return how many lies paid, and how much the best one gained."""
        yield Row(f"{what}: profitable lies", float(self.profitable), f"of {self.tries}", goal, note=note)
        yield Row(f"{what}: largest gain", self.largest_uc / CREDIT, "credits", goal, note="budgets are 0.25 to 2 credits")


def measure(options: Options) -> Iterable[Row]:
    """Return the rows."""
    tries = (QUICK_TRIES if options.quick else TRIES) * len(options.seeds)
    rng = random.Random(options.seeds[-1])
    kinds: dict[str, Tally] = {}
    for _ in range(tries):
        town = Town.draw(rng)
        liar = rng.choice(sorted(town.owner.values()))
        kind, lie = draw_lie(rng, liar, town)
        mine = [r for r, owner in town.owner.items() if owner == liar]
        asks, offers = town.honest(town.at_m, town.lots), town.offers(town.lots)
        honest = profit(town, clear(offers, asks, seed="s"), mine)
        label = f"vcg, one round, {kind}, owner of {len(mine)}"
        kinds.setdefault(label, Tally()).add(profit(town, clear(offers, lie(asks), seed="s"), mine) - honest)
    whole = Tally(tries, sum(t.profitable for t in kinds.values()), max(t.largest_uc for t in kinds.values()))
    yield from whole.rows("vcg, one round, all lies of one registered owner", goal=0.0)
    for label, tally in sorted(kinds.items()):
        yield from list(tally.rows(label, goal=0.0))[:1]
    yield from _left_open(rng, tries // FEWER)


def _left_open(rng: random.Random, tries: int) -> Iterable[Row]:
    split, rounds, resale = Tally(), Tally(), Tally()
    others = {mechanism: Tally() for mechanism in Mechanism if mechanism is not Mechanism.VCG}
    for _ in range(tries):
        town = Town.draw(rng)
        liar = rng.choice(sorted(town.owner.values()))
        mine = [r for r, owner in town.owner.items() if owner == liar]
        _, lie = draw_lie(rng, liar, town)
        asks, offers = town.honest(town.at_m, town.lots), town.offers(town.lots)
        truth, lied = clear(offers, asks, seed="s"), clear(offers, lie(asks), seed="s")
        honest = profit(town, truth, mine)
        if len(mine) > 1:
            told = lie(asks) if rng.random() < LYING_TOO else asks
            names = [replace(a, owner=OwnerId(f"{a.owner}-{a.robot}")) if a.owner == liar else a for a in told]
            split.add(profit(town, clear(offers, names, seed="s"), mine) - honest)
        rounds.add(in_rounds(town, lie, liar) - in_rounds(town, None, liar))
        resale.add(selling_on(town, lied, liar) - selling_on(town, truth, liar))
        for mechanism, tally in others.items():
            lie_earns = profit(town, clear(offers, lie(asks), seed="s", mechanism=mechanism), mine)
            tally.add(lie_earns - profit(town, clear(offers, asks, seed="s", mechanism=mechanism), mine))
    note = "robots registered as owners of their own, half of them lying too"
    yield from split.rows("left open: vcg, one round, unregistered split of an owner of 2 or 3", note=note)
    yield from rounds.rows(
        "left open: vcg, rounds in a batch", note="an owner that loses a round by asking more bids again"
    )
    yield from resale.rows("left open: vcg, one round, what was won may be sold on")
    for mechanism, tally in others.items():
        yield from tally.rows(f"not promised: {mechanism}, one round")


if __name__ == "__main__":
    main("truth", measure, about=__doc__ or "", seeds=1)
