"""The judge of proofs finds a bridge, and a market, that take work for done that is not."""

from argparse import Namespace

import pytest

from benchmarks import _bridge_proof
from benchmarks.report import Options
from fleet_market_hardware.vda5050 import proofs

OPTIONS = Options(quick=True, seeds=(3,), data=None, out=None, more=Namespace())


def found():
    return {row.what.partition(",")[0]: row for row in _bridge_proof.rows(OPTIONS)}


def test_nothing_undone_is_taken_for_done_and_hardly_anything_done_is_refused():
    rows = found()
    assert len(rows) == 4
    assert all(row.met for row in rows.values())


@pytest.mark.parametrize(
    ("name", "broken", "shown"),
    [
        ("is_idle", lambda _state: True, "a node ahead, an edge left, still driving"),
        ("all_finished", lambda _actions, _state: True, "an action never reported, drop not begun"),
        ("reached", lambda route, _state: route.last.sequence, "last node of the order before"),
    ],
)
def test_a_bridge_without_one_of_its_proofs_is_found_out(monkeypatch, name, broken, shown):
    monkeypatch.setattr(proofs, name, broken)
    row = found()["bridge: work not done taken for done"]
    assert not row.met
    assert row.note == shown


def test_a_market_that_pays_without_evidence_is_found_out(monkeypatch):
    monkeypatch.setattr(_bridge_proof, "find_faults", lambda *_: [])
    row = found()["market: work not done taken for done"]
    assert row.value == _bridge_proof.QUICK_TRIALS


def test_a_market_that_is_too_strict_is_found_out(monkeypatch):
    monkeypatch.setattr(_bridge_proof, "find_faults", lambda *_: ["never enough"])
    assert found()["market: work done refused"].value == 1.0
