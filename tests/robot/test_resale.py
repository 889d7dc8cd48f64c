"""Real agents sell contracts on: they say what their queues cost, and do not begin what they have let go of."""

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from robot_yard import CREDIT, ZONE, Yard

from fleet_market.contracts import MarketTerms
from fleet_market.ids import CallId, MessageId
from fleet_market.market import order_faults
from fleet_market.protocol.messages import (
    Cancel,
    CancelOrder,
    Keep,
    Lot,
    Offer,
    OrderState,
    Phase,
    Prepare,
    Prepared,
    Presence,
    Reauction,
    ResaleAsk,
)
from fleet_market.robot.queue import Errand

LEFT, RIGHT = "carrier-1", "carrier-3"
CALL = CallId("main:1:r1")
SHELVES = [f"shelf-{row}{n}" for row in "abcd" for n in range(1, 5)]
DOCKS = [f"{side}-{n}" for side in ("shipping", "receiving") for n in range(1, 5)]


def there(yard, *robots):
    """Have the market think that only these robots are there."""
    for name in yard.agents:
        if yard.market.state.robots[name].online != (name in robots):
            status = "online" if name in robots else "offline"
            yard.give(name, Presence(status=status, zone=ZONE))


def deal(yard, robot, *orders):
    """Have a robot win orders, while nothing is sold on."""
    there(yard, robot)
    dealt = [yard.order(f"o{i}", *ends, deadline_s=3000.0, max_price_uc=100 * CREDIT) for i, ends in enumerate(orders)]
    yard.until(lambda: all(o.state is OrderState.EXECUTING for o in dealt), 10)
    return dealt


def trades(yard):
    return {record.call: record for order in yard.market.state.orders.values() for record in order.trades}.values()


def said(yard, robot, kind):
    return [body for body in yard.said[robot] if isinstance(body, kind)]


def test_a_queued_contract_goes_to_the_robot_next_door_and_the_books_close():
    yard = Yard()
    first, second = deal(yard, LEFT, ("shelf-a1", "receiving-1"), ("shelf-d1", "shipping-1"))
    there(yard, LEFT, RIGHT)
    yard.until(lambda: second.robot == RIGHT, 10)
    assert first.robot == LEFT, "it is being executed"
    (trade,) = trades(yard)
    (move,) = trade.moves
    assert move.ask_uc < move.price_uc
    assert min(gain.gain_uc for gain in trade.gains) > 0
    yard.until(yard.all_over)
    assert [o.state for o in (first, second)] == [OrderState.SETTLED] * 2
    earned = {name: yard.market.state.robots[name].earned_uc for name in (LEFT, RIGHT)}
    assert earned == {RIGHT: move.price_uc, LEFT: first.price_uc + second.price_uc - move.price_uc}
    there(yard, *yard.agents)
    yard.check_end()


def test_what_a_robot_saves_and_asks_is_what_its_queue_costs():
    yard = Yard(max_tasks=6, terms=MarketTerms(resale=False))
    deal(yard, LEFT, ("shelf-a1", "receiving-1"), ("shelf-d1", "shipping-1"), ("shelf-a3", "receiving-3"))
    agent = yard.agents[LEFT]
    bidder = agent._dealer._bidder
    task = agent.situation.task("o1")
    yard.run(3)
    queue = agent.situation.queue(yard.now_ns)
    place = partial(yard.floor.places.resolve, source="test", field="place")
    lots = tuple(
        Lot(order=name, pickup=place(a), dropoff=place(b), payload_kg=2.0, deadline_ns=task.award.deadline_ns)
        for name, a, b in (("o1", "shelf-d1", "shipping-1"), ("new", "shelf-a2", "receiving-2"))
    )
    body = Reauction(call=CALL, lots=lots, own=(task.award.contract,), close_ns=yard.now_ns + 10**9)
    yard.carry_out(LEFT, agent.hear(MessageId("m"), body, yard.now_ns))
    (reply,) = said(yard, LEFT, ResaleAsk)
    rest = queue.without(["o1"])
    assert reply.saving_uc == bidder.cost(queue).total_uc - bidder.cost(rest).total_uc > 0
    for line, lot in zip(reply.asks, lots, strict=True):
        with_it = bidder.taken(Errand.of(lot), rest)
        assert line.ask_uc == bidder.cost(with_it).total_uc - bidder.cost(rest).total_uc
    won = body.model_copy(update={"round": 2, "lots": lots[:1], "won": ("new",)})
    yard.carry_out(LEFT, agent.hear(MessageId("n"), won, yard.now_ns))
    given_uc = bidder.cost(bidder.taken(Errand.of(lots[1]), rest)).total_uc
    both = bidder.taken(Errand.of(lots[0]), bidder.taken(Errand.of(lots[1]), rest))
    assert said(yard, LEFT, ResaleAsk)[-1].asks[0].ask_uc == bidder.cost(both).total_uc - given_uc


def test_what_is_under_way_is_neither_offered_nor_let_go_of():
    yard = Yard(terms=MarketTerms(resale=False))
    deal(yard, LEFT, ("shelf-a1", "receiving-1"), ("shelf-d1", "shipping-1"))
    agent = yard.agents[LEFT]
    yard.until(lambda: agent.situation.task("o0").phase is not Phase.QUEUED)
    contract = agent.situation.task("o0").award.contract
    body = Reauction(call=CALL, lots=(), own=(contract,), close_ns=yard.now_ns + 10**9)
    yard.carry_out(LEFT, agent.hear(MessageId("m"), body, yard.now_ns))
    yard.carry_out(LEFT, agent.hear(MessageId("n"), Prepare(call=CALL, contracts=(contract,)), yard.now_ns))
    assert said(yard, LEFT, ResaleAsk)[-1].saving_uc is None
    assert said(yard, LEFT, Prepared)[-1].agreed is False
    assert agent.situation.frozen == {}


def frozen(yard):
    """The robot has let go of the second of its three orders; returns its agent and the contract."""
    deal(yard, LEFT, ("shelf-a1", "receiving-1"), ("shelf-a2", "receiving-2"), ("shelf-a3", "receiving-3"))
    agent = yard.agents[LEFT]
    yard.until(lambda: agent.situation.at_hand is not None)
    second = next(
        visit.order for visit in agent.situation.visits if agent.situation.is_free(agent.situation.task(visit.order))
    )
    contract = agent.situation.task(second).award.contract
    yard.carry_out(LEFT, agent.hear(MessageId("p"), Prepare(call=CALL, contracts=(contract,)), yard.now_ns))
    assert said(yard, LEFT, Prepared)[-1].agreed
    return agent, agent.situation.task(second)


def test_what_was_let_go_of_is_not_begun_and_others_are_done_first():
    yard = Yard(terms=MarketTerms(resale=False))
    yard.give = partial(hold_back, yard.give, Prepared)
    agent, task = frozen(yard)
    yard.until(lambda: agent.tasks == [task])
    yard.run(20)
    assert task.phase is Phase.QUEUED
    yard.carry_out(LEFT, agent.hear(MessageId("k0"), Keep(call=CallId("main:1:r9"), contracts=()), yard.now_ns))
    assert agent.situation.frozen, "another re-auction says nothing about this one"
    yard.carry_out(LEFT, agent.hear(MessageId("k"), Keep(call=CALL, contracts=(task.award.contract,)), yard.now_ns))
    yard.until(yard.all_over)
    assert {o.state for o in yard.market.state.orders.values()} == {OrderState.SETTLED}


def hold_back(give, kind, source, body, *args, **more):
    """Lose what robots say of a kind."""
    return [] if isinstance(body, kind) else give(source, body, *args, **more)


def test_a_robot_that_is_told_twice_to_let_go_agrees_twice_but_not_for_another_re_auction():
    yard = Yard(terms=MarketTerms(resale=False))
    agent, task = frozen(yard)
    for call in (CALL, CallId("main:1:r2")):
        body = Prepare(call=call, contracts=(task.award.contract,))
        yard.carry_out(LEFT, agent.hear(MessageId(f"p-{call}"), body, yard.now_ns))
    assert [body.agreed for body in said(yard, LEFT, Prepared)] == [True, True, False]


def test_what_was_sold_is_forgotten_and_the_rest_is_done():
    yard = Yard(terms=MarketTerms(resale=False))
    agent, task = frozen(yard)
    body = Cancel(contract=task.award.contract, reason="sold on to another")
    yard.carry_out(LEFT, agent.hear(MessageId("c"), body, yard.now_ns))
    assert task not in agent.tasks
    assert agent.situation.frozen == {}
    yard.until(lambda: not agent.tasks)


def test_a_robot_that_let_go_of_what_was_not_sold_is_told_so_by_the_market():
    yard = Yard(terms=MarketTerms(resale=False))
    agent, _ = frozen(yard)
    yard.run(1)
    assert agent.situation.frozen == {}, "the market knows no such re-auction"


def test_a_robot_that_cannot_move_offers_what_it_has_queued_and_others_do_it():
    yard = Yard(max_tasks=5)
    orders = deal(yard, LEFT, ("shelf-a1", "receiving-1"), ("shelf-a2", "receiving-2"), ("shelf-a3", "receiving-3"))
    yard.bodies[LEFT].stuck = True
    there(yard, *yard.agents)
    yard.until(lambda: said(yard, LEFT, Offer) or all(o.robot != LEFT for o in orders), 400)
    yard.until(yard.all_over, 900)
    assert all(o.robot != LEFT for o in orders)
    yard.check_end()


@given(seed=st.integers(0, 2**16), lossy=st.sampled_from([0.0, 0.1]), data=st.data())
@settings(max_examples=6, deadline=None)
def test_whatever_is_sold_on_no_order_is_lost_or_done_twice_and_no_money_is_made(seed, lossy, data):
    yard = Yard(seed=seed, lossy=lossy, max_tasks=6, terms=MarketTerms(resale_gain_uc=1, resale_every_s=0.2))
    there(yard, LEFT, RIGHT)
    for number in range(data.draw(st.integers(3, 7))):
        ends = data.draw(st.tuples(st.sampled_from(SHELVES), st.sampled_from(DOCKS)))
        there(yard, data.draw(st.sampled_from([LEFT, RIGHT])))
        yard.order(f"o{number}", *ends, deadline_s=3000.0, max_price_uc=100 * CREDIT)
        yard.run(data.draw(st.integers(2, 5)))
    there(yard, *data.draw(st.sampled_from([(LEFT, RIGHT), tuple(yard.agents)])))
    match data.draw(st.sampled_from(["nothing", "nothing", "kill", "cancel", "restart"])):
        case "kill":
            yard.run(data.draw(st.integers(1, 30)))
            yard.kill(LEFT)
        case "cancel":
            yard.give("demo", CancelOrder(order="o1"), "cancel-o1")
        case "restart":
            yard.epoch += 1
            yard.open({})
    while not yard.all_over():
        assert yard.now_s < 4000
        yard.run(1)
        state = yard.market.state
        assert order_faults(state) == []
        assert state.ledger.audit() == []
        begun = [t.order for agent in yard.agents.values() for t in agent.tasks if t.phase is not Phase.QUEUED]
        assert lossy or len(begun) == len(set(begun))
    for record in trades(yard):
        assert min(gain.gain_uc for gain in record.gains) > 0
    there(yard, *yard.agents)
    yard.check_end()
