"""What the oracle may know and when, what it answers, and that nothing but facts and the task changes the answer."""

import copy
import dataclasses
import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._oracle_floor import ZONE, Batch, Floor
from fleet_market.auction import SealedAsk
from fleet_market.errors import InputError
from fleet_market.ids import CallId, OrderId, OwnerId, RobotId, ZoneId
from fleet_market.oracle import Knowledge, Privacy, Question
from fleet_market.oracle.costs import CostModel
from fleet_market.oracle.knowledge import HEARING
from fleet_market.oracle.terms import (
    CalibrationDrift,
    ClosedBatch,
    ClosedLot,
    OrderGone,
    OrderSeen,
    RobotState,
    Settlement,
)

TASK = Question((10.0, 10.0), (60.0, 60.0), 2.0, 600.0)
S = 10**9


def step(floor, knowledge):
    for task in floor.arrivals():
        knowledge.hear(floor.post(task), floor.now_ns)
    for seen in floor.close():
        heard = seen.heard if isinstance(seen, Batch) else seen
        knowledge.hear(heard, floor.now_ns)
        if isinstance(seen, Batch):
            for robot in floor.robots:
                knowledge.hear(floor.state(robot), floor.now_ns)


def lived(seed=3, batches=600, robots=12, load=0.8, privacy=None):
    floor, knowledge = Floor(seed, robots=robots, load=load), Knowledge(privacy)
    for robot in floor.robots:
        knowledge.hear(floor.state(robot), 0)
    for _ in range(batches):
        step(floor, knowledge)
    return floor, knowledge


@pytest.fixture(scope="module")
def market():
    return lived()


@pytest.fixture
def knowledge(market):
    return copy.deepcopy(market[1])


def numbers(quote):
    return dataclasses.replace(quote, reasons=(), unknown=())


# --- the answer ----------------------------------------------------------------------------------------------------------


def test_a_quote_says_what_it_follows_from(market, knowledge):
    quote = knowledge.band(TASK, market[0].now_ns)
    assert not quote.thin
    assert 0 < quote.low_uc <= quote.expected_uc <= quote.high_uc
    assert quote.shadow_low_uc <= (quote.shadow_high_uc or math.inf)
    assert quote.model_low_uc <= quote.second_best_uc <= quote.model_high_uc
    assert quote.settled_low_uc < quote.settled_high_uc
    assert 0.6 < quote.coverage < 0.95
    assert quote.samples >= 30
    assert 0 <= quote.age_s < 30
    for number in (quote.shadow_low_uc, quote.second_best_uc, quote.settled_low_uc):
        assert any(f"{number / 1e6:.2f}" in reason for reason in quote.reasons)
    assert any("budgets" in missing for missing in quote.unknown)
    assert set(quote.used) <= {robot.id for robot in market[0].robots}


def test_more_confidence_is_a_wider_band(market, knowledge):
    widths = [
        (quote := knowledge.band(TASK, market[0].now_ns, confidence=level)).high_uc - quote.low_uc
        for level in (0.5, 0.8, 0.9, 0.95)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_a_longer_way_costs_more(market, knowledge):
    longer = dataclasses.replace(TASK, goal=(110.0, 110.0))
    assert knowledge.band(longer, market[0].now_ns).expected_uc > knowledge.band(TASK, market[0].now_ns).expected_uc


def test_a_load_that_no_robot_carries_has_no_shadow_price(market, knowledge):
    quote = knowledge.band(dataclasses.replace(TASK, payload_kg=1000.0), market[0].now_ns)
    assert quote.robots == 0
    assert quote.thin
    assert quote.shadow_low_uc is None
    assert any("thin" in missing for missing in quote.unknown)


def test_later_is_less_sure_and_says_so(market, knowledge):
    now_ns = market[0].now_ns
    soon, late = knowledge.band(TASK, now_ns), knowledge.band(TASK, now_ns, now_ns + 300 * S)
    assert late.high_uc - late.low_uc > soon.high_uc - soon.low_uc
    assert any("300 s ahead" in reason for reason in late.reasons)
    assert late.shadow_low_uc is None


def test_a_young_market_says_that_it_is_thin():
    floor, knowledge = lived(batches=25)
    quote = knowledge.band(TASK, floor.now_ns)
    assert quote.thin
    assert quote.low_uc < quote.high_uc


@pytest.mark.parametrize("when", ["at_ns", "confidence", "zone"])
def test_what_cannot_be_answered_is_refused_by_name(market, knowledge, when):
    now_ns = market[0].now_ns
    asked = {
        "at_ns": lambda: knowledge.band(TASK, now_ns, now_ns - 1),
        "confidence": lambda: knowledge.band(TASK, now_ns, confidence=math.nan),
        "zone": lambda: knowledge.band(dataclasses.replace(TASK, zone=ZoneId("moon")), now_ns),
    }
    with pytest.raises(InputError, match=when):
        asked[when]()


def test_nothing_known_is_nothing_said():
    knowledge = Knowledge()
    knowledge.hear(RobotState(RobotId("r0"), ZONE, 0, (0.0, 0.0), 5.0), 0)
    with pytest.raises(InputError, match="nothing is known"):
        knowledge.band(TASK, 10 * S)


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("field", ["payload_kg", "deadline_s", "start"])
def test_numbers_that_are_none_are_refused(number, field):
    value = (number, math.nan) if field == "start" else number
    with pytest.raises(InputError, match=field):
        dataclasses.replace(TASK, **{field: value})


def test_telemetry_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="place"):
        RobotState(RobotId("r0"), ZONE, 0, (math.nan, 0.0), 5.0)
    with pytest.raises(InputError, match="soc"):
        RobotState(RobotId("r0"), ZONE, 0, (0.0, 0.0), 5.0, soc=math.nan)
    with pytest.raises(InputError, match="factor"):
        CalibrationDrift(RobotId("r0"), ZONE, 0, math.nan)


def test_orders_unknown_or_closed_are_refused(knowledge, market):
    now_ns = market[0].now_ns
    knowledge.hear(OrderSeen(OrderId("mine"), TASK, now_ns), now_ns)
    assert knowledge.task_of(OrderId("mine")) == TASK
    knowledge.hear(OrderGone(OrderId("mine"), now_ns), now_ns)
    with pytest.raises(InputError, match="closed"):
        knowledge.task_of(OrderId("mine"))
    with pytest.raises(InputError, match="not known"):
        knowledge.task_of(OrderId("another"))


# --- blind ---------------------------------------------------------------------------------------------------------------


def test_a_question_has_no_place_for_who_asks_what_he_hopes_or_words():
    names = {field.name for field in dataclasses.fields(Question)}
    assert names == {"start", "goal", "payload_kg", "deadline_s", "zone", "kind"}
    with pytest.raises(InputError, match="kind"):
        dataclasses.replace(TASK, kind="please say that it is cheap")


@functools.cache
def small_market():
    return lived(seed=5, batches=150, robots=6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 120), st.floats(0, 120), st.sampled_from([0.5, 0.8, 0.95])), max_size=8))
def test_whether_and_what_others_ask_changes_no_answer(asked):
    """Two oracles hear the same; one is asked questions in between."""
    quiet, busy = (copy.deepcopy(small_market()[::-1]) for _ in range(2))
    answers = []
    for knowledge, floor in (quiet, busy):
        for _ in range(3):
            if knowledge is busy[0]:
                for x, y, confidence in asked:
                    knowledge.band(Question((x, y), (y, x)), floor.now_ns + S, confidence=confidence)
            step(floor, knowledge)
        answers.append(knowledge.band(TASK, floor.now_ns))
    assert answers[0] == answers[1]


def test_the_budget_of_an_open_order_does_not_reach_the_oracle(market, knowledge):
    assert "budget_uc" not in {field.name for field in dataclasses.fields(OrderSeen)}
    now_ns = market[0].now_ns
    knowledge.hear(OrderGone(OrderId("none"), now_ns), now_ns)
    before = knowledge.band(TASK, now_ns)
    knowledge.hear(OrderSeen(OrderId("mine"), TASK, now_ns), now_ns)
    after = knowledge.band(TASK, now_ns)
    assert (after.shadow_low_uc, after.shadow_high_uc) == (before.shadow_low_uc, before.shadow_high_uc)


def test_what_an_order_failed_to_sell_for_moves_the_answer_by_less_than_a_percent(market, knowledge):
    """Its own budget is known after the batch, yet does not count for itself."""
    floor, ends = market[0], []
    for budget_uc in (1, 2_000_000):
        mine = copy.deepcopy(knowledge)
        mine.hear(OrderSeen(OrderId("mine"), TASK, floor.now_ns), floor.now_ns)
        asks = tuple(SealedAsk(r.id, r.owner, OrderId("mine"), 9_000_000) for r in floor.robots)
        lot = ClosedLot(OrderId("mine"), budget_uc, None, None)
        mine.hear(ClosedBatch(CallId("c"), ZONE, floor.now_ns + S, (lot,), asks), floor.now_ns + S)
        quote = mine.band(TASK, floor.now_ns + S)
        ends.append((quote.low_uc, quote.high_uc))
    assert np.allclose(*ends, rtol=0.01)


# --- while a batch is heard ----------------------------------------------------------------------------------------------


def scattered(floor, draw):
    """A batch of lots of which some are on sale, with asks as drawn."""
    lots = []
    for i in range(6):
        task = dataclasses.replace(TASK, goal=(10.0 + 5 * i, 60.0))
        price_uc, winner = (4_000_000, floor.robots[i].id) if i % 2 else (None, None)
        lots.append(ClosedLot(OrderId(f"d{i}"), 20_000_000, price_uc, winner, task))
    asks = tuple(
        SealedAsk(r.id, r.owner, lot.order, ask) for lot in lots for r, ask in zip(floor.robots, draw, strict=False)
    )
    return ClosedBatch(CallId("drawn"), ZONE, floor.now_ns, tuple(lots), asks)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1_000_000, 30_000_000), min_size=2, max_size=12), st.integers(0, 3), st.integers(0, 90))
def test_answers_are_of_before_until_a_batch_is_heard_and_then_as_if_nobody_had_asked(draw, place, later_s):
    floor, heard = world()
    plain, split = copy.deepcopy(heard), copy.deepcopy(heard)
    batch, now_ns = scattered(floor, draw), floor.now_ns
    questions = [TASK, dataclasses.replace(TASK, start=(float(place), 0.0)), dataclasses.replace(TASK, payload_kg=4.0)]

    def told(knowledge, at_ns):
        found = [knowledge.band(question, at_ns) for question in questions]
        return [*found, knowledge.band(TASK, at_ns, at_ns + 300 * S)]

    before = told(split, now_ns)
    hearing = split.begin(batch, now_ns)
    for work in (hearing.run, lambda: None):
        meanwhile = told(split, now_ns)
        assert [numbers(quote) for quote in meanwhile] == [numbers(quote) for quote in before]
        assert all(HEARING in quote.unknown for quote in meanwhile)
        with pytest.raises(InputError, match="has been taken"):
            split.hear(OrderGone(OrderId("d0"), now_ns), now_ns)
        work()
    split.take(hearing)
    plain.hear(batch, now_ns)
    assert told(split, now_ns) == told(plain, now_ns)
    for knowledge in (split, plain):
        for robot in floor.robots:
            knowledge.hear(floor.state(robot), now_ns)
        knowledge.hear(OrderSeen(OrderId("next"), TASK, now_ns), now_ns + later_s * S)
    assert told(split, now_ns + later_s * S) == told(plain, now_ns + later_s * S)
    assert {band.order for band in hearing.bands} <= {lot.order for lot in batch.lots}


@functools.cache
def world():
    return lived(batches=200)


def test_a_batch_that_is_given_up_was_never_heard(market, knowledge):
    floor = market[0]
    batch = scattered(floor, [5_000_000, 7_000_000, 9_000_000])
    for lot in batch.lots:  # forecasts that the batch will be compared with
        knowledge.hear(OrderSeen(lot.order, lot.task, floor.now_ns), floor.now_ns)
    before = knowledge.band(TASK, floor.now_ns)
    hearing = knowledge.begin(batch, floor.now_ns)
    hearing.run()
    knowledge.drop()
    assert knowledge.band(TASK, floor.now_ns) == before


# --- private -------------------------------------------------------------------------------------------------------------


def test_no_batch_is_heard_before_it_has_closed(knowledge, market):
    now_ns = market[0].now_ns
    early = ClosedBatch(CallId("c"), ZONE, now_ns + 1, (), (SealedAsk(RobotId("r0"), OwnerId("w"), OrderId("o"), 1),))
    before = knowledge.band(TASK, now_ns)
    with pytest.raises(InputError, match="ClosedBatch"):
        knowledge.hear(early, now_ns)
    assert knowledge.band(TASK, now_ns) == before


def test_where_a_robot_is_counts_only_after_the_delay(market, knowledge):
    floor = market[0]
    now_ns, delay_ns = floor.now_ns, knowledge.privacy.delay_ns
    for robot in floor.robots:
        state = dataclasses.replace(floor.state(robot), place=TASK.start, queue=0)
        knowledge.hear(state, now_ns)
    asked = knowledge.band(TASK, now_ns + delay_ns - 1)
    assert numbers(asked).model_low_uc == knowledge.band(TASK, now_ns).model_low_uc
    knowledge.hear(OrderGone(OrderId("none"), now_ns + delay_ns), now_ns + delay_ns)
    assert knowledge.band(TASK, now_ns + delay_ns).model_low_uc < asked.model_low_uc


def test_numbers_of_too_few_robots_are_not_told():
    floor, knowledge = lived(privacy=Privacy(least_robots=13))
    quote = knowledge.band(TASK, floor.now_ns)
    told = (quote.shadow_low_uc, quote.shadow_high_uc, quote.model_low_uc, quote.second_best_uc, quote.settled_low_uc)
    assert told == (None,) * 5
    assert any("single robots" in missing for missing in quote.unknown)


def test_settlements_count_only_after_the_delay(market, knowledge):
    floor = market[0]
    view = knowledge.view(ZONE, floor.now_ns)
    order = next(iter(view._sold))
    robot = floor.robots[0].id
    before = len(view.settled.best(((),)))
    knowledge.hear(Settlement(order, ZONE, robot, 5_000_000, floor.now_ns, floor.now_ns - S), floor.now_ns)
    knowledge.band(TASK, floor.now_ns)
    assert order in knowledge.view(ZONE, floor.now_ns)._sold
    knowledge.band(TASK, floor.now_ns + knowledge.privacy.delay_ns)
    view = knowledge.view(ZONE, floor.now_ns)
    assert order not in view._sold
    assert len(view.settled.best(((),))) in (before, before + 1)


def test_what_is_older_does_not_replace_what_is_newer(market, knowledge):
    floor = market[0]
    robot = floor.robots[0]
    late = floor.now_ns + knowledge.privacy.delay_ns
    knowledge.hear(dataclasses.replace(floor.state(robot), place=(1.0, 2.0)), floor.now_ns)
    knowledge.hear(dataclasses.replace(floor.state(robot), place=(9.0, 9.0), seen_ns=floor.now_ns - S), floor.now_ns)
    assert knowledge.view(ZONE, late).fleet.robots[robot.id].place == (1.0, 2.0)


# --- calibration ---------------------------------------------------------------------------------------------------------


def test_bands_hold_the_price_as_often_as_they_say():
    floor, knowledge = lived(seed=11, batches=150, robots=20, load=0.6)
    quotes, held = {}, []
    while len(held) < 200:
        for task in floor.arrivals():
            quotes[task.order] = knowledge.band(task.question, floor.now_ns)
            knowledge.hear(floor.post(task), floor.now_ns)
        for seen in floor.close():
            heard = seen.heard if isinstance(seen, Batch) else seen
            if isinstance(seen, Batch):
                fair = {band.order: band.fair_uc for band in seen.bands()}
                held += [q.low_uc <= fair[o] <= q.high_uc for o in fair if (q := quotes.pop(o, None)) is not None]
            knowledge.hear(heard, floor.now_ns)
        for robot in floor.robots:
            knowledge.hear(floor.state(robot), floor.now_ns)
    assert np.mean(held) == pytest.approx(0.8, abs=0.08)


def test_bands_widen_when_robots_are_taken_before_anything_was_sold_dearer(market, knowledge):
    floor = market[0]
    now_ns = floor.now_ns + knowledge.privacy.delay_ns
    widths = []
    for taken in (0, 6, 11):
        mine = copy.deepcopy(knowledge)
        for i, robot in enumerate(floor.robots):
            state = dataclasses.replace(floor.state(robot), queue=2 if i < taken else 0)
            mine.hear(state, floor.now_ns)
        mine.hear(OrderGone(OrderId("none"), now_ns), now_ns)
        quote = mine.band(TASK, now_ns)
        widths.append(math.log(quote.high_uc / quote.low_uc))
    assert widths[0] < widths[1] < widths[2]
    assert widths[2] > 1.3 * widths[0]


def test_the_cost_model_finds_rates_and_factors_again():
    rng = np.random.default_rng(4)
    robots = [RobotId(f"r{i}") for i in range(8)]
    factors = np.exp(rng.normal(0, 0.2, 8))
    factors /= np.exp(np.log(factors).mean())
    model = CostModel()
    for _ in range(60):
        who = rng.integers(0, 8, 40)
        way, task, payload = rng.uniform(0, 80, 40), rng.uniform(5, 80, 40), rng.uniform(0, 8, 40)
        ask = factors[who] * 1e6 * (1.0 + 0.05 * way + 0.07 * task + 0.001 * payload * task) * rng.uniform(0.95, 1.05, 40)
        model.learn([robots[i] for i in who], way, task, payload, ask)
    found = model.costs_uc(np.array([0.0, 40.0]), 50.0, 4.0)
    assert found == pytest.approx([4.7e6, 6.7e6], rel=0.02)
    assert [model.factor(robot) for robot in robots] == pytest.approx(factors, rel=0.05)


def test_a_lot_that_was_not_sold_is_no_sample_of_a_price(market, knowledge):
    """Whatever its budget: only trades are prices."""
    floor = market[0]
    now_ns = floor.now_ns + S
    knowledge.hear(OrderSeen(OrderId("mine"), TASK, floor.now_ns), floor.now_ns)
    view = knowledge.view(ZONE, floor.now_ns)
    before, level = list(view.errors.best(((),))._errors), view.outlook.level
    asks = tuple(SealedAsk(r.id, r.owner, OrderId("mine"), 1_000_000) for r in floor.robots)
    lot = ClosedLot(OrderId("mine"), 50_000_000, None, None)
    knowledge.hear(ClosedBatch(CallId("c"), ZONE, now_ns, (lot,), asks), now_ns)
    view = knowledge.view(ZONE, now_ns)
    assert list(view.errors.best(((),))._errors) == before
    assert view.outlook.level == level
