"""The sale of quotes, measured: what they are worth, who buys them at which fee, and what becomes of an oracle that lies.

All in the town of `benchmarks._oracle_town` and with the buyers of `benchmarks._oracle_buyers`. With and without an oracle
the same plan is run: same robots, tasks, values and times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks._oracle_buyers import Choosing, Consulting, Paying, name_naive
from benchmarks._oracle_resale import Holders
from benchmarks._oracle_town import LOADS, Order, Plan, Town, in_credits
from benchmarks.report import Options, Row
from fleet_market.oracle import Knowledge

ORDERS, QUICK_ORDERS = 600, 400
CONSULTING = 6
"""Buyers, of 20, who consult; the others never do."""
FEES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Fees, as shares of the measured value of a quote."""
TRIAL_UC = 1_000_000
"""Fee up to which the customer would try quotes: the default of ``--max-fee`` of the command line."""
BIASES, LIES_FROM, WITHIN, WATCHED = (0.3, -0.3), 150, 50, 150
SCATTER = 0.05
"""Error of its own that each oracle makes, see `Choosing` [assumption]."""
HONEST_SHARES = (40.0, 60.0)
"""Range, in percent, of what one of two honest oracles may sell of all that the two sell."""
CHOICE_FEE_UC = 100_000
RESAMPLED = 2000
T = TypeVar("T")


def rows(options: Options) -> list[Row]:
    """Return the rows of this part."""
    orders = QUICK_ORDERS if options.quick else ORDERS
    pairs = {load: [_pair(seed, orders, load) for seed in options.seeds] for load in LOADS}
    found = _excess_rows(pairs)
    found += _resale_rows([_resale(seed, orders) for seed in options.seeds])
    worth_uc = _ratio([(p.gain_uc, p.count) for p in pairs["usual"]])
    found += _demand_rows(options, orders, worth_uc)
    return found + _liar_rows(options, orders)


# --- what quotes are worth to buyers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """What the consulting buyers of one plan had with and without an oracle."""

    excess_uc: tuple[float, float]
    """Sum over what they bought of what was paid above the full-information price: with, without."""
    sold: tuple[int, int]
    served: tuple[float, float]
    welfare_uc: tuple[float, float]
    """Of all buyers and robots."""
    gain_uc: float
    """Sum of what they gained by it."""
    count: int


def _who(order: Order) -> bool:
    return order.buyer < CONSULTING


def _pair(seed: int, orders: int, load: str) -> Pair:
    plan, knowledge = Plan.draw(seed, orders, LOADS[load]), Knowledge()
    runs = (Town(plan, Consulting(knowledge, _who).decide, knowledge).run(), Town(plan, name_naive).run())
    theirs = [[order for order in run if _who(order)] for run in runs]
    sold = [[o for o in some if o.price_uc is not None and o.fair_uc is not None] for some in theirs]
    excess = [float(sum(max(0, (o.price_uc or 0) - (o.fair_uc or 0)) for o in some)) for some in sold]
    welfare = [float(sum(o.value_uc - o.cost_uc for o in run if o.price_uc is not None)) for run in runs]
    surplus = [sum(order.surplus_uc for order in some) for some in theirs]
    return Pair(
        (excess[0], excess[1]),
        (len(sold[0]), len(sold[1])),
        (len(sold[0]) / len(theirs[0]), len(sold[1]) / len(theirs[1])),
        (welfare[0], welfare[1]),
        float(surplus[0] - surplus[1]),
        len(theirs[0]),
    )


def _excess_rows(pairs: dict[str, list[Pair]]) -> list[Row]:
    everything = [pair for some in pairs.values() for pair in some]
    by_seed = list(zip(*pairs.values(), strict=True))

    def change(some: Sequence[Pair]) -> float:
        means = [sum(p.excess_uc[i] for p in some) / max(1, sum(p.sold[i] for p in some)) for i in (0, 1)]
        return 100 * (means[0] / means[1] - 1)

    def of_seeds(groups: Sequence[tuple[Pair, ...]]) -> float:
        return change([pair for group in groups for pair in group])

    served = [100.0 * float(np.mean([p.served[i] for p in everything])) for i in (0, 1)]
    rows = [
        Row(
            "consulting buyers: change of the mean of max(0, paid - full-information price)",
            of_seeds(by_seed),
            "%",
            -10.0,
            note=f"{interval(by_seed, of_seeds)}; three loads; served {served[0]:.1f} % with, {served[1]:.1f} % without",
        )
    ]
    for load, some in pairs.items():
        mean_uc = sum(p.excess_uc[1] for p in some) / max(1, sum(p.sold[1] for p in some))
        note = f"{interval(some, change)}; without: {in_credits(mean_uc):.3f} credits"
        rows.append(Row(f"the same, {load} ({LOADS[load]:.0%} of what robots can do)", change(some), "%", note=note))
    welfare = [sum(p.welfare_uc[i] for p in everything) for i in (0, 1)]
    rows.append(
        Row(
            "welfare lost with the oracle switched off, this town",
            100 * (1 - welfare[1] / welfare[0]),
            "%",
            10.0,
            note="three loads; negative: the market did better without",
        )
    )
    return rows


# --- robots' make or buy -------------------------------------------------------------------------------------------------


def _resale(seed: int, orders: int) -> Holders:
    knowledge, plan = Knowledge(), Plan.draw(seed, orders, LOADS["usual"])
    holders = Holders(knowledge, np.random.default_rng([9, seed]))
    Town(plan, name_naive, knowledge, before=holders.before).run()
    return holders


def _resale_rows(runs: Sequence[Holders]) -> list[Row]:
    def regret(rule: str) -> Callable[[Sequence[Holders]], float]:
        def of(some: Sequence[Holders]) -> float:
            best = sum(h.best_uc for h in some)
            return 100 * (sum(h.cost_uc[rule] for h in some) / best - 1)

        return of

    rows = []
    for rule, what, goal in (
        ("oracle", "robots' make-or-buy regret against a clairvoyant, with the oracle", 10.0),
        ("usual", "the same without: resell what costs more than it is paid", None),
        ("do", "the same, always doing it oneself", None),
    ):
        note = f"{interval(runs, regret(rule))}; {sum(h.count for h in runs)} contracts"
        rows.append(Row(what, regret(rule)(runs), "%", goal, note=note))
    return rows


# --- the demand for quotes -----------------------------------------------------------------------------------------------


def _demand(seed: int, orders: int, fee_uc: int, trial_uc: int) -> float:
    """Return the share of orders for which a quote is bought, in the last quarter of a run."""
    plan, knowledge = Plan.draw(seed, orders, LOADS["usual"]), Knowledge()
    buyers = Paying(knowledge, _who, fee_uc, trial_uc)
    Town(plan, buyers.decide, knowledge, closed=buyers.closed, before=buyers.ended).run()
    last = buyers.bought[-max(1, len(buyers.bought) // 4) :]
    return float(np.mean(last)) if last else 0.0


def _demand_rows(options: Options, orders: int, worth_uc: float) -> list[Row]:
    rows = [Row("value of a quote to its buyer, measured", in_credits(worth_uc), "credits", note="usual load, mean gain")]
    if worth_uc <= 0:
        return [*rows, Row("demand at twice that fee", None, "%", 0.0, note="quotes were worth nothing")]
    demand = {fee: [_demand(seed, orders, round(fee * worth_uc), TRIAL_UC) for seed in options.seeds] for fee in FEES}
    means = {fee: 100 * float(np.mean(values)) for fee, values in demand.items()}
    _draw_demand(options.out / "oracle_demand.png", means)
    for fee, goal in [*((fee, None) for fee in FEES[:-1]), (FEES[-1], 0.0)]:
        note = f"{interval(demand[fee], lambda some: 100 * float(np.mean(some)))}; share of orders, last quarter of the run"
        rows.append(Row(f"demand at {fee:g} times that fee", means[fee], "%", goal, note=note))
    return rows


# --- an oracle that lies -------------------------------------------------------------------------------------------------


def _sales(seed: int, orders: int, bias: float, lies_from: int, oracles: Sequence[str]) -> list[str]:
    """Return who has sold each quote."""
    plan, knowledge = Plan.draw(seed, orders, LOADS["usual"]), Knowledge()
    fees = dict.fromkeys(oracles, CHOICE_FEE_UC)
    buyers = Choosing(knowledge, np.random.default_rng([10, seed]), fees, "liar", bias, lies_from, SCATTER)
    Town(plan, buyers.decide, knowledge, settled=buyers.settled).run()
    return buyers.sold


def _liar_rows(options: Options, orders: int) -> list[Row]:
    rows, trio = [], ("a", "b", "liar")
    for bias in BIASES:
        turning = [_sales(seed, orders, bias, LIES_FROM, trio) for seed in options.seeds]
        if bias == BIASES[0]:
            _draw_liar(options.out / "oracle_liar.png", turning)
        before = [_share(sold, 0, LIES_FROM) for sold in turning]
        after = [_share(sold, LIES_FROM + WITHIN, LIES_FROM + WITHIN + WATCHED) for sold in turning]
        ever = [_share(_sales(seed, orders, bias, 0, trio), WITHIN, WITHIN + WATCHED) for seed in options.seeds]
        what = f"revenue that an oracle biased by {bias:+.0%} loses within {WITHIN} quotes"
        rows += [
            _lost_row(f"{what}: after {LIES_FROM} honest ones", list(zip(before, after, strict=True))),
            _lost_row(f"{what}: from its first, against a third of the sales", [(1 / 3, share) for share in ever]),
        ]
    return rows + _honest_rows([_sales(seed, orders, 0.0, 0, ("a", "b")) for seed in options.seeds])


def _honest_rows(runs: Sequence[Sequence[str]]) -> list[Row]:
    """Return whether one of two honest oracles, no better than the other, keeps its revenue."""
    shares = [100 * float(np.mean([name == "a" for name in sold[WITHIN:]])) for sold in runs]
    least, most = min(shares), max(shares)
    low, high = HONEST_SHARES
    what, note = "revenue of an honest oracle beside another one", f"runs: {least:.0f} to {most:.0f} %"
    note = f"{interval(shares, lambda some: float(np.mean(some)))}; {note}; after {WITHIN} quotes"
    mean = float(np.mean(shares))
    return [
        Row(f"{what}, at least", mean, "%", low, "higher", note),
        Row(f"{what}, at most", mean, "%", high, note="the same figure"),
        Row("the same, runs in that range", 100 * float(np.mean([low <= s <= high for s in shares])), "%"),
    ]


def _share(sold: Sequence[str], begin: int, end: int) -> float:
    """Return the share of the oracle that lies in some of the quotes sold."""
    return float(np.mean([name == "liar" for name in sold[begin:end]]))


def _lost_row(what: str, shares: Sequence[tuple[float, float]]) -> Row:
    def lost(some: Sequence[tuple[float, float]]) -> float:
        return 100 * (1 - sum(after for _, after in some) / max(1e-9, sum(before for before, _ in some)))

    before, after = (100 * float(np.mean([pair[i] for pair in shares])) for i in (0, 1))
    note = f"{interval(shares, lost)}; share of all quotes {before:.0f} % before, {after:.1f} % in quotes {WITHIN + 1} to"
    return Row(what, lost(shares), "%", 90.0, "higher", note=f"{note} {WITHIN + WATCHED} after the first false one")


# --- numbers and pictures ------------------------------------------------------------------------------------------------


def _ratio(parts: Sequence[tuple[float, int]]) -> float:
    return sum(total for total, _ in parts) / max(1, sum(count for _, count in parts))


def interval(samples: Sequence[T], statistic: Callable[[list[T]], float]) -> str:
    """Return the 95 % interval of a statistic, by resampling the seeds (percentile bootstrap, Efron 1979)."""
    if len(samples) < 3:
        return "too few seeds for an interval"
    rng = np.random.default_rng(0)
    draws = rng.integers(len(samples), size=(RESAMPLED, len(samples)))
    values = [statistic([samples[i] for i in draw]) for draw in draws]
    low, high = np.quantile(values, [0.025, 0.975])
    return f"95 %: {low:.3g} to {high:.3g}"


def _draw_demand(path: Path, means: dict[float, float]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for pictures

    figure = Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    axes.plot(list(means), list(means.values()), marker="o")
    axes.axvline(1.0, linestyle="--", color="grey")
    axes.set(xlabel="fee / measured value of a quote", ylabel="orders with a quote, %", title="Demand for quotes")
    figure.savefig(path, dpi=120)


def _draw_liar(path: Path, runs: Sequence[Sequence[str]]) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - only for pictures

    length, window = min(map(len, runs)), 20
    share = np.mean([[s == "liar" for s in sold[:length]] for sold in runs], axis=0)
    figure = Figure(figsize=(6, 4), layout="tight")
    axes = figure.subplots()
    smooth = np.convolve(share, np.ones(window) / window, mode="valid")
    axes.plot(np.arange(len(smooth)) + window, 100 * smooth)
    axes.axvline(LIES_FROM, linestyle="--", color="grey")
    axes.set(
        xlabel="quotes sold", ylabel="share of the oracle that lies, %", title=f"Bias of {BIASES[0]:+.0%} from the line on"
    )
    figure.savefig(path, dpi=120)
