import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from market_town import CREDIT, A, B, S, Town, TwoPlaces, line

from fleet_market.contracts import MarketTerms
from fleet_market.errors import ProtocolError
from fleet_market.ids import ContractId, OrderId, RobotId
from fleet_market.ledger import AccountKind, account
from fleet_market.market import Command, Market
from fleet_market.market.commands import read_logged
from fleet_market.market.market import tick
from fleet_market.protocol.messages import (
    Abort,
    Accept,
    Ask,
    Award,
    Call,
    Cancel,
    CancelOrder,
    Decline,
    DeclineLine,
    DeclineReason,
    OrderReply,
    OrderState,
    Phase,
    Presence,
    Progress,
    QuoteReply,
    QuoteRequest,
    Receipt,
    Settle,
    StatusRequest,
    StepEvidence,
    WhyReply,
    WhyRequest,
    WirePose,
)


def test_an_order_is_traded_done_and_paid():
    town = Town()
    assert town.post().result == "accepted"
    assert town.money(AccountKind.CUSTOMER, "ann") == 990 * CREDIT
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})
    assert (town.order().robot, award.price_uc, award.ask_uc) == ("r1", 5 * CREDIT, 3 * CREDIT)
    town.give("r1", Accept(contract=award.contract), "acc")
    said = town.deliver(award, "r1")
    assert any(isinstance(b, Settle) for b in said)
    assert town.order().state is OrderState.SETTLED
    assert town.money(AccountKind.OWNER, "acme") == 5 * CREDIT
    assert town.money(AccountKind.CUSTOMER, "ann") == 995 * CREDIT
    assert town.market.ledger.escrow_left_uc() == 0
    assert town.market.ledger.audit() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"pickup": "moon"}, "pickup"),
        ({"dropoff": "1;2"}, "dropoff"),
        ({"payload_kg": 11.0}, "payload_kg"),
        ({"deadline_s": 5.0, "release_s": 6.0}, "deadline_s"),
        ({"max_price_uc": 1001 * CREDIT}, "max_price"),
        ({"customer": "eve"}, "max_price"),
        ({"customer": "stranger"}, "customer"),
    ],
)
def test_a_bad_order_is_refused_with_field_and_mend_and_costs_nothing(changes, field):
    town = Town()
    reply = town.post(**changes)
    assert reply.result == "refused"
    assert [e.field for e in reply.errors] == [field]
    assert reply.errors[0].mend
    assert town.market.state.orders == {}
    assert town.market.ledger.escrow_left_uc() == 0


def test_the_same_order_again_is_recognised_and_another_under_its_id_is_refused():
    town = Town()
    town.post()
    assert town.post().result == "exists"
    assert town.post(max_price_uc=9 * CREDIT).result == "refused"
    assert town.post(customer="eve", max_price_uc=CREDIT).result == "refused"
    assert town.market.ledger.escrow_left_uc() == 10 * CREDIT


def test_an_order_waits_for_its_release_and_expires_at_its_deadline():
    town = Town()
    town.post(release_s=20.0, deadline_s=40.0)
    assert not [b for b in town.wait(19.0) if isinstance(b, Call)]
    assert [b for b in town.wait(2.0) if isinstance(b, Call)]
    town.wait(20.0)
    assert town.order().state is OrderState.EXPIRED
    assert town.money(AccountKind.CUSTOMER, "ann") == 1000 * CREDIT


def test_a_robot_that_does_not_answer_its_award_loses_it_and_the_other_gets_it():
    town = Town()
    town.post()
    (first,) = town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})
    said = town.wait(6.1)
    assert [b.contract for b in said if isinstance(b, Cancel)] == [first.contract]
    assert town.order().state is OrderState.OPEN
    (second,) = town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})
    assert town.order().robot == "r2", "the defaulter is cooling down"
    assert second.price_uc == 10 * CREDIT, "no competitor is left: the budget is the reserve"
    assert town.order().attempts == 2


def test_a_robot_keeps_its_lease_by_giving_signs_of_life_and_loses_it_by_silence():
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "acc")
    for _ in range(6):
        town.wait(10.0)
        town.give("r1", Progress(contract=award.contract, phase=Phase.TO_PICKUP, pose=A, aboard=False))
    assert town.order().state is OrderState.EXECUTING
    town.wait(15.1)
    assert town.order().state is OrderState.OPEN
    assert "no sign of life for 15 s" in town.order().note
    assert [b.result for b in town.deliver(award, "r1") if isinstance(b, Receipt)] == ["no_such_contract"]
    assert (
        town.money(AccountKind.OWNER, "acme") == 0
        if town.market.ledger.balances().get(account(AccountKind.OWNER, "acme"))
        else True
    )


def test_the_parcel_of_a_broken_down_robot_is_taken_over_beside_it():
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "acc")
    here = WirePose(x=4.0, y=2.0)
    town.give("r1", Progress(contract=award.contract, phase=Phase.TO_DROPOFF, pose=here, aboard=True))
    town.wait(15.1)
    (second,) = town.trade({"r2": 5 * CREDIT})
    assert (second.pickup.x, second.pickup.y) == (4.0, 2.0)
    assert second.pickup.keep_off_m > 0
    town.give("r2", Accept(contract=second.contract), "acc2")
    beside = StepEvidence(
        kind="pickup", pose=WirePose(x=5.2, y=2.0), at_ns=town.now_ns, payload_before_kg=0.0, payload_kg=2.0
    )
    there = StepEvidence(kind="dropoff", pose=B, at_ns=town.now_ns, payload_before_kg=2.0, payload_kg=0.0)
    town.deliver(second, "r2", steps=(beside, there))
    assert town.order().state is OrderState.SETTLED


def test_the_order_of_a_robot_that_fell_silent_while_it_loaded_is_picked_up_beside_it():
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "acc")
    town.give("r1", Progress(contract=award.contract, phase=Phase.LOADING, pose=A, aboard=False))
    town.wait(15.1)
    (second,) = town.trade({"r2": 5 * CREDIT})
    assert (second.pickup.x, second.pickup.y) == (A.x, A.y)
    assert second.pickup.keep_off_m > 0


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((), "must be of a pickup and a dropoff"),
        ((("pickup", A, (0.0, 2.0), 0), ("dropoff", A, (2.0, 0.0), 0)), "8.00 m from its place"),
        ((("pickup", A, (7.0, 9.0), 0), ("dropoff", B, (2.0, 2.0), 0)), "load changed by 0.00 kg at the dropoff"),
        ((("pickup", A, (9.0, 9.0), 0), ("dropoff", B, (9.0, 7.0), 0)), "load changed by 0.00 kg at the pickup"),
        ((("pickup", A, (0.0, 2.0), 0), ("dropoff", B, (None, 0.0), 0)), "before and after the dropoff"),
        ((("pickup", A, (0.0, 2.0), 1), ("dropoff", B, (2.0, 0.0), 0)), "times must run"),
        ((("dropoff", B, (2.0, 0.0), 0), ("pickup", A, (0.0, 2.0), 0)), "must be of a pickup and a dropoff"),
    ],
)
def test_nothing_is_paid_without_evidence(steps, says):
    town = Town()
    town.post()
    (award,) = town.trade({"r1": 3 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "acc")
    proof = tuple(
        StepEvidence(kind=k, pose=p, at_ns=town.now_ns + late, payload_before_kg=kg[0], payload_kg=kg[1])
        for k, p, kg, late in steps
    )
    said = town.deliver(award, "r1", steps=proof)
    assert [b.result for b in said if isinstance(b, Receipt)] == ["refused"]
    assert says in town.order().note
    assert town.order().state is OrderState.OPEN
    assert town.market.ledger.escrow_left_uc() == 10 * CREDIT


def test_an_order_that_fails_too_often_is_over_and_the_money_returns():
    town = Town(MarketTerms(max_attempts=2, cooldown_s=0.1))
    town.post()
    for _ in range(2):
        (award,) = town.trade({"r1": 3 * CREDIT})
        town.give("r1", Decline(contract=award.contract, reason="flat tyre"), f"d{award.contract}")
    assert town.order().state is OrderState.FAILED
    assert "flat tyre" in town.order().note
    assert town.money(AccountKind.CUSTOMER, "ann") == 1000 * CREDIT


@pytest.mark.parametrize("phase", [None, Phase.QUEUED, Phase.TO_PICKUP])
def test_an_order_cancelled_before_its_parcel_is_taken_is_over_at_once_and_costs_nothing(phase):
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT})
    if phase is not None:
        town.give("r1", Accept(contract=award.contract), "a")
        town.give("r1", Progress(contract=award.contract, phase=phase, pose=A, aboard=False))
    said = town.give("ann", CancelOrder(order=OrderId("o1")), "x")
    assert [b.result for b in said if isinstance(b, OrderReply)] == ["cancelled"]
    assert [b.bring_back for b in said if isinstance(b, Cancel)] == [False]
    assert town.order().state is OrderState.CANCELLED
    assert town.money(AccountKind.CUSTOMER, "ann") == 1000 * CREDIT
    assert town.give("eve", CancelOrder(order=OrderId("o1")), "x9")[0].result == "refused"


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.TO_DROPOFF])
def test_an_order_cancelled_with_its_parcel_aboard_is_brought_back_and_paid_for_there(phase):
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "a")
    town.give("r1", Progress(contract=award.contract, phase=phase, pose=A, aboard=phase is Phase.TO_DROPOFF))
    said = town.give("ann", CancelOrder(order=OrderId("o1")), "x")
    assert [b.result for b in said if isinstance(b, OrderReply)] == ["cancelled"]
    assert [b.bring_back for b in said if isinstance(b, Cancel)] == [True]
    assert town.order().state is OrderState.EXECUTING
    back = (
        StepEvidence(kind="pickup", pose=A, at_ns=town.now_ns, payload_before_kg=0.0, payload_kg=2.0),
        StepEvidence(kind="dropoff", pose=A, at_ns=town.now_ns, payload_before_kg=2.0, payload_kg=0.0),
    )
    town.deliver(award, "r1", steps=back)
    assert (town.order().state, town.order().note) == (OrderState.CANCELLED, "brought back")
    assert town.money(AccountKind.OWNER, "acme") == 5 * CREDIT
    assert town.market.ledger.escrow_left_uc() == 0


def test_a_robot_that_delivers_before_its_recall_arrives_has_delivered():
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "a")
    town.give("r1", Progress(contract=award.contract, phase=Phase.TO_DROPOFF, pose=A, aboard=True))
    town.give("ann", CancelOrder(order=OrderId("o1")), "x")
    town.deliver(award, "r1")
    assert town.order().state is OrderState.SETTLED


def test_what_is_being_set_down_where_it_was_to_go_can_no_longer_be_cancelled():
    town = Town()
    town.post(deadline_s=500.0)
    (award,) = town.trade({"r1": 3 * CREDIT})
    town.give("r1", Accept(contract=award.contract), "a")
    town.give("r1", Progress(contract=award.contract, phase=Phase.UNLOADING, pose=B, aboard=True))
    (reply,) = (b for b in town.give("ann", CancelOrder(order=OrderId("o1")), "x") if isinstance(b, OrderReply))
    assert reply.result == "refused"
    assert "setting the parcel down" in reply.errors[0].mend


def test_a_burst_is_awarded_in_one_batch_round_after_round():
    town = Town()
    for n in range(5):
        town.post(f"o{n}")
    assert len(town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT})) == 5
    assert {town.order(f"o{n}").records[-1].round for n in range(5)} == {1, 2, 3}
    assert {town.order(f"o{n}").records[-1].call for n in range(5)} == {"main:1:1"}


def test_late_foreign_and_second_asks_do_not_count():
    town = Town()
    town.post()
    call = town.next_call()
    town.give("r9", Ask(call=call.call, asks=(line(0, 1),)))
    town.give("r1", Ask(call="main:1:99", asks=(line(0, 2),)))
    town.give("r1", Ask(call=call.call, asks=(line(7, 3),)))
    town.give("r1", Ask(call=call.call, asks=(line(0, 4 * CREDIT),)))
    town.give("r1", Ask(call=call.call, asks=(line(0, 5),)))
    (award,) = (b for b in town.wait(2.1) if isinstance(b, Award))
    assert award.ask_uc == 4 * CREDIT


def test_a_quote_is_priced_by_the_robots_and_awards_nothing():
    town = Town()
    town.give("ann", QuoteRequest(pickup="a", dropoff="b", payload_kg=1.0, deadline_s=60.0), "q1")
    assert town.trade({"r1": 3 * CREDIT, "r2": 5 * CREDIT}) == []
    (quote,) = (s for s in town.sends if isinstance(s.body, QuoteReply))
    assert (quote.body.result, quote.body.robots) == ("quoted", 2)
    assert (quote.body.best_ask_uc, quote.body.second_ask_uc) == (3 * CREDIT, 5 * CREDIT)
    assert (quote.corr, quote.topic) == ("q1", "mkt/1/out/ann/quote")
    assert town.market.ledger.escrow_left_uc() == 0


def test_a_quote_is_answered_at_once_when_no_robot_is_there_to_ask():
    town = Town()
    for robot in ("r1", "r2"):
        town.give(robot, Presence(status="offline", zone="main"))
    (reply,) = town.give("ann", QuoteRequest(pickup="a", dropoff="b", payload_kg=1.0, deadline_s=60.0), "q1")
    assert (reply.result, reply.robots) == ("no_ask", 0)


def test_why_tells_who_asked_what_and_why_each_lost():
    town = Town()
    town.post(max_price_uc=4 * CREDIT)
    call = town.next_call()
    declined = DeclineLine(lot=0, reason=DeclineReason.BATTERY, detail="12 %")
    town.give("r1", Ask(call=call.call, declines=(declined,)))
    town.give("r2", Ask(call=call.call, asks=(line(0, 5 * CREDIT),)))
    assert town.market.state.call is None, "all have answered"
    (reply,) = (b for b in town.give("ann", WhyRequest(order=OrderId("o1")), "w") if isinstance(b, WhyReply))
    outcomes = {a.robot: a.outcome for a in reply.records[-1].asks}
    assert outcomes == {"r1": "declined: battery (12 %)", "r2": "asked 5, the budget is 4"}
    assert reply.records[-1].winner is None
    unknown = town.give("ann", WhyRequest(order=OrderId("nix")), "w2")[0]
    assert not unknown.found


def test_status_shows_robots_and_closed_books():
    town = Town()
    town.post()
    status = town.give("ann", StatusRequest(what="robots"), "s")[0]
    assert [(r.robot, r.owner, r.online) for r in status.robots] == [("r1", "acme", True), ("r2", "bolt", True)]
    assert status.sum_debits_uc == status.sum_credits_uc
    assert status.escrow_left_uc == 10 * CREDIT


def test_an_old_last_will_does_not_hide_a_robot_that_is_back():
    town = Town()
    town.give("r1", Presence(status="online", zone="main"), sid=5)
    town.give("r1", Presence(status="lost", zone="main"), sid=4)
    assert town.market.state.robots[RobotId("r1")].online
    town.give("r1", Presence(status="lost", zone="main"), sid=5)
    assert not town.market.state.robots[RobotId("r1")].online


def test_a_body_that_the_market_does_not_take_is_refused():
    with pytest.raises(ProtocolError, match="Settle"):
        Town().give("r1", Settle(contract=ContractId("c"), order=OrderId("o"), price_uc=1))


def test_a_tick_without_work_changes_nothing():
    town = Town()
    outcome = town.market.handle(tick(town.now_ns + S))
    assert not outcome.changed
    assert outcome.sends == []


class TownMachine(RuleBasedStateMachine):
    """Customers and robots do what they like; the market must stay sound and repeatable."""

    def __init__(self):
        super().__init__()
        self.town = Town(MarketTerms(cooldown_s=1.0, max_attempts=3))
        self.number = 0

    def contracts(self):
        return list(self.town.market.state.contracts.values())

    @rule(
        customer=st.sampled_from(["ann", "eve"]),
        price=st.integers(1, 12),
        release=st.integers(0, 5),
        span=st.integers(1, 60),
        priority=st.integers(0, 2),
        late=st.sampled_from([0, 0, 3600]),
        value=st.integers(0, 20),
        group=st.sampled_from([None, None, "g"]),
        after=st.booleans(),
    )
    def post(self, customer, price, release, span, priority, late, value, group, after):
        self.number += 1
        self.town.post(
            f"o{self.number}",
            customer,
            max_price_uc=price * CREDIT,
            release_s=float(release),
            deadline_s=float(release + span),
            priority=priority,
            lateness_uc_per_h=late * CREDIT,
            value_uc=value * CREDIT,
            group=group,
            group_size=2 if group else 1,
            after=f"o{self.number - 1}" if after and self.number > 1 else None,
        )

    @rule(tenths=st.integers(1, 40))
    def wait(self, tenths):
        self.town.wait(tenths / 10)

    @precondition(lambda self: self.town.market.state.call is not None)
    @rule(robot=st.sampled_from(["r1", "r2", "r3"]), prices=st.lists(st.integers(0, 12), min_size=1, max_size=4))
    def ask(self, robot, prices):
        call = self.town.market.state.call
        offered = call.offered.get(robot, ("o1",))
        asks = tuple(line(i % len(offered), p * CREDIT) for i, p in enumerate(prices))
        self.town.give(robot, Ask(call=call.id, round=call.round, asks=asks))

    @precondition(lambda self: self.contracts())
    @rule(data=st.data(), robot=st.sampled_from(["r1", "r2", None]), what=st.sampled_from("apdxcc"))
    def execute(self, data, robot, what):
        contract = data.draw(st.sampled_from(self.contracts()))
        robot, name = robot or contract.robot, f"x{len(self.town.log)}"
        c = contract.id
        if what == "c":
            self.town.deliver(contract_award(contract), robot)
        else:
            body = {
                "a": Accept(contract=c),
                "p": Progress(contract=c, phase=Phase.TO_DROPOFF, pose=A, aboard=True),
                "d": Decline(contract=c, reason="no"),
                "x": Abort(contract=c, reason="stuck", pose=A, aboard=False),
            }[what]
            self.town.give(robot, body, name)

    @precondition(lambda self: self.number)
    @rule(data=st.data(), customer=st.sampled_from(["ann", "eve"]))
    def cancel(self, data, customer):
        order = OrderId(f"o{data.draw(st.integers(1, self.number))}")
        self.town.give(customer, CancelOrder(order=order), f"x{len(self.town.log)}")

    @invariant()
    def books_are_closed_and_every_hold_belongs_to_a_live_order(self):
        state = self.town.market.state
        assert state.ledger.audit() == []
        live = [o for o in state.orders.values() if not o.state.final]
        assert state.ledger.escrow_left_uc() == sum(o.max_price_uc for o in live)

    @invariant()
    def no_order_is_awarded_twice_or_lost(self):
        state = self.town.market.state
        sold = [c.order for c in state.contracts.values()]
        assert len(sold) == len(set(sold))
        for order in state.orders.values():
            assert (order.id in sold) == (order.state in (OrderState.AWARDED, OrderState.EXECUTING))

    @invariant()
    def nobody_is_paid_below_the_ask_or_above_the_budget(self):
        for order in self.town.market.state.orders.values():
            if order.price_uc is not None:
                assert order.price_uc <= order.max_price_uc
                assert order.ask_uc <= order.price_uc or order.lateness_uc_per_h

    @invariant()
    def a_group_is_awarded_whole_or_not_at_all(self):
        state = self.town.market.state
        for group in {(o.customer, o.group) for o in state.orders.values() if o.group}:
            members = [o for o in state.orders.values() if (o.customer, o.group) == group and o.state is OrderState.OPEN]
            fresh = [o for o in members if o.attempts == 0]
            awarded = [
                o
                for o in state.orders.values()
                if (o.customer, o.group) == group and o.attempts == 1 and o.state is OrderState.AWARDED
            ]
            assert not (fresh and {o.awarded_ns for o in awarded} & {self.town.now_ns})

    def teardown(self):
        again = Market(TwoPlaces())
        sends = []
        for command in self.town.log:
            body = read_logged(command.logged())
            sends += again.handle(Command(command.source, body, command.now_ns, command.message_id, command.sid)).sends
        assert sends == self.town.sends
        assert again.ledger.journal == self.town.market.ledger.journal
        self.town.wait(600)
        assert all(o.state.final for o in self.town.market.state.orders.values()), "every order has an end"
        assert self.town.market.ledger.escrow_left_uc() == 0


def contract_award(contract):
    from types import SimpleNamespace

    return SimpleNamespace(contract=contract.id)


TestTownHistories = TownMachine.TestCase
TestTownHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
