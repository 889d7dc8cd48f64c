"""Snapshots: the market goes on from one as if it had never stopped, and forgets only what nobody can ask for."""

import dataclasses
import json
import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from fleet_market.contracts import MarketTerms
from fleet_market.errors import LedgerMismatchError
from fleet_market.ids import OrderId
from fleet_market.ledger import Event, Snapshot
from fleet_market.market import Checkpoint, Command, Market, OpenMarket, Outcome, SnapshotError, order_faults, resume
from fleet_market.market.commands import SELF
from fleet_market.market.market import tick
from fleet_market.market.snapshot import form, read_snapshot, write_snapshot
from fleet_market.protocol.messages import OrderState, PostOrder
from fleet_market.testing.market_load import CREDIT_UC, MarketLoad, Yard

TERMS = MarketTerms(batch_s=0.5, cooldown_s=0.5, keep_orders=20)


class Business:
    """A market with a load, and the outcomes of all that was put in."""

    def __init__(self, seed=0, **more):
        self.market = Market(Yard())
        self.load = MarketLoad(self.market, seed, terms=TERMS, **more)
        self.inputs = []
        for command in self.load.opening(1):
            self.handle(command)

    def handle(self, command):
        outcome = self.market.handle(command)
        self.inputs.append((command, outcome.digest()))
        return outcome

    def run(self, rounds):
        for _ in range(rounds):
            for command in self.load.round():
                self.handle(command)

    def checkpoint(self):
        return self.handle(Command(SELF, Checkpoint(form=form()), self.load.now_ns)).snapshot


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 25), min_size=1, max_size=4))
def test_a_market_goes_on_from_a_snapshot_with_the_same_decisions_to_the_byte(seed, spans):
    business, resumed = Business(seed), []
    for rounds in spans:
        business.run(rounds)
        resumed.append((len(business.inputs) + 1, business.checkpoint()))
    business.run(15)
    for after, snapshot in resumed:
        market = Market(Yard())
        market.restore(snapshot)
        assert write_snapshot(market.state) == snapshot
        for command, digest in business.inputs[after:]:
            assert market.handle(command).digest() == digest
        assert market.ledger.balances() == business.market.ledger.balances()
        assert write_snapshot(market.state) == write_snapshot(business.market.state)


def test_an_input_that_is_not_logged_changes_nothing():
    """Else a replay, which does not see it, would go on from another state."""
    business = Business(4)
    real, unlogged = business.market.handle, 0

    def handle(command):
        nonlocal unlogged
        before = write_snapshot(business.market.state)
        outcome = real(command)
        if not outcome.changed:
            unlogged += 1
            assert write_snapshot(business.market.state) == before, command
        return outcome

    business.market.handle = handle
    business.run(60)
    for step in range(40):
        business.handle(tick(business.load.now_ns + step * 10**7))
    assert unlogged > 20


def test_the_state_does_not_grow_with_its_history():
    business, parties = Business(), 8
    for _ in range(6):
        business.run(60)
        snapshot = json.loads(business.checkpoint())
        live, ledger = len(business.market.state.live), snapshot["ledger"]
        assert len(snapshot["orders"]) == TERMS.keep_orders + live
        assert len(ledger["transfers"]) == live, "one hold for each"
        assert len(ledger["balances"]) == parties + live
        assert len(business.market.ledger.journal) == 0
    assert business.market.ledger.rows > 1000
    assert order_faults(business.market.state) == []
    assert business.market.ledger.audit() == []
    debits, credits_ = business.market.ledger.totals()
    assert debits == credits_ == sum(amount_of(command_entries) for command_entries in moved(business))


def moved(business):
    """The journal's rows, from a market that was given the same and never forgot anything."""
    market = Market(Yard())
    for command, _ in business.inputs:
        if not isinstance(command.body, Checkpoint):
            yield from market.handle(command).entries


def amount_of(entry):
    return entry.transfer.amount_uc if entry.transfer.kind in ("post", "capture") else 0


def test_orders_that_are_under_way_are_never_forgotten():
    business = Business()
    business.run(80)
    before = dict(business.market.state.live)
    business.checkpoint()
    after = business.market.state
    assert list(after.live) == list(before)
    assert all(after.orders[name] is order for name, order in before.items())
    assert {c.order for c in after.contracts.values()} <= after.orders.keys()
    awaited = [o for o in after.orders.values() if o.state.final]
    assert len(awaited) == TERMS.keep_orders


def test_an_order_that_others_come_after_is_kept_until_they_are_over():
    business = Business(open_orders=4)
    business.run(10)
    first = next(o for o in business.market.state.orders.values() if o.state is OrderState.SETTLED)
    later = PostOrder(
        order=OrderId("later"), pickup="a", dropoff="b", payload_kg=1.0, release_s=5e4, deadline_s=6e4,
        max_price_uc=CREDIT_UC, after=first.id,
    )  # fmt: skip
    business.handle(business.load._from(first.customer, later))
    business.run(150)
    business.checkpoint()
    assert business.market.state.forgotten > 0
    assert first.id in business.market.state.orders


def test_the_name_of_a_forgotten_order_may_be_used_again_and_its_money_is_kept_apart():
    business = Business()
    business.run(60)
    business.checkpoint()
    state = business.market.state
    assert "l-1" not in state.orders
    again = PostOrder(
        order=OrderId("l-1"), pickup="a", dropoff="b", payload_kg=1.0, deadline_s=60.0, max_price_uc=CREDIT_UC
    )
    old = {transfer for entry in moved(business) for transfer in (entry.transfer.id, entry.transfer.credit)}
    for customer in ("c0", "c1", "c2", "c3"):
        if business.handle(business.load._from(customer, again)).entries:
            break
    order = state.orders[OrderId("l-1")]
    assert order.hold not in old
    business.run(30)
    assert order_faults(state) == []


def test_a_refused_order_leaves_no_account_behind():
    business = Business()
    business.handle(Command(SELF, OpenMarket(
        zone="main", epoch=2, seed="0", terms=TERMS, customers={"poor": 5}), business.load.now_ns))  # fmt: skip
    dear = PostOrder(order=OrderId("dear"), pickup="a", dropoff="b", payload_kg=1.0, deadline_s=60.0, max_price_uc=6)
    before = business.market.ledger.balances()
    outcomes = [business.handle(business.load._from(who, dear)) for who in ("poor", "nobody")]
    assert [o.sends[-1].body.result for o in outcomes] == ["refused", "refused"]
    assert [(o.accounts, o.entries) for o in outcomes] == [([], []), ([], [])]
    assert business.market.ledger.balances() == before


def kept(taken, body=None, **changes):
    body = body or Command(SELF, Checkpoint(form=form()), 5).logged()
    event = Event(7, 5, SELF, None, 0, body, effects=Outcome(snapshot=taken).digest())
    event = dataclasses.replace(event, hash=event.after("before"))
    return dataclasses.replace(Snapshot(event, "before", taken), **changes)


def test_only_the_snapshot_that_the_log_speaks_of_is_taken():
    business = Business()
    business.run(5)
    snapshot = business.checkpoint()
    at = resume(Market(Yard()), kept(snapshot))
    assert (at.seq, at.now_ns, at.hash) == (7, 5, kept(snapshot).event.hash)
    for spoiled, says in (
        (kept(snapshot, content=snapshot.replace(b'"epoch":1', b'"epoch":2')), "not the one that the log speaks of"),
        (kept(snapshot, previous_hash="another"), "event 7 is not the one that was written"),
        (kept(snapshot, b'{"type":"checkpoint","form":"old"}'), "another version of this program"),
        (kept(snapshot, b'{"type":"pace","paused":true}'), "no checkpoint"),
        (kept(snapshot, b"\0"), "no checkpoint"),
        (kept(b'{"orders":1}'), "cannot be read"),
    ):
        market = Market(Yard())
        with pytest.raises(SnapshotError, match=says):
            resume(market, spoiled)
        assert market.state.epoch == 0
    assert issubclass(SnapshotError, LedgerMismatchError)


PRINT_A_SNAPSHOT = """
from fleet_market.market import *
from fleet_market.market.snapshot import *
from fleet_market.testing.market_load import *
market = Market(Yard()); load = MarketLoad(market)
for command in load.opening(1): market.handle(command)
for _ in range(12):
    for command in load.round(): market.handle(command)
import sys; sys.stdout.write(form() + write_snapshot(market.state).decode())
"""


def test_the_order_of_sets_in_memory_does_not_matter():
    command, path = [sys.executable, "-c", PRINT_A_SNAPSHOT], ":".join(sys.path)
    runs = [
        subprocess.run(command, env={"PYTHONHASHSEED": seed, "PYTHONPATH": path}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(read_snapshot(runs[0][20:]).live) > 0
