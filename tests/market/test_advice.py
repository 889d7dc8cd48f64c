"""Quotes of oracles: who pays whom, what is refused, and that no micro-credit is lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from market_town import CREDIT, Town
from pydantic import ValidationError

from fleet_market.contracts import MarketTerms
from fleet_market.ids import OrderId, QuoteId
from fleet_market.ledger import account
from fleet_market.market import order_faults
from fleet_market.market.commands import SELF, Checkpoint
from fleet_market.market.market import Market
from fleet_market.market.snapshot import read_snapshot, write_snapshot
from fleet_market.protocol import topics
from fleet_market.protocol.messages import (
    FairAnswer,
    FairQuestion,
    FairReply,
    FairRequest,
    OracleTerms,
    Receipt,
    Scored,
    StatusReply,
    StatusRequest,
    WireBand,
)

BAND = WireBand(low_uc=3 * CREDIT, high_uc=5 * CREDIT, confidence=0.8, samples=40)
FEE = 101


class Bazaar(Town):
    """A market with the oracles sib and pyt."""

    def __init__(self, **more):
        super().__init__(**({"terms": MarketTerms(bond_uc=0)} | more))
        for oracle in ("sib", "pyt"):
            self.give(oracle, OracleTerms(now_uc=FEE, later_uc=2 * FEE, thin_uc=FEE // 2), f"t-{oracle}")

    def ask(self, order="o1", buyer="ann", quote="q1", oracle="sib", max_fee_uc=10 * FEE, **more):
        """Returns the question that the oracle gets, or the reply to the buyer if there is none."""
        self.count += 1
        body = FairRequest(quote=quote, oracle=oracle, order=order, max_fee_uc=max_fee_uc, **more)
        said = self.give(buyer, body, f"f{self.count}")
        return said[0] if said else None

    def reply(self, question, oracle="sib", band=BAND, used=()):
        """Returns what the buyer is told, and the result in the oracle's receipt."""
        self.count += 1
        said = self.give(oracle, FairAnswer(quote=question.quote, band=band, used=used), f"a{self.count}")
        replies = [b for b in said if isinstance(b, FairReply)]
        (receipt,) = [b for b in said if isinstance(b, Receipt)]
        return (replies or [None])[0], receipt.result

    def pending(self, oracle="sib"):
        return self.market.ledger.balance(account("oracle", oracle)).credits_pending

    def sound(self):
        return self.market.ledger.audit() == [] and order_faults(self.market.state) == []


@pytest.fixture
def town():
    made = Bazaar()
    made.post()
    return made


def test_a_quote_is_held_for_paid_on_delivery_and_shared_with_the_robots_owners(town):
    before = town.money("customer", "ann")
    question = town.ask()
    assert isinstance(question, FairQuestion)
    assert (town.money("customer", "ann"), town.pending(), town.money("oracle", "sib")) == (before - FEE, FEE, 0)
    reply, receipt = town.reply(question, used=(("r1", 3), ("r2", 1)))
    assert receipt == "ok"
    assert (reply.result, reply.fee_uc, reply.robots_uc, reply.band) == ("quoted", FEE, 50, BAND)
    assert reply.valid_until_ns > town.now_ns
    assert town.money("customer", "ann") == before - FEE
    assert (town.money("oracle", "sib"), town.money("owner", "acme"), town.money("owner", "bolt")) == (51, 38, 12)
    assert town.pending() == 0
    assert town.sound()


def test_the_question_tells_neither_who_asks_nor_what_he_hopes_for(town):
    town.post("o2", customer="eve", max_price_uc=4 * CREDIT)
    questions = [town.ask("o1", "ann", "my-name"), town.ask("o2", "eve", "her-name")]
    texts = [q.model_dump(exclude={"quote"}) for q in questions]
    assert texts[0] == texts[1], "same task, other buyer, other budget, other names"
    assert all(word not in q.model_dump_json() for q in questions for word in ("ann", "eve", "name", "o1", "o2"))


def test_the_same_quote_again_is_answered_again_and_paid_once(town):
    reply, _ = town.reply(town.ask())
    before = town.money("customer", "ann")
    assert town.ask() == reply
    assert town.money("customer", "ann") == before


def test_a_thin_band_costs_less_and_the_rest_of_the_hold_returns(town):
    before = town.money("customer", "ann")
    reply, _ = town.reply(town.ask(), band=BAND.model_copy(update={"thin": True}))
    assert reply.fee_uc == FEE // 2
    assert town.money("customer", "ann") == before - FEE // 2
    assert town.sound()


def test_a_later_time_costs_what_the_schedule_says(town):
    reply, _ = town.reply(town.ask(later_s=60.0))
    assert reply.fee_uc == 2 * FEE


def test_a_preview_is_free(town):
    before = town.money("customer", "ann")
    reply, _ = town.reply(town.ask(preview=True, max_fee_uc=0))
    assert (reply.result, reply.fee_uc) == ("preview", 0)
    assert (town.money("customer", "ann"), town.money("oracle", "sib")) == (before, 0)


def test_an_oracle_that_cannot_tell_is_not_paid(town):
    before = town.money("customer", "ann")
    reply, _ = town.reply(town.ask(), band=None)
    assert (reply.result, reply.band) == ("no_quote", None)
    assert (town.money("customer", "ann"), town.pending()) == (before, 0)


def test_silence_gives_the_fee_back_and_a_late_answer_changes_nothing(town):
    before, question = town.money("customer", "ann"), town.ask()
    (reply,) = [b for b in town.wait(6) if isinstance(b, FairReply)]
    assert reply.result == "no_quote"
    assert (town.money("customer", "ann"), town.pending()) == (before, 0)
    assert town.reply(question) == (None, "question_is_over")
    assert town.money("oracle", "sib") == 0
    assert town.sound()


def refused(town, field, **request):
    before = dict(town.market.ledger.balances())
    reply = town.ask(**request)
    assert isinstance(reply, FairReply)
    assert reply.result == "refused"
    assert [e.field for e in reply.errors] == [field]
    assert town.market.ledger.balances() == before
    assert town.market.state.asked == {}


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("order", {"order": "nothing"}),
        ("oracle", {"oracle": "nobody"}),
        ("max_fee", {"max_fee_uc": FEE - 1}),
        ("customer", {"buyer": "stranger"}),
        ("pickup", {"order": None, "pickup": "the moon", "dropoff": "b"}),
        ("dropoff", {"order": None, "pickup": "a"}),
    ],
)
def test_what_cannot_be_sold_is_refused_and_the_money_stays_where_it_was(town, field, request_):
    refused(town, field, **request_)


def test_a_fee_that_is_not_covered_is_refused(town):
    town.post("o9", customer="eve", max_price_uc=5 * CREDIT)
    refused(town, "max_fee", buyer="eve")


def test_a_closed_order_is_refused(town):
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 4 * CREDIT})
    town.deliver(award, "r1")
    refused(town, "order")


def test_an_oracle_that_has_closed_is_refused(town):
    town.give("sib", OracleTerms(status="closed", now_uc=FEE, later_uc=FEE, thin_uc=0), "bye")
    refused(town, "oracle")


def test_an_oracle_that_answers_for_another_gets_nothing(town):
    question, before = town.ask(), town.money("customer", "ann")
    assert town.reply(question, oracle="pyt") == (None, "not_your_question")
    assert (town.money("oracle", "pyt"), town.money("customer", "ann"), town.pending()) == (0, before, FEE)
    assert town.reply(question)[1] == "ok", "the one that was asked can still answer"
    assert town.reply(question)[1] == "question_is_over", "and only once"
    assert town.money("oracle", "sib") == FEE


@pytest.mark.parametrize("bad", [{"low_uc": 6 * CREDIT}, {"age_s": float("nan")}, {"confidence": 1.0}, {"root": "forged"}])
def test_what_is_no_band_does_not_come_in(bad):
    with pytest.raises(ValidationError):
        WireBand(**(BAND.model_dump() | bad))


def test_a_robot_buys_with_its_owners_money_once_it_has_earned_some(town):
    refused(town, "customer", buyer="r1")
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 4 * CREDIT})
    town.deliver(award, "r1")
    town.post("o2")
    earned = town.money("owner", "acme")
    reply, _ = town.reply(town.ask("o2", buyer="r1"), used=(("r2", 1),))
    assert reply.fee_uc == FEE
    assert town.sends[-2].topic == topics.to_robot("r1", "fair")
    assert town.money("owner", "acme") == earned - FEE
    assert town.money("owner", "bolt") == FEE // 2


def test_after_the_settlement_everyone_is_told_how_the_band_did(town):
    town.reply(town.ask())
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 6 * CREDIT})
    (scored,) = [b for b in town.deliver(award, "r1") if isinstance(b, Scored)]
    assert (scored.reference_uc, scored.inside) == (6 * CREDIT, False), "what the other owner asked is above the band"
    assert scored.score == pytest.approx((2 + 10 * 1) / 10), "width 2, one credit outside, as a share of the budget of 10"
    (status,) = town.give("ann", StatusRequest(what="oracles"), "s")
    assert isinstance(status, StatusReply)
    pyt, sib = status.oracles
    assert (sib.scored, sib.inside, sib.score, sib.sold) == (1, 0.0, pytest.approx(scored.score), 1)
    assert (pyt.scored, pyt.score) == (0, None)


def test_a_band_for_a_later_time_and_one_that_came_after_the_batch_are_not_judged(town):
    town.reply(town.ask(quote="later", later_s=60.0))
    question = town.ask(quote="slow")
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 6 * CREDIT})
    reply, _ = town.reply(question)
    assert reply.result == "quoted"
    assert not [b for b in town.deliver(award, "r1") if isinstance(b, Scored)]


def test_one_buyer_cannot_keep_the_others_from_asking(town):
    for number in range(10):
        assert isinstance(town.ask(quote=f"q{number}", preview=True), FairQuestion)
    reply = town.ask(quote="one-more", preview=True)
    assert (reply.result, reply.errors[0].field) == ("refused", "quote")
    town.post("o2", customer="eve", max_price_uc=CREDIT)
    assert isinstance(town.ask("o2", "eve", "hers"), FairQuestion)


def test_a_band_bought_after_the_award_is_not_judged(town):
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 6 * CREDIT})
    town.reply(town.ask())
    assert not [b for b in town.deliver(award, "r1") if isinstance(b, Scored)]


def test_a_snapshot_keeps_open_questions_and_the_standing_of_oracles(town):
    question = town.ask()
    state = read_snapshot(write_snapshot(town.market.state))
    assert write_snapshot(state) == write_snapshot(town.market.state)
    assert state.asked.keys() == town.market.state.asked.keys()
    town.market.restore(write_snapshot(town.market.state))
    assert town.reply(question)[1] == "ok"
    assert town.sound()


def test_of_quotes_that_are_over_only_the_newest_are_kept_and_those_to_be_judged_all():
    town = Bazaar(terms=MarketTerms(keep_orders=2, bond_uc=0))
    town.post()
    town.reply(town.ask(quote="paid"))
    for number in range(5):
        town.reply(town.ask(quote=f"p{number}", preview=True))
    town.give(SELF, Checkpoint(form="any"))
    assert [c.quote for c in town.market.state.consultations.values()] == ["paid", "p3", "p4"]
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 4 * CREDIT})
    assert [b for b in town.deliver(award, "r1") if isinstance(b, Scored)]


class Quotes(RuleBasedStateMachine):
    """Buyers, oracles and time in any order: money is neither made nor lost, and every hold belongs to an open question."""

    def __init__(self):
        super().__init__()
        self.town, self.questions, self.number = Bazaar(credit=20), [], 0
        self.town.post("o1", max_price_uc=5 * CREDIT)
        self.supply = self.town.market.ledger.metrics().supply_uc

    @rule(
        buyer=st.sampled_from(["ann", "eve", "r1", "nobody"]),
        oracle=st.sampled_from(["sib", "pyt", "none"]),
        order=st.sampled_from(["o1", "o7", None]),
        later=st.sampled_from([0.0, 5.0]),
        preview=st.booleans(),
        most=st.integers(0, 300),
        again=st.booleans(),
    )
    def request(self, buyer, oracle, order, later, preview, most, again):
        self.number += not again
        places = {} if order else {"pickup": "a", "dropoff": "b"}
        said = self.town.ask(
            order and OrderId(order),
            buyer,
            QuoteId(f"q{self.number}"),
            oracle,
            most,
            later_s=later,
            preview=preview,
            **places,
        )
        if isinstance(said, FairQuestion):
            self.questions.append(said)

    @precondition(lambda self: self.questions)
    @rule(
        data=st.data(),
        oracle=st.sampled_from(["sib", "pyt", "ann"]),
        thin=st.booleans(),
        none=st.booleans(),
        used=st.dictionaries(st.sampled_from(["r1", "r2", "ghost"]), st.integers(1, 50)),
    )
    def answer(self, data, oracle, thin, none, used):
        question = data.draw(st.sampled_from(self.questions))
        band = None if none else BAND.model_copy(update={"thin": thin})
        self.town.reply(question, oracle, band, tuple(used.items()))

    @rule(seconds=st.sampled_from([0.1, 2.0, 6.0]))
    def wait(self, seconds):
        self.town.wait(seconds)

    @rule(fee=st.integers(0, 200))
    def new_fees(self, fee):
        self.town.give("sib", OracleTerms(now_uc=fee, later_uc=2 * fee, thin_uc=fee // 2), f"n{self.number}-{fee}")

    @invariant()
    def sound(self):
        assert self.town.sound()
        metrics = self.town.market.ledger.metrics()
        assert metrics.supply_uc == metrics.circulating_uc == self.supply
        oracles = self.town.market.state.oracles
        paid = sum(o.earned_uc + o.robots_uc for o in oracles.values())
        got = sum(self.town.money(kind, n) for kind, n in (("oracle", "sib"), ("oracle", "pyt")))
        assert got == sum(o.earned_uc for o in oracles.values()) <= paid

    def teardown(self):
        self.town.wait(6)
        assert self.town.market.state.asked == {}
        assert all(self.town.pending(o) == 0 for o in ("sib", "pyt"))
        again = Market(self.town.market._places)
        for command in self.town.log:
            again.handle(command)
        assert again.ledger.balances() == self.town.market.ledger.balances(), "a replay comes to the same books"


TestQuotes = Quotes.TestCase
TestQuotes.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
