"""Advice of oracles on the command line: what options become, what is refused, and how answers read."""

import pytest

from fleet_market.cli.advice import KINDS, advice_lines, kind_of_advice, wishes
from fleet_market.cli.consulting import PROBABILITY, consultation
from fleet_market.errors import InputError
from fleet_market.protocol.messages import (
    BestTimeAdvice,
    BudgetAdvice,
    CongestionAdvice,
    Judgement,
    MakeOrBuyAdvice,
    PostOrder,
)

S, CREDIT = 10**9, 10**6
NOTHING = {"on_order": False, "by_s": None, "probability": None, "cost": None, "price": None, "later_s": 0.0}


def test_kinds_are_written_with_a_dash_or_as_on_the_wire():
    assert [kind_of_advice(kind.replace("_", "-")) for kind in KINDS] == list(KINDS)
    assert kind_of_advice("make_or_buy") == "make_or_buy"
    with pytest.raises(InputError, match="use one of band, budget, best-time"):
        kind_of_advice("horoscope")


@pytest.mark.parametrize(
    ("what", "options", "fields"),
    [
        ("band", {"later_s": 9.0}, {}),
        ("budget", {"by_s": 120.0, "probability": 0.9}, {"deadline_s": 120.0, "probability": 0.9}),
        ("budget", {"on_order": True, "probability": 0.9}, {"probability": 0.9}),
        ("best_time", {"later_s": 60.0}, {}),
        ("make_or_buy", {"cost": "2.5"}, {"cost_uc": 2_500_000}),
        ("make_or_buy", {"cost": "0", "later_s": 3.0}, {"cost_uc": 0}),
        ("judge", {"price": "3"}, {"price_uc": 3 * CREDIT}),
        ("judge", {"on_order": True}, {}),
        ("congestion", {}, {}),
    ],
)
def test_options_become_the_fields_that_belong_to_the_advice(what, options, fields):
    assert wishes(what, **NOTHING | options) == {"what": what} | fields


@pytest.mark.parametrize(
    ("what", "options", "field", "mend"),
    [
        ("budget", {}, "--probability", "say with which probability"),
        ("budget", {"probability": 1.5}, "--probability", "between 0 and 1"),
        ("budget", {"probability": float("nan")}, "--probability", "between 0 and 1"),
        ("budget", {"probability": 0.5, "by_s": -3.0}, "--by", "more than 0"),
        ("budget", {"probability": 0.5, "by_s": float("nan")}, "--by", "more than 0"),
        ("budget", {"probability": 0.5, "by_s": 3.0, "on_order": True}, "--by", "a deadline of its own"),
        ("make_or_buy", {}, "--cost", "what doing it costs you"),
        ("make_or_buy", {"cost": "dear"}, "--cost", "."),
        ("best_time", {}, "--later", "until how many seconds"),
        ("band", {"price": "3"}, "--price", "ask for --advice judge"),
        ("judge", {"price": "-3"}, "--price", "at least 0"),
        ("judge", {"price": "3", "by_s": 9.0}, "--by", "ask for --advice budget"),
        ("judge", {"cost": "3"}, "--cost", "ask for --advice make-or-buy"),
    ],
)
def test_what_is_missing_wrong_or_out_of_place_is_refused_by_name(what, options, field, mend):
    with pytest.raises(InputError, match=mend) as caught:
        wishes(what, **NOTHING | options)
    assert caught.value.field == field


def order(deadline_s=600.0):
    return PostOrder(order="o1", pickup="a", dropoff="b", payload_kg=1.0, deadline_s=deadline_s, max_price_uc=9)


def test_an_orders_quote_is_a_band_unless_a_time_or_a_probability_is_named():
    assert consultation(order(), None, "1", None, None) is None
    band = consultation(order(), "sib", "1", None, None)
    assert (band.what, band.probability, band.deadline_s) == ("band", None, 600.0)
    timed, sure = (consultation(order(), "sib", "1", *options) for options in ((120.0, None), (None, 0.7)))
    assert (timed.what, timed.probability, timed.deadline_s) == ("budget", PROBABILITY, 120.0)
    assert (sure.what, sure.probability, sure.deadline_s) == ("budget", 0.7, 600.0)


@pytest.mark.parametrize(
    ("oracle", "by_s", "probability", "field"),
    [
        (None, 5.0, None, "--by"),
        (None, None, 0.5, "--probability"),
        ("sib", 601.0, None, "--by"),
        ("sib", 0.0, None, "--by"),
        ("sib", float("nan"), None, "--by"),
        ("sib", None, 2.0, "--probability"),
    ],
)
def test_a_budget_for_an_order_needs_an_oracle_a_time_within_the_deadline_and_a_probability(
    oracle, by_s, probability, field
):
    with pytest.raises(InputError) as caught:
        consultation(order(), oracle, "1", by_s, probability)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("advice", "lines"),
    [
        (
            BudgetAdvice(budget_uc=3 * CREDIT, probability=0.9, sold_probability=0.95, in_time_probability=0.96),
            ["offer at most 3 credits: sold with 95%, done in time with 96%, both with 90%"],
        ),
        (
            BudgetAdvice(probability=0.9, sold_probability=0.0, in_time_probability=0.2),
            ["no budget is enough: whatever is paid, it is done in time with 20% only, asked for were 90%"],
        ),
        (
            BestTimeAdvice(
                at_ns=70 * S, expected_uc=CREDIT, saving_uc=CREDIT, times=((10 * S, 2 * CREDIT), (70 * S, CREDIT))
            ),
            ["post it in 60 s: expected 1 credits, 1 less than now", "  in 0 s: 2", "  in 60 s: 1"],
        ),
        (
            BestTimeAdvice(at_ns=10 * S, expected_uc=CREDIT, saving_uc=0, times=((10 * S, CREDIT),)),
            ["post it now: expected 1 credits", "  in 0 s: 1"],
        ),
        (
            MakeOrBuyAdvice(
                choice="wait", gain_uc=2 * CREDIT, cost_uc=5 * CREDIT, resell_uc=4 * CREDIT, wait_uc=3 * CREDIT
            ),
            ["wait, and resell it then: expected gain 2 credits; it costs you 5, others take 4 now, 3 later"],
        ),
        (
            Judgement(verdict="below", price_uc=CREDIT, excess_uc=-2 * CREDIT, percentile=7.0),
            ["1 credits are below: 2 below the band; 7 % of comparable prices are below it"],
        ),
        (Judgement(verdict="fair", price_uc=CREDIT, excess_uc=0), ["1 credits are fair: within the band"]),
        (
            CongestionAdvice(at_ns=9 * S, load=1.5, load_low=1.0, load_high=2.0, busy=(("charger", 0.5, 2),), samples=9),
            ["at 9 s: 1.50 lots per robot (1.00 to 2.00)", "chargers: busy 50% of the time, 2 wait"],
        ),
        (CongestionAdvice(at_ns=9 * S, load=1.5, thin=True), ["at 9 s: 1.50 lots per robot (thin: rests on too little)"]),
    ],
)
def test_advice_is_told_in_words_and_numbers(advice, lines):
    assert advice_lines(advice) == lines
