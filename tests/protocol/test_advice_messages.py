"""Which fields belong to which advice, and what is no advice, on the wire."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleet_market.errors import ProtocolError
from fleet_market.protocol.envelope import decode
from fleet_market.protocol.messages import TAKES, FairAnswer, FairQuestion, FairRequest

OWN = {"probability": 0.9, "price_uc": 5, "cost_uc": 7}
ADVICE = {
    "budget": {"budget_uc": 5, "probability": 0.9, "sold_probability": 0.95, "in_time_probability": 0.97},
    "best_time": {"at_ns": 9, "expected_uc": 3, "saving_uc": 1, "times": [[1, 4], [9, 3]]},
    "make_or_buy": {"choice": "wait", "gain_uc": 2, "cost_uc": 5, "resell_uc": 4, "wait_uc": 3, "wait_ns": 8},
    "judge": {"verdict": "above", "price_uc": 8, "excess_uc": 2, "percentile": 75.0},
    "congestion": {"at_ns": 9, "load": 1.5, "load_low": 1.0, "load_high": 2.0, "busy": [["charger", 0.5, 2]], "samples": 9},
}


def question(what, **more):
    places = {"pickup": None, "dropoff": None} if what == "congestion" else {"pickup": (1.0, 2.0), "dropoff": (3.0, 4.0)}
    fields = {"quote": "q", "what": what, "payload_kg": 1.0, "deadline_ns": 9, "at_ns": 1, "later": False,
              "confidence": 0.8, "preview": False, "answer_by_ns": 5} | places | more  # fmt: skip
    return FairQuestion(**fields)


@given(st.sampled_from(sorted(TAKES)), st.sets(st.sampled_from(sorted(OWN))))
def test_a_question_carries_what_its_advice_is_about_and_nothing_else(what, given_fields):
    fields = {name: OWN[name] for name in given_fields}
    if given_fields == OWN.keys() & TAKES[what]:
        assert question(what, **fields).what == what
    else:
        with pytest.raises(ValidationError, match="be given for"):
            question(what, **fields)


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("congestion", {"pickup": (1.0, 2.0)}),
        ("judge", {"price_uc": 5, "dropoff": None}),
        ("band", {"pickup": None, "dropoff": None}),
        ("judge", {"price_uc": 5, "preview": True}),
        ("horoscope", {}),
    ],
)
def test_what_is_no_question_does_not_come_in(what, more):
    with pytest.raises(ValidationError):
        question(what, **more)


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, float("nan")])
def test_what_is_no_probability_does_not_come_in(wrong):
    with pytest.raises(ValidationError):
        FairRequest(quote="q", oracle="sib", what="budget", order="o", probability=wrong)


def answer(advice):
    body = {"type": "fair_answer", "quote": "q", "advice": advice}
    return json.dumps({"v": "1.0", "id": "m", "ts": 1, "src": "sib", "body": body}).encode()


@pytest.mark.parametrize("what", ADVICE)
def test_advice_survives_the_wire(what):
    body = decode(answer({"what": what} | ADVICE[what])).body
    assert isinstance(body, FairAnswer)
    assert json.loads(body.advice.model_dump_json()).items() >= ADVICE[what].items()


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("budget", {"budget_uc": -1}),
        ("budget", {"probability": 1.0}),
        ("budget", {"hint": "buy"}),
        ("best_time", {"times": []}),
        ("best_time", {"times": [[1, 2]] * 10}),
        ("make_or_buy", {"choice": "flee"}),
        ("make_or_buy", {"gain_uc": -1}),
        ("judge", {"percentile": 101.0}),
        ("judge", {"excess_uc": 10**13}),
        ("congestion", {"load": -1.0}),
        ("congestion", {"load_low": 3.0}),
        ("congestion", {"busy": [["swing", 0.5, 2]]}),
    ],
)
def test_what_is_no_advice_does_not_come_in(what, wrong):
    with pytest.raises(ProtocolError) as caught:
        decode(answer({"what": what} | ADVICE[what] | wrong))
    assert caught.value.reason == "malformed"


def test_nan_does_not_come_in():
    with pytest.raises(ProtocolError):
        decode(answer({"what": "congestion"} | ADVICE["congestion"]).replace(b"1.5", b"NaN"))
