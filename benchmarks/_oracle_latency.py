"""How long who asks an oracle waits, at fleet scale: the quote alone, and the daemon while it hears batches."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import numpy as np

from benchmarks._oracle_floor import BATCH_S, ZONE, FloatArray
from benchmarks.report import Row
from fleet_market.auction import LotOffer, SealedAsk
from fleet_market.daemons.oracle import Oracle, OracleConfig
from fleet_market.ids import CallId, CustomerId, Identifier, MessageId, OrderId, OwnerId, QuoteId, RobotId
from fleet_market.market.records import in_pages
from fleet_market.oracle import Knowledge, Privacy, Question, fair_bands
from fleet_market.oracle.terms import ClosedBatch, ClosedLot, OrderSeen, RobotState
from fleet_market.ports import Delivery
from fleet_market.protocol import topics
from fleet_market.protocol.envelope import MAX_OUTBOUND_BYTES, Envelope, decode, encode
from fleet_market.protocol.messages import (
    AnyBody,
    AskRecord,
    Band,
    Cleared,
    FairAnswer,
    FairQuestion,
    LotRecord,
    OrderEvent,
    OrderState,
    OrderView,
    Place,
    RobotView,
    StatusReply,
    StatusRequest,
    WirePose,
)
from fleet_market.units import ns

ROBOTS, SOLD, BATCHES = 1000, 200, 3
LIFE_S = 900.0
GOAL_MS = 200.0
PAGE_ROBOTS = 200
HEARD = 10
"""Batches that the daemon hears meanwhile, one in `BATCH_S`, the market's default."""
ASKED_PER_S = 25.0
"""Questions of all buyers, at random times [assumption: a quarter of the orders of such a fleet]."""
LATE_S = 30.0


def latency_rows(count: int, lots: int) -> list[Row]:
    """Return what a quote takes between batches, and what it takes at any time of a daemon that hears them."""
    rng = np.random.default_rng(0)
    knowledge = Knowledge(Privacy(delay_ns=0))
    places = rng.uniform(0, 500.0, (ROBOTS, 2))
    for i in range(ROBOTS):
        knowledge.hear(RobotState(RobotId(f"r{i}"), ZONE, 0, tuple(places[i].tolist()), 20.0), 0)
    known = {OrderId(f"k{j}"): _somewhere(rng) for j in range(50)}
    for order, task in known.items():
        knowledge.hear(OrderSeen(order, task, 0), 0)
    knowledge.hear(_big_batch(0, 0, known, places), 0)  # costs are known from here on
    tasks = {OrderId(f"o{j}"): _somewhere(rng) for j in range(lots)}
    for order, task in tasks.items():
        knowledge.hear(OrderSeen(order, task, 0), 0)
    return [_quotes(knowledge, tasks, places, count, rng), _daemon(knowledge, tasks, places, rng)]


def _quotes(
    knowledge: Knowledge, tasks: dict[OrderId, Question], places: FloatArray, count: int, rng: np.random.Generator
) -> Row:
    quotes, thin, load = [], 0, 0.0
    for call in range(1, BATCHES + 1):
        now_ns = call * ns(BATCH_S)
        batch = _big_batch(call, now_ns, tasks, places, sells=SOLD)
        knowledge.hear(batch, now_ns)
        for _ in range(count // BATCHES):
            task = _somewhere(rng)
            quotes.append(_seconds(lambda t=task, n=now_ns: knowledge.band(t, n)))  # type: ignore[misc]
            quote = knowledge.band(task, now_ns)
            thin, load = thin + quote.thin, quote.load or 0.0
        _replace_sold(knowledge, batch, tasks, rng)
    cpu, wall = (1000 * np.array(column) for column in zip(*quotes, strict=True))
    note = (
        f"CPU p99 {np.quantile(cpu, 0.99):.1f} ms, median wall {np.median(wall):.1f} ms, {len(wall)} quotes, "
        f"{thin} of them thin, {load:.1f} lots per robot"
    )
    what = f"quote at {ROBOTS} robots and {len(tasks)} lots, p99"
    return Row(what, float(np.quantile(wall, 0.99)), "ms", GOAL_MS, note=note)


class _Wire:
    """The market's side of a daemon, without a broker: what is said comes at once, and answers are timed."""

    def __init__(self) -> None:
        self.places: list[RobotView] = []
        self.waits_s: list[float] = []
        self.banded_s: dict[CallId, float] = {}
        """When the last band of each batch was published."""
        self.answered = asyncio.Event()
        """Whether no question waits."""
        self.now_ns = 0
        self._asked_s: dict[str, float] = {}
        self._arriving: asyncio.Queue[Delivery] = asyncio.Queue()

    def say(self, topic: str, body: AnyBody) -> None:
        """Let a message arrive."""
        if isinstance(body, FairQuestion):
            self._asked_s[body.quote] = time.perf_counter()
            self.answered.clear()
        self.bring(topic, _message(body, self.now_ns))

    def bring(self, topic: str, payload: bytes) -> None:
        """Let what was written before arrive."""
        self._arriving.put_nowait(Delivery(topic, payload, lambda: None))

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Take what the daemon says."""
        del topic, qos, retain
        match decode(payload, limit=MAX_OUTBOUND_BYTES).body:
            case FairAnswer() as answer:
                self.waits_s.append(time.perf_counter() - self._asked_s.pop(answer.quote))
                if not self._asked_s:
                    self.answered.set()
            case StatusRequest() as asked:
                later = [view for view in self.places if asked.after_id is None or view.robot > asked.after_id]
                page = StatusReply(now_ns=self.now_ns, robots=tuple(later[:PAGE_ROBOTS]), more=len(later) > PAGE_ROBOTS)
                self.say(topics.to_customer("oracle", "status"), page)
            case Band() as band:
                self.banded_s[band.call] = time.perf_counter()
            case _:
                pass
        await asyncio.sleep(0)

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield what arrives."""
        while True:
            yield await self._arriving.get()

    def waiting(self) -> int:
        """Return how much waits."""
        return self._arriving.qsize()


def _message(body: AnyBody, now_ns: int) -> bytes:
    return encode(Envelope(id=MessageId("m" * 20), ts=now_ns, src=Identifier("market"), body=body))


def _daemon(knowledge: Knowledge, tasks: dict[OrderId, Question], places: FloatArray, rng: np.random.Generator) -> Row:
    """Run the daemon's own inputs, learning and answers in real time, with a batch in every period."""
    wire = _Wire()
    wire.now_ns = (BATCHES + 1) * ns(BATCH_S)
    batches = []
    for call in range(HEARD):
        closed_ns = wire.now_ns + call * ns(BATCH_S)
        batch = _big_batch(100 + call, closed_ns, tasks, places, sells=SOLD)
        new = {OrderId(f"{lot.order}n"): _somewhere(rng) for lot in batch.lots if lot.winner is not None}
        for lot in batch.lots:
            if lot.winner is not None:
                del tasks[lot.order]
        tasks.update(new)
        said = [(topics.view(ZONE, "cleared"), _message(page, closed_ns)) for page in _pages(batch)]
        for order, task in new.items():
            event = OrderEvent(view=_order(order, task, closed_ns))
            said.append((topics.view(ZONE, "order"), _message(event, closed_ns)))
        batches.append((closed_ns, batch.call, said))
    wire.places = [
        RobotView(
            robot=RobotId(f"r{i}"),
            owner=OwnerId(f"w{i}"),
            robot_type="carrier",
            online=True,
            pose=WirePose(x=x, y=y),
            max_payload_kg=20.0,
        )
        for i, (x, y) in sorted(enumerate(places.tolist()), key=lambda one: f"r{one[0]}")
    ]
    hears_s = asyncio.run(_talk(wire, Oracle(OracleConfig("localhost", 1), knowledge), batches, rng))
    waits_ms = 1000 * np.array(wire.waits_s)
    note = (
        f"wall, {len(waits_ms)} questions at random times, {HEARD} batches, one in {BATCH_S:.0f} s; "
        f"median {np.median(waits_ms):.1f} ms, longest {waits_ms.max():.0f} ms; bands of {len(hears_s)} published by then, "
        f"{np.mean(hears_s):.1f} s after the batch"
    )
    return Row(
        "the same at any time of a daemon that hears batches, p99",
        float(np.quantile(waits_ms, 0.99)),
        "ms",
        GOAL_MS,
        note=note,
    )


async def _talk(
    wire: _Wire, oracle: Oracle, batches: list[tuple[int, CallId, list[tuple[str, bytes]]]], rng: np.random.Generator
) -> list[float]:
    """Return after how long the bands of each batch were published, of those that were heard in time."""
    serving = asyncio.create_task(oracle.serve(wire))
    asking = asyncio.create_task(_ask(wire, rng))
    said_s = {}
    for closed_ns, call, said in batches:
        wire.now_ns, said_s[call] = closed_ns, time.perf_counter()
        for topic, payload in said:
            wire.bring(topic, payload)
        await asyncio.sleep(BATCH_S)
    asking.cancel()
    async with asyncio.timeout(LATE_S):
        await wire.answered.wait()
    for task in (asking, serving):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return [banded_s - said_s[call] for call, banded_s in wire.banded_s.items()]


async def _ask(wire: _Wire, rng: np.random.Generator) -> None:
    number = 0
    while True:
        await asyncio.sleep(rng.exponential(1 / ASKED_PER_S))
        number += 1
        task = _somewhere(rng)
        asked = FairQuestion(
            quote=QuoteId(f"q-{number}"),
            pickup=task.start,
            dropoff=task.goal,
            payload_kg=task.payload_kg,
            deadline_ns=wire.now_ns + ns(LIFE_S),
            at_ns=wire.now_ns,
            later=False,
            confidence=0.8,
            preview=False,
            answer_by_ns=wire.now_ns + ns(LIFE_S),
        )
        wire.say(topics.to_customer("oracle", "question"), asked)


def _pages(batch: ClosedBatch) -> list[Cleared]:
    asks: dict[OrderId, list[AskRecord]] = {lot.order: [] for lot in batch.lots}
    for ask in batch.asks:
        asks[ask.order].append(AskRecord(robot=ask.robot, owner=ask.owner, ask_uc=ask.ask_uc, outcome="far"))
    records = [
        LotRecord(
            call=batch.call,
            order=lot.order,
            closed_ns=batch.closed_ns,
            budget_uc=lot.budget_uc,
            winner=lot.winner,
            price_uc=lot.price_uc,
            asks=tuple(asks[lot.order]),
            summary="",
        )
        for lot in batch.lots
    ]
    pages = in_pages(records)
    at_ns = batch.closed_ns
    return [
        Cleared(
            call=batch.call,
            page=number,
            pages=len(pages),
            welfare_uc=0,
            seed="s",
            lots=page,
            opened_ns=at_ns,
            closed_ns=at_ns,
        )
        for number, page in enumerate(pages)
    ]


def _order(order: OrderId, task: Question, now_ns: int) -> OrderView:
    return OrderView(
        order=order,
        customer=CustomerId("ann"),
        state=OrderState.OPEN,
        pickup=Place(x=task.start[0], y=task.start[1]),
        dropoff=Place(x=task.goal[0], y=task.goal[1]),
        payload_kg=task.payload_kg,
        max_price_uc=10**7,
        release_ns=now_ns,
        deadline_ns=now_ns + ns(LIFE_S),
    )


def _somewhere(rng: np.random.Generator) -> Question:
    ends = rng.uniform(0, 500.0, 4).tolist()
    return Question((ends[0], ends[1]), (ends[2], ends[3]), 2.0, LIFE_S)


def _replace_sold(
    knowledge: Knowledge, batch: ClosedBatch, tasks: dict[OrderId, Question], rng: np.random.Generator
) -> None:
    """Let the robots that won be free again where they went, and as many new orders come."""
    for lot in batch.lots:
        if lot.winner is not None:
            state = RobotState(lot.winner, ZONE, batch.closed_ns, tasks.pop(lot.order).goal, 20.0)
            knowledge.hear(state, batch.closed_ns)
            order = OrderId(f"{lot.order}n")
            tasks[order] = _somewhere(rng)
            knowledge.hear(OrderSeen(order, tasks[order], batch.closed_ns), batch.closed_ns)


def _big_batch(call: int, now_ns: int, tasks: dict[OrderId, Question], places: FloatArray, sells: int = 0) -> ClosedBatch:
    """Return a batch of which some lots are sold, of those that its optimum sells."""
    starts = np.array([t.start for t in tasks.values()])
    length_m = np.hypot(*(np.array([t.goal for t in tasks.values()]) - starts).T)
    orders, asks = list(tasks), []
    for i, place in enumerate(places):
        way_m = np.hypot(*(starts - place).T)
        asks += [
            SealedAsk(
                RobotId(f"r{i}"), OwnerId(f"w{i}"), orders[j], round(1e6 * (1 + 0.05 * way_m[j] + 0.07 * length_m[j]))
            )
            for j in np.argpartition(way_m, 20)[:20].tolist()
        ]
    offers = [LotOffer(o, round(1e6 * (5 + 0.1 * length_m[k]))) for k, o in enumerate(orders)]
    sold = {band.order: band.fair_uc for band in fair_bands(offers, asks)[:sells]} if sells else {}
    first = {ask.order: ask.robot for ask in reversed(asks)}
    lots = tuple(
        ClosedLot(o.order, o.budget_uc, sold.get(o.order), first[o.order] if o.order in sold else None) for o in offers
    )
    return ClosedBatch(CallId(f"c{call}"), ZONE, now_ns, lots, tuple(asks))


def _seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall time of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall
