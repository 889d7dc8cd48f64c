"""What an oracle daemon answers beside bands, from a market that it has really seen: budgets, times, judgements."""

import copy

import pytest

from benchmarks._oracle_floor import ZONE, Batch, Floor
from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.daemons.oracle_ears import MAX_ANSWER_BYTES
from fleet_market.ids import Identifier
from fleet_market.oracle import Knowledge
from fleet_market.oracle.terms import Resource, ResourceLoad
from fleet_market.protocol.envelope import Envelope, decode, encode
from fleet_market.protocol.messages import FairQuestion

S, CREDIT = 10**9, 10**6
WHATS = {
    "budget": {"probability": 0.6},
    "best_time": {"later": 600},
    "make_or_buy": {"cost_uc": 50 * CREDIT},
    "judge": {"price_uc": 50 * CREDIT},
    "congestion": {"later": 60},
}


@pytest.fixture(scope="module")
def seen():
    """A floor on which six hundred batches were traded, and what an oracle knows of it."""
    floor, knowledge = Floor(1007, robots=12, load=0.8), Knowledge()
    for robot in floor.robots:
        knowledge.hear(floor.state(robot), 0)
    for _ in range(600):
        for task in floor.arrivals():
            knowledge.hear(floor.post(task), floor.now_ns)
        for batch in floor.close():
            knowledge.hear(batch.heard if isinstance(batch, Batch) else batch, floor.now_ns)
        for robot in floor.robots:
            knowledge.hear(floor.state(robot), floor.now_ns)
    return floor.now_ns, knowledge


@pytest.fixture
def oracle(seen):
    made = Oracle(OracleConfig("127.0.0.1", 1, zone=ZONE), copy.deepcopy(seen[1]))
    made._now_ns = seen[0]
    return made


def asked(oracle, what, later=0, within_s=600, quote="q-1", **more):
    now_ns = oracle._now_ns
    places = (
        {"pickup": None, "dropoff": None} if what == "congestion" else {"pickup": (10.0, 10.0), "dropoff": (60.0, 60.0)}
    )
    return FairQuestion(
        quote=quote, what=what, payload_kg=2.0, at_ns=now_ns + later * S, deadline_ns=now_ns + (later + within_s) * S,
        later=later > 0, confidence=0.8, preview=False, answer_by_ns=now_ns + 5 * S, **places, **more,
    )  # fmt: skip


@pytest.mark.parametrize("what", WHATS)
def test_advice_comes_with_the_band_that_it_follows_from_and_fits_into_a_message(oracle, what):
    answer = oracle.answer(asked(oracle, what, **WHATS[what]))
    assert answer.advice.what == what
    if what == "congestion":
        assert (answer.band, answer.used) == (None, ())
    else:
        assert answer.band == oracle.answer(asked(oracle, "band")).band
        assert answer.used
    assert len(answer.model_dump_json()) <= MAX_ANSWER_BYTES
    sent = Envelope(id="m1", ts=1, src="sib", body=answer)
    assert decode(encode(sent)) == sent


@pytest.mark.parametrize("what", WHATS)
def test_the_same_is_said_whoever_asks_in_between_and_under_whatever_name(oracle, what):
    first = oracle.answer(asked(oracle, what, **WHATS[what]))
    for hope in (1, 10**6 * CREDIT):
        oracle.answer(asked(oracle, "make_or_buy", cost_uc=hope, quote="q-2"))
        oracle.answer(asked(oracle, "judge", price_uc=hope, quote="q-3"))
    again = oracle.answer(asked(oracle, what, quote="q-4", **WHATS[what]))
    assert again.model_dump(exclude={"quote"}) == first.model_dump(exclude={"quote"})


def test_own_costs_and_judged_prices_do_not_move_the_band(oracle):
    bands = {oracle.answer(asked(oracle, "make_or_buy", cost_uc=cost)).band for cost in (0, 10**12)}
    bands |= {oracle.answer(asked(oracle, "judge", price_uc=price)).band for price in (0, 10**12)}
    assert bands == {oracle.answer(asked(oracle, "band")).band}


def test_a_budget_grows_with_the_probability_and_there_is_none_where_time_does_not_suffice(oracle):
    some, more = (oracle.answer(asked(oracle, "budget", probability=p)).advice for p in (0.3, 0.8))
    assert some.budget_uc < more.budget_uc
    assert more.sold_probability * more.in_time_probability == pytest.approx(0.8)
    hasty = oracle.answer(asked(oracle, "budget", within_s=1, probability=0.5))
    assert (hasty.advice.budget_uc, hasty.band is None) == (None, False)
    assert hasty.advice.in_time_probability < 0.1


def test_a_probability_for_which_too_little_was_seen_is_not_answered_and_so_not_paid(oracle):
    answer = oracle.answer(asked(oracle, "budget", within_s=10**6, probability=1 - 1e-9))
    assert (answer.band, answer.advice) == (None, None)


def test_make_or_buy_compares_the_own_cost_with_what_others_take(oracle):
    expected_uc = oracle.answer(asked(oracle, "band")).band.expected_uc
    dear = oracle.answer(asked(oracle, "make_or_buy", cost_uc=expected_uc + 7)).advice
    assert (dear.choice, dear.gain_uc, dear.resell_uc) == ("resell", 7, expected_uc)
    cheap = oracle.answer(asked(oracle, "make_or_buy", cost_uc=expected_uc - 7)).advice
    assert (cheap.choice, cheap.gain_uc, cheap.wait_uc) == ("do", 0, None)
    later = oracle.answer(asked(oracle, "make_or_buy", later=300, cost_uc=10**12)).advice
    assert later.wait_ns == oracle._now_ns + 300 * S
    assert later.wait_uc == oracle.answer(asked(oracle, "band", later=300)).band.expected_uc


@pytest.mark.parametrize(("off", "verdict"), [(-1, "below"), (0, "fair"), (1, "above")])
def test_a_price_is_judged_by_the_band(oracle, off, verdict):
    band = oracle.answer(asked(oracle, "band")).band
    price_uc = {-1: band.low_uc - 5, 0: band.expected_uc, 1: band.high_uc + 5}[off]
    said = oracle.answer(asked(oracle, "judge", price_uc=price_uc)).advice
    assert (said.verdict, said.price_uc, said.excess_uc) == (verdict, price_uc, 5 * off)
    assert 0 <= said.percentile <= 100


def test_the_best_time_is_the_cheapest_of_nine(oracle):
    said = oracle.answer(asked(oracle, "best_time", later=800)).advice
    assert [at_ns for at_ns, _ in said.times] == [oracle._now_ns + step * 100 * S for step in range(9)]
    assert said.expected_uc == min(uc for _, uc in said.times)
    assert (said.at_ns, said.expected_uc) in said.times


def test_congestion_tells_the_load_and_what_is_busy(oracle):
    oracle._seer.hear(ResourceLoad(Identifier("c1"), Resource.CHARGER, ZONE, oracle._now_ns, 0.25, 3), oracle._now_ns)
    said = oracle.answer(asked(oracle, "congestion", later=60)).advice
    assert said.busy == (("charger", 0.25, 3),)
    assert said.load_low <= said.load <= said.load_high
    assert (said.at_ns, said.thin) == (oracle._now_ns + 60 * S, False)


@pytest.mark.parametrize("what", WHATS)
def test_who_has_seen_nothing_cannot_tell(what):
    oracle = Oracle(OracleConfig("127.0.0.1", 1, zone=ZONE), Knowledge())
    oracle._now_ns = S
    answer = oracle.answer(asked(oracle, what, **WHATS[what]))
    assert (answer.band, answer.advice) == (None, None)


def test_who_knows_bands_alone_sells_bands_alone():
    class Told:
        def begin(self, observation, now_ns):
            pass

        def band(self, question, now_ns, at_ns=None, confidence=0.8):
            raise NotImplementedError

    oracle = Oracle(OracleConfig("127.0.0.1", 1, zone=ZONE, fee_uc=100), Told())
    terms = oracle._terms("open")
    assert (terms.now_uc, terms.budget_uc, terms.congestion_uc) == (100, None, None)
    assert oracle.answer(asked(oracle, "judge", price_uc=1)).advice is None
    whole = Oracle(OracleConfig("127.0.0.1", 1, zone=ZONE, fee_uc=100), Knowledge())._terms("open")
    assert (whole.budget_uc, whole.best_time_uc, whole.make_or_buy_uc, whole.judge_uc, whole.congestion_uc) == (
        200, 300, 150, 100, 50,
    )  # fmt: skip
