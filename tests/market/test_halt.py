"""The operator's halt, in the pure market."""

from hypothesis import given, settings
from hypothesis import strategies as st
from market_town import CREDIT, Town

from fleet_market.market import Halt
from fleet_market.market.commands import SELF
from fleet_market.market.snapshot import read_snapshot, write_snapshot
from fleet_market.protocol.messages import (
    Accept,
    Auctioneer,
    Award,
    Call,
    Cancel,
    OrderState,
    Phase,
    Progress,
    Settle,
    WirePose,
)


def halted(reason="a person on the floor"):
    return Halt(halted=True, reason=reason)


RESUMED = Halt(halted=False)


def accepted(town, price=CREDIT):
    """An order that a robot is on."""
    town.post()
    (award,) = town.trade({"r1": price, "r2": 2 * price})
    town.give("r1", Accept(contract=award.contract), "a1")
    return award


def test_a_halted_market_calls_nobody_and_goes_on_where_it_was():
    town = Town()
    (said,) = town.give(SELF, halted())
    assert said == Auctioneer(status="halted", epoch=1, batch_s=town.market.state.terms.batch_s)
    assert town.post().result == "accepted"
    assert not any(isinstance(body, Call | Award) for body in town.wait(30.0))
    (said,) = town.give(SELF, RESUMED)
    assert said.status == "open"
    (award,) = town.trade({"r1": CREDIT, "r2": 2 * CREDIT})
    assert award.order == "o1"


def test_a_halt_ends_the_open_batch_without_a_sale():
    town = Town()
    town.post()
    call = town.next_call()
    town.answer("r1", lambda _: CREDIT)
    town.give(SELF, halted())
    assert town.market.state.call is None
    state = town.market.state
    assert not any(isinstance(body, Award) for body in town.wait(5.0))
    assert state.orders["o1"].state is OrderState.OPEN
    town.give(SELF, RESUMED)
    assert town.next_call().call != call.call


def test_an_award_that_nobody_has_accepted_is_taken_back_without_blame():
    town = Town()
    town.post()
    (award,) = town.trade({"r1": CREDIT, "r2": 2 * CREDIT})
    said = town.give(SELF, halted())
    assert [body.contract for body in said if isinstance(body, Cancel)] == [award.contract]
    order = town.order()
    assert (order.state, order.attempts, order.cool_until_ns, order.broken) == (OrderState.OPEN, 0, {}, [])
    assert town.market.state.robots["r1"].failed == 0
    late = town.give("r1", Accept(contract=award.contract), "a1")
    assert [body.result for body in late] == ["no_such_contract"]
    town.give(SELF, RESUMED)
    (again,) = town.trade({"r1": CREDIT, "r2": 2 * CREDIT})
    assert again.order == award.order
    assert again.contract != award.contract


def test_a_task_under_way_is_finished_and_paid_while_the_market_is_halted():
    town = Town()
    award = accepted(town)
    town.give(SELF, halted())
    for _ in range(10):
        town.wait(3.0)
        town.give("r1", Progress(contract=award.contract, phase=Phase.TO_DROPOFF, aboard=True, pose=WirePose(x=2.0, y=1.0)))
    said = town.deliver(award, "r1")
    assert [body.price_uc for body in said if isinstance(body, Settle)] == [award.price_uc]
    assert town.money("owner", "acme") == award.price_uc


def test_a_task_whose_robot_fails_waits_for_the_market_to_go_on():
    town = Town()
    accepted(town)
    town.give(SELF, halted())
    said = town.wait(40.0)
    assert town.order().state is OrderState.OPEN
    assert not any(isinstance(body, Award | Call) for body in said)


def test_a_halt_holds_over_a_new_start_and_a_repeated_one_says_nothing():
    town = Town()
    town.give(SELF, halted())
    assert town.give(SELF, halted("for another reason")) == []
    assert town.market.state.halt_reason == "for another reason"
    opening = town.log[0].body.model_copy(update={"epoch": 2})
    (said,) = town.give(SELF, opening)
    assert said == Auctioneer(status="halted", epoch=2, batch_s=town.market.state.terms.batch_s)
    town.post()
    assert not any(isinstance(body, Call) for body in town.wait(10.0))


def test_a_halt_is_in_the_snapshot():
    town = Town()
    town.give(SELF, halted())
    state = read_snapshot(write_snapshot(town.market.state))
    assert (state.halted, state.halt_reason) == (True, "a person on the floor")


def test_an_order_whose_time_runs_out_meanwhile_expires_and_gives_the_money_back():
    town = Town()
    before = town.money("customer", "ann")
    town.post(deadline_s=10.0)
    town.give(SELF, halted())
    town.wait(15.0)
    assert town.order().state is OrderState.EXPIRED
    assert town.money("customer", "ann") == before


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["halt", "resume", "post", "ask", "accept", "wait"]), max_size=25))
def test_whatever_happens_no_call_and_no_award_leaves_a_halted_market(steps):
    town, posted, awards = Town(), 0, []
    for step in steps:
        before = town.market.state.halted
        match step:
            case "halt":
                said = town.give(SELF, halted())
            case "resume":
                said = town.give(SELF, RESUMED)
            case "post":
                posted += 1
                said = [town.post(f"o{posted}")]
            case "ask":
                call = town.market.state.call
                said = town.answer("r1", lambda _: CREDIT) if call is not None and "r1" in call.waiting else town.wait(0.1)
            case "accept":
                said = town.give("r1", Accept(contract=awards[-1]), f"a{len(awards)}") if awards else []
            case _:
                said = town.wait(2.5)
        sold = [body for body in said if isinstance(body, Award | Call)]
        awards += [body.contract for body in said if isinstance(body, Award)]
        assert not sold or not before
        state = town.market.state
        if state.halted:
            assert state.call is None
            assert all(contract.accepted for contract in state.contracts.values())
    assert town.market.ledger.audit() == []
