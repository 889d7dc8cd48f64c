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
    TAKES,
    BestTimeAdvice,
    BudgetAdvice,
    CongestionAdvice,
    FairAnswer,
    FairQuestion,
    FairReply,
    FairRequest,
    Judgement,
    MakeOrBuyAdvice,
    OracleTerms,
    Receipt,
    Scored,
    StatusReply,
    StatusRequest,
    WireBand,
)

BAND = WireBand(low_uc=3 * CREDIT, high_uc=5 * CREDIT, confidence=0.8, samples=40)
FEE = 101
FEES = {"budget": 203, "best_time": 307, "make_or_buy": 151, "judge": 103, "congestion": 53}
ASKS = {
    "budget": {"probability": 0.9},
    "best_time": {"later_s": 60.0},
    "make_or_buy": {"cost_uc": 4 * CREDIT},
    "judge": {"price_uc": 6 * CREDIT},
    "congestion": {"order": None},
}
SAYS = {
    "budget": BudgetAdvice(budget_uc=5 * CREDIT, probability=0.9, sold_probability=0.95, in_time_probability=0.96),
    "best_time": BestTimeAdvice(at_ns=9, expected_uc=3, saving_uc=1, times=((1, 4), (9, 3))),
    "make_or_buy": MakeOrBuyAdvice(choice="resell", gain_uc=1, cost_uc=4 * CREDIT, resell_uc=4 * CREDIT - 1),
    "judge": Judgement(verdict="above", price_uc=6 * CREDIT, excess_uc=CREDIT, percentile=90.0),
    "congestion": CongestionAdvice(at_ns=1, load=0.5, load_low=0.1, load_high=1.0, samples=9),
}


class Bazaar(Town):
    """A market with the oracle sib, which sells everything, and pyt, which sells bands."""

    def __init__(self, **more):
        super().__init__(**({"terms": MarketTerms(bond_uc=0)} | more))
        for oracle, others in (("sib", {f"{what}_uc": fee for what, fee in FEES.items()}), ("pyt", {})):
            self.give(oracle, OracleTerms(now_uc=FEE, later_uc=2 * FEE, thin_uc=FEE // 2, **others), f"t-{oracle}")

    def ask(self, order="o1", buyer="ann", quote="q1", oracle="sib", max_fee_uc=10 * FEE, **more):
        """Returns the question that the oracle gets, or the reply to the buyer if there is none."""
        self.count += 1
        body = FairRequest(quote=quote, oracle=oracle, order=order, max_fee_uc=max_fee_uc, **more)
        said = self.give(buyer, body, f"f{self.count}")
        return said[0] if said else None

    def reply(self, question, oracle="sib", band=BAND, used=(), advice=None):
        """Returns what the buyer is told, and the result in the oracle's receipt."""
        self.count += 1
        said = self.give(oracle, FairAnswer(quote=question.quote, band=band, used=used, advice=advice), f"a{self.count}")
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


def sealed(town, oracle="pyt"):
    """Returns the newest question that an oracle got without being the one that is paid."""
    return next(s.body for s in reversed(town.sends) if s.topic == topics.to_customer(oracle, "question"))


def scores_of(town, asks=(3, 6)):
    (award,) = town.trade({"r1": asks[0] * CREDIT, "r2": asks[1] * CREDIT})
    return [b for b in town.deliver(award, "r1") if isinstance(b, Scored)]


def standings(town):
    (status,) = town.give("ann", StatusRequest(what="oracles"), f"s{town.count}")
    assert isinstance(status, StatusReply)
    return status.oracles


def test_after_the_settlement_everyone_is_told_how_the_band_did(town):
    town.reply(town.ask())
    (scored,) = scores_of(town, (5, 7))
    assert (scored.reference_uc, scored.inside) == (6 * CREDIT, False), (
        "half-way to the other owner's ask is above the band"
    )
    assert scored.score == pytest.approx((2 + 10 * 1) / 10), "width 2, one credit outside, as a share of the budget of 10"
    pyt, sib = standings(town)
    assert (sib.scored, sib.inside, sib.score, sib.sold) == (1, 0.0, pytest.approx(scored.score), 1)
    assert (pyt.scored, pyt.score) == (0, None)
    assert (sib.excess, pyt.excess) == (0.0, 0.0), "who is alone is compared with nobody"


def test_the_other_oracles_are_asked_too_and_cannot_tell_that_nobody_pays(town):
    paid = town.ask()
    unpaid = sealed(town)
    assert paid.model_dump(exclude={"quote"}) == unpaid.model_dump(exclude={"quote"})
    assert paid.quote != unpaid.quote
    before, buyer = dict(town.market.ledger.balances()), topics.to_customer("ann", "fair")
    town.sends.clear()
    assert town.reply(unpaid, "pyt", used=(("r1", 3),)) == (None, "ok"), "the same receipt, and nothing to the buyer"
    assert not [s for s in town.sends if s.topic == buyer]
    assert town.market.ledger.balances() == before, "and no money moves"
    reply, receipt = town.reply(paid)
    assert (reply.result, reply.oracle, receipt) == ("quoted", "sib", "ok")
    pyt, sib = standings(town)
    assert (pyt.sold, sib.sold) == (0, 1)
    assert town.sound()


def test_sealed_bands_are_judged_beside_the_one_that_was_sold(town):
    paid = town.ask()
    unpaid = sealed(town)
    town.reply(paid)
    town.reply(unpaid, "pyt", band=BAND.model_copy(update={"low_uc": 5 * CREDIT, "high_uc": 7 * CREDIT}))
    found = {s.oracle: s.score for s in scores_of(town, (5, 7))}
    assert found == {"sib": pytest.approx(1.2), "pyt": pytest.approx(0.2)}
    pyt, sib = standings(town)
    assert (pyt.scored, sib.scored) == (1, 1)
    assert (pyt.excess, sib.excess) == (pytest.approx(-0.5), pytest.approx(0.5))


def test_every_purchase_is_a_comparison_of_its_own(town):
    for number in (1, 2):
        town.reply(town.ask(quote=f"q{number}"))
        town.reply(sealed(town), "pyt")
    assert sorted(s.oracle for s in scores_of(town)) == ["pyt", "pyt", "sib", "sib"]
    assert [o.scored for o in standings(town)] == [2, 2]


def test_a_sealed_band_counts_only_if_it_came_before_the_sale(town):
    town.reply(town.ask())
    late = sealed(town)
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 6 * CREDIT})
    assert town.reply(late, "pyt") == (None, "ok")
    assert [b.oracle for b in town.deliver(award, "r1") if isinstance(b, Scored)] == ["sib"]


def test_nobody_else_is_asked_for_what_is_not_judged_or_by_an_oracle_that_is_closed(town):
    town.ask(quote="free", preview=True)
    town.ask(quote="later", later_s=60.0)
    town.ask(order=None, quote="none", pickup="a", dropoff="b")
    assert len(town.market.state.asked) == 3
    town.give("pyt", OracleTerms(status="closed", now_uc=FEE, later_uc=FEE, thin_uc=0), "bye")
    town.ask()
    assert len(town.market.state.asked) == 4


def test_sealed_questions_do_not_use_up_what_a_buyer_may_ask(town):
    for number in range(10):
        assert isinstance(town.ask(quote=f"q{number}"), FairQuestion)
    assert len(town.market.state.asked) == 20
    assert town.ask(quote="one-more").result == "refused"


def test_an_oracle_that_does_not_answer_a_sealed_question_disturbs_nobody(town):
    town.reply(town.ask())
    town.sends.clear()
    town.wait(6)
    assert not [s for s in town.sends if isinstance(s.body, FairReply)]
    assert town.market.state.asked == {}
    assert [s.oracle for s in scores_of(town)] == ["sib"]


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


def advised(town, what, used=(("r1", 3), ("r2", 1)), thin=False, **more):
    """Buys advice from sib; returns the question and what the buyer is told."""
    question = town.ask(**({"what": what} | ASKS[what] | more))
    band = None if what == "congestion" else BAND.model_copy(update={"thin": thin})
    said = SAYS[what].model_copy(update={"thin": thin}) if what == "congestion" else SAYS[what]
    reply, receipt = town.reply(question, band=band, used=used, advice=said)
    assert receipt == "ok"
    return question, reply


@pytest.mark.parametrize("what", FEES)
def test_other_advice_is_paid_for_as_a_band_is_to_the_micro_credit(town, what):
    before = town.money("customer", "ann")
    question, reply = advised(town, what)
    fee, robots = FEES[what], FEES[what] // 2
    assert (question.what, reply.what, reply.result, reply.fee_uc, reply.robots_uc) == (what, what, "quoted", fee, robots)
    assert reply.advice == SAYS[what]
    assert reply.band == (None if what == "congestion" else BAND)
    assert reply.valid_until_ns > town.now_ns
    assert town.money("customer", "ann") == before - fee
    acme, bolt = town.money("owner", "acme"), town.money("owner", "bolt")
    assert (town.money("oracle", "sib"), acme + bolt, town.pending()) == (fee - robots, robots, 0)
    assert abs(acme - 3 * robots / 4) < 1
    assert town.ask(what=what, **ASKS[what]) == reply, "the same again is not paid again"
    assert town.money("customer", "ann") == before - fee
    assert town.sound()


@pytest.mark.parametrize("what", FEES)
def test_thin_advice_costs_no_more_than_a_thin_band(town, what):
    _, reply = advised(town, what, thin=True)
    assert reply.fee_uc == FEE // 2
    assert town.sound()


def test_an_answer_that_is_thin_never_costs_more_than_was_held(town):
    town.give("sib", OracleTerms(now_uc=FEE, later_uc=FEE, thin_uc=FEE, congestion_uc=7), "cheap")
    assert advised(town, "congestion", thin=True)[1].fee_uc == 7
    assert town.sound()


@pytest.mark.parametrize("what", FEES)
def test_an_oracle_that_cannot_tell_or_is_silent_is_not_paid_for_advice(town, what):
    before = town.money("customer", "ann")
    reply, receipt = town.reply(town.ask(what=what, **ASKS[what]), band=None)
    assert (receipt, reply.result, reply.fee_uc) == ("ok", "no_quote", 0)
    question = town.ask(quote="q2", what=what, **ASKS[what])
    assert town.pending() == FEES[what]
    town.wait(6)
    late = town.reply(question, band=None if what == "congestion" else BAND, advice=SAYS[what])
    assert late == (None, "question_is_over")
    assert (town.money("customer", "ann"), town.pending(), town.money("oracle", "sib")) == (before, 0, 0)


@pytest.mark.parametrize("what", ["band", *FEES])
def test_what_was_not_asked_for_is_not_paid_and_can_be_mended(town, what):
    question, before = town.ask(what=what, **ASKS.get(what, {})), town.money("customer", "ann")
    right = {"band": None if what == "congestion" else BAND, "advice": SAYS.get(what)}
    for other in ({"band": BAND, "advice": a} for a in (*SAYS.values(), None)):
        if other != right and not (what == "congestion" and other["advice"] == SAYS[what]):
            assert town.reply(question, **other) == (None, "not_what_was_asked")
    assert (town.money("customer", "ann"), town.money("oracle", "sib")) == (before, 0)
    assert town.reply(question, **right)[1] == "ok"


@pytest.mark.parametrize("what", ["band", *FEES])
def test_a_question_tells_of_the_buyer_only_what_the_advice_is_about(town, what):
    town.post("o2", customer="eve", max_price_uc=4 * CREDIT)
    more = ASKS.get(what, {})
    mine, hers = (town.ask(**({"order": order, "buyer": b, "quote": f"q-of-{b}", "what": what} | more))
                  for order, b in (("o1", "ann"), ("o2", "eve")))  # fmt: skip
    assert mine.model_dump(exclude={"quote"}) == hers.model_dump(exclude={"quote"})
    assert all(word not in q.model_dump_json() for q in (mine, hers) for word in ("ann", "eve", "o1", "o2"))
    told = {"probability", "price_uc", "cost_uc"} & TAKES[what]
    assert {field for field in ("probability", "price_uc", "cost_uc") if getattr(mine, field) is not None} == told


def test_what_was_paid_for_an_order_is_judged_without_being_named(town):
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 4 * CREDIT})
    town.deliver(award, "r1")
    paid_uc = town.order().price_uc
    assert town.ask(what="judge").price_uc == paid_uc
    assert town.ask(quote="q2", what="judge", price_uc=7).price_uc == 7


def test_only_bands_are_judged_after_the_settlement(town):
    for number, what in enumerate(FEES):
        advised(town, what, quote=f"q{number}")
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 6 * CREDIT})
    assert not [b for b in town.deliver(award, "r1") if isinstance(b, Scored)]


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("max_fee", {"what": "budget", "probability": 0.9, "max_fee_uc": FEES["budget"] - 1}),
        ("advice", {"what": "budget", "probability": 0.9, "oracle": "pyt"}),
        ("probability", {"what": "budget"}),
        ("probability", {"probability": 0.9}),
        ("later", {"what": "best_time"}),
        ("later", {"what": "budget", "probability": 0.9, "later_s": 1.0}),
        ("cost", {"what": "make_or_buy"}),
        ("cost", {"what": "judge", "price_uc": 1, "cost_uc": 1}),
        ("price", {"what": "judge"}),
        ("preview", {"what": "judge", "price_uc": 1, "preview": True}),
        ("confidence", {"what": "judge", "price_uc": 1, "confidence": 0.9}),
        ("order", {"what": "congestion"}),
        ("pickup", {"what": "congestion", "order": None, "pickup": "a"}),
        ("order", {"what": "budget", "probability": 0.9, "order": "nothing"}),
        ("customer", {"what": "make_or_buy", "cost_uc": 1, "buyer": "stranger"}),
    ],
)
def test_advice_that_cannot_be_sold_is_refused_and_the_money_stays_where_it_was(town, field, request_):
    refused(town, field, **request_)


@pytest.mark.parametrize("what", ["band", *sorted(set(FEES) - {"judge"})])
def test_on_a_settled_order_nothing_but_a_judgement_is_sold(town, what):
    if what == "congestion":
        return
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 4 * CREDIT})
    town.deliver(award, "r1")
    refused(town, "order", what=what, **ASKS.get(what, {}))


def test_a_snapshot_keeps_open_questions_and_the_standing_of_oracles(town):
    question = town.ask()
    town.reply(sealed(town), "pyt")
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
    town.reply(sealed(town), "pyt", band=None)
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
        what=st.sampled_from(["band", *FEES]),
    )
    def request(self, buyer, oracle, order, later, preview, most, again, what):
        self.number += not again
        order = None if what == "congestion" else order
        places = {} if order or what == "congestion" else {"pickup": "a", "dropoff": "b"}
        places |= {field: value for field, value in ASKS.get(what, {}).items() if field not in {"order", "later_s"}}
        self.town.sends.clear()
        self.town.ask(
            order and OrderId(order),
            buyer,
            QuoteId(f"q{self.number}"),
            oracle,
            most,
            later_s=later,
            preview=preview,
            what=what,
            **places,
        )
        self.questions += [send.body for send in self.town.sends if isinstance(send.body, FairQuestion)]

    @precondition(lambda self: self.questions)
    @rule(
        data=st.data(),
        oracle=st.sampled_from(["sib", "pyt", "ann"]),
        thin=st.booleans(),
        none=st.booleans(),
        used=st.dictionaries(st.sampled_from(["r1", "r2", "ghost"]), st.integers(1, 50)),
        astray=st.booleans(),
    )
    def answer(self, data, oracle, thin, none, used, astray):
        question = data.draw(st.sampled_from(self.questions))
        band = None if none else BAND.model_copy(update={"thin": thin})
        advice = None if none else SAYS.get("judge" if astray else question.what)
        self.town.reply(question, oracle, band, tuple(used.items()), advice)

    @rule(seconds=st.sampled_from([0.1, 2.0, 6.0]))
    def wait(self, seconds):
        self.town.wait(seconds)

    @rule(fee=st.integers(0, 200))
    def new_fees(self, fee):
        terms = OracleTerms(now_uc=fee, later_uc=2 * fee, thin_uc=fee // 2, budget_uc=fee, judge_uc=fee // 3)
        self.town.give("sib", terms, f"n{self.number}-{fee}")

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
