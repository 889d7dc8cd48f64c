"""A robot that asks an oracle what others would take for its contracts, and one that does not."""

import pytest
from robot_yard import CREDIT, ZONE, Yard

from fleet_market.adapters.fleet_files import load_fleet
from fleet_market.errors import InputError
from fleet_market.ids import MessageId, PartyName
from fleet_market.protocol.messages import FairReply, FairRequest, Offer, OrderState, Presence, WireBand
from fleet_market.robot.advice import Adviser, Consult

LEFT = "carrier-1"
ORACLE = Consult(PartyName("sib"), CREDIT)


def two_contracts(consult):
    """A robot at work that has a second contract waiting."""
    yard = Yard()
    yard.agents[LEFT]._reseller.adviser._config = consult
    for name in yard.agents.keys() - {LEFT}:
        yard.give(name, Presence(status="offline", zone=ZONE))
    ways = (("shelf-a1", "receiving-1"), ("shelf-d1", "shipping-1"))
    dealt = [yard.order(f"o{i}", *w, deadline_s=3000.0, max_price_uc=100 * CREDIT) for i, w in enumerate(ways)]
    yard.until(lambda: all(order.state is OrderState.EXECUTING for order in dealt), 10)
    return yard, yard.agents[LEFT]


def said(yard, robot, kind):
    return [body for body in yard.said[robot] if isinstance(body, kind)]


def waiting(agent):
    """The contract that the robot has not begun."""
    (task,) = (task for task in agent.tasks if agent.situation.is_free(task))
    return task


def answer(yard, agent, request, expected_uc, **more):
    band = {"low_uc": 0, "high_uc": 2 * expected_uc, "expected_uc": expected_uc, "confidence": 0.8} | more
    now_ns = round(yard.now_s * 10**9)
    agent._reseller.adviser._asked = request.quote  # the yard's market knows no oracle, and has refused
    reply = FairReply(
        quote=request.quote, result="quoted", oracle="sib", order=waiting(agent).order, band=WireBand(**band),
        fee_uc=CREDIT // 10, valid_until_ns=now_ns + 60 * 10**9,
    )  # fmt: skip
    effects = agent.hear(MessageId("reply"), reply, now_ns)
    return [effect.body for effect in effects if isinstance(getattr(effect, "body", None), Offer)]


def test_who_is_not_told_to_ask_asks_nobody():
    yard, _ = two_contracts(None)
    assert not said(yard, LEFT, FairRequest)


def test_a_waiting_contract_that_others_do_for_less_is_offered():
    yard, agent = two_contracts(ORACLE)
    (request, *_) = said(yard, LEFT, FairRequest)
    assert (request.oracle, request.max_fee_uc) == ("sib", CREDIT)
    (offer,) = answer(yard, agent, request, expected_uc=1)
    assert offer.contracts == (waiting(agent).award.contract,)
    assert agent._reseller.adviser.fees_uc == CREDIT // 10


@pytest.mark.parametrize("band", [{"expected_uc": 900 * CREDIT}, {"expected_uc": 1, "thin": True}])
def test_what_is_dear_elsewhere_or_rests_on_too_little_is_kept(band):
    yard, agent = two_contracts(ORACLE)
    (request, *_) = said(yard, LEFT, FairRequest)
    assert answer(yard, agent, request, **band) == []


class Heard:
    def __init__(self):
        self.said = []

    def number(self):
        return len(self.said)

    def say(self, kind, body):
        self.said.append(body)


def test_after_a_refusal_nothing_is_asked_for_a_while():
    class Task:
        order = "o1"

    voice = Heard()
    adviser = Adviser(ORACLE, "r1", 1, voice)
    adviser.consider([Task], 0)
    (request,) = voice.said
    assert not adviser.hear(FairReply(quote=request.quote, result="refused", oracle="sib"), 10**9)
    adviser.consider([Task], 10 * 10**9)
    assert len(voice.said) == 1
    adviser.consider([Task], 40 * 10**9)
    assert len(voice.said) == 2
    assert voice.said[0].quote != voice.said[1].quote


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", None), ("oracle: {name: sib, max_fee: 1}", ORACLE), ("oracle: {}", Consult(PartyName("oracle"), CREDIT // 5))],
)
def test_the_fleet_file_switches_it_on(tmp_path, text, wanted):
    file = tmp_path / "fleet.yaml"
    file.write_text(f"robots: [{{id: r1, type: carrier}}]\n{text}\n")
    assert load_fleet(file).consult == wanted


@pytest.mark.parametrize("text", ["{name: Not a name}", "{max_fee: -1}", "{fee: 1}"])
def test_a_wrong_entry_is_refused_by_name(tmp_path, text):
    file = tmp_path / "fleet.yaml"
    file.write_text(f"robots: [{{id: r1, type: carrier}}]\noracle: {text}\n")
    with pytest.raises(InputError, match=r"oracle\."):
        load_fleet(file)
