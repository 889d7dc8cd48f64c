"""What an oracle daemon hears and says, without a wire: observations, answers that fit, evidence, blindness."""

import asyncio
import contextlib
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_market.adapters.fleet_files import shipped_types
from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.daemons.oracle_ears import MAX_ANSWER_BYTES, Ears, answer_of, question_of
from fleet_market.daemons.oracle_proof import Proofs
from fleet_market.ids import CallId, ContractId, RobotId, ZoneId
from fleet_market.oracle import Knowledge, congestion
from fleet_market.oracle.residuals import EnergyWatch
from fleet_market.oracle.terms import (
    CalibrationDrift,
    ClosedBatch,
    FairQuote,
    OrderGone,
    OrderSeen,
    Resource,
    ResourceLoad,
    RobotState,
    Settlement,
)
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_INBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    AskRecord,
    Cleared,
    FairAnswer,
    FairQuestion,
    Fix,
    LeafOpening,
    LotRecord,
    OrderEvent,
    OrderState,
    OrderView,
    Place,
    RecordLeg,
    RobotView,
    StatusReply,
    StatusRequest,
    TelemetryRecord,
    WirePose,
)
from fleet_market.protocol.messages.telemetry import MAX_RECORD_LEGS
from fleet_market.protocol.telemetry import GENESIS, record_hash
from fleet_market.testing.simulation import virtual_time

ZONE, CREDIT, S = ZoneId("main"), 10**6, 10**9
QUOTE = FairQuote(
    low_uc=3 * CREDIT, high_uc=5 * CREDIT, confidence=0.8, expected_uc=4 * CREDIT, shadow_low_uc=1, shadow_high_uc=None,
    second_best_uc=2, model_low_uc=None, model_high_uc=None, settled_low_uc=None, settled_high_uc=None, samples=40,
    age_s=2.0, coverage=0.8, thin=False, reasons=(), unknown=(), used={RobotId("r1"): 3, RobotId("r2"): 5},
)  # fmt: skip
ASKED = FairQuestion(
    quote="q-1", pickup=(1.0, 2.0), dropoff=(3.0, 4.0), payload_kg=5.0, deadline_ns=100 * S, at_ns=40 * S, later=False,
    confidence=0.8, preview=False, answer_by_ns=50 * S,
)  # fmt: skip


def view(state, **more):
    times = {"release_ns": 10 * S, "deadline_ns": 70 * S}
    return OrderView(
        order="o1", customer="ann", state=state, pickup=Place(x=1.0, y=2.0, name="ignore all orders"),
        dropoff=Place(x=3.0, y=4.0), payload_kg=5.0, max_price_uc=9 * CREDIT, **times, **more,
    )  # fmt: skip


def test_an_order_is_heard_once_without_budget_buyer_or_words_and_its_end_once():
    ears = Ears(ZONE)
    (seen,) = ears.order(view(OrderState.OPEN), 11 * S)
    assert isinstance(seen, OrderSeen)
    assert (seen.task.start, seen.task.goal, seen.task.payload_kg, seen.task.deadline_s) == ((1, 2), (3, 4), 5.0, 60.0)
    assert not any(word in repr(seen) for word in ("ann", "9000000", "ignore"))
    assert ears.order(view(OrderState.AWARDED), 12 * S) == []
    paid = {"robot": "r1", "price_uc": 4 * CREDIT, "awarded_ns": 12 * S, "settled_ns": 50 * S, "measured_energy_j": 7.0}
    (end,) = ears.order(view(OrderState.SETTLED, **paid), 51 * S)
    assert end == Settlement("o1", ZONE, "r1", 4 * CREDIT, 50 * S, 12 * S, 7.0)
    assert ears.order(view(OrderState.SETTLED, **paid), 52 * S) == []


def test_an_order_that_expires_is_gone():
    ears = Ears(ZONE)
    ears.order(view(OrderState.OPEN), 11 * S)
    assert ears.order(view(OrderState.EXPIRED), 99 * S) == [OrderGone("o1", 99 * S)]


def test_an_order_that_goes_back_on_sale_is_heard_again():
    ears = Ears(ZONE)
    (first,) = ears.order(view(OrderState.OPEN), 11 * S)
    for state in (OrderState.OPEN, OrderState.AWARDED, OrderState.EXECUTING):
        assert ears.order(view(state), 12 * S) == []
    (again,) = ears.order(view(OrderState.OPEN), 20 * S)
    assert (again.order, again.task.start, again.seen_ns) == (first.order, first.task.start, 20 * S)


def test_each_round_of_a_batch_is_a_market_of_its_own():
    asks = (
        AskRecord(robot="r1", owner="acme", ask_uc=3, outcome="won"),
        AskRecord(robot="r2", owner="bolt", outcome="far"),
    )
    lots = [
        LotRecord(
            call="c",
            round=number,
            order=f"o{number}",
            closed_ns=5,
            budget_uc=9,
            winner="r1",
            price_uc=4,
            asks=asks,
            summary="",
        )
        for number in (2, 1)
    ]
    first, second = Ears(ZONE).batch(CallId("c"), lots)
    assert isinstance(first, ClosedBatch)
    assert [(b.round, b.lots[0].order, len(b.asks)) for b in (first, second)] == [(1, "o1", 1), (2, "o2", 1)]


def test_a_robot_is_where_its_schedule_leaves_it_and_one_that_is_gone_is_nowhere():
    pose, end = WirePose(x=1.0, y=1.0), WirePose(x=9.0, y=1.0)
    robot = RobotView(
        robot="r1",
        owner="acme",
        robot_type="carrier",
        online=True,
        pose=pose,
        ends_at=end,
        max_payload_kg=9.0,
        contracts=("o1",),
    )
    assert Ears(ZONE).robot(robot, 7) == [RobotState("r1", ZONE, 7, (9.0, 1.0), 9.0, 1, None)]
    assert Ears(ZONE).robot(robot.model_copy(update={"online": False}), 7) == []


def look(*doing, more=False, first=0):
    robots = [
        RobotView(robot=f"r{i}", owner="acme", robot_type="carrier", online=what != "gone", doing=what)
        for i, what in enumerate(doing, first)
    ]
    return StatusReply(now_ns=7, robots=tuple(robots), more=more)


def load(busy, waiting):
    return [ResourceLoad("chargers", Resource.CHARGER, ZONE, 7, busy, waiting)]


def test_chargers_are_as_busy_as_robots_charge_over_all_pages_of_a_look():
    ears = Ears(ZONE, chargers=4)
    assert ears.chargers(look("charging", "idle", more=True), 7) == []
    assert ears.chargers(look("charging", "to_pickup", "gone", first=2), 7) == load(0.5, 0)
    assert ears.chargers(look("charging", "idle", "waiting"), 7) == load(0.25, 0)
    assert ears.chargers(look(*["charging"] * 6), 7) == load(1.0, 2)


def test_a_look_whose_end_was_lost_does_not_count_in_the_next_one():
    ears = Ears(ZONE, chargers=2)
    ears.chargers(look("charging", "charging", more=True), 7)
    assert ears.chargers(look("idle", "idle", "charging"), 7) == load(0.5, 0)


def test_of_too_few_robots_or_an_unknown_number_of_chargers_no_load_is_told():
    assert Ears(ZONE, chargers=2).chargers(look("charging", "charging", "gone"), 7) == []
    assert Ears(ZONE).chargers(look("charging", "charging", "charging"), 7) == []


async def test_congestion_tells_the_load_of_chargers_that_the_market_has_shown():
    knowledge, wire = Knowledge(), Wire()
    oracle = Oracle(OracleConfig("127.0.0.1", 1, chargers=2), knowledge)
    serving = asyncio.create_task(oracle.serve(wire))
    wire.bring(topics.view("main", "order"), OrderEvent(view=view(OrderState.OPEN)), 7)
    wire.bring(topics.to_customer("oracle", "status"), look("charging", "idle", "waiting"), 7)
    async with asyncio.timeout(60):
        await wire.taken()
        await oracle._heard.join()
    found = congestion(knowledge, ZONE, 7, 7)
    assert (found.busy, found.waiting) == ({Resource.CHARGER: 0.5}, {Resource.CHARGER: 0})
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def test_the_question_is_the_task_and_nothing_else():
    asked = question_of(ASKED, ZONE)
    assert (asked.start, asked.goal, asked.payload_kg, asked.deadline_s) == ((1, 2), (3, 4), 5.0, 60.0)


def test_a_preview_is_coarse_and_tells_no_reasons():
    answer = answer_of(ASKED.model_copy(update={"preview": True}), replace(QUOTE, reasons=("much",)))
    assert (answer.band.low_uc, answer.band.high_uc) == (2**21, 2**23)
    assert (answer.band.reasons, answer.band.expected_uc, answer.used) == ((), None, ())


@given(
    st.lists(st.text(max_size=400), max_size=30),
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_-]{0,63}", fullmatch=True).map(RobotId), st.integers(0, 10**9), max_size=200
    ),
)
def test_an_answer_always_fits_and_the_robots_with_most_records_stay_in_it(words, used):
    answer = answer_of(ASKED, replace(QUOTE, reasons=tuple(words), unknown=tuple(words), used=used), ("a" * 64, 5, 1.0))
    assert len(answer.model_dump_json()) <= MAX_ANSWER_BYTES
    sent = Envelope(id="m" * 20, ts=2**62, src="o" * 64, body=answer)
    assert len(encode(sent)) <= MAX_INBOUND_BYTES
    if answer.used and len(answer.used) < sum(n > 0 for n in used.values()):
        assert min(n for _, n in answer.used) >= max(min(n, 10**6) for r, n in used.items() if r not in dict(answer.used))


class Told:
    def begin(self, observation, now_ns):
        pass

    def band(self, question, now_ns, at_ns=None, confidence=0.8):
        return QUOTE


class Slow:
    """A batch that is heard until it is told to end."""

    bands = ()

    def __init__(self):
        self.begun, self.may_end = threading.Event(), threading.Event()

    def run(self):
        self.begun.set()
        assert self.may_end.wait(60)


class Wire:
    """A connection in memory."""

    def __init__(self):
        self.arriving, self.said = asyncio.Queue(), asyncio.Queue()

    def bring(self, topic, body, ts):
        message = Envelope(id="m" * 20, ts=ts, src="market", body=body)
        self.arriving.put_nowait(Delivery(topic, encode(message), lambda: None))

    async def deliveries(self):
        while True:
            yield await self.arriving.get()
            self.arriving.task_done()

    async def taken(self):
        await self.arriving.join()

    async def publish(self, topic, payload, *, qos=1, retain=False):
        await self.said.put(decode(payload).body)


class Learning(Told):
    """Hears batches slowly, and keeps what it was told."""

    def __init__(self, slow):
        self.slow, self.told, self.learned = slow, [], asyncio.Event()

    def begin(self, observation, now_ns):
        self.told.append((type(observation), now_ns))
        if isinstance(observation, OrderSeen):
            self.learned.set()
        return self.slow if isinstance(observation, ClosedBatch) else None

    def take(self, hearing):
        self.told.append(hearing)

    def drop(self):
        self.told.append(None)


async def test_questions_are_answered_while_a_batch_is_heard_and_what_comes_meanwhile_waits():
    slow, wire = Slow(), Wire()
    seer = Learning(slow)
    lot = LotRecord(call="c", order="o", closed_ns=5, budget_uc=9, winner=None, price_uc=None, asks=(), summary="")
    page = Cleared(call="c", page=0, pages=1, opened_ns=0, closed_ns=5, welfare_uc=0, seed="s", lots=(lot,))
    serving = asyncio.create_task(Oracle(OracleConfig("127.0.0.1", 1), seer).serve(wire))
    async with asyncio.timeout(60):
        wire.bring(topics.view("main", "cleared"), page, 5)
        wire.bring(topics.view("main", "order"), OrderEvent(view=view(OrderState.OPEN)), 6)
        await asyncio.to_thread(slow.begun.wait)
        wire.bring(topics.to_customer("oracle", "question"), ASKED, 7)
        while not isinstance(answer := await wire.said.get(), FairAnswer):
            pass
        assert answer.band.low_uc == QUOTE.low_uc
        assert seer.told == [(ClosedBatch, 5)]
        slow.may_end.set()
        await seer.learned.wait()
    assert seer.told == [(ClosedBatch, 5), slow, (OrderSeen, 6)]
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize(("speed", "looks"), [(0, 12), (1, 12), (3, 30), (100, 60)])
def test_robots_are_looked_at_by_market_time_which_a_simulation_may_hurry(speed, looks):
    async def minute(_):
        wire = Wire()
        serving = asyncio.create_task(Oracle(OracleConfig("127.0.0.1", 1), Told()).serve(wire))
        for second in range(60):
            if speed:
                wire.bring(topics.view("main", "order"), OrderEvent(view=view(OrderState.OPEN)), second * speed * S)
            await asyncio.sleep(1.0)
        assert not serving.done()
        return [wire.said.get_nowait() for _ in range(wire.said.qsize())]

    said = virtual_time.run(minute)
    assert sum(isinstance(body, StatusRequest) for body in said) == pytest.approx(looks, abs=1)


def record(seq, previous, energy_j=100.0, robot="r1"):
    return TelemetryRecord(
        robot=robot, chain=1, seq=seq, previous=previous, contract=ContractId(f"c{seq}"), dwell_s=0.0, executed_s=20.0,
        legs=(RecordLeg(length_m=10.0, turn_rad=0.0, halts=1.0, payload_kg=0.0, surface="floor"),), energy_j=energy_j,
        fixes=(Fix(x=0.0, y=0.0, at_ns=100 * seq * S), Fix(x=10.0, y=0.0, at_ns=(100 * seq + 20) * S)),
    )  # fmt: skip


def test_a_quote_carries_the_root_of_what_was_heard_and_pays_no_robot_whose_records_contradict_themselves():
    proofs = Proofs(shipped_types())
    oracle = Oracle(OracleConfig("127.0.0.1", 1), Told(), proofs)
    oracle._now_ns = 1000 * S
    assert oracle.answer(ASKED).band.root is None
    assert dict(oracle.answer(ASKED).used) == {"r1": 3, "r2": 5}
    proofs.know(RobotId("r1"), "carrier")
    first = record(5, GENESIS)
    oracle._keep(first, "mkt/1/from/r1/main/telemetry")
    band = oracle.answer(ASKED).band
    assert (band.root, band.evidence_records, band.evidence_age_s) == (proofs.log.root().hash, 1, 480.0)
    fast = record(6, record_hash(first))
    fast = fast.model_copy(update={"fixes": (fast.fixes[0], fast.fixes[1].model_copy(update={"x": 900.0}))})
    oracle._keep(fast, "mkt/1/from/r1/main/telemetry")
    assert proofs.suspects == {"r1"}
    assert dict(oracle.answer(ASKED).used) == {"r2": 5}


def test_what_it_knows_is_told_how_a_robots_energy_has_drifted_once_records_suffice():
    oracle = Oracle(OracleConfig("127.0.0.1", 1), Told())
    oracle._now_ns = 1000 * S
    oracle._proofs.know(RobotId("r1"), "carrier")
    made, drifts, previous = [], [], GENESIS
    for seq, energy_j in enumerate((400.0, 400.0, 400.0, 40.0), 5):
        made.append(record(seq, previous, energy_j))
        previous = record_hash(made[-1])
        drifts += oracle._keep(made[-1], "mkt/1/from/r1/main/telemetry")
    assert [(type(d), d.robot, d.zone, d.seen_ns) for d in drifts] == [(CalibrationDrift, "r1", "main", 1000 * S)] * 2
    assert drifts[0].factor > drifts[1].factor > 0
    typical = EnergyWatch(shipped_types())
    findings = [typical.hear(one, "carrier") for one in made]
    assert [d.factor for d in drifts] == [1 + finding.excess for finding in findings[2:]]


def test_the_longest_opening_fits_into_what_an_oracle_may_send():
    digits = 12345.123456789012
    made = TelemetryRecord(
        robot="r" * 64, chain=10**9, seq=10**9, previous="a" * 64, contract=ContractId("c" * 20), dwell_s=digits,
        executed_s=digits, energy_j=digits, key="did:key:z6Mk" + "a" * 44, signature="A" * 86,
        legs=(RecordLeg(length_m=123.456, turn_rad=12.345, halts=1.0, payload_kg=12.34, surface="concrete"),)
        * MAX_RECORD_LEGS,
        fixes=(Fix(x=123.456, y=123.456, at_ns=2**62, soc=0.12345, energy_out_j=123456.789),) * 5,
    )  # fmt: skip
    opening = LeafOpening(quote="q" * 22, index=10**6, size=10**6, record=made, proof="A" * (20 * 43))
    assert len(encode(Envelope(id="m" * 20, ts=2**62, src="oracle", body=opening))) <= MAX_INBOUND_BYTES


def test_a_price_that_no_message_can_carry_is_not_told_and_does_no_harm():
    told = Told()
    told.band = lambda *_: replace(QUOTE, high_uc=10**15)
    assert Oracle(OracleConfig("127.0.0.1", 1), told).answer(ASKED).band is None


def test_a_record_on_anothers_topic_is_passed_over():
    oracle = Oracle(OracleConfig("127.0.0.1", 1), Told())
    oracle._now_ns = 1000 * S
    oracle._keep(record(0, GENESIS), "mkt/1/from/r2/main/telemetry")
    assert oracle.answer(ASKED).band.root is None
