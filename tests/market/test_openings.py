"""Buyers look under quotes: sound evidence costs nobody anything, false evidence costs the oracle its bond."""

import base64

import pytest
from market_town import CREDIT, Town

from fleet_market.contracts import MarketTerms
from fleet_market.ids import ContractId
from fleet_market.ledger import account
from fleet_market.market import order_faults
from fleet_market.market.snapshot import read_snapshot, write_snapshot
from fleet_market.oracle.evidence import EvidenceLog
from fleet_market.protocol.messages import (
    CongestionAdvice,
    FairAnswer,
    FairQuestion,
    FairReply,
    FairRequest,
    Fix,
    Judgement,
    LeafOpening,
    OpenDemand,
    OpenReply,
    OpenRequest,
    OracleTerms,
    RecordLeg,
    TelemetryRecord,
    WireBand,
)
from fleet_market.protocol.telemetry import GENESIS, record_hash

S, SEED = 10**9, "00ff" * 16
FEE, BOND = 100_000, 60_000


def records(number):
    """A robot's chain of records."""
    previous = GENESIS
    for seq in range(number):
        made = TelemetryRecord(
            robot="r1", chain=1, seq=seq, previous=previous, contract=ContractId(f"c{seq}"), dwell_s=0.0, executed_s=20.0,
            legs=(RecordLeg(length_m=10.0, turn_rad=0.0, halts=1.0, payload_kg=0.0, surface="floor"),),
            energy_j=100.0 + seq, fixes=(Fix(x=0.0, y=0.0, at_ns=seq * S), Fix(x=1.0, y=0.0, at_ns=seq * S)),
        )  # fmt: skip
        previous = record_hash(made)
        yield made


class Evidence(Town):
    """A market whose oracle sib sells quotes that rest on 40 records."""

    def __init__(self):
        super().__init__(terms=MarketTerms(bond_uc=BOND))
        self.evidence = EvidenceLog(None)
        for record in records(40):
            self.evidence.hear(record, 100 * S, 0.0)
        self.give("sib", OracleTerms(now_uc=FEE, later_uc=FEE, thin_uc=FEE, judge_uc=FEE, congestion_uc=FEE), "t")
        self.post()

    def buy(self, name, **band):
        root = self.evidence.root()
        fields = {"root": root.hash, "evidence_records": root.size} | band
        made = WireBand(low_uc=1, high_uc=2, confidence=0.8, **fields)
        question = next(
            b
            for b in self.give("ann", FairRequest(quote=name, oracle="sib", order="o1", max_fee_uc=FEE), f"f{name}")
            if isinstance(b, FairQuestion)
        )
        return next(
            b for b in self.give("sib", FairAnswer(quote=question.quote, band=made), f"a{name}") if isinstance(b, FairReply)
        )

    def demand(self, name, buyer="ann", count=5):
        said = self.give(buyer, OpenRequest(quote=name, seed=SEED, count=count), f"d{name}{buyer}{self.now_ns}")
        return said[0] if said else None

    def opening(self, demand, leaf, **changed):
        found = self.evidence.open(leaf, demand.size)
        proof = base64.urlsafe_b64encode(b"".join(map(bytes.fromhex, found.proof))).rstrip(b"=").decode()
        record = found.record.model_copy(update=changed)
        return LeafOpening(quote=demand.quote, index=leaf, size=demand.size, record=record, proof=proof)

    def open(self, demand, oracle="sib", **changed):
        """Open all leaves, the last one changed; returns the verdict if there is one."""
        *most, last = demand.leaves
        said = [b for leaf in most for b in self.give(oracle, self.opening(demand, leaf), f"o{leaf}{self.now_ns}")]
        said += self.give(oracle, self.opening(demand, last, **changed), f"o{last}{self.now_ns}")
        return next((b for b in said if isinstance(b, OpenReply)), None)

    def held(self, kind, name):
        return self.market.ledger.balance(account(kind, name)).posted_uc

    def sound(self):
        metrics = self.market.ledger.metrics()
        return (
            self.market.ledger.audit() == []
            and order_faults(self.market.state) == []
            and metrics.supply_uc == metrics.circulating_uc
        )


@pytest.fixture
def town():
    made = Evidence()
    made.buy("q1")
    return made


def test_an_oracles_first_earnings_become_its_bond_and_no_more_than_that(town):
    assert (town.held("bond", "sib"), town.money("oracle", "sib")) == (BOND, FEE - BOND)
    town.buy("q2")
    assert (town.held("bond", "sib"), town.money("oracle", "sib")) == (BOND, 2 * FEE - BOND)
    assert town.sound()


def test_what_is_as_the_root_says_costs_nobody_anything(town):
    before, demand = dict(town.market.ledger.balances()), town.demand("q1")
    assert isinstance(demand, OpenDemand)
    assert len(demand.leaves) == 5
    verdict = town.open(demand)
    assert (verdict.result, verdict.leaves, verdict.forfeit_uc) == ("sound", 5, 0)
    assert town.market.ledger.balances() == before
    assert town.market.state.inspections == {}


def advised(town, request, advice, band):
    request = FairRequest(quote="j1", oracle="sib", max_fee_uc=FEE, what=advice.what, **request)
    (question,) = (b for b in town.give("ann", request, "fj1") if isinstance(b, FairQuestion))
    said = town.give("sib", FairAnswer(quote=question.quote, band=band, advice=advice), "aj1")
    assert [b.result for b in said if isinstance(b, FairReply)] == ["quoted"]


def test_a_bond_lies_under_other_advice_as_under_a_band(town):
    root = town.evidence.root()
    band = WireBand(low_uc=1, high_uc=2, confidence=0.8, root=root.hash, evidence_records=root.size)
    advised(town, {"order": "o1", "price_uc": 3}, Judgement(verdict="above", price_uc=3, excess_uc=1), band)
    assert town.open(town.demand("j1")).result == "sound"
    town.wait(1)
    verdict = town.open(town.demand("j1"), energy_j=1.0)
    assert (verdict.result, verdict.forfeit_uc, town.held("bond", "sib")) == ("breach", BOND, 0)
    assert town.sound()


def test_under_advice_without_a_band_there_is_nothing_to_open(town):
    advised(town, {}, CongestionAdvice(at_ns=1, load=1.0), None)
    reply = town.demand("j1")
    assert (reply.result, reply.errors[0].mend) == ("refused", "it rests on no telemetry: there is nothing to open")


def test_the_evidence_may_have_grown_since(town):
    for record in list(records(50))[40:]:
        town.evidence.hear(record, 100 * S, 0.0)
    assert town.open(town.demand("q1")).result == "sound"


def test_a_changed_record_costs_the_bond_the_buyer_gets_his_fee_and_the_rest_is_burned(town):
    for number in range(2, 6):
        town.buy(f"q{number}")
    ann = town.money("customer", "ann")
    verdict = town.open(town.demand("q1"), energy_j=120.0)
    assert (verdict.result, verdict.breach, verdict.forfeit_uc) == ("breach", "not_in_root", BOND)
    assert verdict.refund_uc == min(FEE, BOND)
    assert town.money("customer", "ann") == ann + verdict.refund_uc
    assert town.held("bond", "sib") == 0
    assert town.held("sink", "forfeited") == BOND - verdict.refund_uc
    assert not town.market.state.oracles["sib"].open
    assert town.market.state.oracles["sib"].breaches == 1
    assert town.sound()


def test_a_fee_smaller_than_the_bond_is_given_back_and_what_is_left_is_burned():
    town = Evidence()
    town.market.state.terms = MarketTerms(bond_uc=3 * FEE)
    for number in range(4):
        town.buy(f"q{number}")
    verdict = town.open(town.demand("q1"), energy_j=120.0)
    assert (verdict.forfeit_uc, verdict.refund_uc) == (3 * FEE, FEE)
    assert town.held("sink", "forfeited") == 2 * FEE
    assert town.sound()


def test_leaves_that_are_not_opened_in_time_cost_the_bond(town):
    demand = town.demand("q1")
    town.give("sib", town.opening(demand, demand.leaves[0]), "one")
    (verdict,) = [b for b in town.wait(11) if isinstance(b, OpenReply)]
    assert (verdict.result, verdict.breach) == ("breach", "no_answer")
    assert town.held("bond", "sib") == 0
    assert town.sound()


def test_a_forged_root_is_found(town):
    town.buy("q2", root="ab" * 32)
    assert town.open(town.demand("q2")).breach == "not_in_root"


def test_nobody_can_open_for_another_or_harm_it_by_false_openings(town):
    demand = town.demand("q1")
    assert town.open(demand, oracle="pyt", energy_j=1.0) is None
    assert town.open(demand).result == "sound"


@pytest.mark.parametrize("proof", ["", "A", "AAAA", "_" * 100])
def test_a_proof_that_is_none_proves_nothing(town, proof):
    demand = town.demand("q1", count=1)
    opening = town.opening(demand, demand.leaves[0]).model_copy(update={"proof": proof})
    (verdict,) = [b for b in town.give("sib", opening, "x") if isinstance(b, OpenReply)]
    assert verdict.breach == "not_in_root"


def test_what_cannot_be_opened_is_refused(town):
    town.buy("q2", root=None, evidence_records=0)
    for name, buyer in (("q2", "ann"), ("q9", "ann"), ("q1", "eve")):
        reply = town.demand(name, buyer)
        assert isinstance(reply, OpenReply)
        assert (reply.result, reply.errors[0].field) == ("refused", "quote")
    assert town.held("bond", "sib") == BOND


def test_a_quote_can_be_looked_under_while_it_counts_and_not_for_ever(town):
    for _ in range(3):
        assert town.open(town.demand("q1")).result == "sound"
        town.wait(0.1)
    assert town.demand("q1").result == "refused", "three times"
    town.buy("q2")
    town.wait(61)
    assert town.demand("q2").result == "refused", "a minute"
    assert town.held("bond", "sib") == BOND


def test_a_snapshot_keeps_demands(town):
    demand = town.demand("q1")
    town.give("sib", town.opening(demand, demand.leaves[0]), "one")
    state = read_snapshot(write_snapshot(town.market.state))
    assert write_snapshot(state) == write_snapshot(town.market.state)
    town.market.restore(write_snapshot(town.market.state))
    verdict = None
    for leaf in demand.leaves[1:]:
        verdict = town.give("sib", town.opening(demand, leaf), f"s{leaf}")
    assert verdict[0].result == "sound"


def test_money_of_ann_is_what_the_credits_say(town):
    assert town.money("customer", "ann") == 1000 * CREDIT - FEE - 10 * CREDIT
