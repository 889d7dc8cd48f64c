"""Looking at what is due must come to the same as looking at everything at every tick."""

import copy
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
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


def story_of(rng):
    """Some fifty steps, by chance."""
    steps = []
    for number in range(50):
        what = rng.choices(["post", "trade", "serve", "wait", "cancel", "ask", "act"], [12, 8, 8, 6, 3, 3, 5])[0]
        match what:
            case "post":
                grouped = rng.random() < 0.25
                more = {"group": rng.choice(["g1", "g2"]), "group_size": rng.choice([2, 2, 3])} if grouped else {}
                more |= {
                    "release_s": rng.choice([0.0, 0.0, 0.7, 2.0]),
                    "deadline_s": rng.choice([2.5, 6.0, 100.0, 100.0]),
                    "lateness_uc_per_h": rng.choice([0, 3600 * 5 * CREDIT]),
                    "after": rng.choice([None, None, rng.randrange(50)]),
                }
                steps.append((what, number, more))
            case "wait":
                steps.append((what, rng.randint(1, 15)))
            case "trade":
                steps.append((what, rng.randint(1, 9) * CREDIT))
            case "ask":
                steps.append((what, rng.choice(["r1", "r2"]), rng.choice([None, rng.randint(1, 12) * CREDIT])))
            case "act":
                steps.append((what, rng.randrange(50), rng.choice(["accept", "decline", "sign", "deliver"])))
            case _:
                steps.append((what, rng.randrange(50)))
    return steps


def told(story):
    """What is known after each step of a story, and all that was sent."""
    one = Story()
    for what, *details in story:
        one.do((what, *copy.deepcopy(details)))
    return one.digests, sorted(map(repr, one.town.sends))


@pytest.mark.parametrize("seed", range(40))
def test_the_market_decides_as_if_it_looked_at_everything_at_each_tick(monkeypatch, seed):
    story = story_of(random.Random(seed))
    timed, sent = told(story)
    monkeypatch.setattr(market_module, "release_orders", scan_orders)
    monkeypatch.setattr(state.State, "open_orders", scan_open)
    monkeypatch.setattr(state.Contracts, "overdue", scan_overdue)
    scanned, sent_by_scan = told(story)
    for number, (a, b) in enumerate(zip(timed, scanned, strict=True)):
        assert a == b, f"after step {number}: {story[number]}"
    assert sent == sent_by_scan


def test_the_stories_get_as_far_as_they_are_meant_to():
    ends = Counter()
    for seed in range(40):
        one = Story()
        for what, *details in story_of(random.Random(seed)):
            one.do((what, *copy.deepcopy(details)))
        for order in one.town.market.state.orders.values():
            ends["after " * (order.after is not None) + "group " * (order.group is not None) + order.state] += 1
    assert min(ends[end] for end in ("settled", "after settled", "group settled", "after failed", "group cancelled")) > 0, (
        ends
    )


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
