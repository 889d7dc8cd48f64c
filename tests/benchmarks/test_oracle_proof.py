"""The rows about evidence measure what they say: with a log or a watch that does not look, the figures are bad."""

import random

import pytest

from benchmarks import _oracle_proof as proof
from fleet_market.ids import RobotId
from fleet_market.oracle.evidence import EvidenceLog
from fleet_market.pricing import PlanLeg, TaskPlan, duration_s, energy_j
from fleet_market.testing.telemetry import Scribe, directory_of
from fleet_market_sim.bots import DELIVERY
from fleet_market_sim.experiment import Metered

ATTACKS = [proof._mutated, proof._replayed, proof._reordered, proof._wrongly_signed]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_forgery_is_taken(attack):
    accepted, made = attack(40, random.Random(1))
    assert (accepted, made >= 40) == (0, True)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_log_that_takes_everything_is_seen(attack, monkeypatch):
    def credulous(self, record, now_ns, unix_s):
        chain = self._chains.get(record.robot) or self._begin(record, record.fixes[-1].at_ns)
        return (self._append(record, "0" * 64, chain),)

    monkeypatch.setattr(EvidenceLog, "hear", credulous)
    accepted, made = attack(40, random.Random(1))
    assert accepted > made / 4


def test_openings_find_what_was_changed_and_nothing_else():
    scribe = Scribe(RobotId("robot-0"))
    records = [scribe.write() for _ in range(50)]

    def found(tampered, count):
        return proof._found(records, tampered, count, directory_of(scribe), random.Random(tampered))

    assert found(0, 20) == 0
    assert found(50, 1) == proof.SEEDS_PER_LOG
    assert 0.3 * proof.SEEDS_PER_LOG < found(5, 7) < 0.8 * proof.SEEDS_PER_LOG  # 1 - C(45, 7) / C(50, 7) = 0.55


def test_a_liar_of_one_fifth_is_caught_and_one_without_reason_is_not():
    chance, pool = random.Random(0), []
    for _ in range(60):
        plan = TaskPlan((PlanLeg(chance.uniform(5, 40), 3.0, 2, chance.uniform(0, 10)),), chance.uniform(5, 30))
        drawn_j = energy_j(plan, DELIVERY.true) * chance.gauss(1.0, 0.04)
        pool.append(Metered(plan, drawn_j, duration_s(plan, DELIVERY.true)))
    count = proof._Count()
    for _ in range(5):
        proof._fleet(count, DELIVERY, pool, 0.02, chance)
    assert (count.fleets, count.caught, count.false) == (5, 5, 0)
    assert min(count.lying) > max(count.honest)
