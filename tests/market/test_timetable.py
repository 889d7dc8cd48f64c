"""Looking at what is due must come to the same as looking at everything at every tick."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_town import CREDIT, A, S, Town

from fleet_market.contracts import MarketTerms
from fleet_market.market import market as market_module
from fleet_market.market import release, state
from fleet_market.market.market import tick
from fleet_market.market.timetable import Timetable
from fleet_market.protocol.messages import Accept, Award, CancelOrder, Decline, OrderState, Phase, Progress

TERMS = MarketTerms(batch_s=0.5, accept_s=1.0, lease_s=2.0, overdue_s=3.0, cooldown_s=1.0, max_attempts=3)


def scan_orders(known, now_ns, out):
    """What `release_orders` is to come to: every live order is looked at."""
    waiting = defaultdict(list)
    for order in list(known.live.values()):
        if order.state is OrderState.SCHEDULED:
            if release._is_hopeless(known, order, now_ns, out):
                continue
            if order.group is not None:
                waiting[order.customer, order.group].append(order)
            elif release._may_open(known, order, now_ns):
                release._open(known, order, now_ns, out)
        elif order.state is OrderState.OPEN and now_ns >= order.last_call_ns:
            last = order.records[-1].summary if order.records else "no robot was there to ask"
            release._expire(known, order, f"nobody took it by its deadline: {last}", now_ns, out)
    for members in waiting.values():
        ready = [
            order for order in members if order.state is OrderState.SCHEDULED and release._may_open(known, order, now_ns)
        ]
        if len(ready) == len(members) >= members[0].group_size:
            for order in ready:
                release._open(known, order, now_ns, out)


def scan_open(known):
    return [order for order in known.live.values() if order.state is OrderState.OPEN]


def scan_overdue(contracts, now_ns):
    return [contract for contract in list(contracts.values()) if now_ns >= contract.ends_at_ns()]


class Story:
    """A town in which things happen; `digests` says what it decided."""

    def __init__(self):
        self.town, self.digests, self.held = Town(TERMS, credit=10**5), [], []

    def do(self, step):
        getattr(self, step[0])(*step[1:])
        known = self.town.market.state
        self.digests.append([(o.id, o.state, o.note, o.attempts, o.price_uc) for o in known.orders.values()])

    def post(self, number, more):
        after = more.pop("after")
        names = list(self.town.market.state.orders)
        if after is not None and names:
            more["after"] = names[after % len(names)]
        self.town.post(f"o{number}", **more)

    def cancel(self, number):
        self.town.give("ann", CancelOrder(order=f"o{number}"), f"c{len(self.town.log)}")

    def wait(self, tenths):
        for _ in range(tenths):
            self.town.now_ns += S // 10
            self.take(self.town.give("market", tick(self.town.now_ns).body))

    def ask(self, robot, price):
        call = self.town.market.state.call
        if call is not None and robot in call.waiting:
            self.take(self.town.answer(robot, lambda _: price))

    def trade(self, price):
        """Wait for a call and answer all its rounds."""
        for _ in range(60):
            call = self.town.market.state.call
            if call is not None and call.waiting:
                self.ask(min(call.waiting), price)
            elif self.held and call is None:
                return
            else:
                self.wait(1)

    def serve(self, number):
        self.act(number, "accept")
        self.act(number, "deliver")

    def take(self, said):
        self.held += [body for body in said if isinstance(body, Award)]

    def act(self, number, what):
        if not self.held:
            return
        award = self.held[number % len(self.held)]
        contract = self.town.market.state.contracts.get(award.contract)
        robot = "r1" if contract is None else contract.robot
        match what:
            case "accept":
                self.town.give(robot, Accept(contract=award.contract), f"a{len(self.town.log)}")
            case "decline":
                self.town.give(robot, Decline(contract=award.contract, reason="no"), f"d{len(self.town.log)}")
            case "sign" if contract is not None:
                self.town.give(robot, Progress(contract=award.contract, phase=Phase.QUEUED, pose=A, aboard=False))
            case "deliver":
                self.town.deliver(award, robot)


numbers = st.integers(0, 7)
orders = st.fixed_dictionaries(
    {
        "release_s": st.sampled_from([0.0, 0.0, 0.7, 2.0]),
        "deadline_s": st.sampled_from([2.5, 4.0, 100.0]),
        "after": st.none() | numbers,
        "lateness_uc_per_h": st.sampled_from([0, 3600 * 5 * CREDIT]),
    },
    optional={"group": st.sampled_from(["g1", "g2"]), "group_size": st.sampled_from([2, 2, 3])},
).map(lambda o: o if "group" in o else {k: v for k, v in o.items() if k != "group_size"})
steps = st.lists(
    st.one_of(
        st.tuples(st.just("post"), numbers, orders),
        st.tuples(st.just("cancel"), numbers),
        st.tuples(st.just("wait"), st.integers(1, 15)),
        st.tuples(st.just("ask"), st.sampled_from(["r1", "r2"]), st.none() | st.integers(1, 12).map(lambda p: p * CREDIT)),
        st.tuples(st.just("trade"), st.integers(1, 9).map(lambda p: p * CREDIT)),
        st.tuples(st.just("serve"), numbers),
        st.tuples(st.just("serve"), numbers),
        st.tuples(st.just("act"), numbers, st.sampled_from(["accept", "accept", "decline", "sign", "deliver"])),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_the_market_decides_as_if_it_looked_at_everything_at_each_tick(story):
    with pytest.MonkeyPatch.context() as scanning:
        scanning.setattr(market_module, "release_orders", scan_orders)
        scanning.setattr(state.State, "open_orders", scan_open)
        scanning.setattr(state.Contracts, "overdue", scan_overdue)
        scanned = Story()
        for step in story:
            scanned.do(step if step[0] != "post" else (*step[:2], dict(step[2])))
    timed = Story()
    for step in story:
        timed.do(step if step[0] != "post" else (*step[:2], dict(step[2])))
        assert timed.digests[-1] == scanned.digests[len(timed.digests) - 1]
    assert sorted(map(repr, timed.town.sends)) == sorted(map(repr, scanned.town.sends))


keys = st.sampled_from("abcde")
moves = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers(0, 20)),
        st.tuples(st.just("drop"), keys),
        st.tuples(st.just("due"), st.integers(0, 20)),
    )
)


@given(moves)
def test_a_timetable_gives_what_is_due_once_in_the_order_in_which_it_was_known(story):
    table, times, known = Timetable(), {}, []
    for move in story:
        match move:
            case "set", key, at_ns:
                table.set(key, at_ns)
                times[key] = at_ns
                known += [key] * (key not in known)
            case "drop", key:
                table.drop(key)
                times.pop(key, None)
                known = [other for other in known if other != key]
            case "due", now_ns:
                due = [key for key in known if key in times and times[key] <= now_ns]
                assert table.due(now_ns) == due
                for key in due:
                    del times[key]


def test_a_tick_looks_at_no_order_whose_time_has_not_come(monkeypatch):
    town = Town(TERMS, credit=10**6)
    for n in range(50):
        town.post(f"o{n}", release_s=50.0)
    town.wait(0.5)
    looked = []
    monkeypatch.setattr(release, "_look_at", lambda *given: looked.append(given))
    town.wait(5.0)
    assert not looked
