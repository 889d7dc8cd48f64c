"""What an oracle answers beside bands: the advice of `fleet_market.oracle.advice`, as it is sold.

The band is the same whatever is asked with it. Of the one who asks a question says only what the advice is about.
"""

from __future__ import annotations

from typing import Literal

from fleet_market.errors import InputError
from fleet_market.ids import ZoneId
from fleet_market.oracle import Knowledge, best_time, budget, congestion, judge_ask, make_or_buy
from fleet_market.oracle.terms import Choice, FairQuote, Question, Resource, Verdict
from fleet_market.protocol.messages import (
    Advised,
    BestTimeAdvice,
    BudgetAdvice,
    CongestionAdvice,
    FairQuestion,
    Judgement,
    MakeOrBuyAdvice,
)

_CHOICES: dict[Choice, Literal["do", "resell", "wait"]] = {
    Choice.DO: "do",
    Choice.RESELL: "resell",
    Choice.WAIT: "wait",
}
_VERDICTS: dict[Verdict, Literal["below", "fair", "above"]] = {
    Verdict.BELOW: "below",
    Verdict.FAIR: "fair",
    Verdict.ABOVE: "above",
}
_RESOURCES: dict[Resource, Literal["charger", "corridor", "lift"]] = {
    Resource.CHARGER: "charger",
    Resource.CORRIDOR: "corridor",
    Resource.LIFT: "lift",
}


def advise(knowledge: Knowledge, asked: FairQuestion, task: Question, now_ns: int) -> tuple[Advised, FairQuote]:
    """Return advice on a task and the band that it follows from.

    Raises
    ------
    InputError
        If it is not known: too little was seen, or the time is out of range; or if no advice on a task was asked for.
    """
    match asked.what:
        case "budget" if asked.probability is not None:
            return _budget(knowledge, task, asked.probability, now_ns)
        case "best_time":
            best = best_time(knowledge, task, max(asked.at_ns, now_ns), now_ns)
            times = tuple((at_ns, quote.expected_uc) for at_ns, quote in best.quotes)
            advice = BestTimeAdvice(at_ns=best.at_ns, expected_uc=best.expected_uc, saving_uc=best.saving_uc, times=times)
            return advice, best.quotes[0][1]
        case "make_or_buy" if asked.cost_uc is not None:
            return _make_or_buy(knowledge, task, asked.cost_uc, max(asked.at_ns, now_ns) if asked.later else None, now_ns)
        case "judge" if asked.price_uc is not None:
            return _judgement(knowledge, task, asked.price_uc, now_ns)
    raise InputError("question", "what", asked.what, "ask for a budget, best_time, make_or_buy or judge, with its fields")


def congestion_of(knowledge: Knowledge, asked: FairQuestion, zone: ZoneId, now_ns: int) -> CongestionAdvice:
    """Return how full the zone is, or will be.

    Raises
    ------
    InputError
        If no batch of the zone was seen yet.
    """
    found = congestion(knowledge, zone, max(asked.at_ns, now_ns) if asked.later else now_ns, now_ns)
    if found.load is None:
        raise InputError("congestion", "zone", str(zone), "ask again when a batch has closed")
    return CongestionAdvice(
        at_ns=found.at_ns,
        load=found.load,
        load_low=found.load_low,
        load_high=found.load_high,
        busy=tuple((_RESOURCES[kind], share, found.waiting.get(kind, 0)) for kind, share in sorted(found.busy.items())),
        samples=found.samples,
        thin=found.load_low is None,
    )


def _budget(knowledge: Knowledge, task: Question, probability: float, now_ns: int) -> tuple[Advised, FairQuote]:
    found = budget(knowledge, task, probability, now_ns)
    if not found.known:
        raise InputError(
            "budget", "probability", probability, "ask again when more was sold and delivered, or for a lower one"
        )
    advice = BudgetAdvice(
        budget_uc=found.budget_uc,
        probability=probability,
        sold_probability=found.sold_probability,
        in_time_probability=found.in_time_probability,
    )
    return advice, found.quote


def _make_or_buy(
    knowledge: Knowledge, task: Question, cost_uc: int, wait_ns: int | None, now_ns: int
) -> tuple[Advised, FairQuote]:
    found = make_or_buy(knowledge, task, cost_uc, now_ns, wait_ns=wait_ns)
    advice = MakeOrBuyAdvice(
        choice=_CHOICES[found.choice],
        gain_uc=found.gain_uc,
        cost_uc=found.do_uc,
        resell_uc=found.resell_uc,
        wait_uc=found.wait_uc,
        wait_ns=found.wait_ns,
    )
    return advice, found.quote


def _judgement(knowledge: Knowledge, task: Question, price_uc: int, now_ns: int) -> tuple[Advised, FairQuote]:
    found = judge_ask(knowledge, task, price_uc, now_ns)
    advice = Judgement(
        verdict=_VERDICTS[found.verdict], price_uc=price_uc, excess_uc=found.excess_uc, percentile=found.percentile
    )
    return advice, found.quote
