"""When an oracle loses its bond, and that nothing else costs it."""

from dataclasses import replace

import pytest

from fleet_market.adapters.keyring import Verifier
from fleet_market.errors import InputError
from fleet_market.ids import PartyName, QuoteId, RobotId
from fleet_market.oracle.bond import Breach, Commitment, Demand, judge
from fleet_market.oracle.evidence import EvidenceLog, Opening
from fleet_market.oracle.merkle import MerkleTree, leaf_hash
from fleet_market.protocol.telemetry import statement
from fleet_market.testing.telemetry import Scribe, directory_of

SEED, BOND_UC, BY_NS = b"0123456789abcdef", 5_000_000, 10**9
VERIFY = Verifier()
SCRIBE = Scribe(RobotId("r1"))
RECORDS = [SCRIBE.write() for _ in range(20)]
DIRECTORY = directory_of(SCRIBE)


def under_root(records):
    """What an oracle commits itself to that puts `records` under its root, and all openings of it."""
    tree = MerkleTree()
    for record in records:
        tree.append(leaf_hash(statement(record)))
    openings = {
        i: Opening(i, len(records), record, tuple(node.hex() for node in tree.proof(i))) for i, record in enumerate(records)
    }
    return Commitment(PartyName("eye"), QuoteId("q1"), tree.root().hex(), len(records)), openings


def verdict(commitment, openings, *, count=20, now_ns=0, directory=DIRECTORY):
    demand = Demand(commitment, SEED, count, BY_NS)
    given = [openings[leaf] for leaf in demand.leaves if leaf in openings]
    return judge(demand, given, now_ns=now_ns, bond_uc=BOND_UC, directory=directory, verify=VERIFY)


def test_an_honest_oracle_keeps_its_bond_however_late_it_is_looked_at():
    commitment, openings = under_root(RECORDS)
    for now_ns in (0, 10 * BY_NS):
        found = verdict(commitment, openings, now_ns=now_ns)
        assert (found.guilty, found.forfeit_uc, found.leaf) == (False, 0, None)


def test_a_log_answers_what_its_own_root_is_asked_for():
    log = EvidenceLog(DIRECTORY, VERIFY)
    for record in RECORDS:
        log.hear(record, record.fixes[-1].at_ns, 0.0)
    root = log.root()
    commitment = Commitment(PartyName("eye"), QuoteId("q1"), root.hash, root.size)
    assert not verdict(commitment, {i: log.open(i, root.size) for i in range(root.size)}).guilty


def test_a_changed_record_under_the_root_costs_the_bond():
    changed = [r.model_copy(update={"energy_j": 1.0}) if r.seq == 7 else r for r in RECORDS]
    found = verdict(*under_root(changed))
    assert (found.breach, found.leaf, found.detail, found.forfeit_uc) == (Breach.NOT_SIGNED, 7, "bad_signature", BOND_UC)


def test_showing_the_true_record_instead_of_the_changed_one_costs_it_too():
    changed = [r.model_copy(update={"energy_j": 1.0}) if r.seq == 7 else r for r in RECORDS]
    commitment, openings = under_root(changed)
    openings[7] = replace(openings[7], record=RECORDS[7])
    found = verdict(commitment, openings)
    assert (found.breach, found.leaf) == (Breach.NOT_IN_ROOT, 7)


def test_one_record_at_two_leaves_is_a_padded_root():
    found = verdict(*under_root([*RECORDS[:10], *RECORDS[:10]]))
    assert found.breach is Breach.TWICE
    assert found.forfeit_uc == BOND_UC


def test_silence_costs_the_bond_only_when_the_time_is_over():
    commitment, openings = under_root(RECORDS)
    del openings[3]
    assert verdict(commitment, openings, now_ns=BY_NS - 1) is None
    found = verdict(commitment, openings, now_ns=BY_NS)
    assert (found.breach, found.leaf) == (Breach.NO_ANSWER, 3)


def test_a_breach_that_is_seen_is_judged_at_once():
    commitment, openings = under_root(RECORDS)
    openings = {5: replace(openings[5], proof=openings[6].proof)}
    assert verdict(commitment, openings, now_ns=0).breach is Breach.NOT_IN_ROOT


def test_leaves_that_nobody_asked_for_are_passed_over():
    commitment, openings = under_root(RECORDS)
    demand = Demand(commitment, SEED, 1, BY_NS)
    unasked = replace(openings[(demand.leaves[0] + 1) % 20], proof=())
    found = judge(
        demand, [unasked, openings[demand.leaves[0]]], now_ns=0, bond_uc=BOND_UC, directory=DIRECTORY, verify=VERIFY
    )
    assert not found.guilty


def test_the_bond_of_an_oracle_for_robots_without_keys_is_not_lost_for_missing_signatures():
    bare = [r.model_copy(update={"key": None, "signature": None}) for r in RECORDS]
    commitment, openings = under_root(bare)
    assert verdict(commitment, openings).detail == "unsigned"
    assert not verdict(replace(commitment, signed=False), openings).guilty


def test_a_demand_without_a_proper_seed_is_refused():
    commitment, _ = under_root(RECORDS)
    with pytest.raises(InputError, match="seed"):
        _ = Demand(commitment, b"1", 5, BY_NS).leaves
