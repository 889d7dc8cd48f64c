"""Robots with contracts in hand in the town of `benchmarks._oracle_town`: they do them, resell them now, or wait.

Before every batch one robot that was drawn holds a contract that was priced from where the robot then stood; by now it
stands elsewhere, and what the contract costs it has changed. What another would take is the full-information price of the
contract on the market of that very batch: known to nobody before the batch has closed. A sale at which the robot would lose
does not come about: its re-auction finds nobody, and it does the contract itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from benchmarks._oracle_town import BATCH_S, SIDE_M, Robot, Town
from fleet_market.auction import LotOffer, SealedAsk
from fleet_market.errors import InputError
from fleet_market.ids import OrderId, RobotId
from fleet_market.oracle import Knowledge, Question, fair_bands, make_or_buy
from fleet_market.oracle.terms import Choice
from fleet_market.units import ns

LATER = 12
"""Batches for which a robot could wait."""
MARGIN = (1.0, 1.3)
"""Price of the contract, as a multiple of what it cost the robot when it won it."""
WARM_UP = 60
"""Batches at the beginning in which nothing is asked."""
HELD = OrderId("held")
BUDGET_UC = 10**9


@dataclass(slots=True)
class _Open:
    """A contract whose later price is still to be seen."""

    due: int
    task: Question
    holder: RobotId
    do_uc: int
    now_uc: int
    price_uc: int
    choice: Choice


@dataclass(slots=True)
class Holders:
    """Decides for robots that hold contracts, and adds up what came of it, micro-credits."""

    knowledge: Knowledge
    rng: np.random.Generator
    cost_uc: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("oracle", "usual", "do"), 0.0))
    best_uc: float = 0.0
    """Costs of who knows all prices beforehand."""
    count: int = 0
    _open: list[_Open] = field(default_factory=list)
    _batch: int = 0

    def before(self, town: Town) -> None:
        """See what the contracts of earlier batches would fetch now, and take up another one."""
        self._batch += 1
        for held in [h for h in self._open if h.due <= self._batch]:
            self._open.remove(held)
            self._close(held, market_price_uc(town, held.task, held.holder))
        if self._batch < WARM_UP or not town.open:
            return
        holder = town.robots[int(self.rng.integers(len(town.robots)))]
        task = Question(self._point(), self._point(), float(self.rng.uniform(0, 20)))
        then_uc, do_uc = (self._cost_uc(holder, task) for _ in range(2))
        price_uc = round(then_uc * float(self.rng.uniform(*MARGIN)))
        later_ns = town.now_ns + ns(LATER * BATCH_S)
        try:
            choice = make_or_buy(self.knowledge, task, do_uc, town.now_ns, wait_ns=later_ns).choice
        except InputError:
            return
        now_uc = market_price_uc(town, task, holder.name)
        self._open.append(_Open(self._batch + LATER, task, holder.name, do_uc, min(do_uc, now_uc), price_uc, choice))

    def _close(self, held: _Open, later_uc: int) -> None:
        later_uc = min(held.do_uc, later_uc)
        of = {Choice.DO: held.do_uc, Choice.RESELL: held.now_uc, Choice.WAIT: later_uc}
        self.cost_uc["oracle"] += of[held.choice]
        self.cost_uc["usual"] += held.now_uc if held.do_uc > held.price_uc else held.do_uc
        self.cost_uc["do"] += held.do_uc
        self.best_uc += min(of.values())
        self.count += 1

    def _point(self) -> tuple[float, float]:
        x, y = self.rng.uniform(0.0, SIDE_M, 2)
        return float(x), float(y)

    def _cost_uc(self, robot: Robot, task: Question) -> int:
        return Robot(robot.name, robot.owner, self._point(), robot.factor).cost_uc(task)


def market_price_uc(town: Town, task: Question, holder: RobotId) -> int:
    """Return the full-information price of one more task on the market of the batch that is about to close.

    Nobody's budget stands above it: with an only bidder it is what that robot could earn elsewhere.
    """
    idle = [robot for robot in town.robots if robot.free_ns <= town.now_ns and robot.name != holder]
    offers = [LotOffer(order.id, order.value_uc) for order in town.open]
    tasks = [(order.id, order.task) for order in town.open]
    asks = [
        SealedAsk(robot.name, robot.owner, name, robot.cost_uc(one))
        for name, one in [*tasks, (HELD, task)]
        for robot in idle
    ]
    band = next((b for b in fair_bands([*offers, LotOffer(HELD, BUDGET_UC)], asks) if b.order == HELD), None)
    if band is None:
        return BUDGET_UC
    alone = band.high_uc > BUDGET_UC // 2
    return band.low_uc if alone else math.floor((band.low_uc + band.high_uc) / 2)
