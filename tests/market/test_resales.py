"""Contracts that are only queued go on sale again: who does them in the end, who pays whom, and who answers for it."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from market_town import CREDIT, S, TwoPlaces
from resale_town import UC_PER_M, ResaleTown

from fleet_market.contracts import (
    Level,
    MarketTerms,
    Owed,
    Promise,
    due_uc,
    lateness_uc,
    shortfalls,
    to_hold_uc,
)
from fleet_market.ids import OrderId, RobotId, TransferId
from fleet_market.ledger import Transfer, TransferKind, account
from fleet_market.market import Command, Halt, Market, OpenMarket, order_faults
from fleet_market.market.commands import read_logged
from fleet_market.market.market import tick
from fleet_market.market.snapshot import read_snapshot, write_snapshot
from fleet_market.market.state import WORLD
from fleet_market.protocol.messages import (
    MAX_LEVELS,
    MAX_TRADES_TOLD,
    Abort,
    Ask,
    Award,
    Cancel,
    CancelOrder,
    Decline,
    Keep,
    Offer,
    OrderState,
    Phase,
    Prepare,
    Prepared,
    Presence,
    Progress,
    Reauction,
    WhyReply,
    WhyRequest,
    WirePose,
)

ROBOTS = (("r1", "acme", 0.0), ("r2", "bolt", 100.0))
FAR = ("o1", 90.0, 100.0, "r1")
"""An order next door to r2 that r1 has."""


def sold_on(*, robots=ROBOTS, orders=(FAR,), **more):
    """A town in which r1 has sold an order on to r2."""
    town = ResaleTown(robots, **more)
    town.deal_out(*orders)
    town.wait(1.0)
    return town


def test_an_order_goes_to_who_does_it_for_less_and_both_gain():
    town = sold_on()
    order, (trade,) = town.order("o1"), town.trades()
    assert (order.robot, order.state) == ("r2", OrderState.EXECUTING)
    (move,) = trade.moves
    assert (move.giver, move.taker, move.ask_uc) == ("r1", "r2", 20 * UC_PER_M)
    assert move.price_uc == (20 + 100) // 2 * UC_PER_M, "half of the surplus each"
    assert {g.robot: g.gain_uc for g in trade.gains} == {"r1": 40 * UC_PER_M, "r2": 40 * UC_PER_M}
    assert trade.surplus_uc == 80 * UC_PER_M


def test_the_customer_pays_the_first_holder_and_that_one_pays_who_did_it():
    town = sold_on()
    price = town.order("o1").price_uc
    town.finish("o1")
    order = town.order("o1")
    assert (order.state, order.price_uc, order.robot) == (OrderState.SETTLED, price, "r2")
    assert town.money("owner", "bolt") == 60 * UC_PER_M
    assert town.money("owner", "acme") == price - 60 * UC_PER_M
    assert town.money("customer", "ann") == 1000 * CREDIT - price
    assert [(v.robot, v.paid_uc) for v in order.levels] == [("r1", price), ("r2", 60 * UC_PER_M)]
    state = town.market.state
    assert state.ledger.escrow_left_uc() == 0
    assert (state.robots["r2"].settled, state.robots["r1"].settled) == (1, 0)
    assert state.robots["r1"].earned_uc == price - 60 * UC_PER_M


def test_why_shows_the_chain_and_the_trade():
    town = sold_on()
    (reply,) = [b for b in town.give("ann", WhyRequest(order=OrderId("o1")), "w") if isinstance(b, WhyReply)]
    assert [(v.robot, v.price_uc) for v in reply.levels] == [("r1", town.order("o1").price_uc), ("r2", 60 * UC_PER_M)]
    assert reply.trades[0].moves[0].taker == "r2"


def test_nothing_moves_where_nobody_does_it_for_less_and_the_record_says_so():
    town = ResaleTown(ROBOTS)
    town.deal_out(("o1", 1.0, 2.0, "r1"))
    town.wait(5.0)
    assert town.order("o1").robot == "r1"
    assert {record.summary for record in town.records()} == {"no better found"}
    tried = len(town.records())
    town.wait(5.0)
    assert len(town.records()) == tried > 0, "the same is not tried for ever"


def test_what_has_begun_is_never_moved():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.begin("r1", "o1")
    town.wait(3.0)
    assert town.order("o1").robot == "r1"
    assert town.records() == []


def test_a_robot_that_has_begun_meanwhile_says_so_and_keeps_its_contract():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.drivers["r1"].begun = town.order("o1").contract
    sign, town.sign_of_life = town.sign_of_life, lambda *_: None
    town.wait(0.5)
    assert town.order("o1").robot == "r1"
    assert not town.trades()
    town.sign_of_life = sign
    town.drivers["r1"].begun = None
    town.drivers["r1"].refuses = True
    town.post("o2")  # another situation
    town.wait(4.0)
    assert town.order("o1").robot == "r1"
    assert any("has begun" in record.summary for record in town.records())
    assert any(isinstance(s.body, Keep) and s.body.contracts for s in town.sends)


def test_a_robot_that_does_not_let_go_in_time_keeps_its_contract_and_so_does_the_customer_its_robot():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(0.5)
    assert town.market.state.resale.pending
    town.wait(1.0)
    assert town.order("o1").robot == "r1"
    contract = town.order("o1").contract
    assert any("did not let go in time" in record.summary for record in town.records())
    call = town.records()[0].call
    said = town.say("r1", Prepared(call=call, contracts=(contract,), agreed=True))
    assert [b.contracts for b in said if isinstance(b, Keep)] == [(contract,)], "a late answer is told what it still has"


def test_who_asks_what_it_still_has_is_not_told_of_what_was_sold():
    town = sold_on()
    call, sold = town.trades()[0].call, town.trades()
    cancelled = next(s.body.contract for s in town.sends if isinstance(s.body, Cancel))
    said = town.say("r1", Prepared(call=call, contracts=(cancelled,), agreed=True))
    assert [b.contracts for b in said if isinstance(b, Keep)] == [()]
    assert town.trades() == sold
    assert sum(isinstance(s.body, Award) for s in town.sends) == 2, "nobody gets it twice"


def test_nobody_is_awarded_anything_before_the_holder_has_let_go():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(0.5)
    assert sum(isinstance(s.body, Award) for s in town.sends) == 1
    assert not any(isinstance(s.body, Cancel) for s in town.sends)


def test_new_orders_come_first():
    town = ResaleTown(ROBOTS, MarketTerms(resale_gain_uc=1, resale_every_s=0.2, round_s=5.0, resale_s=60.0))
    town.deal_out(FAR)
    town.lost = {Reauction}
    town.wait(2.0)
    assert town.market.state.resale is not None
    town.post("o2", pickup="x=1", dropoff="x=2")
    town.wait(2.2)
    assert town.order("o2").robot == "r1"


def test_a_batch_waits_for_a_pending_deal_one_round_at_most():
    town = ResaleTown(ROBOTS, MarketTerms(resale_gain_uc=1, resale_every_s=0.2, round_s=3.0))
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(2.5)
    assert town.market.state.resale.pending
    town.post("o2", pickup="x=1", dropoff="x=2")
    town.wait(0.2)
    assert town.market.state.call is None
    town.wait(1.0)
    assert town.order("o2").robot == "r1"


def give_money(town, owner, amount_uc):
    """An owner has money from elsewhere."""
    ledger, account_id = town.market.ledger, account("owner", owner)
    ledger.open_account(account_id)
    wish = Transfer(TransferId(f"gift-{owner}"), TransferKind.POST, WORLD, account_id, amount_uc)
    assert ledger.apply([wish], town.now_ns).ok


@pytest.mark.parametrize("credit", [0, 10**9], ids=["no money", "money"])
def test_a_taker_that_fails_makes_customer_and_first_holder_whole(credit):
    town = sold_on(robots=(*ROBOTS, ("r3", "cobb", 60.0)))
    price, sub = (view.price_uc for view in town.order("o1").levels)
    (failed,) = town.market.state.contracts
    town.drivers["r2"].held.clear()
    town.say("r2", Decline(contract=failed, reason="flat tyre"))
    assert (town.order("o1").state, town.order("o1").levels) == (OrderState.OPEN, ())
    robots = town.market.state.robots
    assert (robots["r1"].failed, robots["r2"].failed) == (0, 1), "who failed has failed, and not who sold it"
    town.drivers["r1"].mute = town.drivers["r2"].mute = True
    town.drivers["r3"].lie = 3.0
    town.wait(4.0)
    order = town.order("o1")
    assert order.robot == "r3"
    assert order.price_uc >= price
    if credit:
        give_money(town, "bolt", credit)
        give_money(town, "acme", credit)
    extra = order.price_uc - price
    town.finish("o1")
    owed = {(d.owner, d.creditor): d.amount_uc for d in town.market.state.debts}
    if credit:
        assert owed == {}
        assert town.money("customer", "ann") == 1000 * CREDIT - price
        assert town.money("owner", "acme") == credit + price - sub, "as if r2 had done it"
        assert town.money("owner", "bolt") == credit - (price + extra - sub)
    else:
        assert owed.get(("bolt", "owner:acme")) == price + extra - sub
        assert owed.get(("acme", "customer:ann"), 0) == extra
        give_money(town, "bolt", credit + price + extra - sub)
        town.deal_out(("o9", 1.0, 2.0, "r3"))
        town.finish("o9")  # debts are collected whenever somebody is paid
        assert town.market.state.debts == [], "down the chain: r2 pays r1, which then pays the customer"


def test_who_failed_below_owes_level_by_level():
    broken = [Promise("a", 10, (("b", 7), ("c", 4)))]
    assert shortfalls(broken, 12) == [Owed("a", None, 2), Owed("b", "a", 5), Owed("c", "b", 8)]
    assert shortfalls(broken, 6) == [Owed("b", "a", 3), Owed("c", "b", 6)], "cheaper: the margins are still made good"
    assert shortfalls([Promise("a", 10, (("b", 13),))], 11) == [Owed("a", None, 1)], "it had paid to be rid of it"
    assert shortfalls([Promise("a", 10, (("a", 7), ("c", 4)))], 12) == [Owed("a", None, 2), Owed("c", "a", 8)]


def test_a_price_above_the_own_one_is_held_from_the_holders_account():
    """r1 has an order at 10 that meanwhile costs it 70 more than r2 asks for it."""
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    contract = next(iter(town.market.state.contracts.values()))
    contract.price_uc = 3 * CREDIT
    town.wait(1.0)
    assert town.order("o1").robot == "r1"
    assert any("cannot put" in record.summary for record in town.records())
    give_money(town, "acme", 4 * CREDIT)
    town.say("r1", Offer(contracts=(contract.id,)))
    town.wait(1.0)
    assert town.order("o1").robot == "r2"
    assert town.money("owner", "acme") == CREDIT, "6 to pay, 3 to come: 3 on hold"
    assert town.order("o1").levels[1].held_uc == 3 * CREDIT
    town.finish("o1")
    assert (town.money("owner", "acme"), town.money("owner", "bolt")) == (CREDIT, 6 * CREDIT)


@pytest.mark.parametrize("moment", ["awarded", "accepted", "under way"])
def test_a_cancelled_order_that_was_sold_on_costs_nobody_anything(moment):
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    if moment == "awarded":
        town.drivers["r2"].declines = True
    give_money(town, "acme", 100 * CREDIT)
    next(iter(town.market.state.contracts.values())).price_uc = CREDIT
    town.wait(1.0)
    assert town.order("o1").levels[1].held_uc > 0
    if moment == "under way":
        town.begin("r2", "o1")
    town.give("ann", CancelOrder(order=OrderId("o1")), "c")
    town.settle()
    assert town.order("o1").state is OrderState.CANCELLED
    assert (town.money("customer", "ann"), town.money("owner", "acme")) == (1000 * CREDIT, 100 * CREDIT)
    assert town.market.ledger.escrow_left_uc() == 0
    assert town.drivers["r2"].held == {}


def test_an_order_cancelled_with_the_parcel_aboard_is_paid_for_level_by_level():
    town = sold_on()
    price = town.order("o1").price_uc
    contract = town.order("o1").contract
    town.say("r2", Progress(contract=contract, phase=Phase.TO_DROPOFF, pose=WirePose(x=95.0, y=1.0), aboard=True))
    town.give("ann", CancelOrder(order=OrderId("o1")), "c")
    town.finish("o1")
    assert town.order("o1").state is OrderState.CANCELLED
    assert (town.money("owner", "bolt"), town.money("owner", "acme")) == (6 * CREDIT, price - 6 * CREDIT)


def test_what_is_late_costs_who_promised_it_earlier():
    """r2 promises 60 s later than r1 is due: r1 expects to lose that and asks for it in the price."""
    town = ResaleTown(ROBOTS)
    town.deal_out((*FAR, {"lateness_uc_per_h": 36 * CREDIT, "deadline_s": 1.0}))
    contract = next(iter(town.market.state.contracts.values()))
    first_due = contract.due_ns
    town.wait(1.0)
    new = next(iter(town.market.state.contracts.values()))
    late_uc = lateness_uc(town.order("o1"), first_due, new.due_ns)
    assert new.due_ns > first_due
    assert new.price_uc == (20 * UC_PER_M + 100 * UC_PER_M - late_uc) // 2
    town.now_ns = new.due_ns + 10 * S
    town.finish("o1")
    whole = lateness_uc(town.order("o1"), first_due, town.now_ns)
    own = lateness_uc(town.order("o1"), new.due_ns, town.now_ns)
    assert town.money("owner", "bolt") == new.price_uc - own
    assert town.money("customer", "ann") == 1000 * CREDIT - contract.price_uc + whole
    assert town.money("owner", "acme") == (contract.price_uc - whole) - (new.price_uc - own)


@given(
    rate=st.integers(0, 10**9),
    own=st.integers(0, 10**9),
    price=st.integers(0, 10**9),
    later_ns=st.integers(0, 10**13),
    done_ns=st.integers(-(10**13), 10**14),
)
def test_what_is_held_covers_the_next_level_whenever_the_order_is_done(rate, own, price, later_ns, done_ns):
    order = SimpleNamespace(lateness_uc_per_h=rate)
    level = Level("c", "r", "w", 0, own, 0)
    held = to_hold_uc(order, level, price, later_ns)
    assert due_uc(order, price, later_ns, done_ns) <= due_uc(order, own, 0, done_ns) + held
    assert held <= price


def test_a_swap_of_two_full_robots():
    """Each has an order next door to the other: neither can take one more without giving one."""
    town = ResaleTown(ROBOTS, MarketTerms(resale_gain_uc=1, resale_every_s=0.2, lease_s=100.0))
    town.deal_out(("o1", 90.0, 95.0, "r1"), ("o2", 5.0, 10.0, "r2"))
    before = town.total_cost_uc()
    town.wait(2.0)
    assert (town.order("o1").robot, town.order("o2").robot) == ("r2", "r1")
    assert town.total_cost_uc() < before
    assert before - town.total_cost_uc() == sum(trade.surplus_uc for trade in town.trades())


def test_contracts_lie_on_top_of_each_other_up_to_the_limit():
    town = ResaleTown((("r1", "acme", 0.0), ("r2", "bolt", 200.0)))
    town.deal_out(("o1", 90.0, 100.0, "r1"))
    for _ in range(10):
        holder = town.order("o1").robot
        other = "r2" if holder == "r1" else "r1"
        town.drivers[holder].at, town.drivers[other].at = 200.0, 90.0
        town.say(holder, Offer(contracts=(town.order("o1").contract,)))
        town.wait(1.0)
    levels = town.order("o1").levels
    assert len(levels) == MAX_LEVELS
    assert [v.robot for v in levels] == ["r1", "r2", "r1", "r2", "r1"]
    town.finish("o1")
    ledger = town.market.ledger
    assert ledger.audit() == []
    assert ledger.escrow_left_uc() == 0
    assert town.money("owner", "acme") + town.money("owner", "bolt") == levels[0].price_uc


def test_an_ask_that_came_too_late_comes_first_in_the_next_re_auction():
    town = ResaleTown((("r1", "acme", 0.0), ("r2", "bolt", 100.0), ("r3", "cobb", 50.0)), MarketTerms(resale_robots=2))
    town.drivers["r2"].mute = True
    town.post("o1", pickup="x=90", dropoff="x=100", deadline_s=10_000.0, max_price_uc=100 * CREDIT)
    call = town.next_call()
    town.wait(3.0)
    assert town.order("o1").robot == "r3"
    town.drivers["r2"].mute = False
    town.bid(town.drivers["r2"], call)
    assert town.market.state.wishes[RobotId("r2")].orders == ("o1",)
    town.bid(town.drivers["r2"], call)  # said twice: wished once
    town.wait(1.0)
    trade = town.trades()[0]
    assert (trade.kind, trade.moves[0].taker) == ("late ask", "r2")
    assert town.market.state.wishes == {}


def test_a_robot_may_offer_what_it_would_rather_not_do_but_only_what_is_its_own():
    town = ResaleTown((*ROBOTS, ("r3", "cobb", 0.0)), MarketTerms(resale_every_s=60.0))
    town.deal_out(("o1", 1.0, 2.0, "r1"), ("o2", 3.0, 4.0, "r1"))
    tried = len(town.records())
    town.say("r3", Offer(contracts=(town.order("o2").contract,)))
    assert town.market.state.wishes == {}
    town.say("r1", Offer(contracts=(town.order("o2").contract,)))
    town.wait(60.0)
    record = town.records()[tried]
    assert (record.kind, record.orders) == ("offer", ("o2",))


def test_robots_that_wish_without_end_keep_neither_each_other_nor_the_market_from_its_turn():
    town = ResaleTown((*ROBOTS, ("r3", "cobb", 0.0)))
    town.deal_out(("o1", 1.0, 2.0, "r1"), ("o2", 98.0, 99.0, "r2"), ("o3", 3.0, 4.0, "r3"))
    tried = len(town.records())
    for _ in range(8):
        for robot, order in (("r1", "o1"), ("r2", "o2")):
            town.say(robot, Offer(contracts=(town.order(order).contract,)))
        town.wait(0.2)
    records = town.records()[tried:]
    wishes = [record.orders[0] for record in records if record.kind == "offer"]
    assert len(wishes) <= len(records) - len(wishes) + 1
    assert {"o1", "o2"} == set(wishes)


def test_a_taker_that_leaves_before_the_deal_is_done_leaves_everything_as_it_was():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(0.5)
    assert town.market.state.resale.pending
    town.give("r2", Presence(status="lost", zone="main"))
    assert town.market.state.resale is None
    assert town.order("o1").robot == "r1"
    assert any("r2 has left" in record.summary for record in town.records())


def test_an_order_cancelled_while_a_deal_is_pending_is_nobodys():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(0.5)
    (pending,) = town.market.state.resale.pending
    assert pending.unprepared == {"r1"}
    contract = town.order("o1").contract
    town.give("ann", CancelOrder(order=OrderId("o1")), "c")
    said = town.say("r1", Prepared(call=town.market.state.resale.id, contracts=(contract,), agreed=True))
    assert [b.contracts for b in said if isinstance(b, Keep)] == [()]
    assert town.order("o1").state is OrderState.CANCELLED
    assert town.market.state.resale is None


def test_a_restart_frees_those_who_had_let_go():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(0.5)
    contract = town.order("o1").contract
    said = town.give("market", OpenMarket(zone="main", epoch=2, seed="s", terms=MarketTerms(), customers={}))
    assert [b.contracts for b in said if isinstance(b, Keep)] == [(contract,)]
    assert town.market.state.resale is None


@pytest.mark.parametrize("lost", [Reauction, Prepare])
def test_an_open_re_auction_survives_a_snapshot(lost):
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {lost}
    town.wait(0.3)
    state = town.market.state
    again = read_snapshot(write_snapshot(state))
    assert again.resale == state.resale is not None
    assert write_snapshot(again) == write_snapshot(state)


def test_a_halt_ends_what_is_on_sale_frees_those_who_had_let_go_and_lets_nothing_be_sold_on():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Prepare}
    town.wait(0.5)
    contract = town.order("o1").contract
    said = town.give("market", Halt(halted=True))
    assert [b.contracts for b in said if isinstance(b, Keep)] == [(contract,)]
    town.lost = set()
    said = town.wait(5.0)
    assert not any(isinstance(body, Reauction | Prepare | Award) for body in said)
    assert town.order("o1").robot == "r1"
    town.give("market", Halt(halted=False))
    town.wait(5.0)
    assert town.order("o1").robot == "r2"


def test_a_halt_leaves_a_task_to_whom_it_has_just_been_sold_on():
    town = ResaleTown(ROBOTS)
    town.deal_out(FAR)
    town.lost = {Award}
    town.wait(0.5)
    assert (town.order("o1").robot, town.order("o1").state) == ("r2", OrderState.AWARDED)
    town.give("market", Halt(halted=True))
    assert (town.order("o1").robot, town.order("o1").state) == ("r2", OrderState.AWARDED)
    assert order_faults(town.market.state) == []


def test_a_zone_may_do_without():
    town = ResaleTown(ROBOTS, MarketTerms(resale=False))
    town.deal_out(FAR)
    town.wait(3.0)
    assert not any(isinstance(s.body, Reauction) for s in town.sends)


def test_goods_of_value_are_not_handed_to_a_robot_of_a_worse_record():
    town = ResaleTown(ROBOTS)
    town.market.state.robots["r2"].failed = 5
    town.deal_out((*FAR, {"value_uc": 1000 * CREDIT}))
    town.wait(3.0)
    assert town.order("o1").robot == "r1"


LAST_CALL_S = 2 * 3600
"""Longer than any order of the machine is worth its cost of lateness."""


class ResaleMachine(RuleBasedStateMachine):
    """Robots leave, fall silent, refuse, decline, begin and finish what they like; messages get lost; daemons restart."""

    def __init__(self):
        super().__init__()
        robots = (("r1", "acme", 0.0), ("r2", "bolt", 40.0), ("r3", "acme", 70.0), ("r4", "cobb", 100.0))
        terms = MarketTerms(
            resale_gain_uc=1, resale_every_s=0.2, cooldown_s=1.0, max_attempts=4, lease_s=8.0, resale_lots=3
        )
        self.town, self.number, self.epoch = ResaleTown(robots, terms), 0, 1
        self.gifts_at = len(self.town.log) - 1
        for owner in ("acme", "cobb"):
            give_money(self.town, owner, 3 * CREDIT)
        self.seen = 0

    def drivers(self):
        return list(self.town.drivers.values())

    @rule(start=st.integers(0, 100), way=st.integers(1, 20), price=st.integers(5, 60), late=st.sampled_from([0, 0, 60]))
    def post(self, start, way, price, late):
        if len(self.town.market.state.live) > 6:
            return
        self.number += 1
        self.town.post(
            f"o{self.number}",
            pickup=f"x={start}",
            dropoff=f"x={start + way}",
            max_price_uc=price * CREDIT,
            deadline_s=120.0,
            lateness_uc_per_h=late * CREDIT,
        )

    @rule(tenths=st.integers(1, 30))
    def wait(self, tenths):
        self.town.wait(tenths / 10)

    @rule(data=st.data())
    def begin(self, data):
        driver = data.draw(st.sampled_from(self.drivers()))
        free = sorted(set(driver.held) - driver.frozen)
        if driver.begun is None and free:
            driver.begun = data.draw(st.sampled_from(free))
            self.town.sign_of_life(driver.name, driver.begun)

    @rule(data=st.data())
    def finish(self, data):
        under_way = [d for d in self.drivers() if d.begun in self.town.market.state.contracts]
        if under_way:
            driver = data.draw(st.sampled_from(under_way))
            self.town.finish(self.town.market.state.contracts[driver.begun].order)

    @rule(data=st.data(), what=st.sampled_from("da"))
    def give_up(self, data, what):
        driver = data.draw(st.sampled_from(self.drivers()))
        if driver.held:
            contract = data.draw(st.sampled_from(sorted(driver.held)))
            del driver.held[contract]
            driver.begun = None if driver.begun == contract else driver.begun
            pose = WirePose(x=driver.at, y=1.0)
            body = {
                "d": Decline(contract=contract, reason="no"),
                "a": Abort(contract=contract, reason="x", pose=pose, aboard=False),
            }
            self.town.say(driver.name, body[what])

    @rule(data=st.data(), what=st.sampled_from(["mute", "refuses", "declines"]), value=st.booleans())
    def mood(self, data, what, value):
        setattr(data.draw(st.sampled_from(self.drivers())), what, value)

    @rule(kinds=st.sets(st.sampled_from([Prepare, Reauction, Ask])))
    def lose(self, kinds):
        self.town.lost = kinds

    @rule(data=st.data(), online=st.booleans())
    def come_and_go(self, data, online):
        driver = data.draw(st.sampled_from(self.drivers()))
        self.town.give(driver.name, Presence(status="online" if online else "lost", zone="main"))

    @rule(data=st.data())
    def offer(self, data):
        driver = data.draw(st.sampled_from(self.drivers()))
        if driver.held:
            self.town.say(driver.name, Offer(contracts=(data.draw(st.sampled_from(sorted(driver.held))),)))

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def cancel(self, data):
        order = OrderId(f"o{data.draw(st.integers(1, self.number))}")
        self.town.give("ann", CancelOrder(order=order), f"x{len(self.town.log)}")

    @rule(halted=st.booleans())
    def halt(self, halted):
        self.town.give("market", Halt(halted=halted))

    @rule()
    def restart(self):
        self.epoch += 1
        terms = self.town.market.state.terms
        self.town.give("market", OpenMarket(zone="main", epoch=self.epoch, seed="s", terms=terms, customers={}))

    @invariant()
    def the_books_are_closed_and_hold_what_is_owed(self):
        state = self.town.market.state
        assert state.ledger.audit() == []
        assert order_faults(state) == []
        held = sum(level.held_uc for c in state.contracts.values() for level in c.principals)
        live = sum(o.max_price_uc for o in state.orders.values() if not o.state.final)
        assert state.ledger.escrow_left_uc() == held + live

    @invariant()
    def no_order_is_awarded_twice_or_lost(self):
        state = self.town.market.state
        sold = [c.order for c in state.contracts.values()]
        assert len(sold) == len(set(sold))
        for order in state.orders.values():
            assert (order.id in sold) == (order.state in (OrderState.AWARDED, OrderState.EXECUTING))
        assert all(len(c.principals) < MAX_LEVELS for c in state.contracts.values())

    @invariant()
    def nothing_that_has_begun_is_sold_and_nothing_is_begun_twice(self):
        state = self.town.market.state
        begun = [state.contracts[d.begun].order for d in self.drivers() if d.begun in state.contracts]
        assert len(begun) == len(set(begun))
        for send in self.town.sends[self.seen :]:
            if isinstance(send.body, Cancel) and send.body.reason.startswith("sold on"):
                assert send.body.contract not in {d.begun for d in self.drivers()}
        self.seen = len(self.town.sends)

    @invariant()
    def both_gain_by_every_trade(self):
        for record in self.town.trades():
            assert min(g.gain_uc for g in record.gains) > 0
            assert sum(g.gain_uc for g in record.gains) == record.surplus_uc

    @invariant()
    def memory_is_bounded(self):
        state = self.town.market.state
        assert len(state.wishes) <= 4
        assert len(state.missed) <= 4
        assert all(len(o.trades) <= MAX_TRADES_TOLD for o in state.orders.values())

    def teardown(self):
        again, sends = Market(TwoPlaces()), []
        for number, command in enumerate(self.town.log):
            body = read_logged(command.logged())
            sends += again.handle(Command(command.source, body, command.now_ns, command.message_id, command.sid)).sends
            if number == self.gifts_at:
                for owner in ("acme", "cobb"):
                    give_money(SimpleNamespace(market=again, now_ns=self.town.log[0].now_ns), owner, 3 * CREDIT)
        assert sends == self.town.sends
        assert again.ledger.journal == self.town.market.ledger.journal
        for driver in self.drivers():
            driver.mute = True
        for _ in range(LAST_CALL_S // 10):
            self.town.now_ns += 10 * S
            self.town.give("market", tick(self.town.now_ns).body)
        state = self.town.market.state
        assert all(o.state.final for o in state.orders.values()), "every order has an end"
        assert state.ledger.escrow_left_uc() == 0
        assert not state.contracts
        assert all(b.debits_pending == 0 for b in state.ledger.balances().values())


TestResaleHistories = ResaleMachine.TestCase
TestResaleHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
