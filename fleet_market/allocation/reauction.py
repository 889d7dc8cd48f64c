"""First sale, trades and bundle re-auctions, anytime: the driver around the kernels, with no clock or chance of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fleet_market.allocation.compiled import compiled
from fleet_market.allocation.plan import Plan, new_state, new_work, read_plan
from fleet_market.allocation.problem import Problem
from fleet_market.allocation.rounds import begin, close_robot, keep, reauction
from fleet_market.allocation.sale import REGRET, sequential_sale
from fleet_market.allocation.tables import BEST, GENERAL, NOW, TIMED
from fleet_market.allocation.trade import trade
from fleet_market.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

FIRST_CHUNK = 20
"""Rounds between the first two looks at the budget."""
STEP = 0.01
"""Share of the budget that passes between later looks, about."""
TRADED_AT_ONCE = 64
"""Tasks offered between two looks at the budget."""
ENOUGH_ROUNDS = 100
"""Rounds per task from which on annealing starts at its full temperature; with fewer there is no time to cool down."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How re-auctions are run; found by experiment on random instances (benchmark `allocation`, seeds 1, 2, 11 to 13)."""

    size: int = 6
    """Tasks in a bundle, about."""
    blink: float = 0.01
    """Share of places that bidders overlook."""
    tails: float = 0.1
    """Share of rounds in which the tails of two queues are exchanged."""
    warm: float = 0.5
    """Temperature in the beginning, in units of the mean cost of a task."""
    cold: float = 0.012
    """Temperature in the end."""

    @staticmethod
    def suited_to(problem: Problem) -> Settings:
        """Return the settings for a problem."""
        tables = problem.tables()
        return _suited(tables.node[: len(problem.tasks), 0], tables)


def _suited(loads: np.ndarray, tables: Any) -> Settings:
    if tables.rules[GENERAL] > 0:
        return Settings(tails=0.3, warm=0.3, cold=0.005)
    if tables.rules[TIMED] > 0:
        return Settings(tails=0.05, warm=0.1, cold=0.003)
    if len(loads) == 0 or tables.fleet[:, 0].max() < 2 * loads.min():
        return Settings(tails=0.6, warm=0.03, cold=0.001)
    return Settings()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of an allocation.

    Attributes
    ----------
    plan : Plan
    cost : float
        Objective of the plan; unsold tasks count their reserve.
    given_cost : float
        Objective of the plan that was given, or of the first sale.
    unsold : tuple of int
    rounds, kept : int
        Bundle re-auctions run, and kept.
    deals : tuple of int
        Single tasks, clusters, swaps and tails that changed hands in trades.
    better : bool
        False: no better allocation was found than the one given.
    """

    plan: Plan
    cost: float
    given_cost: float
    unsold: tuple[int, ...]
    rounds: int
    kept: int
    deals: tuple[int, int, int, int]
    better: bool


class Reauction:
    """An allocation that is being improved.

    Parameters
    ----------
    problem : Problem
    plan : Plan, optional
        What is allocated already. Tasks that a robot may not give away must be in its queue.
    seed : int
    fast : bool
        Compile the kernels with numba (needs the extra `fast`); the plain ones compute the same, some hundred times slower.
    settings : Settings, optional

    Raises
    ------
    InputError
        If the plan does not fit the problem.
    """

    def __init__(
        self,
        problem: Problem,
        plan: Plan | None = None,
        *,
        seed: int = 0,
        fast: bool = True,
        settings: Settings | None = None,
    ) -> None:
        self.problem, self._fast = problem, fast
        plan = plan or Plan.empty(len(problem.robots))
        self.tables = problem.tables()
        self.state = new_state(self.tables, plan)
        self.work = new_work(self.tables)
        self.settings = settings or _suited(self.tables.node[: len(problem.tasks), 0], self.tables)
        self.rounds = self.kept = 0
        self.deals = np.zeros(4, dtype=np.int64)
        self._rng = np.random.default_rng(seed)
        self._bind(plan)
        self._call(begin)

    def _bind(self, plan: Plan) -> None:
        """Let nothing be put before the pickups with which a queue of executed tasks begins."""
        owners = plan.owners()
        for t, task in enumerate(self.problem.tasks):
            if task.robot is not None and owners.get(t) != task.robot:
                raise InputError(
                    "plan", f"owner of task {t}", owners.get(t), f"leave it to robot {task.robot}, which executes it"
                )
        for r, queue in enumerate(plan.queues):
            for stop in queue:
                if not stop.pickup or self.problem.tasks[stop.task].robot is None:
                    break
                self.tables.gate[r] = stop.task

    def _kernel(self, function: F) -> F:
        return compiled(function) if self._fast else function

    def _call(self, function: Callable[..., Any], *more: Any) -> Any:
        return self._kernel(function)(self.tables, self.state, self.work, *more)

    @property
    def cost(self) -> float:
        """Objective of the best allocation found."""
        return float(self.state.sums[BEST])

    @property
    def plan(self) -> Plan:
        """The best allocation found."""
        return read_plan(self.tables, self.state.best_link)

    def sell(self, rule: int = REGRET) -> int:
        """Sell what is unsold one by one; return how many found a robot."""
        n = len(self.problem.tasks)
        lots = np.flatnonzero(self.state.own < 0)
        self.work.lots[: len(lots)] = self._rng.permutation(lots)
        asks, robots = np.zeros((n, 2)), np.zeros((n, 2), dtype=np.int64)
        sold: int = self._call(sequential_sale, len(lots), rule, asks, robots, self._rng)
        self._call(begin)
        return sold

    def trade(self, spent: Callable[[], float] | None = None) -> int:
        """Let robots trade in pairs until nobody gains any more or the budget is spent; return the number of deals."""
        deals, more = 0, True
        while more:
            more = False
            order = self._rng.permutation(len(self.problem.tasks))
            for at in range(0, len(order), TRADED_AT_ONCE):
                if spent is not None and spent() >= 1:
                    more = False
                    break
                done = self._call(trade, order[at : at + TRADED_AT_ONCE], self.deals, self._rng)
                deals, more = deals + done, more or done > 0
        if self.state.sums[NOW] < self.state.sums[BEST]:
            self._kernel(keep)(self.state)
        return deals

    def improve(self, *, rounds: int | None = None, spent: Callable[[], float] | None = None) -> None:
        """Re-auction bundles.

        Parameters
        ----------
        rounds : int, optional
        spent : callable, optional
            Returns which share of the budget is spent; it ends at 1. One of the two must be given.
        """
        if len(self.problem.tasks) == 0:
            return
        budget, begun = _budget(rounds, spent, self)
        mean_cost = abs(self.cost) / len(self.problem.tasks)
        at = first = budget()
        chunk, warm = FIRST_CHUNK, self.settings.cold
        while at < 1:
            done = (at - first) / (1 - first)
            temperature = mean_cost * warm * (self.settings.cold / warm) ** done
            if rounds is not None:
                chunk = min(chunk, max(1, rounds - (self.rounds - begun)))
            self._rounds(chunk, temperature)
            now = budget()
            step = max(now - at, 1e-9)
            hope = min(1.0, chunk / step / len(self.problem.tasks) / ENOUGH_ROUNDS)
            warm = max(self.settings.cold, self.settings.warm * hope)
            chunk = max(1, int(chunk * min(4.0, STEP / step)))
            at = now

    def use_fewer(self, *, rounds: int | None = None, spent: Callable[[], float] | None = None) -> None:
        """Try to do with fewer robots while the budget lasts, at whatever cost; nothing that is sold stays unsold."""
        budget, _ = _budget(rounds, spent, self)
        temperature = self.settings.cold * abs(self.cost) / max(1, len(self.problem.tasks))
        while budget() < 1:
            if not (self.state.own < 0).any():
                self._kernel(keep)(self.state)
                if sum(map(bool, self.plan.queues)) <= 1 or self._call(close_robot) < 0:
                    break
            self._rounds(5 * FIRST_CHUNK, temperature, fewer=True)
        if (self.state.own < 0).any():
            self.state.link[:] = self.state.best_link
            self.state.own[:] = self.state.best_own
        self._call(begin)

    def _rounds(self, count: int, temperature: float, *, fewer: bool = False) -> None:
        s = self.settings
        tails = 0.0 if fewer else float(s.tails)
        done, kept = self._call(reauction, count, float(temperature), int(s.size), float(s.blink), tails, fewer, self._rng)
        self.rounds, self.kept = self.rounds + done, self.kept + kept

    def outcome(self, given_cost: float) -> Outcome:
        """Return what was found."""
        unsold = tuple(int(t) for t in np.flatnonzero(self.state.best_own < 0))
        single, cluster, swap, tail = (int(x) for x in self.deals)
        better = self.cost < given_cost - 1e-9 * max(1.0, abs(given_cost))
        return Outcome(
            self.plan, self.cost, given_cost, unsold, self.rounds, self.kept, (single, cluster, swap, tail), better
        )


def _budget(rounds: int | None, spent: Callable[[], float] | None, reauction: Reauction) -> tuple[Callable[[], float], int]:
    """Return how to see which share of the budget is spent, and the rounds run before."""
    begun = reauction.rounds
    if rounds is None and spent is None:
        raise InputError("allocation", "budget", None, "give rounds or spent")

    def share() -> float:
        of_rounds = 0.0 if rounds is None else (reauction.rounds - begun) / max(1, rounds)
        return max(of_rounds, 0.0 if spent is None else spent())

    if rounds == 0:
        return lambda: 1.0, begun
    return share, begun


def allocate(
    problem: Problem,
    plan: Plan | None = None,
    *,
    rounds: int | None = None,
    spent: Callable[[], float] | None = None,
    fewer: float = 0.0,
    seed: int = 0,
    fast: bool = True,
    settings: Settings | None = None,
) -> Outcome:
    """Allocate tasks to robots: sell what is unsold, let robots trade in pairs, then re-auction bundles.

    Parameters
    ----------
    problem : Problem
    plan : Plan, optional
        Where to start from; nobody does anything if not given.
    rounds : int, optional
        Bundle re-auctions to run.
    spent : callable, optional
        Returns which share of the budget is spent; the search ends soon after it returns 1. One of the two must be given.
    fewer : float
        Share of the budget used to do with fewer robots.
    seed, fast, settings
        See `Reauction`. With `rounds` alone the outcome depends on nothing else.

    Returns
    -------
    Outcome
        Never worse than the given plan, unless `fewer` asks for fewer robots at any cost. A task that was sold stays sold
        as long as its reserve is above what it costs.
    """
    run = Reauction(problem, plan, seed=seed, fast=fast, settings=settings)
    given_cost = run.cost
    if run.sell() and plan is None:
        given_cost = run.cost
    run.trade(spent)
    if fewer > 0:
        limit = None if spent is None else (lambda: spent() / fewer)
        run.use_fewer(rounds=None if rounds is None else int(rounds * fewer), spent=limit)
    run.improve(rounds=rounds, spent=spent)
    return run.outcome(given_cost)
