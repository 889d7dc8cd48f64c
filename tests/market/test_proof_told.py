"""The customer sees how far the energy is, and on what evidence his order was paid."""

import pytest
from market_town import CREDIT, A, Town

from fleet_market.market.snapshot import read_snapshot, write_snapshot
from fleet_market.protocol.messages import Accept, OrderEvent, OrderState, Phase, Progress


def work(town, energy_j):
    (award,) = town.trade({"r1": 3 * CREDIT})
    town.give("r1", Accept(contract=award.contract), f"acc{town.now_ns}")
    sign = Progress(contract=award.contract, phase=Phase.TO_DROPOFF, pose=A, aboard=False, energy_j=energy_j)
    town.give("r1", sign)
    return award


@pytest.mark.parametrize("energy_j", [120.0, None])
def test_progress_is_shown_until_the_order_is_over_and_then_its_proof(energy_j):
    town = Town()
    town.post()
    award = work(town, energy_j)
    view = town.order().view()
    assert (view.energy_so_far_j, view.measured_energy_j, view.evidence) == (energy_j, None, ())
    assert view.phase is Phase.TO_DROPOFF
    town.deliver(award, "r1")
    view = town.order().view()
    assert (view.energy_so_far_j, view.measured_energy_j, view.phase) == (None, 500.0, None)
    assert [(step.kind, step.payload_before_kg, step.payload_kg) for step in view.evidence] == [
        ("pickup", 0.0, 2.0),
        ("dropoff", 2.0, 0.0),
    ]
    kept = read_snapshot(write_snapshot(town.market.state)).orders[view.order].view()
    assert kept == view


def test_evidence_that_was_refused_is_not_shown_and_the_next_robot_begins_anew():
    town = Town()
    town.post(deadline_s=500.0)
    award = work(town, 120.0)
    town.deliver(award, "r1", steps=())
    view = town.order().view()
    assert view.state is OrderState.OPEN
    assert (view.energy_so_far_j, view.evidence, view.phase) == (None, (), None)


def test_every_phase_is_told_once():
    town = Town()
    town.post()
    (award,) = town.trade({"r1": 3 * CREDIT})
    assert town.order().view().phase is None
    town.give("r1", Accept(contract=award.contract), "acc")
    heard = [town.order().view().phase]
    for number, phase in enumerate([Phase.TO_PICKUP, Phase.TO_PICKUP, Phase.LOADING, Phase.TO_DROPOFF, Phase.UNLOADING]):
        sign = Progress(contract=award.contract, phase=phase, pose=A, aboard=False)
        heard += [said.view.phase for said in town.give("r1", sign, f"sign{number}") if isinstance(said, OrderEvent)]
    assert heard == list(Phase)
