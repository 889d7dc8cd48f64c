"""Random histories with crashes; `python -m benchmarks.crash` runs a thousand."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fleet_market.ledger import ledger as ledger_module
from fleet_market.testing.ledger_histories import LosingDisk, Server, histories

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}


def test_histories_on_a_disk_that_loses_its_power():
    run_state_machine_as_test(histories(LosingDisk), settings=settings(max_examples=60, stateful_step_count=30, **QUIET))


@pytest.mark.real
def test_histories_on_a_server(postgres_cluster):
    import psycopg

    def empty():
        with psycopg.connect(postgres_cluster.address, autocommit=True) as db:
            db.execute("DROP SCHEMA IF EXISTS fleet_market CASCADE")

    machine = histories(lambda seed: Server(postgres_cluster.address, empty))
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=25, **QUIET))


def forget_what_is_left(balances, t, held_uc):
    """A planted bug: a partial capture leaves the rest on hold."""
    real_move(balances, t, min(held_uc, t.amount_uc) if t.kind == "capture" else held_uc)


real_move = ledger_module.move


def test_a_planted_bug_is_found(monkeypatch):
    monkeypatch.setattr(ledger_module, "move", forget_what_is_left)
    with pytest.raises(Exception, match=r"ledger|journal|AssertionError|assert"):
        run_state_machine_as_test(
            histories(LosingDisk), settings=settings(max_examples=300, stateful_step_count=30, **QUIET)
        )
