"""Advice beside the band: is a price fair, do it or have it done, how much to offer, when to post, where it will be full.

What the one who asks tells about himself (his price, his cost) is compared with the band; the band does not depend on it.
"""

from __future__ import annotations

import math
from collections import defaultdict

from fleet_market.errors import InputError
from fleet_market.ids import ZoneId
from fleet_market.oracle.knowledge import Knowledge
from fleet_market.oracle.terms import (
    BestTime,
    Budget,
    Choice,
    Congestion,
    FairQuote,
    Judgement,
    MakeOrBuy,
    Question,
    Resource,
    Verdict,
)

STEPS = 8
"""Later times that are looked at."""
LOAD_CONFIDENCE = 0.8
MAX_AMOUNT_UC = 10**15


def judge_ask(knowledge: Knowledge, question: Question, ask_uc: int, now_ns: int) -> Judgement:
    """Return how an ask compares with the band and with past prices.

    Raises
    ------
    InputError
        If `ask_uc` is no amount, or as `Knowledge.band`.
    """
    return _judge(knowledge, question, _amount("ask_uc", ask_uc), now_ns)


def judge_settlement(knowledge: Knowledge, question: Question, price_uc: int, now_ns: int) -> Judgement:
    """Return how a price that was paid compares with the band and with past prices.

    Raises
    ------
    InputError
        If `price_uc` is no amount, or as `Knowledge.band`.
    """
    return _judge(knowledge, question, _amount("price_uc", price_uc), now_ns)


def make_or_buy(
    knowledge: Knowledge, question: Question, do_uc: int, now_ns: int, *, wait_ns: int | None = None, trade_uc: int = 0
) -> MakeOrBuy:
    """Return whether a robot that holds a contract should do it, resell it now, or wait and resell it later.

    The best of three expected costs (make or buy: Coase 1937; Williamson 1981). What another takes is the expected price.

    Parameters
    ----------
    knowledge : Knowledge
    question : Question
        The contract's task.
    do_uc : int
        What doing it costs the robot, by its own reckoning.
    now_ns : int
    wait_ns : int, optional
        A later time at which it could still be resold.
    trade_uc : int
        What selling it on costs beside the price, at least 0.

    Raises
    ------
    InputError
        If an amount is none, or as `Knowledge.band`.
    """
    _amount("do_uc", do_uc)
    quote = knowledge.band(question, now_ns)
    resell_uc = quote.expected_uc + _amount("trade_uc", trade_uc)
    wait_uc = None if wait_ns is None else knowledge.band(question, now_ns, wait_ns).expected_uc + trade_uc
    costs = {Choice.DO: do_uc, Choice.RESELL: resell_uc}
    if wait_uc is not None:
        costs[Choice.WAIT] = wait_uc
    choice = min(costs, key=lambda c: costs[c])
    return MakeOrBuy(choice, do_uc - costs[choice], do_uc, resell_uc, wait_uc, wait_ns, quote)


def budget(knowledge: Knowledge, question: Question, probability: float, now_ns: int) -> Budget:
    """Return the least maximum price with which a task is sold and done by its deadline with a probability.

    Both are taken as independent: sold, by how the least prices of past lots lay to their forecasts; in time, by how long
    past tasks took from award to settlement for each metre of way. A task that is not sold in its first batch may be in a
    later one: the true probability is rather higher.

    Raises
    ------
    InputError
        If `probability` is not between 0 and 1, or as `Knowledge.band`.
    """
    if not 0.0 < probability < 1.0:
        raise InputError("budget", "probability", probability, "use a number between 0 and 1")
    quote = knowledge.band(question, now_ns)
    view = knowledge.view(question.zone, now_ns)
    forecast = view.forecast(question)
    if forecast is None:  # `band` has refused by then
        return Budget(None, probability, 0.0, 0.0, quote, known=False)
    in_time = 1.0
    if question.deadline_s is not None:
        in_time = 0.0
        if question.deadline_s > 0:
            if (lasting := view.lasting.best(forecast.groups)) is None:
                return Budget(None, probability, 0.0, 0.0, quote, known=False)
            in_time = lasting.rank(math.log(question.deadline_s / view.way_m(question)))
    if in_time <= probability:
        return Budget(None, probability, 0.0, in_time, quote)
    floors = view.floors.best(forecast.groups)
    error = None if floors is None else floors.quantile(probability / in_time)
    if error is None:
        return Budget(None, probability, 0.0, in_time, quote, known=False)
    return Budget(math.ceil(math.exp(forecast.expected_log + error)), probability, probability / in_time, in_time, quote)


def best_time(knowledge: Knowledge, question: Question, until_ns: int, now_ns: int) -> BestTime:
    """Return when to post a task, from now until `until_ns`, so that its expected price is lowest.

    Raises
    ------
    InputError
        As `Knowledge.band`.
    """
    quotes: list[tuple[int, FairQuote]] = [(now_ns, knowledge.band(question, now_ns))]
    times = {now_ns + (until_ns - now_ns) * step // STEPS for step in range(1, STEPS + 1)} - {now_ns}
    quotes += [(at_ns, knowledge.band(question, now_ns, at_ns)) for at_ns in sorted(times)]
    at_ns, best = min(quotes, key=lambda pair: pair[1].expected_uc)
    return BestTime(at_ns, best.expected_uc, quotes[0][1].expected_uc - best.expected_uc, tuple(quotes))


def congestion(knowledge: Knowledge, zone: ZoneId, at_ns: int, now_ns: int) -> Congestion:
    """Return how full a zone will be, and how busy its chargers, corridors and lifts are now.

    Raises
    ------
    InputError
        If nothing is known of the zone.
    """
    if at_ns < now_ns:
        raise InputError("congestion", "at_ns", at_ns, f"use a time from now ({now_ns}) on")
    view = knowledge.view(zone, now_ns)
    busy: defaultdict[Resource, list[float]] = defaultdict(list)
    waiting: dict[Resource, int] = {}
    for load in knowledge.resources.values():
        if load.zone == zone:
            busy[load.kind].append(load.busy)
            waiting[load.kind] = waiting.get(load.kind, 0) + load.waiting
    shares = {kind: sum(values) / len(values) for kind, values in busy.items()}
    found = view.outlook.load(now_ns, at_ns)
    if found is None:
        return Congestion(zone, at_ns, None, None, None, shares, waiting, 0)
    level, changes = found
    if len(changes) < 2:
        return Congestion(zone, at_ns, level, None, None, shares, waiting, len(changes))
    below, above = changes.interval(LOAD_CONFIDENCE)
    ends = (max(0.0, level + below), max(0.0, level + above))
    return Congestion(zone, at_ns, max(0.0, level + changes.middle()), *ends, shares, waiting, len(changes))


def _judge(knowledge: Knowledge, question: Question, price_uc: int, now_ns: int) -> Judgement:
    quote = knowledge.band(question, now_ns)
    view = knowledge.view(question.zone, now_ns)
    track = view.settled.best(((question.kind,), ()))
    percentile = None
    if track is not None and len(view.settlers) >= knowledge.privacy.least_robots and price_uc > 0:
        percentile = 100 * track.rank(math.log(price_uc / view.reference_uc(question)))
    if price_uc > quote.high_uc:
        return Judgement(Verdict.ABOVE, percentile, price_uc - quote.high_uc, quote)
    if price_uc < quote.low_uc:
        return Judgement(Verdict.BELOW, percentile, price_uc - quote.low_uc, quote)
    return Judgement(Verdict.FAIR, percentile, 0, quote)


def _amount(field: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_AMOUNT_UC:
        raise InputError("advice", field, value, f"use whole micro-credits from 0 to {MAX_AMOUNT_UC}")
    return value
