"""Advice of oracles on the command line: from options to a request, and from an answer to words."""

from __future__ import annotations

from typing import Any, get_args

from fleet_market.cli.asking import credits_in
from fleet_market.cli.consulting import share
from fleet_market.errors import InputError
from fleet_market.protocol.messages import (
    Advised,
    BestTimeAdvice,
    BudgetAdvice,
    CongestionAdvice,
    Judgement,
    MakeOrBuyAdvice,
    What,
)
from fleet_market.units import Credits, seconds

KINDS: tuple[What, ...] = get_args(What)
_OPTION_OF: dict[str, tuple[What, ...]] = {
    "--by": ("budget",),
    "--probability": ("budget",),
    "--cost": ("make_or_buy",),
    "--price": ("judge",),
}


def kind_of_advice(text: str) -> What:
    """Return what is asked for; raises `InputError` if it is nothing that is sold."""
    for kind in KINDS:
        if text.replace("-", "_") == kind:
            return kind
    raise InputError("command line", "--advice", text, f"use one of {', '.join(kind.replace('_', '-') for kind in KINDS)}")


def wishes(
    what: What,
    *,
    on_order: bool,
    by_s: float | None,
    probability: float | None,
    cost: str | None,
    price: str | None,
    later_s: float,
) -> dict[str, Any]:
    """Return the fields of a `FairRequest` that belong to what is asked for.

    Raises
    ------
    InputError
        If an option is missing, out of its range, or belongs to other advice.
    """
    given = {"--by": by_s, "--probability": probability, "--cost": cost, "--price": price}
    for option, value in given.items():
        if value is not None and what not in _OPTION_OF[option]:
            kinds = " or ".join(kind.replace("_", "-") for kind in _OPTION_OF[option])
            raise InputError("command line", option, value, f"leave it out, or ask for --advice {kinds}")
    if by_s is not None and on_order:
        raise InputError("command line", "--by", by_s, "leave it out: the order has a deadline of its own")
    if by_s is not None and not 0 < by_s <= 1e7:
        raise InputError("command line", "--by", by_s, "use seconds from now, more than 0 and at most 10000000")
    if what == "budget" and probability is None:
        raise InputError("command line", "--probability", None, "say with which probability it is to be done in time")
    if what == "make_or_buy" and cost is None:
        raise InputError("command line", "--cost", None, "say what doing it costs you, credits")
    if what == "best_time" and later_s <= 0:
        raise InputError("command line", "--later", later_s, "say until how many seconds from now, more than 0")
    fields: dict[str, Any] = {"what": what}
    if by_s is not None:
        fields["deadline_s"] = by_s
    if probability is not None:
        fields["probability"] = share(probability)
    if cost is not None:
        fields["cost_uc"] = credits_in(cost, "--cost", least=0)
    if price is not None:
        fields["price_uc"] = credits_in(price, "--price", least=0)
    return fields


def advice_lines(advice: Advised) -> list[str]:
    """Return what an oracle advises, in words and numbers."""
    match advice:
        case BudgetAdvice():
            return [_budget_line(advice)]
        case BestTimeAdvice():
            return _time_lines(advice)
        case MakeOrBuyAdvice():
            return [_make_or_buy_line(advice)]
        case Judgement():
            return [_judgement_line(advice)]
        case CongestionAdvice():
            return _congestion_lines(advice)


def _budget_line(advice: BudgetAdvice) -> str:
    if advice.budget_uc is None:
        return (
            f"no budget is enough: whatever is paid, it is done in time with {advice.in_time_probability:.0%} only,"
            f" asked for were {advice.probability:.0%}"
        )
    return (
        f"offer at most {Credits(advice.budget_uc)} credits: sold with {advice.sold_probability:.0%}, done in time with"
        f" {advice.in_time_probability:.0%}, both with {advice.probability:.0%}"
    )


def _time_lines(advice: BestTimeAdvice) -> list[str]:
    now_ns = advice.times[0][0]
    when = "now" if advice.at_ns == now_ns else f"in {seconds(advice.at_ns - now_ns):.0f} s"
    saved = f", {Credits(advice.saving_uc)} less than now" if advice.saving_uc else ""
    first = f"post it {when}: expected {Credits(advice.expected_uc)} credits{saved}"
    return [first] + [f"  in {seconds(at_ns - now_ns):.0f} s: {Credits(uc)}" for at_ns, uc in advice.times]


def _make_or_buy_line(advice: MakeOrBuyAdvice) -> str:
    what = {"do": "do it", "resell": "resell it now", "wait": "wait, and resell it then"}[advice.choice]
    later = "" if advice.wait_uc is None else f", {Credits(advice.wait_uc)} later"
    return (
        f"{what}: expected gain {Credits(advice.gain_uc)} credits; it costs you {Credits(advice.cost_uc)}, others take"
        f" {Credits(advice.resell_uc)} now{later}"
    )


def _judgement_line(advice: Judgement) -> str:
    where = {
        "below": f"{Credits(-advice.excess_uc)} below the band",
        "fair": "within the band",
        "above": f"{Credits(advice.excess_uc)} above the band",
    }[advice.verdict]
    rank = "" if advice.percentile is None else f"; {advice.percentile:.0f} % of comparable prices are below it"
    return f"{Credits(advice.price_uc)} credits are {advice.verdict}: {where}{rank}"


def _congestion_lines(advice: CongestionAdvice) -> list[str]:
    ends = advice.load_low, advice.load_high
    between = "" if None in ends else f" ({ends[0]:.2f} to {ends[1]:.2f})"
    thin = " (thin: rests on too little)" if advice.thin else ""
    first = f"at {seconds(advice.at_ns):.0f} s: {advice.load:.2f} lots per robot{between}{thin}"
    return [first] + [f"{kind}s: busy {share_:.0%} of the time, {waiting} wait" for kind, share_, waiting in advice.busy]
